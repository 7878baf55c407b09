"""Whether the server still continues what was landed: the same database, the same history, and a slot with all of it.

Positions alone do not show it. After a promotion or a restore the server may be past the bookmark again, with other
transactions at the same LSNs.
"""

from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

import psycopg

from loaders.errors import OperatorError, TransientError
from loaders.raw import USER_CHANGES
from loaders.users import changes, history, shape, slots, timeline
from loaders.users.events import lsn_text
from loaders.users.publication import Table
from loaders.users.server import Server
from loaders.users.slots import Slot
from loaders.users.state import Bookmark, State
from loaders.users.timeline import Origin


@dataclass(frozen=True)
class Break:
    """Changes may be missing between what was landed and what the server offers: only a new epoch continues."""

    reason: str
    is_slot_shared: bool = False  # whether somebody else reads the slot, so that it must not be dropped


@dataclass(frozen=True)
class Source:
    """The database as a run finds it: its DSN, an open connection of each kind, and what these lead to."""

    dsn: str = field(repr=False)
    connection: psycopg.Connection
    replication: psycopg.Connection
    server: Server
    origin: Origin
    table: Table


def range_text(state: State) -> tuple[str, str]:
    """The range of the state's intent as its file's name has it."""
    return f"{state.position or 0:016X}", f"{state.intent.end:016X}"


def intent_key(state: State) -> str:
    """The key of the batch that the state's intent describes: its name is its epoch and its range of LSNs."""
    return USER_CHANGES.key(state.intent.time, "-".join([str(state.epoch), *range_text(state)]))


def is_intent_landed(bookmark: Bookmark) -> bool:
    """Whether a run was killed after its file had become visible."""
    state = bookmark.state
    if not state.intent or state.intent.end is None:
        return False
    key = intent_key(state)
    return key in bookmark.lake.keys(str(PurePosixPath(key).parent))


def refuse_another(state: State, server: Server) -> None:
    """Raise OperatorError when CUSTOMER_DSN leads to another database than the one whose changes were landed.

    A new epoch would make tombstones of everybody in the lake, so that is not what the message proposes.
    """
    if (state.system_identifier, state.database) != (server.system_identifier, server.database):
        raise OperatorError(
            "CUSTOMER_DSN leads to another server or database than the one whose changes were landed: correct it, or "
            "give that database a lake of its own (LAKE_URI, VAULT_URI and DUCKDB_PATH). If your database has moved "
            "there, see docs/runbook.md"
        )


def examine(bookmark: Bookmark, source: Source) -> Slot | Break:
    """The slot when it has every change from the state's position on, or why changes may be missing.

    Takes note of a new timeline in the state. Raises OperatorError where the settings lead elsewhere, TransientError
    where a later run can go on.
    """
    state, server = bookmark.state, source.server
    refuse_another(state, server)
    if happened := shape.differences(shape.from_state(state.published_as), source.table.shape):
        return Break(f"changes of {state.table} may be missing, or rows may differ: {'; '.join(happened)}")
    if broken := _follow_timeline(bookmark, source):
        return broken
    state = bookmark.state
    end = state.intent.end if is_intent_landed(bookmark) else state.position
    if server.is_standby and server.position < (state.intent.end if state.intent else end):
        raise TransientError(f"the standby is at {lsn_text(server.position)}, behind what was landed: run again")
    if server.position < end:
        return Break(f"the server is at {lsn_text(server.position)}, before {lsn_text(end)}: was a backup restored?")
    if state.intent and server.position < state.intent.end:
        state = bookmark.save(replace(state, intent=None))  # nothing of its range was landed
    slot = slots.find(source.connection, state.slot)
    if slot is None:
        return Break(f"the slot {state.slot} is gone")
    if slot.synced:
        raise OperatorError(
            f"CUSTOMER_DSN leads to a standby, whose slot {state.slot} is only a copy for the time after a promotion: "
            "let it lead to the primary (with several hosts: target_session_attrs=read-write)"
        )
    if not slot.is_usable:
        return Break(f"the slot {state.slot} is lost: the server has removed changes that were not landed")
    if slot.confirmed > state.position:
        return Break(
            f"the slot {state.slot} is at {lsn_text(slot.confirmed)}, ahead of {lsn_text(state.position)}: "
            "another reader has consumed changes",
            is_slot_shared=True,
        )
    return _compare(bookmark, source, slot, end) or slot


def _follow_timeline(bookmark: Bookmark, source: Source) -> Break | None:
    """Go on along the server's timeline, where all that was landed lies before it left ours."""
    state, current = bookmark.state, source.origin.timeline
    if state.timeline == current:
        return None
    if state.timeline is not None:
        fork = timeline.fork(source.replication, state.timeline, current)
        if fork is None:
            return Break(
                f"the server is on timeline {current}, which is not known to continue timeline {state.timeline}, whose "
                "changes were landed: was a backup restored?"
            )
        if fork < (state.intent.end if is_intent_landed(bookmark) else state.position):
            if history.has_events(bookmark.lake, epoch=state.epoch, start=fork):
                return Break(
                    f"the server was promoted or restored and has no change of the former timeline from "
                    f"{lsn_text(fork)} on, but some of these were landed"
                )
            # What was landed ends before the fork, and from there on the server has other changes.
            state = replace(state, position=fork, intent=None)
    bookmark.save(replace(state, timeline=current))
    return None


def _compare(bookmark: Bookmark, source: Source, slot: Slot, end: int) -> Break | None:
    """Where the slot offers changes that were landed, they must be the same: killed runs and crashes leave some."""
    state = bookmark.state
    span = {"start": max(slot.confirmed, state.comparable_from), "end": end}
    if span["start"] >= end:
        return None
    offered = changes.read(source.dsn, source.origin, source.table, slot=state.slot, database=state.database, **span)
    with closing(offered):
        lsn = history.first_difference(bookmark.lake, offered, epoch=state.epoch, **span)
    if lsn is None:
        return None
    return Break(
        f"the server's changes from {lsn_text(lsn)} on are not those that were landed: was a backup restored, or "
        "were files removed from the lake?"
    )
