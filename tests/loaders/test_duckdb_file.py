"""A DuckDB file that another process has open is waited for, and then that process is named."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

from loaders import duckdb_file, warehouse, watch
from loaders.dbt_duckdb import Plugin
from loaders.errors import TransientError
from loaders.settings import from_environment

ROOT = Path(__file__).parents[2]
HOLD = """
import duckdb, sys
held = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "True")
print("open", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(file: Path, *, read_only: bool) -> Iterator[subprocess.Popen]:
    """Another process has the file open, as a notebook or a database browser has; it ends when told."""
    duckdb.connect(str(file)).close()
    command = [sys.executable, "-c", HOLD, file, str(read_only)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        yield process
        process.stdin.close()


def test_it_opens_as_soon_as_the_other_process_lets_go(tmp_path: Path) -> None:
    """Use faults F1."""
    file = tmp_path / "warehouse.duckdb"
    with held(file, read_only=True) as process:
        threading.Timer(0.5, process.stdin.close).start()
        duckdb_file.connect(file, patience=60).close()


def test_whoever_needs_the_file_names_the_process_that_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use faults F1: dbt, an example, an erasure and an alert; one line and no traceback."""
    monkeypatch.setattr(duckdb_file, "PATIENCE", 0.1)
    environment = os.environ | {"LAKE_URI": str(tmp_path), "VAULT_URI": str(tmp_path / "vault")}
    environment |= {"DUCKDB_WAIT_SECONDS": "0.1", "DBT_TARGET_PATH": str(tmp_path / "target")}
    environment |= {"DBT_LOG_PATH": str(tmp_path / "logs")}
    settings = from_environment({"LAKE_URI": str(tmp_path)})
    file = Path(settings.duckdb_path)
    with held(file, read_only=False) as process:
        said = f"{file} is in use by process {process.pid} ("
        with pytest.raises(TransientError, match=r"is in use by process \d+ .* close its connection") as raised:
            duckdb_file.connect(file)
        assert str(raised.value).startswith(said)
        with pytest.raises(TransientError, match=r"DuckDB's file was not rewritten: .* is in use by process"):
            warehouse.rewrite(settings)
        [(_, rows, note)] = warehouse.search(settings, ["1"])
        assert rows is None
        assert note.startswith(said)
        dbt = subprocess.run(
            [Path(sys.executable).with_name("dbt"), "run", "--select", "mart_media_catalogue"],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert dbt.returncode == 2
        assert said in dbt.stdout
        assert "Traceback" not in dbt.stdout + dbt.stderr
    [alert] = watch.alerts_of_failure("lakehouse", "lake.producer", "manual", 1, RuntimeError(dbt.stdout))
    assert alert.facts["error"] == f"DuckDB_file_in_use_by_process_{process.pid}"


def test_whatever_keeps_the_file_closed_is_an_error_that_dbt_shows_without_a_traceback(tmp_path: Path) -> None:
    """Use faults F1, the same kind: dbt-duckdb shows the text of a RuntimeError alone."""
    plugin = Plugin("dbt_duckdb", {"patience": "0"})
    no_database, no_folder = tmp_path / "warehouse.duckdb", tmp_path / "warehouse.duckdb" / "warehouse.duckdb"
    no_database.write_text("this is not a database")
    for file in (no_database, no_folder):
        with pytest.raises(RuntimeError, match=r"warehouse\.duckdb"):
            plugin.update_connection_config(SimpleNamespace(path=str(file)), {})
