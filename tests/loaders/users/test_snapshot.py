"""The snapshot that begins an epoch, and what keeps it from losing rows."""

import logging
from collections.abc import Iterator

import psycopg
import pytest

from loaders.errors import OperatorError, TransientError
from loaders.users import server, slots, snapshot
from sandbox import customer_app, postgres
from tests.loaders.users.conftest import Landing, person, writing


@pytest.fixture
def standby(servers: postgres.Servers) -> Iterator[psycopg.Connection]:
    """The superuser on the standby; replay goes on when the test ends."""
    with psycopg.connect(servers.dsn(postgres.ADMIN, server="standby"), autocommit=True) as connection:
        yield connection
        connection.execute("SELECT pg_wal_replay_resume()")


def test_a_snapshot_is_a_truncate_and_then_every_row_before_any_change(landing: Landing) -> None:
    landing.write(person("Ana"), person("Bia"))
    landed = landing.land()
    position = landing.state["position"]
    assert landed.rows == 3
    assert [(e["op"], e["commit_lsn"], e["change_seq"]) for e in landing.events()] == [
        ("t", position - 1, 0), ("r", position - 1, 1), ("r", position - 1, 2),
    ]  # fmt: skip
    assert all(e["source"]["xid"] is None and e["before"] is None for e in landing.events())
    (path,) = landing.files()
    assert path.stem == f"1-{0:016X}-{position:016X}"
    assert landing.replayed() == landing.live()


def test_an_empty_table_is_a_snapshot_too(landing: Landing) -> None:
    landing.land()
    assert [event["op"] for event in landing.events()] == ["t"]


def test_snapshot_and_changes_join_without_gap_or_overlap_while_the_application_writes(landing: Landing) -> None:
    customer_app.seed_people(landing.customer.app_dsn, 2_000)
    with writing(landing):
        for _ in range(5):
            landing.land(resnapshot=bool(landing.files()))
        landing.land()
    landing.land()
    assert landing.replayed() == landing.live()  # which fails on a change that was applied to an unknown row


def test_a_lagging_replica_loses_nothing_and_the_slot_waits_for_it(
    landing: Landing, standby: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "REPLAY_SECONDS", 0.2)
    landing.write(person("Ana"))
    standby.execute("SELECT pg_wal_replay_pause()")
    landing.write(person("Bia"))
    with pytest.raises(TransientError, match=r"the replica lags: it has replayed up to .* must pass"):
        landing.land()
    assert landing.files() == []
    slots = "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = %s"
    first = landing.admin(slots, landing.state["slot"])
    landing.write(person("Caio"))
    with pytest.raises(TransientError, match="the replica lags"):
        landing.land()
    assert landing.admin(slots, landing.state["slot"]) == first  # a new slot would start later each time
    landing.use(alert_slot_lag_bytes=1)
    landing.write(person("Davi"))
    with pytest.raises(TransientError, match="the replica lags"):
        landing.land()
    assert landing.admin(slots, landing.state["slot"]) > first  # but none may keep WAL without a bound
    standby.execute("SELECT pg_wal_replay_resume()")
    monkeypatch.undo()
    landing.land()
    landing.land()
    assert {row["nome"] for row in landing.replayed().values()} == {"Ana", "Bia", "Caio", "Davi"}
    assert {event["epoch"] for event in landing.events()} == {1}


def test_without_a_replica_the_primary_is_read_with_a_warning(
    landing: Landing, caplog: pytest.LogCaptureFixture
) -> None:
    customer_app.seed_people(landing.customer.app_dsn, 500)
    landing.use(customer_snapshot_dsn=landing.customer.dsn)
    with caplog.at_level(logging.WARNING), writing(landing):
        landing.land()
    assert "read on the primary" in caplog.text
    landing.land()
    assert landing.replayed() == landing.live()


def test_the_standby_alone_serves_slot_snapshot_and_changes(landing: Landing, servers: postgres.Servers) -> None:
    landing.use(customer_dsn=landing.customer.snapshot_dsn)
    landing.write(person("Ana"))
    postgres.wait_for_standby(servers)
    with landing.repeating("SELECT pg_log_standby_snapshot()"):  # the record that makes a slot on a standby consistent
        landing.land()
    try:
        landing.write(person("Bia"))
        postgres.wait_for_standby(servers)
        landed = landing.land()
        assert landed.rows == 1
        assert landed.slot_lag_bytes > 0
        assert landing.replayed() == landing.live()
    finally:
        with server.connect(landing.customer.snapshot_dsn) as connection:
            slots.drop(connection, landing.state["slot"])


def test_a_snapshot_dsn_of_another_database_is_refused(landing: Landing, customer_database: postgres.Database) -> None:
    landing.use(customer_snapshot_dsn=customer_database.snapshot_dsn)
    with pytest.raises(OperatorError, match="CUSTOMER_SNAPSHOT_DSN does not lead to a replica"):
        landing.land()


def test_a_transaction_that_stays_open_bounds_the_wait_for_the_slot(
    landing: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "SLOT_CREATION_SECONDS", 0.3)
    with psycopg.connect(landing.customer.app_dsn) as connection:
        connection.execute(person("Ana"))
        with pytest.raises(TransientError, match="have been open"):
            landing.land()
    landing.land()
    assert landing.replayed() == landing.live()


def test_two_lakes_on_one_database_do_not_take_from_each_other(landing: Landing) -> None:
    other = Landing(landing.customer, landing.lake.with_name("other"))
    landing.land()
    other.land()
    landing.write(person("Ana"))
    assert (landing.land().rows, other.land().rows) == (1, 1)


def test_the_missing_publication_is_made_by_the_owner(landing: Landing) -> None:
    landing.write("DROP PUBLICATION lakehouse_usuarios")
    with pytest.raises(OperatorError, match=r"CREATE PUBLICATION .lakehouse_usuarios. FOR TABLE"):
        landing.land()
    landing.use(customer_dsn=landing.customer.admin_dsn)
    landing.write(person("Ana"))
    landing.land()
    landing.write(person("Bia"))
    assert landing.land().rows == 1


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (["ALTER TABLE usuarios DROP CONSTRAINT usuarios_pkey"], "no replica identity"),
        (["ALTER TABLE usuarios REPLICA IDENTITY NOTHING"], "no replica identity"),
        (["ALTER TABLE usuarios RENAME TO clientes"], "no ordinary table public.usuarios"),
        (["ALTER PUBLICATION lakehouse_usuarios SET (publish = 'insert')"], "hides changes"),
        (["ALTER PUBLICATION lakehouse_usuarios SET TABLE usuarios WHERE (id > 5)"], "hides changes"),
        (["ALTER PUBLICATION lakehouse_usuarios DROP TABLE usuarios"], "does not hold"),
        (["REVOKE SELECT ON usuarios FROM lakehouse"], "refused"),
        (["ALTER TABLE usuarios ENABLE ROW LEVEL SECURITY"], "refused"),
    ],
)
def test_what_would_hide_rows_or_break_the_application_is_refused(
    landing: Landing, servers: postgres.Servers, statements: list[str], message: str
) -> None:
    landing.write(*statements)
    postgres.wait_for_standby(servers)
    with pytest.raises(OperatorError, match=message):
        landing.land()
    assert landing.files() == []


def test_a_column_list_holds_for_snapshot_and_changes(landing: Landing) -> None:
    landing.write("ALTER PUBLICATION lakehouse_usuarios SET TABLE usuarios (id, nome)", person("Ana"))
    landing.land()
    landing.write(person("Bia"))
    landing.land()
    assert [event["after"] for event in landing.events()] == [
        None,
        {"id": "1", "nome": "Ana"},
        {"id": "2", "nome": "Bia"},
    ]
