"""`python -m benchmarks.counts`: count what a run asks of AWS, and write it down for infra/cost.

The loaders run against a local S3 and a real PostgreSQL at three rates of change, dbt's adapters against stand-ins of
Athena and Redshift (benchmarks/statements.py). Sizes of columns are those of the Parquet of a made-up lake that DuckDB
builds. Counts and bytes do not depend on how busy the machine is; nothing is timed.
"""

import argparse
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from math import fsum
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import yaml

from benchmarks import past as history
from benchmarks.past import Past
from benchmarks.scans import Reader, is_free
from benchmarks.statements import Cycle, Statement, athena, columns_of, counted, dbt, moto, redshift
from benchmarks.world import DBT, LOADERS, MASKING_KEY, ROOT, customer_database, customer_settings, environment
from loaders import disney, settings, success, users
from sandbox import customer_app
from sandbox.characters import characters
from sandbox.disney_api import DisneyApi

log = logging.getLogger(__name__)

RATES = (150_000, 1_500_000, 15_000_000)  # changes a day
CYCLES = 288  # a day
TABLE = 20_000  # people of the live table
CHARACTERS = 9_800
DAYS, PEOPLE = 3, 300_000  # of the history from which sizes are taken: a first, one in one file, one in 288
# S3's classes of requests (Amazon S3 pricing); to delete is free.
WRITES = ("PutObject", "ListObjectsV2", "ListObjects", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload")
READS = ("GetObject", "HeadObject")
# What a table's rows grow with: changes, people, or neither.
GROWTH = {
    "raw.customer_usuarios": "changes", "raw.disney_characters": "crawls",
    "curated.user_changes": "changes", "curated.completed_user_changes": "updates",
    "curated.users": "people", "refined.dim_users": "people", "refined.fct_user_changes": "windows",
}  # fmt: skip
HEADER = """# yamllint disable-file
# Written by `python -m benchmarks.counts`; benchmarks/counts.py says how each is counted.
# reads, of: a table and the part of it that pruning leaves: [passes over it, bytes that they read of each row].
"""
TEMPORARY = re.compile("__(dbt_tmp|ha)$")
BUILD = ("build", "--exclude-resource-type", "unit_test")  # as the DAG does (dags/lakehouse_dbt.py)
LAKE, WAREHOUSE = "lake_every_five_minutes", "warehouse_every_five_minutes"
FRESHNESS = ("source", "freshness", "--select", "source:customer", "source:disney")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.counts", description=__doc__.partition(": ")[2])
    parser.add_argument("--output", type=Path, default=ROOT / "infra/cost/counts.yaml", help="the YAML file to write")
    parser.add_argument("--work", type=Path, help="where the data live until the run ends (1 GB)")
    parser.add_argument("--only", action="append", choices=PARTS, help="count this part anew; may be repeated")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that all works; needs --output")
    options = parser.parse_args()
    if options.quick and options.output == parser.get_default("output"):
        parser.error("--quick needs --output: its figures mean nothing in infra/cost")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    for name in ("werkzeug", "botocore", "boto3", "loaders"):
        logging.getLogger(name).setLevel(logging.WARNING)
    found = yaml.safe_load(options.output.read_text(encoding="utf-8")) if options.output.exists() else {}
    for name in options.only or PARTS:
        log.info("counting: %s", name)
        with tempfile.TemporaryDirectory(prefix="counts-", dir=options.work) as work:
            found |= PARTS[name](Path(work), found, quick=options.quick)
        found |= {"measured": {**found.get("measured", {}), name: f"{datetime.now(UTC):%Y-%m-%d}"}}
        for cycle in found.get("athena", {}).values():
            cycle["reads"] = [Line(read) for read in cycle["reads"]]
        with options.output.open("w", encoding="utf-8") as file:
            file.write(HEADER)
            yaml.dump(found, file, Lines, sort_keys=False, width=120, default_flow_style=None)


class Line(dict):
    """A mapping that stands in one line of YAML."""


class Lines(yaml.SafeDumper):
    """Writes them so."""


Lines.add_representer(
    Line, lambda dumper, line: dumper.represent_mapping("tag:yaml.org,2002:map", line.items(), flow_style=True)
)


def folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


# ---- landing


def landing(work: Path, _: Any, *, quick: bool) -> dict[str, Any]:
    """For each rate of changes a day, what one later cycle's landing asks of S3 and what it puts there."""
    found = {}
    with (
        customer_database(work) as database,
        DisneyApi(characters(CHARACTERS)) as api,
        moto(LAKEHOUSE_ENV_FILE=os.devnull),
    ):
        customer_app.seed_people(database.app_dsn, TABLE)
        config = settings.from_environment(
            {
                "LAKE_URI": "s3://lake",
                "VAULT_URI": "s3://vault",
                "DISNEY_API_URL": api.url,
                **customer_settings(database),
            }
        )
        users.land(config)  # the snapshot
        disney.land(config)
        success.record(config, "lakehouse")
        for number, rate in enumerate(RATES[: 1 if quick else None]):
            changes = -(-rate // CYCLES)
            log.info("landing %d changes", changes)
            customer_app.write_changes(database.app_dsn, changes=changes, seed=number)
            api.change(seed=number)
            with counted() as asked:
                landed, crawled = users.land(config), disney.land(config)
                success.record(config, "lakehouse")
            calls = Counter({name.partition(":")[2]: times for name, times in asked.items() if name.startswith("s3:")})
            found[rate] = {
                "changes": landed.rows,
                "changes_bytes": landed.bytes,
                "crawl_bytes": crawled.bytes,
                "s3_writes_and_lists": sum(calls[name] for name in WRITES),
                "s3_reads": sum(calls[name] for name in READS),
                "secret_reads": sum(times for name, times in asked.items() if name.startswith("secretsmanager:")),
            }
    return {"landing": found}


# ---- sizes


def tables(work: Path, _: Any, *, quick: bool) -> dict[str, Any]:
    """For each table what its rows grow with, and the bytes that a row takes in each column.

    Tables are those that DuckDB builds of a made-up history, as zstd Parquet; raw is what compaction makes of a day.
    """
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    past = Past(DAYS, 600 if quick else RATES[0], 1_000 if quick else PEOPLE, yesterday)
    place = environment(work, DISNEY_API_URL="http://127.0.0.1:9", CUSTOMER_DSN="postgresql://127.0.0.1/none")
    log.info("sizes: %d people, %d days of %d changes", past.people, past.days, past.changes)
    history.write(past, work / "history", characters(CHARACTERS))
    history.begin(past, past.days, work / "history", work / "lake")
    last_day, first_day = (f"load_date={yesterday - timedelta(days=days)}" for days in (0, past.days - 1))
    changes, crawls = work / "lake/raw/customer/usuarios", work / "lake/raw/disney/characters"
    run(work, place | {"MASKING_KEY": MASKING_KEY}, *LOADERS, "key")
    run(work, place, *DBT, "build", "--full-refresh", "--exclude-resource-type", "unit_test")
    in_batches = {
        "raw.customer_usuarios": parquet(changes.glob(f"{last_day}/*.parquet")),
        "raw.disney_characters": parquet(crawls.glob(f"{last_day}/*.parquet")),
    }
    shutil.rmtree(changes / last_day)  # DuckDB wrote these, with types that compaction does not take for the loader's
    shutil.rmtree(changes / first_day)
    one_file = parquet(changes.glob("*/*.parquet"))
    shutil.rmtree(changes)
    run(work, place, *LOADERS, "compact")
    files = export(work)
    files |= {"raw.customer_usuarios": one_file, "raw.disney_characters": parquet(crawls.glob(f"{last_day}/*.parquet"))}
    units = {
        "changes": past.days * past.changes + past.people + 1,
        "updates": past.days * past.changes,
        "people": past.people + past.days * past.changes // history.MIX,
        "windows": past.days * CYCLES,
        "crawls": CYCLES,
    }
    units["raw.customer_usuarios"] = one_file[0]
    found = {}
    for table, (rows, sizes) in sorted(files.items()):
        grows = GROWTH.get(table, "fixed")
        found[table] = {
            "grows_with": grows,
            "rows": rows if grows == "fixed" else round(rows / units.get(table, units[grows]), 4),
            "bytes_per_row": {name: round(size / max(rows, 1), 2) for name, size in sizes.items()},
        }
        if table in in_batches:
            batches, before = in_batches[table]
            found[table]["bytes_per_row_before_compaction"] = round(sum(before.values()) / batches, 1)
    return {"tables": found}


def run(work: Path, place: Mapping[str, str], *command: str) -> None:
    done = subprocess.run(command, cwd=work, env=dict(place), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}{done.stderr}")


def export(work: Path) -> dict[str, tuple[int, dict[str, int]]]:
    """Rows and bytes of each column of all tables of curated and refined, as Parquet."""
    found = {}
    with duckdb.connect(str(work / "lake/warehouse.duckdb"), read_only=True) as connection:
        names = connection.execute(
            "select schema_name, table_name from duckdb_tables() where schema_name in ('curated', 'refined')"
        ).fetchall()
        for schema, name in names:
            file = work / f"{schema}.{name}.parquet"
            connection.execute(f"copy {schema}.{name} to '{file}' (format parquet, compression zstd)")
            found[f"{schema}.{name}"] = parquet([file])
    return found


def parquet(files: Iterable[Path]) -> tuple[int, dict[str, int]]:
    """Rows and compressed bytes of each column of Parquet files."""
    rows, sizes = 0, Counter()
    for file in files:
        data = pq.ParquetFile(file).metadata
        rows += data.num_rows
        for group in range(data.num_row_groups):
            for number in range(data.num_columns):
                column = data.row_group(group).column(number)
                sizes[column.path_in_schema.partition(".")[0]] += column.total_compressed_size
    return rows, dict(sizes)


# ---- statements


def statements(work: Path, found: Mapping[str, Any], *, quick: bool) -> dict[str, Any]:
    """What dbt asks of Athena and Redshift in a later cycle, and of each statement what it reads."""
    cycles = {
        "lake": athena(folder(work / "lake"), FRESHNESS, (*BUILD, "--selector", LAKE)),
        "lake_with_long_values": athena(folder(work / "long"), (*BUILD, "--selector", LAKE), long_values=True),
        "refined": athena(folder(work / "refined"), (*BUILD, "--selector", WAREHOUSE)),
        "daily": athena(folder(work / "daily"), (*BUILD, "--selector", "lake", "--vars", "daily: true")),
    }
    reader = Reader(views(cycles["daily"].statements), with_temporary(columns(work)))
    sizes = {table: held["bytes_per_row"] for table, held in found["tables"].items()}
    return {
        "athena": {name: described(cycle, reader, sizes) for name, cycle in cycles.items()},
        "redshift": {"statements": len(redshift(folder(work / "redshift"), WAREHOUSE).statements)},
    }


def columns(work: Path) -> dict[str, list[str]]:
    """The columns of each stored table, by "schema.name"."""
    with moto():
        manifest = dbt(folder(work / "manifest"), "parse", target="athena").result
    found = columns_of(manifest)
    nodes = [node for node in manifest.nodes.values() if node.resource_type in ("model", "seed")]
    names = {node.unique_id: f"{node.schema}.{node.alias}" for node in nodes}
    names |= {source.unique_id: f"{source.schema}.{source.identifier}" for source in manifest.sources.values()}
    return {name: [column for column, _ in found[key]] for key, name in names.items()}


def with_temporary(tables: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """With those that dbt's adapter makes beside each table and drops again."""
    return {f"{table}{ending}": names for table, names in tables.items() for ending in ("", "__dbt_tmp", "__ha")}


def views(statements: Iterable[Statement]) -> dict[str, str]:
    """What each view selects, as dbt has just made it."""
    made = re.compile(r'create or replace view\s+"awsdatacatalog"\."(\w+)"\."(\w+)"\s+as\s(.*)', re.DOTALL)
    return {f"{found[1]}.{found[2]}": found[3] for _, sql in statements if (found := made.search(sql))}


def described(cycle: Cycle, reader: Reader, sizes: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """The statements that Athena charges for: passes of each over a part of a table, and the bytes read of a row."""
    charged = [statement for statement in cycle.statements if not is_free(statement.sql)]
    lines: Counter = Counter()
    for node, sql in charged:
        passes: dict[str, float] = {}
        times: Counter = Counter()
        for read in reader.reads(sql):
            table = TEMPORARY.sub("", read.table)
            part = "new" if TEMPORARY.search(read.table) and table in GROWTH else read.part
            width = fsum(sizes.get(table, {}).get(column, 0.0) for column in read.columns)
            passes[f"{table} {part}"] = passes.get(f"{table} {part}", 0.0) + width
            times[f"{table} {part}"] += 1
        reads = tuple(sorted((where, times[where], round(width, 1)) for where, width in passes.items()))
        lines[(node.split(".")[2] if node else "dbt", kind(sql), reads)] += 1
    return {
        "statements": len(cycle.statements),
        "free": len(cycle.statements) - len(charged),
        "requests": dict(sorted(cycle.requests.items())),
        "reads": [
            {"node": node, "kind": what, "count": count, "of": {where: [times, width] for where, times, width in reads}}
            for (node, what, reads), count in sorted(lines.items())  # threads finish in any order
        ],
    }


def kind(sql: str) -> str:
    return re.sub(r"(--|/\*).*\n", "", sql).strip().split()[0].lower()


PARTS = {"landing": landing, "tables": tables, "statements": statements}


if __name__ == "__main__":
    import loaders.interruptible  # noqa: F401 (ends this program in one line when it is interrupted)

    main()
