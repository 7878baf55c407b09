"""Removes from raw what is older than RAW_RETENTION_DAYS and not needed to build the current state anew.

What goes: changes of epochs that a later landed snapshot has replaced, and crawls other than the latest. Tables that
are built already keep what they know. A full refresh (`dbt build --full-refresh`) no longer knows

- of users: their versions in the epochs that are gone, and those who vanished before the latest snapshot;
- of characters: when they were first seen or changed before the oldest crawl that is left, and those who had been
  removed by then.
"""

import logging
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from loaders import swap
from loaders.lake import Lake, open_lake
from loaders.raw import CHARACTERS, USER_CHANGES, RawFile
from loaders.settings import Settings

log = logging.getLogger(__name__)

SNAPSHOT_BEGINS = "0" * 16  # what a snapshot's file name has as the start of its range


@dataclass(frozen=True)
class Removed:
    """What one run removed: how many files of each table, of days before `before`. No date: everything is kept."""

    before: str | None = None
    files: dict[str, int] = field(default_factory=dict)


def retain(settings: Settings, *, now: datetime | None = None) -> Removed:
    """Remove what may go of the days that are more than RAW_RETENTION_DAYS before today (UTC); nothing by default.

    Killed anywhere, the next run removes the rest. Raises OperatorError for a wrong setting, TransientError when a
    compaction or another run of this is under way.
    """
    if (days := settings.raw_retention_days) is None:
        log.info("RAW_RETENTION_DAYS is not set: all of raw is kept")
        return Removed()
    before = (now or datetime.now(UTC)).astimezone(UTC).date() - timedelta(days=days)
    lake = open_lake(settings.lake_uri, kms_key_id=settings.lake_kms_key_id)
    with lake.lock(swap.NAME):
        swap.settle(lake)
        found = {CHARACTERS.name: _crawls(lake, before), USER_CHANGES.name: _user_changes(lake, before)}
        for table, files in found.items():
            lake.delete(file.key for file in files)
            log.info("removed %d files of %s before %s", len(files), table, before)
    return Removed(before.isoformat(), {table: len(files) for table, files in found.items()})


def _crawls(lake: Lake, before: date) -> list[RawFile]:
    """All of the days before, but the file that holds the latest crawl."""
    days = CHARACTERS.files(lake)
    latest = max((file.last for files in days.values() for file in files), default=None)
    return [file for day, files in days.items() if day < before for file in files if file.last != latest]


def _user_changes(lake: Lake, before: date) -> list[RawFile]:
    """Those of the days before whose epoch is older than the newest one with a snapshot in the lake."""
    days = USER_CHANGES.files(lake)
    snapshots = (file.epoch for files in days.values() for file in files if file.first == SNAPSHOT_BEGINS)
    newest = max(snapshots, default=0)
    return [file for day, files in days.items() if day < before for file in files if file.epoch < newest]
