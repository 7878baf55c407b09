"""Begins epochs: the first one, one that a person asks for, and one that repairs what broke the chain of changes."""

import logging
import re
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import psycopg

from loaders.errors import LoaderError, OperatorError, TransientError
from loaders.identity import lake_id
from loaders.ledger import Ledger
from loaders.raw import USER_CHANGES, Landed
from loaders.settings import Settings
from loaders.users import continuity, landing, slots, snapshot, timeline
from loaders.users.continuity import Break, Source
from loaders.users.events import Event, lsn_text
from loaders.users.gaps import Gap
from loaders.users.publication import RESNAPSHOT
from loaders.users.server import Server, check_replica, connect, inspect
from loaders.users.slots import Slot
from loaders.users.state import Bookmark, Intent, State

log = logging.getLogger(__name__)


def begin_asked(bookmark: Bookmark, source: Source, *, resnapshot: bool) -> None:
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
            "the state of the loader was lost",
            landing.now().isoformat(),
            last.epoch,
            int(last.last, 16),
            asked_for=True,
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
    return Gap(reason, landing.now().isoformat(), state.epoch, state.position, state.landed_at, asked_for)


def repair(bookmark: Bookmark, ledger: Ledger, settings: Settings, source: Source, broken: Break) -> Landed:
    """Begin a new epoch by a snapshot from the replica, with a record of the gap; stop where there is none."""
    log.warning("%s", broken.reason)
    if not _names_replica(settings, source.server):
        raise OperatorError(f"{broken.reason}. Begin a new epoch with a snapshot: {RESNAPSHOT}")
    log.warning("a new epoch begins with a snapshot from the replica")
    gap = _gap_after(bookmark.state, broken.reason)
    _begin_epoch(bookmark, source, gap, is_slot_shared=broken.is_slot_shared)
    return land_snapshot(bookmark, ledger, settings, source)


def _names_replica(settings: Settings, server: Server) -> bool:
    """Whether the settings allow a repair and name a replica for it. Raises psycopg.Error where it does not answer."""
    if settings.customer_gaps == "stop" or settings.customer_snapshot_dsn == settings.customer_dsn:
        return False
    with connect(settings.customer_snapshot_dsn, setting="CUSTOMER_SNAPSHOT_DSN") as reader:
        replica = inspect(reader)
    one_database = (replica.system_identifier, replica.database) == (server.system_identifier, server.database)
    return replica.is_standby and one_database and replica.started != server.started


# ---------- the snapshot


def land_snapshot(bookmark: Bookmark, ledger: Ledger, settings: Settings, source: Source) -> Landed:
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
    state = bookmark.save(
        replace(former, **origin, intent=Intent(landing.batch_time(bookmark.lake)), created_slot=True)
    )
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
        landed = landing.land_file(bookmark.lake, ledger, state, _with_gap(rows, state.gap))
    landed = replace(landed, gap=_landed_gap(state))
    landing.save_position(bookmark)
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


def finish_snapshot(bookmark: Bookmark) -> dict[str, Any] | None:
    """Take note of a snapshot whose run was killed after its file had become visible; return its gap."""
    if not continuity.is_intent_landed(bookmark):
        return None
    gap = _landed_gap(bookmark.state)
    landing.save_position(bookmark)
    return gap


def _landed_gap(state: State) -> dict[str, Any] | None:
    if not state.gap:
        return None
    return state.gap.describe(epoch=state.epoch, to_lsn=state.intent.end, to_time=state.intent.batch_time)
