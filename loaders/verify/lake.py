"""curated.users at one LSN: hashes of its rows, computed by the engine that holds them, through dbt.

dbt connects to the engine, DuckDB or Athena, and holds the SQL (dbt_project/macros/verify).
"""

import io
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from loaders.environment import DEFAULTS
from loaders.errors import TransientError
from loaders.verify.source import Bucket, Column

MODELS = "+users"  # what curated.users is built from, and itself


class Lake:
    """dbt in this process, its manifest parsed once."""

    def __init__(self, folder: Path) -> None:
        from dbt.cli.main import dbtRunner  # here, since it costs every start 4 s of CPU

        project, profiles = (os.environ.get(name) or DEFAULTS[name] for name in ("DBT_PROJECT_DIR", "DBT_PROFILES_DIR"))
        self._flags = ["--project-dir", project, "--profiles-dir", profiles, "--quiet", "--log-level-file", "none"]
        self._flags += ["--target-path", str(folder), "--log-path", str(folder)]
        parsed = Path(project, os.environ.get("DBT_TARGET_PATH") or "target", "partial_parse.msgpack")
        known = ["--partial-parse-file-path", str(parsed)] if parsed.is_file() else []
        self._dbt = dbtRunner()
        self._dbt = dbtRunner(manifest=self._invoke("parse", *known))

    def build(self) -> None:
        """Build curated.users from what has landed."""
        self._invoke("run", "--select", MODELS)

    def columns(self) -> list[Column]:
        """The columns that are compared."""
        [row] = self._ask("select '{{ tojson(verified_columns()) }}' as columns")
        return [Column(**column) for column in json.loads(row["columns"])]

    def erased(self) -> list[int]:
        """Keys of the people whose values were erased."""
        return [int(row["user_id"]) for row in self._ask("{{ erased_users() }}")]

    def truncated_since(self, epoch: int, lsn: int) -> bool:
        """Whether curated.users has gone through a truncate since the LSN."""
        [row] = self._ask(f"{{{{ truncates_since({epoch}, {lsn}) }}}}")
        return bool(int(row["truncates"]))

    def by_bucket(self, epoch: int, lsn: int, columns: Sequence[Column], width: int) -> dict[int, Bucket]:
        """For each bucket of `width` keys its rows and the sum of their hashes."""
        found = self._ask(f"{{{{ users_by_bucket({epoch}, {lsn}, {_names(columns)}, {width}) }}}}")
        return {int(row["bucket"]): Bucket(int(row["users"]), str(row["total"])) for row in found}

    def rows(
        self, epoch: int, lsn: int, columns: Sequence[Column], width: int, buckets: Sequence[int]
    ) -> Iterator[tuple]:
        """The rows of these buckets: the key, and a hash of each column."""
        arguments = f"{epoch}, {lsn}, {_names(columns)}, {width}, {list(buckets)}"
        for row in self._ask(f"{{{{ users_in_buckets({arguments}) }}}}"):
            yield int(row["user_id"]), *(str(row[column.column]) for column in columns)

    def _ask(self, query: str) -> Any:
        """The rows that a query gives, as mappings of column to value."""
        done = self._invoke("show", "--inline", query, "--limit", "-1", "--output", "json")
        return done.results[0].agate_table.rows

    def _invoke(self, *arguments: str) -> Any:
        """Run dbt without output and return its result. Raises TransientError, which names what failed."""
        said = io.StringIO()
        with redirect_stdout(said):
            done = self._dbt.invoke([*arguments, *self._flags])
        if done.success:
            return done.result
        # Of what failed only the names: a database's message may quote values.
        results = getattr(done.result, "results", None) or []
        failed = [result.node.name for result in results if result.status == "error"]
        reason = f"{', '.join(failed)}: `dbt build --select {MODELS}` shows why" if failed else str(done.exception)
        raise TransientError(f"dbt {arguments[0]} failed: {reason}")


@contextmanager
def open_lake() -> Iterator[Lake]:
    """The lake by way of dbt; what dbt writes meanwhile goes to a folder that is removed."""
    with tempfile.TemporaryDirectory() as folder:
        yield Lake(Path(folder))


def _names(columns: Sequence[Column]) -> str:
    return json.dumps([column.column for column in columns])
