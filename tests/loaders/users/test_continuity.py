"""Runs that must stop because changes may be missing, the remedy, and failures that heal by themselves."""

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from loaders import users
from loaders.errors import OperatorError, TransientError
from loaders.lake import open_lake
from loaders.users import changes, replication, server, slots
from loaders.users.events import Event, lsn_text
from loaders.users.pgoutput import decode
from loaders.users.replication import stream
from loaders.users.state import NAME
from loaders.watch import alerts_of_landing
from sandbox import customer_app, postgres
from tests.loaders.users.conftest import Landing, person

REMEDY = "python -m loaders users --resnapshot"


@pytest.fixture
def started(landing: Landing) -> Landing:
    """A lake that holds the snapshot of Ana and Bia."""
    landing.write(person("Ana"), person("Bia"))
    landing.land()
    return landing


def stops(landing: Landing, reason: str, remedy: str = REMEDY) -> None:
    """The run stops with the reason and the remedy, and nothing has changed."""
    state, files = landing.state, landing.files()
    with pytest.raises(OperatorError) as raised:
        landing.land()
    assert reason in str(raised.value) and remedy in str(raised.value)
    assert remedy == REMEDY or REMEDY not in str(raised.value)
    assert (landing.state, landing.files()) == (state, files)


def heals(landing: Landing) -> None:
    """A new snapshot begins the next epoch, what was deleted in between is gone, and changes follow again."""
    landing.write("DELETE FROM usuarios WHERE nome = 'Ana'")
    epoch = landing.state["epoch"]
    landing.land(resnapshot=True)
    assert landing.state["epoch"] == epoch + 1
    landing.write(person("Caio"))
    assert landing.land().rows == 1
    assert landing.replayed() == landing.live()


def test_a_slot_that_is_gone(started: Landing) -> None:
    with server.connect(started.customer.dsn) as connection:
        slots.drop(connection, started.state["slot"])
    stops(started, "is gone")
    heals(started)


def test_a_slot_that_is_lost(started: Landing) -> None:
    started.admin("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
    try:
        started.admin("SELECT pg_reload_conf()")
        lost = "SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = %s"
        while started.admin(lost, started.state["slot"]) != [(True,)]:
            started.admin("SELECT pg_logical_emit_message(false, 'test', 'x')")
            started.admin("SELECT pg_switch_wal()")
            started.admin("CHECKPOINT")
    finally:
        started.admin("ALTER SYSTEM RESET max_slot_wal_keep_size")
        started.admin("SELECT pg_reload_conf()")
    stops(started, "is lost")
    heals(started)


def test_a_slot_that_someone_else_has_read(started: Landing) -> None:
    started.write(person("Davi"))
    started.admin("SELECT pg_replication_slot_advance(%s, pg_current_wal_flush_lsn())", started.state["slot"])
    stops(started, "another reader has consumed changes")
    heals(started)


def test_a_server_that_was_restored_from_a_backup(started: Landing) -> None:
    started.change_state(position=1 << 50)
    stops(started, "was a backup restored?")
    heals(started)


def test_a_publication_made_anew_has_missed_changes(started: Landing) -> None:
    started.write("DROP PUBLICATION lakehouse_usuarios")
    started.write(person("Unseen"))
    started.write("CREATE PUBLICATION lakehouse_usuarios FOR TABLE usuarios")
    stops(started, "the publication was recreated")
    heals(started)


def test_a_table_published_anew_has_missed_changes(started: Landing) -> None:
    started.write("ALTER PUBLICATION lakehouse_usuarios DROP TABLE usuarios")
    started.write(person("Unseen"))
    started.write("ALTER PUBLICATION lakehouse_usuarios ADD TABLE usuarios")
    stops(started, "removed from its publication")


def test_a_state_that_is_lost(started: Landing) -> None:
    slot = started.state["slot"]
    (started.lake / "state" / f"{NAME}.json").unlink()
    with pytest.raises(OperatorError, match=r"is lost.*--resnapshot"):
        started.land()
    with pytest.raises(OperatorError, match="that this lake does not know of"):
        started.land(resnapshot=True)
    started.admin("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name ~ %s", slot)
    started.write("DELETE FROM usuarios WHERE nome = 'Ana'")
    started.land(resnapshot=True)
    assert started.state["epoch"] == 2
    assert started.replayed() == started.live()


def test_a_state_of_a_newer_loader(started: Landing) -> None:
    started.change_state(format=3)
    with pytest.raises(OperatorError, match="format 3"):
        started.land()


def test_another_server_whose_lsns_start_lower(started: Landing, tmp_path: Path) -> None:
    home = tmp_path / "other"
    try:
        other = postgres.create_database(postgres.start(home), "customer")
        customer_app.create_table(other.app_dsn)
        for _ in range(5):  # each begins a new WAL file, 16 MB on
            started.write(person("Davi"))
            started.admin("SELECT pg_switch_wal()")
        started.land()
        former = started.state
        started.customer = other
        started.use(customer_dsn=other.dsn, customer_snapshot_dsn=other.snapshot_dsn)
        stops(started, "another server or database", "correct it")
        started.write(person("Bia"))
        started.land(resnapshot=True)
        assert started.state["position"] < former["position"]
        assert {row["nome"] for row in started.replayed().values()} == {"Bia"}
        started.write(person("Elis"))
        assert started.land().rows == 1
        assert started.replayed() == started.live()
    finally:
        postgres.stop(home, "immediate")


def test_a_second_run_at_once_stops_and_changes_nothing(started: Landing) -> None:
    started.write(person("Caio"))
    state = started.state
    with open_lake(str(started.lake)).lock(NAME), pytest.raises(TransientError, match="another run holds"):
        started.land()
    assert started.state == state
    assert started.land().rows == 1


def test_a_slot_that_is_in_use_is_waited_for_and_then_left(started: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    started.write(person("Caio"))
    names = {"slot": started.state["slot"], "publication": "lakehouse_usuarios"}
    with closing(server.connect(started.customer.dsn, replication=True)) as connection:
        assert next(stream(connection, **names, start=0, end=1 << 62))
        monkeypatch.setattr(slots, "SLOT_FREE_SECONDS", 0.2)
        with pytest.raises(TransientError, match="another reader holds the slot"):
            started.land()
    monkeypatch.undo()
    assert started.land().rows == 1


def test_a_slot_that_has_moved_back_gives_nothing_twice(started: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a crash of the primary a slot may be where it was some time ago."""
    monkeypatch.setattr(slots, "advance", lambda *_: None)
    for name in ("Caio", "Davi", "Elis"):
        started.write(person(name))
        assert started.land().rows == 1
    monkeypatch.undo()
    assert started.land().rows == 0
    assert [after["nome"] for _, _, after in started.changes()] == ["Caio", "Davi", "Elis"]


def test_a_primary_that_crashes_in_mid_stream(
    started: Landing, servers: postgres.Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    started.write("INSERT INTO usuarios (nome, email, cpf) SELECT i, i, i FROM generate_series(1, 20000) i")

    def decode_and_crash(*args: Any, **kwargs: Any) -> Iterator[Event]:
        found = decode(*args, **kwargs)
        yield next(found)
        postgres.stop(servers.home, "immediate")
        yield from found

    monkeypatch.setattr(changes, "decode", decode_and_crash)
    files = started.files()
    try:
        with pytest.raises(TransientError, match="the customer database"):
            started.land()
    finally:
        postgres.start(servers.home)
    monkeypatch.undo()
    assert started.files() == files
    assert started.land().rows == 20_000
    assert started.replayed() == started.live()


def test_a_database_that_is_away_is_a_failure_that_a_retry_may_heal(
    started: Landing, servers: postgres.Servers
) -> None:
    started.write(person("Caio"))
    postgres.stop(servers.home)
    try:
        with pytest.raises(TransientError, match="the customer database failed"):
            started.land()
    finally:
        postgres.start(servers.home)
    assert started.land().rows == 1


def test_a_lost_slot_repairs_itself_from_a_replica(started: Landing, capsys: pytest.CaptureFixture[str]) -> None:
    """Issue 10, part 4: a new epoch by a snapshot from the replica, and a record of the gap."""
    started.use(customer_gaps="repair")
    position, slot = started.state["position"], started.state["slot"]
    started.write("DELETE FROM usuarios WHERE nome = 'Ana'", person("Caio"))
    started.admin("SELECT pg_drop_replication_slot(%s)", slot)
    landed = started.land()
    assert (started.state["epoch"], started.state["slot"], started.state["gap"]) == (2, slot, None)
    (truncate,) = [event for event in started.events() if event["op"] == "t" and event["epoch"] == 2]
    record = {name: value for name, value in truncate["source"].items() if name.startswith("gap_")}
    assert record == {
        "gap_reason": f"the slot {slot} is gone",
        "gap_noticed_at": landed.gap["noticed_at"],
        "gap_former_epoch": "1",
        "gap_from_lsn": str(position),
        "gap_from_time": landed.gap["from_time"],
    }
    assert landed.gap["to_lsn"] == lsn_text(started.state["position"])
    assert json.loads(json.dumps(asdict(landed)))["gap"] == landed.gap  # the last line on stdout
    (alert,) = alerts_of_landing(landed, 1 << 40)
    assert (alert.kind, alert.facts["epoch"], alert.facts["from_lsn"]) == ("changes_missing", 2, lsn_text(position))
    assert "withheld" not in alert.text
    started.write(person("Davi"))
    assert started.land().gap is None
    assert started.replayed() == started.live()


def test_without_a_replica_a_lost_slot_stops(started: Landing) -> None:
    """No whole table is read on the primary unless a person asks for it."""
    started.use(customer_gaps="repair", customer_snapshot_dsn=started.customer.dsn)
    started.admin("SELECT pg_drop_replication_slot(%s)", started.state["slot"])
    stops(started, "is gone")
    started.use(customer_snapshot_dsn=f"{started.customer.dsn}?connect_timeout=5")  # the primary by another DSN
    stops(started, "is gone")


def test_a_copied_lake_takes_no_slot_from_the_first(started: Landing, caplog: pytest.LogCaptureFixture) -> None:
    """Change-data faults E4: a run drops no slot that it did not create, and none that somebody else reads."""
    started.use(customer_gaps="repair")
    shutil.copytree(started.lake, started.lake.with_name("copy"))
    copy = Landing(started.customer, started.lake.with_name("copy"))
    copy.use(customer_gaps="repair")
    started.write(person("Caio"))
    assert started.land().rows == 1
    landed = copy.land()
    assert "another reader has consumed changes" in landed.gap["reason"]
    assert copy.state["slot"] != started.state["slot"]
    started.write(person("Davi"))
    assert (started.land().rows, copy.land().rows) == (1, 1)
    assert started.state["epoch"] == 1

    shutil.rmtree(copy.lake)  # a lake that was deleted leaves its slot, which the next lake of that path only names
    left = {name for (name,) in started.admin("SELECT slot_name FROM pg_replication_slots")}
    copy.land()
    assert left < {name for (name,) in started.admin("SELECT slot_name FROM pg_replication_slots")}
    assert "if it is of no lake that is still in use, drop it" in caplog.text
    started.write(person("Elis"))
    assert (started.land().rows, copy.land().rows) == (1, 1)


def test_a_lake_of_an_older_loader_goes_on(started: Landing) -> None:
    """Its slot keeps the name that was made of the lake's path, and from PostgreSQL 17 on it survives a promotion."""
    slot = "lakehouse_usuarios_0123abcd"
    started.admin("SELECT pg_copy_logical_replication_slot(%s, %s)", started.state["slot"], slot)
    started.admin("SELECT pg_drop_replication_slot(%s)", started.state["slot"])
    known = ("epoch", "system_identifier", "database", "table", "published_as", "position", "intent")
    former = {"format": 1, "slot": slot} | {name: started.state[name] for name in known}
    (started.lake / "state" / f"{NAME}.json").write_text(json.dumps(former))
    (started.lake / "state/lake.json").unlink()
    started.write(person("Caio"))
    assert started.land().rows == 1
    assert (started.state["slot"], started.state["timeline"], started.state["created_slot"]) == (slot, 1, True)
    failover = "SELECT failover FROM pg_replication_slots WHERE slot_name = %s"
    assert started.admin(failover, slot) == [(True,)]
    heals(started)
    assert (started.state["slot"], started.admin(failover, slot)) == (slot, [(True,)])


def test_a_run_that_finishes_a_killed_one_lands_what_came_since(started: Landing) -> None:
    started.write(person("Caio"))
    with pytest.raises(ZeroDivisionError), pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            users.landing, "save_position", lambda bookmark: 1 / 0
        )  # the file is there, the state does not say so
        started.land()
    position, intent = started.state["position"], started.state["intent"]
    started.write(person("Davi"), person("Elis"))
    landed = started.land()
    assert (landed.rows, landed.range) == (3, f"{position:016X}-{started.state['position']:016X}")
    assert started.state["position"] > intent["end"]
    assert len(started.files()) == 3
    assert landed.bytes == sum(
        path.stat().st_size for path in started.files() if not path.stem.startswith("1-0" + "0" * 15)
    )
    assert started.replayed() == started.live()
    assert started.land().rows == 0


def test_a_server_that_waits_for_a_standby_bounds_the_wait_for_it(
    started: Landing, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """synchronized_standby_slots keeps back what that standby does not have: from the stream, and from the slot."""
    monkeypatch.setattr(replication, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(replication, "PING_SECONDS", 0.1)
    monkeypatch.setattr(slots, "ADVANCE_SECONDS", 0.5)
    started.admin("SELECT pg_create_physical_replication_slot('away', true)")
    started.admin("ALTER SYSTEM SET synchronized_standby_slots = 'away'")
    try:
        started.admin("SELECT pg_reload_conf()")
        started.write(person("Caio"))
        with pytest.raises(TransientError, match="synchronized_standby_slots"):
            started.land()
        with server.connect(started.customer.dsn) as connection:
            ((position,),) = started.admin("SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint")
            slots.advance(connection, started.state["slot"], position)
        assert "was not advanced within" in caplog.text
    finally:
        started.admin("ALTER SYSTEM RESET synchronized_standby_slots")
        started.admin("SELECT pg_reload_conf()")
        started.admin("SELECT pg_drop_replication_slot('away')")
    assert started.land().rows == 1
