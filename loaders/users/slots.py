"""The replication slot: through it the server keeps the changes that were not landed yet."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Timer

import psycopg
from psycopg.rows import class_row

from loaders.errors import OperatorError, TransientError

log = logging.getLogger(__name__)

SLOT_FREE_SECONDS = 30.0  # how long the server may take to notice that a killed run has gone
SLOT_CREATION_SECONDS = 60.0  # creating a slot waits for every transaction that is open
ADVANCE_SECONDS = 30.0  # advancing a failover slot waits for the standbys of synchronized_standby_slots
POLL_SECONDS = 0.1
FAILOVER_VERSION = 170_000  # the first PostgreSQL whose standbys keep copies of logical slots


@dataclass(frozen=True)
class Slot:
    """A replication slot as the server knows it."""

    active: bool
    is_usable: bool  # false when the server has removed WAL that it still needed
    confirmed: int  # changes committed before it are not sent again
    retained_bytes: int | None  # WAL that the server keeps for it
    failover: bool | None  # whether standbys keep a copy of it for a promotion; None before PostgreSQL 17
    synced: bool | None  # whether it is such a copy, on a standby, which cannot be read before the promotion


def find(connection: psycopg.Connection, name: str) -> Slot | None:
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
                        - restart_lsn)::bigint AS retained_bytes,
                       (to_jsonb(slot) ->> 'failover')::boolean AS failover,
                       pg_is_in_recovery() AND (to_jsonb(slot) ->> 'synced')::boolean AS synced
                FROM pg_replication_slots slot WHERE slot_name = %s
                """,
                [name],
            ).fetchone()
        if not slot or slot.synced or not slot.active:
            return slot
        if time.monotonic() > deadline:
            raise TransientError(f"another reader holds the slot {name}: nothing was changed, run again")
        time.sleep(POLL_SECONDS)


def unread(connection: psycopg.Connection, prefix: str) -> list[str]:
    """The names of this database's logical slots that begin with `prefix` and that nobody reads now."""
    found = connection.execute(
        """
        SELECT slot_name FROM pg_replication_slots
        WHERE database = current_database() AND starts_with(slot_name, %s) AND NOT active
        ORDER BY slot_name
        """,
        [prefix],
    )
    return [name for (name,) in found]


def drop(connection: psycopg.Connection, name: str) -> None:
    connection.execute("SELECT pg_drop_replication_slot(%s)", [name])


def create(
    replication: psycopg.Connection, name: str, *, export: bool, failover: bool = False, temporary: bool = False
) -> tuple[int, str | None]:
    """Create the slot on a replication connection; return its start and, with `export`, the id of a snapshot there.

    The snapshot lives until the connection's next command. With `failover` standbys that synchronise slots keep a copy
    of it. The server waits for every transaction that is open; that holds nobody up, but is bounded here: raises
    TransientError. Raises psycopg.errors.DuplicateObject where there is a slot of that name.
    """
    kind = "TEMPORARY LOGICAL" if temporary else "LOGICAL"
    snapshot = "EXPORT_SNAPSHOT" if export else "NOEXPORT_SNAPSHOT"
    if failover:
        snapshot = f"(SNAPSHOT '{'export' if export else 'nothing'}', FAILOVER true)"  # no option of the older syntax
    try:
        with _bounded(replication, SLOT_CREATION_SECONDS):
            row = replication.execute(f'CREATE_REPLICATION_SLOT "{name}" {kind} pgoutput {snapshot}').fetchone()
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
    _, consistent_point, exported, _ = row
    high, low = consistent_point.split("/")
    return (int(high, 16) << 32) + int(low, 16), exported


def keep_through_failover(replication: psycopg.Connection, name: str) -> None:
    """Let standbys keep a copy of a slot that was created without: by a former loader, or before PostgreSQL 17."""
    try:
        replication.execute(f'ALTER_REPLICATION_SLOT "{name}" (FAILOVER true)')
        log.info("altered the slot %s: standbys that synchronise slots keep a copy of it", name)
    except psycopg.errors.DatabaseError as error:  # what it is for comes later, and the changes can be landed now
        log.warning("the slot %s will not survive a promotion: %s", name, error.diag.message_primary)


def advance(connection: psycopg.Connection, name: str, position: int) -> None:
    """Let the server forget the WAL before `position`.

    A server that does not do so in time is left to the next run: what was landed is known from the state.
    """
    slot = find(connection, name)
    if slot and slot.confirmed < position:
        try:
            with _bounded(connection, ADVANCE_SECONDS):
                connection.execute(
                    "SELECT pg_replication_slot_advance(%s, '0/0'::pg_lsn + %s::numeric)", [name, position]
                )
        except psycopg.errors.QueryCanceled:
            log.warning(
                "the slot %s was not advanced within %.0f s: does a standby of synchronized_standby_slots lag?",
                name, ADVANCE_SECONDS,
            )  # fmt: skip


@contextmanager
def _bounded(connection: psycopg.Connection, seconds: float) -> Iterator[None]:
    """Cancel what the connection runs after so many seconds; it then raises psycopg.errors.QueryCanceled."""
    timer = Timer(seconds, connection.cancel_safe)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
