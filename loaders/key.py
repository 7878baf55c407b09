"""The vault's masking key: a one-row Parquet table that the masking macros join.

The row holds HMAC's two pads (RFC 2104, section 2) rather than the key, because SQL engines have SHA-256 but no HMAC:
a pseudonym is sha256(outer_pad || sha256(inner_pad || value)). Who can read the pads can make pseudonyms, so the
table is as secret as the key.

A rotation puts another key in its place, and the former one is gone: refined is made anew from curated, and nothing
else was made with it. Which key made a pseudonym stands beside it in refined (`key_id`).
"""

import hashlib
import hmac
import io
import logging
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from loaders import http_environment
from loaders.errors import OperatorError, TransientError
from loaders.lake import Lake, open_lake
from loaders.raw import Landed
from loaders.settings import Settings

log = logging.getLogger(__name__)

TABLE = "masking_key"
KEY = f"{TABLE}/masking_key.parquet"
MINIMUM_BYTES = 32  # NIST SP 800-107: a key as long as the digest
BLOCK_BYTES = hashlib.sha256().block_size
SCHEMA = pa.schema([(name, pa.string()) for name in ("key_id", "inner_pad", "outer_pad")])


def write(settings: Settings, *, rotate: bool = False) -> Landed:
    """Write the key's table once; a second call with the same key, or with none at hand, changes nothing.

    With `rotate` the given key takes the place of the vault's, in one write: killed anywhere, the vault has one of the
    two, and the same call again ends in the same state.

    Raises OperatorError for a key that is absent, short or not hex, and without `rotate` where the vault holds another
    key: every pseudonym already made depends on that one.
    """
    vault = open_lake(settings.vault_uri, kms_key_id=settings.vault_kms_key_id, private=True)
    with vault.lock(TABLE):
        found = vault.read(KEY)
        given = _given_key(settings)
        if given is None and (rotate or found is None):
            raise OperatorError(
                f"{'no new key was given' if rotate else 'the vault has no masking key yet'}: set MASKING_KEY to 32 "
                "random bytes or more in hex (`openssl rand -hex 32`), or MASKING_KEY_SECRET_ID to a Secrets Manager "
                "id that holds them, and run this again"
            )
        landed = Landed(table=TABLE)
        if given is not None:
            row, held = pads(given), _row(vault, found[0]) if found else None
            if held and held["key_id"] != row["key_id"] and not rotate:
                raise OperatorError(
                    f"the vault holds key {held['key_id']}, the settings give key {row['key_id']}: all pseudonyms "
                    "in refined were made with the vault's key. Unset MASKING_KEY and MASKING_KEY_SECRET_ID to go on "
                    "with it, or have all of them made anew with the other: `python -m loaders key --rotate`"
                )
            if held is None or held["key_id"] != row["key_id"]:
                body = io.BytesIO()
                pq.write_table(pa.Table.from_pylist([row], SCHEMA), body)
                vault.write(KEY, body.getvalue(), expected=found and found[1])
                landed = Landed(table=TABLE, batch_id=row["key_id"], rows=1, bytes=body.tell())
            if rotate:
                log.info("the vault's key is %s: the next `dbt build` makes what another key made anew", row["key_id"])
    return landed


def pads(key: bytes) -> dict[str, str]:
    """The table's row for a key: its id (which does not reveal it) and HMAC-SHA-256's pads, all in hex."""
    block = (hashlib.sha256(key).digest() if len(key) > BLOCK_BYTES else key).ljust(BLOCK_BYTES, b"\0")
    return {
        "key_id": hmac.digest(key, b"key_id", "sha256").hex()[:16],
        "inner_pad": bytes(byte ^ 0x36 for byte in block).hex(),
        "outer_pad": bytes(byte ^ 0x5C for byte in block).hex(),
    }


def pseudonym(row: dict[str, str], value: str) -> str:
    """HMAC-SHA-256 of a text by a row of pads, as the macro of the same name makes it: 64 hex digits."""
    inner, outer = (_begun(row[pad]).copy() for pad in ("inner_pad", "outer_pad"))
    inner.update(value.encode())
    outer.update(inner.digest())
    return outer.hexdigest()


@cache
def _begun(pad: str) -> "hashlib._Hash":
    """SHA-256 that has seen a pad: half of the work, and the same for every value."""
    return hashlib.sha256(bytes.fromhex(pad))


def _row(vault: Lake, body: bytes) -> dict[str, str]:
    try:
        [row] = pq.read_table(io.BytesIO(body), schema=SCHEMA).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise OperatorError(f"{vault.uri}/{KEY} is not what this loader wrote: restore it") from error
    return row


def _given_key(settings: Settings) -> bytes | None:
    if settings.masking_key and settings.masking_key_secret_id:
        raise OperatorError("MASKING_KEY and MASKING_KEY_SECRET_ID are both set: give one of them")
    name, text = "MASKING_KEY", settings.masking_key
    if settings.masking_key_secret_id:
        name, text = "the secret of MASKING_KEY_SECRET_ID", _secret(settings.masking_key_secret_id)
    if text is None:
        return None
    try:
        key = bytes.fromhex(text)
    except ValueError:
        raise OperatorError(f"{name} is not hex: give 32 random bytes or more (`openssl rand -hex 32`)") from None
    if len(key) < MINIMUM_BYTES:
        raise OperatorError(f"{name} has {len(key)} bytes: give {MINIMUM_BYTES} or more (`openssl rand -hex 32`)")
    return key


def _secret(secret_id: str) -> str:
    import boto3  # here, since it would cost every start 0.4 s
    from botocore.exceptions import BotoCoreError, ClientError

    http_environment.check_aws("secretsmanager")
    client: Any = boto3.client("secretsmanager")
    try:
        return client.get_secret_value(SecretId=secret_id)["SecretString"].strip()
    except ClientError as error:
        raise OperatorError(f"cannot read the secret {secret_id}: {error}") from error
    except BotoCoreError as error:
        raise TransientError(f"Secrets Manager did not answer: {error}") from error
