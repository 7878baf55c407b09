"""What Athena itself writes into Glue, where Trino writes nothing or something else."""

import base64
import json
import re
from typing import Any

from sandbox.athena.rules import CreateDatabase, CreateExternalTable, CreateView, FailedError, SetProperties

Glue = Any  # boto3's client

_KEPT = (
    "Name",
    "Owner",
    "TableType",
    "PartitionKeys",
    "Parameters",
    "StorageDescriptor",
    "ViewOriginalText",
    "ViewExpandedText",
)


def create_database(glue: Glue, plan: CreateDatabase) -> None:
    try:
        glue.create_database(DatabaseInput={"Name": plan.name})
    except glue.exceptions.AlreadyExistsException:
        if not plan.lenient:
            raise FailedError(
                "FAILED: Execution Error, return code 1 from org.apache.hadoop.hive.ql.exec.DDLTask. "
                f"Database {plan.name} already exists"
            ) from None


def create_external_table(glue: Glue, plan: CreateExternalTable) -> None:
    try:
        glue.create_table(DatabaseName=plan.database, TableInput=plan.table)
    except glue.exceptions.AlreadyExistsException:
        if not plan.lenient:
            raise FailedError(
                "FAILED: Execution Error, return code 1 from org.apache.hadoop.hive.ql.exec.DDLTask. "
                f"AlreadyExistsException(message:Table {plan.table['Name']} already exists.)"
            ) from None
    except glue.exceptions.EntityNotFoundException:
        raise FailedError(
            f"FAILED: SemanticException [Error 10072]: Database does not exist: {plan.database}"
        ) from None


def is_iceberg(glue: Glue, plan: SetProperties) -> bool:
    return _table(glue, plan.database, plan.name)["Parameters"].get("table_type", "").upper() == "ICEBERG"


def set_properties(glue: Glue, plan: SetProperties) -> None:
    table = _table(glue, plan.database, plan.name)
    table["Parameters"] |= plan.properties
    glue.update_table(DatabaseName=plan.database, TableInput=table)


def tell_view_columns(glue: Glue, plan: CreateView) -> None:
    """Give a view its columns and an empty Location, as Athena does.

    Trino writes a column of no meaning and leaves the place out. dbt's docs read the columns in Glue, and when
    dbt-athena lets a table's old versions go it asks for the place of each.
    """
    table = _table(glue, plan.database, plan.name)
    table["StorageDescriptor"] = {"Columns": view_columns(table["ViewOriginalText"]), "Location": "", "SerdeInfo": {}}
    glue.update_table(DatabaseName=plan.database, TableInput=table)
    for version in glue.get_table_versions(DatabaseName=plan.database, TableName=plan.name)["TableVersions"]:
        if "Location" not in version["Table"].get("StorageDescriptor", {}):
            glue.delete_table_version(DatabaseName=plan.database, TableName=plan.name, VersionId=version["VersionId"])


def view_columns(text: str) -> list[dict[str, str]]:
    """The columns in a view's text as Trino keeps it, with Hive's names for their types."""
    view = json.loads(base64.b64decode(re.fullmatch(r"/\* Presto View: (\S+) \*/", text)[1]))
    return [{"Name": column["name"], "Type": hive_type(column["type"])} for column in view["columns"]]


def hive_type(kind: str) -> str:
    """Hive's name for one of Trino's types."""
    if kind.startswith("timestamp"):
        return "timestamp"
    kind = re.sub(r"\b(?:varchar|char)(?:\(\d+\))?", "string", kind)
    kind = re.sub(r"\binteger\b", "int", kind)
    kind = re.sub(r"\breal\b", "float", kind)
    return re.sub(r"\b(array|map)\((.*)\)$", r"\1<\2>", kind)


def _table(glue: Glue, database: str, name: str) -> dict[str, Any]:
    """A table's entry, as far as it can be written again."""
    try:
        table = glue.get_table(DatabaseName=database, Name=name)["Table"]
    except glue.exceptions.EntityNotFoundException:
        raise FailedError(f"FAILED: SemanticException [Error 10001]: Table not found {database}.{name}") from None
    return {key: value for key, value in table.items() if key in _KEPT} | {"Parameters": table.get("Parameters", {})}
