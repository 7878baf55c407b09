"""What we compare ourselves with, each run in a process of its own by `python -m benchmarks.alternatives`.

dlt (https://dlthub.com) writes Parquet into a folder, as our loaders do. One JSON line on stdout says how many rows it
took and in how many seconds, imports not counted.
"""

import argparse
import json
import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.alternatives", description=__doc__.partition("\n\n")[0])
    commands = parser.add_subparsers(required=True, metavar="ALTERNATIVE")
    command = commands.add_parser("dlt-users", help="the rows of the customer table that were touched since a time")
    command.add_argument("backend", choices=("sqlalchemy", "connectorx"))
    command.add_argument("since", type=datetime.fromisoformat)
    command.set_defaults(run=lambda options: dlt_users(options.backend, options.since))
    command = commands.add_parser("dlt-disney", help="all pages of the Disney API")
    command.set_defaults(run=lambda options: dlt_disney())
    command = commands.add_parser("disney", help="our own loader with a given number of connections")
    command.add_argument("connections", type=int)
    command.set_defaults(run=lambda options: disney(options.connections))
    command = commands.add_parser("erase", help="a copy of all user changes in which one person has no values")
    command.add_argument("user_id")
    command.set_defaults(run=lambda options: erase(options.user_id))
    command = commands.add_parser("compare", help="the whole customer table against curated.users, in DuckDB")
    command.set_defaults(run=lambda options: compare())
    options = parser.parse_args()
    print(json.dumps(options.run(options)))


def dlt_users(backend: str, since: datetime) -> dict[str, Any]:
    """Copy what was touched since then. dlt sees rows as they are now: no deletes, and no version but the last."""
    import dlt
    from dlt.sources.sql_database import sql_table

    users = sql_table(
        os.environ["CUSTOMER_DSN"],
        table="usuarios",
        schema="public",
        backend=backend,
        incremental=dlt.sources.incremental("atualizado_em", initial_value=since),
    )
    return _run_dlt(users, "usuarios")


def dlt_disney() -> dict[str, Any]:
    """Read all pages by dlt's own REST client; what it finds in nested lists becomes tables of its own."""
    from dlt.sources.rest_api import rest_api_resources

    (characters,) = rest_api_resources(
        {
            "client": {
                "base_url": os.environ["DISNEY_API_URL"],
                "paginator": {"type": "page_number", "base_page": 1, "total_path": "info.totalPages"},
            },
            "resources": [
                {
                    "name": "characters",
                    "endpoint": {"path": "character", "params": {"pageSize": 100}, "data_selector": "data"},
                }
            ],
        }
    )
    return _run_dlt(characters, "characters")


def _run_dlt(resource: Any, table: str) -> dict[str, Any]:
    import dlt

    started = time.monotonic()
    pipeline = dlt.pipeline(
        "benchmark",
        pipelines_dir="pipelines",
        destination=dlt.destinations.filesystem(Path("dlt").resolve().as_uri()),
        dataset_name="raw",
    )
    pipeline.run(resource, loader_file_format="parquet")
    rows = pipeline.last_trace.last_normalize_info.row_counts[table]
    return {"rows": rows, "seconds": time.monotonic() - started}


def disney(connections: int) -> dict[str, Any]:
    """Land a snapshot with so many connections."""
    from loaders import disney, settings

    started = time.monotonic()
    landed = disney.land(settings.from_environment(), connections=connections)
    return {"rows": landed.rows, "seconds": time.monotonic() - started}


def erase(user_id: str) -> dict[str, Any]:
    """Write each file anew by DuckDB, as one would who keeps no account of where a person is."""
    import duckdb

    started = time.monotonic()
    files = sorted(Path(os.environ["LAKE_URI"]).glob("raw/customer/usuarios/*/*.parquet"))
    with duckdb.connect() as connection:
        for number, file in enumerate(files):
            connection.execute(
                f"""
                copy (
                    select * replace (
                        if(before->>'id' = $user_id, json_object('id', $user_id), before) as before,
                        if(after->>'id' = $user_id, json_object('erased', true, 'id', $user_id), after) as after
                    )
                    from read_parquet('{file}', hive_partitioning = false)
                ) to 'copy-{number}.parquet' (format parquet, compression zstd)
                """,
                {"user_id": user_id},
            )
    return {"files": len(files), "seconds": time.monotonic() - started}


def compare() -> dict[str, Any]:
    """Copy the table out of the replica as CSV and look for rows that only one side has; no LSN is kept."""
    import duckdb
    import psycopg

    started = time.monotonic()
    source = "id, nome, email, cpf, telefone, data_nascimento, cep, cidade, uf, renda_mensal, status, observacoes, "
    source += "criado_em at time zone 'UTC', atualizado_em at time zone 'UTC'"
    ours = "user_id, full_name, email, cpf, phone, birth_date, postal_code, city, state_code, monthly_income, status, "
    ours += "notes, created_at, updated_at"
    with psycopg.connect(os.environ["CUSTOMER_SNAPSHOT_DSN"]) as connection, Path("copy.csv").open("wb") as file:
        copying = connection.cursor().copy(
            f"COPY (SELECT {source} FROM public.usuarios) TO STDOUT (FORMAT csv, FORCE_QUOTE *)"
        )
        with copying as rows:
            for block in rows:
                file.write(block)
    with duckdb.connect(f"{os.environ['LAKE_URI']}/warehouse.duckdb", read_only=True) as connection:
        connection.execute(f"create temp table lake as select {ours} from curated.users where not is_deleted")
        connection.execute("create temp table source as from lake limit 0")
        connection.execute("copy source from 'copy.csv' (format csv, header false, allow_quoted_nulls false)")
        difference = "select count(*) from (from {} except all from {})"
        sides = (("lake", "source"), ("source", "lake"))
        counts = [connection.execute(difference.format(*side)).fetchone()[0] for side in sides]
    return {"is_equal": counts == [0, 0], "seconds": time.monotonic() - started}


if __name__ == "__main__":
    import loaders.interruptible  # noqa: F401 (ends this program in one line when it is interrupted)

    main()
