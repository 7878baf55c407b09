"""Promotions and restores of the database: nothing is lost, nothing lands twice, and what is unknowable is recorded.

Change-data faults D1 and D2, and the kinds behind them: whether the server continues what was landed.
"""

import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from loaders.errors import OperatorError, TransientError
from loaders.users import changes, server, timeline
from loaders.users.events import Event
from loaders.users.pgoutput import decode
from sandbox import customer_app, postgres
from tests.loaders.users.conftest import Landing, person, wait_until

FLAVOUR = postgres.WITH_SLOT_COPIES


class Cluster:
    """A primary and its standby that may be promoted, restored and rebuilt; the servers of other tests may not."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.servers = postgres.start(home, flavour=FLAVOUR)
        self.databases = 0

    def landing(self, lake: Path) -> Landing:
        """A lake on a database of its own, by DSNs that name both servers and so outlive a promotion."""
        self.databases += 1
        name = f"customer_{self.databases}"
        customer_app.create_table(postgres.create_database(self.servers, name).app_dsn)
        postgres.wait_for_standby(self.servers)
        landing = Landing(postgres.database(self.servers, name), lake)
        landing.use(customer_dsn=self.dsn(name, "read-write"), customer_snapshot_dsn=self.dsn(name, "standby"))
        return landing

    def dsn(self, name: str, wanted: str) -> str:
        hosts = ",".join(f"127.0.0.1:{self.servers.ports[server]}" for server in sorted(self.servers.ports))
        role = f"{postgres.LOADER}:{self.servers.passwords[postgres.LOADER]}"
        return f"postgresql://{role}@{hosts}/{name}?target_session_attrs={wanted}"

    def standby(self, statement: str, *parameters: Any) -> list[tuple]:
        dsn = self.servers.dsn(postgres.ADMIN, server="standby")
        with psycopg.connect(dsn, autocommit=True) as connection:
            return connection.execute(statement, parameters).fetchall()

    def wait_for_slot(self, landing: Landing) -> None:
        """Land until the standby has a copy of the slot that a promotion would keep, as far as the lake is."""
        copied = """
            SELECT FROM pg_replication_slots WHERE slot_name = %s AND synced AND NOT temporary
            AND confirmed_flush_lsn - '0/0' >= %s
        """

        def is_copied() -> bool:
            landing.admin("SELECT pg_log_standby_snapshot()")
            landing.land()
            self.standby("SELECT pg_reload_conf()")  # wakes the process that copies slots
            return bool(self.standby(copied, landing.state["slot"], landing.state["position"]))

        wait_until(is_copied)

    def cut_off_standby(self) -> None:
        """Let the standby receive nothing more, until it is rebuilt."""
        with psycopg.connect(self.servers.dsn(postgres.ADMIN, server="standby"), autocommit=True) as standby:
            standby.execute("ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=1'")
            standby.execute("SELECT pg_reload_conf()")
            wait_until(lambda: not standby.execute("SELECT FROM pg_stat_wal_receiver WHERE pid IS NOT NULL").rowcount)

    def promote(self, *landings: Landing) -> None:
        """Crash the primary and promote the standby; the new primary has no standby."""
        self.servers = postgres.promote(self.home, FLAVOUR)
        with psycopg.connect(self.servers.dsn(postgres.ADMIN), autocommit=True) as primary:
            primary.execute("ALTER SYSTEM RESET ALL")
            primary.execute("SELECT pg_reload_conf()")
        for landing in landings:
            landing.customer = postgres.database(self.servers, landing.customer.name)

    def rebuild_standby(self) -> None:
        self.servers = postgres.start(self.home, flavour=FLAVOUR)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    postgres.stop(cluster.home, "immediate", FLAVOUR)


@pytest.fixture
def cluster(pair: Cluster) -> Cluster:
    """The servers with a standby that follows."""
    pair.rebuild_standby()
    return pair


def test_a_promotion_in_mid_run_with_a_failover_slot(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Change-data faults D1, D4: nothing is lost or landed twice, also for a lake that reads the standby itself."""
    landing = cluster.landing(tmp_path / "lake")
    landing.admin("ALTER SYSTEM SET synchronized_standby_slots = 'standby'")
    landing.admin("SELECT pg_reload_conf()")
    landing.write(person("Ana"), person("Bia"))
    landing.land()
    cluster.wait_for_slot(landing)
    by_standby = Landing(landing.customer, tmp_path / "other")  # with a slot of its own there
    dsn = cluster.servers.dsn(postgres.LOADER, landing.customer.name, "standby")
    by_standby.use(customer_dsn=dsn, customer_snapshot_dsn=dsn)
    with landing.repeating("SELECT pg_log_standby_snapshot()"):
        by_standby.land()
    landing.write("INSERT INTO usuarios (nome, email, cpf) SELECT i, i, i FROM generate_series(1, 20000) i")
    postgres.wait_for_standby(cluster.servers)

    def decode_and_promote(*args: Any, **kwargs: Any) -> Iterator[Event]:
        found = decode(*args, **kwargs)
        yield next(found)
        cluster.promote(landing)
        yield from found

    with monkeypatch.context() as patch:
        patch.setattr(changes, "decode", decode_and_promote)
        with pytest.raises(TransientError):
            landing.land()
    landing.write(person("Caio"), "DELETE FROM usuarios WHERE nome = 'Ana'")
    assert landing.land().gap is None
    assert Counter(op for op, _, _ in landing.changes()) == {"c": 20_001, "d": 1}
    assert by_standby.land().gap is None
    assert landing.replayed() == by_standby.replayed() == landing.live()
    cluster.rebuild_standby()
    with closing(server.connect(landing.settings.customer_dsn, replication=True)) as replication:
        assert timeline.identify(replication).timeline == landing.state["timeline"]


def test_changes_that_the_new_primary_never_had(cluster: Cluster, tmp_path: Path) -> None:
    """Change-data faults D2: noticed though the new primary is past the bookmark; repaired from a replica, recorded."""
    landing = cluster.landing(tmp_path / "lake")
    landing.write(person("Ana"), person("Bia"), person("Caio"))
    landing.land()
    cluster.wait_for_slot(landing)
    cluster.cut_off_standby()
    landing.write(person("Ghost"), "DELETE FROM usuarios WHERE id = 1", "UPDATE usuarios SET nome = 'X' WHERE id = 2")
    assert landing.land().rows == 3
    position = landing.state["position"]
    cluster.promote(landing)
    landing.write("UPDATE usuarios SET nome = 'Y' WHERE id = 3", person("Davi"))
    landing.admin("SELECT pg_logical_emit_message(true, 'test', repeat('x', 3000000))")
    state = landing.state
    with pytest.raises(OperatorError, match=r"has no change of the former timeline.*--resnapshot"):
        landing.land()
    landing.use(customer_gaps="repair")
    with pytest.raises(TransientError):  # there is no standby yet
        landing.land()
    assert landing.state == state
    cluster.rebuild_standby()
    gap = landing.land().gap
    assert (gap["epoch"], gap["former_epoch"]) == (2, 1)
    assert "has no change of the former timeline" in gap["reason"]
    truncate = landing.events()[-len(landing.live()) - 1]
    assert (truncate["op"], truncate["source"]["gap_from_lsn"]) == ("t", str(position))
    landing.write(person("Elis"))
    landed = landing.land()
    assert (landed.rows, landed.gap) == (1, None)
    assert landing.replayed() == landing.live()


def test_a_promotion_that_lost_changes_of_others_alone(cluster: Cluster, tmp_path: Path) -> None:
    """The bookmark is past the fork, but nothing was landed from there: the lake goes on without a gap."""
    landing = cluster.landing(tmp_path / "lake")
    landing.write(person("Ana"))
    landing.land()
    cluster.wait_for_slot(landing)
    dsn = landing.settings.customer_dsn
    landing.use(customer_dsn=cluster.dsn(landing.customer.name, "standby"))
    with pytest.raises(OperatorError, match="is only a copy"):
        landing.land()
    landing.use(customer_dsn=dsn)
    cluster.cut_off_standby()
    landing.admin("SELECT pg_logical_emit_message(true, 'test', repeat('x', 3000000))")
    landing.land()
    position = landing.state["position"]
    cluster.promote(landing)
    landing.write(person("Bia"))
    landed = landing.land()
    assert (landed.rows, landed.gap) == (1, None)
    assert landing.state["position"] < position
    assert landing.replayed() == landing.live()


def test_a_restore_of_files_without_a_new_timeline(cluster: Cluster, tmp_path: Path) -> None:
    """Change-data faults D2's kind: the same LSNs hold other transactions, on the same timeline."""
    landing = cluster.landing(tmp_path / "lake")
    landing.write(person("Ana"), person("Bia"))
    landing.land()
    postgres.stop(cluster.home, flavour=FLAVOUR)
    data = cluster.servers.data("primary")
    copy_folder(data, tmp_path / "backup")
    postgres.start(cluster.home, standby=False, flavour=FLAVOUR)
    landing.write(person("Ghost"))
    landing.land()
    postgres.stop(cluster.home, "immediate", FLAVOUR)
    shutil.rmtree(data)
    copy_folder(tmp_path / "backup", data)
    cluster.rebuild_standby()
    landing.write(person("Caio"), person("Davi"))
    landing.admin("SELECT pg_logical_emit_message(true, 'test', repeat('x', 3000000))")
    with pytest.raises(OperatorError, match=r"are not those that were landed.*--resnapshot"):
        landing.land()
    landing.use(customer_gaps="repair")
    assert landing.land().gap["reason"]
    landing.write(person("Elis"))
    assert landing.land().rows == 1
    assert landing.replayed() == landing.live()


def copy_folder(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", source, target], check=True)  # its owner too, which is not who runs the tests
