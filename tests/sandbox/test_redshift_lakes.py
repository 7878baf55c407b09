"""What external schemas show: DuckDB's tables and the vault's files, or Glue's tables by Athena, as they are now."""

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sandbox.redshift.lakes import AthenaLake, DuckDbLake, open_lake

PADS = {"key_id": ["a"], "inner_pad": ["b"], "outer_pad": ["c"]}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], None]:
    def run(statement: str) -> None:
        with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as connection:
            connection.execute(statement)

    return run


def test_duckdb_has_glues_types_and_another_version_after_each_write(
    tmp_path: Path, write: Callable[[str], None]
) -> None:
    lake = DuckDbLake(tmp_path / "warehouse.duckdb", str(tmp_path / "vault"))
    assert lake.tables("curated") == {}
    write("create schema curated")
    write(
        "create table curated.t as select 1::bigint as b, 1.5::decimal(18, 2) as d, 'x' as s, date '2026-01-02' as day,"
        " timestamp '2026-01-02 03:04:05.678901' as at, true as yes, 7::integer as i, null::double as f"
    )
    write("create view curated.v as select 1 as one")
    tables = lake.tables("curated")
    assert tables.keys() == {"t"}  # Redshift does not read another engine's views
    assert tables["t"].columns == (
        ("b", "bigint"), ("d", "decimal(18,2)"), ("s", "string"), ("day", "date"), ("at", "timestamp"),
        ("yes", "boolean"), ("i", "int"), ("f", "double"),
    )  # fmt: skip
    at = datetime(2026, 1, 2, 3, 4, 5, 678901)
    assert list(lake.rows("curated", "t")) == [(1, Decimal("1.50"), "x", date(2026, 1, 2), at, True, 7, None)]
    assert lake.tables("curated") == tables
    write("insert into curated.t (b) values (2)")
    assert lake.tables("curated")["t"].version != tables["t"].version
    assert len(list(lake.rows("curated", "t"))) == 2


@pytest.mark.parametrize("place", ["folder", "s3"])
def test_the_vault_is_read_where_it_lies(tmp_path: Path, place: str, request: pytest.FixtureRequest) -> None:
    vault = str(tmp_path / "vault") if place == "folder" else f"s3://{request.getfixturevalue('bucket')}/vault"
    lake = DuckDbLake(tmp_path / "warehouse.duckdb", vault)
    assert lake.tables("vault") == {}

    def put(pads: dict[str, list[str]]) -> None:
        local = tmp_path / "vault/masking_key/masking_key.parquet"
        local.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(pads), local)
        if place == "s3":
            bucket = vault.split("/")[2]
            boto3.client("s3").upload_file(str(local), bucket, "vault/masking_key/masking_key.parquet")

    put(PADS)
    first = lake.tables("vault")["masking_key"]
    assert first.columns == (("key_id", "string"), ("inner_pad", "string"), ("outer_pad", "string"))
    assert list(lake.rows("vault", "masking_key")) == [["a", "b", "c"]]
    put(PADS | {"key_id": ["another"]})
    assert lake.tables("vault")["masking_key"].version != first.version
    assert list(lake.rows("vault", "masking_key")) == [["another", "b", "c"]]


def test_athena_reads_what_glue_lists(bucket: str, aws_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Athena is moto's, which runs no SQL: pages, headings and nulls are what this is about."""
    glue = boto3.client("glue")
    glue.create_database(DatabaseInput={"Name": "curated"})
    column = {"Name": "user_id", "Type": "bigint"}
    gone = {"Name": "gone", "Type": "int", "Parameters": {"iceberg.field.current": "false"}}
    described = {"Columns": [column, {"Name": "city", "Type": "string"}, gone], "Location": f"s3://{bucket}/t/"}

    def table(**parameters: str) -> dict[str, Any]:
        return {
            "Name": "users",
            "TableType": "EXTERNAL_TABLE",
            "StorageDescriptor": described,
            "Parameters": parameters,
        }

    glue.create_table(DatabaseName="curated", TableInput=table(metadata_location="s3://one.json"))
    glue.create_table(DatabaseName="curated", TableInput={"Name": "a_view", "TableType": "VIRTUAL_VIEW"})
    lake = open_lake({"LAKE_TARGET": "athena"})
    assert isinstance(lake, AthenaLake)
    assert lake.tables("nothing") == {}
    [(name, found)] = lake.tables("curated").items()
    assert (name, found.columns, found.version) == (
        "users", (("user_id", "bigint"), ("city", "string")), "s3://one.json",
    )  # fmt: skip
    glue.update_table(DatabaseName="curated", TableInput=table(metadata_location="s3://two.json"))
    assert lake.tables("curated")["users"].version == "s3://two.json"
    glue.update_table(DatabaseName="curated", TableInput=table())  # of another format: its files' own versions
    empty = lake.tables("curated")["users"].version
    boto3.client("s3").put_object(Bucket=bucket, Key="t/file.parquet", Body=b"x")
    assert lake.tables("curated")["users"].version != empty

    pages = [
        {"ResultSet": {"Rows": [row("user_id", "city"), row("1", "Osasco")]}},
        {"ResultSet": {"Rows": [row("2", None), row("3", "")]}},
    ]
    monkeypatch.setattr(lake._athena, "get_paginator", lambda _: Pages(pages))
    assert list(lake.rows("curated", "users")) == [["1", "Osasco"], ["2", None], ["3", ""]]


class Pages:
    def __init__(self, pages: list[dict[str, Any]]) -> None:
        self.pages = pages

    def paginate(self, **_: str) -> list[dict[str, Any]]:
        return self.pages


def row(*values: str | None) -> dict[str, Any]:
    return {"Data": [{} if value is None else {"VarCharValue": value} for value in values]}
