"""Lands events as the one file of the state's intent, and writes down how far that came."""

import logging
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from loaders import raw
from loaders.batches import BatchClock
from loaders.lake import Lake
from loaders.ledger import Ledger
from loaders.raw import USER_CHANGES, Landed
from loaders.users import continuity, events, scrub
from loaders.users.events import Event
from loaders.users.state import Bookmark, State

log = logging.getLogger(__name__)


def land_file(lake: Lake, ledger: Ledger, state: State, found: Iterator[Event]) -> Landed:
    """Land the events as the one file of the state's intent; no file when there are none.

    Who is in the ledger lands without values.
    """
    landed_at = state.intent.time
    scrub_events = scrub.events if len(ledger) else lambda found, _: found
    with closing(_with_progress(found)) as found:
        first = next(found, None)
        if first is None:
            return Landed(USER_CHANGES.name)
        batch_id = raw.new_batch_id(landed_at)
        with lake.new_file(continuity.intent_key(state)) as path:
            rows = events.write(
                path,
                scrub_events(chain([first], found), ledger),
                epoch=state.epoch,
                batch_id=batch_id,
                landed_at=landed_at,
            )
            size = path.stat().st_size
    log.info("landed %d changes, %s to %s", rows, *continuity.range_text(state))
    return Landed(USER_CHANGES.name, batch_id, rows, size, "-".join(continuity.range_text(state)))


def _with_progress(found: Iterator[Event]) -> Iterator[Event]:
    """The same changes, counted on stderr where that is a terminal."""
    columns = TextColumn("landing changes: {task.completed:,.0f}"), TimeElapsedColumn()
    shown = sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), disable=not shown, transient=True) as progress:
        yield from progress.track(found, total=None) if shown else found


def save_position(bookmark: Bookmark) -> None:
    """Write down that the intent is landed."""
    state = bookmark.state
    reached = {"position": state.intent.end, "landed_at": state.intent.batch_time, "intent": None, "gap": None}
    if state.position is None:
        reached["comparable_from"] = state.intent.end
    bookmark.save(replace(state, **reached))


def batch_time(lake: Lake) -> str:
    return BatchClock(lake, USER_CHANGES).take(now()).isoformat()


def now() -> datetime:
    return datetime.now(UTC)
