"""The lakes that external schemas show: DuckDB's file with the vault's Parquet, or Glue's catalogue read by Athena."""

import io
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import duckdb
import pyarrow.parquet as pq

from loaders import duckdb_file, settings
from loaders.errors import TransientError
from sandbox.redshift.external import ExternalError, Lake, Table

KEY = "masking_key"  # the vault's table
PATIENCE = 120.0  # seconds that a statement waits for DuckDB's writer or for Athena
_POLL = 0.05  # seconds

# Glue's names of the types of DuckDB and of Arrow, where they differ.
_GLUE_TYPES = {"varchar": "string", "integer": "int", "hugeint": "decimal(38,0)", "int64": "bigint"}


def open_lake(environment: Mapping[str, str]) -> Lake:
    """The lake that the settings name: LAKE_TARGET=athena is Glue's and Athena's, everything else DuckDB's."""
    if environment.get("LAKE_TARGET", "local").startswith("athena"):
        return AthenaLake(
            environment.get("ATHENA_WORK_GROUP") or "primary",
            environment.get("ATHENA_RESULTS_URI") or "s3://athena-results/dbt/",
            environment.get("AWS_REGION") or "us-east-1",
        )
    known = settings.from_environment(environment)
    if known.duckdb_path is None:
        raise ExternalError("the lake is on S3: set DUCKDB_PATH to the file that dbt builds, or LAKE_TARGET=athena")
    return DuckDbLake(Path(known.duckdb_path), known.vault_uri)


class DuckDbLake:
    """What the target `local` builds: the tables of a DuckDB file, and the vault's folder or S3 prefix."""

    def __init__(self, file: Path, vault: str) -> None:
        self._file = file
        self._vault = vault
        self._listed: dict[str, tuple[str, dict[str, Table]]] = {}

    def tables(self, database: str) -> Mapping[str, Table]:
        if database == "vault":
            files = self._vault_files()
            return {KEY: _parquet_table(files)} if files else {}
        version = self._version()
        if self._listed.get(database, ("",))[0] != version:
            self._listed[database] = version, self._list(database, version)
        return self._listed[database][1] if version else {}

    def rows(self, database: str, name: str) -> Iterator[Sequence[Any]]:
        if database == "vault":
            for file in self._vault_files():
                for row in pq.read_table(io.BytesIO(_read(file))).to_pylist():
                    yield list(row.values())
            return
        with self._open() as connection:
            found = connection.execute(f'select * from "{database}"."{name}"')
            while rows := found.fetchmany(10_000):
                yield from rows

    def _version(self) -> str:
        """Another one after every write to the file; empty where there is no file."""
        parts = [self._file, self._file.with_name(f"{self._file.name}.wal")]
        stats = [part.stat() for part in parts if part.exists()]
        return " ".join(f"{stat.st_mtime_ns}:{stat.st_size}" for stat in stats)

    def _list(self, database: str, version: str) -> dict[str, Table]:
        columns: dict[str, list[tuple[str, str]]] = {}
        listed = """
            select columns.table_name, columns.column_name, lower(columns.data_type)
            from duckdb_columns() as columns
            inner join duckdb_tables() as tables on columns.table_oid = tables.table_oid
            where columns.schema_name = ? and tables.schema_name = columns.schema_name
            order by columns.table_name, columns.column_index
        """
        with self._open() as connection:
            for table, column, kind in connection.execute(listed, [database]).fetchall():
                columns.setdefault(table, []).append((column, _GLUE_TYPES.get(kind, kind)))
        return {name: Table(tuple(found), version) for name, found in columns.items()}

    def _open(self) -> duckdb.DuckDBPyConnection:
        """DuckDB allows one process that writes or many that read: wait for a writer. Raises ExternalError."""
        try:
            return duckdb_file.connect(self._file, read_only=True, patience=PATIENCE)
        except (TransientError, duckdb.IOException) as error:
            raise ExternalError(f"the lake's DuckDB file cannot be read: {error}") from None

    def _vault_files(self) -> list[str]:
        """The Parquet files of the masking key, which is all of the vault that Glue's catalogue lists."""
        return [file for file in _listed(f"{self._vault}/{KEY}/") if file.endswith(".parquet")]


class AthenaLake:
    """What the target `athena` builds, by dbt's settings and boto3's own (AWS_ENDPOINT_URL_ATHENA and so on)."""

    def __init__(self, work_group: str, results: str, region: str) -> None:
        self._settings = {"WorkGroup": work_group, "ResultConfiguration": {"OutputLocation": results}}
        self._glue, self._athena = boto3.client("glue", region), boto3.client("athena", region)

    def tables(self, database: str) -> Mapping[str, Table]:
        try:
            pages = list(self._glue.get_paginator("get_tables").paginate(DatabaseName=database))
        except self._glue.exceptions.EntityNotFoundException:
            return {}
        found = [table for page in pages for table in page["TableList"] if table.get("TableType") != "VIRTUAL_VIEW"]
        return {table["Name"]: _glue_table(table) for table in found}

    def rows(self, database: str, name: str) -> Iterator[Sequence[Any]]:
        names = [column for column, _ in self.tables(database)[name].columns]
        listed = ", ".join(f'"{column}"' for column in names)
        key = self._athena.start_query_execution(
            QueryString=f'select {listed} from "{database}"."{name}"', **self._settings
        )["QueryExecutionId"]
        self._wait(key)
        is_heading = True
        for page in self._athena.get_paginator("get_query_results").paginate(QueryExecutionId=key):
            for row in page["ResultSet"]["Rows"]:
                if not is_heading:  # the first row of the first page
                    yield [value.get("VarCharValue") for value in row["Data"]]
                is_heading = False

    def _wait(self, key: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            status = self._athena.get_query_execution(QueryExecutionId=key)["QueryExecution"]["Status"]
            if status["State"] == "SUCCEEDED":
                return
            if status["State"] in ("FAILED", "CANCELLED") or time.monotonic() > deadline:
                raise ExternalError(f"Athena: {status.get('StateChangeReason', status['State'])}")
            time.sleep(_POLL)


def _glue_table(table: Mapping[str, Any]) -> Table:
    """Iceberg names the snapshot that is read; of other tables the files' own versions tell one state from another."""
    described = table["StorageDescriptor"]
    columns = tuple(
        (column["Name"], column["Type"])
        for column in described["Columns"]
        if column.get("Parameters", {}).get("iceberg.field.current", "true") == "true"
    )
    version = table.get("Parameters", {}).get("metadata_location")
    return Table(columns, version or " ".join(_version(file) for file in _listed(described["Location"])))


def _parquet_table(files: Sequence[str]) -> Table:
    schema = pq.read_schema(io.BytesIO(_read(files[0])))
    columns = tuple((field.name, _GLUE_TYPES.get(str(field.type), str(field.type))) for field in schema)
    return Table(columns, " ".join(_version(file) for file in files))


# ---------- files: of a folder or of S3


def _listed(root: str) -> list[str]:
    """The files below a folder or an S3 prefix, in order."""
    if not root.startswith("s3://"):
        return sorted(str(path) for path in Path(root).rglob("*") if path.is_file())
    url = urlsplit(root)
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=url.netloc, Prefix=url.path[1:])
    return sorted(f"s3://{url.netloc}/{found['Key']}" for page in pages for found in page.get("Contents", []))


def _version(file: str) -> str:
    """Another one after every write to the file."""
    if not file.startswith("s3://"):
        stat = Path(file).stat()
        return f"{Path(file).name}={stat.st_mtime_ns}:{stat.st_size}"
    url = urlsplit(file)
    return boto3.client("s3").head_object(Bucket=url.netloc, Key=url.path[1:])["ETag"]


def _read(file: str) -> bytes:
    if not file.startswith("s3://"):
        return Path(file).read_bytes()
    url = urlsplit(file)
    return boto3.client("s3").get_object(Bucket=url.netloc, Key=url.path[1:])["Body"].read()
