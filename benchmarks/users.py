"""The users loader: changes a second and peak memory, beside dlt's sql_database on the same table."""

import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.measure import Cost, measure, typical
from benchmarks.report import Section, Target
from benchmarks.world import ALTERNATIVES, LOADERS, customer_database, customer_settings, environment
from sandbox import customer_app
from sandbox.postgres import Database

log = logging.getLogger(__name__)

ROUNDS = {150_000: 3, 1_500_000: 1}  # how often each number of changes is read
QUICK_ROUNDS = {2_000: 1}
CHANGES_PER_SECOND = 80_000
MEGABYTES = 150

ARROWS_OWN = {"MIMALLOC_PURGE_DELAY": "10"}

OURS, DLT_CONNECTORX, DLT = "our loader", "dlt, ConnectorX", "dlt, its default (SQLAlchemy)"


class Reading(NamedTuple):
    """What one reader made of so many changes; only `cost` counts the start of Python and imports."""

    reader: str
    changes: int
    rows: int
    seconds: float
    cost: Cost

    @property
    def rate(self) -> float:
        return self.rows / self.seconds


def run(work: Path, *, quick: bool) -> Section:
    rounds = QUICK_ROUNDS if quick else ROUNDS
    readings = []
    for changes, times in rounds.items():
        with customer_database(work / str(changes)) as database:
            readings += read_changes(work / str(changes), database, changes, times)
    return report(readings)


def read_changes(work: Path, database: Database, changes: int, times: int) -> list[Reading]:
    """Let the customer application write to a table of as many people, then let every reader take what is new."""
    customer_app.seed_people(database.app_dsn, changes)
    settings = customer_settings(database)
    lakes = [environment(folder(work, f"ours {number}"), **settings) for number in range(times)]
    for lake in lakes:  # each has a slot of its own, so all see the same changes
        measure([*LOADERS, "users"], lake, work)
    since = datetime.now(UTC)
    log.info("users: the customer application writes %s changes", f"{changes:,}")
    customer_app.write_changes(database.app_dsn, changes=changes)

    commands = {OURS: [*LOADERS, "users"]} | {
        name: [*ALTERNATIVES, "dlt-users", backend, since.isoformat()]
        for name, backend in ((DLT_CONNECTORX, "connectorx"), (DLT, "sqlalchemy"))
    }
    readings = []
    for name, command in commands.items():
        allocator = {} if name == OURS else ARROWS_OWN  # which importing our package would change
        runs = [
            measure(command, lake | allocator, folder(work, f"{name} {number}")) for number, lake in enumerate(lakes)
        ]
        said = [json.loads(run.output.splitlines()[-1]) for run in runs]
        seconds = median(line["seconds"] for line in said)
        log.info("users: %s took %.1f s for %s changes", name, seconds, f"{changes:,}")
        readings.append(Reading(name, changes, said[0]["rows"], seconds, typical([run.cost for run in runs])))
    return readings


def folder(work: Path, name: str) -> Path:
    path = work / name
    path.mkdir()
    return path


def report(readings: list[Reading]) -> Section:
    ours = {reading.changes: reading for reading in readings if reading.reader == OURS}
    slowest = min(reading.rate for reading in ours.values())
    largest = max(reading.cost.memory for reading in ours.values())
    return Section(
        "The users loader",
        ("changes", "reader", "rows it saw", "rows/s", "we are faster by", "with start-up s", "CPU s", "peak MB"),
        [
            (
                f"{reading.changes:,}",
                reading.reader,
                f"{reading.rows:,}",
                f"{reading.rate:,.0f}",
                "" if reading.reader == OURS else f"{ours[reading.changes].rate / reading.rate:.1f}x",
                f"{reading.cost.wall:.1f}",
                f"{reading.cost.cpu:.1f}",
                f"{reading.cost.memory:.0f}",
            )
            for reading in readings
        ],
        [
            Target(f"at least {CHANGES_PER_SECOND:,} changes/s", f"{slowest:,.0f}", slowest >= CHANGES_PER_SECOND),
            Target(f"peak memory below {MEGABYTES} MB", f"{largest:.0f} MB", largest < MEGABYTES),
        ],
    )
