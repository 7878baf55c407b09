"""Reads the changes of a range of LSNs through the slot, from the server and the history that the run has examined."""

from collections.abc import Iterator
from contextlib import closing

from loaders.errors import TransientError
from loaders.users import timeline
from loaders.users.events import Event
from loaders.users.pgoutput import decode
from loaders.users.publication import Table
from loaders.users.replication import stream
from loaders.users.server import connect
from loaders.users.timeline import Origin


def read(dsn: str, origin: Origin, table: Table, *, slot: str, database: str, start: int, end: int) -> Iterator[Event]:
    """The changes with `start <= commit_lsn < end`; the connection is closed with the last of them.

    Raises TransientError when the connection leads to another server or history than `origin`: a DSN may name several
    hosts, and a promotion may come at any moment.
    """
    with closing(connect(dsn, replication=True)) as replication:
        if timeline.identify(replication) != origin:
            raise TransientError("another server was promoted while this run began: nothing was changed, run again")
        messages = stream(replication, slot=slot, publication=table.publication, start=start, end=end)
        yield from decode(messages, relation_oid=table.oid, database=database, start=start, end=end)
