"""One cycle (land both sources, `dbt build`) after 1, 30 and 365 days of history, and the rebuilding of all of it."""

import datetime as dt
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psycopg

from benchmarks import past as history
from benchmarks.measure import Cost, measure, typical
from benchmarks.past import Past
from benchmarks.report import Section, Target
from benchmarks.world import DBT, LOADERS, MASKING_KEY, customer_database, customer_settings, environment
from sandbox import customer_app
from sandbox.characters import characters
from sandbox.disney_api import DisneyApi

log = logging.getLogger(__name__)

DAYS, QUICK_DAYS = (1, 30, 365), (2,)
CHANGES_A_DAY, QUICK_CHANGES_A_DAY = 150_000, 600
PEOPLE, QUICK_PEOPLE = 2_300_000, 1_000  # with those who sign up in a year, 5 million
CHARACTERS, QUICK_CHARACTERS = 9_800, 300
NEW_CHANGES = 520  # of 150,000 a day, those of five minutes
TABLE = 20_000  # people of the live table, which holds a part of those of history
ROUNDS = 5
GROWTH = 1.2  # the longest history's cycle against the shortest one's
REBUILD_SECONDS, REBUILD_MEGABYTES = 300, 4_000


class Lake(NamedTuple):
    """A lake with so many days of history."""

    days: int
    changes: int
    folder: Path
    settings: dict[str, str]

    def run(self, *command: str) -> Cost:
        return measure(command, self.settings, self.folder).cost


class Cycle(NamedTuple):
    """What the parts of one cycle cost."""

    land_users: Cost
    land_characters: Cost
    build: Cost

    @property
    def whole(self) -> Cost:
        return self.land_users + self.land_characters + self.build


def run(work: Path, *, quick: bool) -> Section:
    lengths = QUICK_DAYS if quick else DAYS
    past = Past(
        max(lengths),
        QUICK_CHANGES_A_DAY if quick else CHANGES_A_DAY,
        QUICK_PEOPLE if quick else PEOPLE,
        dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1),
    )
    catalogue = characters(QUICK_CHARACTERS if quick else CHARACTERS)
    log.info("cycle: writing %d days of history", past.days)
    history.write(past, work / "history", catalogue)
    with customer_database(work) as database, DisneyApi(catalogue) as api:
        fill_table(database.app_dsn, past.ids, min(TABLE, past.people))
        settings = customer_settings(database) | {"DISNEY_API_URL": api.url}
        lakes = [begin(work, past, days, settings) for days in lengths]
        rebuilds = [rebuild(lake) for lake in lakes]
        rounds = []
        for number in range(1 if quick else 1 + ROUNDS):  # the first one of each lake warms up
            cycles = []
            for lake in lakes:  # one after the other in each round: what else the machine does hits all alike
                customer_app.write_changes(database.app_dsn, changes=NEW_CHANGES, seed=number)
                api.change()
                cycles.append(cycle(lake))
            rounds.append(cycles)
    cycles = [Cycle(*map(typical, zip(*of_lake, strict=True))) for of_lake in zip(*rounds[not quick :], strict=True)]
    return report(lakes, rebuilds, cycles)


def fill_table(dsn: str, ids: range, count: int) -> None:
    """Give the live table some of the people of history; those who sign up from now on get ids of their own."""
    restart = "ALTER TABLE public.usuarios ALTER COLUMN id RESTART WITH {}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(restart.format(ids.start))
        customer_app.seed_people(dsn, count)
        connection.execute(restart.format(ids.stop))


def begin(work: Path, past: Past, days: int, settings: dict[str, str]) -> Lake:
    """A lake with so many days of history, whose next changes come from the live database.

    The loader begins an epoch on that database with a snapshot, as it would after a move to another server. The file is
    taken away again: the live table holds only a part of the people, and the others would all count as deleted.
    """
    folder = work / f"{days} days"
    lake = Lake(days, days * past.changes, folder, environment(folder, **settings))
    history.begin(past, days, work / "history", folder / "lake")
    measure([*LOADERS, "key"], lake.settings | {"MASKING_KEY": MASKING_KEY}, folder)
    lake.run(*LOADERS, "users", "--resnapshot")
    (snapshot,) = folder.glob("lake/raw/customer/usuarios/*/2-*.parquet")
    snapshot.unlink()
    return lake


def rebuild(lake: Lake) -> Cost:
    """Build all from raw."""
    cost = lake.run(*DBT, "build", "--full-refresh")
    log.info("cycle: %d days rebuilt in %.0f s, %.0f MB", lake.days, cost.wall, cost.memory)
    return cost


def cycle(lake: Lake) -> Cycle:
    build = (*DBT, "build", "--exclude", "tag:daily")
    done = Cycle(lake.run(*LOADERS, "users"), lake.run(*LOADERS, "disney"), lake.run(*build))
    log.info("cycle: %d days of history, %.1f s", lake.days, done.whole.wall)
    return done


def report(lakes: Sequence[Lake], rebuilds: Sequence[Cost], cycles: Sequence[Cycle]) -> Section:
    steps = [
        {
            "land users": cycle.land_users,
            "land characters": cycle.land_characters,
            "dbt build": cycle.build,
            "the whole cycle": cycle.whole,
            "dbt build --full-refresh": rebuild,
        }
        for cycle, rebuild in zip(cycles, rebuilds, strict=True)
    ]
    first, last, refresh = cycles[0].whole, cycles[-1].whole, rebuilds[-1]
    growth = last.wall / first.wall
    return Section(
        f"One cycle with {NEW_CHANGES} new changes",
        ("days", "changes", "step", "s", "of the first", "CPU s", "of the first", "peak MB"),
        [
            (
                f"{lake.days}",
                f"{lake.changes:,}",
                step,
                f"{cost.wall:.1f}",
                f"{cost.wall / steps[0][step].wall:.2f}x",
                f"{cost.cpu:.1f}",
                f"{cost.cpu / steps[0][step].cpu:.2f}x",
                f"{cost.memory:,.0f}",
            )
            for lake, costs in zip(lakes, steps, strict=True)
            for step, cost in costs.items()
        ],
        [
            Target(
                f"{lakes[-1].days} days of history at most {GROWTH}x the cycle of {lakes[0].days}",
                f"{growth:.2f}x ({last.cpu / first.cpu:.2f}x in CPU seconds); a full refresh is "
                f"{refresh.wall / cycles[-1].build.wall:.0f}x the build",
                growth <= GROWTH,
            ),
            Target(
                f"rebuilding {lakes[-1].days} days within {REBUILD_SECONDS} s and {REBUILD_MEGABYTES:,} MB",
                f"{refresh.wall:.0f} s and {refresh.memory:,.0f} MB",
                refresh.wall < REBUILD_SECONDS and refresh.memory < REBUILD_MEGABYTES,
            ),
        ],
    )
