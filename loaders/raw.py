"""The raw contract: where each extract lands, and with which columns (docs/architecture.md, "Raw").

Everything in raw is text as the source sent it, beside what the loader knows of the extract.
"""

import re
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq

from loaders.lake import Lake

COMPRESSION = "zstd"
EMPTY = "empty"  # the name of the file without rows that each table has


class RawFile(NamedTuple):
    """A file with rows by what its key says; files sort as they follow each other in their source."""

    epoch: int  # of a crawl: 0
    first: str  # user changes: the LSN where the range begins; crawls: the batch_id, of several the first
    last: str  # user changes: the LSN where the range ends; crawls: the batch_id, of several the last
    key: str


@dataclass(frozen=True)
class RawTable:
    """An append-only external table: a folder of Parquet files, partitioned by `load_date`."""

    name: str
    schema: pa.Schema
    file_name: re.Pattern[str]  # groups: `first`, `last`, and `epoch` where the table has epochs
    clock: str  # the key of the document with its last batch time, see loaders.batches

    def key(self, batch_time: datetime, file_name: str) -> str:
        """The key of a batch's file; the partition is the batch's own time in UTC."""
        return f"raw/{self.name}/load_date={batch_time.astimezone(UTC):%Y-%m-%d}/{file_name}.parquet"

    def files(self, lake: Lake) -> dict[date, list[RawFile]]:
        """The table's files with rows by their load_date, days and files in order.

        Files whose name the loaders would not give (another tool's) are none of ours: they are left out.
        """
        pattern = re.compile(rf"raw/{self.name}/load_date=(?P<day>\d{{4}}-\d\d-\d\d)/{self.file_name.pattern}\.parquet")
        days: dict[date, list[RawFile]] = {}
        for key in lake.keys(f"raw/{self.name}"):
            if found := pattern.fullmatch(key):
                named = found.groupdict()
                file = RawFile(int(named.get("epoch", 0)), named["first"], named["last"] or named["first"], key)
                days.setdefault(date.fromisoformat(named["day"]), []).append(file)
        return {day: sorted(files) for day, files in sorted(days.items())}


CHARACTERS = RawTable(
    "disney/characters",
    pa.schema(
        [
            pa.field("batch_id", pa.string(), nullable=False),
            pa.field("extracted_at", pa.timestamp("ms", tz="UTC"), nullable=False),
            pa.field("request_url", pa.string(), nullable=False),
            pa.field("position", pa.int32(), nullable=False),
            pa.field("payload", pa.string(), nullable=False),
        ]
    ),
    re.compile(r"(?P<first>\d{8}T\d{6}\.\d{6}Z)(-(?P<last>\d{8}T\d{6}\.\d{6}Z))?"),
    "state/disney.characters.json",
)

USER_CHANGES = RawTable(
    "customer/usuarios",
    pa.schema(
        [
            pa.field("epoch", pa.int32(), nullable=False),
            pa.field("op", pa.string(), nullable=False),
            pa.field("commit_lsn", pa.int64(), nullable=False),
            pa.field("change_seq", pa.int64(), nullable=False),
            pa.field("committed_at", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("before", pa.string()),
            pa.field("after", pa.string()),
            pa.field("source", pa.string(), nullable=False),
            pa.field("batch_id", pa.string(), nullable=False),
            pa.field("landed_at", pa.timestamp("us", tz="UTC"), nullable=False),
        ]
    ),
    re.compile(r"(?P<epoch>\d+)-(?P<first>[0-9A-F]{16})-(?P<last>[0-9A-F]{16})"),
    "state/customer.usuarios.batches.json",
)

TABLES = (CHARACTERS, USER_CHANGES)

# What AWS lands itself (infra/stacks/billing.yaml): the columns that its export asks for, with types as in public
# table definitions. No RawTable: AWS names its files and writes them anew, so nothing is compacted or retained here.
COST_AND_USAGE = pa.schema(
    [
        pa.field("bill_billing_period_start_date", pa.timestamp("ms")),
        pa.field("identity_line_item_id", pa.string()),
        pa.field("line_item_usage_start_date", pa.timestamp("ms")),
        pa.field("line_item_usage_account_id", pa.string()),
        pa.field("line_item_product_code", pa.string()),
        pa.field("line_item_usage_type", pa.string()),
        pa.field("line_item_operation", pa.string()),
        pa.field("line_item_line_item_type", pa.string()),
        pa.field("line_item_resource_id", pa.string()),
        pa.field("line_item_usage_amount", pa.float64()),
        pa.field("pricing_unit", pa.string()),
        pa.field("line_item_currency_code", pa.string()),
        pa.field("line_item_unblended_cost", pa.float64()),
        pa.field("resource_tags", pa.map_(pa.string(), pa.string())),
    ]
)
COST_AND_USAGE_FOLDER = "raw/aws/cost_and_usage/data"


@dataclass(frozen=True)
class Landed:
    """What one run landed, as its last line on stdout says it. No batch: there was nothing new.

    `slot_lag_bytes` is the WAL that the server kept for the slot when the run came, before anything was landed: the
    peak, which is what max_slot_wal_keep_size bounds. None where there is no slot and for a snapshot, which begins one.

    A run that also finishes what a killed one had begun lands two files: rows and bytes are those of both, the range
    covers both, and the batch is the later one. `gap` says which changes are missing (loaders.users.gaps).
    """

    table: str
    batch_id: str | None = None
    rows: int = 0
    bytes: int = 0
    range: str | None = None
    slot_lag_bytes: int | None = None
    gap: dict[str, Any] | None = None

    def followed_by(self, later: Self) -> Self:
        """Both as one: what a run has landed in two files, ranges that follow each other."""
        if later.batch_id is None or self.batch_id is None:
            return self if later.batch_id is None else later
        first, last = str(self.range).partition("-")[0], str(later.range).rpartition("-")[2]
        total = {"rows": self.rows + later.rows, "bytes": self.bytes + later.bytes}
        return replace(later, **total, range=f"{first}-{last}")


def ensure_tables(lake: Lake) -> None:
    """Give every raw table a file without rows: engines cannot read a table that has no file at all."""
    empty = {table.key(datetime.fromtimestamp(0, UTC), EMPTY): table.schema for table in TABLES}
    empty[f"{COST_AND_USAGE_FOLDER}/BILLING_PERIOD=1970-01/{EMPTY}.parquet"] = COST_AND_USAGE
    for key, schema in empty.items():
        if lake.read(key) is None:
            with lake.new_file(key) as path:
                pq.write_table(schema.empty_table(), path, compression=COMPRESSION)


def new_batch_id(batch_time: datetime) -> str:
    """A batch's name: its UTC time to the microsecond, so that names sort in landing order."""
    return f"{batch_time.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}"
