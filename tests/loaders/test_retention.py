"""Retention: only what is old and not needed for the current state goes, rule by rule."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from loaders import raw, swap
from loaders.compaction import compact
from loaders.errors import OperatorError, TransientError
from loaders.lake import Lake, open_lake
from loaders.raw import CHARACTERS, USER_CHANGES
from loaders.retention import Removed, retain
from loaders.settings import Settings, from_environment
from tests.loaders.raw_files import files, land_changes, land_crawl

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
LIMIT = "30"  # days: what is of March 1st or later stays


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, raw_retention=LIMIT)


def days_ago(number: int) -> datetime:
    return NOW - timedelta(days=number)


def land_epochs(lake: Lake, *ages: int, epoch: int) -> list[str]:
    """A snapshot and changes, so many days ago."""
    return [
        land_changes(lake, days_ago(age), first * 16, first * 16 + 16, epoch=epoch) for first, age in enumerate(ages)
    ]


def removed(lake: Lake, settings: Settings) -> set[str]:
    """What one run removes; it must say as many files."""
    before = set(lake.keys("raw"))
    said = retain(settings, now=NOW)
    gone = before - set(lake.keys("raw"))
    assert said.before == "2026-03-01"
    assert said.files == {table.name: sum(key.startswith(f"raw/{table.name}/") for key in gone) for table in raw.TABLES}
    return gone


def test_crawls_older_than_the_limit_go(settings: Settings, lake: Lake) -> None:
    keys = {age: land_crawl(lake, days_ago(age)) for age in (400, 32, 31, 30, 29, 0)}
    assert removed(lake, settings) == {keys[400], keys[32], keys[31]}
    assert removed(lake, settings) == set()


def test_the_latest_crawl_stays_however_old_it_is(settings: Settings, lake: Lake) -> None:
    keys = [land_crawl(lake, days_ago(age)) for age in (90, 80, 70)]
    assert removed(lake, settings) == set(keys[:2])


def test_the_latest_crawl_stays_with_those_of_its_file(settings: Settings, lake: Lake) -> None:
    old = land_crawl(lake, days_ago(90))
    for hour in (1, 2):
        land_crawl(lake, days_ago(80) + timedelta(hours=hour))
    compact(settings)
    assert removed(lake, settings) == {old}


def test_changes_of_the_only_epoch_stay_however_old_they_are(settings: Settings, lake: Lake) -> None:
    land_epochs(lake, 400, 300, 2, epoch=1)
    assert removed(lake, settings) == set()


def test_changes_of_former_epochs_go_where_they_are_older_than_the_limit(settings: Settings, lake: Lake) -> None:
    ninth, tenth, eleventh = (
        land_epochs(lake, *ages, epoch=epoch) for epoch, ages in ((9, (400, 300)), (10, (200, 31, 30)), (11, (30, 0)))
    )
    gone = removed(lake, settings)
    assert gone == {*ninth, *tenth[:2]}
    assert not gone & set(eleventh)


def test_an_epoch_without_its_snapshot_replaces_none(settings: Settings, lake: Lake) -> None:
    former = land_epochs(lake, 400, 300, epoch=1)
    land_changes(lake, days_ago(100), 16, 32, epoch=2)  # as if its snapshot had been taken away by hand
    assert removed(lake, settings) == set()
    snapshot = land_changes(lake, days_ago(99), 0, 16, epoch=2)
    assert removed(lake, settings) == set(former)
    assert snapshot in set(lake.keys("raw"))


def test_a_compacted_day_goes_by_its_epochs(settings: Settings, lake: Lake) -> None:
    at = days_ago(50)
    for epoch, first in ((1, 0), (1, 16), (2, 0), (2, 16)):
        land_changes(lake, at, first, first + 16, epoch=epoch)
    compact(settings)
    (gone,) = removed(lake, settings)
    assert gone.endswith(f"/1-{0:016X}-{32:016X}.parquet")
    assert files(lake, USER_CHANGES) == [f"load_date={at:%Y-%m-%d}/2-{0:016X}-{32:016X}.parquet"]


def test_what_is_not_the_loaders_and_the_empty_files_stay(settings: Settings, lake: Lake) -> None:
    for age in (90, 80):
        land_crawl(lake, days_ago(age))
    for epoch in (1, 2):
        land_changes(lake, days_ago(90), 0, 16, epoch=epoch)
    others = [table.key(days_ago(90), "part-0") for table in raw.TABLES]
    for key in others:
        lake.write(key, b"another tool's", expected=None)
    others += [table.key(datetime.fromtimestamp(0, UTC), raw.EMPTY) for table in raw.TABLES]
    assert len(removed(lake, settings)) == 2
    assert set(others) <= set(lake.keys("raw"))


def test_without_a_limit_all_is_kept(settings: Settings, lake: Lake) -> None:
    land_crawl(lake, days_ago(4000))
    land_crawl(lake, days_ago(0))
    assert retain(replace(settings, raw_retention=None), now=NOW) == Removed()
    assert len(files(lake, CHARACTERS)) == 2


@pytest.mark.parametrize("value", ["0", "-3", "1.5", "1e2", "a year", "100000", "٣٠"])
def test_a_limit_that_is_none_needs_a_person_and_removes_nothing(value: str, tmp_path: Path) -> None:
    settings = from_environment({"LAKE_URI": str(tmp_path), "RAW_RETENTION_DAYS": value})
    lake = open_lake(settings.lake_uri)
    for age in (4000, 0):
        land_crawl(lake, days_ago(age))
    with pytest.raises(OperatorError, match=r"RAW_RETENTION_DAYS is .*: give a whole number of days"):
        retain(settings, now=NOW)
    assert len(files(lake, CHARACTERS)) == 2


@pytest.mark.parametrize("other", [compact, lambda settings: retain(settings, now=NOW)], ids=["compact", "retain"])
def test_runs_that_change_files_take_turns(settings: Settings, lake: Lake, other: Callable[[Settings], object]) -> None:
    with lake.lock(swap.NAME), pytest.raises(TransientError, match="another run holds"):
        other(settings)
