"""Compaction: the same rows in fewer files, whatever is killed, broken, late or under way at the same time."""

import itertools
import json
import logging
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.client import BaseClient

from benchmarks.measure import measure
from benchmarks.world import ROOT
from loaders import compaction, disney, raw, swap
from loaders.compaction import Compacted, compact
from loaders.errors import OperatorError, TransientError
from loaders.lake import Lake, local, open_lake
from loaders.raw import CHARACTERS, USER_CHANGES
from loaders.settings import Settings, from_environment
from loaders.users.state import Bookmark, Intent, State
from sandbox.characters import characters
from sandbox.disney_api import DisneyApi
from tests.loaders.raw_files import all_rows, files, land_changes, land_crawl, rows_of

DAY = datetime(2026, 3, 1, tzinfo=UTC)
FOLDER = "load_date=2026-03-01/"
# A run is killed just before each call of one of these, which is just after what came before it.
STEPS = [
    (os, "replace"),  # makes a file or the state visible
    (os, "unlink"),
    (local, "_sync_folder"),
    (BaseClient, "_make_api_call"),
]
CHANGES = ("PutObject", "DeleteObjects")  # of the requests to S3 only those that change something are steps

# Forked from a process that has imported all this: a run starts in no time.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload([__name__, "loaders.lake.s3"])


def hours(number: float) -> datetime:
    return DAY + timedelta(hours=number)


def land_day(lake: Lake) -> list[str]:
    """Three crawls and, in two epochs, five files of changes, on one day."""
    return [
        *[land_crawl(lake, hours(hour)) for hour in (1, 2, 3)],
        *[land_changes(lake, hours(4 + first), first * 16, first * 16 + 16, epoch=9) for first in range(3)],
        land_changes(lake, hours(8), 0, 16, epoch=10),
        land_changes(lake, hours(9), 16, 48, epoch=10),
    ]


# ---------- what becomes of a day


def test_a_day_becomes_one_file_per_epoch_with_the_same_rows_in_order(settings: Settings, lake: Lake) -> None:
    keys = land_day(lake)
    before = all_rows(lake)
    crawls, ninth, tenth = ([row for key in part for row in rows_of(lake, key)] for part in parts(keys))

    done = compact(settings)

    assert (done.days, done.files, done.new_files, done.rows) == (1, 8, 3, len(crawls + ninth + tenth))
    assert files(lake, CHARACTERS) == [f"{FOLDER}20260301T010000.000000Z-20260301T030000.000000Z.parquet"]
    assert files(lake, USER_CHANGES) == [
        f"{FOLDER}10-{0:016X}-{48:016X}.parquet",
        f"{FOLDER}9-{0:016X}-{48:016X}.parquet",
    ]
    (crawls_key,) = (f"raw/{CHARACTERS.name}/{name}" for name in files(lake, CHARACTERS))
    tenth_key, ninth_key = (f"raw/{USER_CHANGES.name}/{name}" for name in files(lake, USER_CHANGES))
    assert [rows_of(lake, key) for key in (crawls_key, ninth_key, tenth_key)] == [crawls, ninth, tenth]
    assert all_rows(lake) == before
    for table, key in ((CHARACTERS, crawls_key), (USER_CHANGES, ninth_key)):
        with lake.local_file(key) as path:
            assert pq.read_schema(path).equals(table.schema)
    assert compact(settings) == Compacted()  # nothing more to do


def parts(keys: list[str]) -> tuple[list[str], list[str], list[str]]:
    return keys[:3], keys[3:6], keys[6:]


def test_texts_and_nulls_stay_verbatim(in_folder: Settings) -> None:
    lake = open_lake(in_folder.lake_uri)
    texts = ['{"a":  1.50}', "", "ação \U0001f600", "not JSON", "x" * 100_000]
    at = DAY.replace(microsecond=1)
    for number, text in enumerate(texts):
        row = dict.fromkeys(USER_CHANGES.schema.names)
        row |= {"epoch": 1, "op": "u", "commit_lsn": 2**62, "change_seq": number, "committed_at": at}
        row |= {"after": text, "source": text, "batch_id": "b", "landed_at": at}
        with lake.new_file(USER_CHANGES.key(DAY, f"1-{number:016X}-{number + 1:016X}")) as path:
            pq.write_table(pa.Table.from_pylist([row], USER_CHANGES.schema), path)
    before = all_rows(lake)
    assert compact(in_folder).new_files == 1
    assert all_rows(lake) == before
    assert [row[5:8] for row in rows_of(lake, *lake.keys("raw"))] == [(None, text, text) for text in texts]


def test_a_day_is_closed_an_hour_after_its_end(in_folder: Settings) -> None:
    lake = open_lake(in_folder.lake_uri)
    land_day(lake)
    almost = hours(25) - timedelta(microseconds=1)
    assert compact(in_folder, now=almost) == Compacted()
    with pytest.raises(OperatorError, match="2026-03-01 is not closed"):
        compact(in_folder, day=DAY.date(), now=almost)
    assert compact(in_folder, now=hours(25)).days == 1


def test_the_oldest_days_come_first_and_only_so_many_per_run(
    in_folder: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = open_lake(in_folder.lake_uri)
    for day in (3, 0, 2, 1):
        for hour in (1, 2):
            land_crawl(lake, hours(24 * day + hour))
            land_changes(lake, hours(24 * day + hour), day * 100 + hour, day * 100 + hour + 1)
    monkeypatch.setattr(compaction, "DAYS_PER_RUN", 3)
    assert (compact(in_folder).days, len(files(lake, CHARACTERS)), len(files(lake, USER_CHANGES))) == (3, 5, 5)
    assert [name[:20] for name in files(lake, CHARACTERS)][-2:] == ["load_date=2026-03-04"] * 2
    assert compact(in_folder).days == 1


def test_one_day_can_be_asked_for(in_folder: Settings) -> None:
    lake = open_lake(in_folder.lake_uri)
    for hour in (1, 2, 25, 26):
        land_crawl(lake, hours(hour))
    assert compact(in_folder, day=date(2026, 3, 2)).files == 2
    assert [name[:20] for name in files(lake, CHARACTERS)] == [*["load_date=2026-03-01"] * 2, "load_date=2026-03-02"]
    assert compact(in_folder, day=date(2026, 3, 2)) == Compacted()


@pytest.mark.parametrize("hour", [0.5, 2.5, 9], ids=["before", "within", "after"])
def test_a_file_that_lands_late_is_merged_by_the_next_run(settings: Settings, lake: Lake, hour: float) -> None:
    """Within: the new file bears the name of one of those that it replaces."""
    for at in (1, 2, 3):
        land_crawl(lake, hours(at))
    compact(settings)
    land_crawl(lake, hours(hour), ("Late",))
    before = all_rows(lake)
    assert len(files(lake, CHARACTERS)) == 2
    assert compact(settings).rows == 7
    assert len(files(lake, CHARACTERS)) == 1
    assert all_rows(lake) == before


def test_what_is_not_the_loaders_stays(in_folder: Settings) -> None:
    lake = open_lake(in_folder.lake_uri)
    raw.ensure_tables(lake)
    land_day(lake)
    kept = [f"raw/{table.name}/load_date={day}.parquet" for table in raw.TABLES for day in ("1970-01-01/empty",)]
    for table in raw.TABLES:
        kept += [table.key(DAY, "part-0"), table.key(DAY, "1-0-1")]
        for key in kept[-2:]:
            lake.write(key, b"another tool's", expected=None)
    bodies = {key: lake.read(key) for key in kept}
    assert compact(in_folder).new_files == 3
    assert {key: lake.read(key) for key in kept} == bodies


def test_a_day_with_a_pending_batch_is_not_closed(in_folder: Settings) -> None:
    """Its file may be there already: the loader looks for it by its name, and may write it again."""
    lake = open_lake(in_folder.lake_uri)
    land_day(lake)
    for hour in (30, 31):
        land_changes(lake, hours(hour), hour * 100, hour * 100 + 1, epoch=11)
    before = files(lake, USER_CHANGES)
    bookmark = Bookmark(lake)
    pending = State("slot", 10, position=16, intent=Intent(hours(9).isoformat(), end=48))
    bookmark.save(pending)
    done = compact(in_folder)
    assert (done.days, done.files) == (2, 5)  # the crawls of that day, and the changes of the next one
    assert files(lake, USER_CHANGES)[:-1] == [name for name in before if name.startswith(FOLDER)]
    assert compact(in_folder, day=DAY.date()) == Compacted()
    bookmark.save(State("slot", 10, position=48))
    assert compact(in_folder).files == 5


def test_memory_stays_bounded_and_row_groups_become_large(tmp_path: Path) -> None:
    """A day of 600 MB in small row groups; its records come again with each crawl, as they do."""
    lake = open_lake(str(tmp_path))
    names = tuple(f"{number} " + "x" * 1000 for number in range(10_000))
    key = land_crawl(lake, DAY, names)
    body = lake.read(key)[0]
    for minute in range(1, 60):
        lake.write(CHARACTERS.key(DAY, raw.new_batch_id(DAY + timedelta(minutes=minute))), body, expected=None)
    environment = os.environ | {"LAKE_URI": str(tmp_path), "LAKEHOUSE_ENV_FILE": os.devnull}
    done = measure([sys.executable, "-m", "loaders", "compact"], environment, ROOT)
    assert json.loads(done.output)["rows"] == 600_000
    assert done.cost.memory < 300  # MB
    (compacted,) = CHARACTERS.files(lake)[DAY.date()]
    with lake.local_file(compacted.key) as path:
        metadata = pq.read_metadata(path)
        assert metadata.num_row_groups <= 12
        assert path.stat().st_size < 60 * len(body) / 4  # a record that comes again is stored once per row group


# ---------- killed


def die_at(step: int, settings: Settings, variables: dict[str, str], run: Callable[[Settings], object]) -> None:
    """Run, in a process that kills itself before the given step."""
    os.environ.update(variables)
    steps = itertools.count(1)

    def deadly(name: str, function: Callable) -> Callable:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            is_step = args[1] in CHANGES if name == "_make_api_call" else "dir_fd" not in kwargs  # temporary files
            if is_step and next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for owner, name in STEPS:
        setattr(owner, name, deadly(name, getattr(owner, name)))
    run(settings)


def killed(step: int, settings: Settings, run: Callable[[Settings], object]) -> bool:
    """Run in another process, which is killed at a step; say whether it was."""
    variables = {name: value for name, value in os.environ.items() if name.startswith("AWS_") or name == "TMPDIR"}
    process = processes.Process(target=die_at, args=[step, settings, variables, run])
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    if settings.lake_uri.startswith("s3://"):  # where a lock ends by time, which need not pass here
        open_lake(settings.lake_uri).delete([f"state/{swap.NAME}.lock"])
    return process.exitcode != 0


def finish(settings: Settings) -> None:
    swap.finish(open_lake(settings.lake_uri))


@pytest.mark.parametrize(
    ("settings", "heal"), [("folder", compact), ("folder", finish), ("s3", finish)], indirect=["settings"]
)
def test_killed_at_each_step(settings: Settings, lake: Lake, heal: Callable[[Settings], object]) -> None:
    for number in (1, 2):
        land_crawl(lake, hours(number))
        land_changes(lake, hours(number), number, number + 1)
    bodies = {key: lake.read(key)[0] for key in lake.keys("raw")}
    before = all_rows(lake)
    halves = 0
    for step in itertools.count(1):
        if not killed(step, settings, compact):
            break
        now = all_rows(lake)
        assert {name: set(rows) for name, rows in now.items()} == {name: set(rows) for name, rows in before.items()}
        halves += now != before
        killed(step, settings, heal)  # what heals is killed at the same step
        heal(settings)
        assert all_rows(lake) == before
        lake.delete(key for key in lake.keys("raw") if key not in bodies)
        for key, body in bodies.items():
            with lake.new_file(key) as path:
                path.write_bytes(body)
    assert all_rows(lake) == before
    assert len(files(lake, CHARACTERS) + files(lake, USER_CHANGES)) == 2
    assert halves >= 2  # of each table: the new file was there, and an old one too
    assert step > 10


def test_killed_where_the_new_file_bears_an_old_ones_name(in_folder: Settings) -> None:
    settings, lake = in_folder, open_lake(in_folder.lake_uri)
    for number in (1, 3):
        land_crawl(lake, hours(number))
    compact(settings)
    land_crawl(lake, hours(2), ("Late",))
    bodies = {key: lake.read(key)[0] for key in lake.keys("raw")}
    before = all_rows(lake)
    for step in itertools.count(1):
        if not killed(step, settings, compact):
            break
        finish(settings)
        assert all_rows(lake) == before
        for key, body in bodies.items():
            with lake.new_file(key) as path:
                path.write_bytes(body)
    assert all_rows(lake) == before
    assert len(files(lake, CHARACTERS)) == 1


# ---------- others at the same time


def test_of_two_at_once_the_second_stops(settings: Settings, lake: Lake) -> None:
    land_day(lake)
    before = files(lake, USER_CHANGES)
    with lake.lock(swap.NAME), pytest.raises(TransientError, match="another run holds"):
        compact(settings)
    assert files(lake, USER_CHANGES) == before
    assert compact(settings).files == 8


def test_the_locks_of_the_loaders_do_not_matter(settings: Settings, lake: Lake) -> None:
    land_day(lake)
    with lake.lock("disney.characters"), lake.lock("customer.usuarios"):
        assert compact(settings).files == 8


def begin_swap(lake: Lake, *, rows: int, new: str, old: Sequence[str] = ()) -> list[str]:
    """Write down a swap, of two new crawls unless others are named, as a killed run leaves it."""
    old = list(old) or [land_crawl(lake, hours(hour)) for hour in (1, 2)]
    pending = {"format": 1, "new": new, "old": old, "rows": rows, "begun_at": DAY.isoformat(), "settled": False}
    found = lake.read(swap.KEY)
    lake.write(swap.KEY, json.dumps(pending).encode(), expected=found and found[1])
    return old


def test_landing_finishes_what_a_killed_compaction_left(tmp_path: Path) -> None:
    with DisneyApi(characters(20, seed=1)) as api:
        settings = from_environment({"LAKE_URI": str(tmp_path), "DISNEY_API_URL": api.url})
        lake = open_lake(settings.lake_uri)
        new = land_crawl(lake, hours(5), ("a", "b", "c", "d"))
        old = begin_swap(lake, rows=4, new=new)
        disney.land(settings)
        keys = set(lake.keys("raw"))
        assert new in keys
        assert not keys & set(old)


def test_landing_goes_on_beside_a_compaction_that_is_under_way(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with DisneyApi(characters(20, seed=1)) as api:
        settings = from_environment({"LAKE_URI": str(tmp_path), "DISNEY_API_URL": api.url})
        lake = open_lake(settings.lake_uri)
        old = begin_swap(lake, rows=4, new=land_crawl(lake, hours(5), ("a", "b", "c", "d")))
        with lake.lock(swap.NAME):
            assert disney.land(settings).rows == 20
            assert set(old) <= set(lake.keys("raw"))
        assert "another run holds" in caplog.text


def test_a_lake_where_nothing_is_pending_is_read_once(in_folder: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = open_lake(in_folder.lake_uri)
    land_day(lake)
    compact(in_folder)
    for other in ("new_file", "lock", "keys", "local_file", "delete", "write"):
        monkeypatch.delattr(local.LocalLake, other)
    swap.finish(lake)


def test_a_run_that_another_has_overtaken_changes_nothing(in_folder: Settings) -> None:
    """It was paused, on S3, for longer than its lock lasts."""
    lake = open_lake(in_folder.lake_uri)
    old = [land_crawl(lake, hours(hour)) for hour in (1, 2)]
    other = [land_changes(lake, hours(hour), hour, hour + 1) for hour in (1, 2)]

    def overtaken(path: Path) -> int:
        path.write_bytes(b"what the paused run has written")
        swap.put_in_place_of(lake, other, f"raw/{USER_CHANGES.name}/new", write_one_row)
        return 4

    with pytest.raises(TransientError, match="changed by another run"):
        swap.put_in_place_of(lake, old, f"raw/{CHARACTERS.name}/new", overtaken)
    assert sorted(lake.keys("raw")) == sorted([*old, f"raw/{USER_CHANGES.name}/new"])


def write_one_row(path: Path) -> int:
    pq.write_table(pa.table({"a": [1]}), path)
    return 1


# ---------- what is broken


def cut(body: bytes) -> bytes:
    return body[:-20]


def spoilt(body: bytes) -> bytes:
    """Whole by its footer; the pages are not."""
    return body[:4] + bytes(200) + body[204:]


def other_columns(body: bytes) -> bytes:
    table = pq.read_table(pa.BufferReader(body))
    sink = pa.BufferOutputStream()
    pq.write_table(table.drop_columns(["request_url"]), sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("spoil", [cut, spoilt, other_columns, lambda body: b""])
def test_a_file_that_cannot_be_read_keeps_its_group_and_the_others_go_on(
    in_folder: Settings,
    spoil: Callable[[bytes], bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    from loaders.__main__ import main

    lake = open_lake(in_folder.lake_uri)
    keys = land_day(lake)
    for hour in (25, 26):
        land_crawl(lake, hours(hour))
    body, version = lake.read(keys[1])
    lake.write(keys[1], spoil(body), expected=version)
    bodies = {key: lake.read(key) for key in keys[:3]}
    monkeypatch.setenv("LAKE_URI", in_folder.lake_uri)
    with caplog.at_level(logging.INFO):
        assert main(["compact"]) == 1
    assert keys[1] in caplog.text
    assert "3 groups of files were compacted" in caplog.text
    assert capsys.readouterr().out == ""
    assert {key: lake.read(key) for key in keys[:3]} == bodies
    assert len(files(lake, CHARACTERS)) == 4
    assert len(files(lake, USER_CHANGES)) == 2
    lake.write(keys[1], body, expected=lake.read(keys[1])[1])
    assert compact(in_folder).files == 3


def test_nothing_is_removed_for_a_file_that_is_not_what_was_written(settings: Settings, lake: Lake) -> None:
    old = begin_swap(lake, rows=5, new=land_crawl(lake, hours(5), ("a", "b", "c", "d")))
    keys = set(lake.keys("raw"))
    with pytest.raises(OperatorError, match=r"has 4 rows, .* None of them was removed"):
        compact(settings)
    finish(settings)
    assert set(lake.keys("raw")) == keys >= set(old)


def test_a_new_file_that_cannot_be_read_removes_nothing(in_folder: Settings) -> None:
    lake = open_lake(in_folder.lake_uri)
    new = CHARACTERS.key(DAY, "new")
    lake.write(new, b"spoilt", expected=None)
    old = begin_swap(lake, rows=4, new=new)
    with pytest.raises(OperatorError, match=f"cannot read .*{new}.* If it is damaged, remove it; then run again"):
        compact(in_folder)
    assert set(old) <= set(lake.keys("raw"))
    lake.delete([new])
    assert compact(in_folder).files == 2


def test_no_message_proposes_to_remove_the_only_copy(in_folder: Settings) -> None:
    """An erasure puts a file in its own place, so what cannot be read may be all that is left of it."""
    lake = open_lake(in_folder.lake_uri)
    only = land_crawl(lake, hours(1))
    body, version = lake.read(only)
    lake.write(only, body[:-20], expected=version)
    begin_swap(lake, rows=4, new=only, old=[only])
    with pytest.raises(OperatorError, match=r"If it is damaged, restore its last good version; then run again"):
        compact(in_folder)


@pytest.mark.parametrize(
    ("body", "message"),
    [(b"{", "restore or remove it"), (b'{"format": 1}', "restore or remove it"), (b'{"format": 2}', "newer loader")],
)
def test_a_state_that_nobody_knows_needs_a_person(in_folder: Settings, body: bytes, message: str) -> None:
    lake = open_lake(in_folder.lake_uri)
    land_day(lake)
    lake.write(swap.KEY, body, expected=None)
    with pytest.raises(OperatorError, match=message):
        compact(in_folder)
    swap.finish(lake)  # no matter of those who land
    assert len(files(lake, CHARACTERS)) == 3


def test_a_full_disk_changes_nothing(in_folder: Settings) -> None:
    lake = open_lake(in_folder.lake_uri)
    for hour in (1, 2):
        land_crawl(lake, hours(hour), tuple(os.urandom(2000).hex() for _ in range(20)))
    keys = set(lake.keys("raw"))
    code = (
        "import resource, signal, sys; from loaders.__main__ import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit({resource.RLIMIT_FSIZE}, (40_000, 40_000)); sys.exit(main(['compact']))"
    )
    environment = os.environ | {"LAKE_URI": in_folder.lake_uri, "LAKEHOUSE_ENV_FILE": os.devnull}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert set(lake.keys("raw")) == keys
