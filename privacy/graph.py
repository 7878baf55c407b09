"""dbt's graph with its compiled SQL: what is built, from what, in which form, and which columns are declared personal.

dbt compiles for DuckDB into a lake of its own that holds nothing. Each incremental model is compiled twice, as it is
built anew and as it goes on from what it has built, because the two may read different columns.
"""

import csv
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import duckdb
import sqlglot
from sqlglot import exp

from privacy import policy
from privacy.lineage import DIALECT
from privacy.masks import PLACEHOLDER, Patterns

ROOT = Path(__file__).parent.parent
INCREMENTAL = "incremental"


@dataclass(frozen=True)
class Relation:
    """A source, seed or model: its layer is its schema."""

    id: str
    name: str
    layer: str
    described: dict[str, str]  # the columns of its yml, with their types
    classes: dict[str, str]  # column -> the class that its config.meta.pii declares
    queries: tuple[str, ...] = ()  # compiled; empty for sources and seeds
    faults: tuple[str, ...] = ()  # why its SQL is not all that it does


@dataclass
class Graph:
    relations: dict[str, Relation]
    patterns: Patterns
    manifest: dict[str, Any]
    tables: dict[tuple[str, str], str] = field(default_factory=dict)  # (schema, table) -> id
    files: dict[exp.Expr, str] = field(default_factory=dict)  # how a source's files are read -> id

    def find(self, table: exp.Table | exp.Subquery) -> str | None:
        if isinstance(table.this, exp.Identifier):
            return self.tables.get((table.db.lower(), table.name.lower()))
        return self.files.get(table.this)


def load(project: Path = ROOT / "dbt_project", target: Path | None = None) -> Graph:
    """Compile the project and read its graph. `target` keeps what dbt has parsed, so that the next time is quicker.

    Raises RuntimeError where dbt cannot compile.
    """
    target = target or project / "target" / "privacy"
    with TemporaryDirectory() as empty, _settings(empty):
        manifest = _compiled(project, target)
        sources = list(manifest["sources"].values())
        expansions, files = _expansions(project, target, manifest, sources)
        _make_tables(Path(empty, "warehouse.duckdb"), manifest)
        going_on = _compiled(project, target)
    relations = {}
    for id_, node in [*manifest["nodes"].items(), *manifest["sources"].items()]:
        if node["resource_type"] in ("model", "seed", "snapshot", "source") and _materialized(node) != "ephemeral":
            relations[id_] = _relation(project, node, going_on["nodes"].get(id_, {}))
    tables = {(_schema(node), _table(node)): id_ for id_, node in _nodes(manifest).items() if id_ in relations}
    return Graph(relations, Patterns(expansions), manifest, tables, files)


def _nodes(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {**manifest["nodes"], **manifest["sources"]}


def _schema(node: dict[str, Any]) -> str:
    return node["schema"].lower()


def _table(node: dict[str, Any]) -> str:
    return (node.get("identifier") or node.get("alias") or node["name"]).lower()


def _materialized(node: dict[str, Any]) -> str:
    return node.get("config", {}).get("materialized", "")


def _relation(project: Path, node: dict[str, Any], going_on: dict[str, Any]) -> Relation:
    columns = {name.lower(): column for name, column in node["columns"].items()}
    described = {name: column.get("data_type") or "" for name, column in columns.items()}
    classes = {}
    for name, column in columns.items():
        pii = (column.get("config", {}).get("meta") or column.get("meta") or {}).get("pii")
        if pii is not None:
            classes[name] = str(pii.get("class", "")) if isinstance(pii, dict) else str(pii)
    if node["resource_type"] == "source":
        return Relation(node["unique_id"], f"{node['source_name']}.{node['name']}", node["schema"], described, classes)
    if node["resource_type"] == "seed":
        with (project / node["original_file_path"]).open(newline="") as file:
            header = next(csv.reader(file))
        described = {name.lower(): described.get(name.lower(), "") for name in header}
        return Relation(node["unique_id"], node["name"], node["schema"], described, classes)
    queries = [node.get("compiled_code"), going_on.get("compiled_code") if _materialized(node) == INCREMENTAL else None]
    faults: list[str] = []
    if node.get("language", "sql") != "sql":
        faults, queries = [f"it is written in {node['language']}, whose lineage nobody can read"], []
    hooks = [hook["sql"].strip() for kind in ("pre-hook", "post-hook") for hook in node["config"].get(kind, [])]
    faults += [
        f"its hook {hook[:60]} is not among privacy/policy.py's HOOKS" for hook in hooks if hook not in policy.HOOKS
    ]
    distinct = tuple(dict.fromkeys(query for query in queries if query))
    return Relation(node["unique_id"], node["name"], node["schema"], described, classes, distinct, tuple(faults))


@contextmanager
def _settings(empty: str) -> Iterator[None]:
    """A lake of its own, by relative names: dbt parses a project anew whenever a setting changes."""
    before = Path.cwd()
    settings = {"LAKE_URI": "lake", "VAULT_URI": "vault", "DUCKDB_PATH": "warehouse.duckdb", "DO_NOT_TRACK": "1"}
    os.chdir(empty)
    try:
        with patch.dict(os.environ, settings):
            for name in ("LAKE_TARGET", "WAREHOUSE_TARGET", "DBT_TARGET"):
                os.environ.pop(name, None)
            yield
    finally:
        os.chdir(before)


def _dbt(project: Path, target: Path, *arguments: str) -> Any:
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager  # here: it costs four seconds
    from dbt.cli.main import dbtRunner

    folders = ["--project-dir", str(project), "--profiles-dir", str(ROOT), "--target-path", str(target)]
    options = [*folders, "--log-path", str(target), "--target", "local", "--quiet", "--log-level", "none"]
    done = dbtRunner().invoke([*arguments, *options])
    if isinstance(done.exception, KeyboardInterrupt):
        raise done.exception
    DuckDBConnectionManager.close_all_connections()
    if not done.success:
        messages = [f"{result.node.name}: {result.message}" for result in getattr(done.result, "results", None) or []]
        raise RuntimeError(f"dbt cannot compile the project: {done.exception or '; '.join(messages)}")
    return done.result


def _compiled(project: Path, target: Path) -> dict[str, Any]:
    _dbt(project, target, "compile")
    return json.loads((target / "manifest.json").read_text())


def _expansions(
    project: Path, target: Path, manifest: dict[str, Any], sources: list[dict[str, Any]]
) -> tuple[dict[str, exp.Expr], dict[exp.Expr, str]]:
    """Each mask with columns for arguments, and how each source is read, as dbt compiles them."""
    macros = {macro["name"]: macro for macro in manifest["macros"].values() if macro["package_name"] == "lakehouse"}
    calls = []
    for mask in policy.MASKS:
        names = [argument["name"] for argument in macros[mask]["arguments"] if argument["name"] != "key"]
        placeholders = ", ".join(f"'{PLACEHOLDER}{name}'" for name in names)
        calls.append(f"{{{{ {mask}({placeholders}) }}}} as {mask}")
    names = [f"'{node['source_name']}', '{node['name']}'" for node in sources]
    reads = [f"(select 1 from {{{{ source({name}) }}}})" for name in names]  # noqa: S608 (names from the sources' ymls)
    inline = f"select {', '.join([*calls, *reads])}"
    sql = _dbt(project, target, "compile", "--inline", inline).results[0].node.compiled_code
    projections = sqlglot.parse_one(sql, dialect=DIALECT).expressions
    expansions = {projection.alias: projection.this for projection in projections[: len(calls)]}
    files = {}
    for node, projection in zip(sources, projections[len(calls) :], strict=True):
        read = projection.this.args["from_"].this
        if not isinstance(read.this, exp.Identifier):
            files[read.this] = node["unique_id"]
    return expansions, files


def _make_tables(path: Path, manifest: dict[str, Any]) -> None:
    """Empty tables of the incremental models' contracts: where a table is, dbt compiles the model to go on from it."""
    with duckdb.connect(str(path)) as connection:
        for node in manifest["nodes"].values():
            if _materialized(node) == INCREMENTAL:
                typed = {name: column.get("data_type") or "varchar" for name, column in node["columns"].items()}
                columns = ", ".join(f'"{name}" {type_}' for name, type_ in (typed or {"any": "varchar"}).items())
                connection.execute(f'create schema if not exists "{node["schema"]}"')
                connection.execute(f"create table if not exists {node['relation_name']} ({columns})")
