"""The figures behind k-anonymity and l-diversity in the built lake, for the columns that the graph's tests name."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from loaders import duckdb_file, settings, warehouse


@dataclass(frozen=True)
class Groups:
    """How a table falls into groups of equal quasi-identifiers. `least` is the smallest group's people, or with
    l-diversity its different sensitive values; none in an empty table."""

    table: str
    columns: tuple[str, ...]
    rule: str
    groups: int
    least: int | None
    wanted: int

    @property
    def holds(self) -> bool:
        return self.least is None or self.least >= self.wanted


def database() -> Path | None:
    """The built lake's DuckDB file; None where nothing was built. Raises OperatorError for wrong settings."""
    return warehouse.file_of(settings.from_environment())


def measure(manifest: dict[str, Any], path: Path) -> list[Groups]:
    """What each test k_anonymous or l_diverse of the manifest looks at; tables that are not built are left out."""
    found = []
    with duckdb_file.connect(path, read_only=True) as connection:
        for node in manifest["nodes"].values():
            test = node.get("test_metadata") or {}
            if test.get("name") not in ("k_anonymous", "l_diverse"):
                continue
            arguments = _defaults(manifest, test["name"]) | test["kwargs"]
            model = manifest["nodes"][node["attached_node"]]
            if test["name"] == "k_anonymous":
                rule, wanted, shown = "k", int(arguments["k"]), "true"
                size = f"sum({arguments['people']})" if arguments.get("people") else "count(*)"
            else:
                sensitive = arguments["sensitive"]
                rule, wanted, shown = f"l of {sensitive}", int(arguments["l"]), f"count({sensitive}) > 0"
                size = f"count(distinct {sensitive}) + max(case when {sensitive} is null then 1 else 0 end)"
            columns = tuple(arguments["quasi_identifiers"])
            query = f"""
                select count(*), min(size) from (
                    select {size} as size from "{model["schema"]}"."{model["alias"]}"
                    where {node["config"].get("where") or "true"} group by {", ".join(columns)} having {shown}
                ) as groups
            """  # noqa: S608 (names from the project's own ymls)
            try:
                [(groups, least)] = connection.execute(query).fetchall()
            except duckdb.CatalogException:
                continue
            found.append(Groups(model["name"], columns, rule, groups, least, wanted))
    return found


def _defaults(manifest: dict[str, Any], test: str) -> dict[str, str]:
    """The numbers that the generic test itself takes for k and l."""
    signature = manifest["macros"][f"macro.lakehouse.test_{test}"]["macro_sql"].partition("%}")[0]
    return dict(re.findall(r"\b([kl])=([0-9]+)", signature))
