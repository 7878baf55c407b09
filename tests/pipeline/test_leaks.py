"""Nothing personal leaves curated in the clear, be it data, log, compiled SQL or docs; the key stays in the vault."""

import subprocess
from pathlib import Path

import duckdb
import pytest

from loaders.key import pads
from tests.pipeline.product import MASKING_KEY, Pipeline

pytestmark = pytest.mark.xdist_group("published")  # one lake for all of them, so one worker


def files_that_hold(patterns: Path, *places: Path) -> list[str]:
    """The files in which any line of `patterns` occurs (grep finds thousands of values at once)."""
    done = subprocess.run(["grep", "-rlF", "--text", "-f", patterns, *places], capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout.splitlines()


def dump(published: Pipeline, schemas: tuple[str, ...], folder: Path) -> Path:
    """Every relation of the schemas as CSV; the vault is not reachable from here, so what reads it is left out."""
    folder.mkdir()
    with duckdb.connect(str(published.folder / "lake/warehouse.duckdb"), read_only=True) as connection:
        relations = connection.execute(
            "select table_schema, table_name from information_schema.tables where table_schema in ?", [schemas]
        ).fetchall()
        for schema, name in relations:
            connection.execute(f'copy (from "{schema}"."{name}") to \'{folder}/{schema}.{name}.csv\'')
    assert relations
    return folder


def test_the_search_finds_what_stands_in_curated(published: Pipeline, tmp_path: Path) -> None:
    found = files_that_hold(published.folder / "personal values", dump(published, ("curated",), tmp_path / "curated"))
    assert {"curated.users.csv", "curated.user_versions.csv"} <= {Path(name).name for name in found}


def test_nothing_personal_is_in_refined(published: Pipeline, tmp_path: Path) -> None:
    refined = dump(published, ("refined",), tmp_path / "refined")
    assert files_that_hold(published.folder / "personal values", refined) == []


def test_nothing_personal_is_in_compiled_sql_logs_or_docs(published: Pipeline) -> None:
    target, logs = published.folder / "target", published.folder / "logs"
    assert (target / "static_index.html").stat().st_size > 100_000
    assert list(target.rglob("dim_users.sql"))
    assert list(logs.iterdir())
    assert files_that_hold(published.folder / "personal values", target, logs) == []


def test_what_cannot_be_parsed_is_set_aside_and_the_rest_goes_on(published: Pipeline) -> None:
    rejected = published.query("select count(*), count(reason) from staging.stg_customer__rejected_user_changes")
    assert rejected == [(20, 20)]
    assert published.query("select count(*) > 300 from curated.users") == [(True,)]


def test_the_key_is_in_the_vault_and_nowhere_else(published: Pipeline, tmp_path: Path) -> None:
    row = pads(bytes.fromhex(MASKING_KEY))
    patterns = tmp_path / "secrets"
    patterns.write_text("\n".join([MASKING_KEY, row["inner_pad"], row["outer_pad"]]))
    tables = dump(published, ("staging", "curated", "refined"), tmp_path / "tables")
    places = [published.folder / name for name in ("lake", "target", "logs")]
    assert files_that_hold(patterns, tables, *places) == []
