"""The masking macros as dbt compiles them and DuckDB runs them: pseudonyms against Python's hmac, masks by example."""

import hmac
import unicodedata
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.dbt.lakes import MASKING_KEY, Dbt, write_masking_key

Evaluate = Callable[[Sequence[Any]], list[Any]]

# RFC 4231, section 4: the test cases whose data is text (3 and 4 are not; 5 is given as its first 128 bits).
RFC_4231 = [
    (b"\x0b" * 20, "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (b"Jefe", "what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    (b"\x0c" * 20, "Test With Truncation", "a3b6167473100ee06e0c796c2955552b"),
    (
        b"\xaa" * 131,
        "Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    (
        b"\xaa" * 131,
        "This is a test using a larger than block-size key and a larger than block-size data. "
        "The key needs to be hashed before being used by the HMAC algorithm.",
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    ),
]
OWN_VALUES = [
    "",
    "ana@example.com",
    "Ana@Example.com",
    " ana@example.com",
    "ana@example.com\n",
    "ana\t@example.com",
    unicodedata.normalize("NFC", "João Ângelo"),
    unicodedata.normalize("NFD", "João Ângelo"),
    "'; select 1 --",
    '"quoted" \\ back\\slash %_$1 {{ jinja }}',
    "👩🏽‍🚀 🇧🇷",
    "日本語",
    "\x7f\x01",
    "x" * 100_000,
]


def python_hmac(value: str | None, masking_key: bytes = MASKING_KEY) -> str | None:
    return None if value is None else hmac.digest(masking_key, value.encode(), "sha256").hex()


@pytest.fixture
def evaluate(dbt: Dbt, tmp_path: Path) -> Callable[..., Evaluate]:
    """`evaluate("pseudonym('value')")` compiles that call once and gives a function from values to its results."""

    def compile_call(call: str, type_: pa.DataType | None = None) -> Evaluate:
        inline = (
            f"select {{{{ {call} }}}} as result from read_parquet('values.parquet')"
            " cross join {{ source('vault', 'masking_key') }} as masking_key order by position"
        )
        sql = dbt("compile", "--inline", inline).results[0].node.compiled_code

        def run(values: Sequence[Any]) -> list[Any]:
            table = pa.table({"position": range(len(values)), "value": pa.array(values, type_ or pa.string())})
            pq.write_table(table, tmp_path / "values.parquet")
            with duckdb.connect() as connection:
                return [result for (result,) in connection.execute(sql).fetchall()]

        return run

    return compile_call


@pytest.mark.parametrize(("masking_key", "text", "digest"), RFC_4231)
def test_pseudonym_gives_rfc_4231_digests(
    evaluate: Callable[..., Evaluate], masking_key: bytes, text: str, digest: str
) -> None:
    write_masking_key(masking_key)
    [result] = evaluate("pseudonym('value')")([text])
    assert result.startswith(digest)
    assert result == python_hmac(text, masking_key)


def test_pseudonym_equals_pythons_hmac_byte_for_byte(evaluate: Callable[..., Evaluate]) -> None:
    results = evaluate("pseudonym('value')")([*OWN_VALUES, None])
    assert results == [python_hmac(value) for value in OWN_VALUES] + [None]
    # Composed and decomposed accents are different bytes and so different pseudonyms: nothing normalises them.
    assert len(set(results)) == len(results)


def test_pseudonym_equals_pythons_hmac_for_any_text(evaluate: Callable[..., Evaluate]) -> None:
    run = evaluate("pseudonym('value')")

    @settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.none() | st.text(), min_size=1))
    def check(values: list[str | None]) -> None:
        assert run(values) == [python_hmac(value) for value in values]

    check()


def test_an_email_has_one_pseudonym_however_it_is_written(evaluate: Callable[..., Evaluate]) -> None:
    run = evaluate("pseudonym(normalise_email('value'))")
    [expected] = {python_hmac("ana@example.com")}
    written = ["ana@example.com", " ANA@Example.COM ", "\tana@example.com\r\n", "\x0b\x0cAna@example.com"]
    assert run(written) == [expected] * len(written)
    assert run(["", " \t\n", None]) == [None] * 3


# Each row is one number in several spellings; no two rows are the same number.
TAX_NUMBERS = {
    "52998224725": [
        "529.982.247-25",
        "52998224725",
        " 529 982 247 25\n",
        "529.982.247\u201325",
        "\uff15\uff12998224725",
    ],
    "052998224725": ["052.998.224-725"],
    "12ABC34501DZ35": ["12.ABC.345/01DZ-35", "12abc34501dz35", "\u202a12ABC34501DZ35\u202c"],
    "12XYZ34501FG35": ["12XYZ34501FG35"],
    "A2Z456C8901234": ["A2Z456C8901234"],
    "24568901234": ["245.689.012-34"],
    "5299822472\u0665": ["529.982.247-2\u0665"],  # an Arabic digit is not left out
    "529982247\u00c95": ["529982247\u00c95"],
}
PHONES = {
    "11987654321": [
        "+55 11 98765-4321",
        "(11) 98765-4321",
        "0 11 98765-4321",
        "011987654321",
        "5511987654321",
        "+55 (0)11 98765.4321",
        "\u200e+55\u00a011\u00a098765\u20114321",
        "\uff0811\uff09 98765-4321",
    ],
    "1133334444": ["+55 11 3333-4444", "(11) 3333-4444", "01133334444"],
    "55987654321": ["(55) 98765-4321", "+55 55 98765-4321"],  # 55 is an area code too
    "+111987654321": ["+1 11 98765-4321"],
    "+5411987654321": ["+54 11 98765-4321"],
    "+442079460958": ["+44 20 7946 0958"],
    "08001234567": ["0800 123 4567"],
    "8001234567": ["800 123 4567"],
    "987654321": ["98765-4321"],
    "0987654321": ["098765-4321"],
    "11987654321RAMAL5": ["(11) 98765-4321 ramal 5"],
}


@pytest.mark.parametrize(("macro", "numbers"), [("normalise_tax_number", TAX_NUMBERS), ("normalise_phone", PHONES)])
def test_a_number_has_one_pseudonym_however_it_is_written_and_no_other_number_has_it(
    evaluate: Callable[..., Evaluate], macro: str, numbers: dict[str, list[str]]
) -> None:
    """Use faults F4 (letters are dropped, so two people share a pseudonym) and F5 (one phone, three pseudonyms)."""
    run = evaluate(f"pseudonym({macro}('value'))")
    written = [(text, number) for number, texts in numbers.items() for text in texts]
    assert run([text for text, _ in written]) == [python_hmac(number) for _, number in written]
    assert run(["", "none", " .-", None]) == [None] * 4


MASKS = {
    "mask_initials('value')": {
        "Maria da Silva": "M. S.",
        " ângela  souza\n": "Â. S.",
        "Zé": "Z.",
        "Al": "A.",
        "": "***",
        " \t": "***",
        "A": "***",
        "A B": "*** ***",
        "Ana B": "A. ***",
        "A Silva": "*** S.",
        "A  B  Silva": "*** S.",
        "M. S.": "*** ***",
        "李 明": "*** ***",
        "李明": "***",
        "A\u00a0B": "A.",
        "e\u0301": "***",
        "e\u0301 o\u0302": "*** ***",
        "\u0301ana": "***",
        "\u202eanA": "***",
        "A\u200d": "***",
        "Ana\nB C": "A. ***",
        "3 4": "*** ***",
        "🙂 🙃": "*** ***",
    },
    "mask_email('value')": {
        "maria.silva@example.com": "m***@example.com",
        " Maria@Example.com\n": "m***@example.com",
        "m@example.com": "***@example.com",
        "m.@example.com": "***@example.com",
        "ma@example.com": "m***@example.com",
        "á@example.com": "***",
        "e\u0301@example.com": "***@example.com",
        "\u202eana@example.com": "***@example.com",
        "%@example.com": "***",
        "李明@example.com": "***",
        "@example.com": "***",
        "maria@": "***",
        "maria": "***",
        "": "***",
        "a@b@example.com": "***",
        "maria@example.com call me": "***",
    },
    "mask_cpf('value')": {
        "529.982.247-25": "***.982.247-**",
        "52998224725": "***.982.247-**",
        "\uff15299822472\uff15": "***.982.247-**",
        "5299822472": "***",
        "529982247251": "***",
        "A2Z456C8901234": "***",
        "12ABC34501DZ35": "***",
        "52998224725a": "***",
        "5299822472\u0665": "***",
        "no CPF": "***",
        "": "***",
    },
    "mask_phone('value')": {
        "+55 (11) 98765-4321": "***21",
        "98765432": "***32",
        "11 98765-4321 ramal 5": "***",
        "4321": "***",
        "21": "***",
        "": "***",
    },
    "mask_postal_code('value')": {
        "01310-100": "013**-***",
        "01310100": "013**-***",
        "0131": "***",
        "013": "***",
        "01310-10A0": "***",
        "": "***",
    },
    "mask_url('value')": {
        "https://Example.com/wiki/Ana?id=1": "https://example.com/***",
        "http://example.com": "***",
        "https://ana.example.com/": "***",
        "https://ana.example.com//.": "***",
        "https://ana:secret@example.com/": "***",
        "ftp://example.com/ana": "***",
        "ana": "***",
        "": "***",
    },
}


@pytest.mark.parametrize("call", MASKS)
def test_readable_mask(evaluate: Callable[..., Evaluate], call: str) -> None:
    """Use fault F3 (refined shows a name of one-character words whole) and its kind."""
    examples = MASKS[call]
    assert evaluate(call)([*examples, None]) == [*examples.values(), None]


def test_birth_date_becomes_a_year_and_a_band(evaluate: Callable[..., Evaluate]) -> None:
    births = [date(2008, 3, 1), date(2008, 3, 2), date(1961, 3, 1), date(1961, 3, 2), date(2027, 1, 1), None]
    bands = evaluate("age_band('value', \"date '2026-03-01'\")", pa.date32())(births)
    assert bands == ["18-24", "0-17", "65+", "55-64", None, None]
    assert evaluate("birth_year('value')", pa.date32())(births) == [2008, 2008, 1961, 1961, 2027, None]


def test_a_band_ends_where_the_next_begins(evaluate: Callable[..., Evaluate]) -> None:
    ages = [0, 17, 18, 24, 25, 34, 35, 44, 45, 54, 55, 64, 65, 120]
    births = [date(2026 - age, 3, 1) for age in ages]
    bands = ["0-17", "18-24", "25-34", "35-44", "45-54", "55-64", "65+"]
    expected = [band for band in bands for _ in range(2)]
    assert evaluate("age_band('value', \"date '2026-03-01'\")", pa.date32())(births) == expected


def test_leap_day_birth_comes_of_age_on_the_first_of_march(evaluate: Callable[..., Evaluate]) -> None:
    births = [date(2004, 2, 29)]
    assert evaluate("age_band('value', \"date '2022-02-28'\")", pa.date32())(births) == ["0-17"]
    assert evaluate("age_band('value', \"date '2022-03-01'\")", pa.date32())(births) == ["18-24"]
