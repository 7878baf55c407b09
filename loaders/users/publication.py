"""The customer's table and its publication: which rows and columns are read, and whether the application is safe.

Takes no lock beyond a read, except for the moment in which a missing publication is created.
"""

import re
from dataclasses import dataclass

import psycopg
from psycopg import sql

from loaders.errors import OperatorError, TransientError
from loaders.users import replica_identity, shape
from loaders.users.replica_identity import Relation
from loaders.users.scrub import KEY
from loaders.users.shape import Shape

RESNAPSHOT = "python -m loaders users --resnapshot"
CREATION_TIMEOUT = "30s"  # with SESSION's lock_timeout, all that a publication may take
IDENTIFIER_BYTES = 63  # PostgreSQL cuts longer names

PART = r'(?:"((?:[^"]|"")+)"|([^".]+))'
NAME = re.compile(rf"(?:{PART}\.)?{PART}")
KINDS = {
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "S": "a sequence",
    "i": "an index",
    "I": "an index",
    "c": "a type",
}


@dataclass(frozen=True)
class SourceTable:
    """A table of the customer's."""

    oid: int
    schema: str
    name: str
    kind: str  # relkind: r, or p where it has partitions

    @property
    def qualified_name(self) -> str:
        return qualified(self.schema, self.name)

    @property
    def from_item(self) -> sql.Composed:
        """What the snapshot reads: ONLY the table, as a change is of the table alone. Partitions are part of it."""
        return sql.SQL("{}{}").format(
            sql.SQL("ONLY " if self.kind == "r" else ""), sql.Identifier(self.schema, self.name)
        )


@dataclass(frozen=True)
class Table(SourceTable):
    """The customer's table, and the publication that its changes are read through."""

    publication: str
    shape: Shape  # of both in the catalogue


def qualified(schema: str, name: str) -> str:
    """A table's name as CUSTOMER_TABLE takes it: a part with a dot or a quotation mark is quoted."""
    return ".".join(sql.Identifier(part).as_string() if re.search('[".]', part) else part for part in (schema, name))


def find_table(connection: psycopg.Connection, name: str) -> SourceTable:
    """The table of that name, which PostgreSQL can publish whole. Raises OperatorError."""
    if not (parts := NAME.fullmatch(name)):
        raise OperatorError(
            f"CUSTOMER_TABLE is {name!r}: give schema.table, a part with a dot or a quotation mark in double quotes"
        )
    quoted_schema, plain_schema, quoted_name, plain_name = parts.groups()
    schema = quoted_schema.replace('""', '"') if quoted_schema else plain_schema or "public"
    name = quoted_name.replace('""', '"') if quoted_name else plain_name
    found = connection.execute(
        """
        SELECT c.oid, c.relkind::text, c.relpersistence::text
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = %s AND c.relname = %s
        """,
        [schema, name],
    ).fetchone()
    oid, kind, persistence = found or (0, "", "")
    table = SourceTable(oid, schema, name, kind)
    if kind not in ("r", "p") or persistence != "p":
        what = KINDS.get(kind) or {"u": "an unlogged table", "t": "a temporary table"}.get(persistence)
        raise OperatorError(
            f"CUSTOMER_TABLE: there is no ordinary table {table.qualified_name} in the customer database"
            + (f": it is {what}, whose changes PostgreSQL does not publish" if what else "")
        )
    return table


def publish(
    connection: psycopg.Connection, table: SourceTable, *, is_standby: bool, landed: Shape | str | None = None
) -> Table:
    """The table with its publication, which is created where it is missing. `landed` is the state's shape.

    Raises OperatorError when changes could not be followed, when publishing the table breaks or would break the
    application's writes, or when the publication is not the loader's to create.
    """
    publication = _find(connection, table, landed)
    relations = replica_identity.relations(connection, table=table.oid, publication=publication and publication[0])
    _check_rows(connection, table, relations)
    _check_writes(connection, relations, publication and publication[1])
    _check_key(connection, table, relations)
    if not publication:
        _create(connection, table, is_standby=is_standby)
        publication = _find(connection, table, landed)
    oid, name = publication
    columns = published(connection, name, table)
    return Table(
        **vars(table), publication=name, shape=shape.read(connection, table=table.oid, publication=oid, columns=columns)
    )


def published(connection: psycopg.Connection, publication: str, table: SourceTable) -> list[str]:
    """The columns that changes carry, in the table's order.

    Raises OperatorError when the publication does not hold the table, or not all of its rows and kinds of changes.
    """
    # As JSON, because older servers do not have all of these columns: prqual and prattrs came with PostgreSQL 15,
    # pubgencols with 18. Until 17 no generated column is published, although pg_publication_tables lists them in 15.
    found = connection.execute(
        """
        SELECT p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate,
               p.pubviaroot,
               r.oid IS NOT NULL,
               to_jsonb(r) ->> 'prqual' IS NULL,
               ARRAY(
                   SELECT attname::text FROM pg_attribute
                   WHERE attrelid = %(table)s AND attnum > 0 AND NOT attisdropped
                     AND CASE jsonb_typeof(to_jsonb(r) -> 'prattrs')
                         WHEN 'array' THEN to_jsonb(r) -> 'prattrs' @> to_jsonb(attnum)
                         ELSE attgenerated = '' OR (attgenerated = 's' AND to_jsonb(p) ->> 'pubgencols' = 's')
                         END
                   ORDER BY attnum
               )
        FROM pg_publication p LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = %(table)s
        WHERE p.pubname = %(publication)s
        """,
        {"table": table.oid, "publication": publication},
    ).fetchone()
    all_operations, via_root, is_member, all_rows, columns = found or (False, False, False, False, [])
    alter = sql.SQL("ALTER PUBLICATION {}").format(sql.Identifier(publication)).as_string()
    if not is_member:
        raise OperatorError(
            f"the publication {publication} does not hold {table.qualified_name} by its name: as the table's owner run "
            f"{alter} ADD TABLE {table.from_item.as_string()}, then {RESNAPSHOT}. One that is FOR ALL TABLES cannot: "
            "drop it, because it can also make the application's writes to other tables fail"
        )
    if not (all_operations and all_rows):
        raise OperatorError(
            f"the publication {publication} hides changes: it must publish insert, update, delete and truncate, "
            f"without a row filter. Alter it, then {RESNAPSHOT}"
        )
    if table.kind == "p" and not via_root:
        raise OperatorError(
            f"the publication {publication} publishes the partitions of {table.qualified_name} under their own names: "
            f"{alter} SET (publish_via_partition_root = true), then {RESNAPSHOT}"
        )
    if KEY not in columns:
        raise OperatorError(
            f"the publication {publication} leaves out the key {KEY} of {table.qualified_name}: "
            f"{alter} SET TABLE {table.from_item.as_string()}, then {RESNAPSHOT}"
        )
    return columns


def _find(connection: psycopg.Connection, table: SourceTable, landed: Shape | str | None) -> tuple[int, str] | None:
    """OID and name of the publication: the one that was landed from, whatever its name is now, or the expected one."""
    known = shape.from_state(landed) if landed else None
    former = known["publication"]["oid"] if known and known["table"] == table.oid else None
    return connection.execute(
        "SELECT oid, pubname::text FROM pg_publication WHERE oid = %(former)s OR pubname = %(name)s "
        "ORDER BY oid = %(former)s DESC NULLS LAST LIMIT 1",
        {"former": former, "name": _name(table)},
    ).fetchone()


def _name(table: SourceTable) -> str:
    prefix = "lakehouse_"
    return prefix + table.name.encode()[: IDENTIFIER_BYTES - len(prefix)].decode(errors="ignore")


def _check_rows(connection: psycopg.Connection, table: SourceTable, relations: list[Relation]) -> None:
    """Raise OperatorError when the table has rows whose changes are not changes of the table."""
    children = connection.execute(
        """
        SELECT string_agg(format('%%I.%%I', n.nspname, c.relname), ', ')
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE i.inhparent = %s AND NOT c.relispartition AND c.relpersistence <> 't'
        """,
        [table.oid],
    ).fetchone()[0]
    if children:
        raise OperatorError(
            f"{table.qualified_name} has tables that inherit from it ({children}): a query of it reads their rows too, "
            "but PostgreSQL does not publish changes of those as its changes. Turn it into a partitioned table, "
            "or end the inheritance (ALTER TABLE ... NO INHERIT)"
        )
    for relation in relations:
        if relation.kind == "f" or relation.persistence != "p":
            what = "a foreign table" if relation.kind == "f" else "an unlogged table"
            raise OperatorError(
                f"the partition {relation.name} is {what}: PostgreSQL publishes no changes of it. "
                + ("Detach it" if relation.kind == "f" else f"ALTER TABLE {relation.name} SET LOGGED")
            )


def _check_writes(connection: psycopg.Connection, relations: list[Relation], publication: str | None) -> None:
    for relation in relations:
        if reason := replica_identity.unwritable(relation, connection.info.server_version):
            raise OperatorError(
                f"THE APPLICATION CANNOT WRITE: its UPDATE and DELETE on {relation.name} fail because of the "
                f"publication {publication}. {reason}"
                if publication
                else f"publishing {relation.name} would make the application's UPDATE and DELETE on it fail: {reason}. "
                "Nothing was changed"
            )


def _check_key(connection: psycopg.Connection, table: SourceTable, relations: list[Relation]) -> None:
    for relation in relations:
        if reason := replica_identity.unkeyed(relation):
            raise OperatorError(f"rows could not be followed: {reason}")
    if not replica_identity.has_unique_key(connection, table.oid):
        raise OperatorError(
            f"rows could not be followed: dbt knows a row of {table.qualified_name} by {KEY}, which must be NOT NULL "
            f"and have a valid unique index of its own that is not deferrable. Make {KEY} the primary key"
        )


def _create(connection: psycopg.Connection, table: SourceTable, *, is_standby: bool) -> None:
    """Create the publication, unless the application's writes then fail."""
    create = sql.SQL("CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)").format(
        sql.Identifier(_name(table)), table.from_item
    )
    if is_standby:
        raise OperatorError(f"the publication is missing; on the primary run: {create.as_string()}")
    # Any column will do, but these cannot be set to themselves.
    column = connection.execute(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped "
        "AND attgenerated = '' AND attidentity <> 'a' LIMIT 1",
        [table.oid],
    ).fetchone()
    writes = [sql.SQL("DELETE FROM {}").format(sql.Identifier(table.schema, table.name))]
    if column:
        writes.append(
            sql.SQL("UPDATE {} SET {column} = {column}").format(
                sql.Identifier(table.schema, table.name), column=sql.Identifier(*column)
            )
        )
    try:
        with connection.transaction():
            connection.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(CREATION_TIMEOUT))
            connection.execute(create)
            for write in writes:
                _ask(connection, write)
    except psycopg.errors.DuplicateObject:
        raise TransientError(
            f"the publication {_name(table)} has just been created by somebody else: run again"
        ) from None
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction) as error:
        raise OperatorError(
            f"the publication is missing and only the table's owner may create it ({error.diag.message_primary}): "
            f"{create.as_string()}"
        ) from None


def _ask(connection: psycopg.Connection, write: sql.Composed) -> None:
    """Raise OperatorError if PostgreSQL refuses the statement: EXPLAIN runs nothing, but is refused all the same."""
    try:
        connection.execute(sql.SQL("EXPLAIN {}").format(write))
    except (psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.InvalidColumnReference) as error:
        raise OperatorError(
            f"publishing the table would make the application's writes fail: {error.diag.message_primary}. "
            f"{error.diag.message_detail or 'It needs a replica identity'}. Nothing was changed"
        ) from None
