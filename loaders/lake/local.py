"""A lake in a local folder."""

import fcntl
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from loaders.errors import TransientError

INCOMING = ".incoming"  # beside the zones, on the same file system, so that a rename is atomic


class LocalLake:
    """The Lake interface on a folder: atomic by rename, locked by flock (which a killed process lets go)."""

    def __init__(self, root: Path, *, private: bool = False) -> None:
        self.root = root
        self.uri = str(root)
        self.private = private

    def read(self, key: str) -> tuple[bytes, str] | None:
        try:
            body = (self.root / key).read_bytes()
        except FileNotFoundError:
            return None
        return body, sha256(body).hexdigest()

    def write(self, key: str, body: bytes, *, expected: str | None) -> str:
        with (self._folder(self.root) / ".lock").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            current = self.read(key)
            if (current and current[1]) != expected:
                raise TransientError(f"{self.uri}/{key} was changed by another run: run again")
            with self.new_file(key) as path:
                path.write_bytes(body)
        return sha256(body).hexdigest()

    @contextmanager
    def new_file(self, key: str) -> Iterator[Path]:
        path, handle = self._begin_file()
        with handle:
            try:
                yield path
                os.fsync(handle.fileno())
                if self.private:
                    path.chmod(0o600)
                target = self.root / key
                path.replace(self._folder(target.parent) / target.name)
                for folder in list(target.parents)[: len(Path(key).parts)]:  # up to the root: any of them may be new
                    _sync_folder(folder)
            finally:
                path.unlink(missing_ok=True)

    def _begin_file(self) -> tuple[Path, BinaryIO]:
        """An unfinished file, locked while its writer lives, whoever opens it again to write."""
        while True:
            path = self._folder(self.root / INCOMING) / uuid.uuid4().hex
            handle = path.open("ab")
            fcntl.flock(handle, fcntl.LOCK_EX)
            if path.exists():
                return path, handle
            handle.close()  # before it was locked another run took it for a leftover

    @contextmanager
    def local_file(self, key: str) -> Iterator[Path]:
        path = self.root / key
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not there")
        yield path

    def delete(self, keys: Iterable[str]) -> None:
        paths = [self.root / key for key in keys]
        for path in paths:
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in paths if path.parent.is_dir()}:
            _sync_folder(folder)

    def forget(self, prefix: str) -> int:
        return self._remove_leftovers()

    def keys(self, prefix: str) -> Iterator[str]:
        for path in (self.root / prefix).rglob("*"):
            key = path.relative_to(self.root).as_posix()
            if path.is_file() and not key.startswith("."):
                yield key

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        path = self._folder(self.root / "state") / f"{name}.lock"
        with path.open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise TransientError(f"another run holds {path}: wait until it ends, nothing was changed") from None
            self._remove_leftovers()
            yield

    def _remove_leftovers(self) -> int:
        """Remove the unfinished files whose writers are dead: those let go of the locks on them."""
        removed = 0
        for path in self._folder(self.root / INCOMING).iterdir():
            with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                removed += 1
        return removed

    def _folder(self, path: Path) -> Path:
        path.mkdir(parents=True, exist_ok=True, mode=0o700 if self.private else 0o777)
        if self.private:
            self.root.chmod(0o700)
        return path


def _sync_folder(folder: Path) -> None:
    """Make a rename or a removal survive a power cut (POSIX: the folder has to be synced too)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
