"""What redshift_connector talks to: a proxy on loopback in front of PostgreSQL that speaks as Redshift does.

It takes the driver's start-up parameters, which PostgreSQL does not know; asks for the password as Redshift does, by a
salted digest; says that it is 8.0.2; rewrites each statement (rewrite.py); and calls PostgreSQL's `text` varchar on the
wire, because Redshift has no such type and dbt compares the names of types.
"""

import asyncio
import hashlib
import hmac
import itertools
import re
import secrets
import ssl
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sandbox.redshift import rewrite
from sandbox.redshift.faults import Faults
from sandbox.redshift.rewrite import RefusedError, literal

_numbers = itertools.count(1)  # of sessions
_SSL_REQUEST, _CANCEL = 80877103, 80877102  # codes in the place of a protocol version
_TEXT, _UNKNOWN, _VARCHAR = 25, 705, 1043  # ids of types
_LIMIT = 2**26  # bytes of one message that are held
_DIGEST = re.compile(r"sha256\|[0-9a-f]+\|[0-9a-f]+")  # of a password: not for the log


@dataclass(frozen=True)
class User:
    """How a user logs in, and what their sessions are bound by."""

    name: str
    digests: tuple[bytes, ...]  # sha256(password || salt) of each password that they have now
    salt: bytes
    session_timeout: int | None  # seconds without a statement, after which a session is ended
    statement_timeout: int | None  # milliseconds, after which a statement is


@dataclass(frozen=True)
class Upstream:
    """Where PostgreSQL is. All sessions log in as its superuser and then become the user that the client named."""

    port: int
    database: str
    user: str
    password: str


@dataclass(frozen=True)
class Services:
    """What a session needs of the rest of the stand-in."""

    upstream: Upstream
    find_user: Callable[[str], User | None]
    prepare: Callable[[str], Awaitable[None]]  # a statement is about to run: external tables it names are refreshed
    refuse: Callable[[str, bool], list[str]]  # what Redshift's documentation refuses of a statement
    faults: Faults
    log: Callable[[dict[str, Any]], None]


async def serve(port: int, tls: ssl.SSLContext, services: Services) -> asyncio.Server:
    """Listen on 127.0.0.1. A client that asks for TLS gets it; one that does not goes on in the clear."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await Session(services, reader, writer).run(tls)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass  # the client or PostgreSQL has gone
        finally:
            writer.close()

    return await asyncio.start_server(client, "127.0.0.1", port, limit=_LIMIT)


@dataclass
class Prepared:
    """A statement that was parsed: the client's text, and the one that PostgreSQL has under its name."""

    sql: str
    text: str


@dataclass(frozen=True)
class Pending:
    """A message that PostgreSQL will answer: its kind, and what the log shall say of a statement."""

    kind: str
    noted: dict[str, Any] | None = None


class LoginError(Exception):
    """A client who may not come in; the message is for the client."""


class Session:
    """One client's connection and its twin to PostgreSQL."""

    def __init__(self, services: Services, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.services, self.reader, self.writer = services, reader, writer
        self.number, self.user = next(_numbers), ""
        self.transaction = "I"  # as PostgreSQL says: I idle, T in a transaction, E in a failed one
        self.prepared: dict[bytes, Prepared] = {}  # by the driver's name
        self.portals: dict[bytes, str] = {}  # the statement that each is about to run
        self.pending: deque[Pending] = deque()  # messages that PostgreSQL has not answered, first sent first

    async def run(self, tls: ssl.SSLContext) -> None:
        startup = await self._startup(tls)
        if startup is None:
            return
        try:
            server_reader, server_writer = await self._login(startup)
        except LoginError as error:
            self.writer.write(_message(b"E", _error("28000", str(error))))
            await self.writer.drain()
            return
        both = [
            asyncio.create_task(self._to_server(server_writer)),
            asyncio.create_task(self._to_client(server_reader)),
        ]
        try:
            done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in both:
                task.cancel()
            server_writer.close()

    # ---------- login

    async def _startup(self, tls: ssl.SSLContext) -> dict[str, str] | None:
        """The client's start-up parameters; None when it came to cancel a statement."""
        while True:
            (length,) = struct.unpack("!i", await self.reader.readexactly(4))
            body = await self.reader.readexactly(length - 4)
            (code,) = struct.unpack("!i", body[:4])
            if code == _SSL_REQUEST:
                self.writer.write(b"S")
                await self.writer.drain()
                await self.writer.start_tls(tls)
            elif code == _CANCEL:
                _, server = await asyncio.open_connection("127.0.0.1", self.services.upstream.port)
                server.write(struct.pack("!i", length) + body)
                await server.drain()
                server.close()
                return None
            else:
                parts = [part.decode() for part in body[4:].rstrip(b"\0").split(b"\0")]
                return dict(zip(parts[::2], parts[1::2], strict=False))

    async def _login(self, startup: dict[str, str]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Check the client's password, and come to PostgreSQL as that user. Raises LoginError."""
        self.user, upstream = startup.get("user", ""), self.services.upstream
        user = await asyncio.to_thread(self.services.find_user, self.user)
        if user is None:
            raise LoginError(f'password authentication failed for user "{self.user}"')
        await self._authenticate(user)
        reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port, limit=_LIMIT)
        parameters = {"user": upstream.user, "database": startup.get("database", upstream.database)}
        body = struct.pack("!i", 196608) + b"".join(f"{k}\0{v}\0".encode() for k, v in parameters.items()) + b"\0"
        writer.write(struct.pack("!i", len(body) + 4) + body)
        greeting = await self._until_ready(reader, writer)
        identity = f"set session authorization {_quoted(self.user)}"
        if user.session_timeout:  # in milliseconds; PostgreSQL has one for each state that is idle
            identity += f"; set idle_session_timeout = {user.session_timeout * 1000}"
            identity += f"; set idle_in_transaction_session_timeout = {user.session_timeout * 1000}"
        if user.statement_timeout:
            identity += f"; set statement_timeout = {user.statement_timeout}"
        writer.write(_message(b"Q", identity.encode() + b"\0"))
        await self._until_ready(reader, writer)
        self.writer.write(_message(b"R", struct.pack("!i", 0)) + greeting)
        await self.writer.drain()
        secure = self.writer.get_extra_info("ssl_object") is not None
        self.services.log(
            {"login": self.user, "session": self.number, "database": parameters["database"], "tls": secure}
        )
        return reader, writer

    async def _authenticate(self, user: User) -> None:
        """Redshift's AUTH_REQ_DIGEST: the client proves that it knows sha256(password || salt)."""
        nonce = secrets.token_bytes(16)
        algorithm = 0  # SHA256
        body = struct.pack("!iii", 13, algorithm, len(user.salt)) + user.salt + struct.pack("!i", len(nonce)) + nonce
        self.writer.write(_message(b"R", body))
        await self.writer.drain()
        kind, answer = await _read(self.reader)
        if kind != b"d":
            raise LoginError("a digest of the password was asked for")
        (length,) = struct.unpack("!i", answer[:4])
        proof, client_nonce = answer[4 : 4 + length], answer[8 + length :]
        proofs = [hashlib.sha256(digest + nonce + client_nonce).digest() for digest in user.digests]
        if not any(hmac.compare_digest(proof, expected) for expected in proofs):
            raise LoginError(f'password authentication failed for user "{user.name}"')

    async def _until_ready(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """What PostgreSQL says until it is ready for a statement, as the client shall hear it. Raises LoginError."""
        heard = b""
        while True:
            kind, body = await _read(reader)
            if kind == b"R":
                if struct.unpack("!i", body[:4]) == (3,):
                    writer.write(_message(b"p", self.services.upstream.password.encode() + b"\0"))
            elif kind == b"E":
                raise LoginError(_fields(body)["M"])
            elif kind in (b"S", b"K", b"Z"):
                heard += _message(kind, _as_redshift_says(kind, body))
                if kind == b"Z":
                    return heard

    # ---------- statements

    async def _to_server(self, server: asyncio.StreamWriter) -> None:
        while True:
            kind, body = await _read(self.reader)
            for sent_kind, sent_body in await self._sent(kind, body):
                server.write(_message(sent_kind, sent_body))
            await server.drain()

    async def _sent(self, kind: bytes, body: bytes) -> list[tuple[bytes, bytes]]:
        """What PostgreSQL is sent for a message of the client. Raises ConnectionError for an injected loss."""
        if kind == b"Q":
            sql = body.rstrip(b"\0").decode()
            self.pending += [Pending("execute", self._noted(sql)), Pending("sync")]
            return [(kind, (self._faulty(sql) or await self._text(sql)).encode() + b"\0")]
        if kind == b"P":  # parse: a name, the text, types of parameters
            name, sql, rest = body.split(b"\0", 2)
            text = await self._text(sql.decode())
            self.prepared[name] = Prepared(sql.decode(), text)
            self.pending.append(Pending("parse", self._noted(sql.decode())))
            return [(kind, name + b"\0" + text.encode() + b"\0" + rest)]
        if kind == b"B":  # bind: a portal, the name, parameters
            portal, name, _ = body.split(b"\0", 2)
            return await self._bound(portal, name, body)
        if kind == b"E":  # execute: a portal, how many rows
            self.pending.append(Pending("execute", self._noted(self.portals.get(body.split(b"\0", 1)[0], ""))))
        elif kind == b"C":
            self.pending.append(Pending("close"))
        elif kind == b"S":
            self.pending.append(Pending("sync"))
        return [(kind, body)]

    async def _bound(self, portal: bytes, name: bytes, body: bytes) -> list[tuple[bytes, bytes]]:
        """A statement is about to run, perhaps not for the first time: the driver keeps what it has parsed.

        Where it is another text now, because it meets a fault or has met one, PostgreSQL parses it again.
        """
        prepared = self.prepared.get(name)
        if prepared is None:
            return [(b"B", body)]
        self.portals[portal] = prepared.sql
        fault = self._faulty(prepared.sql)
        text = fault or await self._text(prepared.sql)
        if fault:  # it has no parameters
            body = portal + b"\0" + name + b"\0" + struct.pack("!hhh", 0, 0, 0)
        if text == prepared.text:
            return [(b"B", body)]
        prepared.text = text
        self.pending += [Pending("our close"), Pending("our parse", self._noted(prepared.sql))]
        parse = name + b"\0" + text.encode() + b"\0" + struct.pack("!h", 0)
        return [(b"C", b"S" + name + b"\0"), (b"P", parse), (b"B", body)]

    def _faulty(self, sql: str) -> str | None:
        """The statement that takes this one's place where a fault was told. Raises ConnectionError for a lost one."""
        fault = self.services.faults.take(sql)
        if fault and fault.lose_connection:
            self.services.log(self._noted(sql) | {"seconds": 0.0, "error": "the connection is lost (injected)"})
            raise ConnectionResetError
        return _raising(fault.sqlstate, fault.message) if fault else None

    async def _text(self, sql: str) -> str:
        """The statement for PostgreSQL, its external tables renewed."""
        try:
            if refused := self.services.refuse(sql, self.transaction != "I"):
                raise RefusedError("; ".join(refused))
            text = rewrite.rewrite(sql)
            await self.services.prepare(sql)
        except RefusedError as error:
            return _raising("0A000", str(error))
        return text

    def _noted(self, sql: str) -> dict[str, Any]:
        who = {"user": self.user, "session": self.number, "transaction": self.transaction}
        return {"sql": _DIGEST.sub("***", sql), **who, "started": time.time()}

    async def _to_client(self, server: asyncio.StreamReader) -> None:
        while True:
            kind, body = await _read(server)
            if self._heard(kind, body):
                continue
            if kind == b"T":
                body = _with_varchars(body)
            self.writer.write(_message(kind, _as_redshift_says(kind, body)))
            await self.writer.drain()

    def _heard(self, kind: bytes, body: bytes) -> bool:
        """Note what PostgreSQL answers; whether it answers a message of our own, of which the client knows nothing."""
        if kind == b"Z":
            self.transaction = body.decode()
            while self.pending and self.pending.popleft().kind != "sync":
                pass  # skipped after an error
        elif kind == b"E" and self.pending:
            fields = _fields(body)
            self._log_end(self.pending.popleft(), error=f"{fields.get('C')} {fields.get('M')}")
        elif kind in (b"C", b"I") and self.pending:
            self._log_end(self.pending.popleft())
        elif kind in (b"1", b"3", b"s") and self.pending:
            return self.pending.popleft().kind in ("our parse", "our close")
        return False

    def _log_end(self, pending: "Pending", **outcome: str) -> None:
        if noted := pending.noted:
            self.services.log(noted | {"seconds": round(time.time() - noted["started"], 4)} | outcome)


# ---------- messages of the protocol: a letter, the length with its own four bytes, the body


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    kind = await reader.readexactly(1)
    (length,) = struct.unpack("!i", await reader.readexactly(4))
    return kind, await reader.readexactly(length - 4)


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _as_redshift_says(kind: bytes, body: bytes) -> bytes:
    """The driver learns from the version what the server can do."""
    return b"server_version\x008.0.2\0" if kind == b"S" and body.startswith(b"server_version\0") else body


def _with_varchars(described: bytes) -> bytes:
    """A description of rows in which text and unknown are varchar."""
    (columns,) = struct.unpack("!h", described[:2])
    out, at = bytearray(described), 2
    for _ in range(columns):
        at = described.index(b"\0", at) + 1 + 6  # the name, the table's id, the column's number
        (kind,) = struct.unpack("!i", described[at : at + 4])
        if kind in (_TEXT, _UNKNOWN):
            out[at : at + 4] = struct.pack("!i", _VARCHAR)
        at += 12
    return bytes(out)


def _error(sqlstate: str, message: str) -> bytes:
    fields = {"S": "FATAL", "C": sqlstate, "M": message}
    return b"".join(f"{name}{value}\0".encode() for name, value in fields.items()) + b"\0"


def _fields(body: bytes) -> dict[str, str]:
    return {part[:1].decode(): part[1:].decode() for part in body.split(b"\0") if part}


def _raising(sqlstate: str, message: str) -> str:
    """A statement that fails, so that the transaction is left as a failure leaves it."""
    code = f"begin raise exception using errcode = {literal(sqlstate)}, message = {literal(message)}; end"
    return f"do {literal(code)}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
