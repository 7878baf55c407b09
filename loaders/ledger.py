"""The vault's ledger of people who asked to be forgotten: pseudonyms and times, nothing personal.

A pseudonym here is HMAC-SHA-256 of the decimal user id under a key of the ledger's own, made at the first request and
never changed: the masking key may be rotated, and a request must hold for ever.
"""

import io
import json
import secrets
from collections.abc import Iterable
from datetime import datetime
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from loaders import key
from loaders.errors import OperatorError
from loaders.lake import Lake, open_lake
from loaders.settings import Settings

KEY = "erasure_ledger/erasure_ledger.parquet"
PADS_KEY = "erasure_key/erasure_key.parquet"
KNOWN_KEY = "state/erasure.json"  # in the lake: how many requests a ledger must have to be the one
# When the request was recorded; when raw was found clean; when the tables that can be reached from here were, too.
SCHEMA = pa.schema(
    [
        pa.field("pseudonym", pa.string(), nullable=False),
        pa.field("requested_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("raw_clean_at", pa.timestamp("us", tz="UTC")),
        pa.field("finished_at", pa.timestamp("us", tz="UTC")),
    ]
)


class Ledger:
    """The requests as they were when this was opened; `in` asks for a user id in decimal."""

    def __init__(self, vault: Lake, lake: Lake) -> None:
        """Raises OperatorError where the ledger has fewer requests than the lake has known: it is not the one."""
        self.vault, self.lake = vault, lake
        body, self.version = vault.read(KEY) or (None, None)
        rows = pq.read_table(io.BytesIO(body)).to_pylist() if body else []
        self.requests: dict[str, dict] = {row["pseudonym"]: row for row in rows}
        found = lake.read(KNOWN_KEY)
        self._known, self._known_version = (json.loads(found[0])["requests"], found[1]) if found else (0, None)
        if len(self.requests) < self._known:
            raise OperatorError(
                f"{vault.uri}/{KEY} has {len(self.requests)} requests of erasure, the lake knows of {self._known}: "
                "nothing lands until the ledger is restored, or people who were forgotten would come back"
            )
        pads = vault.read(PADS_KEY)
        if rows and not pads:
            raise OperatorError(f"{vault.uri}/{PADS_KEY} is gone: restore it, without it the ledger cannot be read")
        self._pads: dict[str, str] | None = pq.read_table(io.BytesIO(pads[0])).to_pylist()[0] if pads else None

    @classmethod
    def open(cls, settings: Settings, lake: Lake) -> Self:
        return cls(open_lake(settings.vault_uri, kms_key_id=settings.vault_kms_key_id, private=True), lake)

    def __len__(self) -> int:
        return len(self.requests)

    def __contains__(self, user_id: str) -> bool:
        return bool(self.requests) and self.pseudonym(user_id) in self.requests

    def pseudonym(self, user_id: str) -> str:
        return key.pseudonym(self._pads, user_id)

    def record(self, user_ids: Iterable[str], now: datetime) -> int:
        """Write down who is not in the ledger as yet; return how many. Raises TransientError when another was first."""
        if self._pads is None:
            pads = key.pads(secrets.token_bytes(key.MINIMUM_BYTES))
            self.vault.write(PADS_KEY, _parquet([pads], key.SCHEMA), expected=None)
            self._pads = pads
        new = {self.pseudonym(user_id) for user_id in user_ids} - self.requests.keys()
        self.requests |= {name: dict.fromkeys(SCHEMA.names) | {"pseudonym": name, "requested_at": now} for name in new}
        if new:
            self._save()
        if len(self.requests) != self._known:  # also where a killed run has not come so far
            body = json.dumps({"requests": len(self.requests)}).encode()
            self._known_version = self.lake.write(KNOWN_KEY, body, expected=self._known_version)
            self._known = len(self.requests)
        return len(new)

    def lacking(self, step: str, user_ids: Iterable[str]) -> list[str]:
        """Those of the ids for whom a step (`raw_clean_at`, `finished_at`) is still to come."""
        return [user_id for user_id in user_ids if not self.requests[self.pseudonym(user_id)][step]]

    def note(self, step: str, user_ids: Iterable[str], now: datetime) -> None:
        """Write down that a step is done."""
        self._change({user_id: {step: now} for user_id in self.lacking(step, user_ids)})

    def reopen(self, user_ids: Iterable[str]) -> None:
        """Write down that all steps are to be done, again where something has come back."""
        self._change({user_id: {"raw_clean_at": None, "finished_at": None} for user_id in user_ids})

    def _change(self, steps: dict[str, dict]) -> None:
        changed = False
        for user_id, fields in steps.items():
            request = self.requests[self.pseudonym(user_id)]
            changed |= request != request | fields
            request |= fields
        if changed:
            self._save()

    def _save(self) -> None:
        self.version = self.vault.write(KEY, _parquet(self.requests.values(), SCHEMA), expected=self.version)


def _parquet(rows: Iterable[dict], schema: pa.Schema) -> bytes:
    body = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema), body)
    return body.getvalue()
