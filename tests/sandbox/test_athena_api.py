"""Athena's JSON API as boto3 meets it, over the real Trino: results, refusals, failures, places of tables, faults."""

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError

from sandbox import athena
from tests.conftest import LocalAthena

pytestmark = pytest.mark.xdist_group("athena")

SCHEMA = "api_tests"


@pytest.fixture(scope="module")
def client(local_athena: LocalAthena) -> Any:
    """boto3's client of Athena's API."""
    return athena.client("athena", local_athena.engine.api_url)


@pytest.fixture(scope="module")
def glue(local_athena: LocalAthena) -> Any:
    return athena.client("glue", local_athena.engine.aws_url)


Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def run(client: Any) -> Run:
    """`run(sql)` waits for a query's end and returns its execution."""

    def call(sql: str, group: str = "dbt", **fields: Any) -> dict[str, Any]:
        context = {"Catalog": "awsdatacatalog", "Database": SCHEMA}
        started = client.start_query_execution(
            QueryString=sql, WorkGroup=group, QueryExecutionContext=context, **fields
        )
        return client.get_query_execution(QueryExecutionId=started["QueryExecutionId"])["QueryExecution"]

    call(f"create schema if not exists `{SCHEMA}`")
    return call


@pytest.fixture
def rows(client: Any, run: Run) -> Callable[[str], list[list[str | None]]]:
    """`rows(sql)`: the cells of a query's result, all pages, without the header."""

    def call(sql: str) -> list[list[str | None]]:
        execution = run(sql)
        assert execution["Status"]["State"] == "SUCCEEDED", execution["Status"]
        pages = client.get_paginator("get_query_results").paginate(QueryExecutionId=execution["QueryExecutionId"])
        found = [row for page in pages for row in page["ResultSet"]["Rows"]]
        return [[cell.get("VarCharValue") for cell in row["Data"]] for row in found][1:]

    return call


def succeeded(execution: dict[str, Any]) -> dict[str, Any]:
    assert execution["Status"]["State"] == "SUCCEEDED", execution["Status"]
    return execution


def iceberg(name: str, query: str, place: str | None = None) -> str:
    location = place or f"s3://lake/api-tests/{uuid.uuid4()}"
    return (
        f'create table "awsdatacatalog"."{SCHEMA}"."{name}" with '
        f"(table_type='iceberg', is_external=false, location='{location}', format='parquet') as {query}"
    )


def test_the_command_prints_the_settings_and_a_second_call_the_same(local_athena: LocalAthena) -> None:
    command = [sys.executable, "-m", "sandbox"]
    told = [
        subprocess.run(
            [*command, name], env=local_athena.environment, capture_output=True, text=True, check=True
        ).stdout
        for name in ("athena", "athena", "env")
    ]
    exported = [line for line in told[0].splitlines() if line.startswith("export ")]
    assert exported == [f"export {name}={value}" for name, value in athena.exports(local_athena.engine).items()]
    assert told[0] == told[1]
    assert told[2].splitlines() == exported


def test_all_of_it_listens_on_loopback_alone_and_its_java_is_the_environments(local_athena: LocalAthena) -> None:
    engine = local_athena.engine
    listening = [found for found in psutil.net_connections("tcp") if found.status == psutil.CONN_LISTEN]
    pids = {found.pid for found in listening if found.laddr.port in (engine.aws, engine.trino, engine.api)}
    assert len(pids) == 3
    assert {found.laddr.ip for found in listening if found.pid in pids} <= {"127.0.0.1", "::ffff:127.0.0.1"}
    [java] = [program for pid in pids if Path(program := psutil.Process(pid).exe()).name == "java"]
    assert Path(java).is_relative_to(sys.prefix)


def test_cells_are_text_and_types_are_named(client: Any, run: Run) -> None:
    execution = run(
        "select 1 as a, cast(null as varchar) as b, '' as c, 1.50 as d, 1e10 as e, true as f, "
        "timestamp '2026-01-01 00:00:00.123456' as g, array['x', null] as h, "
        "map(array['k'], array[1]) as i, x'0aff' as j"
    )
    found = client.get_query_results(QueryExecutionId=succeeded(execution)["QueryExecutionId"])["ResultSet"]
    head, row = ([cell.get("VarCharValue") for cell in line["Data"]] for line in found["Rows"])
    assert head == list("abcdefghij")
    assert row == ["1", None, "", "1.50", "1.0E10", "true", "2026-01-01 00:00:00.123456", "[x, null]", "{k=1}", "0a ff"]
    assert [column["Type"] for column in found["ResultSetMetadata"]["ColumnInfo"]] == [
        "integer", "varchar", "varchar", "decimal", "double", "boolean", "timestamp", "array", "map", "varbinary"
    ]  # fmt: skip
    assert execution["StatementType"] == "DML"


def test_a_result_comes_in_pages(client: Any, run: Run) -> None:
    execution = run("select n from unnest(sequence(1, 2500)) as t (n) order by n")
    pages = list(client.get_paginator("get_query_results").paginate(QueryExecutionId=execution["QueryExecutionId"]))
    assert [len(page["ResultSet"]["Rows"]) for page in pages] == [1000, 1000, 501]  # the first row is the header
    numbers = [row["Data"][0]["VarCharValue"] for page in pages for row in page["ResultSet"]["Rows"]]
    assert numbers == ["n", *map(str, range(1, 2501))]
    one = client.get_query_results(QueryExecutionId=execution["QueryExecutionId"], MaxResults=1)
    assert (len(one["ResultSet"]["Rows"]), one["NextToken"]) == (1, "1")


def test_rows_that_were_written_are_counted(client: Any, run: Run) -> None:
    succeeded(run(iceberg("counted", "select 1 as a union all select 2")))
    inserted = succeeded(run(f"insert into {SCHEMA}.counted select 3"))
    results = client.get_query_results(QueryExecutionId=inserted["QueryExecutionId"])
    assert (results["UpdateCount"], results["ResultSet"]["Rows"]) == (1, [])


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("select no_such from (values 1) as t (a)", "COLUMN_NOT_FOUND: line 1:8: Column 'no_such' cannot be resolved"),
        (
            f"select * from {SCHEMA}.none",
            f"TABLE_NOT_FOUND: line 1:15: Table 'awsdatacatalog.{SCHEMA}.none' does not exist",
        ),
        ("select 1 / 0", "DIVISION_BY_ZERO: Division by zero"),
    ],
)
def test_a_failure_says_why(client: Any, run: Run, sql: str, reason: str) -> None:
    execution = run(sql)
    status = execution["Status"]
    assert (status["State"], status["StateChangeReason"]) == ("FAILED", reason)
    assert status["AthenaError"]["ErrorCategory"] == 2
    assert status["AthenaError"]["ErrorMessage"] == reason
    with pytest.raises(ClientError, match=r"did not finish successfully\. Final query state: FAILED"):
        client.get_query_results(QueryExecutionId=execution["QueryExecutionId"])


def test_an_iceberg_table_is_made_nowhere_but_on_empty_ground(run: Run) -> None:
    place = f"s3://lake/api-tests/{uuid.uuid4()}"
    succeeded(run(iceberg("first", "select 1 as a", place)))
    status = run(iceberg("second", "select 1 as a", place))["Status"]
    assert status["State"] == "FAILED"
    assert "non-empty location" in status["StateChangeReason"]


def test_another_table_lies_below_the_results_of_an_enforced_workgroup(run: Run, glue: Any) -> None:
    execution = succeeded(run(f"create table {SCHEMA}.plain with (format='parquet') as select 1 as a"))
    assert execution["ResultConfiguration"]["OutputLocation"].startswith("s3://athena-results/dbt/")
    place = glue.get_table(DatabaseName=SCHEMA, Name="plain")["Table"]["StorageDescriptor"]["Location"]
    assert place.startswith(f"s3://athena-results/dbt/tables/{execution['QueryExecutionId']}")


def test_a_view_has_its_columns_and_a_place_in_glue(run: Run, glue: Any) -> None:
    for _ in range(2):  # dbt replaces them in each build
        succeeded(run(f'create or replace view "awsdatacatalog"."{SCHEMA}"."v" as select 1 as a, array[\'x\'] as b'))
    storage = glue.get_table(DatabaseName=SCHEMA, Name="v")["Table"]["StorageDescriptor"]
    assert [(column["Name"], column["Type"]) for column in storage["Columns"]] == [("a", "int"), ("b", "array<string>")]
    versions = glue.get_table_versions(DatabaseName=SCHEMA, TableName="v")["TableVersions"]
    assert all("Location" in version["Table"]["StorageDescriptor"] for version in versions)


def test_maintenance_forgets_snapshots_by_the_tables_properties(run: Run, rows: Callable[[str], list[Any]]) -> None:
    succeeded(run(iceberg("kept", "select 1 as a")))
    for number in (2, 3):
        succeeded(run(f"insert into {SCHEMA}.kept select {number}"))
    succeeded(run(f"optimize {SCHEMA}.kept rewrite data using bin_pack"))
    snapshots = f'select count(*) from {SCHEMA}."kept$snapshots"'
    succeeded(run(f"vacuum {SCHEMA}.kept"))
    assert int(rows(snapshots)[0][0]) >= 3  # none is five days old
    succeeded(run(f"alter table `{SCHEMA}`.`kept` set tblproperties ('vacuum_max_snapshot_age_seconds' = '0')"))
    succeeded(run(f"vacuum {SCHEMA}.kept"))
    assert rows(snapshots) == [["1"]]
    assert rows(f"select a from {SCHEMA}.kept order by a") == [["1"], ["2"], ["3"]]


def test_a_table_is_renamed_and_dropped(run: Run, rows: Callable[[str], list[Any]]) -> None:
    succeeded(run(iceberg("renamed__tmp", "select 1 as a")))
    succeeded(run(f"alter table `{SCHEMA}`.`renamed__tmp` rename to `{SCHEMA}`.`renamed`"))
    assert rows(f"select a from {SCHEMA}.renamed") == [["1"]]
    succeeded(run(f"drop table if exists `{SCHEMA}`.`renamed`"))
    assert run(f"select a from {SCHEMA}.renamed")["Status"]["State"] == "FAILED"


def test_what_exists_is_made_again_only_leniently(run: Run) -> None:
    assert "already exists" in run(f"create database `{SCHEMA}`")["Status"]["StateChangeReason"]
    table = (
        f"external table {{}} `{SCHEMA}`.`outside` (a int) stored as parquet location 's3://lake/api-tests/outside/'"
    )
    succeeded(run(f"create {table.format('if not exists')}"))
    succeeded(run(f"create {table.format('if not exists')}"))
    assert "already exists" in run(f"create {table.format('')}")["Status"]["StateChangeReason"]


def test_a_query_can_be_stopped(client: Any) -> None:
    many = "unnest(sequence(1, 9000))"
    slow = f"select count(*) from {many} as a (x), {many} as b (y), {many} as c (z) where sin(x * y * z) > 2"
    query_id = client.start_query_execution(QueryString=slow, WorkGroup="dbt")["QueryExecutionId"]
    running = client.batch_get_query_execution(QueryExecutionIds=[query_id, "none"])
    assert running["QueryExecutions"][0]["Status"]["State"] == "RUNNING"
    assert [missing["QueryExecutionId"] for missing in running["UnprocessedQueryExecutionIds"]] == ["none"]
    with pytest.raises(ClientError, match="Query has not yet finished"):
        client.get_query_results(QueryExecutionId=query_id)
    started = time.monotonic()
    client.stop_query_execution(QueryExecutionId=query_id)
    status = client.get_query_execution(QueryExecutionId=query_id)["QueryExecution"]["Status"]
    assert status["State"] == "CANCELLED"
    assert time.monotonic() - started < 15


def test_a_token_begins_a_query_once(client: Any) -> None:
    token = str(uuid.uuid4())

    def begin(sql: str) -> str:
        return client.start_query_execution(QueryString=sql, WorkGroup="dbt", ClientRequestToken=token)[
            "QueryExecutionId"
        ]

    assert begin("select 1") == begin("select 1")
    with pytest.raises(ClientError, match="Idempotent parameters do not match"):
        begin("select 2")


def test_workgroups_and_catalogues(client: Any) -> None:
    def enforced(name: str) -> bool:
        return client.get_work_group(WorkGroup=name)["WorkGroup"]["Configuration"]["EnforceWorkGroupConfiguration"]

    assert (enforced("dbt"), enforced("primary")) == (True, False)
    assert {group["Name"] for group in client.list_work_groups()["WorkGroups"]} == {"dbt", "primary"}
    assert client.get_data_catalog(Name="awsdatacatalog")["DataCatalog"]["Type"] == "GLUE"
    assert client.list_data_catalogs()["DataCatalogsSummary"][0]["CatalogName"] == "AwsDataCatalog"


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda c: c.get_work_group(WorkGroup="none"), "WorkGroup none is not found"),
        (lambda c: c.get_data_catalog(Name="none"), "DataCatalog none was not found"),
        (lambda c: c.get_query_execution(QueryExecutionId="none"), "QueryExecution none was not found"),
        (lambda c: c.start_query_execution(QueryString="select 1", WorkGroup="none"), "WorkGroup none is not found"),
        (lambda c: c.start_query_execution(QueryString='drop table "a"."b"', WorkGroup="dbt"), "no viable alternative"),
        (lambda c: c.start_query_execution(QueryString=f"select '{'x' * 262_144}'", WorkGroup="dbt"), "262144"),
    ],
)
def test_requests_that_athena_refuses(client: Any, ask: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(ClientError, match=message) as error:
        ask(client)
    assert error.value.response["Error"]["Code"] == "InvalidRequestException"


def test_an_action_that_it_does_not_know_is_refused(client: Any) -> None:
    with pytest.raises(ClientError) as error:
        client.create_named_query(Name="a", Database="b", QueryString="select 1")
    assert error.value.response["Error"]["Code"] == "UnknownOperationException"


def test_faults_are_injected_by_pattern_and_so_often(local_athena: LocalAthena, run: Run) -> None:
    athena.inject(local_athena.engine, {"pattern": "as broken", "error": "ICEBERG_COMMIT_ERROR: made up", "times": 2})
    states = [run("select 1 as broken")["Status"] for _ in range(3)]
    assert [state["State"] for state in states] == ["FAILED", "FAILED", "SUCCEEDED"]
    assert states[0]["AthenaError"]["ErrorType"] == 233  # an Iceberg table's, by which dbt-athena tries again
    assert run("select 1 as whole")["Status"]["State"] == "SUCCEEDED"
    athena.inject(local_athena.engine, {"pattern": "as broken", "error": "again"})
    athena.inject(local_athena.engine)
    assert run("select 1 as broken")["Status"]["State"] == "SUCCEEDED"


def test_each_statement_is_in_the_log(local_athena: LocalAthena, run: Run) -> None:
    succeeded(run(iceberg("logged", "select 1 as a")))
    run("select 1 as no_such_thing, oops")
    succeeded(run(f"select a from {SCHEMA}.logged"))
    created, failed, read = [json.loads(line) for line in local_athena.log.read_text().splitlines()[-3:]]
    assert (created["rule"], created["rows_written"], created["state"]) == ("create_table_as", 1, "SUCCEEDED")
    assert created["sent"][0].startswith(f'create table "awsdatacatalog"."{SCHEMA}"."logged" with (location')
    assert (failed["state"], failed["reason"].split(":")[0]) == ("FAILED", "COLUMN_NOT_FOUND")
    assert (read["rule"], read["rows"], read["sent"]) == (None, 1, [f"select a from {SCHEMA}.logged"])
    assert read["bytes_scanned"] > 0
