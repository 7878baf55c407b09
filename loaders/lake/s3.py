"""A lake below an S3 prefix.

State and lock rely on S3's conditional writes (`If-None-Match: *` and `If-Match: etag`, see the Amazon S3 User Guide,
"How to prevent object overwrites with conditional writes").
"""

import json
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from loaders.errors import TransientError

LEASE_SECONDS = 60.0  # a killed run leaves its lock behind; after this long without renewal it may be taken


class S3Lake:
    """The Lake interface on S3: an object is visible whole or not at all by S3's own promise."""

    def __init__(self, bucket: str, prefix: str, *, kms_key_id: str | None = None) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")
        self.client = boto3.client("s3")
        self.encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key_id} if kms_key_id else {}

    def read(self, key: str) -> tuple[bytes, str] | None:
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=self._name(key))
            return answer["Body"].read(), answer["ETag"]
        except ClientError as error:
            if _code(error) in ("NoSuchKey", "404"):
                return None
            raise self._failed("read", key, error) from error
        except BotoCoreError as error:
            raise self._failed("read", key, error) from error

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
            try:
                self.client.upload_file(str(path), self.bucket, self._name(key), ExtraArgs=self.encryption)
            except (BotoCoreError, ClientError, boto3.exceptions.S3UploadFailedError) as error:
                raise self._failed("write", key, error) from error

    def keys(self, prefix: str) -> Iterator[str]:
        start = len(self._name(""))
        try:
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self._name(prefix).rstrip("/") + "/"
            )
            for page in pages:
                for entry in page.get("Contents", []):
                    yield entry["Key"][start:]
        except (BotoCoreError, ClientError) as error:
            raise self._failed("list", prefix, error) from error

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """A lease on `state/<name>.lock`, renewed while it is held.

        A run that outlives its lease (paused for longer than it lasts) is fenced off by the conditional write of
        its state, so the lease only has to be right in all ordinary cases.
        """
        key = f"state/{name}.lock"
        owner = uuid.uuid4().hex
        found = self.read(key)
        if found and json.loads(found[0])["expires_at"] > time.time():
            raise TransientError(
                f"another run holds {self.uri}/{key}: wait until it ends, nothing was changed. "
                f"If it was killed, its lease ends by itself within {LEASE_SECONDS:.0f} s"
            )
        etag = self._put_if(key, _lease(owner), found and found[1])
        if etag is None:
            raise TransientError(f"another run has just taken {self.uri}/{key}: nothing was changed")
        ended = threading.Event()
        renewal = threading.Thread(target=self._renew, args=(key, owner, etag, ended), daemon=True)
        renewal.start()
        try:
            yield
        finally:
            ended.set()
            renewal.join()
            self._release(key, owner)

    def _renew(self, key: str, owner: str, etag: str | None, ended: threading.Event) -> None:
        while etag and not ended.wait(LEASE_SECONDS / 3):
            try:
                etag = self._put_if(key, _lease(owner), etag)
            except TransientError:
                continue  # the next renewal, or at last the conditional write of the state, decides

    def _release(self, key: str, owner: str) -> None:
        found = self.read(key)
        if found and json.loads(found[0])["owner"] == owner:
            self.client.delete_object(Bucket=self.bucket, Key=self._name(key))

    def _put_if(self, key: str, body: bytes, expected: str | None) -> str | None:
        """Put under a condition; None when the condition no longer holds."""
        condition = {"IfMatch": expected} if expected else {"IfNoneMatch": "*"}
        try:
            answer = self.client.put_object(
                Bucket=self.bucket, Key=self._name(key), Body=body, **condition, **self.encryption
            )
        except ClientError as error:
            if _code(error) in ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"):
                return None
            raise self._failed("write", key, error) from error
        except BotoCoreError as error:
            raise self._failed("write", key, error) from error
        return answer["ETag"]

    def _name(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _failed(self, action: str, key: str, error: Exception) -> TransientError:
        return TransientError(f"cannot {action} {self.uri}/{key}: {error}")


def _code(error: ClientError) -> Any:
    return error.response.get("Error", {}).get("Code")


def _lease(owner: str) -> bytes:
    return json.dumps({"owner": owner, "expires_at": time.time() + LEASE_SECONDS}).encode()
