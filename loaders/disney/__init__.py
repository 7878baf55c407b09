"""Land one complete, consistent snapshot of the Disney API's characters per run."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

from loaders import raw, swap
from loaders.batches import BatchClock
from loaders.disney.client import Client, Page
from loaders.disney.consistency import snapshot
from loaders.lake import open_lake
from loaders.settings import Settings


def land(
    settings: Settings,
    *,
    page_size: int = 100,
    connections: int = 4,
    timeout: float = 30.0,
    budget: float = 120.0,
    backoff: float = 0.5,
) -> raw.Landed:
    """Land a snapshot as one file, also when nothing changed since the last one.

    `timeout` bounds each answer as a whole, `budget` the reading of the API with all its waits; `backoff` is the first
    wait after a failure and doubles from one to the next; all are in seconds. Raises TransientError when there is no
    consistent snapshot to be had, OperatorError when the API refuses our requests for good; then nothing has landed.
    """
    lake = open_lake(settings.lake_uri, kms_key_id=settings.lake_kms_key_id)
    with lake.lock("disney.characters"):
        swap.finish(lake)
        raw.ensure_tables(lake)
        clock = BatchClock(lake, raw.CHARACTERS)
        client = Client(settings.disney_api_url, connections, timeout=timeout, budget=budget, backoff=backoff)
        with ThreadPoolExecutor(connections) as pool, closing(client):
            pages = snapshot(client, pool, page_size)
        # A run that was paused for so long that it lost its lock ends here: the run after it has taken a time since.
        batch_time = clock.take()
        batch_id = raw.new_batch_id(batch_time)
        table = to_table(pages, batch_id, batch_time)
        with lake.new_file(raw.CHARACTERS.key(batch_time, batch_id)) as path:
            pq.write_table(table, path, compression=raw.COMPRESSION)
            size = path.stat().st_size
    return raw.Landed(raw.CHARACTERS.name, batch_id, table.num_rows, size)


def to_table(pages: Sequence[Page], batch_id: str, batch_time: datetime) -> pa.Table:
    """The pages' records as rows of `raw.CHARACTERS`, in the order of the list."""
    payloads = [payload for page in pages for payload in page.payloads]
    extracted_at = batch_time.replace(microsecond=batch_time.microsecond // 1000 * 1000)  # Arrow refuses to round
    return pa.table(
        {
            "batch_id": [batch_id] * len(payloads),
            "extracted_at": [extracted_at] * len(payloads),
            "request_url": [page.url for page in pages for _ in page.payloads],
            "position": range(len(payloads)),
            "payload": payloads,
        },
        schema=raw.CHARACTERS.schema,
    )
