"""What is rewritten between Athena and Trino, and what Athena refuses. All here is pure: text in, a plan out.

Athena has two parsers, Hive's for most DDL and Trino's for the rest. A statement of Trino's goes through byte for byte.
Two kinds do not: DDL in Hive's words, and the properties of CREATE TABLE AS. Each rule's docstring says why it exists.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import ClassVar

MAX_BYTES = 262_144  # Athena's quota for one statement
DAYS_5 = "432000"  # seconds for which VACUUM keeps snapshots, unless the table says otherwise
CATALOG = "awsdatacatalog"


class RefusedError(Exception):
    """Athena takes no such statement (InvalidRequestException)."""


class FailedError(Exception):
    """A query that fails; the text is its StateChangeReason."""


# ---------- plans


@dataclass(frozen=True)
class Plan:
    """What is to be done for one statement; `kind` and `subkind` are Athena's StatementType and SubstatementType."""

    rule: ClassVar[str | None] = None
    kind: ClassVar[str] = "DDL"
    subkind: ClassVar[str] = ""


@dataclass(frozen=True)
class Query(Plan):
    """Trino runs it as it came."""

    sql: str
    kind: ClassVar[str] = "DML"


@dataclass(frozen=True)
class CreateView(Plan):
    """Trino runs it as it came; afterwards Glue is told the columns."""

    sql: str
    database: str
    name: str
    rule: ClassVar[str] = "view_columns"
    subkind: ClassVar[str] = "CREATE_VIEW"


@dataclass(frozen=True)
class CreateTableAs(Plan):
    """Trino runs `sql`: the properties in its own words, the query as it came."""

    sql: str
    rule: ClassVar[str] = "create_table_as"
    kind: ClassVar[str] = "DML"
    subkind: ClassVar[str] = "CREATE_TABLE_AS_SELECT"


@dataclass(frozen=True)
class Rewritten(Plan):
    """Trino runs `sql`, which says the same in its own words."""

    sql: str
    by: str
    statement: str


@dataclass(frozen=True)
class Vacuum(Plan):
    """Trino expires snapshots and removes orphans, by the age that the table's properties name."""

    table: str
    rule: ClassVar[str] = "vacuum"
    subkind: ClassVar[str] = "VACUUM"


@dataclass(frozen=True)
class CreateDatabase(Plan):
    """An entry in Glue."""

    name: str
    lenient: bool
    rule: ClassVar[str] = "create_database"
    subkind: ClassVar[str] = "CREATE_DATABASE"


@dataclass(frozen=True)
class CreateExternalTable(Plan):
    """An entry in Glue; `table` is its TableInput."""

    database: str
    table: Mapping[str, object]
    lenient: bool
    rule: ClassVar[str] = "create_external_table"
    subkind: ClassVar[str] = "CREATE_TABLE"


@dataclass(frozen=True)
class SetProperties(Plan):
    """Parameters of an entry in Glue, or of an Iceberg table's own metadata."""

    database: str
    name: str
    properties: Mapping[str, str]
    rule: ClassVar[str] = "set_properties"
    subkind: ClassVar[str] = "ALTER_TABLE_SET_PROPERTIES"


# ---------- reading a statement

_COMMENTS = re.compile(r"(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*", re.S)
_HIVE = re.compile(
    r"(create\s+(external\s+table|database|schema)|drop\s+(table|database|schema)|alter\s+table|msck|show|describe|desc)\b",
    re.I,
)
_NAME = r"`?(\w+)`?\.`?(\w+)`?"
_TRINO_NAME = rf'(?:"?{CATALOG}"?\.)?"?(\w+)"?\."?(\w+)"?'
_STRING = r"'(?:[^']|'')*'"
_END = r"\s*;?\s*"
_FLAGS = re.I | re.S


def plan(sql: str, today: date, *, results: str, enforced: bool) -> Plan:
    """What is to be done for a statement.

    `results` is where this query's results go (s3://.../), and `enforced` whether its workgroup alone decides that.

    Raises RefusedError for what Athena takes from nobody, and for what this stand-in has no rule for.
    """
    if len(sql.encode()) > MAX_BYTES:
        raise RefusedError(
            "1 validation error detected: Value at 'queryString' failed to satisfy constraint: "
            "Member must have length less than or equal to 262144"
        )
    start = _COMMENTS.match(sql).end()
    bare = sql[start:]
    if not bare.strip("; \n"):
        raise RefusedError("Query string is empty")  # as Athena: a comment alone is no statement
    words = bare.lower().split(None, 3)
    if _HIVE.match(bare):
        return _hive(bare, words, today)
    if words[0] == "optimize":
        return _optimize(bare)
    if words[0] == "vacuum":
        return _vacuum(bare)
    if words[:2] == ["create", "table"]:
        return _create_table_as(sql, start, results, enforced)
    if view := re.match(
        rf'create\s+(?:or\s+replace\s+)?view\s+"?(?:{CATALOG}"?\.)?"?(\w+)"?\."?(\w+)"?\s', bare, _FLAGS
    ):
        return CreateView(without_semicolon(sql), view[1].lower(), view[2].lower())
    return Query(without_semicolon(sql))


def without_semicolon(sql: str) -> str:
    """Athena takes a semicolon at the end, as dbt writes after some comments; Trino's protocol refuses it."""
    return re.sub(r"\s*;\s*\Z", "", sql)


def _hive(bare: str, words: Sequence[str], today: date) -> Plan:
    """Hive's DDL: it quotes names with backticks, and its grammar has no double quotes."""
    if '"' in re.sub(_STRING, "", bare):
        raise RefusedError(f"no viable alternative at input '{' '.join(words[:2])} \"'")
    if words[0] == "create":
        return _create_external_table(bare, today) if words[1] == "external" else _create_database(bare)
    if words[0] == "alter":
        return _alter(bare)
    if words[0] == "drop" and words[1] == "table":
        return _drop(bare)
    raise RefusedError(f"the local Athena has no rule for {' '.join(words[:2]).upper()}: see sandbox/athena/rules.py")


def _inside(text: str, opening: int) -> tuple[str, int]:
    """What stands between the parenthesis at `opening` and the one that closes it, and where the text goes on."""
    depth = 0
    for token in re.finditer(rf"{_STRING}|[()]", text[opening:]):
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if depth == 0:
            end = opening + token.start()
            return text[opening + 1 : end], end + 1
    raise RefusedError("mismatched input '<EOF>'. Expecting: ')'")


def _parts(text: str) -> list[str]:
    """A list's elements, by the commas that are in no parentheses, brackets or strings."""
    parts, depth, last = [], 0, 0
    for token in re.finditer(rf"{_STRING}|[()<>\[\],]", text):
        depth += {"(": 1, "<": 1, "[": 1, ")": -1, ">": -1, "]": -1}.get(token[0], 0)
        if token[0] == "," and depth == 0:
            parts.append(text[last : token.start()])
            last = token.end()
    return [part.strip() for part in [*parts, text[last:]]]


def _unquoted(text: str) -> str:
    return text.strip()[1:-1].replace("''", "'")


def _properties(text: str) -> dict[str, str]:
    pairs = [re.fullmatch(rf"({_STRING})\s*=\s*({_STRING})", part, _FLAGS) for part in _parts(text)]
    if not all(pairs):
        raise RefusedError(f"mismatched input in table properties: {text.strip()[:80]}")
    return {_unquoted(pair[1]): _unquoted(pair[2]) for pair in pairs if pair}


# ---------- rules


def _create_database(bare: str) -> Plan:
    """CREATE DATABASE | SCHEMA: in Athena an entry in Glue, without a place of its own."""
    found = re.fullmatch(rf"create\s+(?:database|schema)\s+(if\s+not\s+exists\s+)?`?(\w+)`?{_END}", bare, _FLAGS)
    if not found:
        raise RefusedError(f"mismatched input in {bare[:80]!r}")
    return CreateDatabase(found[2].lower(), bool(found[1]))


# Hive's classes for a file format: input, output, serialisation.
_FORMATS = {
    "parquet": (
        "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
        "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
        "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe",
    ),
    "textfile": (
        "org.apache.hadoop.mapred.TextInputFormat",
        "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
        "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe",
    ),
}


def _create_external_table(bare: str, today: date) -> Plan:
    """CREATE EXTERNAL TABLE: in Athena an entry in Glue, which Trino reads as it stands, projection included."""
    head = re.match(rf"create\s+external\s+table\s+(if\s+not\s+exists\s+)?{_NAME}\s*(?=\()", bare, _FLAGS)
    if not head:
        raise RefusedError("no viable alternative at input 'create external'")
    columns, place = _inside(bare, head.end())
    partitions = None
    if partitioned := re.compile(r"\s*partitioned\s+by\s*(?=\()", _FLAGS).match(bare, place):
        partitions, place = _inside(bare, partitioned.end())
    rest = re.fullmatch(
        rf"\s*(?:row\s+format\s+serde\s+(?P<serde>{_STRING})\s*)?(?:stored\s+as\s+(?P<format>\w+)\s*)?"
        rf"location\s+(?P<location>{_STRING})\s*(?:tblproperties\s*\((?P<properties>.*)\))?{_END}",
        bare[place:],
        _FLAGS,
    )
    if not rest:
        raise RefusedError(f"mismatched input {bare[place:].strip()[:40]!r} in CREATE EXTERNAL TABLE")
    format_ = (rest["format"] or "textfile").lower()
    if format_ not in _FORMATS:
        raise RefusedError(f"the local Athena has no rule for STORED AS {format_.upper()}: see sandbox/athena/rules.py")
    reader, writer, serde = _FORMATS[format_]
    properties = _properties(rest["properties"]) if rest["properties"] else {}
    table = {
        "Name": head[3].lower(),
        "TableType": "EXTERNAL_TABLE",
        "Parameters": {"EXTERNAL": "TRUE", **_months_by_name(properties, today)},
        "PartitionKeys": _columns(partitions) if partitions else [],
        "StorageDescriptor": {
            "Columns": _columns(columns),
            "Location": _unquoted(rest["location"]),
            "InputFormat": reader,
            "OutputFormat": writer,
            "SerdeInfo": {
                "SerializationLibrary": _unquoted(rest["serde"]) if rest["serde"] else serde,
                "Parameters": {"serialization.format": "1"},
            },
        },
    }
    return CreateExternalTable(head[2].lower(), table, bool(head[1]))


def _columns(text: str) -> list[dict[str, str]]:
    found = [re.fullmatch(r"`?(\w+)`?\s+(\S.*)", part, _FLAGS) for part in _parts(text)]
    if not all(found):
        raise RefusedError(f"mismatched input in columns: {text.strip()[:80]}")
    return [{"Name": column[1].lower(), "Type": column[2].lower()} for column in found if column]


def _months_by_name(properties: Mapping[str, str], today: date) -> dict[str, str]:
    """A projection by months becomes a list of its months (`enum`), up to this one.

    Trino refuses its own unit for them: "'partition_projection_interval_unit' value 'Months' is invalid"
    (trinodb/trino #22760). Athena documents them.
    """
    given = dict(properties)
    for column in [
        match[1] for key, value in properties.items()
        if (match := re.fullmatch(r"projection\.(\w+)\.format", key)) and value == "yyyy-MM"
    ]:  # fmt: skip
        first = date.fromisoformat(given.pop(f"projection.{column}.range").split(",")[0] + "-01")
        months = range(12 * first.year + first.month - 1, 12 * today.year + today.month)
        del given[f"projection.{column}.format"]
        given[f"projection.{column}.type"] = "enum"
        given[f"projection.{column}.values"] = ",".join(f"{month // 12}-{month % 12 + 1:02}" for month in months)
    return given


# Athena's properties of CREATE TABLE AS, by the name that Trino's connector has for them.
# A codec changes no row, and Trino sets it for a session.
_ICEBERG = {"format": "format", "location": "location", "partitioning": "partitioning", "write_compression": None}
_ICEBERG_EXTRA = {
    "vacuum_min_snapshots_to_keep",
    "vacuum_max_snapshot_age_seconds",
    "vacuum_max_metadata_files_to_keep",
    "write_target_data_file_size_bytes",
    "optimize_rewrite_data_file_threshold",
    "optimize_rewrite_delete_file_threshold",
}
_PLAIN = {
    "format": "format",
    "external_location": "external_location",
    "partitioned_by": "partitioned_by",
    "write_compression": None,
}


def _create_table_as(sql: str, start: int, results: str, enforced: bool) -> Plan:
    """CREATE TABLE AS: Athena's table properties in the words of Trino's two connectors; the query stays as it came.

    Athena chooses a table's kind by `table_type`, Trino by the catalogue. A table that is not Iceberg's and names no
    place lies below the query's results, and in a workgroup that enforces its settings it may name none.
    """
    head = re.compile(rf"create\s+table\s+(?:if\s+not\s+exists\s+)?{_TRINO_NAME}", _FLAGS).match(sql, start)
    if not head:
        raise RefusedError("Queries of this type are not supported")
    given, place = {}, head.end()
    if properties := re.compile(r"\s*with\s*(?=\()", _FLAGS).match(sql, place):
        text, place = _inside(sql, properties.end())
        given = dict(_assignment(part) for part in _parts(text))
    query = sql[place:]
    if not re.match(r"\s*as\b", query, _FLAGS):
        raise RefusedError("Queries of this type are not supported")
    iceberg = _unquoted(given.pop("table_type", "'hive'")).lower() == "iceberg"
    external = given.pop("is_external", "true").lower()
    known = _ICEBERG if iceberg else _PLAIN
    extra = {name: given.pop(name) for name in given.keys() & _ICEBERG_EXTRA} if iceberg else {}
    for name in given.keys() - known.keys():
        raise RefusedError(f"INVALID_TABLE_PROPERTY: table property '{name}' does not exist")
    if iceberg and (external != "false" or "location" not in given):
        raise RefusedError("INVALID_TABLE_PROPERTY: an Iceberg table needs is_external = false and a location")
    if not iceberg and "external_location" in given and enforced:
        raise RefusedError(
            "The Create Table As Select query failed because it was submitted with an 'external_location' property "
            "to an Athena Workgroup that enforces a centralized output location for all queries. Please remove the "
            "'external_location' property and resubmit the query."
        )
    if not iceberg:
        given.setdefault("external_location", f"'{results}'")
    written = [
        f"{known[name]} = {value.upper() if name == 'format' else value}"
        for name, value in given.items()
        if known[name]
    ]
    if extra:
        written.append(f"extra_properties = {_map({name: value.strip(chr(39)) for name, value in extra.items()})}")
    catalog = CATALOG if iceberg else "hive"
    name = f'"{catalog}"."{head[1].lower()}"."{head[2].lower()}"'
    lenient = "if not exists " if re.search(r"\bif\s+not\s+exists\b", head[0], _FLAGS) else ""
    created = f"{sql[:start]}create table {lenient}{name} with ({', '.join(written)})"
    return CreateTableAs(created + without_semicolon(query))


def _assignment(text: str) -> tuple[str, str]:
    found = re.fullmatch(rf"(\w+)\s*=\s*({_STRING}|array\s*\[.*\]|\w+)", text, _FLAGS)
    if not found:
        raise RefusedError(f"mismatched input in table properties: {text[:80]}")
    return found[1].lower(), found[2]


def _map(properties: Mapping[str, str]) -> str:
    def texts(values: Sequence[str]) -> str:
        return ", ".join("'" + value.replace("'", "''") + "'" for value in values)

    return f"map(array[{texts(list(properties))}], array[{texts(list(properties.values()))}])"


def _table(text: str) -> str:
    """A table's name as Trino quotes it, from any of the forms that OPTIMIZE and VACUUM take."""
    names = [name.strip('"`').lower() for name in text.split(".")]
    if not 1 <= len(names) <= 3 or not all(re.fullmatch(r"\w+", name) for name in names):
        raise RefusedError(f"mismatched input '{text}'. Expecting: a table's name")
    return ".".join(f'"{name}"' for name in names)


def _optimize(bare: str) -> Plan:
    """OPTIMIZE ... REWRITE DATA USING BIN_PACK: Trino's `ALTER TABLE ... EXECUTE optimize`."""
    found = re.fullmatch(rf"optimize\s+(\S+)\s+rewrite\s+data\s+using\s+bin_pack(\s+where\s+.*?)?{_END}", bare, _FLAGS)
    if not found:
        raise RefusedError("mismatched input in OPTIMIZE. Expecting: 'REWRITE DATA USING BIN_PACK'")
    return Rewritten(f"alter table {_table(found[1])} execute optimize{found[2] or ''}", "optimize", "OPTIMIZE")


def _vacuum(bare: str) -> Plan:
    """VACUUM: in Trino two procedures, whose limit comes with the call and not from the table's properties."""
    found = re.fullmatch(rf"vacuum\s+(\S+?){_END}", bare, _FLAGS)
    if not found:
        raise RefusedError("mismatched input in VACUUM. Expecting: a table's name")
    return Vacuum(_table(found[1]))


def vacuumed(table: str, properties: Mapping[str, str]) -> list[str]:
    """The statements that Trino runs for a VACUUM of a table that has these properties."""
    age = properties.get("vacuum_max_snapshot_age_seconds", DAYS_5)
    procedures = ("expire_snapshots", "remove_orphan_files")
    return [f"alter table {table} execute {name}(retention_threshold => '{age}s')" for name in procedures]


def _alter(bare: str) -> Plan:
    """ALTER TABLE ... RENAME TO | SET TBLPROPERTIES: Hive's words. Others are not used, so they have no rule."""
    if found := re.fullmatch(rf"alter\s+table\s+{_NAME}\s+rename\s+to\s+{_NAME}{_END}", bare, _FLAGS):
        old, new = (f'"{CATALOG}"."{found[i].lower()}"."{found[i + 1].lower()}"' for i in (1, 3))
        return Rewritten(f"alter table {old} rename to {new}", "rename", "ALTER_TABLE_RENAME")
    if found := re.fullmatch(rf"alter\s+table\s+{_NAME}\s+set\s+tblproperties\s*\((.*)\){_END}", bare, _FLAGS):
        return SetProperties(found[1].lower(), found[2].lower(), _properties(found[3]))
    raise RefusedError("the local Athena has no rule for this ALTER TABLE: see sandbox/athena/rules.py")


def properties_set(plan: SetProperties) -> str:
    """The statement by which Trino sets properties of an Iceberg table; it takes those that it was told to allow."""
    table = f'"{CATALOG}"."{plan.database}"."{plan.name}"'
    return f"alter table {table} set properties extra_properties = {_map(plan.properties)}"


def _drop(bare: str) -> Plan:
    """DROP TABLE: backticks become the double quotes of Trino's."""
    found = re.fullmatch(rf"drop\s+table\s+(if\s+exists\s+)?{_NAME}{_END}", bare, _FLAGS)
    if not found:
        raise RefusedError("mismatched input in DROP TABLE. Expecting: a table's name")
    name = f'"{CATALOG}"."{found[2].lower()}"."{found[3].lower()}"'
    return Rewritten(f"drop table {'if exists ' if found[1] else ''}{name}", "drop_table", "DROP_TABLE")
