"""What each way of reading costs the customer database itself: CPU seconds of its server processes."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg

from benchmarks.measure import measure
from benchmarks.report import Section, Target
from benchmarks.world import LOADERS, customer_database, customer_settings, environment
from sandbox import customer_app
from sandbox.postgres import APP, LOADER, SERVERS, Database

log = logging.getLogger(__name__)

PEOPLE, QUICK_PEOPLE = 1_000_000, 500
DAY, QUICK_DAY = 150_000, 600  # changes
FIVE_MINUTES = 520  # changes
RUNS, QUICK_RUNS = 20, 1
RUNS_A_DAY = 288
SHARE = 1.0  # % of one core
TICK = 0.01  # seconds, in which Linux tells CPU time
REAPED = 0.2  # seconds until a server has surely taken note that a process has ended
OURS, ASKED = "our loader, five minutes' changes", "a report on the primary"
REPORT = """
    SELECT uf, status, date_trunc('month', criado_em), count(*), avg(renda_mensal), count(DISTINCT cidade)
    FROM public.usuarios GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


class Reading(NamedTuple):
    """What one reading took of the primary and of the standby, in CPU seconds."""

    reader: str
    primary: float
    standby: float


def run(work: Path, *, quick: bool) -> Section:
    people, day, runs = (QUICK_PEOPLE, QUICK_DAY, QUICK_RUNS) if quick else (PEOPLE, DAY, RUNS)
    with customer_database(work) as database:
        log.info("source: %s people", f"{people:,}")
        customer_app.seed_people(database.app_dsn, people)
        settle(database)
        return report(people, day, list(read(work, database, day, runs)))


def settle(database: Database) -> None:
    """Vacuum once and then never: autovacuum would be counted, and would disturb readers of the replica."""
    with psycopg.connect(database.admin_dsn, autocommit=True) as admin:
        admin.execute("ALTER SYSTEM SET autovacuum = off")
        admin.execute("SELECT pg_reload_conf()")
        admin.execute("VACUUM ANALYZE public.usuarios")


def read(work: Path, database: Database, day: int, runs: int) -> Iterator[Reading]:
    """Have the database read by the loader and by those that it stands in for; nobody writes meanwhile."""
    lakes = [work / name for name in ("lake", "direct")]
    for lake in lakes:
        lake.mkdir()
    ours = environment(lakes[0], **customer_settings(database))
    direct = environment(lakes[1], CUSTOMER_DSN=database.dsn)  # names no replica

    def load(settings: Mapping[str, str]) -> None:
        measure([*LOADERS, "users"], settings, work)

    def ask(dsn: str) -> None:
        with psycopg.connect(dsn) as connection:
            connection.execute(REPORT).fetchall()

    # What reads, how often, and how many changes are written before it.
    steps: dict[str, tuple[Callable[[], None], int, int]] = {
        "first snapshot, from the replica": (lambda: load(ours), 1, 0),
        "first snapshot, from the primary": (lambda: load(direct), 1, 0),
        "our loader, a day's changes": (lambda: load(ours), 1, day),
        OURS: (lambda: load(ours), runs, FIVE_MINUTES),
        "our loader, nothing new": (lambda: load(ours), runs, 0),
        ASKED: (lambda: ask(database.dsn), runs, 0),
        "the report on the replica": (lambda: ask(database.snapshot_dsn), runs, 0),
    }
    with watch(work, database) as spent:
        for reader, (reading, times, changes) in steps.items():
            total = Counter()
            for _ in range(times):
                if changes:
                    customer_app.write_changes(database.app_dsn, changes=changes)
                before = spent()
                reading()
                total.update({server: now - before[server] for server, now in spent().items()})
            yield Reading(reader, *(total[server] / times for server in SERVERS))
            log.info("source: %s: %.3f CPU s of the primary", reader, total["primary"] / times)


@contextmanager
def watch(work: Path, database: Database) -> Iterator[Callable[[], dict[str, float]]]:
    """Says how many CPU seconds the processes took that each server had started and that have ended.

    It waits until readers and writers have gone. Its own connections stay open, and so do not count.
    """
    gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE usename = ANY(%s) AND pid <> pg_backend_pid()"
    with (
        psycopg.connect(database.admin_dsn, autocommit=True) as primary,
        psycopg.connect(database.snapshot_dsn, autocommit=True) as standby,
    ):
        connections = dict(zip(SERVERS, (primary, standby), strict=True))

        def spent() -> dict[str, float]:
            for connection in connections.values():
                while not connection.execute(gone, [[APP, LOADER]]).fetchone()[0]:
                    time.sleep(TICK)
            time.sleep(REAPED)
            return {server: ended(work / "sandbox/postgres" / server) for server in SERVERS}

        yield spent


def ended(data: Path) -> float:
    """CPU seconds of the ended children of a data folder's server (Linux, proc(5): cutime and cstime)."""
    pid = (data / "postmaster.pid").read_text().split("\n", 1)[0]
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) * TICK


def report(people: int, day: int, readings: list[Reading]) -> Section:
    by_reader = {reading.reader: reading for reading in readings}
    a_day = by_reader[OURS].primary * RUNS_A_DAY
    share = a_day / (24 * 60 * 60) * 100
    reports = a_day / max(by_reader[ASKED].primary, TICK)
    return Section(
        f"What the source bears: {people:,} people, {day:,} changes a day",
        ("what reads", "CPU s of the primary", "CPU s of the replica"),
        [(reading.reader, f"{reading.primary:.3f}", f"{reading.standby:.3f}") for reading in readings],
        [
            Target(
                f"{RUNS_A_DAY} runs a day take at most {SHARE:.0f} % of a core of the primary",
                f"{share:.2f} %",
                share <= SHARE,
            )
        ],
        [f"These {RUNS_A_DAY} runs take {a_day:.0f} CPU s of the primary, as much as {reports:.0f} such reports."],
    )
