"""Replica identity: what says in a change which row it is of. PostgreSQL needs one, and dbt needs it to be the key.

While a table is published, PostgreSQL refuses the application's UPDATE and DELETE on it unless it has an identity that
is fit for that. `unwritable` decides that as PostgreSQL does, from the catalogue, which any role may read.
"""

from dataclasses import dataclass

import psycopg
from psycopg.rows import class_row

from loaders.users.scrub import KEY

FULL = "f"


@dataclass(frozen=True)
class Relation:
    """A table that is, or would be, published, or a partition of it."""

    name: str  # quoted where SQL needs it
    kind: str  # relkind
    persistence: str
    identity: str  # relreplident
    identity_columns: list[str]  # of the index that is the identity; none where there is no index that can be
    partition_columns: list[str]  # by which the table is partitioned: PostgreSQL wants them in every unique index of it
    stored: bool  # whether it has generated columns that are stored
    virtual: bool  # or computed when they are read
    listed: list[str] | None  # the columns that its publication lists
    stored_published: bool  # whether its publication holds generated columns

    @property
    def has_identity(self) -> bool:
        return self.identity == FULL or bool(self.identity_columns)


def relations(connection: psycopg.Connection, *, table: int, publication: int | None) -> list[Relation]:
    """All that the publication publishes, and else the table; each with its partitions."""
    with connection.cursor(row_factory=class_row(Relation)) as cursor:
        return cursor.execute(
            """
            WITH member AS (
                SELECT r.prrelid AS oid, to_jsonb(r) -> 'prattrs' AS numbers,
                       coalesce(to_jsonb(p) ->> 'pubgencols' = 's', false) AS stored_published
                FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
                WHERE p.oid = %(publication)s
                UNION ALL
                SELECT %(table)s::oid, NULL, false WHERE %(publication)s::oid IS NULL
            ), listed AS (
                SELECT member.*, (
                    SELECT array_agg(attname::text) FROM pg_attribute
                    WHERE attrelid = member.oid AND numbers @> to_jsonb(attnum)
                ) AS names
                FROM member
            )
            SELECT format('%%I.%%I', n.nspname, c.relname) AS name,
                   c.relkind::text AS kind,
                   c.relpersistence::text AS persistence,
                   c.relreplident::text AS identity,
                   ARRAY(
                       SELECT a.attname::text FROM pg_index i
                       JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(i.indkey[0:i.indnkeyatts - 1])
                       WHERE i.indrelid = c.oid
                         AND i.indislive AND i.indisunique AND i.indimmediate AND i.indpred IS NULL
                         AND (i.indisvalid OR c.relkind = 'p')
                         AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END
                       ORDER BY a.attname
                   ) AS identity_columns,
                   ARRAY(
                       SELECT DISTINCT a.attname::text FROM pg_partition_tree(listed.oid::regclass) part
                       JOIN pg_partitioned_table p ON p.partrelid = part.relid
                       JOIN pg_attribute a ON a.attrelid = part.relid AND a.attnum = ANY(p.partattrs)
                   ) AS partition_columns,
                   EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attgenerated = 's') AS stored,
                   EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attgenerated = 'v') AS virtual,
                   listed.names AS listed,
                   listed.stored_published
            FROM listed
            CROSS JOIN LATERAL (SELECT listed.oid UNION SELECT relid FROM pg_partition_tree(listed.oid::regclass)) tree
            JOIN pg_class c ON c.oid = tree.oid
            JOIN pg_namespace n ON n.oid = c.relnamespace
            ORDER BY c.oid <> listed.oid, 1
            """,
            {"table": table, "publication": publication},
        ).fetchall()


def unwritable(relation: Relation, version: int) -> str | None:
    """Why PostgreSQL refuses UPDATE and DELETE on the relation while it is published, and what helps.

    None where it does not. `version` is server_version_num.
    """
    if relation.kind == "p":
        return None  # rows are in its partitions, which have identities of their own
    if not relation.has_identity:
        return (
            f"{relation.name} has no replica identity (a deferrable or invalid index is none). "
            f"ALTER TABLE {relation.name} REPLICA IDENTITY FULL lets the application write; better is "
            f"{_by_index(relation)}"
        )
    if relation.listed is not None and (
        relation.identity == FULL or not set(relation.identity_columns) <= set(relation.listed)
    ):
        return (
            f"the publication's column list does not hold the replica identity of {relation.name}. Publish all "
            f"columns, or make the key the identity: {_by_index(relation)}"
        )
    if (
        version >= 180_000
        and relation.identity == FULL
        and (relation.virtual or (relation.stored and not relation.stored_published))
    ):
        return (
            f"{relation.name} has generated columns, which REPLICA IDENTITY FULL holds and the publication does not. "
            f"Make the key the identity: ALTER TABLE {relation.name} REPLICA IDENTITY DEFAULT where it is the primary "
            f"key, else {_by_index(relation)}"
        )
    return None


def unkeyed(relation: Relation) -> str | None:
    """Why changes of the relation do not say which row they are of by dbt's key, and what helps; None if they do."""
    if relation.identity == FULL or is_key(relation.identity_columns, relation.partition_columns):
        return None
    columns = ", ".join(relation.identity_columns) or "nothing"
    return (
        f"changes of {relation.name} name a row by {columns}, and dbt knows it by {KEY}. Where {KEY} is the primary "
        f"key: ALTER TABLE {relation.name} REPLICA IDENTITY DEFAULT; else {_by_index(relation)}"
    )


def is_key(columns: list[str], partition_columns: list[str]) -> bool:
    """Whether a unique index of these columns stands for dbt's key.

    Of a partitioned table it must hold the partition columns too, so that only the application knows that no two
    partitions have the same key; `python -m loaders verify` finds it where that is not so.
    """
    return KEY in columns and set(columns) <= {KEY, *partition_columns}


def has_unique_key(connection: psycopg.Connection, table: int) -> bool:
    """Whether an index keeps two rows of the table from having the same key, at each moment, and none has no key."""
    indexes = connection.execute(
        """
        SELECT ARRAY(
            SELECT attname::text FROM pg_attribute
            WHERE attrelid = i.indrelid AND attnum = ANY(i.indkey[0:i.indnkeyatts - 1])
        ), ARRAY(
            SELECT attname::text FROM pg_partition_tree(i.indrelid::regclass) part
            JOIN pg_partitioned_table p ON p.partrelid = part.relid
            JOIN pg_attribute ON attrelid = part.relid AND attnum = ANY(p.partattrs)
        )
        FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attname = %s AND a.attnotnull
        WHERE i.indrelid = %s AND i.indexprs IS NULL
          AND i.indislive AND i.indisvalid AND i.indisready AND i.indisunique AND i.indimmediate AND i.indpred IS NULL
        """,
        [KEY, table],
    )
    return any(is_key(columns, partition_columns) for columns, partition_columns in indexes)


def _by_index(relation: Relation) -> str:
    concurrently = "" if relation.kind == "p" else "CONCURRENTLY "
    return (
        f"CREATE UNIQUE INDEX {concurrently}users_key ON {relation.name} ({KEY}); "
        f"ALTER TABLE {relation.name} REPLICA IDENTITY USING INDEX users_key"
    )
