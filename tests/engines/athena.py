"""A small lake on the local Athena, and its twin: DuckDB over the same files of raw, copied out of the bucket."""

import io
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb
import trino
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.cli.main import dbtRunner

from loaders.settings import Settings, from_environment
from loaders.verify.lake import Lake
from loaders.verify.source import Bucket
from sandbox import athena, customer_app
from sandbox.disney_api import DisneyApi
from sandbox.postgres import Database
from tests.conftest import LocalAthena
from tests.engines import compare
from tests.pipeline.product import Pipeline

ROOT = Path(__file__).parents[2]
PEOPLE, CHARACTERS = 120, 60
LAYERS = ("staging", "curated", "refined")
WIDTH = 64  # keys in a bucket of `verify`
# As the DAGs call dbt (dags/lakehouse_dbt.py).
AS_THE_DAG = ("--exclude-resource-type", "unit_test")


class World:
    """A lake in the local Athena's buckets, filled by the loaders, and `twin`: the folder in which DuckDB builds it."""

    def __init__(self, folder: Path, local: LocalAthena, database: Database, api: DisneyApi) -> None:
        self.folder, self.engine, self.log = folder, local.engine, local.log
        self.database, self.api = database, api
        self.twin = folder / "twin"
        shared = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LAKEHOUSE_ENV_FILE": os.devnull,
            "USER": "ana",  # whose schemas athena_dev builds
            "DO_NOT_TRACK": "1",
            "CUSTOMER_DSN": database.dsn,
            "CUSTOMER_SNAPSHOT_DSN": database.snapshot_dsn,
            "DISNEY_API_URL": api.url,
        }
        self.environment = shared | athena.exports(local.engine) | {"LAKE_FORMATION_TAGS": "true"}
        self.twin_environment = shared | {"LAKE_URI": str(self.twin / "lake"), "VAULT_URI": str(self.twin / "vault")}
        self.first_build: Any = None  # dbt's result
        self.erased_values: list[str] = []

    # ---------- the lake

    @contextmanager
    def settings(self, **variables: str) -> Iterator[Settings]:
        """The lake's settings, in the environment too, for what is called in this process."""
        with patch.dict(os.environ, self.environment | variables, clear=True):
            yield from_environment()

    def loaders(self, *arguments: str, **variables: str) -> dict[str, Any]:
        """Run `python -m loaders` and return what it said."""
        return Pipeline(self.folder, self.environment | variables).loaders(*arguments)

    def change(self, changes: int, seed: int) -> None:
        customer_app.write_changes(self.database.app_dsn, changes=changes, seed=seed)

    def client(self, service: str) -> Any:
        """boto3's client of moto below."""
        return athena.client(service, self.engine.aws_url)

    def put(self, path: Path, key: str) -> None:
        """Let a file arrive in the lake's bucket."""
        self.client("s3").upload_file(str(path), "lake", key)

    def objects(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """All objects below a prefix."""
        s3 = self.client("s3")
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [found["Key"] for page in pages for found in page.get("Contents", [])]

        def read(key: str) -> bytes:
            return s3.get_object(Bucket=bucket, Key=key)["Body"].read()

        with ThreadPoolExecutor(4) as pool:
            return dict(zip(keys, pool.map(read, keys), strict=True))

    def statements(self) -> list[dict[str, Any]]:
        """What Athena ran, in the order of the ends."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    # ---------- dbt

    def dbt(self, *arguments: str, target: str = "athena", **variables: str) -> Any:
        """Run dbt on Athena in this process and return its result. Raises AssertionError with what failed."""
        return self._dbt([*arguments, "--target", target], self.environment | variables)

    def printed(self, *arguments: str) -> str:
        """What a command of dbt's prints."""
        said = io.StringIO()
        with redirect_stdout(said):
            self.dbt(*arguments)
        return said.getvalue()

    def as_the_dag(self, suffix: str = "", *arguments: str, **variables: str) -> None:
        """Build both layers as the DAGs do: `suffix` `_every_five_minutes`, or none for what is daily."""
        for selector in ("lake", "warehouse"):
            self.dbt("build", "--selector", f"{selector}{suffix}", *AS_THE_DAG, *arguments, **variables)

    def build_twin(self, *arguments: str) -> None:
        """Copy raw and the vault out of the buckets, and let DuckDB build all layers of them."""
        for bucket, prefix in (("lake", "raw/"), ("vault", "")):
            _mirror(self.objects(bucket, prefix), self.twin / bucket, prefix)
        self._dbt(
            ["build", "--resource-type", "model", "--resource-type", "seed", *arguments, "--target", "local"],
            self.twin_environment,
        )

    def _dbt(self, arguments: list[str], environment: Mapping[str, str]) -> Any:
        target = arguments[arguments.index("--target") + 1]
        paths = ["--project-dir", str(ROOT / "dbt_project"), "--profiles-dir", str(ROOT), "--quiet"]
        paths += ["--target-path", str(self.folder / f"target-{target}"), "--log-path", str(self.folder / "logs")]
        with patch.dict(os.environ, environment, clear=True):
            done = dbtRunner().invoke([*arguments, *paths])
        DuckDBConnectionManager.close_all_connections()
        if not done.success:
            failed = [
                f"{result.node.name}: {result.message}"
                for result in getattr(done.result, "results", [])
                if result.status not in ("success", "pass", "skipped", "no-op")
            ]
            raise AssertionError(f"dbt {' '.join(arguments)}: {done.exception or failed}")
        return done.result

    def hashes(self, target: str, epoch: int, lsn: int) -> tuple[dict[int, Bucket], list[tuple[Any, ...]]]:
        """What `verify` asks of curated.users: the sums of all buckets, and the rows of one."""
        environment = self.environment if target == "athena" else self.twin_environment
        with patch.dict(os.environ, environment | {"LAKE_TARGET": target}, clear=True):
            lake = Lake(self.folder / f"verify-{target}")
            sums = lake.by_bucket(epoch, lsn, columns := lake.columns(), WIDTH)
            rows = sorted(lake.rows(epoch, lsn, columns, WIDTH, [min(sums)]))
        DuckDBConnectionManager.close_all_connections()
        assert rows
        return sums, rows

    # ---------- reading

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask Trino itself: values by their types, which Athena's API prints as text."""
        return [tuple(row) for row in self._ask(statement).fetchall()]

    def _ask(self, statement: str) -> Any:
        session = trino.dbapi.connect(
            host="127.0.0.1", port=self.engine.trino, user="test", catalog="awsdatacatalog", timezone="UTC"
        )
        return session.cursor().execute(statement)

    def relations(self, layer: str) -> list[str]:
        """The names of Athena's tables and views in a layer."""
        pages = self.client("glue").get_paginator("get_tables").paginate(DatabaseName=layer)
        return sorted(table["Name"] for page in pages for table in page["TableList"])

    def assert_equals_twin(self, layers: tuple[str, ...] = LAYERS) -> int:
        """Every relation of the layers is DuckDB's, row by row; returns how many rows were compared."""
        rows, told = 0, []
        listed = "select table_name from information_schema.tables where table_schema = ? order by table_name"
        with duckdb.connect(str(self.twin / "lake/warehouse.duckdb"), read_only=True) as connection:
            connection.execute("set timezone = 'UTC'")
            for layer in layers:
                names = [name for (name,) in connection.execute(listed, [layer]).fetchall()]
                assert names
                assert names == self.relations(layer)
                with ThreadPoolExecutor(4) as pool:
                    found = pool.map(self._read, [f'"{layer}"."{name}"' for name in names])
                    for name, theirs in zip(names, found, strict=True):
                        cursor = connection.execute(f'select * from "{layer}"."{name}"')
                        ours = compare.relation([column[0] for column in cursor.description], cursor.fetchall())
                        rows += ours.rows.total()
                        told += [f"{layer}.{name}: {line}" for line in compare.differences(ours, theirs)]
        assert not told, "\n".join(told)
        return rows

    def _read(self, relation: str) -> compare.Relation:
        cursor = self._ask(f"select * from {relation}")
        rows = cursor.fetchall()
        return compare.relation([column[0] for column in cursor.description], rows)


def _mirror(objects: Mapping[str, bytes], folder: Path, prefix: str) -> None:
    """Make the folder hold these objects below the prefix and nothing else."""
    for path in [path for path in (folder / prefix).rglob("*") if path.is_file()]:
        if str(path.relative_to(folder)) not in objects and path.suffix == ".parquet":
            path.unlink()
    for key, content in objects.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
