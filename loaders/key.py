"""The vault's masking key: a one-row Parquet table that the masking macros join.

The row holds HMAC's two pads (RFC 2104, section 2) rather than the key, because SQL engines have SHA-256 but no HMAC:
a pseudonym is sha256(outer_pad || sha256(inner_pad || value)). Who can read the pads can make pseudonyms, so the
table is as secret as the key.
"""

import hashlib
import hmac
import io
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from loaders.errors import OperatorError, TransientError
from loaders.lake import open_lake
from loaders.raw import Landed
from loaders.settings import Settings

TABLE = "masking_key"
KEY = f"{TABLE}/masking_key.parquet"
MINIMUM_BYTES = 32  # NIST SP 800-107: a key as long as the digest
BLOCK_BYTES = hashlib.sha256().block_size
SCHEMA = pa.schema([(name, pa.string()) for name in ("key_id", "inner_pad", "outer_pad")])


def write(settings: Settings) -> Landed:
    """Write the key's table once; a second call with the same key, or with none at hand, changes nothing.

    Raises OperatorError for a key that is absent, short or not hex, and where the vault holds another key: every
    pseudonym already made depends on that one.
    """
    vault = open_lake(settings.vault_uri, kms_key_id=settings.vault_kms_key_id, private=True)
    with vault.lock(TABLE):
        found = vault.read(KEY)
        given = _given_key(settings)
        if found is None and given is None:
            raise OperatorError(
                "the vault has no masking key yet: set MASKING_KEY to 32 random bytes or more in hex "
                "(`openssl rand -hex 32`), or MASKING_KEY_SECRET_ID to a Secrets Manager id that holds them"
            )
        if given is not None:
            row = pads(given)
            if found is None:
                body = io.BytesIO()
                pq.write_table(pa.Table.from_pylist([row], SCHEMA), body)
                vault.write(KEY, body.getvalue(), expected=None)
                return Landed(table=TABLE, batch_id=row["key_id"], rows=1, bytes=body.tell())
            held = pq.read_table(io.BytesIO(found[0])).to_pylist()[0]
            if held["key_id"] != row["key_id"]:
                raise OperatorError(
                    f"the vault holds key {held['key_id']}, the settings give key {row['key_id']}: all pseudonyms "
                    "in refined were made with the vault's key. Unset MASKING_KEY and MASKING_KEY_SECRET_ID to go on"
                )
    return Landed(table=TABLE)


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

    client: Any = boto3.client("secretsmanager")
    try:
        return client.get_secret_value(SecretId=secret_id)["SecretString"].strip()
    except ClientError as error:
        raise OperatorError(f"cannot read the secret {secret_id}: {error}") from error
    except BotoCoreError as error:
        raise TransientError(f"Secrets Manager did not answer: {error}") from error
