"""The lake keeps its promises in a folder and on a local S3 server: whole or not at all, one writer, clear failures."""

import fcntl
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import IO

import boto3
import pyarrow.parquet as pq
import pytest

from loaders import raw
from loaders.errors import OperatorError, TransientError
from loaders.lake import Lake, local, open_lake, s3

Open = Callable[[], Lake]


@pytest.fixture(params=["folder", "s3", "whole bucket"])
def again(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same empty lake each time that it is called, as another run would."""
    if request.param == "folder":
        return lambda: open_lake(str(tmp_path / "lake"))
    bucket = request.getfixturevalue("bucket")
    prefix = "" if request.param == "whole bucket" else "/some/prefix"
    return lambda: open_lake(f"s3://{bucket}{prefix}")


@pytest.fixture
def lake(again: Open) -> Lake:
    return again()


LEASE_SECONDS = 2.0  # a process that a busy machine stops for longer loses its lock


@pytest.fixture
def short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "LEASE_SECONDS", LEASE_SECONDS)


def until(condition: Callable[[], bool]) -> None:
    """Wait for it; the test's own timeout is the limit."""
    while not condition():
        time.sleep(0.05)


# -- Small objects and their versions.


def test_what_is_not_there_reads_as_none(lake: Lake) -> None:
    assert lake.read("state/nothing.json") is None


def test_a_write_is_read_by_others_with_its_version(lake: Lake, again: Open) -> None:
    version = lake.write("state/a.json", b"one", expected=None)
    assert again().read("state/a.json") == (b"one", version)
    second = again().write("state/a.json", b"two", expected=version)
    assert lake.read("state/a.json") == (b"two", second)
    assert second != version


def test_a_write_upon_another_version_is_refused(lake: Lake) -> None:
    first = lake.write("state/a.json", b"one", expected=None)
    for expected in (None, "another version"):
        with pytest.raises(TransientError, match="changed by another run"):
            lake.write("state/a.json", b"lost", expected=expected)
    lake.write("state/a.json", b"two", expected=first)
    with pytest.raises(TransientError, match="changed by another run"):
        lake.write("state/a.json", b"lost", expected=first)
    with pytest.raises(TransientError, match="changed by another run"):
        lake.write("state/b.json", b"lost", expected=first)
    assert lake.read("state/a.json")[0] == b"two"
    assert lake.read("state/b.json") is None


def test_of_many_writers_at_once_one_wins_each_version(tmp_path: Path) -> None:
    """Only in a folder: moto itself does not check and write in one step."""
    version = open_lake(str(tmp_path)).write("state/a.json", b"", expected=None)
    outcomes = []

    def write(number: int) -> None:
        try:
            outcomes.append(open_lake(str(tmp_path)).write("state/a.json", bytes([number]), expected=version))
        except TransientError:
            outcomes.append(None)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (won,) = filter(None, outcomes)
    assert open_lake(str(tmp_path)).read("state/a.json")[1] == won


# -- Files.


def test_a_file_appears_whole_and_only_at_the_end(lake: Lake, again: Open) -> None:
    with lake.new_file("raw/t/load_date=2026-01-01/f.parquet") as path:
        path.write_bytes(b"x" * 1000)
        assert list(again().keys("raw")) == []
    assert list(again().keys("raw")) == ["raw/t/load_date=2026-01-01/f.parquet"]
    assert again().read("raw/t/load_date=2026-01-01/f.parquet")[0] == b"x" * 1000
    assert not path.exists()


def test_a_file_whose_writer_fails_never_appears(lake: Lake, again: Open) -> None:
    with pytest.raises(ZeroDivisionError), lake.new_file("raw/t/f.parquet") as path:
        path.write_bytes(b"half")
        raise ZeroDivisionError
    assert list(again().keys("raw")) == []
    assert not path.exists()


def test_a_file_takes_the_place_of_one_of_the_same_name(lake: Lake) -> None:
    for body in (b"first", b"second"):
        with lake.new_file("raw/t/f.parquet") as path:
            path.write_bytes(body)
    assert lake.read("raw/t/f.parquet")[0] == b"second"


def test_keys_lists_a_folder_and_not_its_neighbours(lake: Lake) -> None:
    keys = {"raw/a/1", "raw/a/b/2", "raw/ab/3", "state/s.json"}
    for key in keys:
        lake.write(key, b"", expected=None)
    assert set(lake.keys("raw/a")) == set(lake.keys("raw/a/")) == {"raw/a/1", "raw/a/b/2"}
    assert set(lake.keys("")) == keys
    assert set(lake.keys("nothing")) == set()


def test_an_object_is_read_through_a_local_file(lake: Lake) -> None:
    lake.write("raw/t/f", b"body", expected=None)
    with lake.local_file("raw/t/f") as path:
        assert path.read_bytes() == b"body"
    with pytest.raises(FileNotFoundError, match="raw/t/nothing is not there"), lake.local_file("raw/t/nothing"):
        pass


def test_what_is_deleted_is_gone_and_nothing_else(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "DELETE_BATCH", 2)
    keys = [f"raw/t/load_date=2026-01-0{day}/f" for day in range(1, 8)]
    for key in keys:
        lake.write(key, b"", expected=None)
    for _ in range(2):  # the second time there is nothing left to delete
        lake.delete(iter([*keys[:5], "raw/nothing/f"]))
        assert sorted(lake.keys("raw")) == keys[5:]
    lake.delete([])


def test_a_removal_is_made_to_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = open_lake(str(tmp_path))
    lake.write("raw/t/f", b"", expected=None)
    synced = []
    monkeypatch.setattr(local, "_sync_folder", synced.append)
    lake.delete(["raw/t/f", "raw/nothing/f"])
    assert synced == [tmp_path / "raw/t"]


@pytest.mark.parametrize(("code", "kind"), [("AccessDenied", OperatorError), ("InternalError", TransientError)])
def test_an_object_that_s3_does_not_delete_is_an_error(bucket: str, code: str, kind: type[Exception]) -> None:
    """S3 answers such a request with 200 and a list of what failed; moto itself never fails."""
    lake = open_lake(f"s3://{bucket}/lake")
    refusal = {"Errors": [{"Key": "lake/raw/f", "Code": code, "Message": "no"}]}
    lake.client.meta.events.register("after-call.s3.DeleteObjects", lambda parsed, **_: parsed.update(refusal))
    with pytest.raises(kind, match=f"cannot delete s3://{bucket}/lake/raw/f: {code} no"):
        lake.delete(["raw/f"])


def test_a_listing_that_comes_in_parts_is_read_to_its_end(bucket: str) -> None:
    lake = open_lake(f"s3://{bucket}")
    lake.client.meta.events.register(
        "provide-client-params.s3.ListObjectsV2", lambda params, **_: params | {"MaxKeys": 2}
    )
    for number in range(5):
        lake.write(f"raw/{number}", b"", expected=None)
    assert sorted(lake.keys("raw")) == [f"raw/{number}" for number in range(5)]


def test_the_rename_is_made_to_last_up_to_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(local, "_sync_folder", synced.append)
    with open_lake(str(tmp_path)).new_file("raw/t/f") as path:
        path.write_bytes(b"")
    assert synced == [tmp_path / "raw/t", tmp_path / "raw", tmp_path]


def test_what_killed_runs_left_behind_goes_and_what_others_write_stays(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    with lake.new_file("raw/t/f") as path:
        path.write_bytes(b"being written")
        path.with_name("left").write_bytes(b"half")
        with lake.lock("run"):
            assert list(path.parent.iterdir()) == [path]
    assert lake.read("raw/t/f")[0] == b"being written"


def test_a_private_folder_is_closed_to_others(tmp_path: Path) -> None:
    vault = open_lake(str(tmp_path / "vault"), private=True)
    vault.write("masking_key/key.parquet", b"secret", expected=None)
    assert (tmp_path / "vault").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "vault/masking_key/key.parquet").stat().st_mode & 0o777 == 0o600


# -- Locks.


def test_a_lock_is_held_by_one_run_and_free_after_it(lake: Lake, again: Open) -> None:
    for _ in range(2):
        with lake.lock("run"):
            with pytest.raises(TransientError, match="another run holds"), again().lock("run"):
                pass
            with again().lock("another name"):
                pass
    with pytest.raises(ZeroDivisionError), lake.lock("run"):
        raise ZeroDivisionError
    with again().lock("run"):
        pass


HOLD = f"""
import sys
from loaders.lake import open_lake, s3
s3.LEASE_SECONDS = {LEASE_SECONDS}
with open_lake(sys.argv[1]).lock("run"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.usefixtures("short_lease")
def test_the_lock_of_a_killed_run_is_taken_over(lake: Lake) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, lake.uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout.readline() == "held\n"
        with pytest.raises(TransientError, match="another run holds"), lake.lock("run"):
            pass
        run.kill()

    def taken_over() -> bool:
        try:
            with lake.lock("run"):
                return True
        except TransientError:
            return False

    until(taken_over)


@pytest.mark.usefixtures("short_lease")
def test_a_lease_lasts_as_long_as_its_run(bucket: str) -> None:
    lake, other = open_lake(f"s3://{bucket}"), open_lake(f"s3://{bucket}")
    with lake.lock("run"):
        first = lake.read("state/run.lock")
        until(lambda: lake.read("state/run.lock") != first)
        renewed = lake.read("state/run.lock")
        until(lambda: lake.read("state/run.lock") != renewed)
        with pytest.raises(TransientError, match=f"process {os.getpid()} on "), other.lock("run"):
            pass


@pytest.mark.usefixtures("short_lease")
def test_a_run_whose_lease_was_taken_leaves_it_to_the_other(bucket: str) -> None:
    lake = open_lake(f"s3://{bucket}")
    with lake.lock("run"):
        _, version = lake.read("state/run.lock")
        taken = b'{"holder": "another run", "expires_at": 9e9}'
        try:
            lake.write("state/run.lock", taken, expected=version)
        except TransientError:  # renewed in between
            lake.write("state/run.lock", taken, expected=lake.read("state/run.lock")[1])
    assert lake.read("state/run.lock")[0] == taken
    with pytest.raises(TransientError, match="another run"), lake.lock("run"):
        pass


def test_a_lock_that_cannot_be_released_does_not_spoil_the_run(
    bucket: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lake = open_lake(f"s3://{bucket}")
    with lake.lock("run"):
        monkeypatch.setattr(lake, "bucket", "no-such-bucket")
    assert "could not be released" in caplog.text


# -- S3's own matters.


def test_everything_is_encrypted_with_the_given_key(bucket: str) -> None:
    lake = open_lake(f"s3://{bucket}/lake", kms_key_id="alias/made-up")
    lake.write("state/a.json", b"{}", expected=None)
    with lake.new_file("raw/f") as path:
        path.write_bytes(b"x" * 9 * 1024**2)  # large enough for several parts
    with lake.lock("run"):
        pass
    for key in ("lake/state/a.json", "lake/raw/f", "lake/state/run.lock"):
        head = boto3.client("s3").head_object(Bucket=bucket, Key=key)
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "alias/made-up")


def test_a_write_whose_answer_was_lost_is_known_to_be_our_own(bucket: str) -> None:
    lake = open_lake(f"s3://{bucket}")
    delays = iter([0])  # the first answer is taken for a failure that is tried again at once
    lake.client.meta.events.register_first("needs-retry.s3.PutObject", lambda **_: next(delays, None))
    version = lake.write("state/a.json", b"ours", expected=None)
    assert lake.read("state/a.json") == (b"ours", version)
    assert next(delays, None) is None


def test_an_endpoint_out_of_reach_is_a_failure_that_passes(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    lake = open_lake(f"s3://{bucket}")
    for action in (lambda: lake.read("a"), lambda: lake.write("a", b"", expected=None), lambda: list(lake.keys("a"))):
        with pytest.raises(TransientError, match=f"s3://{bucket}/a: Could not connect"):
            action()
    with pytest.raises(TransientError, match="cannot read"), lake.local_file("a"):
        pass
    with pytest.raises(TransientError, match="cannot delete"):
        lake.delete(["a"])
    with pytest.raises(TransientError, match="cannot write"), lake.new_file("a") as path:
        path.write_bytes(b"")


@pytest.mark.parametrize("name", ["no-such-bucket", "not_a valid*name"])
def test_a_wrong_bucket_needs_a_person(name: str, bucket: str) -> None:
    lake = open_lake(f"s3://{name}/lake")
    with pytest.raises(OperatorError, match="cannot read s3://"):
        lake.read("a")
    with pytest.raises(OperatorError, match=r"run\.lock"), lake.lock("run"):
        pass


def test_missing_credentials_need_a_person(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(OperatorError, match="Unable to locate credentials"):
        open_lake(f"s3://{bucket}").read("a")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(OperatorError, match="nobody"):
        open_lake(f"s3://{bucket}")


# -- A folder's own matters.


def test_a_disk_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    version = lake.write("state/a.json", b"old", expected=None)
    code = (
        "import resource, sys; from loaders.lake import open_lake\n"
        f"resource.setrlimit({resource.RLIMIT_FSIZE}, (10, 10))\n"
        f"open_lake(sys.argv[1]).write('state/a.json', b'x' * 1000, expected={version!r})"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert "OSError: [Errno 27] File too large" in done.stderr
    assert lake.read("state/a.json") == (b"old", version)
    assert list((tmp_path / local.INCOMING).iterdir()) == []


@pytest.mark.parametrize("key", ["raw/t/f", "raw"])
def test_a_file_in_the_way_is_an_os_error(key: str, tmp_path: Path) -> None:
    lake = open_lake(str(tmp_path))
    (tmp_path / "raw").mkdir() if key == "raw" else (tmp_path / "raw").write_text("in the way")
    with pytest.raises(OSError, match="raw"):
        lake.write(key, b"", expected=None)


@pytest.mark.parametrize("uri", ["ftp://host/lake", "s3://", "s3:///prefix", "gs://bucket"])
def test_a_place_that_is_none_needs_a_person(uri: str) -> None:
    with pytest.raises(OperatorError, match="give a folder or s3://bucket/prefix"):
        open_lake(uri)


# -- Raw tables.


def test_every_raw_table_has_a_file_from_the_start_and_only_one(lake: Lake) -> None:
    raw.ensure_tables(lake)
    keys = sorted(lake.keys("raw"))
    versions = [lake.read(key)[1] for key in keys]
    raw.ensure_tables(lake)
    assert [lake.read(key)[1] for key in keys] == versions
    assert keys == sorted(lake.keys("raw")) == [
        "raw/aws/cost_and_usage/data/BILLING_PERIOD=1970-01/empty.parquet",
        "raw/customer/usuarios/load_date=1970-01-01/empty.parquet",
        "raw/disney/characters/load_date=1970-01-01/empty.parquet",
    ]  # fmt: skip


def test_the_empty_files_have_the_tables_columns(tmp_path: Path) -> None:
    raw.ensure_tables(open_lake(str(tmp_path)))
    for table in (raw.CHARACTERS, raw.USER_CHANGES):
        path = tmp_path / table.key(datetime.fromtimestamp(0, UTC), "empty")
        assert pq.read_table(path, partitioning=None).equals(table.schema.empty_table())


def test_files_are_found_by_day_in_order_and_only_those_that_the_loaders_name(lake: Lake) -> None:
    raw.ensure_tables(lake)
    zeros, one, two = f"{0:016X}", f"{1:016X}", f"{2:016X}"
    days = {
        date(2026, 1, 1): [f"2-{zeros}-{two}", f"10-{zeros}-{one}", f"10-{one}-{two}"],
        date(2026, 1, 2): [f"10-{two}-FFFFFFFFFFFFFFFF"],
    }
    folder = "raw/customer/usuarios/load_date="
    foreign = [f"1-{zeros}", f"1-{zeros}-{one}.tmp", "part-0"]
    for day, names in days.items():
        for name in [*reversed(names), *foreign]:
            lake.write(f"{folder}{day}/{name}.parquet", b"", expected=None)
    lake.write(f"{folder}2026-01-01/1-{zeros}-{one}.txt", b"", expected=None)
    assert {
        day: [file.key for file in files] for day, files in raw.USER_CHANGES.files(lake).items()
    } == {day: [f"{folder}{day}/{name}.parquet" for name in names] for day, names in days.items()}  # fmt: skip
    assert raw.CHARACTERS.files(lake) == {}
    crawls = ["20260101T000000.000000Z", "20260101T000500.000000Z-20260101T001000.000000Z"]
    for name in reversed(crawls):
        lake.write(f"raw/disney/characters/load_date=2026-01-01/{name}.parquet", b"", expected=None)
    ((one_crawl, several),) = raw.CHARACTERS.files(lake).values()
    assert (one_crawl.epoch, one_crawl.first, one_crawl.last) == (0, crawls[0], crawls[0])
    assert (several.first, several.last) == tuple(crawls[1].split("-"))


def test_batches_are_named_and_partitioned_by_their_time_in_utc() -> None:
    late = datetime.fromisoformat("2026-01-01T23:30:00.000001-03:00")
    assert raw.new_batch_id(late) == "20260102T023000.000001Z"
    assert raw.CHARACTERS.key(late, "x") == "raw/disney/characters/load_date=2026-01-02/x.parquet"


def test_a_file_that_another_run_takes_for_a_leftover_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its opening and its lock it looks like what a killed run has left."""
    lake, removed, flock = open_lake(str(tmp_path)), [], fcntl.flock

    def late(handle: IO, how: int) -> None:
        if how == fcntl.LOCK_EX and not removed:
            removed.append(open_lake(str(tmp_path)).forget(""))
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with lake.new_file("raw/a") as path:
        path.write_bytes(b"one")
        assert open_lake(str(tmp_path)).forget("") == 0
    assert removed == [1]
    assert (tmp_path / "raw/a").read_bytes() == b"one"
    assert list((tmp_path / local.INCOMING).iterdir()) == []
