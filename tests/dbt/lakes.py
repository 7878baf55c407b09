"""What tests put into a lake and its vault."""

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from loaders import key, raw

MASKING_KEY = hashlib.sha256(b"a key for tests").digest()

Dbt = Callable[..., Any]


def write_masking_key(masking_key: bytes) -> None:
    """Put a key of any length into the working folder's vault."""
    path = Path("vault", key.KEY)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([key.pads(masking_key)], key.SCHEMA), path)


def land_crawl(lake: Path, at: datetime, records: Sequence[Any]) -> str:
    """Land one crawl of the Disney API at a time in UTC; a record that is a string stands verbatim. Its batch_id."""
    batch_time = at.replace(tzinfo=UTC)
    batch_id = raw.new_batch_id(batch_time)
    rows = [
        {
            "batch_id": batch_id,
            "extracted_at": batch_time,
            "request_url": "http://localhost/character?page=1",
            "position": position,
            "payload": record if isinstance(record, str) else json.dumps(record, ensure_ascii=False),
        }
        for position, record in enumerate(records)
    ]
    path = lake / raw.CHARACTERS.key(batch_time, batch_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, raw.CHARACTERS.schema), path)
    return batch_id
