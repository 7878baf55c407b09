"""Trino's files are fetched whole, checked and once, whatever interrupts it; from a server of the test's own."""

import hashlib
import io
import re
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sandbox.athena import artifacts
from sandbox.athena.artifacts import Artifact, ArtifactError, Locked


class Repository(ThreadingHTTPServer):
    """Serves `files`; `asked` holds each request's path and range. It can misbehave."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.ranges = True
        self.cut: int | None = None  # bytes after which an answer breaks off

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/maven2"


class Handler(BaseHTTPRequestHandler):
    server: Repository

    def do_GET(self) -> None:
        path, wanted = self.path.removeprefix("/maven2/"), self.headers.get("Range", "")
        self.server.asked.append((path, wanted))
        if path not in self.server.files:
            return self.send_error(404)
        body = self.server.files[path]
        if self.server.ranges:
            first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", wanted).groups())
            body = body[first : last + 1]
        self.send_response(206 if self.server.ranges else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.cut])
        return None

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def repository() -> Iterator[Repository]:
    with Repository() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def artifact(repository: Repository, path: str, content: bytes, size: int | None = None) -> Artifact:
    """Put a file into the repository, and say what its beginning of `size` bytes is."""
    repository.files[path] = content
    wanted = content[:size]
    return Artifact(hashlib.sha256(wanted).hexdigest(), len(wanted), path)


def archive() -> bytes:
    """A distribution's beginning matters: `lib` comes before what nobody needs."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz", compresslevel=0) as tar:
        for name, size in (("bin/run", 500), ("lib/a.jar", 2_000), ("lib/b.jar", 3_000), ("plugin/x/c.jar", 90_000)):
            member = tarfile.TarInfo(f"trino-server-core-476/{name}")
            member.size = size
            tar.addfile(member, io.BytesIO(name.encode() * (size // len(name)) + b"." * (size % len(name))))
    return written.getvalue()


@pytest.fixture
def locked(repository: Repository) -> Locked:
    return Locked(
        artifact(repository, "io/trino/core.tar.gz", archive(), 12_000),
        (
            artifact(repository, "g/one/1/one-1.jar", b"1" * 1_000),
            artifact(repository, "g/two/1/two-1.jar", b"2" * 700_000),
        ),
        ("lib/b.jar",),
    )


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


WHOLE = [
    "lib/a.jar",
    "lib/b.jar",
    "lock",
    "plugin/lakehouse/b.jar",
    "plugin/lakehouse/g_one_1_one-1.jar",
    "plugin/lakehouse/g_two_1_two-1.jar",
    "plugin/lakehouse/services.jar",
]


def test_it_is_laid_out_and_fetched_once(tmp_path: Path, repository: Repository, locked: Locked) -> None:
    assert artifacts.install(tmp_path / "cache", locked, repository.url) == tmp_path / "cache"
    assert names(tmp_path / "cache") == WHOLE
    with zipfile.ZipFile(tmp_path / "cache/plugin/lakehouse/services.jar") as services:
        assert services.read("META-INF/services/io.trino.spi.Plugin").decode().split() == list(artifacts.PLUGINS)
    asked = len(repository.asked)
    artifacts.install(tmp_path / "cache", locked, repository.url)
    assert len(repository.asked) == asked == 3
    assert ("io/trino/core.tar.gz", "bytes=0-11999") in repository.asked  # not the rest


def test_a_server_that_knows_no_ranges_is_read_as_far_as_needed(
    tmp_path: Path, repository: Repository, locked: Locked
) -> None:
    repository.ranges = False
    artifacts.install(tmp_path, locked, repository.url)
    assert names(tmp_path) == WHOLE


def test_an_interrupted_download_goes_on_where_it_stopped(
    tmp_path: Path, repository: Repository, locked: Locked
) -> None:
    repository.cut = 400_000
    with pytest.raises(ArtifactError, match=r"two-1\.jar"):
        artifacts.install(tmp_path, locked, repository.url)
    assert not (tmp_path / "lib").exists()
    left = (tmp_path / "downloads/g_two_1_two-1.jar.part").stat().st_size
    assert 0 < left <= 400_000
    repository.cut, repository.asked = None, []
    artifacts.install(tmp_path, locked, repository.url)
    assert names(tmp_path) == WHOLE
    assert ("g/two/1/two-1.jar", f"bytes={left}-699999") in repository.asked


@pytest.mark.parametrize("left", [b"x" * 100, b"x" * 2_000])
def test_what_an_older_version_left_half_done_is_fetched_again(
    tmp_path: Path, repository: Repository, locked: Locked, left: bytes
) -> None:
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads/g_one_1_one-1.jar.part").write_bytes(left)
    artifacts.install(tmp_path, locked, repository.url)
    assert (tmp_path / "plugin/lakehouse/g_one_1_one-1.jar").read_bytes() == b"1" * 1_000


def test_another_file_than_the_tested_one_is_refused(tmp_path: Path, repository: Repository, locked: Locked) -> None:
    repository.files["g/one/1/one-1.jar"] = b"3" * 1_000
    with pytest.raises(ArtifactError, match=r"one-1\.jar is not the file that was tested.*MAVEN_REPOSITORY_URL"):
        artifacts.install(tmp_path, locked, repository.url)
    assert not (tmp_path / "plugin").exists()
    assert not (tmp_path / "downloads/g_one_1_one-1.jar").exists()
    repository.files["g/one/1/one-1.jar"] = b"1" * 1_000
    artifacts.install(tmp_path, locked, repository.url)
    assert names(tmp_path) == WHOLE


def test_a_repository_that_cannot_be_reached_is_named(tmp_path: Path, locked: Locked) -> None:
    with pytest.raises(ArtifactError, match=r"127\.0\.0\.1 could not be reached .*MAVEN_REPOSITORY_URL"):
        artifacts.install(tmp_path, locked, "http://127.0.0.1:1/maven2")


def test_an_answer_that_is_an_error_is_named(tmp_path: Path, repository: Repository, locked: Locked) -> None:
    del repository.files["g/one/1/one-1.jar"]
    with pytest.raises(ArtifactError, match=r"answered 404 when asked for .*one-1\.jar"):
        artifacts.install(tmp_path, locked, repository.url)


def test_many_that_install_at_once_fetch_once(tmp_path: Path, repository: Repository, locked: Locked) -> None:
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda _: artifacts.install(tmp_path, locked, repository.url), range(4)):
            pass
    assert names(tmp_path) == WHOLE
    assert len(repository.asked) == 3


def test_a_changed_list_fetches_what_it_adds_and_drops_what_it_lacks(
    tmp_path: Path, repository: Repository, locked: Locked
) -> None:
    artifacts.install(tmp_path, locked, repository.url)
    repository.asked = []
    added = artifact(repository, "g/three/1/three-1.jar", b"3")
    artifacts.install(tmp_path, Locked(locked.archive, (locked.jars[0], added), ()), repository.url)
    assert [path for path, _ in repository.asked] == ["g/three/1/three-1.jar"]
    assert [path.name for path in sorted((tmp_path / "plugin/lakehouse").iterdir())] == [
        "g_one_1_one-1.jar",
        "g_three_1_three-1.jar",
        "services.jar",
    ]


def test_a_damaged_jar_is_fetched_again(tmp_path: Path, repository: Repository, locked: Locked) -> None:
    artifacts.install(tmp_path, locked, repository.url)
    jar = tmp_path / "plugin/lakehouse/g_one_1_one-1.jar"
    jar.write_bytes(b"1" * 10)
    artifacts.install(tmp_path, locked, repository.url)
    assert jar.read_bytes() == b"1" * 1_000


def test_the_cache_is_outside_of_the_repository_and_can_be_moved() -> None:
    assert artifacts.cache({"XDG_CACHE_HOME": "/x"}) == Path("/x/lakehouse/trino-476")
    assert artifacts.cache({"SANDBOX_CACHE": "/y", "XDG_CACHE_HOME": "/x"}) == Path("/y/trino-476")
    assert artifacts.cache({}) == Path.home() / ".cache/lakehouse/trino-476"


def test_the_committed_list_is_whole_and_small() -> None:
    locked = artifacts.read_lock(artifacts.LOCK.read_text())
    assert locked.archive.path == "io/trino/trino-server-core/476/trino-server-core-476.tar.gz"
    assert all(re.fullmatch("[0-9a-f]{64}", one.sha256) for one in (locked.archive, *locked.jars))
    assert {"trino-hive-476.jar", "trino-iceberg-476.jar"} <= {Path(jar.path).name for jar in locked.jars}
    assert len({jar.name for jar in locked.jars}) == len(locked.jars) > 100
    assert all(name.startswith("lib/") for name in locked.shared)
    assert sum(one.size for one in (locked.archive, *locked.jars)) < 400_000_000
