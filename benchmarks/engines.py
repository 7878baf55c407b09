"""The same graph on each engine, from the same raw files: a first build and a later one, against DuckDB's.

Athena and Redshift are the local ones: adapters and statements are real, the seconds are Trino's and PostgreSQL's.
"""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import Cost, measure
from benchmarks.report import Section
from benchmarks.world import DBT, LOADERS, MASKING_KEY, customer_database, customer_settings, environment
from sandbox import athena, customer_app, postgres, redshift
from sandbox.characters import characters
from sandbox.disney_api import DisneyApi

log = logging.getLogger(__name__)

PEOPLE, QUICK_PEOPLE = 5_000, 50
CHARACTERS, QUICK_CHARACTERS = 9_800, 20
NEW_CHANGES = 520  # of 150,000 a day, those of five minutes
# In a quick run a few models are enough to show that it works.
QUICK_SELECT = {"lake": ("--select", "+characters"), "warehouse": ("--select", "dim_characters")}
AS_THE_DAG = ("--indirect-selection", "buildable", "--exclude-resource-type", "unit_test")


class Engine(NamedTuple):
    """An engine: the selectors that it builds, dbt's target and settings, and its log, a line for each statement."""

    name: str
    builds: tuple[str, ...]
    target: str
    settings: dict[str, str]
    log: Path | None

    def statements(self) -> int:
        if self.log is None or not self.log.exists():
            return 0
        return sum("login" not in json.loads(line) for line in self.log.read_text().splitlines())


class Build(NamedTuple):
    """One build of some layers on an engine."""

    engine: str
    layers: str
    number: int  # 0: the first
    cost: Cost
    statements: int


def run(work: Path, *, quick: bool) -> Section:
    catalogue = characters(QUICK_CHARACTERS if quick else CHARACTERS)
    with customer_database(work) as database, DisneyApi(catalogue) as api, engines(work) as each:
        duckdb, local, _ = each
        settings = customer_settings(database) | {"DISNEY_API_URL": api.url, "MASKING_KEY": MASKING_KEY}
        customer_app.seed_people(database.app_dsn, QUICK_PEOPLE if quick else PEOPLE)
        measure([*LOADERS, "key"], local.settings | settings, work)
        builds = []
        for number in range(1 if quick else 2):
            for source in ("users", "disney"):
                measure([*LOADERS, source], local.settings | settings, work)
            copy_out(local, duckdb)
            if number == 0:
                create = [*DBT, "run-operation", "create_raw_tables", "--target", local.target]
                measure(create, local.settings, work)
            builds += [build(engine, layers, number, work, quick) for engine in each for layers in engine.builds]
            customer_app.write_changes(database.app_dsn, changes=NEW_CHANGES, seed=number)
            api.change()
    return report(builds)


@contextmanager
def engines(work: Path) -> Iterator[tuple[Engine, Engine, Engine]]:
    """DuckDB, Athena and Redshift, of which the last reads what DuckDB has built of the lake."""
    duckdb = Engine("DuckDB", ("lake", "warehouse"), "local", environment(work / "duckdb"), None)
    before = os.environ.get("SANDBOX_HOME")
    os.environ["SANDBOX_HOME"] = str(work / "engines")
    try:
        of_athena = athena.exports(athena.start())
        server = redshift.start(port=postgres.free_port(), environment=os.environ | duckdb.settings)
        of_redshift = duckdb.settings | server.exports({})
        yield (
            duckdb,
            Engine("Athena", ("lake", "warehouse"), "athena", environment(work / "athena", **of_athena), athena.log()),
            Engine("Redshift", ("warehouse",), "redshift", of_redshift, server.log),
        )
    finally:
        redshift.stop()
        athena.stop()
        os.environ.pop("SANDBOX_HOME")
        if before:
            os.environ["SANDBOX_HOME"] = before


def copy_out(lake: Engine, duckdb: Engine) -> None:
    """Bring raw and the vault out of S3 to where DuckDB reads them."""
    s3 = athena.client("s3", lake.settings["AWS_ENDPOINT_URL"])
    for bucket, prefix, folder in (("lake", "raw/", "LAKE_URI"), ("vault", "", "VAULT_URI")):
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for found in page.get("Contents", []):
                path = Path(duckdb.settings[folder], found["Key"])
                path.parent.mkdir(parents=True, exist_ok=True)
                s3.download_file(bucket, found["Key"], str(path))


def build(engine: Engine, layers: str, number: int, work: Path, quick: bool) -> Build:
    """Build some layers by dbt as the DAG does."""
    selected = QUICK_SELECT[layers] if quick else ("--selector", layers)
    before = engine.statements()
    cost = measure([*DBT, "build", *selected, *AS_THE_DAG, "--target", engine.target], engine.settings, work).cost
    done = Build(engine.name, layers, number, cost, engine.statements() - before)
    log.info("engines: %s, %s, build %d: %.1f s", engine.name, layers, number + 1, cost.wall)
    return done


def report(builds: list[Build]) -> Section:
    """Each build against DuckDB's of the same layers and the same number."""
    own = {(done.layers, done.number): done.cost for done in builds if done.engine == "DuckDB"}
    title = {"lake": "staging and curated", "warehouse": "refined"}
    rows = [
        (
            f"{title[done.layers]}, {'a later build' if done.number else 'the first build'}",
            done.engine,
            f"{done.cost.wall:.1f}",
            f"{done.cost.wall / own[done.layers, done.number].wall:.1f}x",
            f"{done.cost.cpu:.1f}",
            f"{done.statements:,}" if done.statements else "-",
        )
        for done in sorted(builds, key=lambda done: (done.layers, done.number))
    ]
    return Section(
        f"One build on each engine, {NEW_CHANGES} new changes in the later one",
        ("build", "engine", "s", "of DuckDB's", "dbt's CPU s", "statements"),
        rows,
        [],
        ["Statements are what AWS would be sent. Seconds are those of Trino and PostgreSQL on this machine, not AWS's"],
    )
