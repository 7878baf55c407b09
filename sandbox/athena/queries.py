"""Queries: each runs in a thread of its own, from its plan to its result, and is written to the log of statements."""

import json
import re
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trino.exceptions import TrinoQueryError

from sandbox.athena import catalogue, rules, trino, values

KEPT = 2_000  # queries whose results can be asked for; Athena keeps them for 45 days
AT_ONCE = 16
MAX_PAGE = 1_000  # rows

# Athena's numbers for an error: category 2 is the user's, type 233 an Iceberg table's.
USER_ERROR, ICEBERG_ERROR, OTHER_ERROR = 2, 233, 1


class RequestError(Exception):
    """A request that Athena refuses (InvalidRequestException)."""


@dataclass
class Fault:
    """An error to inject: for `times` statements that match `pattern`, in place of running them."""

    pattern: str
    error: str
    times: int = 1


@dataclass
class WorkGroup:
    """Where a workgroup's results go (s3://.../), and whether its settings overrule a query's."""

    name: str
    results: str
    enforced: bool


@dataclass
class Query:
    """One statement's execution, and its result: rows of Trino's JSON, columns as (name, Trino's type)."""

    sql: str
    plan: rules.Plan
    workgroup: str
    output: str
    catalog: str
    schema: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    state: str = "RUNNING"
    reason: str | None = None
    rows: list[list[Any]] = field(default_factory=list)
    columns: list[tuple[str, str]] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    updated: int = 0
    scanned: int = 0
    started: float = field(default_factory=time.time)
    ended: float | None = None
    running: Any = None  # Trino's cursor
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def lines(self) -> list[Sequence[tuple[Any, str]]]:
        """The result's rows, each cell with its type; a query's first row is its columns' names."""
        kinds = [kind for _, kind in self.columns]
        head = [[(name, "varchar") for name, _ in self.columns]] if self.columns and self.plan.kind == "DML" else []
        return [*head, *(list(zip(row, kinds, strict=True)) for row in self.rows)]


class Queries:
    """All queries of this server. `glue` is boto3's client; `log` gets a JSON line for each query that ends."""

    def __init__(self, trino_port: int, glue: Any, workgroups: Sequence[WorkGroup], log: Path) -> None:
        self.port, self.glue, self.log = trino_port, glue, log
        self.workgroups = {group.name: group for group in workgroups}
        self.faults: list[Fault] = []
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Query] = OrderedDict()
        self._tokens: OrderedDict[str, Query] = OrderedDict()

    def start(
        self, sql: str, *, catalog: str, schema: str, group: WorkGroup, output: str | None, token: str | None
    ) -> Query:
        """Begin a query, or find the one that the same token began. Raises RequestError."""
        results = group.results if group.enforced or not output else output
        query_id = str(uuid.uuid4())
        folder = f"{results.rstrip('/')}/tables/{query_id}/"
        try:
            plan = rules.plan(sql, datetime.now(UTC).date(), results=folder, enforced=group.enforced)
        except rules.RefusedError as error:
            raise RequestError(str(error)) from None
        query = Query(sql, plan, group.name, f"{results.rstrip('/')}/{query_id}.csv", catalog, schema, id=query_id)
        with self._lock:
            if token and (former := self._tokens.get(token)):
                if former.sql != sql:
                    raise RequestError("Idempotent parameters do not match")
                return former
            self._known[query.id] = query
            if token:
                self._tokens[token] = query
            for kept in (self._known, self._tokens):
                while len(kept) > KEPT:
                    kept.popitem(last=False)
        self._pool.submit(self._run, query)
        return query

    def find(self, query_id: str) -> Query:
        try:
            return self._known[query_id]
        except KeyError:
            raise RequestError(f"QueryExecution {query_id} was not found") from None

    def stop(self, query_id: str) -> None:
        query = self.find(query_id)
        with self._lock:
            if query.ended is not None:
                return
            self._end(query, "CANCELLED", "Query cancelled by user")
        if query.running:
            query.running.cancel()

    def workgroup(self, name: str) -> WorkGroup:
        try:
            return self.workgroups[name]
        except KeyError:
            raise RequestError(f"WorkGroup {name} is not found.") from None

    # ---------- running

    def _run(self, query: Query) -> None:
        try:
            if fault := self._fault(query.sql):
                raise rules.FailedError(fault.error)
            self._carry_out(query, query.plan)
            state, reason = "SUCCEEDED", None
        except rules.FailedError as error:
            state, reason = "FAILED", str(error)
        except Exception as error:  # a fault of the local Athena: without a state the client would wait without end
            state, reason = "FAILED", f"LOCAL_ATHENA_ERROR: {type(error).__name__}: {error}"
        with self._lock:
            if query.ended is None:
                self._end(query, state, reason)

    def _end(self, query: Query, state: str, reason: str | None) -> None:
        query.state, query.reason, query.ended = state, reason, time.time()
        line = {
            "at": query.started,
            "seconds": round(query.ended - query.started, 3),
            "state": state,
            "reason": reason,
            "rule": query.plan.by if isinstance(query.plan, rules.Rewritten) else query.plan.rule,
            "bytes_scanned": query.scanned,
            "rows": len(query.rows),
            "rows_written": query.updated,
            "workgroup": query.workgroup,
            "statement": query.sql,
            "sent": query.sent,
        }
        with self.log.open("a") as log:
            log.write(json.dumps(line) + "\n")
        query.done.set()

    def _fault(self, sql: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.pattern, sql, re.I | re.S):
                    fault.times -= 1
                    return fault
        return None

    def _carry_out(self, query: Query, plan: rules.Plan) -> None:
        match plan:
            case rules.Query(sql) | rules.CreateTableAs(sql) | rules.Rewritten(sql):
                self._ask(query, sql)
            case rules.CreateView(sql):
                self._ask(query, sql)
                catalogue.tell_view_columns(self.glue, plan)
            case rules.Vacuum(table):
                schema, name = table.rpartition(".")[0::2]
                properties = self._ask(query, f'select key, value from {schema}."{name.strip(chr(34))}$properties"')
                for statement in rules.vacuumed(table, dict(properties)):
                    self._ask(query, statement)
                query.rows, query.columns = [], []
            case rules.CreateDatabase():
                catalogue.create_database(self.glue, plan)
            case rules.CreateExternalTable():
                catalogue.create_external_table(self.glue, plan)
            case rules.SetProperties():
                if catalogue.is_iceberg(self.glue, plan):
                    self._ask(query, rules.properties_set(plan))
                else:
                    catalogue.set_properties(self.glue, plan)

    def _ask(self, query: Query, sql: str) -> list[list[Any]]:
        """Let Trino run a statement of the query's. Raises FailedError."""
        query.sent.append(sql)
        cursor = query.running = trino.connect(self.port, query.catalog, query.schema).cursor()
        try:
            cursor.execute(sql)
            rows = cursor.fetchall()
        except TrinoQueryError as error:
            raise rules.FailedError(f"{error.error_name}: {error.message}") from None
        query.scanned += (cursor.stats or {}).get("physicalInputBytes", 0)
        if cursor.update_type is None:
            query.rows, query.columns = rows, [(name, kind) for name, kind, *_ in cursor.description or []]
        else:
            query.updated = max(0, cursor.rowcount or 0)
        return rows


def page(query: Query, token: str | None, size: int) -> dict[str, Any]:
    """What GetQueryResults answers: `size` rows from the place that the token names. Raises RequestError."""
    if query.state == "RUNNING":
        raise RequestError("Query has not yet finished. Current state: RUNNING")
    if query.state != "SUCCEEDED":
        raise RequestError(f"Query did not finish successfully. Final query state: {query.state}")
    if not 1 <= size <= MAX_PAGE:
        raise RequestError("MaxResults is more than maximum allowed length 1000.")
    if token is not None and not token.isdigit():
        raise RequestError("Invalid token")
    first, lines = int(token or 0), query.lines
    rows = [
        {"Data": [{} if (shown := values.text(*cell)) is None else {"VarCharValue": shown} for cell in line]}
        for line in lines[first : first + size]
    ]
    columns = [values.column(name, kind) for name, kind in query.columns]
    answer: dict[str, Any] = {
        "UpdateCount": query.updated,
        "ResultSet": {"Rows": rows, "ResultSetMetadata": {"ColumnInfo": columns}},
    }
    if first + size < len(lines):
        answer["NextToken"] = str(first + size)
    return answer


def execution(query: Query) -> dict[str, Any]:
    """What GetQueryExecution answers of a query."""
    status: dict[str, Any] = {"State": query.state, "SubmissionDateTime": query.started}
    if query.ended is not None:
        status["CompletionDateTime"] = query.ended
    if query.reason is not None:
        status["StateChangeReason"] = query.reason
    if query.state == "FAILED":
        kind = ICEBERG_ERROR if (query.reason or "").startswith("ICEBERG") else OTHER_ERROR
        status["AthenaError"] = {
            "ErrorCategory": USER_ERROR,
            "ErrorType": kind,
            "Retryable": False,
            "ErrorMessage": query.reason,
        }
    plan = query.plan
    milliseconds = int(1000 * ((query.ended or time.time()) - query.started))
    return {
        "QueryExecutionId": query.id,
        "Query": query.sql,
        "StatementType": plan.kind,
        "SubstatementType": plan.statement if isinstance(plan, rules.Rewritten) else plan.subkind,
        "ResultConfiguration": {"OutputLocation": query.output},
        "QueryExecutionContext": {"Database": query.schema, "Catalog": query.catalog},
        "WorkGroup": query.workgroup,
        "EngineVersion": ENGINE,
        "Status": status,
        "Statistics": {
            "DataScannedInBytes": query.scanned,
            "EngineExecutionTimeInMillis": milliseconds,
            "TotalExecutionTimeInMillis": milliseconds,
        },
    }


ENGINE = {
    "SelectedEngineVersion": "Athena engine version 3",
    "EffectiveEngineVersion": "Athena engine version 3",
}
