"""The customer database: connections to it, their session settings, and what kind of server it is."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.abc import RV, PQGen
from psycopg.rows import class_row

from loaders.errors import LoaderError, OperatorError, TransientError
from loaders.users.dsn import Dsn, parse

# The same text for the same value whatever the server's, the database's or the role's own settings are; no search
# path that could put another function in place of PostgreSQL's; nothing that could keep others waiting, and no wait
# of ours without an end. Values are written as SHOW writes them, because they are read back.
SESSION = {
    "bytea_output": "hex",
    "client_encoding": "UTF8",
    "datestyle": "ISO, MDY",
    "default_transaction_deferrable": "off",  # would wait for a safe snapshot, without an end
    "default_transaction_isolation": "read committed",
    "extra_float_digits": "3",
    "idle_in_transaction_session_timeout": "1min",
    "idle_session_timeout": "0",  # this connection waits while another one streams
    "intervalstyle": "postgres",
    "lc_monetary": "C",
    "lock_timeout": "10s",
    "quote_all_identifiers": "off",
    "row_security": "off",  # an error rather than rows that are left out in silence
    "search_path": "pg_catalog",
    "standard_conforming_strings": "on",
    "statement_timeout": "0",  # a snapshot takes its time; Connection.wait bounds each silence
    "synchronous_commit": "local",  # no wait for a standby that may be away
    "timezone": "UTC",
}
REPLICATION = {
    "lock_timeout": "0",  # see slots.create
    "wal_sender_timeout": "1min",  # a run that was cut off must not hold its slot for longer
}
SINCE_17 = {"transaction_timeout": "0"}  # older servers refuse to start a session that names it
CONNECTION = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
    "application_name": "lakehouse-loader",
}
SILENCE_SECONDS = 300.0  # how long the server may send nothing while it is to answer; COPY may have to skip dead rows

# SQLSTATEs, or the beginnings of them, of failures that a retry may heal. A person has to act on all others.
TRANSIENT = (
    "08",  # connection
    "25P03", "25P04",  # a timeout within a transaction
    "40",  # rolled back: also a conflict with recovery on a standby
    "53000", "53100", "53200", "53300",  # out of disk, memory or connections; 53400 is a limit that is configured
    "55006", "55P03",  # object in use, lock not available
    "57",  # shutting down, starting up, cancelled
    "58",  # the server's operating system
    "XX000",
)  # fmt: skip
# What a server that is there says when it will take connections again by itself. libpq gives no SQLSTATE then.
PASSING = re.compile(
    "starting up|shutting down|recovery mode|system is not (yet )?accepting|too many|slots are reserved|"
    "terminating connection|out of memory|could not fork"
)
# Of libpq's own errors those that no retry heals. Their text is not passed on: it may quote a misread DSN.
UNUSABLE = (
    ("no password supplied", "the server asks for a password, and there is none"),
    ("certificate", "TLS failed: see sslmode, sslrootcert and the server's certificate"),
    ("does not support SSL", "TLS is required by sslmode, and the server offers none"),
    ("definition of service", "the service that it names is not defined"),
    ("invalid", "a parameter has a value that libpq does not know"),
)

DIRECT = "Let it lead to the database itself, or let the pooler pass `options` and pool whole sessions"
TOO_OLD = "the customer database must run PostgreSQL 14 or newer"


class Connection(psycopg.Connection):
    """A connection whose waits end, also when the server hangs or a pooler holds the line without answering."""

    def wait(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:
        try:
            return super().wait(_bounded(gen), *args, **kwargs)
        except LoaderError:
            self.close()
            raise


def _bounded(gen: PQGen[RV]) -> PQGen[RV]:
    """The same, ended by a TransientError when nothing has come for too long. psycopg looks every 0.1 s."""
    try:
        wanted = next(gen)
        since = time.monotonic()
        while True:
            if ready := (yield wanted):
                since = time.monotonic()
            elif time.monotonic() - since > SILENCE_SECONDS:
                raise TransientError(
                    f"the customer database has sent nothing for {SILENCE_SECONDS:.0f} s, when asked: run again"
                )
            wanted = gen.send(ready)
    except StopIteration as end:
        return end.value


@contextmanager
def source_errors() -> Iterator[None]:
    """Turn psycopg's errors into ours. Only the server's primary message is kept: details may quote row values."""
    try:
        yield
    except psycopg.Error as error:
        message = error.diag.message_primary or str(error).partition("\n")[0]
        if error.sqlstate is None or error.sqlstate.startswith(TRANSIENT):
            raise TransientError(f"the customer database failed, nothing was landed in part: {message}") from None
        raise OperatorError(f"the customer database refused: {message} (SQLSTATE {error.sqlstate})") from None


def connect(text: str, *, replication: bool = False, setting: str = "CUSTOMER_DSN") -> Connection:
    """Connect with the session settings above; a replication connection speaks the replication protocol as well.

    Raises OperatorError when the DSN is malformed, when the server refuses it, or when a setting did not take effect;
    TransientError when the server cannot be reached.
    """
    dsn = parse(text, setting)
    session = SESSION | (REPLICATION if replication else {})
    options = [dsn.parameters.get("options", ""), *(f"-c {name}={_escape(value)}" for name, value in session.items())]
    parameters = CONNECTION | dsn.parameters | {"options": " ".join(options), "client_encoding": "UTF8"}
    if replication:
        parameters["replication"] = "database"
    try:
        connection = Connection.connect(**parameters, autocommit=True)
    except psycopg.Error as error:
        raise _not_connected(str(error), dsn) from None
    try:
        with source_errors():
            if connection.info.server_version >= 170_000:
                for name, value in SINCE_17.items():
                    connection.execute(sql.SQL("SET {} = {}").format(sql.Identifier(name), value))
                session |= SINCE_17
            _check_session(connection, session, setting)
    except BaseException:
        connection.close()
        raise
    return connection


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def _not_connected(text: str, dsn: Dsn) -> LoaderError:
    if said := [line.strip() for line in re.findall(r"FATAL:\s+(.+)", text)]:
        message = "; ".join(dict.fromkeys(said))
        if "startup parameter" in message:
            return OperatorError(
                f"{dsn.setting} leads through a pooler that refuses session settings: {message}. {DIRECT}"
            )
        if "unrecognized configuration parameter" in message:
            return OperatorError(TOO_OLD)
        if any(map(PASSING.search, said)):
            return TransientError(f"the customer database at {dsn.place} takes no connections now: {message}")
        return OperatorError(
            f"the customer database refused the role of {dsn.setting} at {dsn.place}: {message}. The role needs LOGIN, "
            "REPLICATION, its password, CONNECT on the database and a line in pg_hba.conf"
        )
    for piece, reason in UNUSABLE:
        if piece in text:
            return OperatorError(f"{dsn.setting} cannot be used, nothing was landed: {reason}")
    why = "its name cannot be resolved" if "resolve" in text or "translate" in text else "no connection could be made"
    return TransientError(f"the customer database failed, nothing was landed in part: {why} to {dsn.place}")


def _check_session(connection: psycopg.Connection, session: dict[str, str], setting: str) -> None:
    """Raise OperatorError unless all settings hold, in one and the same session of the server."""
    # Without parameters: a replication connection has the simple protocol only.
    names = sql.SQL(", ").join(map(sql.Literal, session))
    query = sql.SQL("SELECT name, current_setting(name, true), pg_backend_pid() FROM unnest(ARRAY[{}]) AS name")
    found = connection.execute(query.format(names).as_string()).fetchall()
    missing = sorted(name for name, value, _ in found if value != session[name])
    (process,) = connection.execute("SELECT pg_backend_pid()").fetchone()
    if missing or process != found[0][2]:
        what = (
            f"does not take the session settings {', '.join(missing)}"
            if missing
            else "changes sessions between statements"
        )
        raise OperatorError(
            f"{setting} leads through a pooler that {what}, so the data that is read could differ. {DIRECT}"
        )


@dataclass(frozen=True)
class Server:
    """Which server and database a connection leads to."""

    system_identifier: str
    database: str
    is_standby: bool
    position: int  # the end of what is flushed, or on a standby of what is replayed
    version: int
    wal_level: str
    encoding: str
    started: str  # when its process started, to the microsecond: no two servers of one cluster have the same


def inspect(connection: psycopg.Connection) -> Server:
    with connection.cursor(row_factory=class_row(Server)) as cursor:
        return cursor.execute("""
            SELECT (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier,
                   current_database() AS database,
                   pg_is_in_recovery() AS is_standby,
                   (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END
                    - '0/0')::bigint AS position,
                   current_setting('server_version_num')::int AS version,
                   current_setting('wal_level') AS wal_level,
                   current_setting('server_encoding') AS encoding,
                   pg_postmaster_start_time()::text AS started
        """).fetchone()


def check_server(server: Server) -> None:
    """Raise OperatorError unless the server can decode its WAL into UTF-8 text."""
    if server.version < 140_000:
        raise OperatorError(TOO_OLD)
    if server.is_standby and server.version < 160_000:
        raise OperatorError("CUSTOMER_DSN leads to a standby, which can decode changes from PostgreSQL 16 on")
    if server.wal_level != "logical":
        raise OperatorError(
            f"the customer database runs with wal_level = {server.wal_level}: set it to logical and restart the server"
        )
    if server.encoding == "SQL_ASCII":
        raise OperatorError("the customer database has no encoding (SQL_ASCII): its text cannot be read as UTF-8")


def check_replica(server: Server, replica: Server) -> None:
    """Raise OperatorError unless a snapshot of CUSTOMER_SNAPSHOT_DSN's server fits the slot on CUSTOMER_DSN's."""
    if (replica.system_identifier, replica.database) != (server.system_identifier, server.database):
        raise OperatorError("CUSTOMER_SNAPSHOT_DSN does not lead to a replica of the database of CUSTOMER_DSN")
    if server.is_standby and not replica.is_standby:
        raise OperatorError("CUSTOMER_DSN leads to a standby: CUSTOMER_SNAPSHOT_DSN must lead to a standby too")
    if not server.is_standby and not replica.is_standby and replica.started != server.started:
        raise OperatorError(
            "CUSTOMER_DSN and CUSTOMER_SNAPSHOT_DSN lead to two primaries of one origin: one of them was promoted, and "
            "no longer follows the other. Let CUSTOMER_SNAPSHOT_DSN lead to a replica of the server of CUSTOMER_DSN"
        )
