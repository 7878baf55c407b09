"""A lake below an S3 prefix.

State and lock rely on S3's conditional writes (`If-None-Match: *` and `If-Match: etag`, see the Amazon S3 User Guide,
"How to prevent object overwrites with conditional writes").
"""

import json
import logging
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    InvalidRegionError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
)

from loaders import http_environment
from loaders.errors import LoaderError, OperatorError, TransientError

log = logging.getLogger(__name__)

LEASE_SECONDS = 60.0  # a killed run leaves its lock behind; after this long without renewal it may be taken
DELETE_BATCH = 1000  # as many objects as one request may name
CONFIG = Config(connect_timeout=10, read_timeout=30, retries={"mode": "standard", "max_attempts": 4})
CONDITION_FAILED = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey")
# What no retry helps against.
WRONG_SETTINGS = (
    InvalidRegionError, NoCredentialsError, ParamValidationError, PartialCredentialsError, ProfileNotFound,
)  # fmt: skip
WRONG_SETTINGS_CODES = (
    "AccessDenied", "InvalidAccessKeyId", "InvalidBucketName", "NoSuchBucket", "SignatureDoesNotMatch",
    "KMS.DisabledException", "KMS.NotFoundException",
)  # fmt: skip


class S3Lake:
    """The Lake interface on S3: an object is visible whole or not at all by S3's own promise."""

    def __init__(self, bucket: str, prefix: str, *, kms_key_id: str | None = None) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")
        self.encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key_id} if kms_key_id else {}
        http_environment.check_aws("s3")
        with self._failures("open", ""):
            self.client = boto3.Session().client("s3", config=CONFIG)

    def read(self, key: str) -> tuple[bytes, str] | None:
        with self._failures("read", key):
            try:
                answer = self.client.get_object(Bucket=self.bucket, Key=self._name(key))
            except self.client.exceptions.NoSuchKey:
                return None
            return answer["Body"].read(), answer["ETag"]

    def write(self, key: str, body: bytes, *, expected: str | None) -> str:
        etag = self._put_if(key, body, expected)
        if etag is None:
            raise TransientError(f"{self.uri}/{key} was changed by another run: run again")
        return etag

    @contextmanager
    def new_file(self, key: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="lakehouse-") as folder:
            path = Path(folder) / "object"
            yield path
            with self._failures("write", key), path.open("rb") as body:
                self.client.upload_fileobj(body, self.bucket, self._name(key), ExtraArgs=self.encryption)

    @contextmanager
    def local_file(self, key: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="lakehouse-") as folder:
            path = Path(folder) / "object"
            with self._failures("read", key), path.open("wb") as body:
                try:
                    self.client.download_fileobj(self.bucket, self._name(key), body)
                except ClientError as error:
                    if _code(error) not in ("404", "NoSuchKey"):
                        raise
                    raise FileNotFoundError(f"{self.uri}/{key} is not there") from error
            yield path

    def delete(self, keys: Iterable[str]) -> None:
        self._delete([{"Key": self._name(key)} for key in keys])

    def forget(self, prefix: str) -> int:
        below = self._name(f"{prefix.strip('/')}/")
        versions, markers = [], []
        with self._failures("list the former versions of", prefix):
            for page in self.client.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=below):
                versions += [entry for entry in page.get("Versions", []) if not entry["IsLatest"]]
                markers += page.get("DeleteMarkers", [])
        # A marker goes after what it hides, or that would be there again.
        self._delete([{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in versions + markers])
        return len(versions)

    def _delete(self, objects: list[dict[str, str]]) -> None:
        waiting = iter(objects)
        while batch := list(islice(waiting, DELETE_BATCH)):
            with self._failures("delete", ""):
                answer = self.client.delete_objects(Bucket=self.bucket, Delete={"Objects": batch, "Quiet": True})
            for failed in answer.get("Errors", []):  # the request itself succeeds, whatever becomes of each object
                kind = OperatorError if failed["Code"] in WRONG_SETTINGS_CODES else TransientError
                raise kind(f"cannot delete s3://{self.bucket}/{failed['Key']}: {failed['Code']} {failed['Message']}")

    def keys(self, prefix: str) -> Iterator[str]:
        below = self._name(f"{prefix.strip('/')}/" if prefix else "")
        with self._failures("list", prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=below)
            for page in pages:
                for entry in page.get("Contents", []):
                    yield entry["Key"][len(self._name("")) :]

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """A lease on `state/<name>.lock`, renewed while it is held, by clocks that are not minutes apart.

        A run that outlives its lease (paused for longer than it lasts) is fenced off by the conditional write of its
        state, so the lease only has to be right in all ordinary cases.
        """
        key = f"state/{name}.lock"
        found = self.read(key)
        lease = json.loads(found[0]) if found else {"expires_at": 0}
        if lease["expires_at"] > time.time():
            raise TransientError(
                f"another run holds {self.uri}/{key} ({lease['holder']}): wait until it ends, nothing was changed. "
                f"If it was killed, its lease ends by itself within {LEASE_SECONDS:.0f} s"
            )
        etag = self._put_if(key, _lease(LEASE_SECONDS), found and found[1])
        if etag is None:
            raise TransientError(f"another run has just taken {self.uri}/{key}: nothing was changed")
        ended = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            renewal = pool.submit(self._renew, key, etag, ended)
            try:
                yield
            finally:
                ended.set()
                self._release(key, renewal.result())

    def _renew(self, key: str, etag: str | None, ended: threading.Event) -> str | None:
        """Renew the lease until the run has ended; returns its last version, None when another run has taken it."""
        while etag and not ended.wait(LEASE_SECONDS / 3):
            try:
                etag = self._put_if(key, _lease(LEASE_SECONDS), etag)
            except LoaderError as error:  # the next renewal, or at last the conditional write of the state, decides
                log.warning("the lock could not be renewed: %s", error)
        return etag

    def _release(self, key: str, etag: str | None) -> None:
        if etag:
            try:
                self._put_if(key, _lease(0), etag)
            except LoaderError as error:  # what the run did stands, and the lease ends by itself
                log.warning("the lock could not be released: %s", error)

    def _put_if(self, key: str, body: bytes, expected: str | None) -> str | None:
        """Put under a condition; None when the condition no longer holds."""
        condition = {"IfMatch": expected} if expected else {"IfNoneMatch": "*"}
        with self._failures("write", key):
            try:
                answer = self.client.put_object(
                    Bucket=self.bucket, Key=self._name(key), Body=body, **condition, **self.encryption
                )
            except ClientError as error:
                if _code(error) not in CONDITION_FAILED:
                    raise
                if error.response["ResponseMetadata"].get("RetryAttempts"):
                    # The answer to a first try may have been lost: then it is our own write that is there.
                    found = self.read(key)
                    return found[1] if found and found[0] == body else None
                return None
        return answer["ETag"]

    def _name(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    @contextmanager
    def _failures(self, action: str, key: str) -> Iterator[None]:
        """Say in our terms what went wrong with S3, and who has to act."""
        try:
            yield
        except (BotoCoreError, ClientError) as error:
            wrong = isinstance(error, WRONG_SETTINGS) or _code(error) in WRONG_SETTINGS_CODES
            kind = OperatorError if wrong else TransientError
            raise kind(f"cannot {action} {self.uri}/{key}: {error}") from error


def _code(error: Exception) -> str | None:
    return error.response.get("Error", {}).get("Code") if isinstance(error, ClientError) else None


def _lease(seconds: float) -> bytes:
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    return json.dumps({"holder": holder, "expires_at": time.time() + seconds}).encode()
