"""A full crawl of the Disney API's stand-in, beside dlt's rest_api and beside our own loader on one connection."""

import json
import logging
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.measure import Cost, measure, typical
from benchmarks.report import Section, Target
from benchmarks.world import ALTERNATIVES, environment
from sandbox import disney_api
from sandbox.characters import characters

log = logging.getLogger(__name__)

CHARACTERS, QUICK_CHARACTERS = 9_800, 300
LATENCY = 0.02  # seconds a page
ROUNDS = 5
SPEED_UP = 3.0

OURS = "our loader, 4 connections"
COMMANDS = {
    OURS: [*ALTERNATIVES, "disney", "4"],
    "our loader, 1 connection": [*ALTERNATIVES, "disney", "1"],
    "dlt, rest_api": [*ALTERNATIVES, "dlt-disney"],
}


class Crawl(NamedTuple):
    """The median of some crawls; only `cost` counts the start of Python and imports."""

    reader: str
    rows: int
    seconds: float
    cost: Cost


def run(work: Path, *, quick: bool) -> Section:
    records = characters(QUICK_CHARACTERS if quick else CHARACTERS)
    with disney_api.DisneyApi(records, latency=LATENCY) as api:
        crawls = [crawl(work, api.url, name, command, 1 if quick else ROUNDS) for name, command in COMMANDS.items()]
    return report(crawls)


def crawl(work: Path, url: str, name: str, command: list[str], rounds: int) -> Crawl:
    runs = []
    for number in range(rounds):
        folder = work / f"{name} {number}"
        folder.mkdir()
        runs.append(measure(command, environment(folder, DISNEY_API_URL=url), folder))
    said = [json.loads(run.output.splitlines()[-1]) for run in runs]
    seconds = median(line["seconds"] for line in said)
    log.info("disney: %s took %.2f s", name, seconds)
    return Crawl(name, said[0]["rows"], seconds, typical([run.cost for run in runs]))


def report(crawls: list[Crawl]) -> Section:
    ours, one_connection, _ = crawls
    speed_up = one_connection.seconds / ours.seconds
    return Section(
        "A full crawl of the Disney API",
        ("reader", "characters", "crawl s", "we are faster by", "with start-up s", "CPU s", "peak MB"),
        [
            (
                crawl.reader,
                f"{crawl.rows:,}",
                f"{crawl.seconds:.2f}",
                "" if crawl is ours else f"{crawl.seconds / ours.seconds:.1f}x",
                f"{crawl.cost.wall:.2f}",
                f"{crawl.cost.cpu:.1f}",
                f"{crawl.cost.memory:.0f}",
            )
            for crawl in crawls
        ],
        [Target(f"{SPEED_UP:.0f}x one connection", f"{speed_up:.1f}x", speed_up >= SPEED_UP)],
    )
