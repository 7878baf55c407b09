"""What a text of the source means: the same on every engine, of which this is DuckDB (tests/engines has the others)."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.dbt.lakes import Dbt
from tests.dbt.user_events import COLUMNS, NOON, Event, land, row
from tests.engines.hostile_values import CASTS, NESTED, TRIMMED

BASE = "base_customer__user_changes"


def test_a_text_is_cast_by_its_form_and_not_by_what_the_engine_would_take(
    dbt: Dbt, lake: Path, query: Callable[..., list[tuple]]
) -> None:
    cases = [(column, text, value) for column, (_, texts) in CASTS.items() for text, value in texts.items()]
    land(lake, [Event("c", lsn, after=row(lsn, **{cases[lsn][0]: cases[lsn][1]})) for lsn in range(len(cases))], NOON)
    dbt("run", "--select", BASE)
    names = ", ".join(name for name, _ in CASTS.values())
    found = query(f"select rejection_reason, unreadable_columns, {names} from staging.{BASE} order by commit_lsn")
    for (column, text, value), (reason, unreadable, *values) in zip(cases, found, strict=True):
        wanted = [value if each == column else None for each in CASTS]
        assert values == wanted, (column, text)
        assert unreadable == (f",{CASTS[column][0]}," if value is None else None), (column, text)
        assert reason is None


def test_spaces_at_the_end_of_a_state_or_status_are_no_part_of_it(
    dbt: Dbt, lake: Path, query: Callable[..., list[tuple]]
) -> None:
    texts = list(TRIMMED)
    land(lake, [Event("c", lsn, after=row(lsn, uf=text, status=text)) for lsn, text in enumerate(texts)], NOON)
    dbt("run", "--select", BASE)
    found = query(f"select state_code, status from staging.{BASE} order by commit_lsn")
    assert found == [(text, text) for text in TRIMMED.values()]


def test_an_object_or_array_is_no_value_and_text_that_looks_like_one_is(
    dbt: Dbt, lake: Path, query: Callable[..., list[tuple]]
) -> None:
    nested = [
        (json.dumps(row(7, cidade="Natal") | {key: value}, indent=indent).replace(*blanks), f",{name},")
        for key, name in COLUMNS.items()
        if key != "cidade"
        for value in NESTED
        for indent in (None, 1)
        for blanks in [(": ", ": "), (": ", ":")]
    ]
    plain = [
        (json.dumps(row(7, observacoes=text, cidade="Natal") | {"novo": {"a": [1]}}), None)
        for text in ("{}", "[1]", ': {"a": [', ":[", '":{"')
    ]
    both = [
        (
            json.dumps(row(7, cidade="Natal", uf=[], cep={}, renda_mensal="NaN")),
            ",postal_code,state_code,monthly_income,",
        )
    ]
    cases = nested + plain + both
    land(lake, [Event("c", lsn, after=document) for lsn, (document, _) in enumerate(cases)], NOON)
    dbt("run", "--select", BASE)
    columns = ", ".join(name for name in COLUMNS.values() if name not in ("notes", "city"))
    found = query(
        f"""
        select rejection_reason, unreadable_columns, city, coalesce({columns.replace(",", "::varchar,")}::varchar)
        from staging.{BASE} order by commit_lsn
        """
    )
    assert found == [(None, unreadable, "Natal", None) for _, unreadable in cases]
