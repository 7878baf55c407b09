"""Lands the changes of the customer table: a snapshot first, then what logical decoding says, exactly once.

Each run writes down what it is about to land, lands it as one file whose name says its range, saves how far it came,
and only then lets the server forget. Killed anywhere, the next run lands the same range under the same name.

Where changes may be missing, the next epoch begins with a snapshot that says so (loaders.users.gaps).
"""

from contextlib import closing
from dataclasses import replace

from loaders import raw, swap
from loaders.lake import open_lake
from loaders.ledger import Ledger
from loaders.raw import USER_CHANGES, Landed
from loaders.settings import Settings
from loaders.users import changes, continuity, epochs, landing, same_table, slots, timeline
from loaders.users.continuity import Break, Source
from loaders.users.publication import find_table, publish
from loaders.users.server import check_server, connect, inspect, source_errors
from loaders.users.state import NAME, Bookmark, Intent


def land(settings: Settings, *, resnapshot: bool = False) -> Landed:
    """Land the initial snapshot, or the changes since the last run if there is one.

    A new snapshot begins where `resnapshot` asks for it, and where changes may be missing and a replica can be read.

    Raises TransientError or OperatorError; nothing is ever landed in part.
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
                epochs.begin_asked(bookmark, source, resnapshot=resnapshot)
            elif bookmark.state.position is None:
                gap = epochs.finish_snapshot(bookmark)
            if bookmark.state.position is None:
                landed = epochs.land_snapshot(bookmark, ledger, settings, source)
            else:
                landed = _continue(bookmark, ledger, settings, source)
            replication.close()
            slots.advance(connection, bookmark.state.slot, bookmark.state.position)
    return replace(landed, gap=landed.gap or gap)


def _continue(bookmark: Bookmark, ledger: Ledger, settings: Settings, source: Source) -> Landed:
    """Land the changes since the last run, or repair what broke the chain of them."""
    found = continuity.examine(bookmark, source)
    if isinstance(found, Break):
        return epochs.repair(bookmark, ledger, settings, source, found)
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
        intent = Intent(landing.batch_time(bookmark.lake), end=source.server.position)
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
    renewed = replace(state.intent, batch_time=landing.batch_time(bookmark.lake))
    if (renewed.time.date() - state.intent.time.date()).days > 1:
        bookmark.save(replace(state, intent=renewed))


def _land_range(bookmark: Bookmark, ledger: Ledger, source: Source) -> Landed:
    """Land the changes of the state's intent."""
    state = bookmark.state
    found = changes.read(
        source.dsn, source.origin, source.table,
        slot=state.slot, database=state.database, start=state.position, end=state.intent.end,
    )  # fmt: skip
    landed = landing.land_file(bookmark.lake, ledger, state, found)
    landing.save_position(bookmark)
    return landed
