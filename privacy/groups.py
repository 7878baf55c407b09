"""The figures behind k-anonymity and l-diversity in the built lake, for the columns that the graph's tests name."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb


@dataclass(frozen=True)
class Groups:
    """How a table falls into groups of equal quasi-identifiers. `least`: the smallest one's rows, or values with l."""

    table: str
    columns: tuple[str, ...]
    rule: str
    groups: int
    least: int | None
    holds: bool


def database() -> Path | None:
    """The built lake's DuckDB file, as profiles.yml names it; none where nothing was built."""
    path = Path(os.environ.get("DUCKDB_PATH") or f"{os.environ.get('LAKE_URI') or './lake'}/warehouse.duckdb")
    return path if path.is_file() else None


def measure(manifest: dict[str, Any], database: Path) -> list[Groups]:
    """What each test k_anonymous or l_diverse of the manifest looks at; tables that are not built are left out."""
    found = []
    with duckdb.connect(str(database), read_only=True) as connection:
        for node in manifest["nodes"].values():
            test = node.get("test_metadata") or {}
            if test.get("name") not in ("k_anonymous", "l_diverse"):
                continue
            model = manifest["nodes"][node["attached_node"]]
            arguments = test["kwargs"]
            columns = tuple(arguments["quasi_identifiers"])
            if test["name"] == "k_anonymous":
                size, least, rule = "count(*)", int(arguments.get("k", 5)), "k"
            else:
                sensitive = arguments["sensitive"]
                size, least, rule = f'count(distinct "{sensitive}")', int(arguments.get("l", 2)), f"l of {sensitive}"
            where = node["config"].get("where")
            grouped = ", ".join(f'"{column}"' for column in columns)
            query = f"""
                select count(*), min(size) from (
                    select {size} as size from "{model["schema"]}"."{model["alias"]}"
                    where {where or "true"} group by {grouped}
                ) as groups
            """  # noqa: S608 (names from the project's own ymls)
            try:
                [(groups, smallest)] = connection.execute(query).fetchall()
            except duckdb.CatalogException:
                continue
            holds = smallest is None or smallest >= least
            found.append(Groups(model["name"], columns, f"{rule} >= {least}", groups, smallest, holds))
    return found
