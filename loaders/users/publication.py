"""The customer's table and its publication: which rows and columns are read, and whether the application is safe.

Takes no lock beyond a read, except for the moment in which a missing publication is created.
"""

from dataclasses import dataclass

import psycopg
from psycopg import sql

from loaders.errors import OperatorError
from loaders.users import shape
from loaders.users.shape import Shape

RESNAPSHOT = "python -m loaders users --resnapshot"


@dataclass(frozen=True)
class Table:
    """The customer's table, and the publication that its changes are read through."""

    oid: int
    schema: str
    name: str
    publication: str
    shape: Shape  # of it and its publication in the catalogue

    @property
    def qualified_name(self) -> str:
        return f"{self.schema}.{self.name}"


def find_table(connection: psycopg.Connection, qualified_name: str, *, is_standby: bool) -> Table:
    """The published table; its publication is created where it is missing.

    Raises OperatorError when there is no such table, when publishing it would break the application, or when its
    publication is not ours to create or would hide changes.
    """
    schema, _, name = qualified_name.rpartition(".")
    schema = schema or "public"
    found = connection.execute(
        """
        SELECT c.oid,
               c.relreplident = 'f' OR EXISTS (
                   SELECT FROM pg_index i
                   WHERE i.indrelid = c.oid
                     AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END
               )
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
        """,
        [schema, name],
    ).fetchone()
    if not found:
        raise OperatorError(f"CUSTOMER_TABLE: there is no ordinary table {schema}.{name} in the customer database")
    oid, has_identity = found
    if not has_identity:
        raise OperatorError(
            f"{schema}.{name} has no primary key or other replica identity: publishing it would make the application's "
            "updates and deletes fail. Give it a primary key or ALTER TABLE ... REPLICA IDENTITY"
        )
    publication = f"lakehouse_{name}"
    create = sql.SQL("CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)").format(
        sql.Identifier(publication), sql.Identifier(schema, name)
    )
    if not connection.execute("SELECT FROM pg_publication WHERE pubname = %s", [publication]).rowcount:
        if is_standby:
            raise OperatorError(f"the publication is missing; on the primary run: {create.as_string()}")
        try:
            connection.execute(create)
        except psycopg.errors.InsufficientPrivilege:
            raise OperatorError(
                f"the publication is missing and only the table's owner may create it: {create.as_string()}"
            ) from None
    publication_oid, columns = published(connection, publication, schema, name)
    found_shape = shape.read(connection, table=oid, publication=publication_oid, columns=columns)
    return Table(oid, schema, name, publication, found_shape)


def published(connection: psycopg.Connection, publication: str, schema: str, name: str) -> tuple[int, list[str]]:
    """The publication's OID, and the columns that changes carry.

    Raises OperatorError when the publication does not hold the table, or not all of its rows and kinds of changes.
    """
    # As JSON, because PostgreSQL 14 knows neither row filters nor column lists, and has no columns of those names.
    # Until PostgreSQL 17 generated columns are never published, although 15 lists them in `attnames`.
    found = connection.execute(
        """
        SELECT p.oid, p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate,
               to_jsonb(t) ->> 'rowfilter' IS NULL,
               ARRAY(
                   SELECT attname::text FROM pg_attribute a
                   WHERE attrelid = format('%%I.%%I', t.schemaname, t.tablename)::regclass
                     AND attnum > 0 AND NOT attisdropped
                     AND coalesce((to_jsonb(t) -> 'attnames') ? attname, true)
                     AND (attgenerated = '' OR current_setting('server_version_num')::int >= 180000)
                   ORDER BY attnum
               )
        FROM pg_publication p
        JOIN pg_publication_tables t ON t.pubname = p.pubname AND t.schemaname = %s AND t.tablename = %s
        WHERE p.pubname = %s
        """,
        [schema, name, publication],
    ).fetchone()
    if not found:
        raise OperatorError(
            f"the publication {publication} does not hold {schema}.{name}: "
            f"ALTER PUBLICATION ... ADD TABLE, then {RESNAPSHOT}"
        )
    publication_oid, all_operations, all_rows, columns = found
    if not (all_operations and all_rows):
        raise OperatorError(
            f"the publication {publication} hides changes: it must publish insert, update, delete and truncate, "
            f"without a row filter. Alter it, then {RESNAPSHOT}"
        )
    return publication_oid, columns
