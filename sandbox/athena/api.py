"""Athena's JSON API on loopback, as far as dbt-athena and boto3 use it for queries.

Run: python -m sandbox.athena.api PORT TRINO_PORT AWS_URL LOG. What it has no answer to it refuses.

Besides, `POST /_sandbox/faults` takes a list of errors to inject (queries.Fault) in place of those it had.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from sandbox.athena import client
from sandbox.athena.queries import ENGINE, MAX_PAGE, Fault, Queries, RequestError, WorkGroup, execution, page

# As the shipped stack has it (infra/stacks/query.yaml): dbt's workgroup enforces where results go.
WORKGROUPS = (
    WorkGroup("dbt", "s3://athena-results/dbt/", enforced=True),
    WorkGroup("primary", "s3://athena-results/", enforced=False),
)
LONG_POLL = (
    20.0  # seconds for which GetQueryExecution waits for the end, so that a client's poll interval costs nothing
)
CATALOG = {"Name": "AwsDataCatalog", "Type": "GLUE", "Parameters": {"catalog-id": "123456789012"}}

Answer = dict[str, Any]


class Api:
    """The actions by their names; each takes a request's fields. Raises RequestError."""

    def __init__(self, queries: Queries) -> None:
        self.queries = queries

    def StartQueryExecution(self, body: Answer) -> Answer:  # noqa: N802
        context = body.get("QueryExecutionContext", {})
        query = self.queries.start(
            _required(body, "QueryString"),
            catalog=(context.get("Catalog") or CATALOG["Name"]).lower(),
            schema=context.get("Database") or "default",
            group=self.queries.workgroup(body.get("WorkGroup") or "primary"),
            output=body.get("ResultConfiguration", {}).get("OutputLocation"),
            token=body.get("ClientRequestToken"),
        )
        return {"QueryExecutionId": query.id}

    def StopQueryExecution(self, body: Answer) -> Answer:  # noqa: N802
        self.queries.stop(_required(body, "QueryExecutionId"))
        return {}

    def GetQueryExecution(self, body: Answer) -> Answer:  # noqa: N802
        query = self.queries.find(_required(body, "QueryExecutionId"))
        query.done.wait(LONG_POLL)
        return {"QueryExecution": execution(query)}

    def BatchGetQueryExecution(self, body: Answer) -> Answer:  # noqa: N802
        found, missing = [], []
        for query_id in _required(body, "QueryExecutionIds"):
            try:
                found.append(execution(self.queries.find(query_id)))
            except RequestError as error:
                missing.append({"QueryExecutionId": query_id, "ErrorCode": "INVALID_INPUT", "ErrorMessage": str(error)})
        return {"QueryExecutions": found, "UnprocessedQueryExecutionIds": missing}

    def GetQueryResults(self, body: Answer) -> Answer:  # noqa: N802
        query = self.queries.find(_required(body, "QueryExecutionId"))
        return page(query, body.get("NextToken"), body.get("MaxResults", MAX_PAGE))

    def GetWorkGroup(self, body: Answer) -> Answer:  # noqa: N802
        group = self.queries.workgroup(_required(body, "WorkGroup"))
        configuration = {
            "EnforceWorkGroupConfiguration": group.enforced,
            "ResultConfiguration": {"OutputLocation": group.results},
            "EngineVersion": ENGINE,
        }
        return {"WorkGroup": {"Name": group.name, "State": "ENABLED", "Configuration": configuration}}

    def ListWorkGroups(self, body: Answer) -> Answer:  # noqa: N802
        return {"WorkGroups": [{"Name": name, "State": "ENABLED"} for name in self.queries.workgroups]}

    def GetDataCatalog(self, body: Answer) -> Answer:  # noqa: N802
        if _required(body, "Name").lower() != CATALOG["Name"].lower():
            raise RequestError(f"DataCatalog {body['Name']} was not found")
        return {"DataCatalog": CATALOG | {"Name": body["Name"]}}

    def ListDataCatalogs(self, body: Answer) -> Answer:  # noqa: N802
        return {"DataCatalogsSummary": [{"CatalogName": CATALOG["Name"], "Type": CATALOG["Type"]}]}


def _required(body: Answer, name: str) -> Any:
    if body.get(name) in (None, ""):
        raise RequestError(f"1 validation error detected: Value null at '{name[0].lower()}{name[1:]}' must not be null")
    return body[name]


def handler(api: Api) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each answer waits 40 ms for the client's acknowledgement of its headers

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
            if self.path == "/_sandbox/faults":
                api.queries.faults = [Fault(**fault) for fault in body]
                return self._say(200, {})
            name = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
            action = getattr(api, name, None) if name[:1].isupper() else None
            if action is None:
                return self._say(400, {"__type": "UnknownOperationException", "message": f"{name} is not known here"})
            try:
                return self._say(200, action(body))
            except RequestError as error:
                refused = {
                    "__type": "InvalidRequestException",
                    "Message": str(error),
                    "AthenaErrorCode": "INVALID_INPUT",
                }
                return self._say(400, refused)

        def _say(self, status: int, answer: Answer) -> None:
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Each query is in the log of statements."""

    return Handler


def serve(port: int, trino_port: int, aws_url: str, log: Path) -> ThreadingHTTPServer:
    glue = client("glue", aws_url)
    return ThreadingHTTPServer(("127.0.0.1", port), handler(Api(Queries(trino_port, glue, WORKGROUPS, log))))


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])).serve_forever()
