"""The streaming replication protocol: reads a logical slot and leaves it where it is.

psycopg has no cursor for it, but its wrapper of libpq holds all that the protocol needs (PostgreSQL documentation,
"Streaming Replication Protocol"). Unlike a read through SQL (pg_logical_slot_peek_binary_changes), the server spools
nothing: the first change arrives while it decodes the next.
"""

import time
from collections.abc import Iterator
from select import select
from struct import Struct

import psycopg
from psycopg import generators, pq, sql

from loaders.errors import TransientError
from loaders.users.events import POSTGRES_EPOCH, lsn_text

DATA, KEEPALIVE = b"wk"
DATA_LSN = Struct(">xq")  # the change's LSN; the end of WAL and the server's clock are not needed
DATA_HEADER = 25  # bytes; then the message itself
KEEPALIVE_BODY = Struct(">xqqB")  # up to where all is decoded and sent, the server's clock, whether to answer
STATUS_UPDATE = Struct(">cqqqqB")  # written, flushed, applied up to where, our clock, whether to answer
PING_SECONDS = 10.0  # well below wal_sender_timeout, 60 s by default
PATIENCE_SECONDS = 120.0  # without any progress


def stream(
    connection: psycopg.Connection, *, slot: str, publication: str, start: int, end: int
) -> Iterator[tuple[int, bytes]]:
    """Yield (the change's LSN, pgoutput message) until everything committed before `end` has been sent.

    Nothing is confirmed as flushed, so the slot does not move. Raises TransientError when the server ends the stream
    or makes no progress, psycopg.Error when the connection breaks.
    """
    pgconn = connection.pgconn
    command = sql.SQL("START_REPLICATION SLOT {} LOGICAL {} (proto_version '1', publication_names {})").format(
        sql.Identifier(slot), sql.SQL(lsn_text(start)), sql.Literal(sql.Identifier(publication).as_string())
    )
    pgconn.send_query(command.as_string().encode())
    started = connection.wait(generators.execute(pgconn))[-1]
    if started.status != pq.ExecStatus.COPY_BOTH:
        raise psycopg.errors.error_from_result(started)
    pgconn.nonblocking = 1
    reached = start
    deadline = None  # set while the server sends nothing new
    while True:
        size, data = pgconn.get_copy_data(1)
        if size == 0:  # nothing to read as yet
            deadline = deadline or time.monotonic() + PATIENCE_SECONDS
            if time.monotonic() > deadline:
                raise TransientError(
                    f"the database has sent nothing new for {PATIENCE_SECONDS:.0f} s: run again. Where it sets "
                    "synchronized_standby_slots, it waits for those standbys"
                )
            if select([pgconn.socket], [], [], PING_SECONDS)[0]:
                pgconn.consume_input()
            else:
                _send_status(pgconn, reached, answer=True)
        elif size < 0:
            ended = pgconn.get_result()
            if ended and ended.status == pq.ExecStatus.FATAL_ERROR:
                raise psycopg.errors.error_from_result(ended)
            raise TransientError("the database has ended the stream, it may be shutting down: run again")
        elif data[0] == DATA:
            deadline = None
            yield DATA_LSN.unpack_from(data)[0], bytes(data[DATA_HEADER:])
        elif data[0] == KEEPALIVE:
            sent, _, answer = KEEPALIVE_BODY.unpack(data)
            if sent >= end:
                return
            if sent > reached:
                reached = sent
                deadline = None
            if answer:
                _send_status(pgconn, reached, answer=False)


def _send_status(pgconn: pq.abc.PGconn, written: int, *, answer: bool) -> None:
    """Tell the server that we are alive. Flushed stays 0, which the server takes for "not said": the slot stays."""
    clock = time.time_ns() // 1000 - POSTGRES_EPOCH
    pgconn.put_copy_data(STATUS_UPDATE.pack(b"r", written, 0, 0, clock, answer))
    pgconn.flush()
