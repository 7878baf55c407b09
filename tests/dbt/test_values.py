"""What a text of the source means: the same on every engine, of which this is DuckDB (tests/engines has the others)."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.dbt.lakes import Dbt
from tests.dbt.user_events import NOON, Event, land, row
from tests.engines.hostile_values import CASTS, NESTED, TRIMMED

BASE = "base_customer__user_changes"


def test_a_text_is_cast_by_its_form_and_not_by_what_the_engine_would_take(
    dbt: Dbt, lake: Path, query: Callable[..., list[tuple]]
) -> None:
    cases = [(column, text, value) for column, (_, texts) in CASTS.items() for text, value in texts.items()]
    land(lake, [Event("c", lsn, after=row(lsn, **{cases[lsn][0]: cases[lsn][1]})) for lsn in range(len(cases))], NOON)
    dbt("run", "--select", BASE)
    names = ", ".join(name for name, _ in CASTS.values())
    found = query(f"select rejection_reason, {names} from staging.{BASE} order by commit_lsn")
    reasons = {"data_nascimento": "a date", "renda_mensal": "a decimal(18, 2)"}
    for (column, text, value), (reason, *values) in zip(cases, found, strict=True):
        wanted = [value if each == column else None for each in CASTS]
        assert values == wanted, (column, text)
        assert reason == (f"{column}: not {reasons.get(column, 'a timestamp')}" if value is None else None), text


def test_spaces_at_the_end_of_a_state_or_status_are_no_part_of_it(
    dbt: Dbt, lake: Path, query: Callable[..., list[tuple]]
) -> None:
    texts = list(TRIMMED)
    land(lake, [Event("c", lsn, after=row(lsn, uf=text, status=text)) for lsn, text in enumerate(texts)], NOON)
    dbt("run", "--select", BASE)
    found = query(f"select state_code, status from staging.{BASE} order by commit_lsn")
    assert found == [(text, text) for text in TRIMMED.values()]


def test_an_object_or_array_where_a_text_is_expected_is_set_aside_and_text_that_looks_like_one_is_not(
    dbt: Dbt, lake: Path, query: Callable[..., list[tuple]]
) -> None:
    nested = [
        json.dumps(row(7) | {key: value}, indent=indent)
        for key in ("id", "observacoes")
        for value in NESTED
        for indent in (None, 1)
    ]
    nested += [document.replace(": ", ":") for document in nested]
    plain = [
        json.dumps(row(7, observacoes=text) | {"novo": {"a": [1]}}) for text in ("{}", "[1]", ': {"a": [', ":[", '":{"')
    ]
    events = [Event("c", lsn, after=document) for lsn, document in enumerate(nested + plain)]
    events += [Event("d", 900, before={"id": ["7"]}), Event("u", 901, before={"id": {"a": 7}}, after=row(7))]
    land(lake, events, NOON)
    dbt("run", "--select", BASE)
    reasons = [reason for (reason,) in query(f"select rejection_reason from staging.{BASE} order by commit_lsn")]
    refused = "an object or array where a text is expected"
    assert reasons == [refused] * len(nested) + [None] * len(plain) + [refused] * 2
