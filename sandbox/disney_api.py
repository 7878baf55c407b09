"""A stand-in of the Disney API: its envelope, its quirks, a catalogue that changes, and lies on demand.

As the real one (captures of November 2023 to January 2026): `data` is an object when exactly one record is on
the page, a page after the end is 200 with `[]`, `nextPage` says http:// and drops the filters, there is no total
and no sort, `pageSize` has no maximum, `imageUrl` is absent when unknown. The lies are in disney_lies.py.

On a running stand-in `POST /_sandbox/lies` (a JSON list) tells other lies, `POST /_sandbox/change` (`{"seed": 1}`,
or no body) changes some characters, `GET /_sandbox/requests` lists what was asked.
"""

import argparse
import json
import logging
import math
import threading
import time
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from sandbox.characters import characters
from sandbox.disney_lies import (
    CATALOGUE_LIES,
    ENVELOPE_LIES,
    KINDS,
    PAGE_LIES,
    SENDING_LIES,
    Answer,
    Lie,
    apply,
    new_characters,
)

log = logging.getLogger(__name__)

DEFAULT_PAGE_SIZE = 50


class DisneyApi:
    """The server: a context manager that answers on 127.0.0.1, on a free port unless one is given.

    `records` are made up unless they are given, and may be changed at will (put another record in its place, do not
    edit it); `requests` lists the paths asked for, `connections` counts what they came by. `latency` is in seconds for
    each answer; `max_page_size` bounds what a client gets, as the real API does not.
    """

    def __init__(
        self,
        records: Iterable[Any] | None = None,
        *,
        latency: float = 0.0,
        lies: Iterable[str] = (),
        max_page_size: int | None = None,
        port: int = 0,
    ) -> None:
        self.records = characters() if records is None else list(records)
        self.latency = latency
        self.max_page_size = max_page_size
        self.connections = 0
        self._changes = 0
        self._lock = threading.Lock()
        self.tell(*lies)
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.api = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def tell(self, *lies: str) -> None:
        """Tell these lies from now on and no others; requests are listed and numbered anew."""
        parsed = [Lie.parse(text) for text in lies]
        with self._lock:
            self._lies = parsed
            self.requests: list[str] = []

    def change(self, seed: int | None = None) -> dict[str, int]:
        """Edit, remove and add some characters: one in 500, and one more. Says how many."""
        with self._lock:
            self._changes += 1
            rng = Random(self._changes if seed is None else seed)
            some = min(1 + len(self.records) // 500, len(self.records))
            for position in rng.sample(range(len(self.records)), some):
                record = self.records[position]
                films = [*record["films"], f"The Return of {record['name']}"]
                self.records[position] = record | {"films": films}
            added = new_characters(self.records, some, seed=rng.getrandbits(32))
            for position in sorted(rng.sample(range(len(self.records)), some), reverse=True):
                del self.records[position]
            self.records += added
        return {"edited": some, "removed": some, "added": some}

    def answer(self, path: str, host: str) -> Answer:
        """The answer to a GET of `/character` or `/character/:id`, with the lies whose turn it is."""
        url = urlsplit(path)
        query = dict(parse_qsl(url.query))
        with self._lock:
            self.requests.append(path)
            lies = [lie for lie in self._lies if lie.meets(len(self.requests))]
            for lie in lies:
                if lie.kind in CATALOGUE_LIES:
                    CATALOGUE_LIES[lie.kind](self.records)
            records = _select(self.records, url.path, query)
        size = min(_positive(query.get("pageSize"), DEFAULT_PAGE_SIZE), self.max_page_size or math.inf)
        number = _positive(query.get("page"), 1)
        pages = math.ceil(len(records) / size)
        answer = Answer(records, number, size, records[(number - 1) * size : number * size], {"totalPages": pages})
        apply(lies, PAGE_LIES, answer)
        answer.info = {
            "count": len(answer.data),
            "totalPages": answer.info["totalPages"],
            "previousPage": _link(host, number - 1, size) if 1 < number <= pages else None,
            "nextPage": _link(host, number + 1, size) if number < pages else None,
        }
        answer.envelope = {
            "info": answer.info,
            "data": answer.data[0] if len(answer.data) == 1 else answer.data,
        }
        apply(lies, ENVELOPE_LIES, answer)
        answer.body = encode(answer.envelope).encode()
        time.sleep(self.latency)
        apply(lies, SENDING_LIES, answer)
        return answer


def encode(value: Any) -> str:
    """JSON as the API writes it: compact, nothing escaped that need not be."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _select(records: list[Any], path: str, query: dict[str, str]) -> list[Any]:
    """The records of `/character/:id`, or those whose fields hold the filters' text in whatever case."""
    _, _, identity = path.strip("/").partition("/")
    if identity:
        return [record for record in records if str(record["_id"]) == identity]
    filters = {name: text.casefold() for name, text in query.items() if name not in ("page", "pageSize")}
    if not filters:
        return records.copy()
    return [
        record
        for record in records
        if all(text in encode(record.get(name, "")).casefold() for name, text in filters.items())
    ]


def _positive(text: str | None, default: int) -> int:
    return int(text) if text and text.isdigit() and int(text) else default


def _link(host: str, number: int, size: int) -> str:
    return f"http://{host}/character?page={number}&pageSize={size}"


class _Server(ThreadingHTTPServer):
    api: DisneyApi
    request_queue_size = 128

    def process_request(self, request: Any, client_address: Any) -> None:
        self.api.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a client went away before its answer was sent", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"  # connections stay open
    wbufsize = -1  # head and body leave in one write ...
    disable_nagle_algorithm = True  # ... and at once

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/_sandbox/requests":
            self._send_json(self.server.api.requests)
        elif path == "/character" or path.startswith("/character/"):
            self._send(self.server.api.answer(self.path, self.headers.get("Host", "")))
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            asked = json.loads(body or b"{}")
            if self.path == "/_sandbox/change":
                self._send_json(self.server.api.change(asked.get("seed")))
            elif self.path == "/_sandbox/lies":
                self.server.api.tell(*asked)
                self._send_json(asked)
            else:
                self.send_error(404)
        except (ValueError, AttributeError, TypeError) as error:
            self.send_error(400, explain=str(error))

    def _send_json(self, value: Any) -> None:
        self._send(Answer([], 1, 1, [], {}, body=encode(value).encode()))

    def _send(self, answer: Answer) -> None:
        if answer.sent is not None:
            self.close_connection = True
        if answer.sent == 0:
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        for byte in answer.body if answer.pause else b"":
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            time.sleep(answer.pause)
        if not answer.pause:
            self.wfile.write(answer.body[: answer.sent])

    def log_message(self, *message: Any) -> None:
        log.debug(*message)


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `disney-api` to the sandbox's command line."""
    parser = subparsers.add_parser(
        "disney-api",
        help="serve a stand-in of the Disney API until interrupted; prints its URL",
        description=__doc__,
        epilog=f"kinds of lies: {', '.join(KINDS)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1 (default: a free one)")
    parser.add_argument("--data", type=Path, help="a JSON list of characters to serve in place of made-up ones")
    parser.add_argument("--characters", type=int, default=9800, help="how many to make up (default: 9800)")
    parser.add_argument("--seed", type=int, default=7, help="of the made-up characters (default: 7)")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="milliseconds added to each answer")
    parser.add_argument("--max-page-size", type=int, help="bound on pageSize (the real API has none)")
    parser.add_argument("--change-every", type=float, metavar="SECONDS", help="change some characters that often")
    parser.add_argument("--lie", action="append", default=[], metavar="KIND[=VALUE][:FIRST[-[LAST]]]")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Serve until interrupted."""
    if options.data:
        records = json.loads(options.data.read_text(encoding="utf-8"))
    else:
        records = characters(options.characters, options.seed)
    with DisneyApi(
        records,
        latency=options.latency_ms / 1000,
        lies=options.lie,
        max_page_size=options.max_page_size,
        port=options.port,
    ) as api:
        print(api.url, flush=True)
        while True:
            time.sleep(options.change_every or 3600)
            if options.change_every:
                log.info("changed characters: %s", api.change())
