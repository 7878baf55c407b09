"""Compares the customer table with curated.users at one LSN, and says how many rows differ and in which columns.

Both sides compute hashes of their rows by bucket of keys, and only the buckets that differ are read row by row: hashes
again, never values. What the lake lacks up to the LSN is landed and built first, so the application may go on writing.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from loaders import users
from loaders.errors import LoaderError, TransientError
from loaders.lake import open_lake
from loaders.settings import Settings
from loaders.users.events import lsn_text
from loaders.users.server import source_errors
from loaders.users.state import Bookmark, State
from loaders.verify import lake, source
from loaders.verify.source import Bucket, Column

log = logging.getLogger(__name__)

BUCKETS = 1024  # about so many, whatever the number of rows
CHUNK_ROWS = 50_000  # rows that are read and compared at once
ENOUGH_ROWS = 10_000  # of those that differ: then the rest is not read


@dataclass(frozen=True)
class Verified:
    """How the lake differs from the source at an LSN: counts of rows, never values.

    `repeated` are keys that the lake has more than once. Where `is_complete` is false, so many rows differ that not all
    buckets were read: the counts are the least there are. `keys` are only there when they were asked for.
    """

    is_equal: bool
    lsn: str
    rows: int
    missing: int = 0
    extra: int = 0
    different: int = 0
    repeated: int = 0
    columns: dict[str, int] = field(default_factory=dict)  # of the rows that differ: how many differ in this column
    not_compared: list[str] = field(default_factory=list)  # columns that the source does not have (any more)
    is_complete: bool = True
    keys: dict[str, list[int]] | None = None

    @property
    def exit_code(self) -> int:
        return 0 if self.is_equal else 2


class Differences:
    """The rows that were found to differ, by kind."""

    def __init__(self) -> None:
        self.missing: list[int] = []
        self.extra: list[int] = []
        self.different: list[int] = []
        self.repeated: list[int] = []
        self.columns: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self.missing) + len(self.extra) + len(self.different) + len(self.repeated)

    def compare(self, theirs: Iterable[tuple], ours: Iterable[tuple], columns: Sequence[Column]) -> None:
        """Compare rows (key, hash of each column) of the same buckets: the source's with the lake's."""
        expected = {key: hashes for key, *hashes in theirs}
        found: dict[int, list[str]] = {}
        for key, *hashes in ours:
            if key in found:
                self.repeated.append(key)
            found[key] = hashes
        self.missing += expected.keys() - found.keys()
        self.extra += found.keys() - expected.keys()
        for key in expected.keys() & found.keys():
            names = [
                column.column
                for column, theirs, ours in zip(columns, expected[key], found[key], strict=True)
                if theirs != ours
            ]
            if names:
                self.different.append(key)
                self.columns.update(names)

    def keys(self) -> dict[str, list[int]]:
        return {name: sorted(getattr(self, name)) for name in ("missing", "extra", "different", "repeated")}


def verify(settings: Settings, *, keys: bool = False) -> Verified:
    """Compare, and with `keys` name the keys of the rows that differ.

    Raises TransientError where nothing could be compared: the source or the lake cannot be read, or a new epoch began.
    """
    try:
        with source_errors():
            return _verify(settings, keys=keys)
    except LoaderError as error:
        raise TransientError(f"the lake could not be compared with the source: {error}") from None


def _verify(settings: Settings, *, keys: bool) -> Verified:
    with lake.open_lake() as ours:
        columns, erased = ours.columns(), ours.erased()
        with source.open_snapshot(settings) as theirs:
            lsn = theirs.lsn
            log.info("reading the source at %s", lsn_text(lsn))
            not_compared = [column.key for column in columns if column.key not in theirs.types]
            columns = [column for column in columns if column.key in theirs.types]
            width = bucket_width(*theirs.key_range())
            expected = theirs.by_bucket(columns, width, erased)
        state = _bring_up_to(settings, lsn)
        ours.build()
        found = ours.by_bucket(state.epoch, lsn, columns, width)
        _require_no_truncate(ours, state, lsn)
        suspects = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
        rows = sum(bucket.rows for bucket in expected.values())
        differences, is_complete = Differences(), True
        if suspects:
            log.info("%d of %d buckets differ: reading their rows", len(suspects), len(expected.keys() | found.keys()))
            erased = set(ours.erased())
            for chunk in _chunks(suspects, expected, found):
                if len(differences) >= ENOUGH_ROWS:
                    is_complete = False
                    break
                with source.open_snapshot(settings) as theirs:
                    lsn = theirs.lsn
                    wanted = [row for row in theirs.rows(columns, width, chunk) if row[0] not in erased]
                state = _bring_up_to(settings, lsn)
                ours.build()
                differences.compare(wanted, ours.rows(state.epoch, lsn, columns, width, chunk), columns)
                _require_no_truncate(ours, state, lsn)
    return Verified(
        is_equal=not len(differences),
        lsn=lsn_text(lsn),
        rows=rows,
        missing=len(differences.missing),
        extra=len(differences.extra),
        different=len(differences.different),
        repeated=len(differences.repeated),
        columns=dict(sorted(differences.columns.items())),
        not_compared=not_compared,
        is_complete=is_complete,
        keys=differences.keys() if keys else None,
    )


def bucket_width(least: int, greatest: int) -> int:
    """The number of keys in a bucket: a power of two, so that every engine divides alike."""
    return 1 << max(0, ((greatest - least) // BUCKETS).bit_length())


def _bring_up_to(settings: Settings, lsn: int) -> State:
    """Land what was committed before the LSN, and return the state. Raises TransientError where it does not come."""
    users.land(settings)
    state = Bookmark(open_lake(settings.lake_uri, kms_key_id=settings.lake_kms_key_id)).state
    if not state or state.position is None or state.position < lsn:
        raise TransientError(f"changes up to {lsn_text(lsn)} could not be landed: run again")
    return state


def _require_no_truncate(ours: lake.Lake, state: State, lsn: int) -> None:
    if ours.truncated_since(state.epoch, lsn):
        raise TransientError("the table was truncated, or a new snapshot landed, in the meantime: run again")


def _chunks(suspects: Sequence[int], expected: dict[int, Bucket], found: dict[int, Bucket]) -> Iterable[list[int]]:
    """The buckets in groups of about CHUNK_ROWS rows."""
    chunk, size = [], 0
    for bucket in suspects:
        chunk.append(bucket)
        size += max(side[bucket].rows if bucket in side else 0 for side in (expected, found))
        if size >= CHUNK_ROWS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
