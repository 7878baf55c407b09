"""Puts one file of raw in the place of several: the new one becomes visible, then the old ones go.

Nothing replaces several objects at once, neither in a folder nor on S3. So the swap is written down first, and whoever
comes after a killed run can tell what is left to do: nothing, when the new file is not there, else to remove the old
ones. In between, a reader sees rows twice, and a query that listed files before may not find them any more: let dbt and
compaction take turns (one pool with one slot).
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from loaders.errors import LoaderError, OperatorError, TransientError
from loaders.lake import Lake

log = logging.getLogger(__name__)

NAME = "compaction"  # whoever changes files of raw holds this lock; those who add files need not
KEY = f"state/{NAME}.json"
FORMAT = 1


@dataclass(frozen=True)
class Swap:
    """The last swap, as the lake's state has it."""

    new: str
    old: list[str]
    rows: int  # in the old files together, hence in the new one
    begun_at: str  # ISO 8601, UTC
    settled: bool = False


def put_in_place_of(lake: Lake, old: Sequence[str], new: str, write: Callable[[Path], int]) -> tuple[int, int]:
    """Make the file `new` by `write`, which returns its rows, and remove the files `old`; return its rows and bytes.

    The caller holds the lock NAME and has called `settle`. `new` may bear the name of one of the old files. When
    `write` fails, nothing was changed. Raises TransientError where another run has taken over, OperatorError where the
    new file is not what was written; then the old files stand.
    """
    _, version = _read(lake)
    with lake.new_file(new) as path:
        rows = write(path)
        size = path.stat().st_size
        # Just before the file becomes visible, and only where nobody else has begun a swap since: a run that was
        # paused for so long that it lost its lock ends here.
        swap = Swap(new, list(old), rows, datetime.now(UTC).isoformat())
        version = _save(lake, swap, version)
    if _read(lake) != (swap, version):
        raise TransientError(f"another run has taken over from this one at {new}: run again")
    _settle(lake, swap, version)
    return rows, size


def settle(lake: Lake) -> None:
    """Finish or drop what a killed run has left. The caller holds the lock NAME."""
    swap, version = _read(lake)
    if swap and not swap.settled:
        _settle(lake, swap, version)


def replaced(lake: Lake) -> set[str]:
    """The files that a killed swap has replaced but not removed: their rows are in another file too.

    For those who read raw and may not remove anything. The caller holds the lock NAME.
    """
    swap, _ = _read(lake)
    if swap is None or swap.settled or _rows(lake, swap) != swap.rows:
        return set()
    return set(swap.old) - {swap.new}


def finish(lake: Lake) -> None:
    """Settle, for those who are about to land a batch: it costs one read, never waits and never fails."""
    try:
        swap, _ = _read(lake)
        if swap and not swap.settled:
            with lake.lock(NAME):
                settle(lake)
    except (LoaderError, OSError) as error:
        log.warning("a compaction that has begun is left alone: %s", error)


def _settle(lake: Lake, swap: Swap, version: str | None) -> None:
    rows = _rows(lake, swap)
    if rows == swap.rows:
        lake.delete(key for key in swap.old if key != swap.new)
    elif rows is None or swap.new in swap.old:
        log.warning("dropped a compaction that was killed before %s was there", swap.new)
    else:
        raise OperatorError(
            f"{lake.uri}/{swap.new} has {rows} rows, but the {len(swap.old)} files that it replaces have {swap.rows}. "
            f"None of them was removed: remove {swap.new}, then run again"
        )
    _save(lake, replace(swap, settled=True), version)


def _rows(lake: Lake, swap: Swap) -> int | None:
    """How many rows the new file has by its footer; None where there is no such file."""
    try:
        with lake.local_file(swap.new) as path:
            return pq.read_metadata(path).num_rows
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError) as error:
        # Only a file of a name of its own may go: all of its rows are still in the old ones.
        remedy = "restore its last good version" if swap.new in swap.old else "remove it"
        raise OperatorError(
            f"cannot read {lake.uri}/{swap.new}: {error}. Nothing was removed. If it is damaged, {remedy}; "
            "then run again"
        ) from error


def _read(lake: Lake) -> tuple[Swap | None, str | None]:
    """The last swap and the version of the state that says so."""
    body, version = lake.read(KEY) or (None, None)
    if body is None:
        return None, None
    try:
        fields = json.loads(body)
        if fields.pop("format") != FORMAT:
            raise OperatorError(f"{lake.uri}/{KEY} was written by a newer loader: use that one")
        return Swap(**fields), version
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OperatorError(f"{lake.uri}/{KEY} is not what this loader wrote: restore or remove it") from error


def _save(lake: Lake, swap: Swap, version: str | None) -> str:
    return lake.write(KEY, json.dumps({"format": FORMAT} | asdict(swap), indent=2).encode(), expected=version)
