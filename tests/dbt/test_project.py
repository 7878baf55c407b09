"""The rules of the project that hold for every model, its own ymls and the raw contract."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from dbt.cli.main import dbtRunner

from loaders import key, raw
from tests.dbt.conftest import ROOT
from tests.dbt.lakes import Dbt

PROJECT = ROOT / "dbt_project"
ARROW_TO_SQL = {"string": "varchar", "int32": "integer", "int64": "bigint", "double": "double"}
ARROW_TO_SQL["map<string, string>"] = "map(varchar, varchar)"


@pytest.fixture
def manifest(dbt: Dbt, documents: Path) -> dict[str, Any]:
    dbt("parse")
    return json.loads((documents / "manifest.json").read_text())


def of_type(manifest: dict[str, Any], resource_type: str) -> list[dict[str, Any]]:
    return [node for node in manifest["nodes"].values() if node["resource_type"] == resource_type]


def test_no_model_knows_its_engine() -> None:
    engine_names = re.compile(r"\btarget\.|duckdb|athena|redshift|trino", re.IGNORECASE)
    no_code = r"(?m)^\s*--.*$|'Amazon\w+'"  # comments, and what AWS calls a service on its bills
    found = {
        path.name: engine_names.findall(re.sub(no_code, "", path.read_text()))
        for path in (PROJECT / "models").rglob("*.sql")
    }
    assert {name: words for name, words in found.items() if words} == {}


def test_every_model_begins_with_its_grain(manifest: dict[str, Any]) -> None:
    nodes = of_type(manifest, "model") + of_type(manifest, "seed")
    assert nodes
    assert [node["name"] for node in nodes if not node["description"].startswith("One row per ")] == []


def test_every_column_is_described(dbt: Dbt, manifest: dict[str, Any], query: Any) -> None:
    dbt("seed")
    dbt("run", "--empty")
    nodes = of_type(manifest, "model") + of_type(manifest, "seed")
    described = {
        (node["schema"], node["name"], column["name"])
        for node in nodes
        for column in node["columns"].values()
        if column["description"]
    }
    layers = ("staging", "curated", "refined")
    columns = query("select table_schema, table_name, column_name from information_schema.columns")
    assert {column for column in columns if column[0] in layers} == described


def test_every_macro_is_described_with_its_arguments(manifest: dict[str, Any]) -> None:
    forms = re.compile(r"(duckdb|athena|redshift|default)__|test_")  # of a macro or a generic test, described there
    ours = [macro for macro in manifest["macros"].values() if macro["package_name"] == "lakehouse"]
    macros = [macro for macro in ours if not forms.match(macro["name"])]
    assert [macro["name"] for macro in macros if not macro["description"]] == []
    assert [
        f"{macro['name']}.{argument['name']}"
        for macro in macros
        for argument in macro["arguments"]
        if not argument["description"]
    ] == []


def test_pseudonyms_stand_beside_their_keys_id(manifest: dict[str, Any]) -> None:
    """Which a test compares between all the tables that have one."""
    models = [node for node in of_type(manifest, "model") if node["schema"] == "refined"]
    masked = {node["name"] for node in models if "pseudonym(" in node["raw_code"]}
    assert masked
    tables = [node for node in models if node["config"]["materialized"] != "view"]  # a view has its table's
    assert masked == {node["name"] for node in tables if "key_id" in node["columns"]}
    [test] = [node for node in of_type(manifest, "test") if node["name"] == "refined_has_one_key"]
    assert masked == {name.split(".")[-1] for name in test["depends_on"]["nodes"]}


# What dbt-project-evaluator asks for, as rules of our own: the package cannot be fetched here.
PREFIXES = {
    "staging": r"(base|stg)_[a-z]+__\w+",
    "refined": r"(dim|fct|mart)_\w+|user_features",  # the feature set has the name that data science gave it
    "curated": r"(?!(base|stg|int|dim|fct|mart)_)\w+",  # plain names, which others rely on (docs/architecture.md)
}
# Models beside a source's one base model that read it, and why.
ALSO_READ = {
    "customer.usuarios": {
        "user_changes",  # which batches are new, in the order in which they landed
        "stg_customer__gaps",  # what only a snapshot's first event says
    },
    "vault.masking_key": {"dim_characters", "dim_users", "fct_character_appearances"},  # never copied into a table
}
KEYS = {"unique", "unique_together", "key_of_latest_batch"}
NO_KEY = {"cost_line_items"}  # AWS promises no column that is unique


def test_the_project_has_the_shape_that_dbts_evaluator_asks_for(dbt: Dbt, documents: Path) -> None:
    """Use faults F19. With the tests of the daily build."""
    dbt("parse", "--vars", "{daily: true}")
    manifest = json.loads(next(documents.rglob("manifest.json")).read_text())
    models = {node["unique_id"]: node for node in of_type(manifest, "model")}
    tests: dict[str, set[str]] = {id_: set() for id_ in models}
    for test in of_type(manifest, "test"):
        if test.get("attached_node") in tests:
            tests[test["attached_node"]].add(test["test_metadata"]["name"])
    for id_, node in models.items():
        name, layer, folder = node["name"], node["schema"], Path(node["original_file_path"]).parent.name
        assert re.fullmatch(PREFIXES[layer], name), name
        assert tests[id_], f"{name} has no data test"
        assert layer == "staging" or name in NO_KEY or tests[id_] & KEYS, f"{name} has no test of its key"
        assert (folder == "base") == name.startswith("base_"), name
    shown = {id_ for exposure in manifest["exposures"].values() for id_ in exposure["depends_on"]["nodes"]}
    assert {models[id_]["name"] for id_ in shown if models[id_]["access"] != "public"} == set()
    for id_, source in manifest["sources"].items():
        name = f"{source['source_name']}.{source['name']}"
        readers = {models[reader]["name"] for reader in manifest["child_map"][id_] if reader in models}
        base = {reader for reader in readers if reader.startswith("base_")}
        assert readers - base == ALSO_READ.get(name, set()), name
        assert len(base) == (0 if name == "vault.masking_key" else 1)
        assert name == "vault.masking_key" or source["freshness"]["warn_after"]["count"], name


def test_sources_have_the_columns_that_the_loaders_write(manifest: dict[str, Any]) -> None:
    sources = {
        source["identifier"]: {name: column["data_type"] for name, column in source["columns"].items()}
        for source in manifest["sources"].values()
    }
    schemas = {
        "disney_characters": raw.CHARACTERS.schema,
        "customer_usuarios": raw.USER_CHANGES.schema,
        "masking_key": key.SCHEMA,
        "aws_cost_and_usage": raw.COST_AND_USAGE,
    }
    expected = {
        name: {field.name: ARROW_TO_SQL.get(str(field.type), "timestamp") for field in schema}
        for name, schema in schemas.items()
    }
    for name in ("disney_characters", "customer_usuarios"):
        expected[name]["load_date"] = "date"
    expected["aws_cost_and_usage"]["billing_period"] = "varchar"
    assert sources == expected


def test_nothing_in_the_project_is_deprecated(lake: Path, tmp_path: Path) -> None:
    events: list[str] = []
    arguments = ["parse", "--no-partial-parse", "--show-all-deprecations", "--target", "redshift", "--quiet"]
    folders = ["--project-dir", str(PROJECT), "--profiles-dir", str(ROOT), "--target-path", str(tmp_path / "target")]
    done = dbtRunner(callbacks=[lambda event: events.append(event.info.name)]).invoke([*arguments, *folders])
    assert done.success
    assert events
    assert [name for name in events if "deprecat" in name.lower()] == []
