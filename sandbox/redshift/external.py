"""External schemas: tables of the lake, which a statement that names them sees as they are now.

Redshift reads the lake where it lies. Here each external table is a copy, renewed before a statement that names it when
the lake's table has another version than the copy. lakes.py knows the lakes.
"""

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import psycopg
from psycopg import sql

from sandbox.redshift import rewrite

LOCK_PATIENCE = "20s"  # for a reader of a table whose columns have changed

# Glue's type -> PostgreSQL's for what Redshift makes of it (querying-iceberg-supported-data-types).
_TYPES = {
    "string": "varchar(16384)",
    "boolean": "boolean",
    "tinyint": "smallint",
    "smallint": "smallint",
    "int": "integer",
    "bigint": "bigint",
    "float": "real",
    "double": "double precision",
    "date": "date",
    "timestamp": "timestamp",
}
# A longer text is cut (same page). It says at so many characters, VARCHAR counts bytes: this is the stricter.
_LONGEST_TEXT = 16384


class ExternalError(Exception):
    """A table of the lake that cannot be read, and why."""


class Table(NamedTuple):
    """A table of the lake: its columns with Glue's types, and what changes whenever its rows do."""

    columns: tuple[tuple[str, str], ...]
    version: str


class Lake(Protocol):
    """Where the rows of external tables come from; a database is Glue's name of a schema."""

    def tables(self, database: str) -> Mapping[str, Table]:
        """What the catalogue lists now."""
        ...

    def rows(self, database: str, name: str) -> Iterator[Sequence[Any]]:
        """The rows of a table, values in the order of its columns."""
        ...


class ExternalTables:
    """The copies in PostgreSQL; `connect` gives a connection of its superuser."""

    def __init__(self, lake: Lake, connect: Callable[[], psycopg.Connection]) -> None:
        self._lake, self._connect = lake, connect
        self._lock = threading.Lock()
        self._connection: psycopg.Connection | None = None

    def prepare(self, statement: str) -> None:
        """Renew what the statement names and the lake has changed. Raises ExternalError."""
        named = rewrite.dotted_names(statement)
        asks_catalogue = "svv_external_" in statement.lower()
        if not named and not asks_catalogue:
            return
        with self._lock, self._open().transaction():
            connection = self._open()
            schemas = dict(connection.execute("select schemaname, databasename from rs.external_schemas").fetchall())
            for schema in schemas if asks_catalogue else schemas.keys() & {schema for schema, _ in named}:
                tables = self._lake.tables(schemas[schema])
                self._list(connection, schema, tables)
                for name in tables.keys() & {name for of, name in named if of == schema}:
                    self._renew(connection, schema, name, tables[name], schemas[schema])

    def _open(self) -> psycopg.Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        return self._connection

    def _list(self, connection: psycopg.Connection, schema: str, tables: Mapping[str, Table]) -> None:
        """Give the schema the tables and columns that the lake's catalogue lists; a table that changes is emptied."""
        known: dict[str, list[tuple[str, str]]] = {}
        listed = "select tablename, columnname, external_type from rs.external_columns where schemaname = %s"
        for table, column, kind in connection.execute(f"{listed} order by tablename, columnnum", [schema]):
            known.setdefault(table, []).append((column, kind))
        for name in known.keys() | tables.keys():
            columns = tables[name].columns if name in tables else ()
            if tuple(known.get(name, ())) == columns:
                continue
            where = sql.Identifier(schema, name)
            connection.execute(f"set local lock_timeout = '{LOCK_PATIENCE}'")
            connection.execute(sql.SQL("drop table if exists {}").format(where))
            for noted in ("external_columns", "external_versions"):
                connection.execute(f"delete from rs.{noted} where schemaname = %s and tablename = %s", [schema, name])
            if not columns:
                continue
            described = ", ".join(f'"{column}" {_postgres_type(kind)}' for column, kind in columns)
            connection.execute(sql.SQL("create table {} ({})").format(where, sql.SQL(described)))
            # Usage of an external schema is all that reading its tables needs (r_GRANT).
            connection.execute(sql.SQL("grant select on {} to public").format(where))
            for number, (column, kind) in enumerate(columns, 1):
                row = [schema, name, column, kind, number]
                connection.execute("insert into rs.external_columns values (%s, %s, %s, %s, %s)", row)

    def _renew(self, connection: psycopg.Connection, schema: str, name: str, table: Table, database: str) -> None:
        where = "where schemaname = %s and tablename = %s"
        noted = connection.execute(f"select version from rs.external_versions {where}", [schema, name]).fetchone()
        if noted == (table.version,):
            return
        # Not TRUNCATE: it would wait for whoever has read the table in a transaction that is still open.
        connection.execute(sql.SQL("delete from {}").format(sql.Identifier(schema, name)))
        into = sql.SQL("copy {} from stdin").format(sql.Identifier(schema, name))
        with connection.cursor() as cursor, cursor.copy(into) as copy:
            for row in self._lake.rows(database, name):
                copy.write_row([_cut(value) if isinstance(value, str) else value for value in row])
        connection.execute(f"delete from rs.external_versions {where}", [schema, name])
        connection.execute("insert into rs.external_versions values (%s, %s, %s)", [schema, name, table.version])


def _cut(text: str) -> str:
    """A text as far as a VARCHAR holds it; no character is split."""
    encoded = text.encode()
    return text if len(encoded) <= _LONGEST_TEXT else encoded[:_LONGEST_TEXT].decode(errors="ignore")


def _postgres_type(glue_type: str) -> str:
    if found := re.fullmatch(r"decimal\((\d+), ?(\d+)\)", glue_type):
        return f"numeric({found[1]}, {found[2]})"
    try:
        return _TYPES[glue_type]
    except KeyError:
        raise ExternalError(f"the stand-in cannot read a column of the type {glue_type}") from None
