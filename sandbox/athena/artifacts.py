"""Trino's files: fetched once from a Maven repository, checked, and kept outside of the repository.

`trino.lock` lists what is fetched, one file a line: its SHA-256, its size in bytes, its path in the repository. The
first line is Trino's own archive, of which only the beginning is fetched, up to the end of its folder `lib/`: Trino's
server is in no other artifact. A line with a path alone (`lib/...`) is a library that plugins share with the server.

The cache holds `lib/` (the server's class path) and `plugin/lakehouse/` (the connectors for Hive and Iceberg). Both
appear whole or not at all. An interrupted download goes on where it stopped.
"""

import fcntl
import hashlib
import os
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from loaders import settings

VERSION = 476
LOCK = Path(__file__).with_name("trino.lock")
REPOSITORY = "https://repo1.maven.org/maven2"
# What makes a folder of jars a plugin. Iceberg's connector needs most of Hive's, so one folder has both.
PLUGINS = ("io.trino.plugin.hive.HivePlugin", "io.trino.plugin.iceberg.IcebergPlugin")
SERVICES = "services.jar"
CONNECTIONS = 8
TIMEOUT = (10, 60)  # seconds to connect, and between two pieces
PIECE = 1 << 18  # bytes

Report = Callable[[int], None]


class ArtifactError(RuntimeError):
    """A file of Trino's could not be had; the message says why and what to do."""


@dataclass(frozen=True)
class Artifact:
    """The first `size` bytes of a repository's file, and their SHA-256."""

    sha256: str
    size: int
    path: str

    @property
    def name(self) -> str:
        """The path in one piece: two artifacts of one group may have the same file name."""
        return self.path.replace("/", "_")


@dataclass(frozen=True)
class Locked:
    """What trino.lock says: the archive, the plugins' own jars, and the jars that they share with the server."""

    archive: Artifact
    jars: tuple[Artifact, ...]
    shared: tuple[str, ...]


def read_lock(text: str) -> Locked:
    fields = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    archive, *jars = [Artifact(sha256, int(size), path) for sha256, size, path in (f for f in fields if len(f) == 3)]
    return Locked(archive, tuple(jars), tuple(field[0] for field in fields if len(field) == 1))


def cache(environment: Mapping[str, str] = os.environ) -> Path:
    """Where Trino's files are kept: below SANDBOX_CACHE, by default the user's cache folder."""
    default = f"{environment.get('XDG_CACHE_HOME') or '~/.cache'}/lakehouse"
    return Path(settings.place("SANDBOX_CACHE", environment, default)) / f"trino-{VERSION}"


def install(folder: Path, locked: Locked, repository: str = REPOSITORY) -> Path:
    """Fetch what `folder` lacks, and return it once it holds all. Does nothing where it does.

    Another process that installs into the same folder is waited for. Raises ArtifactError.
    """
    if _is_whole(folder, locked):
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # a container's user may have no home
        raise ArtifactError(
            f"{folder} cannot be made ({error.strerror}): set SANDBOX_CACHE to another folder"
        ) from None
    with _alone(folder):
        if not _is_whole(folder, locked):
            downloads = folder / "downloads"
            _fetch_all(downloads, _needed(folder, locked), repository.rstrip("/"))
            if not (folder / "lib").is_dir():
                _unpack(downloads / locked.archive.name, folder / "lib")
            _make_plugin(folder, downloads, locked)
            shutil.rmtree(downloads)
    return folder


def _is_whole(folder: Path, locked: Locked) -> bool:
    plugin = folder / "plugin/lakehouse"
    if not (folder / "lib").is_dir() or not plugin.is_dir():
        return False
    sizes = {path.name: path.stat().st_size for path in plugin.iterdir()}
    names = {jar.name for jar in locked.jars} | {Path(name).name for name in locked.shared} | {SERVICES}
    return sizes.keys() == names and all(sizes[jar.name] == jar.size for jar in locked.jars)


def _needed(folder: Path, locked: Locked) -> list[Artifact]:
    """What to fetch: all but what an earlier version of the list has brought."""
    kept = folder / "plugin/lakehouse"
    jars = [jar for jar in locked.jars if not _holds(kept / jar.name, jar)]
    return jars if (folder / "lib").is_dir() else [locked.archive, *jars]


def _holds(path: Path, artifact: Artifact) -> bool:
    return path.is_file() and path.stat().st_size == artifact.size and _digest(path) == artifact.sha256


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---------- fetching


def _fetch_all(downloads: Path, artifacts: Sequence[Artifact], repository: str) -> None:
    downloads.mkdir(exist_ok=True)
    with _progress(sum(artifact.size for artifact in artifacts)) as report, ThreadPoolExecutor(CONNECTIONS) as pool:
        tasks = [pool.submit(fetch, artifact, downloads, repository, report) for artifact in artifacts]
        try:
            for task in tasks:
                task.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def fetch(artifact: Artifact, folder: Path, repository: str, report: Report = lambda size: None) -> Path:
    """The artifact's file in `folder`, checked. What an interrupted call has left is gone on with.

    `report` is told of each piece's bytes. Raises ArtifactError.
    """
    whole = folder / artifact.name
    if _holds(whole, artifact):
        report(artifact.size)
        return whole
    part = whole.with_name(f"{whole.name}.part")
    resumed = part.exists()
    _download(artifact, part, repository, report)
    if resumed and _digest(part) != artifact.sha256:  # what was left may be another version's, or damaged
        part.unlink()
        _download(artifact, part, repository, report)
    if (found := _digest(part)) != artifact.sha256:
        part.unlink()
        raise ArtifactError(
            f"{repository}/{artifact.path} is not the file that was tested: its SHA-256 is {found}, "
            f"{artifact.sha256} was expected. Try again, or set MAVEN_REPOSITORY_URL to another mirror."
        )
    part.replace(whole)
    return whole


def _download(artifact: Artifact, part: Path, repository: str, report: Report) -> None:
    """Fill `part` up to the artifact's size."""
    url = f"{repository}/{artifact.path}"
    had = part.stat().st_size if part.exists() else 0
    if had >= artifact.size:
        report(artifact.size)
        return
    # Only what is missing: the archive's later folders are never needed.
    wanted = {"Range": f"bytes={had}-{artifact.size - 1}", "Accept-Encoding": "identity"}
    try:
        with requests.get(url, headers=wanted, stream=True, timeout=TIMEOUT) as response:
            response.raise_for_status()
            had = had if response.status_code == 206 else 0  # a server that knows no ranges sends it all
            report(had)
            with part.open("ab" if had else "wb") as file:
                for piece in response.iter_content(PIECE):
                    piece = piece[: artifact.size - had]
                    file.write(piece)
                    had += len(piece)
                    report(len(piece))
                    if had == artifact.size:
                        return
    except requests.RequestException as error:
        raise ArtifactError(_unreachable(url, error)) from None
    raise ArtifactError(f"{url} ended after {had:,} of {artifact.size:,} bytes. Try again: the download is resumed.")


def _unreachable(url: str, error: requests.RequestException) -> str:
    answer = error.response
    why = f"answered {answer.status_code}" if answer is not None else f"could not be reached ({type(error).__name__})"
    return (
        f"{urlsplit(url).hostname} {why} when asked for {url}. The local Athena needs Trino's files once "
        "(some 210 MB). Try again: the download is resumed. Or set MAVEN_REPOSITORY_URL to a mirror of Maven Central."
    )


@contextmanager
def _progress(total: int) -> Iterator[Report]:
    """A bar on stderr where it is a terminal; what it shows is in bytes."""
    console = Console(stderr=True)
    columns = (TextColumn("Fetching Trino"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not sys.stderr.isatty(), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda size: progress.advance(task, size)


# ---------- laying out


def _unpack(archive: Path, lib: Path) -> None:
    """Make `lib` of the archive's folder of that name. The archive ends behind it, in the middle of another file."""
    draft = lib.with_name("lib.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    with tarfile.open(archive, "r|gz") as members:
        found = False
        for member in members:
            in_lib = Path(member.name).parent.name == "lib"
            if found and not in_lib:
                break
            if in_lib and member.isfile():
                found = True
                with (draft / Path(member.name).name).open("wb") as file:
                    shutil.copyfileobj(members.extractfile(member), file)
    draft.rename(lib)


def _make_plugin(folder: Path, downloads: Path, locked: Locked) -> None:
    """Make `plugin/lakehouse` of the jars that were fetched or are there, and of links to those of the server."""
    plugin, draft = folder / "plugin/lakehouse", folder / "plugin.new"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    for jar in locked.jars:
        fetched = downloads / jar.name
        os.link(fetched if fetched.exists() else plugin / jar.name, draft / jar.name)
    for name in locked.shared:
        os.link(folder / name, draft / Path(name).name)
    with zipfile.ZipFile(draft / SERVICES, "w") as services:
        services.writestr("META-INF/services/io.trino.spi.Plugin", "\n".join(PLUGINS) + "\n")
    shutil.rmtree(plugin, ignore_errors=True)
    plugin.parent.mkdir(exist_ok=True)
    draft.rename(plugin)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One installation at a time; free again once its process has ended, also by a kill."""
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
