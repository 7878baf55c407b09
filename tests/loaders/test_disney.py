"""Whatever the API does, either the exact snapshot lands, verbatim and whole, or nothing does."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders import disney, raw
from loaders.disney.client import read_page
from loaders.errors import LoaderError, OperatorError, TransientError
from loaders.lake import open_lake
from loaders.settings import Settings, from_environment
from sandbox.characters import characters
from sandbox.disney_api import DisneyApi, encode
from sandbox.disney_lies import KINDS, Answer

COUNT = 230
PAGE_SIZE = 20  # 12 pages and one with all: 13 requests for a crawl
MADE_UP = characters(COUNT, seed=1)


@pytest.fixture
def api() -> Iterator[DisneyApi]:
    with DisneyApi(MADE_UP) as running:
        yield running


@pytest.fixture
def settings(api: DisneyApi, tmp_path: Path) -> Settings:
    return settings_for(api, tmp_path / "lake")


def settings_for(api: DisneyApi, lake: Path | str) -> Settings:
    return from_environment({"LAKE_URI": str(lake), "DISNEY_API_URL": api.url})


def land(settings: Settings, **options: float) -> raw.Landed:
    return disney.land(settings, **{"page_size": PAGE_SIZE, "backoff": 0.01, "timeout": 5, **options})


def files(settings: Settings) -> list[Path]:
    """The crawls that landed, in their order; the file that makes the table exist is none."""
    folder = Path(settings.lake_uri, "raw/disney/characters")
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stem != "empty")


def payloads(path: Path) -> list[str]:
    return pq.read_table(path)["payload"].to_pylist()


def texts(records: list[dict]) -> list[str]:
    return [encode(record) for record in records]


def run(settings: Settings, *, before: str = "") -> subprocess.Popen[str]:
    """The command line in a process of its own, after a line of Python that spoils something."""
    code = f"import sys; {before}\nfrom loaders.__main__ import main; sys.exit(main(['disney']))"
    environment = {
        "PATH": os.environ["PATH"],
        "LAKEHOUSE_ENV_FILE": os.devnull,
        "LAKE_URI": settings.lake_uri,
        "DISNEY_API_URL": settings.disney_api_url,
    }
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


# -- What lands.


def test_a_crawl_lands_verbatim_in_order_in_one_file(api: DisneyApi, settings: Settings) -> None:
    before = datetime.now(UTC)
    landed = land(settings)
    (path,) = files(settings)
    table = pq.read_table(path, partitioning=None)
    assert table.schema.equals(raw.CHARACTERS.schema)
    assert table["payload"].to_pylist() == texts(MADE_UP)
    assert table["position"].to_pylist() == list(range(COUNT))
    assert set(table["batch_id"].to_pylist()) == {landed.batch_id}
    (extracted_at,) = set(table["extracted_at"].to_pylist())
    assert before - timedelta(milliseconds=1) <= extracted_at <= datetime.now(UTC)
    assert table["request_url"][25].as_py() == f"{api.url}/character?page=2&pageSize={PAGE_SIZE}"
    assert landed == raw.Landed("disney/characters", landed.batch_id, COUNT, path.stat().st_size)
    assert path.name == f"{landed.batch_id}.parquet"
    assert path.parent.name == f"load_date={extracted_at:%Y-%m-%d}"
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"


def test_each_run_lands_the_list_of_its_moment(api: DisneyApi, settings: Settings) -> None:
    expected = []
    for _ in range(3):
        land(settings)
        expected.append(texts(api.records))
        api.change()
    land(settings)
    land(settings)  # nothing new is a snapshot too: it says that nothing was removed
    expected += [texts(api.records)] * 2
    assert [payloads(path) for path in files(settings)] == expected


@pytest.mark.parametrize("count", [1, 2, PAGE_SIZE, PAGE_SIZE + 1, 2 * PAGE_SIZE])
@pytest.mark.parametrize("max_page_size", [None, 7])
def test_lists_of_any_length(count: int, max_page_size: int | None, tmp_path: Path) -> None:
    with DisneyApi(MADE_UP[:count], max_page_size=max_page_size) as api:
        settings = settings_for(api, tmp_path)
        assert land(settings).rows == count
        assert payloads(*files(settings)) == texts(MADE_UP[:count])


def test_batches_sort_in_landing_order_when_the_clock_was_set_back(settings: Settings) -> None:
    first = land(settings)
    ahead = datetime.now(UTC) + timedelta(days=2)
    lake = open_lake(settings.lake_uri)
    _, version = lake.read(raw.CHARACTERS.clock)
    lake.write(raw.CHARACTERS.clock, json.dumps({"batch_time": ahead.isoformat()}).encode(), expected=version)
    second, third = land(settings), land(settings)
    assert first.batch_id < raw.new_batch_id(ahead) < second.batch_id < third.batch_id
    assert files(settings)[-1].parent.name == f"load_date={ahead:%Y-%m-%d}"


def test_a_state_that_nobody_can_read_needs_a_person(api: DisneyApi, settings: Settings) -> None:
    open_lake(settings.lake_uri).write(raw.CHARACTERS.clock, b"{}", expected=None)
    with pytest.raises(OperatorError, match="restore or remove it"):
        land(settings)
    assert api.requests == files(settings) == []


def test_it_lands_on_s3(api: DisneyApi, bucket: str) -> None:
    uri = f"s3://{bucket}/lake"
    landed = land(settings_for(api, uri))
    lake = open_lake(uri)
    (key,) = [key for key in lake.keys("raw/disney") if landed.batch_id in key]
    body, _ = lake.read(key)
    assert len(body) == landed.bytes
    assert pq.read_table(pa.BufferReader(body))["payload"].to_pylist() == texts(MADE_UP)


# -- Lies: the exact snapshot or nothing.

HONEST_ENOUGH = {"bom", "content-type", "no-id"}  # all the time the same, and the records can be had


@pytest.mark.parametrize("turn", ["1", "2", "3-4", "13"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "404"])
def test_a_lie_that_passes_does_not_stop_the_exact_snapshot(
    kind: str, turn: str, api: DisneyApi, settings: Settings
) -> None:
    seconds = {"slow": "=0.7", "drip": "=0.1"}.get(kind, "")
    api.tell(f"{kind}{seconds}:{turn}")
    land(settings, timeout=0.5 if seconds else 5)
    (path,) = files(settings)
    assert payloads(path) == texts(api.records)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in HONEST_ENOUGH])
def test_a_lie_that_stays_lands_nothing(kind: str, api: DisneyApi, settings: Settings) -> None:
    seconds = {"slow": "=0.7", "drip": "=0.1"}.get(kind, "")
    api.tell(kind + seconds)
    with pytest.raises(LoaderError) as failure:
        land(settings, timeout=0.5 if seconds else 5, budget=3)
    assert failure.value.exit_code == (2 if kind == "404" else 1)
    assert files(settings) == []
    api.tell()
    land(settings)
    assert payloads(*files(settings)) == texts(api.records)


@pytest.mark.parametrize("turn", [2, 5, 12, 13, 14, 20, 26, 27])
@pytest.mark.parametrize("kind", ["insert", "remove", "replace", "reorder"])
def test_pages_that_shift_are_noticed_where_pages_are_bounded(kind: str, turn: int, tmp_path: Path) -> None:
    with DisneyApi(MADE_UP, lies=[f"{kind}:{turn}"], max_page_size=PAGE_SIZE) as api:
        settings = settings_for(api, tmp_path)
        land(settings)
        assert payloads(*files(settings)) == texts(api.records)


@pytest.mark.parametrize("max_page_size", [None, PAGE_SIZE])
def test_a_record_that_is_gone_only_while_later_pages_are_read(max_page_size: int | None, tmp_path: Path) -> None:
    """Two readings from front to back would agree: both lose the record at the end of page 3."""

    class Flapping(DisneyApi):
        def answer(self, path: str, host: str) -> Answer:
            if "page=1&" in path:
                self.records = MADE_UP.copy()
            elif "page=4&" in path:
                self.records = MADE_UP[1:]
            return super().answer(path, host)

    with Flapping(MADE_UP, max_page_size=max_page_size) as api:
        settings = settings_for(api, tmp_path)
        with pytest.raises(TransientError, match="no consistent snapshot in 3 crawls"):
            land(settings, connections=1)
        assert files(settings) == []


@pytest.mark.parametrize("odd", [{"name": "without an id"}, "no object", None, [], {"_id": None}, {"_id": [1]}])
def test_odd_records_land_too_because_staging_sets_them_aside(odd: object, tmp_path: Path) -> None:
    records = [odd, *MADE_UP, odd]
    with DisneyApi(records) as api:
        settings = settings_for(api, tmp_path)
        land(settings)
        assert payloads(*files(settings)) == texts(records)


# -- Manners: waits, limits, connections.


def test_all_connections_wait_as_long_as_the_api_asks(settings: Settings, tmp_path: Path) -> None:
    asked = []

    class Timed(DisneyApi):
        def answer(self, path: str, host: str) -> Answer:
            asked.append(time.monotonic())
            return super().answer(path, host)

    with Timed(MADE_UP, lies=["429=1:5"]) as api:
        land(settings_for(api, tmp_path / "other"))
        assert max(later - earlier for earlier, later in pairwise(asked)) > 0.9


@pytest.mark.parametrize("lie", ["429=3600", "429-date=3600"])
def test_a_longer_wait_than_a_run_has_is_not_waited_for(lie: str, api: DisneyApi, settings: Settings) -> None:
    api.tell(lie)
    started = time.monotonic()
    with pytest.raises(TransientError, match=r"wants 3\d\d\d s of rest, more than this run has: answered 429"):
        land(settings)
    assert time.monotonic() - started < 60
    assert len(api.requests) == 1


def test_a_run_ends_when_its_time_is_used_up(api: DisneyApi, settings: Settings) -> None:
    api.latency = 0.3
    started = time.monotonic()
    with pytest.raises(TransientError):
        land(settings, budget=0.5)
    assert time.monotonic() - started < 60
    assert files(settings) == []


def test_a_few_connections_are_kept_open_and_used_at_once(api: DisneyApi, settings: Settings) -> None:
    api.latency = 0.01
    land(settings)
    assert 2 <= api.connections <= 4
    assert len(api.requests) == COUNT // PAGE_SIZE + 1 + 1


@pytest.mark.parametrize("url", ["no-scheme.example", "ftp://somewhere", "http://"])
def test_a_url_that_cannot_be_asked_needs_a_person(url: str, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="DISNEY_API_URL"):
        land(from_environment({"LAKE_URI": str(tmp_path), "DISNEY_API_URL": url}))


@pytest.mark.parametrize(
    ("status", "exit_code", "message"),
    [
        (401, 1, "answered 401, as firewalls and rate limits do: it refuses us for now"),
        (403, 1, "answered 403, as firewalls and rate limits do: it refuses us for now"),
        (451, 1, "answered 451, as firewalls and rate limits do: it refuses us for now"),
        (400, 2, "answered 400: check DISNEY_API_URL"),
        (404, 2, "answered 404: check DISNEY_API_URL"),
        (407, 2, "the proxy asks for a login: put it into HTTP_PROXY or HTTPS_PROXY"),
        (410, 2, "answered 410: check DISNEY_API_URL"),
    ],
)
def test_a_refusal_for_now_is_no_wrong_setting(status: int, exit_code: int, message: str, tmp_path: Path) -> None:
    """Use faults F12."""

    class Refusing(DisneyApi):
        def answer(self, path: str, host: str) -> Answer:
            return replace(super().answer(path, host), status=status, body=b"<html>Forbidden</html>")

    with Refusing(MADE_UP) as api, pytest.raises(LoaderError, match=message) as failure:
        land(settings_for(api, tmp_path))
    assert failure.value.exit_code == exit_code


def test_a_page_of_a_firewall_is_told_from_a_broken_answer() -> None:
    """Use faults F12: outages and firewalls answer with 200 and a web page too."""
    with pytest.raises(Exception, match="not a page of characters, but a web page"):
        read_page("", b"\n<!doctype html><title>Attention Required!</title>")


# -- Kills, other runs, failing disks.


def test_the_command_says_what_landed(api: DisneyApi, settings: Settings) -> None:
    process = run(settings)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    said = json.loads(out)
    assert said["rows"] == COUNT
    assert said["batch_id"] == files(settings)[0].stem
    assert api.records[0]["name"] not in err


def test_the_command_exits_with_1_and_the_reason(api: DisneyApi, settings: Settings) -> None:
    api.tell("empty")
    process = run(settings)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "no consistent snapshot in 3 crawls, nothing was landed: the list is empty" in err
    assert "Traceback" not in err


def test_killed_while_it_reads(api: DisneyApi, settings: Settings) -> None:
    api.latency = 0.2
    api.max_page_size = 5
    process = run(settings)
    while len(api.requests) < 10:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=60)
    assert files(settings) == []
    api.latency, api.max_page_size = 0, None
    land(settings)
    assert payloads(*files(settings)) == texts(api.records)


KILL = "(lambda *a, **k: __import__('os').kill(__import__('os').getpid(), 9))"


@pytest.mark.parametrize(
    "step",
    [
        f"from loaders.lake.local import LocalLake; LocalLake.write = {KILL}",
        f"import loaders.disney; loaders.disney.to_table = {KILL}",
        f"import loaders.disney as d; d.pq.write_table = lambda t, path, **k: (path.write_bytes(b'PAR1'), {KILL}())",
        "import os, pathlib; pathlib.Path.replace = lambda path, target: "
        f"{KILL}() if target.suffix == '.parquet' else os.replace(path, target)",
    ],
    ids=["before the state", "after the state", "in the file", "before the file is visible"],
)
def test_killed_while_it_writes(step: str, api: DisneyApi, settings: Settings) -> None:
    land(settings)
    process = run(settings, before=step)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, err
    assert len(files(settings)) == 1
    api.change()
    last = land(settings)
    assert [path.stem for path in files(settings)][1:] == [last.batch_id]
    assert payloads(files(settings)[-1]) == texts(api.records)


def test_the_second_of_two_runs_stops_and_asks_nothing(api: DisneyApi, settings: Settings) -> None:
    with (
        open_lake(settings.lake_uri).lock("disney.characters"),
        pytest.raises(TransientError, match="another run holds"),
    ):
        land(settings)
    assert api.requests == files(settings) == []


def test_a_run_that_lost_its_lock_lands_nothing(
    api: DisneyApi, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On S3 a lock ends by itself, for instance while a machine sleeps; here another run comes in between."""
    land(settings)
    lake = open_lake(settings.lake_uri)
    snapshot = disney.snapshot

    def overtaken(*arguments: object) -> list:
        body, version = lake.read(raw.CHARACTERS.clock)
        lake.write(raw.CHARACTERS.clock, body + b" ", expected=version)
        return snapshot(*arguments)

    monkeypatch.setattr(disney, "snapshot", overtaken)
    with pytest.raises(TransientError, match="changed by another run"):
        land(settings)
    assert len(files(settings)) == 1


def test_a_file_where_a_folder_should_be(api: DisneyApi, tmp_path: Path) -> None:
    (tmp_path / "raw").write_text("in the way")
    process = run(settings_for(api, tmp_path))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "Traceback" not in err


def test_a_full_disk_lands_nothing(api: DisneyApi, settings: Settings) -> None:
    raw.ensure_tables(open_lake(settings.lake_uri))
    limit = f"import resource; resource.setrlimit({resource.RLIMIT_FSIZE}, (4096, 4096))"
    process = run(settings, before=limit)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "File too large" in err
    assert files(settings) == list(Path(settings.lake_uri, ".incoming").iterdir()) == []
    land(settings)


# -- Taking a body apart.

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def envelope(data: object, count: int, **options: object) -> str:
    return json.dumps({"data": data, "more": [{"data": 1}], "info": {"count": count, "totalPages": 1}}, **options)


@given(st.lists(JSON_VALUES), st.booleans(), st.sampled_from([None, 0, 3]))
def test_records_keep_their_text(data: list, ascii_only: bool, indent: int | None) -> None:
    text = envelope(data, len(data), ensure_ascii=ascii_only, indent=indent)
    body = text.encode("utf-8", "replace")
    page = read_page("url", body)
    assert all(payload in body.decode() for payload in page.payloads)
    assert [json.loads(payload) for payload in page.payloads] == json.loads(body)["data"]
    if indent is None:
        assert page.payloads == [json.dumps(value, ensure_ascii=ascii_only) for value in json.loads(body)["data"]]


@pytest.mark.parametrize(
    "record",
    ['{"_id": 1,  "n":1.50, "n":1e+2}', '{ "_id":1,"name":"\\u00e9 } ] , \\" \\ud83d"}', '{"_id":1,"name":"Zoë 漢字"}'],
)
def test_a_single_record_keeps_its_text(record: str) -> None:
    page = read_page("url", f'{{"info":{{"count":1,"totalPages":1}} , "data" :\n{record}, "x":0}}\n'.encode())
    assert (page.payloads, page.ids) == ([record], [1])


@given(st.data())
def test_a_spoilt_body_is_refused_unless_it_is_json_all_the_same(data: st.DataObject) -> None:
    body = envelope([{"_id": 1, "films": ["a, b"]}, {"_id": 2}], 2)
    at = data.draw(st.integers(0, len(body)))
    removed = data.draw(st.integers(0, 3))
    spoilt = body[:at] + data.draw(st.text('{}[]:," 1ax', max_size=2)) + body[at + removed :]
    try:
        page = read_page("url", spoilt.encode())
    except Exception as error:  # the type is private: it never leaves the client
        assert type(error).__name__ == "_PageError"
    else:
        assert [json.loads(payload) for payload in page.payloads] == json.loads(spoilt)["data"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"info":{"count":0,"totalPages":0}}',
        b'{"info":null,"data":[]}',
        b'{"info":{"count":0},"data":[]}',
        b'{"info":{"count":1,"totalPages":1},"data":[]}',
        b'{"info":{"count":0,"totalPages":-1},"data":[]}',
        b'{"info":{"count":0,"totalPages":1e9},"data":[]}',
        b'{"info":{"count":0,"totalPages":1},"data":[]',
        b'{"info":{"count":0,"totalPages":1},"data":[]}}',
        b'{"info":{"count":1,"totalPages":1},"data":[1,]}',
        b'{"info":{"count":2,"totalPages":1},"data":[1 2]}',
        b'{"info":{"count":1,"totalPages":1},"data":["\xff"]}',
        b'{"info":{"count":1,"totalPages":1},"data":' + b"[" * 100_000,
        b'{"info":{"count":1,"totalPages":1},"data":[' + b"9" * 5000 + b"]}",
    ],
)
def test_what_is_no_page_is_refused(body: bytes) -> None:
    with pytest.raises(Exception, match=f"its {len(body)} bytes are not a page of characters"):
        read_page("url", body)
