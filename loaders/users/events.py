"""Change events, and how a stream of them becomes one Parquet file."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from loaders import raw

# Events wait as Python objects until a batch of them becomes Arrow, and as Arrow until a row group is full. Each level
# ends at whichever bound comes first, so that memory stays the same whatever the transaction and its rows are.
BATCH_ROWS, BATCH_BYTES = 2_000, 2_000_000
GROUP_BYTES = 4_000_000

UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
POSTGRES_EPOCH = 946_684_800_000_000  # 2000-01-01 UTC, in microseconds since 1970-01-01 UTC


class Event(NamedTuple):
    """One change of one row, or of the whole table when it is truncated, as the raw contract has it."""

    op: str  # r snapshot row, c insert, u update, d delete, t truncate
    commit_lsn: int
    change_seq: int  # position within the transaction, from 0
    committed_at: int  # microseconds since 1970-01-01 UTC
    before: bytes | None  # JSON object, UTF-8
    after: bytes | None  # JSON object, UTF-8
    source: bytes  # JSON object, UTF-8


def write(path: Path, events: Iterable[Event], *, epoch: int, batch_id: str, landed_at: datetime) -> int:
    """Write the events, in their order, as one Parquet file of raw's schema; return how many they were."""
    schema = raw.USER_CHANGES.schema
    constants = {"epoch": epoch, "batch_id": batch_id, "landed_at": landed_at}
    rows, group, size = 0, [], 0
    # The text columns are nearly all distinct: dictionaries and statistics of them would only cost time and space.
    plain = [field.name for field in schema if field.name not in ("before", "after", "source")]
    with pq.ParquetWriter(
        path, schema, compression=raw.COMPRESSION, use_dictionary=plain, write_statistics=plain
    ) as writer:
        for batch in _batches(events, schema, constants):
            group.append(batch)
            rows += batch.num_rows
            size += batch.nbytes
            if size >= GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(group))
                group, size = [], 0
        if group:
            writer.write_table(pa.Table.from_batches(group))
    return rows


def _batches(events: Iterable[Event], schema: pa.Schema, constants: dict) -> Iterator[pa.RecordBatch]:
    rows: list[Event] = []
    size = 0
    for event in events:
        rows.append(event)
        size += len(event.after or b"") + len(event.before or b"")
        if len(rows) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield _to_arrow(rows, schema, constants)
            rows.clear()
            size = 0
    if rows:
        yield _to_arrow(rows, schema, constants)


def _to_arrow(rows: list[Event], schema: pa.Schema, constants: dict) -> pa.RecordBatch:
    columns = dict(zip(Event._fields, zip(*rows, strict=True), strict=True))
    return pa.record_batch(
        [
            pa.repeat(pa.scalar(constants[field.name], field.type), len(rows))
            if field.name in constants
            else pa.array(columns[field.name], field.type)
            for field in schema
        ],
        schema=schema,
    )


def source_prefix(database: str, schema: str, table: str) -> bytes:
    """The start of `source`: what follows is the transaction's id, `,"lsn":`, the change's LSN and a brace."""
    names = {"db": database, "schema": schema, "table": table}
    return json.dumps(names, ensure_ascii=False, separators=(",", ":")).encode()[:-1] + b',"xid":'


def lsn_text(lsn: int) -> str:
    """An LSN as PostgreSQL writes it, such as 16/B374D848."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def microseconds(moment: datetime) -> int:
    """A moment as microseconds since 1970-01-01 UTC, exactly."""
    return (moment - UNIX_EPOCH) // timedelta(microseconds=1)
