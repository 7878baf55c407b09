"""Makes one file of all files that a day's batches have left in raw: engines list and open each file anew per query.

The rows stay what they were, verbatim and in the order of the files. A batch that lands late in a compacted day stands
beside its file until the next run. Readers: see loaders.swap.
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track

from loaders import raw, swap
from loaders.errors import OperatorError, TransientError
from loaders.lake import Lake, open_lake
from loaders.raw import RawFile, RawTable
from loaders.settings import Settings
from loaders.users.state import Bookmark

log = logging.getLogger(__name__)

GRACE = timedelta(hours=1)  # after its end a day is closed: no clock is so far behind, no run takes so long
DAYS_PER_RUN = 31
GROUP_BYTES = 64_000_000  # of a row group, uncompressed: as much as waits in memory
# Long texts: statistics of them help no query and would only repeat personal values in the footer.
TEXTS = {"before", "after", "source", "payload"}
# Nearly all distinct within a day. A crawl's records come again with each crawl: a dictionary stores them once.
DISTINCT = {"before", "after", "source"}


@dataclass(frozen=True)
class Compacted:
    """What one run did: how many files of how many days became how many, with which rows and bytes."""

    days: int = 0
    files: int = 0
    new_files: int = 0
    rows: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Group:
    """Files of one table, day and epoch that become one."""

    table: RawTable
    day: date
    files: list[RawFile]

    @property
    def new_key(self) -> str:
        """Named by the whole range, as the files are by theirs."""
        epoch, first = self.files[0].epoch, self.files[0].first
        name = f"{first}-{max(file.last for file in self.files)}"
        midnight = datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)
        return self.table.key(midnight, f"{epoch}-{name}" if epoch else name)


class UnreadableError(TransientError):
    """A file of raw cannot be read: its group stays as it is, others go on."""


def compact(settings: Settings, *, day: date | None = None, now: datetime | None = None) -> Compacted:
    """Compact one closed day, or all that have more than one file of an epoch: up to DAYS_PER_RUN, the oldest first.

    A day is closed when it ended an hour ago (UTC) and no pending batch of the users loader belongs to it. Takes no
    lock of the loaders, which may land meanwhile. Raises OperatorError for a day that has not ended; TransientError
    when another run compacts, or in the end when files could not be read (it names them, and all others are compacted).
    """
    today = ((now or datetime.now(UTC)) - GRACE).astimezone(UTC).date()
    if day and day >= today:
        raise OperatorError(f"{day} is not closed: a day is compacted an hour after its end (UTC) or later")
    lake = open_lake(settings.lake_uri, kms_key_id=settings.lake_kms_key_id)
    with lake.lock(swap.NAME):
        swap.settle(lake)
        groups = [group for group in _groups(lake) if group.day == day or (day is None and group.day < today)]
        days = sorted({group.day for group in groups})[:DAYS_PER_RUN]
        done, failures = [], []
        for group in _with_progress([group for group in groups if group.day in days]):
            try:
                done.append((group, *_compact(lake, group)))
            except UnreadableError as error:
                log.error("%s", error)
                failures.append(str(error))
    if failures:
        raise TransientError(f"{len(done)} groups of files were compacted, others stay: {'; '.join(failures)}")
    return Compacted(
        days=len({group.day for group, _, _ in done}),
        files=sum(len(group.files) for group, _, _ in done),
        new_files=len(done),
        rows=sum(rows for _, rows, _ in done),
        bytes=sum(size for _, _, size in done),
    )


def _groups(lake: Lake) -> list[Group]:
    """The groups of more than one file, the oldest day first."""
    # Read before the files are listed: a batch that is not pending now is in the list, and later ones belong to today.
    pending = Bookmark(lake).state
    pending_day = pending.intent.time.astimezone(UTC).date() if pending and pending.intent else None
    groups = []
    for table in raw.TABLES:
        for day, files in table.files(lake).items():
            if table is raw.USER_CHANGES and day == pending_day:
                log.info("%s of %s is left alone: the users loader has a batch of that day to finish", table.name, day)
                continue
            groups += [Group(table, day, list(found)) for _, found in groupby(files, lambda file: file.epoch)]
    return sorted((group for group in groups if len(group.files) > 1), key=lambda group: group.day)


def _compact(lake: Lake, group: Group) -> tuple[int, int]:
    """Make the group's file, put it in the place of its files, and return its rows and bytes."""
    keys = [file.key for file in group.files]
    rows, size = swap.put_in_place_of(lake, keys, group.new_key, lambda path: _merge(lake, group.table, keys, path))
    log.info("compacted %d files into %s: %d rows", len(keys), group.new_key, rows)
    return rows, size


def _merge(lake: Lake, table: RawTable, keys: Sequence[str], path: Path) -> int:
    """Write the rows of all files, one file after the other, as one; return how many they were."""
    names = table.schema.names
    rows, waiting, size = 0, [], 0
    with pq.ParquetWriter(
        path,
        table.schema,
        compression=raw.COMPRESSION,
        use_dictionary=[name for name in names if name not in DISTINCT],
        dictionary_pagesize_limit=GROUP_BYTES,
        write_statistics=[name for name in names if name not in TEXTS],
    ) as writer:

        def write_group() -> None:
            writer.write_table(pa.concat_tables(waiting))
            waiting.clear()
            pa.default_memory_pool().release_unused()

        for key in keys:
            for found in _row_groups(lake, table, key):
                if waiting and size + found.nbytes > GROUP_BYTES:
                    write_group()
                    size = 0
                waiting.append(found)
                size += found.nbytes
                rows += found.num_rows
        if waiting:
            write_group()
    return rows


def _row_groups(lake: Lake, table: RawTable, key: str) -> Iterator[pa.Table]:
    """The file's row groups, as many rows as its footer says. Raises UnreadableError."""
    try:
        with lake.local_file(key) as path, pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(table.schema):
                raise UnreadableError(f"{lake.uri}/{key} has other columns than {table.name}: nothing was changed")
            rows = 0
            for number in range(file.num_row_groups):
                found = file.read_row_group(number)
                rows += found.num_rows
                yield found
            if rows != file.metadata.num_rows:
                raise UnreadableError(f"{lake.uri}/{key} lacks rows: {rows} of {file.metadata.num_rows}")
    except (pa.ArrowException, OSError) as error:
        raise UnreadableError(f"cannot read {lake.uri}/{key}: {error}. Nothing of its day was changed") from error


def _with_progress(groups: list[Group]) -> Iterator[Group]:
    """The same groups, counted on stderr where that is a terminal."""
    shown = sys.stderr.isatty()
    return iter(track(groups, "compacting", console=Console(stderr=True), disable=not shown, transient=True))
