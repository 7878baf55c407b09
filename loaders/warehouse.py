"""The DuckDB file, where that is the engine: what its tables still say of people, and its writing anew.

On Athena and Redshift the loader has no connection: dbt asks them (`dbt run-operation maintain_tables`).
"""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq

from loaders import duckdb_file, key
from loaders.errors import TransientError
from loaders.lake import open_lake
from loaders.settings import Settings

WITHOUT_VALUES = ("d", "e")  # the ops of changes that hold none: deleted, erased


def file_of(settings: Settings) -> Path | None:
    """The DuckDB file, None where there is none."""
    path = Path(settings.duckdb_path) if settings.duckdb_path else None
    return path if path and path.is_file() else None


def search(settings: Settings, user_ids: Sequence[str]) -> list[tuple[str, int | None, str]]:
    """Of each table that has a row for each user or change: its name, how many rows say something of them, a note.

    A number of None: the table cannot be read now.
    """
    path = file_of(settings)
    if path is None:
        return []
    if find_spec("duckdb") is None:
        return [(str(path.name), None, "DuckDB is not installed here: run it in dbt's environment")]
    found = []
    try:
        with duckdb_file.connect(path, read_only=True) as connection:
            columns = connection.execute(
                """
                select schema_name, table_name, list(column_name) from duckdb_columns()
                where not internal and table_name in (select table_name from duckdb_tables())
                group by all order by all
                """
            ).fetchall()
            for schema, table, names in columns:
                if "user_id" in names:
                    named = [name for name in ("user_id", "previous_user_id") if name in names]
                    matches = (f"{name}::varchar in (select unnest($people))" for name in named)
                    condition, people = f"({' or '.join(matches)})", list(user_ids)
                    if "op" in names:
                        condition += f" and op not in {WITHOUT_VALUES}"
                elif {"user_key", "is_deleted"} <= set(names):
                    condition, people = (
                        "user_key in (select unnest($people)) and not is_deleted",
                        _user_keys(settings, user_ids),
                    )
                else:
                    continue
                query = f'select count(*) from "{schema}"."{table}" where {condition}'  # noqa: S608 names from the catalogue
                (rows,) = connection.execute(query, {"people": people}).fetchone()
                found.append((f"{schema}.{table}", rows, "the next `dbt build` forgets them"))
    except TransientError as error:
        return [(path.name, None, str(error))]
    return found


def rewrite(settings: Settings) -> None:
    """Write the file anew from its tables, whole or not at all: a file's free blocks still hold what was in them.

    Raises TransientError when another process has it open.
    """
    path = file_of(settings)
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    try:
        with duckdb_file.connect(path) as connection:
            connection.execute("checkpoint")
            (name,) = connection.execute("select current_database()").fetchone()
            connection.execute("attach '{}' as fresh".format(str(fresh).replace("'", "''")))
            connection.execute(f'copy from database "{name}" to fresh')
            connection.execute("detach fresh")
            with fresh.open("rb") as written:
                os.fsync(written.fileno())
            fresh.replace(path)  # while the former file is open, so that nobody else has it
    except TransientError as error:
        raise TransientError(f"raw is clean, but DuckDB's file was not rewritten: {error}") from None
    finally:
        fresh.unlink(missing_ok=True)


def _user_keys(settings: Settings, user_ids: Sequence[str]) -> list[str]:
    """The pseudonyms of the ids in refined, by the vault's key."""
    vault = open_lake(settings.vault_uri, kms_key_id=settings.vault_kms_key_id, private=True)
    try:
        with vault.local_file(key.KEY) as table:
            rows = pq.read_table(table, partitioning=None).to_pylist()
    except FileNotFoundError:
        return []
    return [key.pseudonym(row, user_id) for row in rows for user_id in user_ids]
