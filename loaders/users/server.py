"""The customer database: connections to it, their session settings, and what kind of server it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import class_row

from loaders.errors import OperatorError, TransientError

# The same text for the same value whatever the server's, the database's or the role's own settings are; no search
# path that could put another function in place of PostgreSQL's; and nothing that could keep others waiting.
SESSION = {
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "search_path": "pg_catalog",
    "row_security": "off",  # an error rather than rows that are left out in silence
    "lock_timeout": "10s",
    "statement_timeout": "0",  # a snapshot takes its time; every wait of ours is bounded on this side
    "idle_in_transaction_session_timeout": "60s",
}
CONNECTION = {"connect_timeout": 10, "keepalives_idle": 30, "application_name": "lakehouse-loader"}


@contextmanager
def source_errors() -> Iterator[None]:
    """Turn psycopg's errors into ours. Only the server's primary message is kept: details may quote row values."""
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise OperatorError(f"the customer database refused: {error.diag.message_primary}") from None
    except psycopg.Error as error:
        message = error.diag.message_primary or str(error).partition("\n")[0]
        raise TransientError(f"the customer database failed, nothing was landed by half: {message}") from None


def connect(dsn: str, *, replication: bool = False) -> psycopg.Connection:
    """Connect with the session settings above; a replication connection speaks the replication protocol as well."""
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.Error:
        raise OperatorError("the DSN of the customer database is not a libpq URL") from None  # it holds a password
    session = SESSION | ({"lock_timeout": "0"} if replication else {})  # see slots.create
    options = " ".join([given.get("options", ""), *(f"-c {name}={value}" for name, value in session.items())])
    parameters = CONNECTION | given | {"options": options, "client_encoding": "UTF8"}
    if replication:
        parameters["replication"] = "database"
    return psycopg.connect(**parameters, autocommit=True)


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
                   current_setting('server_encoding') AS encoding
        """).fetchone()


def check_server(server: Server) -> None:
    """Raise OperatorError unless the server can decode its WAL into UTF-8 text."""
    if server.version < 150_000:
        raise OperatorError("the customer database must run PostgreSQL 15 or newer")
    if server.is_standby and server.version < 160_000:
        raise OperatorError("CUSTOMER_DSN leads to a standby, which can decode changes from PostgreSQL 16 on")
    if server.wal_level != "logical":
        raise OperatorError(
            f"the customer database runs with wal_level = {server.wal_level}: set it to logical and restart the server"
        )
    if server.encoding == "SQL_ASCII":
        raise OperatorError("the customer database has no encoding (SQL_ASCII): its text cannot be read as UTF-8")
