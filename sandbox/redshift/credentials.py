"""GetCredentials of Redshift Serverless, as `method: iam` asks for it: a database user and a password for a while.

The user follows from who asks: an access key that bears the name of one of the project's IAM roles is that role, any
other one is Airflow's, by which dbt comes. Signatures are not checked: keys are made up on a laptop.

`GET /_sandbox/faults` and `POST /_sandbox/faults` (a JSON list) show and tell the faults that the proxy commits.
"""

import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sandbox.redshift.faults import Faults

ROLES = ("airflow", "analyst", "engineer", "notebook")  # those of infra/warehouse.sql
LIFETIME = 900  # seconds, what GetCredentials gives by default


@dataclass(frozen=True)
class Credential:
    """A user's password for a while."""

    user: str
    password: str
    expires: float  # seconds since 1970

    def digest(self, salt: bytes) -> bytes:
        return hashlib.sha256(self.password.encode() + salt).digest()


class Credentials:
    """The passwords that were given out. A user has one at a time, so that two programs may come as the same user."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._given: dict[str, Credential] = {}

    def give(self, user: str) -> Credential:
        known = self._given.get(user)
        if known is None or known.expires < self._clock() + LIFETIME / 2:
            known = Credential(user, secrets.token_urlsafe(24), self._clock() + LIFETIME)
            self._given[user] = known
        return known

    def find(self, user: str) -> Credential | None:
        """The user's password, unless it has expired."""
        known = self._given.get(user)
        return known if known and known.expires > self._clock() else None


def user_of(authorization: str, environment: str) -> str:
    """The database user for the header of a signed request."""
    found = re.search(r"Credential=([^/]+)/", authorization)
    roles = {f"lakehouse-{environment}-{name}": name for name in ROLES}
    return f"IAMR:lakehouse-{environment}-{roles.get(found[1] if found else '', 'airflow')}"


class Server(ThreadingHTTPServer):
    """Answers on a port of 127.0.0.1."""

    daemon_threads = True

    def __init__(self, port: int, credentials: Credentials, faults: Faults, environment: str) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.credentials, self.faults, self.environment = credentials, faults, environment


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if self.path == "/_sandbox/faults":
            self._answer(200, self.server.faults.pending())
        else:
            self._answer(404, {"message": f"nothing is at {self.path}"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        if self.path == "/_sandbox/faults":
            try:
                self.server.faults.tell(body)
            except ValueError as error:
                return self._answer(400, {"message": str(error)})
            return self._answer(200, self.server.faults.pending())
        if operation != "GetCredentials":
            message = f"the stand-in of Redshift Serverless answers GetCredentials alone, not {operation or self.path}"
            return self._answer(400, {"__type": "UnknownOperationException", "message": message})
        given = self.server.credentials.give(user_of(self.headers.get("Authorization", ""), self.server.environment))
        return self._answer(200, {
            "dbUser": given.user,
            "dbPassword": given.password,
            "expiration": given.expires,
            "nextRefreshTime": given.expires - LIFETIME / 2,
        })  # fmt: skip

    def _answer(self, status: int, content: Any) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None: ...
