"""Lands the changes of the customer table: a snapshot first, then what logical decoding says, exactly once.

Each run writes down what it is about to land, lands it as one file whose name says its range, saves how far it came,
and only then lets the server forget. Killed anywhere, the next run lands the same range under the same name.

Where changes may be missing, the next epoch begins with a snapshot that says so (loaders.users.gaps).
"""

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import PurePosixPath
from typing import Any

import psycopg
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from loaders import raw, swap
from loaders.batches import BatchClock
from loaders.errors import LoaderError, OperatorError, TransientError
from loaders.identity import lake_id
from loaders.lake import Lake, open_lake
from loaders.ledger import Ledger
from loaders.raw import USER_CHANGES, Landed
from loaders.settings import Settings
from loaders.users import changes, continuity, events, same_table, scrub, slots, snapshot, timeline
from loaders.users.continuity import Break, Source
from loaders.users.events import Event, lsn_text
from loaders.users.gaps import Gap
from loaders.users.publication import RESNAPSHOT, find_table, publish
from loaders.users.server import Server, check_replica, check_server, connect, inspect, source_errors
from loaders.users.slots import Slot
from loaders.users.state import NAME, Bookmark, Intent, State

log = logging.getLogger(__name__)


def land(settings: Settings, *, resnapshot: bool = False) -> Landed:
    """Land the initial snapshot, or the changes since the last run if there is one.

    A new snapshot begins where `resnapshot` asks for it, and where changes may be missing and a replica can be read.

    Raises TransientError or OperatorError; nothing is ever landed by half.
    """
    dsn = settings.required_customer_dsn
    lake = open_lake(settings.lake_uri, kms_key_id=settings.lake_kms_key_id)
    with lake.lock(NAME), source_errors():
        swap.finish(lake)
        raw.ensure_tables(lake)
        bookmark = Bookmark(lake)
        ledger = Ledger.open(settings, lake)  # under the lock: see loaders.erasure
        with connect(dsn) as connection, closing(connect(dsn, replication=True)) as replication:
            server = inspect(connection)
            check_server(server)
            # After the server's position was read: a promotion in between is then one that continues from there.
            origin = timeline.identify(replication)
            found = find_table(connection, settings.customer_table)
            same_table.check(lake, bookmark.state, found, server)
            landed_as = bookmark.state and bookmark.state.published_as
            table = publish(connection, found, is_standby=server.is_standby, landed=landed_as)
            source = Source(dsn, connection, replication, server, origin, table)
            gap = None
            if resnapshot or not bookmark.state:
                _begin_asked_epoch(bookmark, source, resnapshot=resnapshot)
            elif bookmark.state.position is None:
                gap = _finish_snapshot(bookmark)
            if bookmark.state.position is None:
                landed = _land_snapshot(bookmark, ledger, settings, source)
            else:
                landed = _continue(bookmark, ledger, settings, source)
            replication.close()
            slots.advance(connection, bookmark.state.slot, bookmark.state.position)
    return replace(landed, gap=landed.gap or gap)


# ---------- epochs


def _begin_asked_epoch(bookmark: Bookmark, source: Source, *, resnapshot: bool) -> None:
    """Begin the first epoch, or the one that a person asks for."""
    former = bookmark.state
    files = [file for found in USER_CHANGES.files(bookmark.lake).values() for file in found]
    if not former and files and not resnapshot:
        raise OperatorError(
            "the lake holds changes of the customer table, but the state that says how far they go is lost. "
            f"Restore it, or begin a new epoch: {RESNAPSHOT}"
        )
    gap, broken = None, None
    if former:
        if former.gap:
            gap = replace(former.gap, asked_for=True)
        elif former.position is not None:
            with suppress(LoaderError):
                found = continuity.examine(bookmark, source)
                broken = found if isinstance(found, Break) else None
            reason = f": {broken.reason}" if broken else ""
            gap = _gap_after(bookmark.state, f"a person asked for a new snapshot{reason}", asked_for=True)
    elif files:
        last = max(files)
        gap = Gap(
            "the state of the loader was lost", _now().isoformat(), last.epoch, int(last.last, 16), asked_for=True
        )
    _begin_epoch(bookmark, source, gap, is_slot_shared=broken is not None and broken.is_slot_shared)


def _begin_epoch(bookmark: Bookmark, source: Source, gap: Gap | None, *, is_slot_shared: bool = False) -> None:
    """Write down that a snapshot comes next, under a number that no epoch in the lake has."""
    lake, former, server = bookmark.lake, bookmark.state, source.server
    names = (PurePosixPath(key).stem.partition("-")[0] for key in lake.keys(f"raw/{USER_CHANGES.name}"))
    epoch = max([former.epoch if former else 0, *(int(name) for name in names if name.isdecimal())]) + 1
    # Two lakes on one database have their own slots, also where they are in folders of the same name.
    prefix = f"lakehouse_{re.sub('[^a-z0-9]', '_', source.table.name.lower())[:32]}_"
    slot, created = f"{prefix}{lake_id(lake)[:8]}", False
    if former and is_slot_shared:
        slot = f"{slot}_{epoch}"
    elif former:
        slot, created = former.slot, former.created_slot and former.system_identifier == server.system_identifier
    for name in slots.unread(source.connection, prefix):
        if name != slot:
            log.warning("nobody reads the slot %s now: if it is of no lake that is still in use, drop it", name)
    state = State(
        slot=slot,
        epoch=epoch,
        system_identifier=server.system_identifier,
        database=server.database,
        table=source.table.qualified_name,
        published_as=source.table.shape,
        created_slot=created,
        gap=gap,
    )
    _find_own_slot(source, state)
    bookmark.save(state)


def _gap_after(state: State, reason: str, *, asked_for: bool = False) -> Gap:
    return Gap(reason, _now().isoformat(), state.epoch, state.position, state.landed_at, asked_for)


def _repair(bookmark: Bookmark, ledger: Ledger, settings: Settings, source: Source, broken: Break) -> Landed:
    """Begin a new epoch by a snapshot from the replica, with a record of the gap; stop where there is none."""
    log.warning("%s", broken.reason)
    if not _names_replica(settings, source.server):
        raise OperatorError(f"{broken.reason}. Begin a new epoch with a snapshot: {RESNAPSHOT}")
    log.warning("a new epoch begins with a snapshot from the replica")
    gap = _gap_after(bookmark.state, broken.reason)
    _begin_epoch(bookmark, source, gap, is_slot_shared=broken.is_slot_shared)
    return _land_snapshot(bookmark, ledger, settings, source)


def _names_replica(settings: Settings, server: Server) -> bool:
    """Whether the settings allow a repair and name a replica for it. Raises psycopg.Error where it does not answer."""
    if settings.customer_gaps == "stop" or settings.customer_snapshot_dsn == settings.customer_dsn:
        return False
    with connect(settings.customer_snapshot_dsn, setting="CUSTOMER_SNAPSHOT_DSN") as reader:
        replica = inspect(reader)
    one_database = (replica.system_identifier, replica.database) == (server.system_identifier, server.database)
    return replica.is_standby and one_database and replica.started != server.started


# ---------- the snapshot


def _land_snapshot(bookmark: Bookmark, ledger: Ledger, settings: Settings, source: Source) -> Landed:
    """Land the table as it was at an LSN from which on the slot has every change."""
    former, server, table = bookmark.state, source.server, source.table
    origin = {
        "system_identifier": server.system_identifier,
        "database": server.database,
        "table": table.qualified_name,
        "published_as": table.shape,
        "timeline": source.origin.timeline,
    }
    if former.gap:  # a former attempt at this epoch knew where what was landed had come from
        continuity.refuse_another(former, server)
    slot = _find_own_slot(source, former)
    if slot and not _may_use_again(slot, former, replace(former, **origin), settings):
        log.warning("the slot %s is recreated: no snapshot that it continues was landed", former.slot)
        slots.drop(source.connection, former.slot)
        slot = None
    # Before the slot is created, so that a repeated attempt knows it again.
    state = bookmark.save(replace(former, **origin, intent=Intent(_batch_time(bookmark.lake)), created_slot=True))
    with connect(settings.customer_snapshot_dsn, setting="CUSTOMER_SNAPSHOT_DSN") as reader:
        replica = inspect(reader)
        _check_snapshot_source(settings, replica, source, state)
        if slot and replica.is_standby:
            # A replica that lagged ended the last attempt: a new slot would start even later.
            position = snapshot.begin_on_standby(reader, slot.confirmed)
        else:
            if slot:
                slots.drop(source.connection, state.slot)
            position = _begin_with_new_slot(bookmark, settings, reader, replica, server)
        if not server.is_standby and position > inspect(source.connection).position:
            raise OperatorError(
                f"the server of CUSTOMER_SNAPSHOT_DSN is at {lsn_text(position)}, ahead of the one of CUSTOMER_DSN: it "
                "is no replica of it any more. Let it follow again, or name another"
            )
        # From now on the file's presence says whether the snapshot is landed.
        state = bookmark.save(replace(state, intent=replace(state.intent, end=position)))
        rows = snapshot.rows(reader, position, table=table, database=server.database)
        landed = _land(bookmark.lake, ledger, state, _with_gap(rows, state.gap))
    landed = replace(landed, gap=_landed_gap(state))
    _save_position(bookmark)
    return landed


def _find_own_slot(source: Source, state: State) -> Slot | None:
    """The state's slot. Raises OperatorError where one of that name exists that this lake did not create."""
    slot = slots.find(source.connection, state.slot)
    if slot and not (state.created_slot and state.system_identifier == source.server.system_identifier):
        raise OperatorError(
            f"the database has a slot {state.slot} that this lake does not know of: another copy of the lake may read "
            f"it. If none does, drop it (SELECT pg_drop_replication_slot('{state.slot}')), then run again"
        )
    return slot


def _may_use_again(slot: Slot, former: State, state: State, settings: Settings) -> bool:
    """Whether a former attempt's slot serves the next: a late replica then gets further with each of them.

    Not when it makes the server keep too much: nothing was landed through it, so that a new one loses nothing.
    """
    if not (former.intent and former == state and slot.is_usable):
        return False
    return (slot.retained_bytes or 0) <= settings.alert_slot_lag_bytes


def _check_snapshot_source(settings: Settings, replica: Server, source: Source, state: State) -> None:
    """Raise an error unless a snapshot may be read there."""
    check_replica(source.server, replica)
    if not replica.is_standby and state.gap and not state.gap.asked_for:
        raise OperatorError(
            f"CUSTOMER_SNAPSHOT_DSN leads to no replica any more, and no whole table is read on the primary unasked. "
            f"{state.gap.reason}. Name a replica, or read it there: {RESNAPSHOT}"
        )
    if replica.is_standby and source.origin.timeline > 1:  # on the first timeline, no standby can follow another one
        with closing(
            connect(settings.customer_snapshot_dsn, replication=True, setting="CUSTOMER_SNAPSHOT_DSN")
        ) as replication:
            found = timeline.identify(replication).timeline
        if found != source.origin.timeline:
            raise TransientError(
                f"the replica is on timeline {found}, the database on timeline {source.origin.timeline}: it does not "
                "follow the last promotion yet. Nothing was landed, run again"
            )


def _begin_with_new_slot(
    bookmark: Bookmark, settings: Settings, reader: psycopg.Connection, replica: Server, server: Server
) -> int:
    """Create the slot and begin the reader's transaction; return the LSN at which it sees the table."""
    state = bookmark.state
    failover = server.version >= slots.FAILOVER_VERSION and not server.is_standby
    with closing(connect(settings.customer_dsn, replication=True)) as replication:
        try:
            start, exported = slots.create(replication, state.slot, export=not replica.is_standby, failover=failover)
        except psycopg.errors.DuplicateObject:
            bookmark.save(replace(state, created_slot=False))
            raise TransientError(f"somebody else has just created the slot {state.slot}: run again") from None
        log.info("created the slot %s at %s", state.slot, lsn_text(start))
        if exported:
            log.warning("the whole table is read on the primary: CUSTOMER_SNAPSHOT_DSN names no replica")
            snapshot.begin_exported(reader, exported)
            return start
    return snapshot.begin_on_standby(reader, start)


def _with_gap(rows: Iterator[Event], gap: Gap | None) -> Iterator[Event]:
    """The same rows; the truncate that comes first says which gap the snapshot ends."""
    if gap:
        truncate = next(rows)
        yield truncate._replace(source=truncate.source[:-1] + gap.source_fields() + b"}")
    yield from rows


def _finish_snapshot(bookmark: Bookmark) -> dict[str, Any] | None:
    """Take note of a snapshot whose run was killed after its file had become visible; return its gap."""
    if not continuity.is_intent_landed(bookmark):
        return None
    gap = _landed_gap(bookmark.state)
    _save_position(bookmark)
    return gap


def _landed_gap(state: State) -> dict[str, Any] | None:
    if not state.gap:
        return None
    return state.gap.describe(epoch=state.epoch, to_lsn=state.intent.end, to_time=state.intent.batch_time)


# ---------- changes


def _continue(bookmark: Bookmark, ledger: Ledger, settings: Settings, source: Source) -> Landed:
    """Land the changes since the last run, or repair what broke the chain of them."""
    found = continuity.examine(bookmark, source)
    if isinstance(found, Break):
        return _repair(bookmark, ledger, settings, source, found)
    if found.failover is False and not source.server.is_standby:
        slots.keep_through_failover(source.replication, bookmark.state.slot)
    landed = _land_changes(bookmark, ledger, source)
    return replace(landed, slot_lag_bytes=found.retained_bytes)


def _land_changes(bookmark: Bookmark, ledger: Ledger, source: Source) -> Landed:
    """Land what a killed run had begun to land, and then what was committed since."""
    landed = Landed(USER_CHANGES.name)
    if bookmark.state.intent:
        if not continuity.is_intent_landed(bookmark):
            _renew_intent(bookmark)
        landed = _land_range(bookmark, ledger, source)
    if bookmark.state.position < source.server.position:
        intent = Intent(_batch_time(bookmark.lake), end=source.server.position)
        seen = {"table": source.table.qualified_name, "published_as": source.table.shape}
        bookmark.save(replace(bookmark.state, **seen, intent=intent))
        landed = landed.followed_by(_land_range(bookmark, ledger, source))
    return landed


def _renew_intent(bookmark: Bookmark) -> None:
    """Give the intent a batch time of now where its own is of a day at which dbt may no longer look.

    dbt looks from the day before the latest that it has built, and an erasure may have landed since the run was killed.
    Within that day the file keeps its name, so that nothing lands twice even if the killed run is only paused.
    """
    state = bookmark.state
    renewed = replace(state.intent, batch_time=_batch_time(bookmark.lake))
    if (renewed.time.date() - state.intent.time.date()).days > 1:
        bookmark.save(replace(state, intent=renewed))


def _land_range(bookmark: Bookmark, ledger: Ledger, source: Source) -> Landed:
    """Land the changes of the state's intent."""
    state = bookmark.state
    found = changes.read(
        source.dsn, source.origin, source.table,
        slot=state.slot, database=state.database, start=state.position, end=state.intent.end,
    )  # fmt: skip
    landed = _land(bookmark.lake, ledger, state, found)
    _save_position(bookmark)
    return landed


def _land(lake: Lake, ledger: Ledger, state: State, found: Iterator[Event]) -> Landed:
    """Land the events as the one file of the state's intent; no file when there are none.

    Who is in the ledger lands without values.
    """
    batch_time = state.intent.time
    scrub_events = scrub.events if len(ledger) else lambda found, _: found
    with closing(_with_progress(found)) as found:
        first = next(found, None)
        if first is None:
            return Landed(USER_CHANGES.name)
        batch_id = raw.new_batch_id(batch_time)
        with lake.new_file(continuity.intent_key(state)) as path:
            rows = events.write(
                path,
                scrub_events(chain([first], found), ledger),
                epoch=state.epoch,
                batch_id=batch_id,
                landed_at=batch_time,
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


def _save_position(bookmark: Bookmark) -> None:
    """Write down that the intent is landed."""
    state = bookmark.state
    reached = {"position": state.intent.end, "landed_at": state.intent.batch_time, "intent": None, "gap": None}
    if state.position is None:
        reached["comparable_from"] = state.intent.end
    bookmark.save(replace(state, **reached))


def _batch_time(lake: Lake) -> str:
    return BatchClock(lake, USER_CHANGES).take(_now()).isoformat()


def _now() -> datetime:
    return datetime.now(UTC)
