"""Files of raw as the loaders would land them, in a folder or on S3, and all that stands in raw."""

import json
from datetime import datetime

import pyarrow.parquet as pq

from loaders import disney, raw
from loaders.disney.client import Page
from loaders.lake import Lake
from loaders.raw import RawTable
from loaders.users import events
from loaders.users.events import Event


def land_crawl(lake: Lake, at: datetime, names: tuple[str, ...] = ("Ana", "Bo")) -> str:
    """Land one crawl with these records; returns its key."""
    payloads = [json.dumps({"_id": number, "name": name}) for number, name in enumerate(names)]
    batch_id = raw.new_batch_id(at)
    key = raw.CHARACTERS.key(at, batch_id)
    with lake.new_file(key) as path:
        pq.write_table(disney.to_table([Page("http://localhost/character", 1, payloads, [])], batch_id, at), path)
    return key


def land_changes(lake: Lake, at: datetime, first: int, last: int, *, epoch: int = 1, rows: int = 3) -> str:
    """Land changes of a range of LSNs, a snapshot where it begins at 0; returns their key."""
    moment = events.microseconds(at)
    changes = [
        Event("r" if first == 0 else "u", last - 1, seq, moment, None, b'{"id":"%d","nome":null}' % seq, b"{}")
        for seq in range(rows)
    ]
    key = raw.USER_CHANGES.key(at, f"{epoch}-{first:016X}-{last:016X}")
    with lake.new_file(key) as path:
        events.write(path, changes, epoch=epoch, batch_id=raw.new_batch_id(at), landed_at=at)
    return key


def files(lake: Lake, table: RawTable) -> list[str]:
    """The names of the table's files with their folders, without the empty one."""
    keys = sorted(lake.keys(f"raw/{table.name}"))
    return [key.removeprefix(f"raw/{table.name}/") for key in keys if not key.endswith("empty.parquet")]


def rows_of(lake: Lake, key: str) -> list[tuple]:
    with lake.local_file(key) as path:
        return [tuple(row.values()) for row in pq.read_table(path, partitioning=None).to_pylist()]


def all_rows(lake: Lake) -> dict[str, list[tuple]]:
    """The rows of each table, sorted, as often as they are there, each with its load_date."""
    return {
        table.name: sorted(
            ((key.split("/")[3], *row) for key in lake.keys(f"raw/{table.name}") for row in rows_of(lake, key)),
            key=repr,
        )
        for table in raw.TABLES
    }
