"""The snapshot that begins an epoch: the table as it was at one LSN, which the changes from there on continue."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from json.encoder import encode_basestring

import psycopg
from psycopg import sql

from loaders.errors import OperatorError, TransientError
from loaders.users.events import Event, lsn_text, microseconds, source_prefix
from loaders.users.publication import Table, published

log = logging.getLogger(__name__)

REPLAY_SECONDS = 60.0  # how long the replica may take to replay what came before the slot
POLL_SECONDS = 0.02


def begin_on_standby(connection: psycopg.Connection, slot_start: int, *, exactly: bool = False) -> int:
    """Begin a transaction that sees exactly what was committed before the LSN that is returned.

    Replay applies commits in the order of their LSNs, so a snapshot is exact where replay stands still while it is
    taken. On a replica that never stands still the last one tried is used, which is safe as well: it may already
    hold the first of the transactions that follow as changes. With `exactly` that is an error instead.

    Raises TransientError when the replica has not replayed up to the slot's start for too long: what is committed in
    between would be lost.
    """
    deadline = time.monotonic() + REPLAY_SECONDS
    waiting = False
    while True:
        late = time.monotonic() > deadline
        before = _replayed(connection)
        if before >= slot_start:
            _begin(connection)
            if _replayed(connection) == before or (late and not exactly):
                return before
            connection.execute("ROLLBACK")
            if late:
                raise TransientError(
                    f"the replica did not stand still for a moment within {REPLAY_SECONDS:.0f} s: run again"
                )
        elif late:
            raise TransientError(
                f"the replica lags: it has replayed up to {lsn_text(before)} and must pass {lsn_text(slot_start)} "
                f"before a snapshot of it is complete. Waited {REPLAY_SECONDS:.0f} s, nothing was landed: run again"
            )
        elif not waiting:
            waiting = True
            log.info("the replica is at %s: waiting until it has passed %s", lsn_text(before), lsn_text(slot_start))
        time.sleep(POLL_SECONDS)


def begin_exported(connection: psycopg.Connection, snapshot_id: str) -> None:
    """Begin a transaction that sees exactly what was committed before the slot's start, on the slot's own server."""
    _begin(connection)
    try:
        connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot_id))
    except (psycopg.errors.UndefinedObject, psycopg.errors.InvalidParameterValue):
        raise OperatorError(
            "CUSTOMER_SNAPSHOT_DSN does not lead to the server on which the slot was created, nor to a replica of it "
            "(any more): was one of them promoted?"
        ) from None


def rows(connection: psycopg.Connection, position: int, *, table: Table, database: str) -> Iterator[Event]:
    """A truncate, then every row that the open transaction sees; they sort before the changes from `position` on."""
    (taken_at,) = connection.execute("SELECT now()").fetchone()
    columns = published(connection, table.publication, table)
    query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), table.from_item
    )
    labels = [f"{encode_basestring(name)}:" for name in columns]
    lsn, committed_at = position - 1, microseconds(taken_at)  # no record starts at that LSN
    source = source_prefix(database, table.schema, table.name) + b'null,"lsn":%d}' % lsn
    yield Event("t", lsn, 0, committed_at, None, None, source)
    with _recovery_conflicts(), connection.cursor() as cursor, cursor.copy(query) as copy:
        for sequence, values in enumerate(copy.rows(), start=1):
            fields = [
                label + ("null" if value is None else encode_basestring(value))
                for label, value in zip(labels, values, strict=True)
            ]
            yield Event("r", lsn, sequence, committed_at, None, f"{{{','.join(fields)}}}".encode(), source)


@contextmanager
def _recovery_conflicts() -> Iterator[None]:
    """Say what helps when a replica cancels the COPY to replay what vacuum or DDL did on the primary."""
    try:
        yield
    except psycopg.errors.SerializationFailure as error:  # nothing else can conflict with a read-only transaction
        raise TransientError(
            f"the replica cancelled the snapshot, which is not landed: {error.diag.message_primary}. On the replica "
            "set hot_standby_feedback = on, or raise max_standby_streaming_delay, then run again. "
            "The slot keeps WAL on the server of CUSTOMER_DSN until then"
        ) from None


def _begin(connection: psycopg.Connection) -> None:
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")


def _replayed(connection: psycopg.Connection) -> int:
    (lsn,) = connection.execute("SELECT (pg_last_wal_replay_lsn() - '0/0')::bigint").fetchone()
    return lsn
