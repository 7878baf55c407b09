"""`make docs`: serve the docs site that `dbt docs generate` has made, on loopback."""

import argparse
import errno
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TARGET = Path(__file__).parent.parent / "dbt_project/target"


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing: the line that says where the site is stays the last one."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("docs", help="serve the docs site that `dbt docs generate` has made")
    parser.add_argument("--port", type=int, default=8080, help="on 127.0.0.1, or any other where it is taken")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    if not (TARGET / "index.html").exists():
        raise SystemExit(f"{TARGET} has no docs site: make docs")
    with server(options.port) as http:
        print(f"Docs site: http://127.0.0.1:{http.server_port} (Ctrl-C ends it)", flush=True)
        http.serve_forever()


def server(port: int) -> ThreadingHTTPServer:
    """A server of the site on the port, or on a free one where another program has it."""
    handler = partial(Handler, directory=str(TARGET))
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return ThreadingHTTPServer(("127.0.0.1", 0), handler)
