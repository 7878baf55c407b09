"""A small lake that the product fills and DuckDB builds: what every other engine is compared with."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

import duckdb
import psycopg
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.cli.main import dbtRunner

from sandbox import cost_export, customer_app, disney_api
from sandbox.characters import characters
from sandbox.postgres import Database
from tests.engines import compare
from tests.pipeline.product import Pipeline, new_pipeline

ROOT = Path(__file__).parents[2]
PEOPLE, CHARACTERS = 150, 60
NOTHING: Mapping[str, str] = MappingProxyType({})
# As the DAG calls dbt (dags/lakehouse_dbt.py).
AS_THE_DAG = ("--exclude-resource-type", "unit_test")


class SmallLake:
    """Made-up people, characters and a bill, landed by the loaders; `build` is DuckDB's build of all layers."""

    def __init__(self, folder: Path, database: Database, api: disney_api.DisneyApi) -> None:
        self.folder, self.database, self.api = folder, database, api
        self.pipeline: Pipeline = new_pipeline(folder, database, DISNEY_API_URL=api.url)
        customer_app.create_table(database.app_dsn)
        customer_app.seed_people(database.app_dsn, PEOPLE, seed=1)
        cost_export.deliver(folder / "lake", datetime.now(UTC).date(), ended=False)

    @staticmethod
    def api_of_few_characters() -> disney_api.DisneyApi:
        return disney_api.DisneyApi(records=characters()[:CHARACTERS])

    def land(self) -> None:
        self.pipeline.loaders("disney")
        self.pipeline.loaders("users")

    def change(self, *statements: str, changes: int = 40, seed: int = 2) -> None:
        """Let the application write, then run the statements, then land all of it."""
        if changes:
            customer_app.write_changes(self.database.app_dsn, changes=changes, seed=seed)
        with psycopg.connect(self.database.app_dsn) as app:
            for statement in statements:
                app.execute(statement)
        self.pipeline.loaders("users")

    def build(self, *arguments: str) -> None:
        """Build the lake, and refined beside it as DuckDB does."""
        self.dbt("build", "--resource-type", "seed", "model", *arguments, "--target", "local")

    def dbt(self, *arguments: str, profiles: Path = ROOT, environment: Mapping[str, str] = NOTHING) -> Any:
        """Run dbt in this process; returns its result. Raises AssertionError with what failed."""
        done = self.try_dbt(*arguments, profiles=profiles, environment=environment)
        if not done.success:
            failed = [
                f"{getattr(result, 'node', result).unique_id}: {result.message}"
                for result in getattr(done.result, "results", [])
                if result.status not in ("success", "pass", "skipped", "warn", "no-op")
            ]
            raise AssertionError(f"dbt {' '.join(arguments)}: {done.exception or failed}")
        return done.result

    def try_dbt(self, *arguments: str, profiles: Path = ROOT, environment: Mapping[str, str] = NOTHING) -> Any:
        """Run dbt in this process; returns dbtRunner's answer, whatever came of it.

        dbt parses the whole project again when a setting or a variable differs from those of the last run in the same
        target folder, so runs that differ in these have folders of their own.
        """
        options = dict(pairwise(arguments))
        readers = [value for name, value in sorted(environment.items()) if name.endswith("_READERS")]
        parsed_as = json.dumps([options.get("--target"), options.get("--vars"), str(profiles), readers])
        target = self.folder / "targets" / hashlib.sha256(parsed_as.encode()).hexdigest()[:8]
        paths = ["--project-dir", str(ROOT / "dbt_project"), "--profiles-dir", str(profiles)]
        paths += ["--quiet", "--no-write-json"]
        paths += ["--target-path", str(target), "--log-path", str(self.folder / "logs")]
        with patch.dict(os.environ, self.pipeline.environment | environment):
            done = dbtRunner().invoke([*arguments, *paths])
        DuckDBConnectionManager.close_all_connections()
        return done

    def rotate_key(self, key: str) -> None:
        """Let another masking key take the vault's place."""
        Pipeline(self.folder, self.pipeline.environment | {"MASKING_KEY": key}).loaders("key", "--rotate")

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        return self.pipeline.query(statement)

    def write(self, statement: str) -> None:
        """Change DuckDB's file, behind dbt's back."""
        with duckdb.connect(str(self.folder / "lake/warehouse.duckdb")) as connection:
            connection.execute(statement)

    def relations(self, schema: str = "refined") -> dict[str, compare.Relation]:
        """DuckDB's tables and views of a schema, whole."""
        listed = "select table_name from information_schema.tables where table_schema = ? order by table_name"
        with duckdb.connect(str(self.folder / "lake/warehouse.duckdb"), read_only=True) as connection:
            names = [name for (name,) in connection.execute(listed, [schema]).fetchall()]
            return {name: read(connection.execute, f'select * from "{schema}"."{name}"') for name in names}


def read(execute: Callable[[str], Any], query: str) -> compare.Relation:
    """A query's rows by a function that gives a DB-API cursor."""
    cursor = execute(query)
    columns: Sequence[str] = [column[0] for column in cursor.description]
    return compare.relation(columns, cursor.fetchall())
