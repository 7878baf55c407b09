"""What a later cycle of dbt asks of Athena and Redshift, heard by stand-ins of them that run no SQL.

The stand-ins say what the project's macros ask to know as a lake would where one batch of changes and one crawl are
new. Everything else is real: the adapters, the graph, its hooks and tests. Glue and S3 are moto's.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch
from uuid import uuid4

import boto3
import redshift_connector
import requests
from botocore.client import BaseClient
from dbt.cli.main import dbtRunner
from moto.server import ThreadedMotoServer

from benchmarks.world import ROOT
from loaders import raw

LAYERS = ("staging", "curated", "refined")
BUCKETS = ("lake", "vault", "athena-results")
# What a later run finds new: today's date, the batch before and the one that has just landed.
TODAY = date(2026, 11, 25)
BATCHES = [raw.new_batch_id(datetime(2026, 11, 25, 12, minute, tzinfo=UTC)) for minute in (0, 5)]
Row = Sequence[tuple[str, str, str]]  # of (column, type, value)
# What macros ask (dbt_project/macros/), by the text of the question, and its answer.
ANSWERS: dict[str, Row] = {
    r"as should_error\s": [
        ("failures", "bigint", "0"), ("should_warn", "boolean", "false"), ("should_error", "boolean", "false"),
    ],
    r"select max\(load_date\) from": [("load_date", "date", str(TODAY))],
    r"min\(batch_id\) as first_batch_id": [("first", "varchar", BATCHES[1]), ("last", "varchar", BATCHES[1])],
    r"select max\((last_)?batch_id\) from": [("batch_id", "varchar", BATCHES[0])],
    r"min\(key_id\) as least": [("least", "varchar", "key"), ("greatest", "varchar", "key")],
    r"select min\(committed_at\) from": [("committed_at", "timestamp", "2026-11-25 12:00:00.000")],
    r"as max_loaded_at": [
        ("max_loaded_at", "timestamp", "2026-11-25 12:05:00.000"),
        ("snapshotted_at", "timestamp", "2026-11-25 12:06:00.000"),
    ],
}  # fmt: skip
# Whether some update left a long value out (TOAST), so that it has to be completed from what was known.
LONG_VALUES: dict[str, Row] = {r"\.unchanged_columns is not null[\s\S]+limit 1": [("user_id", "bigint", "1")]}


class Statement(NamedTuple):
    """One statement that dbt sent: for which node of its graph, and its SQL."""

    node: str
    sql: str


class Cycle(NamedTuple):
    """What one run of dbt asked of AWS."""

    statements: Sequence[Statement]
    requests: Mapping[str, int]  # by service and operation, without Athena's polling, which follows the clock


@contextmanager
def moto(**settings: str) -> Iterator[None]:
    """A local server of S3, Glue, Secrets Manager and STS with empty buckets; boto3 and our settings point to it.

    What it holds belongs to this process and not to the server, so it is emptied before and after.
    """
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    reset = f"http://{host}:{port}/moto-api/reset"
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        **dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "made-up"),
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "LAKE_URI": "s3://lake",
        "VAULT_URI": "s3://vault",
        "DO_NOT_TRACK": "1",
        **settings,
    }
    with patch.dict(os.environ, environment):
        requests.post(reset, timeout=10)
        for bucket in BUCKETS:
            boto3.client("s3").create_bucket(Bucket=bucket)
        try:
            yield
        finally:
            requests.post(reset, timeout=10)
            server.stop()


@contextmanager
def counted() -> Iterator[Counter]:
    """How often each operation of each service is called by boto3 in this process, until the block ends."""
    found: Counter = Counter()
    send, lock = BaseClient._make_api_call, Lock()

    def noted(client: BaseClient, operation: str, params: dict[str, Any]) -> Any:
        with lock:
            found[f"{client.meta.service_model.service_name}:{operation}"] += 1
        return send(client, operation, params)

    with patch.object(BaseClient, "_make_api_call", noted):
        yield found


def athena(work: Path, *runs: Sequence[str], long_values: bool = False) -> Cycle:
    """What dbt's commands send to Athena in a later cycle, one after the other.

    `work` is an empty folder. Raises RuntimeError where a command fails.
    """
    with moto(), patch.dict(os.environ, {"ATHENA_RESULTS_URI": "s3://athena-results/dbt/"}):
        manifest = dbt(work, "parse", target="athena").result
        engine = Athena(manifest, ANSWERS | (LONG_VALUES if long_values else {}))
        with engine.listening(), counted() as asked:
            for run in runs:
                dbt(work, *run, target="athena")
    return Cycle(engine.statements, {name: number for name, number in asked.items() if name not in POLLING})


def redshift(work: Path, selector: str) -> Cycle:
    """What `dbt build --target redshift` sends in a later cycle; without what it asks S3 and Glue, which is nothing."""
    host = {"REDSHIFT_HOST": "group.123456789012.us-east-1.redshift-serverless.amazonaws.com"}
    with moto(), patch.dict(os.environ, host):
        manifest = dbt(work, "parse", target="redshift").result
        engine = Redshift(manifest)
        with patch.object(redshift_connector, "connect", engine.connect):
            dbt(work, "build", "--exclude-resource-type", "unit_test", "--selector", selector, target="redshift")
    return Cycle(engine.statements, {})


POLLING = ("athena:GetQueryExecution", "athena:GetQueryResults")


def dbt(work: Path, command: str, *arguments: str, target: str) -> Any:
    """Run dbt in this process, with its outputs below `work`. Raises RuntimeError with what failed."""
    paths = ["--project-dir", str(ROOT / "dbt_project"), "--profiles-dir", str(ROOT)]
    paths += ["--target-path", str(work / "target"), "--log-path", str(work / "logs")]
    done = dbtRunner().invoke([command, *arguments, *paths, "--target", target, "--quiet"])
    if not done.success:
        messages = [
            f"{result.node.name}: {result.message}"
            for result in getattr(done.result, "results", [])
            if result.status not in ("success", "pass", "skipped")
        ]
        raise RuntimeError(f"dbt {command}: {done.exception or messages}")
    return done


def answer(sql: str, answers: Mapping[str, Row]) -> Row:
    """What a lake with one new batch says to a macro's question; no row to any other statement."""
    return next((row for question, row in answers.items() if re.search(question, sql)), [])


def columns_of(manifest: Any) -> dict[str, list[tuple[str, str]]]:
    """Name and type of each column of each node of dbt's graph."""
    nodes = [*manifest.nodes.values(), *manifest.sources.values()]
    return {
        node.unique_id: [(column.name, column.data_type or "varchar") for column in node.columns.values()]
        for node in nodes
    }


def node_of(sql: str) -> str:
    """The node of dbt's graph for which a statement was sent; dbt writes it into a comment."""
    found = re.search(r'"node_id": "([^"]+)"', sql)
    return found[1] if found else ""


class Athena:
    """Answers boto3's calls of Athena; what it creates stands in Glue, where dbt's adapter looks for it."""

    def __init__(self, manifest: Any, answers: Mapping[str, Row]) -> None:
        self.columns, self.answers = columns_of(manifest), answers
        self.statements: list[Statement] = []
        self.running: dict[str, str] = {}
        self.lock = Lock()
        for layer in LAYERS:  # all models and seeds are there, as after a run
            boto3.client("glue").create_database(DatabaseInput={"Name": layer})
        for node in manifest.nodes.values():
            if node.resource_type in ("model", "seed"):
                is_view = node.config.materialized == "view"
                self.create(node.schema, node.alias, self.columns[node.unique_id], is_view=is_view)

    def create(self, schema: str, name: str, columns: Sequence[tuple[str, str]], *, is_view: bool = False) -> None:
        boto3.client("glue").create_table(
            DatabaseName=schema,
            TableInput={
                "Name": name,
                "TableType": "VIRTUAL_VIEW" if is_view else "EXTERNAL_TABLE",
                "Parameters": {} if is_view else {"table_type": "ICEBERG"},
                "StorageDescriptor": {
                    "Columns": [{"Name": column, "Type": kind} for column, kind in columns],
                    "Location": f"s3://lake/tables/{schema}/{name}",
                },
            },
        )

    @contextmanager
    def listening(self) -> Iterator[None]:
        answers = {
            "StartQueryExecution": self.start,
            "GetQueryExecution": self.status,
            "GetQueryResults": self.results,
        }
        send = BaseClient._make_api_call

        def called(client: BaseClient, operation: str, params: dict[str, Any]) -> Any:
            mine = answers.get(operation) if client.meta.service_model.service_name == "athena" else None
            return mine(params) if mine else send(client, operation, params)

        with patch.object(BaseClient, "_make_api_call", called):
            yield

    def start(self, params: dict[str, Any]) -> dict[str, str]:
        sql, number = params["QueryString"], str(uuid4())
        created = re.search(r'^create table "awsdatacatalog"\."(\w+)"\."(\w+)"', sql, re.MULTILINE)
        if created:
            self.create(created[1], created[2], self.columns[node_of(sql)])
        with self.lock:
            self.statements.append(Statement(node_of(sql), sql))
            self.running[number] = sql
        return {"QueryExecutionId": number}

    def status(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"QueryExecution": {"Status": {"State": "SUCCEEDED"}, "StatementType": "DML", "Statistics": {}}}

    def results(self, params: dict[str, Any]) -> dict[str, Any]:
        sql = self.running[params["QueryExecutionId"]]
        if is_schema_question(sql):
            row, values = self.columns[node_of(sql)], []
        else:
            values = answer(sql, self.answers)
            row = [(name, kind) for name, kind, _ in values]
        data = [[name for name, _ in row], *([[value for *_, value in values]] if values else [])] if row else []
        return {
            "UpdateCount": 0,
            "ResultSet": {
                "Rows": [{"Data": [{"VarCharValue": value} for value in line]} for line in data],
                "ResultSetMetadata": {"ColumnInfo": [{"Name": name, "Type": kind} for name, kind in row]},
            },
        }


def is_schema_question(sql: str) -> bool:
    """Whether dbt only asks which columns a query has, to hold them against a model's contract."""
    return bool(re.search(r"where false\s+limit 0\s*$", sql))


OIDS = {"boolean": 16, "bigint": 20, "integer": 23, "varchar": 1043, "date": 1082, "timestamp": 1114, "decimal": 1700}


class Redshift:
    """Stands where redshift_connector would open its socket; knows refined's tables, as after a run."""

    def __init__(self, manifest: Any) -> None:
        nodes = [node for node in manifest.nodes.values() if node.schema == "refined" and node.resource_type == "model"]
        self.tables = [("lakehouse", node.alias, "refined", "table") for node in nodes]
        self.columns = columns_of(manifest)
        self.statements: list[Statement] = []

    def connect(self, **_: Any) -> Any:
        def nothing() -> None: ...

        return SimpleNamespace(cursor=lambda: RedshiftCursor(self), close=nothing, commit=nothing, rollback=nothing)


class RedshiftCursor:
    rowcount = 0

    def __init__(self, engine: Redshift) -> None:
        self.engine = engine
        self.description: Sequence[tuple[str, int]] | None = None
        self.rows: list[tuple] = []

    def __enter__(self) -> "RedshiftCursor":
        return self

    def __exit__(self, *_: object) -> None: ...

    def execute(self, sql: str, *_: Any) -> "RedshiftCursor":
        self.engine.statements.append(Statement(node_of(sql), sql))
        if "from information_schema.tables" in sql:
            self.rows = self.engine.tables
            self.description = [(name, OIDS["varchar"]) for name in ("database", "name", "schema", "type")]
        elif "where false" in sql:
            self.rows, columns = [], self.engine.columns[node_of(sql)]
            self.description = [(name, OIDS[kind.partition("(")[0]]) for name, kind in columns]
        else:
            found = answer(sql, ANSWERS)
            self.rows = [tuple(PYTHON.get(kind, str)(value) for _, kind, value in found)] if found else []
            self.description = [(name, OIDS[kind]) for name, kind, _ in found] or None
        return self

    def fetchone(self) -> tuple | None:
        return self.rows[0] if self.rows else None

    def fetchall(self) -> list[tuple]:
        return self.rows


PYTHON: dict[str, Any] = {
    "bigint": int, "boolean": "true".__eq__, "date": date.fromisoformat, "timestamp": datetime.fromisoformat,
}  # fmt: skip
