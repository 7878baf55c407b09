"""The AWS below the local Athena: moto's S3, Glue, STS, Lake Formation, SNS, Secrets Manager and the rest, on loopback.

Run: python -m sandbox.athena.aws PORT. All of it is in memory: what it holds ends with the process.

The one module that reaches into moto (5.2).
"""

import json
import sys
from collections.abc import Callable
from typing import Any

from moto import backends
from moto.glue.responses import GlueResponse
from moto.lakeformation.models import LakeFormationBackend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server


class Handler(MotoRequestHandler):
    """Says nothing of each request: Athena's log of statements says what was asked."""

    def log_request(self, *_: object) -> None: ...


def server(port: int) -> BaseWSGIServer:
    know_no_column_statistics()
    let_tables_have_no_tags()
    list_modules_once()
    application = DomainDispatcherApplication(create_backend_app)
    return make_server("127.0.0.1", port, application, threaded=True, request_handler=Handler)


def know_no_column_statistics() -> None:
    """Let Glue know nothing of any column's statistics, and forget what it is told.

    moto answers 500 to these actions. Trino's SDK then tries each of them again and again, and seeds fail.
    """
    for kind in ("table", "partition"):
        for action, answer in {
            f"get_column_statistics_for_{kind}": {"ColumnStatisticsList": [], "Errors": []},
            f"update_column_statistics_for_{kind}": {"Errors": []},
            f"delete_column_statistics_for_{kind}": {},
        }.items():
            setattr(GlueResponse, action, _always(answer))


def let_tables_have_no_tags() -> None:
    """Let Lake Formation say of what was never tagged that it has no tags. moto answers 500."""
    tags = LakeFormationBackend.get_resource_lf_tags

    def known(self: LakeFormationBackend, catalog_id: str, resource: dict[str, Any]) -> tuple[list, list, list]:
        try:
            return tags(self, catalog_id, resource)
        except KeyError:
            return [], [], []

    LakeFormationBackend.get_resource_lf_tags = known


def list_modules_once() -> None:
    """Let moto read its own folder once and not for each request, a tenth of a request's time."""
    modules = list(backends.list_of_moto_modules())
    backends.list_of_moto_modules = lambda: modules


def _always(answer: dict[str, Any]) -> Callable[[GlueResponse], str]:
    return lambda self: json.dumps(answer)


if __name__ == "__main__":
    server(int(sys.argv[1])).serve_forever()
