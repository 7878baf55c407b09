"""The product run from end to end in a folder of its own, by the commands that a person types."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import duckdb
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.cli.main import dbtRunner

from sandbox.postgres import Database

MASKING_KEY = "5a" * 32


@dataclass(frozen=True)
class Pipeline:
    """A lake, a vault and a warehouse, and the commands that fill them."""

    folder: Path
    environment: dict[str, str]

    def loaders(self, *arguments: str, exits: int = 0) -> dict:
        """Run `python -m loaders` and return what it said landed ({} on a failure that was expected)."""
        command = [sys.executable, "-m", "loaders", *arguments]
        done = subprocess.run(command, env=self.environment, cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == exits, f"{command} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout.splitlines()[-1]) if exits == 0 else {}

    def dbt(self, *arguments: str) -> None:
        """Run dbt, in this process: each start of its own would cost 4 s of CPU."""
        paths = ["--target-path", str(self.folder / "target"), "--log-path", str(self.folder / "logs")]
        with patch.dict(os.environ, self.environment):
            done = dbtRunner().invoke([*arguments, *paths, "--quiet"])
        DuckDBConnectionManager.close_all_connections()
        assert done.success, f"dbt {arguments} failed: {done.exception or 'see what it printed'}"

    def query(self, statement: str) -> list[tuple]:
        with duckdb.connect(str(self.folder / "lake/warehouse.duckdb"), read_only=True) as connection:
            return connection.sql(statement).fetchall()


def new_pipeline(folder: Path, database: Database, **variables: str) -> Pipeline:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LAKEHOUSE_ENV_FILE": os.devnull,
        "LAKE_URI": str(folder / "lake"),
        "VAULT_URI": str(folder / "vault"),
        "CUSTOMER_DSN": database.dsn,
        "CUSTOMER_SNAPSHOT_DSN": database.snapshot_dsn,
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }
    pipeline = Pipeline(folder, environment | variables)
    Pipeline(folder, pipeline.environment | {"MASKING_KEY": MASKING_KEY}).loaders("key")
    return pipeline
