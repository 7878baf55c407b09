"""A lake and a vault of the test's own, and dbt in this process to run on them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.cli.main import dbtRunner

from loaders import raw
from loaders.lake import open_lake
from tests import parsed
from tests.dbt.lakes import MASKING_KEY, Dbt, write_masking_key

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def dbt_target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One target folder for all of a worker's tests: dbt's default target, no variables (see tests/parsed.py)."""
    return tmp_path_factory.mktemp("dbt_target", numbered=False)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty lake and a vault with MASKING_KEY, both in the working folder: the raw tables exist, without rows.

    The settings are relative, hence the same for all tests: dbt parses the project again whenever one changes.
    """
    monkeypatch.chdir(tmp_path)
    for name in ("DUCKDB_PATH", "LAKE_TARGET", "WAREHOUSE_TARGET", "DBT_TARGET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LAKE_URI", "lake")
    monkeypatch.setenv("VAULT_URI", "vault")
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    monkeypatch.setenv("DBT_WRITE_JSON", "false")  # they are half of the cost of a small run; see `documents`
    raw.ensure_tables(open_lake(str(tmp_path / "lake")))
    write_masking_key(MASKING_KEY)
    return tmp_path / "lake"


@pytest.fixture
def dbt(lake: Path, dbt_target: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dbt]:
    """`dbt("build", "--select", ...)` runs dbt on the test's lake and returns its result; a failure raises."""

    def run(*arguments: str) -> Any:
        target = parsed.folder_for(arguments, dbt_target)
        paths = ["--project-dir", str(ROOT / "dbt_project"), "--profiles-dir", str(ROOT)]
        paths += ["--target-path", str(target), "--log-path", str(lake.parent / "logs")]
        with parsed.shared(tmp_path_factory, target.name, target):
            done = dbtRunner().invoke([*arguments, *paths, "--quiet"])
        if not done.success:
            messages = [f"{result.node.name}: {result.message}" for result in getattr(done.result, "results", [])]
            raise AssertionError(f"dbt {' '.join(arguments)}: {done.exception or messages}")
        return done.result

    yield run
    DuckDBConnectionManager.close_all_connections()


@pytest.fixture
def documents(lake: Path, dbt_target: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of dbt's JSON documents. dbt writes them only for the tests that use this fixture."""
    monkeypatch.setenv("DBT_WRITE_JSON", "true")
    return dbt_target


@pytest.fixture
def query(lake: Path) -> Callable[..., list[tuple]]:
    """`query("select ...", *parameters)` on the test's DuckDB file, after dbt has let go of it."""

    def run(sql: str, *parameters: Any) -> list[tuple]:
        with duckdb.connect(str(lake / "warehouse.duckdb"), read_only=True) as connection:
            return connection.execute(sql, parameters).fetchall()

    return run


@pytest.fixture
def write(lake: Path) -> Callable[[str], None]:
    """`write("update ...")` on the test's DuckDB file, after dbt has let go of it."""

    def run(sql: str) -> None:
        with duckdb.connect(str(lake / "warehouse.duckdb")) as connection:
            connection.execute(sql)

    return run
