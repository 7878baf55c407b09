"""The customer database as the loader sees it: connections, what the server is, the publication, the slot.

Takes no lock beyond a read, except for the moment in which a missing publication is created.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Timer

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import class_row

from loaders.errors import OperatorError, TransientError

RESNAPSHOT = "python -m loaders users --resnapshot"

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

SLOT_FREE_SECONDS = 30.0  # how long the server may take to notice that a killed run has gone
SLOT_CREATION_SECONDS = 60.0  # creating a slot waits for every transaction that is open
POLL_SECONDS = 0.1


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
    session = SESSION | ({"lock_timeout": "0"} if replication else {})  # see create_slot
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


@dataclass(frozen=True)
class Table:
    """The customer's table, and the publication that its changes are read through."""

    oid: int
    schema: str
    name: str
    publication: str
    published_as: str  # changes when the table or its publication is made anew, and may have missed changes then

    @property
    def qualified_name(self) -> str:
        return f"{self.schema}.{self.name}"


def find_table(connection: psycopg.Connection, qualified_name: str, *, is_standby: bool) -> Table:
    """The published table; its publication is created where it is missing.

    Raises OperatorError when there is no such table, when publishing it would break the application, or when its
    publication is not ours to create or would hide changes.
    """
    schema, _, name = qualified_name.rpartition(".")
    schema = schema or "public"
    found = connection.execute(
        """
        SELECT c.oid,
               c.relreplident = 'f' OR EXISTS (
                   SELECT FROM pg_index i
                   WHERE i.indrelid = c.oid
                     AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END
               )
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
        """,
        [schema, name],
    ).fetchone()
    if not found:
        raise OperatorError(f"CUSTOMER_TABLE: there is no ordinary table {schema}.{name} in the customer database")
    oid, has_identity = found
    if not has_identity:
        raise OperatorError(
            f"{schema}.{name} has no primary key or other replica identity: publishing it would make the application's "
            "updates and deletes fail. Give it a primary key or ALTER TABLE ... REPLICA IDENTITY"
        )
    publication = f"lakehouse_{name}"
    create = sql.SQL("CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)").format(
        sql.Identifier(publication), sql.Identifier(schema, name)
    )
    if not connection.execute("SELECT FROM pg_publication WHERE pubname = %s", [publication]).rowcount:
        if is_standby:
            raise OperatorError(f"the publication is missing; on the primary run: {create.as_string()}")
        try:
            connection.execute(create)
        except psycopg.errors.InsufficientPrivilege:
            raise OperatorError(
                f"the publication is missing and only the table's owner may create it: {create.as_string()}"
            ) from None
    return Table(oid, schema, name, publication, _published_as(connection, publication, schema, name, oid))


def _published_as(connection: psycopg.Connection, publication: str, schema: str, name: str, oid: int) -> str:
    found = connection.execute(
        """
        SELECT p.oid, r.oid, p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate, t.rowfilter IS NULL
        FROM pg_publication p
        JOIN pg_publication_tables t ON t.pubname = p.pubname AND t.schemaname = %s AND t.tablename = %s
        LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = %s
        WHERE p.pubname = %s
        """,
        [schema, name, oid, publication],
    ).fetchone()
    if not found:
        raise OperatorError(
            f"the publication {publication} does not hold {schema}.{name}: "
            f"ALTER PUBLICATION ... ADD TABLE, then {RESNAPSHOT}"
        )
    publication_oid, membership_oid, all_operations, all_rows = found
    if not (all_operations and all_rows):
        raise OperatorError(
            f"the publication {publication} hides changes: it must publish insert, update, delete and truncate, "
            f"without a row filter. Alter it, then {RESNAPSHOT}"
        )
    return f"{publication_oid}/{membership_oid}/{oid}"


@dataclass(frozen=True)
class Slot:
    """A replication slot as the server knows it."""

    active: bool
    is_usable: bool  # false when the server has removed WAL that it still needed
    confirmed: int  # changes committed before it are not sent again
    retained_bytes: int | None  # WAL that the server keeps for it


def find_slot(connection: psycopg.Connection, name: str) -> Slot | None:
    """The slot, once no reader holds it. Raises TransientError when one still does after a while."""
    deadline = time.monotonic() + SLOT_FREE_SECONDS
    while True:
        with connection.cursor(row_factory=class_row(Slot)) as cursor:
            slot = cursor.execute(
                """
                SELECT active,
                       wal_status <> 'lost' AND confirmed_flush_lsn IS NOT NULL AS is_usable,
                       coalesce(confirmed_flush_lsn - '0/0', 0)::bigint AS confirmed,
                       (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END
                        - restart_lsn)::bigint AS retained_bytes
                FROM pg_replication_slots WHERE slot_name = %s
                """,
                [name],
            ).fetchone()
        if not slot or not slot.active:
            return slot
        if time.monotonic() > deadline:
            raise TransientError(f"another reader holds the slot {name}: nothing was changed, run again")
        time.sleep(POLL_SECONDS)


def drop_slot(connection: psycopg.Connection, name: str) -> None:
    connection.execute("SELECT pg_drop_replication_slot(%s)", [name])


def create_slot(replication: psycopg.Connection, name: str, *, export: bool) -> tuple[int, str | None]:
    """Create the slot on a replication connection; return its start and, with `export`, the id of a snapshot there.

    The snapshot lives until the connection's next command. The server waits for every transaction that is open; that
    holds nobody up, but is bounded here: raises TransientError.
    """
    snapshot = "EXPORT_SNAPSHOT" if export else "NOEXPORT_SNAPSHOT"
    timer = Timer(SLOT_CREATION_SECONDS, replication.cancel_safe)
    timer.start()
    try:
        row = replication.execute(f'CREATE_REPLICATION_SLOT "{name}" LOGICAL pgoutput {snapshot}').fetchone()
    except psycopg.errors.QueryCanceled:
        raise TransientError(
            f"no slot could be created within {SLOT_CREATION_SECONDS:.0f} s: the server waits for transactions that "
            "have been open since then (a standby waits for its primary: SELECT pg_log_standby_snapshot() there helps)"
        ) from None
    except psycopg.errors.ConfigurationLimitExceeded as error:
        raise OperatorError(
            f"the customer database has no replication slot left: {error.diag.message_primary}; "
            "raise max_replication_slots or drop a slot that nothing uses"
        ) from None
    finally:
        timer.cancel()
    _, consistent_point, exported, _ = row
    high, low = consistent_point.split("/")
    return (int(high, 16) << 32) + int(low, 16), exported


def advance_slot(connection: psycopg.Connection, name: str, position: int) -> None:
    """Let the server forget the WAL before `position`."""
    slot = find_slot(connection, name)
    if slot and slot.confirmed < position:
        connection.execute("SELECT pg_replication_slot_advance(%s, '0/0'::pg_lsn + %s::numeric)", [name, position])
