"""Raw change events in, curated and refined rows out: one rule of the customer domain per test."""

import itertools
import json
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from loaders.users.gaps import Gap
from tests.dbt.lakes import Dbt
from tests.dbt.test_masking import python_hmac
from tests.dbt.user_events import NOON, Event, land, row

CUSTOMER = [f"path:models/{layer}/customer" for layer in ("staging", "curated", "refined")]
CHANGING = [f"{path},config.materialized:{kind}" for path in CUSTOMER for kind in ("incremental", "table")]
ANA = row(
    1,
    nome="Ana Souza",
    email=" Ana@Example.com",
    cpf="529.982.247-25",
    telefone="+55 (11) 98765-4321",
    data_nascimento="1980-02-03",
    cep="01310-100",
    cidade="São Paulo",
    uf="SP",
    renda_mensal="1234.50",
    status="ativo",
    observacoes='disse "até já" — 🙂\n',
    criado_em="2026-01-01 10:00:00.5+00",
    atualizado_em="2026-03-01 08:30:00.123456-03",
)
UNREADABLE_ANA = {"renda_mensal": "NaN", "data_nascimento": "infinity"}
CURATED_ANA = (
    1,
    "Ana Souza",
    " Ana@Example.com",
    "529.982.247-25",
    "+55 (11) 98765-4321",
    date(1980, 2, 3),
    "01310-100",
    "São Paulo",
    "SP",
    Decimal("1234.50"),
    "ativo",
    'disse "até já" — 🙂\n',
    datetime(2026, 1, 1, 10, 0, 0, 500_000),
    datetime(2026, 3, 1, 11, 30, 0, 123_456),
)
Query = Callable[..., list[tuple]]


@pytest.fixture
def land_and_run(dbt: Dbt, dbt_target: Path, lake: Path) -> Callable[..., None]:
    """`land_and_run(at, events, ...)` lands one batch at a time in UTC and runs the customer domain's models."""
    warehouse, empty = lake / "warehouse.duckdb", dbt_target / "empty.duckdb"
    if empty.exists():  # what a first run makes of an empty lake is the same for all tests
        shutil.copy(empty, warehouse)
    else:
        dbt("seed", "--select", "brazilian_states")
        dbt("run", "--select", *CUSTOMER)
        shutil.copy(warehouse, empty)

    def run(at: datetime, events: list[Event], *arguments: str) -> None:
        land(lake, events, at)
        dbt("run", "--select", *CHANGING, *arguments)

    return run


@pytest.fixture
def build(land_and_run: Callable[..., None]) -> Callable[..., None]:
    """`build(events, ...)` lands each argument as a batch, five minutes after the one before, and runs after it."""
    times = (NOON + number * timedelta(minutes=5) for number in itertools.count())

    def run(*batches: list[Event]) -> None:
        for batch in batches:
            land_and_run(next(times), batch)

    return run


def test_a_row_keeps_its_values_through_curated(build: Callable[..., None], query: Query) -> None:
    build([Event("c", 10, after=ANA), Event("c", 20, after=row(2))])
    users = query("from curated.users order by user_id")
    assert [user[:15] for user in users] == [(*CURATED_ANA, None), (2, *[None] * 14)]


def test_refined_shows_nobody(build: Callable[..., None], query: Query) -> None:
    build([Event("c", 10, after=ANA)])
    [found] = query("select * exclude (key_id, batch_id, load_date, row_version) from refined.dim_users")
    assert found == (
        python_hmac("1"),
        python_hmac("ana@example.com"),
        python_hmac("52998224725"),
        python_hmac("11987654321"),
        "A. S.",
        "a***@example.com",
        "***.982.247-**",
        "***21",
        "013**-***",
        1980,
        "45-54",
        "SP",
        "0-1999",
        "ativo",
        date(2026, 1, 1),
        None,
        False,
        None,
    )


# Each spelling of a reason is a case of its own.
EVENTS_WITHOUT_A_KEY = {
    "malformed JSON": Event("c", 20, after='{"id": "7"'),
    "malformed JSON ": Event("c", 20, after="[1, 2]"),
    " malformed JSON": Event("u", 20, before="{", after=row(7)),
    "malformed JSON  ": Event("u", 20, before={"id": "7"}, after="{"),
    "unknown op": Event("m", 20, after=row(7)),
    "no after": Event("u", 20, before={"id": "7"}),
    "no before": Event("d", 20, after=row(7)),
    "no id": Event("c", 20, after={"nome": "N"}),
    "no id ": Event("u", 20, before={"email": "n@example.com"}, after=row(7)),
    "id: not an integer": Event("c", 20, after=row(7) | {"id": "1.5"}),
    "id: not an integer ": Event("d", 20, before={"id": "x"}),
    " id: not an integer": Event("u", 20, before={"id": "9223372036854775808"}, after=row(7)),
    "id: not an integer  ": Event("d", 20, before={"id": ["7"]}),
    "  id: not an integer": Event("u", 20, before={"id": {"a": 7}}, after=row(7)),
    "id: not an integer   ": Event("c", 20, after=row(7) | {"id": {}}),
}


def test_only_events_whose_operation_or_key_cannot_be_read_are_set_aside(
    build: Callable[..., None], query: Query
) -> None:
    bad = [
        Event(event.op, 20 + number, 0, event.before, event.after)
        for number, event in enumerate(EVENTS_WITHOUT_A_KEY.values())
    ]
    build([Event("c", 10, after=ANA), *bad, Event("c", 90, after=row(2))])
    assert query("select user_id from curated.users order by 1") == [(1,), (2,)]
    assert query("select commit_lsn, reason from staging.stg_customer__rejected_user_changes order by 1") == [
        (20 + number, reason.strip()) for number, reason in enumerate(EVENTS_WITHOUT_A_KEY)
    ]


def test_a_value_that_cannot_be_read_costs_that_value_and_neither_the_text_nor_the_key_beside_it(
    build: Callable[..., None], query: Query
) -> None:
    """Change-data faults B1 and B2: an update that also changed a long text, and one that also moved the key."""

    def without_notes(user_id: int, **values: str) -> dict:
        return {key: value for key, value in row(user_id, **values).items() if key != "observacoes"}

    build(
        [Event("c", 10, user_id, after=row(user_id, observacoes="old", renda_mensal="1")) for user_id in (1, 2, 3, 4)],
        [
            Event("u", 20, 1, after=row(1, observacoes="new", renda_mensal="NaN")),
            Event("u", 20, 2, {"id": "2"}, without_notes(202, renda_mensal="NaN", data_nascimento="0044-03-15 BC")),
            Event("u", 20, 3, after=row(3, observacoes=["no", "text"], renda_mensal="2")),
            Event("u", 20, 4, after=row(4, observacoes={}, criado_em="294276-12-31 00:00:00+00")),
        ],
    )
    users = (
        "select user_id, notes, monthly_income, unreadable_columns from curated.users where not is_deleted order by 1"
    )
    assert query("select unreadable_columns from refined.dim_users where masked_name is null order by 1") == [
        (",birth_date,monthly_income,",),
        (",monthly_income,",),
        (",notes,",),
        (",notes,created_at,",),
        (None,),
    ]
    assert query(users) == [
        (1, "new", None, ",monthly_income,"),
        (3, None, 2, ",notes,"),
        (4, None, None, ",notes,created_at,"),
        (202, "old", None, ",birth_date,monthly_income,"),
    ]
    # The next updates leave the long text out: what was readable goes on, and no older text comes back.
    build(
        [
            Event("u", 30, 1, after=without_notes(1, renda_mensal="10")),
            Event("u", 30, 2, after=without_notes(202, renda_mensal="11")),
            Event("u", 30, 3, after=without_notes(3, renda_mensal="12")),
            Event("u", 30, 4, {"id": "4"}, without_notes(404, renda_mensal="13")),
        ]
    )
    assert query(users) == [
        (1, "new", 10, None),
        (3, None, 12, ",notes,"),
        (202, "old", 11, None),
        (404, None, 13, ",notes,"),
    ]
    versions = "select notes, monthly_income, unreadable_columns from curated.user_versions where user_id in (4, 404)"
    assert query(f"{versions} order by commit_lsn, user_id") == [
        ("old", 1, None),
        (None, None, ",notes,created_at,"),
        (None, None, None),  # the key moved away
        (None, 13, ",notes,"),
    ]
    # A late event that gives the text takes its place, also for what follows it.
    build(
        [Event("u", 25, 3, after=row(3, observacoes="late", renda_mensal="Infinity"))],
        [Event("u", 40, 4, after=row(404, observacoes=None)), Event("d", 40, 2, {"id": "202"})],
    )
    assert query(users) == [(1, "new", 10, None), (3, "late", 12, None), (404, None, None, None)]
    assert query("select count(*) from staging.stg_customer__rejected_user_changes") == [(0,)]


def test_gaps_rejected_events_unreadable_values_and_drift_are_warned_of_without_values(
    dbt: Dbt, lake: Path, query: Query
) -> None:
    gap = Gap("the slot is gone", "2026-03-01T11:59:00.5+00:00", 1, 5, None)
    source = (b'{"xid":null,"lsn":9' + gap.source_fields() + b"}").decode()
    land(lake, [Event("t", 9, epoch=2, source=source)], NOON - timedelta(hours=1))
    gained = ANA | {"apelido": "Aninha"}
    del gained["cep"]
    bad = [
        Event("c", 11, after="{", epoch=2),
        *(Event("c", 12, n, after=gained | {"id": str(n), **UNREADABLE_ANA}, epoch=2) for n in (2, 3)),
    ]
    land(lake, [*bad, Event("c", 13, after=gained, epoch=2)], NOON)
    dbt("run", "--select", *CUSTOMER, "--exclude", "path:models/refined")
    results = dbt(
        "test",
        "--select",
        "gaps_in_user_changes",
        "rejected_user_changes",
        "unreadable_user_columns",
        "drifted_user_columns",
    ).results
    assert {result.node.name: (str(result.status), result.failures) for result in results} == {
        "gaps_in_user_changes": ("warn", 1),
        "rejected_user_changes": ("warn", 1),
        "unreadable_user_columns": ("warn", 4),
        "drifted_user_columns": ("warn", 2),
    }
    columns = "epoch, former_epoch, reason, from_lsn, from_time, to_lsn, noticed_at"
    assert query(f"select {columns} from staging.stg_customer__gaps") == [
        (2, 1, "the slot is gone", 5, None, 10, datetime(2026, 3, 1, 11, 59, 0, 500_000))
    ]


def test_the_last_change_wins_and_a_deleted_user_leaves_nothing(build: Callable[..., None], query: Query) -> None:
    build(
        [Event("c", 10, after=ANA), Event("u", 10, 1, after=ANA | {"cidade": "Olinda"}), Event("c", 11, after=row(2))],
        [Event("d", 20, before={"id": "1"}), Event("u", 21, after=row(2, cidade="Recife"))],
    )
    assert query("select user_id, city, is_deleted, deleted_at, commit_lsn from curated.users order by 1") == [
        (1, None, True, Event("d", 20).committed_at.replace(tzinfo=None), 20),
        (2, "Recife", False, None, 21),
    ]
    [tombstone] = query("select * from curated.users where user_id = 1")
    assert tombstone[1:15] == (None,) * 14
    versions = "select city, valid_to is null, is_current from curated.user_versions where user_id = 1"
    assert query(f"{versions} order by commit_lsn, change_seq") == [
        ("São Paulo", False, False),
        ("Olinda", False, False),
        (None, True, False),
    ]


def test_a_truncate_ends_everybody_before_it(build: Callable[..., None], query: Query) -> None:
    build(
        [Event("c", 10, after=row(1)), Event("c", 11, after=row(2))],
        [Event("t", 20), Event("c", 21, after=row(2)), Event("c", 22, after=row(3))],
        [Event("u", 12, after=row(1, cidade="late"))],
    )
    gone_at = Event("t", 20).committed_at.replace(tzinfo=None)
    assert query("select user_id, is_deleted, deleted_at, city from curated.users order by 1") == [
        (1, True, gone_at, None),
        (2, False, None, None),
        (3, False, None, None),
    ]
    assert query("select user_id, commit_lsn, valid_to, is_current from curated.user_versions order by 1, 2") == [
        (1, 10, Event("u", 12).committed_at.replace(tzinfo=None), False),
        (1, 12, gone_at, False),
        (2, 11, gone_at, False),
        (2, 21, None, True),
        (3, 22, None, True),
    ]
    assert query("select count(*) from refined.dim_users where is_deleted") == [(1,)]


def test_a_new_snapshot_ends_who_vanished_though_its_lsns_are_lower(build: Callable[..., None], query: Query) -> None:
    build(
        [Event("c", 1_000, after=row(1)), Event("c", 1_001, after=row(2))],
        [Event("t", 5, epoch=2), Event("r", 5, 1, after=row(2, cidade="Natal"), epoch=2)],
        [Event("u", 6, after=row(2, cidade="Belém"), epoch=2)],
    )
    assert query("select user_id, city, is_deleted from curated.users order by 1") == [
        (1, None, True),
        (2, "Belém", False),
    ]


def test_a_changed_key_is_a_delete_and_goes_on_under_the_new_key(build: Callable[..., None], query: Query) -> None:
    build([Event("c", 10, after=ANA)], [Event("u", 20, 0, {"id": "1"}, ANA | {"id": "7"})])
    assert query("select user_id, full_name, is_deleted from curated.users order by 1") == [
        (1, None, True),
        (7, "Ana Souza", False),
    ]
    assert query("select user_id, op, previous_user_id from curated.user_changes where commit_lsn = 20 order by 1") == [
        (1, "d", None),
        (7, "u", 1),
    ]


def test_a_value_left_out_is_carried_forward_also_under_a_new_key(build: Callable[..., None], query: Query) -> None:
    def without_notes(user_id: int, **values: str) -> dict:
        return {key: value for key, value in row(user_id, **values).items() if key != "observacoes"}

    build(
        [Event("c", 10, after=row(1, observacoes="long"))],
        [Event("u", 20, after=without_notes(1, cidade="Natal"))],
        [Event("u", 30, after=without_notes(1, cidade="Olinda")), Event("u", 31, 0, {"id": "1"}, without_notes(2))],
        [Event("u", 40, 0, {"id": "2"}, without_notes(3)), Event("u", 41, after=without_notes(3, cidade="Belém"))],
        [Event("u", 50, after=row(3))],
    )
    versions = "select commit_lsn, notes from curated.user_versions where op <> 'd' order by 1"
    assert query(versions) == [*[(lsn, "long") for lsn in (10, 20, 30, 31, 40, 41)], (50, None)]
    assert query("select unchanged_columns, count(*) from curated.user_changes group by 1 order by 1 nulls first") == [
        (None, 4),
        (",notes,", 5),
    ]


def test_a_value_is_carried_along_a_chain_of_key_changes_of_any_length(
    build: Callable[..., None], query: Query
) -> None:
    """One statement can follow a bounded number of moves on some engines (Athena: ten steps of a recursion)."""

    def moves(numbers: range) -> list[Event]:
        rows = {number: {key: text for key, text in row(number).items() if key != "observacoes"} for number in numbers}
        return [Event("u", 10 * number, 0, {"id": str(number - 1)}, after) for number, after in rows.items()]

    build([Event("c", 1, after=row(1, observacoes="long"))], moves(range(2, 4)), moves(range(4, 71)))
    assert query("select user_id, notes from curated.users where not is_deleted") == [(70, "long")]
    assert query("select distinct notes from curated.user_versions where op <> 'd'") == [("long",)]
    firsts = "select count(*), min(first_user_id), max(first_user_id) from curated.incomplete_moves"
    assert query(firsts) == [(69, 1, 1)]


def test_a_late_event_takes_its_place_in_the_order(build: Callable[..., None], query: Query) -> None:
    kept = {key: value for key, value in row(1, cidade="Natal").items() if key != "observacoes"}
    build(
        [Event("c", 10, after=row(1, observacoes="first"))],
        [Event("u", 30, after=kept)],
        [Event("u", 20, after=row(1, cidade="Olinda", observacoes="second"))],
    )
    assert query("select commit_lsn, city, notes from curated.user_versions order by 1") == [
        (10, None, "first"),
        (20, "Olinda", "second"),
        (30, "Natal", "second"),
    ]
    assert query("select commit_lsn, city, notes from curated.users") == [(30, "Natal", "second")]


def test_what_landed_twice_counts_once(build: Callable[..., None], lake: Path, query: Query) -> None:
    first, second = [Event("c", 10, after=ANA)], [Event("u", 20, after=ANA), Event("d", 30, before={"id": "1"})]
    build(first, second)
    tables = ("curated.user_changes", "curated.users", "refined.dim_users", "refined.fct_user_changes")
    before = [query(f"from {table} order by all") for table in tables]
    build(second, first + second)
    assert [query(f"from {table} order by all") for table in tables] == before


def test_a_clock_that_runs_backwards_loses_nothing(land_and_run: Callable[..., None], query: Query) -> None:
    for lsn, hours in [(10, 0), (20, -13), (5, -14), (30, 1)]:
        land_and_run(NOON + timedelta(hours=hours), [Event("c", lsn, after=row(lsn))])
    assert query("select user_id from curated.users order by 1") == [(5,), (10,), (20,), (30,)]
    assert query("select sum(changes) from refined.fct_user_changes") == [(4,)]
    assert query("select count(*) from refined.dim_users") == [(4,)]


def test_a_batch_that_landed_in_the_future_hides_none_after_it(land_and_run: Callable[..., None], query: Query) -> None:
    now = datetime.now(UTC)
    land_and_run(now + timedelta(days=400), [Event("c", 10, after=row(10))])
    land_and_run(now, [Event("c", 20, after=row(20))])
    assert query("select user_id from curated.users order by 1") == [(10,), (20,)]


def test_files_that_landed_days_late_come_in_on_demand(land_and_run: Callable[..., None], query: Query) -> None:
    land_and_run(NOON, [Event("c", 10, after=row(10))])
    land_and_run(NOON - timedelta(days=9), [Event("c", 20, after=row(20))])
    assert query("select user_id from curated.users") == [(10,)]
    land_and_run(NOON, [Event("c", 10, after=row(10))], "--vars", json.dumps({"reload_from": "2026-01-01"}))
    assert query("select user_id from curated.users order by 1") == [(10,), (20,)]
    assert query("select count(*) from refined.dim_users") == [(2,)]


def test_changes_are_counted_in_whole_windows(build: Callable[..., None], query: Query) -> None:
    def seconds(lsn: int) -> datetime:
        return Event("c", lsn).committed_at.replace(tzinfo=None)

    build(
        [Event("c", 10, after=row(1, uf="SP")), Event("c", 11, after=row(2, uf="SP")), Event("c", 12, after=row(3))],
        [
            Event("c", 13, after=row(4, uf="SP")),
            Event("d", 14, before={"id": "1"}),
            Event("c", 18, after=row(5, uf="SP")),
        ],
    )
    assert (seconds(14), seconds(18)) == (datetime(2026, 3, 1, 12, 3, 58), datetime(2026, 3, 1, 12, 5, 6))
    assert query("select * exclude (batch_id, load_date) from refined.fct_user_changes order by all") == [
        (datetime(2026, 3, 1, 12, 0), "c", "SP", 3),
        (datetime(2026, 3, 1, 12, 0), "c", "unknown", 1),
        (datetime(2026, 3, 1, 12, 0), "d", "unknown", 1),
        (datetime(2026, 3, 1, 12, 5), "c", "SP", 1),
    ]


def test_states_are_counted_and_an_average_needs_ten(build: Callable[..., None], query: Query) -> None:
    people = [row(number, uf="SP", status="ativo", renda_mensal=str(number)) for number in range(1, 11)]
    people += [
        row(11, uf="SP "),
        *[row(number, uf="PE", status="inativo", renda_mensal="5000") for number in range(12, 18)],
    ]
    people += [row(18, uf="ZZ"), row(19, uf="AC"), *[row(number) for number in range(20, 25)]]
    build([Event("c", 10, number, after=person) for number, person in enumerate(people)])
    assert query("from refined.mart_users_by_state order by state_code") == [
        ("PE", "Pernambuco", "Nordeste", 6, 0, 6, 0, 0, None),
        ("SP", "São Paulo", "Sudeste", 11, None, 0, 0, 0, Decimal("5.50")),
        ("other", None, None, 7, 0, 0, 0, 0, None),
    ]


def test_an_empty_lake_builds_and_so_does_the_next_batch(dbt: Dbt, lake: Path, query: Query) -> None:
    build = ("build", "--select", *CUSTOMER, "brazilian_states", "--exclude-resource-type", "unit_test")
    dbt(*build)
    assert query("select count(*) from curated.users") == [(0,)]
    land(lake, [Event("t", 10), Event("c", 11, after=ANA), Event("d", 12, before={"id": "1"})], NOON)
    dbt(*build)
    assert query("select count(*) from curated.users") == [(1,)]
