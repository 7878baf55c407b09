"""The AWS below the local Athena: moto's S3, Glue, STS, Lake Formation, SNS, Secrets Manager and the rest, on loopback.

Run: python -m sandbox.athena.aws PORT. All of it is in memory: what it holds ends with the process.

The one module that reaches into moto (5.2).
"""

import json
import sys
import threading
from collections.abc import Callable

from moto.glue.responses import GlueResponse
from moto.server import ThreadedMotoServer


def serve(port: int) -> ThreadedMotoServer:
    """Start the server in threads of this process."""
    know_no_column_statistics()
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    return server


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


def _always(answer: dict) -> Callable[[GlueResponse], str]:
    return lambda self: json.dumps(answer)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
    threading.Event().wait()
