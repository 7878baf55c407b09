"""Where the loaders write: a folder or an S3 prefix, behind one small interface.

Keys are relative, with slashes: `raw/disney/characters/load_date=2026-11-22/….parquet`.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from loaders.errors import OperatorError
from loaders.lake.local import LocalLake


class Lake(Protocol):
    """Root of a lake (or of the vault, which has the same needs)."""

    uri: str

    def read(self, key: str) -> tuple[bytes, str] | None:
        """The object's bytes and its version, or None when there is none."""

    def write(self, key: str, body: bytes, *, expected: str | None) -> str:
        """Put a small object where `expected` is still its version (None: where there is none yet).

        Returns the new version. Raises TransientError when another writer came first.
        """

    def new_file(self, key: str) -> AbstractContextManager[Path]:
        """A local path to write to; on a clean exit it becomes visible under `key`, whole or not at all."""

    def local_file(self, key: str) -> AbstractContextManager[Path]:
        """A local path to read the object from. Raises FileNotFoundError when there is none."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove the objects; one that is not there is no error."""

    def forget(self, prefix: str) -> int:
        """Remove what nobody reads any more but the store still keeps below a folder-like prefix; say how many.

        That is former versions and unfinished files of runs that were killed. The caller holds the locks of all who
        write there. Raises OperatorError where it is not allowed to.
        """

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys of all objects below a folder-like prefix, in no particular order."""

    def lock(self, name: str) -> AbstractContextManager[None]:
        """Hold `name` for one run. Raises TransientError at once when another run holds it."""


def open_lake(uri: str, *, kms_key_id: str | None = None, private: bool = False) -> Lake:
    """Open the lake at a folder or an `s3://bucket/prefix`; `private` keeps a folder from other users."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return LocalLake(Path(uri), private=private)
    bucket, _, prefix = rest.partition("/")
    if scheme == "s3" and bucket:
        from loaders.lake.s3 import S3Lake  # here, since boto3 would cost every start 0.4 s

        return S3Lake(bucket, prefix.strip("/"), kms_key_id=kms_key_id)
    raise OperatorError(f"{uri} is not a place for a lake: give a folder or s3://bucket/prefix")
