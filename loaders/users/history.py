"""Compares what a slot offers with what was landed: after a restore the same LSNs may hold other transactions."""

import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import groupby, zip_longest
from operator import attrgetter
from typing import NamedTuple

import pyarrow.compute as pc
import pyarrow.parquet as pq

from loaders import swap
from loaders.errors import TransientError
from loaders.lake import Lake
from loaders.raw import USER_CHANGES
from loaders.users.events import Event

COLUMNS = ["commit_lsn", "committed_at", "source"]
MAX_LSN = (1 << 63) - 1


class Transaction(NamedTuple):
    """One transaction's changes of the table, without their values."""

    commit_lsn: int
    xid: int
    committed_at: int  # microseconds since 1970-01-01 UTC
    changes: int


def has_events(lake: Lake, *, epoch: int, start: int) -> bool:
    """Whether raw holds an event of the epoch, of its snapshot too, with `start <= commit_lsn`."""
    with closing(_landed(lake, epoch, start, MAX_LSN)) as found:
        return next(found, None) is not None


def first_difference(lake: Lake, offered: Iterable[Event], *, epoch: int, start: int, end: int) -> int | None:
    """The commit LSN of the first transaction that differs between raw and `offered`; None where there is none.

    `offered` are the changes of the same range in commit order. Raises TransientError while files of raw are replaced.
    """
    transactions = (_transaction(changes) for _, changes in groupby(offered, attrgetter("commit_lsn")))
    with closing(_landed(lake, epoch, start, end)) as landed:
        for ours, theirs in zip_longest(landed, transactions):
            if ours != theirs:
                return min(found.commit_lsn for found in (ours, theirs) if found)
    return None


def _transaction(changes: Iterable[Event]) -> Transaction:
    changes = iter(changes)
    first = next(changes)
    count = 1 + sum(1 for _ in changes)
    return Transaction(first.commit_lsn, json.loads(first.source)["xid"], first.committed_at, count)


def _landed(lake: Lake, epoch: int, start: int, end: int) -> Iterator[Transaction]:
    """The transactions with `start <= commit_lsn < end` in raw, in commit order."""
    with lake.lock(swap.NAME):  # no compaction meanwhile: it would show rows twice
        replaced = swap.replaced(lake)
        files = [file for found in USER_CHANGES.files(lake).values() for file in found if file.epoch == epoch]
        for file in sorted(files):
            if file.key not in replaced and int(file.last, 16) > start and int(file.first, 16) < end:
                yield from _transactions(lake, file.key, start, end)


def _transactions(lake: Lake, key: str, start: int, end: int) -> Iterator[Transaction]:
    former: Transaction | None = None
    try:
        with lake.local_file(key) as path, pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=COLUMNS):
                lsns = batch["commit_lsn"]
                rows = batch.filter(pc.and_(pc.greater_equal(lsns, start), pc.less(lsns, end)))
                times = rows["committed_at"].cast("int64").to_pylist()
                for place, (lsn, time) in enumerate(zip(rows["commit_lsn"].to_pylist(), times, strict=True)):
                    if former and former.commit_lsn == lsn:
                        former = former._replace(changes=former.changes + 1)
                        continue
                    if former:
                        yield former
                    former = Transaction(lsn, json.loads(rows["source"][place].as_py())["xid"], time, 1)
    except FileNotFoundError:
        raise TransientError(f"{lake.uri}/{key} was removed meanwhile: run again") from None
    if former:
        yield former
