"""The replication slot: through it the server keeps the changes that were not landed yet."""

import time
from dataclasses import dataclass
from threading import Timer

import psycopg
from psycopg.rows import class_row

from loaders.errors import OperatorError, TransientError

SLOT_FREE_SECONDS = 30.0  # how long the server may take to notice that a killed run has gone
SLOT_CREATION_SECONDS = 60.0  # creating a slot waits for every transaction that is open
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Slot:
    """A replication slot as the server knows it."""

    active: bool
    is_usable: bool  # false when the server has removed WAL that it still needed
    confirmed: int  # changes committed before it are not sent again
    retained_bytes: int | None  # WAL that the server keeps for it


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


def drop(connection: psycopg.Connection, name: str) -> None:
    connection.execute("SELECT pg_drop_replication_slot(%s)", [name])


def create(
    replication: psycopg.Connection, name: str, *, export: bool, temporary: bool = False
) -> tuple[int, str | None]:
    """Create the slot on a replication connection; return its start and, with `export`, the id of a snapshot there.

    The snapshot lives until the connection's next command. The server waits for every transaction that is open; that
    holds nobody up, but is bounded here: raises TransientError.
    """
    kind = "TEMPORARY LOGICAL" if temporary else "LOGICAL"
    snapshot = "EXPORT_SNAPSHOT" if export else "NOEXPORT_SNAPSHOT"
    timer = Timer(SLOT_CREATION_SECONDS, replication.cancel_safe)
    timer.start()
    try:
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
    finally:
        timer.cancel()
    _, consistent_point, exported, _ = row
    high, low = consistent_point.split("/")
    return (int(high, 16) << 32) + int(low, 16), exported


def advance(connection: psycopg.Connection, name: str, position: int) -> None:
    """Let the server forget the WAL before `position`."""
    slot = find(connection, name)
    if slot and slot.confirmed < position:
        connection.execute("SELECT pg_replication_slot_advance(%s, '0/0'::pg_lsn + %s::numeric)", [name, position])
