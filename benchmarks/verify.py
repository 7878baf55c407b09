"""`python -m loaders verify` against reading the whole table and comparing it row by row."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import Cost, measure
from benchmarks.report import Section, Target
from benchmarks.source import settle, watch
from benchmarks.world import ALTERNATIVES, DBT, LOADERS, customer_database, customer_settings, environment
from sandbox import customer_app, postgres

log = logging.getLogger(__name__)

PEOPLE, QUICK_PEOPLE = 5_000_000, 500
LIMIT = 60.0  # CPU seconds on each side


class Comparison(NamedTuple):
    """What one way of comparing took of its own process, of the primary and of the replica (CPU seconds)."""

    name: str
    ours: Cost
    primary: float
    replica: float


def run(work: Path, *, quick: bool) -> Section:
    people = QUICK_PEOPLE if quick else PEOPLE
    with customer_database(work) as database:
        log.info("verify: %s people", f"{people:,}")
        customer_app.seed_people(database.app_dsn, people)
        settle(database)
        postgres.wait_for_standby(postgres.running(work / "sandbox"))
        folder = work / "lake"
        folder.mkdir()
        settings = environment(folder, **customer_settings(database))
        measure([*LOADERS, "users"], settings, folder)
        measure([*DBT, "run", "--select", "+users", "--quiet"], settings, folder)
        ways = {
            "`verify`": [*LOADERS, "verify"],
            "the whole table copied and compared in DuckDB": [*ALTERNATIVES, "compare"],
        }
        return report(people, [compare(name, command, work, database, settings) for name, command in ways.items()])


def compare(
    name: str, command: Sequence[str], work: Path, database: postgres.Database, settings: dict[str, str]
) -> Comparison:
    with watch(work, database) as spent:
        before = spent()
        done = measure(command, settings, work / "lake")
        after = spent()
    assert json.loads(done.output.splitlines()[-1])["is_equal"]
    log.info("verify: %s took %.1f s", name, done.cost.wall)
    return Comparison(name, done.cost, *(after[server] - before[server] for server in postgres.SERVERS))


def report(people: int, comparisons: list[Comparison]) -> Section:
    ours, theirs = comparisons
    return Section(
        f"Comparing the lake with the source: {people:,} people",
        ("how", "s", "CPU s of the process", "peak MB", "CPU s of the primary", "CPU s of the replica"),
        [
            (
                each.name,
                f"{each.ours.wall:.1f}",
                f"{each.ours.cpu:.1f}",
                f"{each.ours.memory:.0f}",
                f"{each.primary:.2f}",
                f"{each.replica:.2f}",
            )
            for each in comparisons
        ],
        [
            Target(
                f"less than {LIMIT:.0f} CPU s on each side",
                f"{ours.ours.cpu:.0f} s of the process, {ours.replica:.0f} s of the replica",
                max(ours.ours.cpu, ours.replica) < LIMIT,
            )
        ],
        [
            f"The process takes {ours.ours.cpu / theirs.ours.cpu:.1f}x of the CPU that the copy takes, the replica "
            f"{ours.replica / max(theirs.replica, 0.01):.1f}x; the process lands, builds and starts dbt besides."
        ],
    )
