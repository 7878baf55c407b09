"""The customer's table and its publication: which rows and columns are read, and whether the application is safe.

Takes no lock beyond a read, except for the moment in which a missing publication is created.
"""

from dataclasses import dataclass

import psycopg
from psycopg import sql

from loaders.errors import OperatorError

RESNAPSHOT = "python -m loaders users --resnapshot"


@dataclass(frozen=True)
class Table:
    """The customer's table, and the publication that its changes are read through."""

    oid: int
    schema: str
    name: str
    publication: str
    published_as: str  # changes when the table or its publication is made anew, and may have missed changes then

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
    return Table(oid, schema, name, publication, _published_as(connection, publication, schema, name, oid))


def _published_as(connection: psycopg.Connection, publication: str, schema: str, name: str, oid: int) -> str:
    found = connection.execute(
        """
        SELECT p.oid, r.oid, p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate, t.rowfilter IS NULL
        FROM pg_publication p
        JOIN pg_publication_tables t ON t.pubname = p.pubname AND t.schemaname = %s AND t.tablename = %s
        LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = %s
        WHERE p.pubname = %s
        """,
        [schema, name, oid, publication],
    ).fetchone()
    if not found:
        raise OperatorError(
            f"the publication {publication} does not hold {schema}.{name}: "
            f"ALTER PUBLICATION ... ADD TABLE, then {RESNAPSHOT}"
        )
    publication_oid, membership_oid, all_operations, all_rows = found
    if not (all_operations and all_rows):
        raise OperatorError(
            f"the publication {publication} hides changes: it must publish insert, update, delete and truncate, "
            f"without a row filter. Alter it, then {RESNAPSHOT}"
        )
    return f"{publication_oid}/{membership_oid}/{oid}"
