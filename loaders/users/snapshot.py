"""The snapshot that begins an epoch: the table as it was at one LSN, which the changes from there on continue."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from json.encoder import encode_basestring

import psycopg
from psycopg import sql

from loaders.errors import OperatorError, TransientError
from loaders.users.events import Event, lsn_text, microseconds, source_prefix
from loaders.users.source import Server, Table, connect, inspect

log = logging.getLogger(__name__)

REPLAY_SECONDS = 60.0  # how long the replica may take to replay what came before the slot
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Snapshot:
    """An open transaction that sees the table as it was at `position`: with every commit before it, and no other."""

    connection: psycopg.Connection
    position: int
    taken_at: datetime

    def events(self, table: Table, database: str) -> Iterator[Event]:
        """A truncate, then every row, all of them before the first change that follows."""
        connection = self.connection
        (columns,) = connection.execute(
            "SELECT attnames FROM pg_publication_tables WHERE pubname = %s AND schemaname = %s AND tablename = %s",
            [table.publication, table.schema, table.name],
        ).fetchone()
        query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(
            sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(table.schema, table.name)
        )
        labels = [f"{encode_basestring(name)}:" for name in columns]
        lsn = self.position - 1  # no record starts there
        source = source_prefix(database, table.schema, table.name) + b'null,"lsn":%d}' % lsn
        taken_at = microseconds(self.taken_at)
        yield Event("t", lsn, 0, taken_at, None, None, source)
        with connection.cursor() as cursor, cursor.copy(query) as copy:
            for sequence, values in enumerate(copy.rows(), start=1):
                fields = [
                    label + ("null" if value is None else encode_basestring(value))
                    for label, value in zip(labels, values, strict=True)
                ]
                yield Event("r", lsn, sequence, taken_at, None, f"{{{','.join(fields)}}}".encode(), source)


@contextmanager
def open_snapshot(dsn: str, *, origin: Server, slot_start: int, exported: str | None) -> Iterator[Snapshot]:
    """Open the snapshot on the replica or, where `dsn` leads to the primary itself, the one `exported` with the slot.

    Raises OperatorError when `dsn` leads to another system, TransientError when the replica lags for too long: rows
    that are committed between its replay position and the slot's start would be lost for ever.
    """
    with connect(dsn) as connection:
        server = inspect(connection)
        if (server.system_identifier, server.database) != (origin.system_identifier, origin.database):
            raise OperatorError("CUSTOMER_SNAPSHOT_DSN does not lead to a replica of the database of CUSTOMER_DSN")
        if server.is_standby:
            position = _begin_on_standby(connection, slot_start)
        elif exported:
            log.warning(
                "no replica is configured (CUSTOMER_SNAPSHOT_DSN): the snapshot reads the whole table on the primary"
            )
            _begin(connection)
            connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(exported))
            position = slot_start
        else:
            raise OperatorError("CUSTOMER_DSN leads to a standby: CUSTOMER_SNAPSHOT_DSN must lead to a standby too")
        (taken_at,) = connection.execute("SELECT now()").fetchone()
        yield Snapshot(connection, position, taken_at)


def _begin_on_standby(connection: psycopg.Connection, slot_start: int) -> int:
    """Begin a transaction whose snapshot holds exactly what was replayed up to the LSN that is returned.

    Replay applies commits in the order of their LSNs, so a snapshot is exact where replay stands still while it is
    taken. On a replica that never stands still the last one tried is used, which is safe as well: it may already
    hold a transaction or two of those that follow as changes.
    """
    deadline = time.monotonic() + REPLAY_SECONDS
    waiting = False
    while True:
        late = time.monotonic() > deadline
        before = _replayed(connection)
        if before >= slot_start:
            _begin(connection)
            if _replayed(connection) == before or late:
                return before
            connection.execute("ROLLBACK")
        elif late:
            raise TransientError(
                f"the replica lags: it has replayed up to {lsn_text(before)} and must pass {lsn_text(slot_start)} "
                f"before a snapshot of it is complete. Waited {REPLAY_SECONDS:.0f} s, nothing was landed: run again"
            )
        elif not waiting:
            waiting = True
            log.info("the replica is at %s: waiting until it has passed %s", lsn_text(before), lsn_text(slot_start))
        time.sleep(POLL_SECONDS)


def _begin(connection: psycopg.Connection) -> None:
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")


def _replayed(connection: psycopg.Connection) -> int:
    (lsn,) = connection.execute("SELECT (pg_last_wal_replay_lsn() - '0/0')::bigint").fetchone()
    return lsn
