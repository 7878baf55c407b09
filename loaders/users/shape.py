"""What the catalogue shows of the published table, and what happened to it between two looks.

Some DDL changes rows without a change event, or hides events for a while. The stream does not show it, but the
catalogue does: catalogue rows have an OID, which a recreated object does not keep, and an `xmin`, the transaction that
last altered them. So a publication that was altered and altered back is still noticed. A standby shows the same.

What leaves no trace in the catalogue is found by `python -m loaders verify` only.
"""

from collections.abc import Iterator, Mapping
from typing import NotRequired, TypedDict

import psycopg


class Publication(TypedDict):
    """The publication and the table's membership in it."""

    oid: int
    member: int | None  # OID of the membership: it changes when the table is removed and added again
    xmin: NotRequired[str]
    member_xmin: NotRequired[str | None]


class Column(TypedDict):
    """A published column."""

    number: int  # attnum: a column that is dropped and added again gets another one
    type: str  # without length or precision: where a change of those changes values, the table is rewritten
    missing: bool  # rows older than the column read as its default, which no event said
    xmin: str


class Part(TypedDict):
    """The table itself, or one of its partitions."""

    name: str
    bound: str | None  # None: the table itself
    attached: str | None  # xmin of its attachment
    created_here: bool  # it was created as a partition, so it had no rows before it was attached
    file: int  # relfilenode: TRUNCATE, VACUUM FULL and rewriting DDL replace it; 0: its partitions have the rows
    filed: str  # xmin of the partition's row in pg_class: the transaction that replaced the file, if nothing came since


class Shape(TypedDict):
    """All of it, as the state keeps it. A state of format 1 knows only the OIDs of `table` and `publication`."""

    table: int
    publication: Publication
    width: NotRequired[int]  # the highest column number that the table has had
    columns: NotRequired[dict[str, Column]]
    parts: NotRequired[dict[str, Part]]  # by OID
    spellings: NotRequired[dict[str, str]]  # labels of enums by their OIDs, attributes of row types by theirs


def read(connection: psycopg.Connection, *, table: int, publication: int, columns: list[str]) -> Shape:
    """The shape of a published table; `columns` are the published ones."""
    (publication_row,) = connection.execute(
        """
        SELECT jsonb_build_object('oid', p.oid::bigint, 'xmin', p.xmin::text,
                                  'member', r.oid::bigint, 'member_xmin', r.xmin::text)
        FROM pg_publication p LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = %s
        WHERE p.oid = %s
        """,
        [table, publication],
    ).fetchone()
    width, column_rows = connection.execute(
        """
        SELECT max(attnum)::int,
               jsonb_object_agg(attname, jsonb_build_object(
                   'number', attnum, 'type', format_type(atttypid, NULL), 'missing', atthasmissing, 'xmin', xmin::text
               )) FILTER (WHERE attname = ANY(%s) AND NOT attisdropped)
        FROM pg_attribute WHERE attrelid = %s AND attnum > 0
        """,
        [columns, table],
    ).fetchone()
    # A table that is created as a partition has column rows as old as its system columns' ones, to the very command;
    # attaching a table updates all of its columns' rows.
    (parts,) = connection.execute(
        """
        SELECT jsonb_object_agg(c.oid::text, jsonb_build_object(
            'name', format('%%s.%%s', n.nspname, c.relname),
            'bound', CASE WHEN c.oid <> %(table)s THEN pg_get_expr(c.relpartbound, c.oid) END,
            'attached', i.xmin::text,
            'created_here', EXISTS (
                SELECT FROM pg_attribute a JOIN pg_attribute s ON s.attrelid = a.attrelid AND s.attname = 'tableoid'
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.xmin = s.xmin AND a.cmin = s.cmin
            ),
            'file', c.relfilenode::bigint,
            'filed', c.xmin::text
        ))
        FROM (SELECT %(table)s::oid AS oid UNION SELECT relid FROM pg_partition_tree(%(table)s::oid)) tree
        JOIN pg_class c ON c.oid = tree.oid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND c.oid <> %(table)s
        """,
        {"table": table},
    ).fetchone()
    (spellings,) = connection.execute(
        """
        WITH RECURSIVE used AS (
            SELECT atttypid AS oid FROM pg_attribute WHERE attrelid = %s AND attname = ANY(%s) AND NOT attisdropped
            UNION
            SELECT part.oid FROM used
            JOIN pg_type t ON t.oid = used.oid
            CROSS JOIN LATERAL (
                SELECT unnest(ARRAY[t.typbasetype, t.typelem]) AS oid
                UNION ALL SELECT rngsubtype FROM pg_range WHERE t.oid IN (rngtypid, rngmultitypid)
                UNION ALL SELECT atttypid FROM pg_attribute
                    WHERE attrelid = t.typrelid AND t.typtype = 'c' AND attnum > 0
            ) part
            WHERE part.oid <> 0
        )
        SELECT jsonb_object_agg(oid::text, spelling) FROM (
            SELECT e.oid, e.enumlabel::text AS spelling FROM pg_enum e JOIN used ON e.enumtypid = used.oid
            UNION ALL
            SELECT t.oid, string_agg(a.attnum::text, ',' ORDER BY a.attnum)
            FROM used JOIN pg_type t USING (oid)
            JOIN pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
            WHERE t.typtype = 'c' GROUP BY t.oid
        ) spelled
        """,
        [table, columns],
    ).fetchone()
    return {
        "table": table,
        "publication": publication_row,
        "width": width,
        "columns": column_rows or {},
        "parts": parts,
        "spellings": spellings or {},
    }


def from_state(saved: Shape | str) -> Shape:
    """The shape in a state; format 1 had the OIDs of publication, membership and table as `1/2/3`."""
    if not isinstance(saved, str):
        return saved
    publication, member, table = saved.split("/")
    return {
        "table": int(table),
        "publication": {"oid": int(publication), "member": int(member) if member != "None" else None},
    }


def differences(before: Shape, now: Shape) -> list[str]:
    """What happened between two looks that may have changed rows, or hidden changes, without a change event.

    Each is a clause without a full stop. What a shape of format 1 does not know is not compared.
    """
    if before["table"] != now["table"]:
        return ["the table was recreated, or another one has taken its name"]
    return [
        *_of_publication(before["publication"], now["publication"]),
        *_of_parts(before.get("parts", now["parts"]), now["parts"]),
        *_of_columns(before, now),
        *_of_spellings(before.get("spellings", {}), now["spellings"]),
    ]


def _of_publication(before: Publication, now: Publication) -> Iterator[str]:
    if before["oid"] != now["oid"]:
        yield "the publication was recreated"
    elif before["member"] != now["member"] or before.get("member_xmin", now["member_xmin"]) != now["member_xmin"]:
        yield "the table was removed from its publication and added again, or was published with other columns or rows"
    elif before.get("xmin", now["xmin"]) != now["xmin"]:
        yield "the publication was altered (a new owner or name alone would look the same)"


def _of_parts(before: Mapping[str, Part], now: Mapping[str, Part]) -> Iterator[str]:
    yield from (
        f"the partition {part['name']} was detached or dropped" for oid, part in before.items() if oid not in now
    )
    for oid, part in now.items():
        former = before.get(oid)
        if (former is None or former["attached"] != part["attached"]) and not part["created_here"]:
            yield f"the partition {part['name']} was attached"
    if not _all_truncated(before, now):
        for oid in _rewritten(before, now):
            if now[oid]["bound"] is not None:
                yield (
                    f"the partition {now[oid]['name']} was truncated or rewritten "
                    "(VACUUM FULL, CLUSTER or another tablespace alone would look the same)"
                )


def _rewritten(before: Mapping[str, Part], now: Mapping[str, Part]) -> list[str]:
    return [oid for oid, part in now.items() if oid in before and before[oid]["file"] != part["file"]]


def _all_truncated(before: Mapping[str, Part], now: Mapping[str, Part]) -> bool:
    """Whether one transaction gave all partitions that were there new files: so does TRUNCATE of the whole table.

    That one is published. Of a table with a single partition it cannot be told from TRUNCATE of that partition.
    """
    rewritten = _rewritten(before, now)
    stored = [oid for oid, part in now.items() if oid in before and part["file"]]
    return len(stored) > 1 and rewritten == stored and len({now[oid]["filed"] for oid in stored}) == 1


def _of_columns(before: Shape, now: Shape) -> Iterator[str]:
    if "columns" not in before:
        return
    rewritten = bool(_rewritten(before["parts"], now["parts"]))
    for name, column in now["columns"].items():
        former = before["columns"].get(name)
        if former is None:
            if column["number"] <= before["width"]:
                yield f"the column {name} was renamed to that name, or was not published before"
            elif column["missing"] or rewritten:
                yield f"the column {name} was added with a value for the rows that were there"
        elif former["number"] != column["number"]:
            yield f"the column {name} was dropped and added again, or another one was renamed to {name}"
        elif rewritten and former["xmin"] != column["xmin"]:
            yield f"the table was rewritten and its column {name} altered, so values may have changed"
        elif _kind(former["type"]) != _kind(column["type"]):
            yield f"the type of the column {name} was changed, so values may read differently"


def _kind(data_type: str) -> str:
    """The type, one name for those that have the same values in the same text."""
    return data_type.replace("character varying", "text")


def _of_spellings(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    if any(before.get(oid, spelling) != spelling for oid, spelling in now.items()):
        yield "a label of an enum was renamed or a row type altered, so values read differently"
