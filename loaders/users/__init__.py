"""Lands the changes of the customer table: a snapshot first, then what logical decoding says, exactly once.

Each run writes down what it is about to land, lands it as one file whose name says its range, saves how far it came,
and only then lets the server forget. Killed anywhere, the next run lands the same range under the same name.
"""

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from itertools import chain
from pathlib import PurePosixPath

import psycopg
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from loaders import raw, swap
from loaders.errors import OperatorError, TransientError
from loaders.lake import Lake, open_lake
from loaders.ledger import Ledger
from loaders.raw import USER_CHANGES, Landed
from loaders.settings import Settings
from loaders.users import events, same_table, scrub, shape, slots, snapshot
from loaders.users.events import Event, lsn_text
from loaders.users.pgoutput import decode
from loaders.users.publication import RESNAPSHOT, Table, find_table, publish
from loaders.users.replication import stream
from loaders.users.server import Server, check_replica, check_server, connect, inspect, source_errors
from loaders.users.slots import Slot
from loaders.users.state import NAME, Bookmark, Intent, State

log = logging.getLogger(__name__)


def land(settings: Settings, *, resnapshot: bool = False) -> Landed:
    """Land the snapshot where there is none as yet (or a new one is asked for), else the changes since the last run.

    Raises TransientError or OperatorError; nothing is ever landed by half.
    """
    dsn = settings.required_customer_dsn
    lake = open_lake(settings.lake_uri, kms_key_id=settings.lake_kms_key_id)
    with lake.lock(NAME), source_errors():
        swap.finish(lake)
        raw.ensure_tables(lake)
        bookmark = Bookmark(lake)
        ledger = Ledger.open(settings, lake)  # under the lock: see loaders.erasure
        with connect(dsn) as connection:
            server = inspect(connection)
            check_server(server)
            source = find_table(connection, settings.customer_table)
            same_table.check(lake, bookmark.state, source, server)
            landed_as = bookmark.state and bookmark.state.published_as
            table = publish(connection, source, is_standby=server.is_standby, landed=landed_as)
            if resnapshot or not bookmark.state:
                _begin_epoch(bookmark, table, resnapshot=resnapshot)
            elif bookmark.state.position is None:
                _finish_snapshot(bookmark)
            if bookmark.state.position is None:
                landed = _land_snapshot(bookmark, ledger, settings, connection, server, table)
            else:
                slot = _continued_slot(bookmark.state, connection, server, table)
                landed = _land_changes(bookmark, ledger, dsn, server, table)
                landed = replace(landed, slot_lag_bytes=slot.retained_bytes)
            slots.advance(connection, bookmark.state.slot, bookmark.state.position)
    return landed


def _begin_epoch(bookmark: Bookmark, table: Table, *, resnapshot: bool) -> None:
    """Write down that a snapshot comes next, under a number that no epoch in the lake has."""
    lake, former = bookmark.lake, bookmark.state
    names = (PurePosixPath(key).stem for key in lake.keys(f"raw/{USER_CHANGES.name}"))
    landed = [name for name in names if name != raw.EMPTY]
    if landed and not resnapshot:
        raise OperatorError(
            "the lake holds changes of the customer table, but the state that says how far they go is lost. "
            f"Begin a new epoch: {RESNAPSHOT}"
        )
    epochs = [int(epoch) for epoch in (name.partition("-")[0] for name in landed) if epoch.isdecimal()]
    # Two lakes on one database have their own slots.
    slot = f"lakehouse_{re.sub('[^a-z0-9]', '_', table.name.lower())[:40]}_{sha256(lake.uri.encode()).hexdigest()[:8]}"
    if former and former.slot != slot:
        log.warning("the slot %s of the former epoch is left: drop it when nothing reads it", former.slot)
    bookmark.save(
        State(
            slot=slot,
            epoch=max([former.epoch if former else 0, *epochs]) + 1,
            table=table.qualified_name,
            published_as=table.shape,
        )
    )


def _land_snapshot(
    bookmark: Bookmark,
    ledger: Ledger,
    settings: Settings,
    connection: psycopg.Connection,
    server: Server,
    table: Table,
) -> Landed:
    """Land the table as it was at an LSN from which on the slot has every change."""
    former = bookmark.state
    origin = {
        "system_identifier": server.system_identifier,
        "database": server.database,
        "table": table.qualified_name,
        "published_as": table.shape,
    }
    slot = slots.find(connection, former.slot)
    if slot and not (former.intent and former == replace(former, **origin)):
        # Before the intent is saved, so that an attempt that is repeated finds no slot but its own.
        log.warning("the slot %s is made anew: no snapshot that it continues was landed", former.slot)
        slots.drop(connection, former.slot)
        slot = None
    state = bookmark.save(replace(former, **origin, intent=Intent(_now())))
    with connect(settings.customer_snapshot_dsn, setting="CUSTOMER_SNAPSHOT_DSN") as reader:
        replica = inspect(reader)
        check_replica(server, replica)
        if slot and slot.is_usable and replica.is_standby:
            # A replica that lagged ended the last attempt: a slot made anew would start even later.
            position = snapshot.begin_on_standby(reader, slot.confirmed)
        else:
            if slot:
                slots.drop(connection, state.slot)
            position = _begin_with_new_slot(state.slot, settings, reader, replica)
        # From now on the file's presence says whether the snapshot is landed.
        state = bookmark.save(replace(state, intent=replace(state.intent, end=position)))
        rows = snapshot.rows(reader, position, table=table, database=server.database)
        landed = _land(bookmark.lake, ledger, state, rows)
    _save_position(bookmark)
    return landed


def _begin_with_new_slot(slot: str, settings: Settings, reader: psycopg.Connection, replica: Server) -> int:
    """Make the slot and begin the reader's transaction; return the LSN at which it sees the table."""
    with closing(connect(settings.customer_dsn, replication=True)) as replication:
        start, exported = slots.create(replication, slot, export=not replica.is_standby)
        log.info("made the slot %s at %s", slot, lsn_text(start))
        if exported:
            log.warning("the whole table is read on the primary: CUSTOMER_SNAPSHOT_DSN names no replica")
            snapshot.begin_exported(reader, exported)
            return start
    return snapshot.begin_on_standby(reader, start)


def _finish_snapshot(bookmark: Bookmark) -> None:
    """Take note of a snapshot whose run was killed after its file had become visible."""
    intent = bookmark.state.intent
    if intent and intent.end is not None:
        key = _key(bookmark.state)
        if key in bookmark.lake.keys(str(PurePosixPath(key).parent)):
            _save_position(bookmark)


def _continued_slot(state: State, connection: psycopg.Connection, server: Server, table: Table) -> Slot:
    """The slot, or an error unless it still has every change from the state's position on."""
    slot = slots.find(connection, state.slot)
    end = state.intent.end if state.intent else state.position
    if (state.system_identifier, state.database) != (server.system_identifier, server.database):
        reason = "CUSTOMER_DSN leads to another server or database than the one whose changes were landed"
    elif happened := shape.differences(shape.from_state(state.published_as), table.shape):
        reason = f"changes of {state.table} may be missing, or rows may differ: {'; '.join(happened)}"
    elif server.position < end:
        if server.is_standby:
            raise TransientError(f"the standby is at {lsn_text(server.position)}, behind {lsn_text(end)}: run again")
        reason = f"the server is at {lsn_text(server.position)}, before {lsn_text(end)}: was a backup restored?"
    elif slot is None:
        reason = f"the slot {state.slot} is gone"
    elif not slot.is_usable:
        reason = f"the slot {state.slot} is lost: the server has removed changes that were not landed"
    elif slot.confirmed > state.position:
        reason = (
            f"the slot {state.slot} is at {lsn_text(slot.confirmed)}, ahead of {lsn_text(state.position)}: "
            "another reader has consumed changes"
        )
    else:
        return slot
    raise OperatorError(f"{reason}. Begin a new epoch with a snapshot: {RESNAPSHOT}")


def _land_changes(bookmark: Bookmark, ledger: Ledger, dsn: str, server: Server, table: Table) -> Landed:
    """Land what was committed since the last run, or first what a killed run had begun to land."""
    state = bookmark.state
    if not state.intent:
        if server.position == state.position:
            return Landed(USER_CHANGES.name)
        seen = {"table": table.qualified_name, "published_as": table.shape}
        state = bookmark.save(replace(state, **seen, intent=Intent(_now(), end=server.position)))
    landed = _land(bookmark.lake, ledger, state, _changes(dsn, state, table))
    _save_position(bookmark)
    return landed


def _changes(dsn: str, state: State, table: Table) -> Iterator[Event]:
    """The changes of the state's range; the connection is closed with the last of them."""
    span = {"start": state.position, "end": state.intent.end}
    with closing(connect(dsn, replication=True)) as replication:
        messages = stream(replication, slot=state.slot, publication=table.publication, **span)
        yield from decode(messages, relation_oid=table.oid, database=state.database, **span)


def _land(lake: Lake, ledger: Ledger, state: State, changes: Iterator[Event]) -> Landed:
    """Land the events as the one file of the state's intent; no file when there are none.

    Who is in the ledger lands without values.
    """
    batch_time = state.intent.time
    scrub_events = scrub.events if len(ledger) else lambda changes, _: changes
    with closing(_with_progress(changes)) as changes:
        first = next(changes, None)
        if first is None:
            return Landed(USER_CHANGES.name)
        batch_id = raw.new_batch_id(batch_time)
        with lake.new_file(_key(state)) as path:
            rows = events.write(
                path,
                scrub_events(chain([first], changes), ledger),
                epoch=state.epoch,
                batch_id=batch_id,
                landed_at=batch_time,
            )
            size = path.stat().st_size
    log.info("landed %d changes, %s to %s", rows, *_range(state))
    return Landed(USER_CHANGES.name, batch_id, rows, size, "-".join(_range(state)))


def _with_progress(changes: Iterator[Event]) -> Iterator[Event]:
    """The same changes, counted on stderr where that is a terminal."""
    columns = TextColumn("landing changes: {task.completed:,.0f}"), TimeElapsedColumn()
    shown = sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), disable=not shown, transient=True) as progress:
        yield from progress.track(changes, total=None) if shown else changes


def _range(state: State) -> tuple[str, str]:
    return f"{state.position or 0:016X}", f"{state.intent.end:016X}"


def _save_position(bookmark: Bookmark) -> None:
    bookmark.save(replace(bookmark.state, position=bookmark.state.intent.end, intent=None))


def _key(state: State) -> str:
    """The key of the batch that the state's intent describes: its name is its epoch and its range of LSNs."""
    return USER_CHANGES.key(state.intent.time, "-".join([str(state.epoch), *_range(state)]))


def _now() -> str:
    return datetime.now(UTC).isoformat()
