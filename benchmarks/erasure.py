"""Erasing one person from raw after 1, 10 and 30 days of history, beside a copy of all files without his values."""

import datetime as dt
import json
import logging
from pathlib import Path
from typing import NamedTuple

from benchmarks import past as history
from benchmarks.measure import Cost, measure, typical
from benchmarks.past import Past
from benchmarks.report import Section, Target
from benchmarks.world import ALTERNATIVES, LOADERS, environment

log = logging.getLogger(__name__)

DAYS, QUICK_DAYS = (1, 10, 30), (1, 2)
CHANGES_A_DAY, QUICK_CHANGES_A_DAY = 150_000, 600
PEOPLE, QUICK_PEOPLE = 2_300_000, 1_000
ROUNDS = 3
YEAR = 365  # days


class Erased(NamedTuple):
    """What it cost in a lake of so many days and megabytes, and how many events the person had."""

    days: int
    megabytes: float
    events: int
    ours: Cost
    copied: Cost


def run(work: Path, *, quick: bool) -> Section:
    changes, people = (QUICK_CHANGES_A_DAY, QUICK_PEOPLE) if quick else (CHANGES_A_DAY, PEOPLE)
    yesterday = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)
    found = []
    for days in QUICK_DAYS if quick else DAYS:
        folder = work / f"{days} days"
        past = Past(days, changes, people, yesterday)
        log.info("erasure: writing %d days of history", days)
        history.write_changes(past, folder / "lake")
        found.append(erase(folder, past, 1 if quick else ROUNDS))
    return report(found)


def erase(folder: Path, past: Past, rounds: int) -> Erased:
    settings = environment(folder, DOCS_URI=str(folder / "docs"))
    size = sum(file.stat().st_size for file in (folder / "lake").rglob("*.parquet")) / 1e6
    ours, copied, events = [], [], 0
    for user_id in map(str, past.ids[-rounds:]):  # who signed up last: each has an event at least
        copied.append(measure([*ALTERNATIVES, "erase", user_id], settings, folder).cost)
        done = measure([*LOADERS, "erase", "--user-id", user_id], settings, folder)
        ours.append(done.cost)
        events = max(events, json.loads(done.output.splitlines()[-1])["events"])
        log.info("erasure: %d days took %.1f s", past.days, done.cost.wall)
    return Erased(past.days, size, events, typical(ours), typical(copied))


def report(found: list[Erased]) -> Section:
    least, most = found[0], found[-1]
    a_day = (most.ours.cpu - least.ours.cpu) / (most.days - least.days)
    ratio = most.ours.cpu / most.copied.cpu
    return Section(
        "Erasing one person",
        ("days", "MB", "his events", "s", "CPU s", "peak MB", "copy by DuckDB: s", "CPU s", "we use of its CPU"),
        [
            (
                f"{each.days}",
                f"{each.megabytes:,.0f}",
                f"{each.events}",
                f"{each.ours.wall:.1f}",
                f"{each.ours.cpu:.1f}",
                f"{each.ours.memory:.0f}",
                f"{each.copied.wall:.1f}",
                f"{each.copied.cpu:.1f}",
                f"{each.ours.cpu / each.copied.cpu:.2f}x",
            )
            for each in found
        ],
        [Target("less CPU than a copy of all files", f"{ratio:.2f}x", ratio < 1)],
        [
            f"Each day more costs {a_day:.2f} CPU s, so a year, by the same line, "
            f"{least.ours.cpu + a_day * (YEAR - least.days):.0f} CPU s: not measured."
        ],
    )
