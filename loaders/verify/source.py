"""The customer table at one LSN: hashes of its rows, computed by the database that holds them.

Each column becomes the text that curated.users has for it (dbt's macros/verify), or null where staging cannot read the
value. Only hashes and keys leave the database.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from secrets import token_hex

import psycopg
from psycopg import sql

from loaders.errors import OperatorError
from loaders.settings import Settings
from loaders.users import slots, snapshot
from loaders.users.publication import SourceTable, find_table
from loaders.users.scrub import KEY
from loaders.users.server import connect, inspect

# The forms that staging accepts (dbt's macros/engine/parsing.sql).
DATE = "([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])-[0-9]{2}-[0-9]{2}"
TIMESTAMP = (
    DATE
    + "[ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?(Z|[+-](0[0-9]|1[0-3])(:[0-5][0-9])?|[+-]14(:00)?)?"
)
DECIMAL = "-?[0-9]+([.][0-9]+)?"
ISO = "YYYY-MM-DD HH24:MI:SS.US"


@dataclass(frozen=True)
class Column:
    """A column that is compared: our name, the source's, our type, and whether staging trims trailing spaces."""

    column: str
    key: str
    type: str  # varchar, date, timestamp or decimal(precision, scale)
    is_trimmed: bool


@dataclass(frozen=True)
class Bucket:
    """How many rows a range of keys has, and the sum of their hashes."""

    rows: int
    total: str


class Snapshot:
    """The table as one open transaction sees it: everything that was committed before `lsn`, and nothing else."""

    def __init__(self, connection: psycopg.Connection, table: SourceTable, lsn: int) -> None:
        self.connection, self.table, self.lsn = connection, table, lsn
        types = connection.execute(
            """
            SELECT attname, atttypid::regtype::text FROM pg_attribute
            WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped
            """,
            [table.oid],
        ).fetchall()
        self.types: dict[str, str] = dict(types)
        (encoding,) = connection.execute("SELECT current_setting('server_encoding')").fetchone()
        self._is_utf8 = encoding == "UTF8"

    def key_range(self) -> tuple[int, int]:
        """The least and the greatest key; (0, 0) where there is no row."""
        query = sql.SQL("SELECT coalesce(min({key}), 0), coalesce(max({key}), 0) FROM {table}")
        return self.connection.execute(query.format(**self._names)).fetchone()

    def by_bucket(self, columns: Sequence[Column], width: int, without: Sequence[int]) -> dict[int, Bucket]:
        """For each bucket of `width` keys its rows and the sum of their hashes, but for the keys in `without`."""
        row = sql.SQL(" || chr(31) || ").join(self._text(column) for column in columns)
        query = sql.SQL(
            "SELECT {bucket}, count(*), sum(('x' || {hash})::bit(60)::bigint)::text FROM {table} "
            "WHERE NOT ({key} = ANY(%s)) GROUP BY 1"
        ).format(bucket=self._bucket(width), hash=self._hash(row), **self._names)
        found = self.connection.execute(query, [list(without)])
        return {bucket: Bucket(rows, total) for bucket, rows, total in found}

    def rows(self, columns: Sequence[Column], width: int, buckets: Sequence[int]) -> Iterator[tuple]:
        """The rows of these buckets: the key, and a hash of each column."""
        hashes = sql.SQL(", ").join(self._hash(self._text(column)) for column in columns)
        # Keys beyond 2^53 lose digits as a double, at most 1,024: the range lets the primary key's index be used.
        first, last = (max(-(2**63), min(2**63 - 1, bound)) for bound in (
            min(buckets) * width - 1024, (max(buckets) + 1) * width + 1024
        ))  # fmt: skip
        query = sql.SQL(
            "SELECT {key}, {hashes} FROM {table} WHERE {key} BETWEEN %s AND %s AND {bucket} = ANY(%s)"
        ).format(hashes=hashes, bucket=self._bucket(width), **self._names)
        yield from self.connection.execute(query, [first, last, list(buckets)])

    @property
    def _names(self) -> Mapping[str, sql.Composable]:
        return {"key": sql.Identifier(KEY), "table": sql.Identifier(self.table.schema, self.table.name)}

    def _bucket(self, width: int) -> sql.Composable:
        return sql.SQL("floor({}::float8 / {})::bigint").format(sql.Identifier(KEY), sql.Literal(width))

    def _hash(self, text: sql.Composable) -> sql.Composable:
        encoded = text if self._is_utf8 else sql.SQL("convert_to({}, 'UTF8')").format(text)
        return sql.SQL("substr(md5({}), 1, 15)").format(encoded)

    def _text(self, column: Column) -> sql.Composable:
        value = canonical(column, self.types[column.key])
        return sql.SQL("coalesce('=' || ({}), '-')").format(value)


@contextmanager
def open_snapshot(settings: Settings) -> Iterator[Snapshot]:
    """A transaction on the replica, or on the primary where CUSTOMER_SNAPSHOT_DSN names none.

    Raises TransientError where the replica's position cannot be told exactly, because it never stands still.
    """
    with connect(settings.customer_snapshot_dsn, setting="CUSTOMER_SNAPSHOT_DSN") as reader:
        server = inspect(reader)
        table = find_table(reader, settings.customer_table)
        if server.is_standby:
            yield Snapshot(reader, table, snapshot.begin_on_standby(reader, 0, exactly=True))
            return
        with closing(connect(settings.customer_dsn, replication=True)) as replication:
            start, exported = slots.create(replication, f"lakehouse_verify_{token_hex(4)}", export=True, temporary=True)
            snapshot.begin_exported(reader, exported)
        yield Snapshot(reader, table, start)


def canonical(column: Column, source_type: str) -> sql.Composable:
    """SQL for a column's value as curated.users would print it; null where staging could not read it.

    `source_type` is PostgreSQL's name of the column's type. A value of the expected type is compared by range; any
    other is printed and judged by staging's patterns. Raises OperatorError for a type that has no canonical text.
    """
    name = sql.Identifier(column.key)
    is_text = source_type in ("text", "character varying")
    # concat() prints a value as the stream does; a cast would print true, where the stream says t.
    printed = name if is_text else sql.SQL("CASE WHEN {0} IS NOT NULL THEN concat({0}) END").format(name)
    if column.type == "varchar":
        return sql.SQL("rtrim({}, ' ')").format(printed) if column.is_trimmed else printed
    if column.type == "date":
        if source_type == "date":
            return _in_range(name, "'0001-01-01'", "'9999-12-31'", "to_char({}, 'YYYY-MM-DD')")
        return _read(printed, DATE, "{}")
    if column.type == "timestamp":
        if source_type in ("timestamp with time zone", "timestamp without time zone"):
            return _in_range(name, "'0001-01-01'", "'9999-12-31 23:59:59.999999'", f"to_char({{}}, '{ISO}')")
        cut = "regexp_replace({}, '([.][0-9]{{6}})[0-9]+', '\\1')"
        return _read(printed, TIMESTAMP, f"to_char({cut}::timestamptz, '{ISO}')")
    if column.type.startswith("decimal("):
        precision, scale = (int(number) for number in column.type[8:-1].split(","))
        limit, rounded = 10 ** (precision - scale), f"round({{0}}::numeric, {scale})"
        number = f"CASE WHEN abs({rounded}) < {limit} THEN {rounded}::text END"
        if source_type in ("numeric", "bigint", "integer", "smallint"):
            return sql.SQL(number).format(name)
        return sql.SQL("CASE WHEN {0} ~ {1} THEN {2} END").format(
            printed, sql.Literal(f"^{DECIMAL}$"), sql.SQL(number).format(printed)
        )
    raise OperatorError(f"{column.column} is of type {column.type}, which verify cannot compare yet")


def _in_range(name: sql.Composable, first: str, last: str, text: str) -> sql.Composable:
    return sql.SQL(f"CASE WHEN {{0}} BETWEEN {first} AND {last} THEN {text.replace('{}', '{0}')} END").format(name)


def _read(printed: sql.Composable, pattern: str, text: str) -> sql.Composable:
    """The text of a date or timestamp that is held as something else, if the calendar has that day.

    Nested, since PostgreSQL may evaluate the operands of AND in any order.
    """
    month, day = "substr({0}, 6, 2)", "substr({0}, 9, 2)::int"
    last_day = f"extract(day FROM make_date(substr({{0}}, 1, 4)::int, {month}::int, 1) + interval '1 month -1 day')"
    has_day = f"CASE WHEN {day} BETWEEN 1 AND {last_day} THEN {text.replace('{}', '{0}')} END"
    has_month = f"CASE WHEN {month} BETWEEN '01' AND '12' THEN {has_day} END"
    return sql.SQL(f"CASE WHEN {{0}} ~ {{1}} THEN {has_month} END").format(printed, sql.Literal(f"^{pattern}$"))
