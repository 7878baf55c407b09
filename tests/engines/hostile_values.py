"""Texts that engines' own casts read differently, and what each of them must mean on every engine.

None stands for "not a value of that type": the column is then null and named in `unreadable_columns`.
"""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from tests.dbt.test_masking import MASKS, PHONES, TAX_NUMBERS
from tests.dbt.user_events import COLUMNS, Event, row

DATES: dict[str, date | None] = {
    "1980-02-03": date(1980, 2, 3),
    "0001-01-01": date(1, 1, 1),
    "9999-12-31": date(9999, 12, 31),
    "2000-02-29": date(2000, 2, 29),
    "1900-02-29": None,
    "2026-13-01": None,
    "0000-01-01": None,
    "10000-01-01": None,
    "294276-12-31": None,
    "0044-03-15 BC": None,
    "-0044-03-15": None,
    "infinity": None,
    "-infinity": None,
    "today": None,
    "epoch": None,
    "2026-1-5": None,
    "20260105": None,
    "05/01/2026": None,
    "2026-01-05T00:00:00": None,
    "2026-01-05 00:00:00": None,
    " 2026-01-05": None,
    "2026-01-05\n": None,
    "2026\u201301\u201305": None,
    "\u0662\u0660\u0662\u0666-01-05": None,
    "": None,
}

DECIMALS: dict[str, Decimal | None] = {
    "1234.50": Decimal("1234.50"),
    "0": Decimal(0),
    "-0.01": Decimal("-0.01"),
    "007": Decimal(7),
    "1.005": Decimal("1.01"),
    "-1.005": Decimal("-1.01"),
    "9999999999999999.99": Decimal("9999999999999999.99"),
    "10000000000000000": None,
    "9999999999999999.999": None,
    "1" * 60: None,
    "NaN": None,
    "Infinity": None,
    "-Infinity": None,
    "1e3": None,
    "1_000": None,
    "1,000.00": None,
    "+5": None,
    ".5": None,
    "5.": None,
    " 7": None,
    "7 ": None,
    "7\n": None,
    "0x10": None,
    "R$ 10": None,
    "\u0667": None,
    "--1": None,
    "": None,
}

TIMESTAMPS: dict[str, datetime | None] = {
    "2026-01-01 10:00:00.5+00": datetime(2026, 1, 1, 10, 0, 0, 500_000),
    "2026-01-01T10:00:00.123456Z": datetime(2026, 1, 1, 10, 0, 0, 123_456),
    "2026-01-01 10:00:00.1234569+00": datetime(2026, 1, 1, 10, 0, 0, 123_456),
    "2026-01-01 10:00:00.999999999": datetime(2026, 1, 1, 10, 0, 0, 999_999),
    "2026-01-01 10:00": datetime(2026, 1, 1, 10),
    "2026-01-01 10:00+05:30": datetime(2026, 1, 1, 4, 30),
    "2026-01-01 10:00:00-03": datetime(2026, 1, 1, 13),
    "2026-01-01 10:00:00+14": datetime(2025, 12, 31, 20),
    "2026-01-01 10:00:00-14:00": datetime(2026, 1, 2),
    "0001-01-01 00:00:00+00": datetime(1, 1, 1),
    "9999-12-31 23:59:59.999999+00": datetime(9999, 12, 31, 23, 59, 59, 999_999),
    "1900-01-01 00:00:00-03:06:28": None,
    "2026-01-01 10:00:00+00:00:30": None,
    "2026-01-01 10:00:00+14:30": None,
    "2026-01-01 10:00:00+15": None,
    "2026-01-01 10:00:00+0530": None,
    "2026-01-01 10:00:00 America/Sao_Paulo": None,
    "2026-01-01 10:00:00 UTC": None,
    "2026-01-01 10:00:00 PM": None,
    "2026-01-01 24:00:00": None,
    "2026-01-01 10:60:00": None,
    "2026-01-01 10:00:60": None,
    "2026-02-30 10:00:00": None,
    "2026-01-01": None,
    "10:00:00": None,
    "infinity": None,
    "-infinity": None,
    "now": None,
    "10000-01-01 00:00:00+00": None,
    "294276-12-31 23:59:59+00": None,
    "0044-03-15 12:00:00 BC": None,
    "0000-01-01 00:00:00": None,
    " 2026-01-01 10:00:00": None,
    "2026-01-01 10:00:00\n": None,
    "2026-01-01\u00a010:00:00": None,
    "": None,
}

# Of a text column: spaces at the end go, nothing else does.
TRIMMED: dict[str, str] = {
    "SP": "SP",
    "SP ": "SP",
    "SP   ": "SP",
    " SP": " SP",
    "SP\t": "SP\t",
    "SP\n": "SP\n",
    "SP\u00a0": "SP\u00a0",
    "SP\u2003 ": "SP\u2003",
    " ": "",
    "": "",
}

# Where a text, a number or a time is expected: none of these is one.
NESTED: list[Any] = [{}, {"a": 1}, [], ["a"], [[]], {"erased": True}]

CASTS: dict[str, tuple[str, dict[str, Any]]] = {
    "data_nascimento": ("birth_date", DATES),
    "renda_mensal": ("monthly_income", DECIMALS),
    "criado_em": ("created_at", TIMESTAMPS),
    "atualizado_em": ("updated_at", TIMESTAMPS),
}


# What masks and digests are given, by column: the golden vectors of tests/dbt/test_masking.py.
MASKED: dict[str, list[str]] = {
    "nome": list(MASKS["mask_initials('value')"]),
    "email": list(MASKS["mask_email('value')"]),
    "cpf": [*MASKS["mask_cpf('value')"], *(text for texts in TAX_NUMBERS.values() for text in texts)],
    "telefone": [*MASKS["mask_phone('value')"], *(text for texts in PHONES.values() for text in texts)],
    "cep": list(MASKS["mask_postal_code('value')"]),
}

# Without an operation or a key that can be read: set aside.
WITHOUT_A_KEY = [
    "{",
    "[1]",
    "{}",
    '{"id":null}',
    '{"id":"x"}',
    '{"id":"1.5"}',
    '{"id":{"a":1}}',
    '{"id":[7]}',
    '{"id":true}',
]


def events(first_id: int, first_lsn: int) -> list[Event]:
    """Change events: a row for each text above in its column, with ids from `first_id` on; rows whose long text is
    unreadable, then left out, or moved to another key; and events that are set aside."""
    cases = [(column, text) for column, (_, texts) in CASTS.items() for text in texts]
    cases += [(column, text) for column in ("uf", "status") for text in TRIMMED]
    cases += [(column, value) for column in ("observacoes", "nome", "renda_mensal") for value in NESTED]
    cases += [(column, text) for column, texts in MASKED.items() for text in texts]
    rows = [{column: text} for column, text in cases]
    rows += [
        {"renda_mensal": "NaN", "data_nascimento": "infinity", "observacoes": {}, "criado_em": "soon", "nome": "Ana"}
    ]
    found = [Event("c", first_lsn, n, after={"id": str(first_id + n)} | row) for n, row in enumerate(rows)]
    found += [Event("c", first_lsn + 1, n, after=text) for n, text in enumerate(WITHOUT_A_KEY)]

    old, new, moved = (str(first_id + len(rows) + n) for n in range(3))
    kept = {key: None for key in COLUMNS if key != "observacoes"}
    found += [
        Event("c", first_lsn + 2, 0, after=row(int(old), observacoes="readable")),
        Event("c", first_lsn + 2, 1, after=row(int(new), observacoes="readable")),
        Event("u", first_lsn + 3, 0, after=row(int(old), observacoes=["no text"])),
        Event("u", first_lsn + 3, 1, after=row(int(new), observacoes="newer", renda_mensal="NaN")),
        Event("u", first_lsn + 4, 0, {"id": old}, kept | {"id": moved, "renda_mensal": "Infinity"}),
        Event("u", first_lsn + 4, 1, {"id": "x"}, kept | {"id": new}),
        Event("u", first_lsn + 4, 2, {"email": "x"}, kept | {"id": new}),
        Event("u", first_lsn + 5, 0, after=kept | {"id": moved}),
        Event("u", first_lsn + 5, 1, after=kept | {"id": new}),
    ]
    return found
