"""Kills the loader, dbt and the primary at random, promotes the standby, and counts the faults that this leaves.

The application writes all the while: transactions of many rows, savepoints that roll back, keys that move and swap,
long values that stay unchanged, truncations. The independent truth is a table that triggers fill in the same
transactions: each change in it must be landed exactly once and no other, unless the lake has a record of the gap; the
events replayed must be the live table, and so must curated.users.

The loader is forked from a process that has imported it, so that kills fall into its work and not into Python's start.
"""

import json
import logging
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import reduce
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow.dataset as ds

from benchmarks.world import DBT, environment
from loaders import users
from loaders.errors import LoaderError
from loaders.raw import USER_CHANGES
from loaders.settings import Settings, from_environment
from loaders.users.state import KEY
from sandbox import customer_app, postgres

log = logging.getLogger(__name__)

FLAVOUR = postgres.WITH_SLOT_COPIES
IDS = 400  # people whom the application knows: few, so that the same rows are written again and again
PATIENCE = 120.0  # seconds that the servers and the loader may take to be well again
KINDS = {"insert": 30, "update": 35, "notes": 10, "delete": 12, "move": 8, "swap": 4, "truncate": 0.1}
CREATE_AUDIT = """
CREATE TABLE public.auditoria (xid bigint, op text, old_id text, new_id text, nome text, at timestamptz);
CREATE FUNCTION public.audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.auditoria VALUES (
        mod(pg_current_xact_id()::text::numeric, 4294967296)::bigint,
        CASE TG_OP WHEN 'INSERT' THEN 'c' WHEN 'UPDATE' THEN 'u' WHEN 'DELETE' THEN 'd' ELSE 't' END,
        CASE WHEN TG_OP IN ('UPDATE', 'DELETE') THEN OLD.id END,
        CASE WHEN TG_OP IN ('INSERT', 'UPDATE') THEN NEW.id END,
        CASE WHEN TG_OP IN ('INSERT', 'UPDATE') THEN NEW.nome END,
        clock_timestamp()
    );
    RETURN NULL;
END $$;
CREATE TRIGGER rows AFTER INSERT OR UPDATE OR DELETE ON public.usuarios FOR EACH ROW EXECUTE FUNCTION public.audit();
CREATE TRIGGER truncations AFTER TRUNCATE ON public.usuarios FOR EACH STATEMENT EXECUTE FUNCTION public.audit();
"""


@dataclass
class Counts:
    """What happened, and which faults it left: `lost`, `twice`, `wrong` and `curated_wrong` must be 0."""

    kills: int = 0
    kills_in_mid_landing: int = 0  # the run had written down what it was about to land
    runs_that_ended: int = 0
    runs_that_failed: int = 0  # with an exit code: the primary was away
    crashes: int = 0
    promotions: int = 0
    dbt_kills: int = 0
    dbt_runs: int = 0
    transactions: int = 0
    audited: int = 0
    landed: int = 0
    gaps: int = 0
    missing_in_gaps: int = 0  # changes that a recorded gap explains
    landed_before_gaps: int = 0  # changes that the database no longer has, in an epoch that a recorded gap has ended
    lost: int = 0
    twice: int = 0
    wrong: int = 0  # landed changes that were never made, and rows of the replay that are not those of the table
    curated_wrong: int = 0
    seconds: float = 0.0

    @property
    def faults(self) -> int:
        return self.lost + self.twice + self.wrong + self.curated_wrong


class Chaos:
    """A primary that may fail, its standby, an application that writes, and the lake of it all."""

    def __init__(self, folder: Path, seed: int, *, waits_for_standby: bool) -> None:
        self.folder, self.rng, self.counts = folder, random.Random(seed), Counts()
        self.waits_for_standby = waits_for_standby
        self.home = folder / "sandbox"
        self.servers = postgres.start(self.home, flavour=FLAVOUR)
        database = postgres.create_database(self.servers, customer_app.DATABASE)
        customer_app.create_table(database.app_dsn)
        customer_app.seed_people(database.app_dsn, IDS // 2)
        self._use_slot_copies()
        self.environment = environment(
            folder,
            CUSTOMER_DSN=self._dsn(postgres.LOADER, "read-write"),
            CUSTOMER_SNAPSHOT_DSN=self._dsn(postgres.LOADER, "standby"),
            CUSTOMER_GAPS="repair",
            ALERT_SLOT_LAG_BYTES=str(1 << 40),
        )
        self.settings = from_environment(self.environment)
        self.processes = multiprocessing.get_context("forkserver")
        self.processes.set_forkserver_preload([__name__])
        self.land()
        with self._application() as connection:
            connection.execute(CREATE_AUDIT)
        started = time.monotonic()
        self.land()
        self.longest_run = 0.2 + 2 * (time.monotonic() - started)  # seconds after which a run is killed at the latest

    def _dsn(self, role: str, wanted: str) -> str:
        """A DSN of both servers, which outlives promotions."""
        hosts = ",".join(f"127.0.0.1:{self.servers.ports[server]}" for server in sorted(self.servers.ports))
        credentials = f"{role}:{self.servers.passwords[role]}"
        return f"postgresql://{credentials}@{hosts}/{customer_app.DATABASE}?target_session_attrs={wanted}"

    def _application(self) -> psycopg.Connection:
        return psycopg.connect(self._dsn(postgres.APP, "read-write"), autocommit=True, connect_timeout=2)

    def _use_slot_copies(self) -> None:
        """Let the primary send no change to the loader that the standby does not have, where that is asked for."""
        with psycopg.connect(self.servers.dsn(postgres.ADMIN), autocommit=True) as admin:
            admin.execute("ALTER SYSTEM RESET ALL")
            if self.waits_for_standby:
                admin.execute("ALTER SYSTEM SET synchronized_standby_slots = 'standby'")
            admin.execute("SELECT pg_reload_conf()")

    def _leave_standby_behind(self) -> None:
        """Let the standby miss some of what is written and landed from now on."""
        with psycopg.connect(self.servers.dsn(postgres.ADMIN, server="standby"), autocommit=True) as standby:
            standby.execute("ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=1'")
            standby.execute("SELECT pg_reload_conf()")
        time.sleep(self.rng.uniform(0.0, 2.0))
        self.land()

    # ---------- what happens

    def land(self) -> dict[str, Any]:
        """Land until a run ends well."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return asdict(users.land(self.settings))
            except LoaderError as error:
                if time.monotonic() > deadline:
                    raise
                log.info("%s", error)
                time.sleep(0.2)

    def kill_a_run(self) -> None:
        """Start a run and kill it at any moment."""
        process = self._start()
        process.join(self.rng.uniform(0.0, self.longest_run))
        self._end(process)

    def crash(self) -> None:
        """Crash both servers in the middle of a run."""
        process = self._start()
        process.join(self.rng.uniform(0.0, self.longest_run))
        postgres.stop(self.home, "immediate", FLAVOUR)
        self.counts.crashes += 1
        self.servers = postgres.start(self.home, flavour=FLAVOUR)
        self._end(process)

    def promote(self) -> None:
        """Crash the primary in the middle of a run, promote the standby, and build another standby."""
        self._wait_for_slot_copy()
        if not self.waits_for_standby:
            self._leave_standby_behind()
        process = self._start()
        process.join(self.rng.uniform(0.0, self.longest_run))
        self.servers = postgres.promote(self.home, FLAVOUR)
        self._use_slot_copies()
        self.counts.promotions += 1
        time.sleep(self.rng.uniform(0.0, 0.5))  # the application writes to it
        self.servers = postgres.start(self.home, flavour=FLAVOUR)
        self._end(process)

    def kill_dbt(self) -> None:
        """Build curated.users, and kill the build at any moment."""
        process = subprocess.Popen(self._dbt(), env=self.environment, stdout=subprocess.DEVNULL)
        try:
            process.wait(self.rng.uniform(4.0, 12.0))
            self.counts.dbt_runs += 1
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self.counts.dbt_kills += 1

    def _dbt(self) -> list[str]:
        return [*DBT, "run", "--select", "+users", "--quiet"]

    def _start(self) -> Any:
        """A run in a process of its own, which has just begun its work."""
        begun, begins = self.processes.Pipe(duplex=False)
        process = self.processes.Process(target=_land, args=[self.settings, begins])
        process.start()
        begun.poll(PATIENCE)
        return process

    def _end(self, process: Any) -> None:
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            self.counts.kills += 1
            state = json.loads((self.folder / "lake" / KEY).read_text())
            self.counts.kills_in_mid_landing += state["intent"] is not None
        elif process.exitcode == 0:
            self.counts.runs_that_ended += 1
        else:
            self.counts.runs_that_failed += 1

    def _wait_for_slot_copy(self) -> None:
        """Land until the standby has a copy of the slot that a promotion keeps."""
        copied = "SELECT FROM pg_replication_slots WHERE synced AND NOT temporary AND slot_name ~ '^lakehouse_'"
        deadline = time.monotonic() + PATIENCE
        while True:
            self.land()
            with psycopg.connect(self.servers.dsn(postgres.ADMIN), autocommit=True) as primary:
                primary.execute("SELECT pg_log_standby_snapshot()")
            with psycopg.connect(self.servers.dsn(postgres.ADMIN, server="standby"), autocommit=True) as standby:
                if standby.execute(copied).rowcount:
                    return
                standby.execute("SELECT pg_reload_conf()")  # wakes the process that copies slots
            if time.monotonic() > deadline:
                raise RuntimeError("the standby has no copy of the slot")
            time.sleep(0.1)

    # ---------- the application

    @contextmanager
    def writing(self, writers: int = 2) -> Iterator[None]:
        """Meanwhile the application writes, and goes on after each loss of its connection."""
        stop = threading.Event()
        seeds = [self.rng.random() for _ in range(writers)]
        threads = [threading.Thread(target=self._write, args=[random.Random(seed), stop]) for seed in seeds]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _write(self, rng: random.Random, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                with self._application() as connection:
                    while not stop.is_set():
                        with suppress(psycopg.errors.DeadlockDetected, psycopg.errors.UniqueViolation):
                            _transaction(connection, rng)
                            self.counts.transactions += 1
                        time.sleep(rng.uniform(0.0, 0.1))
            except psycopg.Error:
                time.sleep(0.1)

    # ---------- the verdict

    def judge(self) -> Counts:
        """Let all land and be built, and compare."""
        while self.land()["rows"]:
            pass
        subprocess.run(self._dbt(), env=self.environment, check=True, stdout=subprocess.DEVNULL)
        self.counts.dbt_runs += 1
        with self._application() as connection:
            audited = connection.execute("SELECT xid, op, old_id, new_id, nome, at FROM public.auditoria").fetchall()
            rows = connection.execute("SELECT id::text, nome, observacoes FROM public.usuarios").fetchall()
        events, gaps = self._events()
        changes = [(event, _key(event)) for event in events if event["source"]["xid"] is not None]
        truth, landed = Counter(row[:5] for row in audited), Counter(key for _, key in changes)
        counts = self.counts
        counts.audited, counts.landed, counts.gaps = truth.total(), landed.total(), len(gaps)
        times = {row[:5]: row[5] for row in audited}
        for key in (truth - landed).elements():
            if any(start <= times[key] <= end for start, end in gaps.values()):
                counts.missing_in_gaps += 1
            else:
                counts.lost += 1
        ended = max(gaps, default=0)  # epochs before this one were ended by a recorded gap
        epochs = {key: event["epoch"] for event, key in changes}
        for key in (landed - truth).elements():
            if key in truth:
                counts.twice += 1
            elif epochs[key] < ended:
                counts.landed_before_gaps += 1
            else:
                counts.wrong += 1
        positions = Counter((event["epoch"], event["commit_lsn"], event["change_seq"]) for event in events)
        counts.twice += sum(times - 1 for times in positions.values())
        counts.wrong += _differences(reduce(_apply, events, {}), rows)
        with duckdb.connect(str(self.folder / "lake/warehouse.duckdb"), read_only=True) as warehouse:
            built = warehouse.sql("SELECT user_id::varchar, full_name, notes FROM curated.users WHERE NOT is_deleted")
            counts.curated_wrong = _differences({row[0]: row[1:] for row in built.fetchall()}, rows)
        return counts

    def _events(self) -> tuple[list[dict[str, Any]], dict[int, tuple[datetime, datetime]]]:
        """Everything in raw, in its order, and the times between which each epoch's gap lies."""
        found = (self.folder / "lake" / "raw" / USER_CHANGES.name).rglob("*.parquet")
        order = [(name, "ascending") for name in ("epoch", "commit_lsn", "change_seq")]
        table = ds.dataset([str(path) for path in found], schema=USER_CHANGES.schema).to_table()
        events = table.sort_by(order).to_pylist()
        gaps = {}
        for event in events:
            for name in ("before", "after", "source"):
                event[name] = event[name] and json.loads(event[name])
            if "gap_reason" in event["source"]:
                log.warning("gap before epoch %d: %s", event["epoch"], event["source"]["gap_reason"])
                # A transaction that was open for a second is in the audit before its commit.
                start = datetime.fromisoformat(event["source"]["gap_from_time"]) - timedelta(seconds=2)
                gaps[event["epoch"]] = start, event["committed_at"]
        return events, gaps

    def stop(self) -> None:
        postgres.stop(self.home, "immediate", FLAVOUR)


def _land(settings: Settings, begins: Connection) -> None:
    """Land in a process of its own, whose exit code is the command's."""
    begins.send(None)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        users.land(settings)
    except LoaderError as error:
        sys.exit(error.exit_code)


def _transaction(connection: psycopg.Connection, rng: random.Random) -> None:
    """Some changes in one transaction, of which some roll back."""
    with connection.transaction(force_rollback=rng.random() < 0.1):
        for _ in range(rng.choice([1, 1, 2, 5])):
            with connection.transaction(force_rollback=rng.random() < 0.1):  # a savepoint
                _change(connection, rng)
        if rng.random() < 0.05:
            time.sleep(rng.uniform(0.0, 1.0))


def _change(connection: psycopg.Connection, rng: random.Random) -> None:
    one, other, name = rng.randint(1, IDS), rng.randint(1, IDS), f"{rng.getrandbits(64):016x}"
    notes = rng.choice([None, "short", "".join(f"{rng.getrandbits(64):016x}" for _ in range(rng.randint(200, 500)))])
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    if kind == "insert":
        columns = "id, nome, email, cpf, observacoes"
        insert = f"INSERT INTO usuarios ({columns}) VALUES (%s, %s, 'x', 'x', %s) ON CONFLICT DO NOTHING"
        connection.execute(insert, [one, name, notes])
    elif kind == "update":
        connection.execute("UPDATE usuarios SET nome = %s || id WHERE id BETWEEN %s AND %s", [name, one, one + 5])
    elif kind == "notes":
        connection.execute("UPDATE usuarios SET nome = %s, observacoes = %s WHERE id = %s", [name, notes, one])
    elif kind == "delete":
        connection.execute("DELETE FROM usuarios WHERE id = %s", [one])
    elif kind == "truncate":
        connection.execute("TRUNCATE usuarios")
    else:
        for old, new in [(one, other)] if kind == "move" else [(one, -one), (other, one), (-one, other)]:
            move = "UPDATE usuarios SET nome = %s, id = %s WHERE id = %s"
            is_free = "NOT EXISTS (SELECT FROM usuarios WHERE id = %s)"
            connection.execute(f"{move} AND {is_free}", [name, new, old, new])


def _key(event: dict[str, Any]) -> tuple[int, str, str | None, str | None, str | None]:
    """A landed change as the audit has it."""
    before, after = event["before"] or {}, event["after"] or {}
    old = before.get("id", after.get("id")) if event["op"] in "ud" else None
    return event["source"]["xid"], event["op"], old, after.get("id"), after.get("nome")


def _apply(rows: dict[str, dict[str, Any]], event: dict[str, Any]) -> dict[str, dict[str, Any]]:
    if event["op"] == "t":
        return {}
    old = rows.pop((event["before"] or event["after"])["id"], {}) if event["op"] in "ud" else {}
    if event["after"]:
        rows[event["after"]["id"]] = old | event["after"]
    return rows


def _differences(found: dict[str, Any], rows: list[tuple]) -> int:
    """How many rows are missing, extra or different."""
    ours = {
        key: (row["nome"], row["observacoes"]) if isinstance(row, dict) else tuple(row) for key, row in found.items()
    }
    theirs = {row[0]: row[1:] for row in rows}
    return sum(ours.get(key) != theirs.get(key) for key in ours.keys() | theirs.keys())


def run(
    folder: Path,
    *,
    kills: int,
    crashes: int,
    promotions: int,
    dbt_kills: int,
    seed: int,
    waits_for_standby: bool = True,
) -> Counts:
    """Let it all happen in random order and return what it left.

    With `waits_for_standby` the primary is set up as docs/architecture.md asks for, so that no promotion leaves a gap.
    """
    started = time.monotonic()
    chaos = Chaos(folder, seed, waits_for_standby=waits_for_standby)
    try:
        events = ["crash"] * crashes + ["promote"] * promotions + ["kill_dbt"] * dbt_kills
        chaos.rng.shuffle(events)
        with chaos.writing():
            for number, event in enumerate(events, start=1):
                while chaos.counts.kills < kills * number // (len(events) + 1):
                    chaos.kill_a_run()
                getattr(chaos, event)()
                log.info("%s: %s", event, chaos.counts)
            while chaos.counts.kills < kills:
                chaos.kill_a_run()
        counts = chaos.judge()
    finally:
        chaos.stop()
    counts.seconds = round(time.monotonic() - started, 1)
    return counts
