"""Names, prefixes and columns of the templates are those of the code: a change on one side alone fails here."""

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from packaging.requirements import Requirement

from infra import deploy
from infra.mwaa import bundle
from loaders import alerts, key, metrics, raw
from loaders.settings import from_environment
from tests.infra.rules import Templates, of_type

ROOT = deploy.ROOT
DBT = ROOT / "dbt_project"
HIVE = {"string": "varchar", "int": "integer", "bigint": "bigint", "timestamp": "timestamp", "date": "date"}
ARROW = {"string": pa.string(), "int": pa.int32(), "bigint": pa.int64()}
QUICKSIGHT = {
    "varchar": "STRING", "bigint": "INTEGER", "integer": "INTEGER", "timestamp": "DATETIME", "date": "DATETIME",
    "decimal": "DECIMAL", "boolean": "BOOLEAN",
}  # fmt: skip


def sources() -> dict[tuple[str, str], dict[str, Any]]:
    """Each source table of dbt by its schema and its name there, with its source's location."""
    found = {}
    for path in DBT.glob("models/staging/*/_sources.yml"):
        for source in yaml.safe_load(path.read_text())["sources"]:
            for table in source["tables"]:
                place = source.get("schema", source["name"]), table.get("identifier", table["name"])
                found[place] = table | {"location": source["config"]["meta"]["location"]}
    return found


def models(layer: str) -> dict[str, dict[str, str]]:
    """Columns and their types (without a length) of each model of a layer."""
    return {
        model["name"]: {column["name"]: column["data_type"].partition("(")[0] for column in model["columns"]}
        for path in DBT.glob(f"models/{layer}/*/_{layer}__*.yml")
        for model in yaml.safe_load(path.read_text())["models"]
    }


def glue_tables(templates: Templates) -> dict[tuple[str, str], dict[str, Any]]:
    databases = {
        name.partition(".")[2]: properties["DatabaseInput"]["Name"]
        for name, _, properties in of_type(templates, "AWS::Glue::Database")
    }
    return {
        (databases[properties["DatabaseName"]["Ref"]], properties["TableInput"]["Name"]): properties["TableInput"]
        for _, _, properties in of_type(templates, "AWS::Glue::Table")
    }


def test_external_tables_are_the_sources_of_dbt(templates: Templates, counted: Callable[[str], None]) -> None:
    tables, wanted = glue_tables(templates), sources()
    assert tables.keys() == wanted.keys()
    for place, table in tables.items():
        storage = table["StorageDescriptor"]
        columns = [(column["Name"], HIVE[column["Type"]]) for column in storage["Columns"]]
        partitions = [(column["Name"], HIVE[column["Type"]]) for column in table.get("PartitionKeys", [])]
        said: dict[bool, list[tuple[str, str]]] = {True: [], False: []}
        for column in wanted[place]["columns"]:
            meta = column.get("config", {}).get("meta", {})
            said[meta.get("partition", False)].append((column["name"], column["data_type"]))
        assert (columns, partitions) == (said[False], said[True])
        folder = re.sub(r"\{\{ env_var\('(\w+)'.*?\}\}", lambda found: f"${{{found[1]}}}", wanted[place]["location"])
        setting = {"${LAKE_URI}": "${LakeUri}", "${VAULT_URI}": "${VaultUri}"}
        for name, parameter in setting.items():
            folder = folder.replace(name, parameter)
        assert storage["Location"] == {"Fn::Sub": f"{folder}/"}
    counted(f"names:       {len(tables)} external tables, {len(models('refined'))} refined models as the code has them")


def test_partitions_are_projected_as_the_macro_does(templates: Templates) -> None:
    macro = (DBT / "macros/engine/external_tables.sql").read_text()
    projected = dict(re.findall(r"'(projection\.[^']+)' = '([^']+)'", macro.replace("{{ column.name }}", "load_date")))
    assert len(projected) == 4
    for table in glue_tables(templates).values():
        held = {name: value for name, value in table["Parameters"].items() if name.startswith("projection")}
        assert held == (projected if table.get("PartitionKeys") else {})


def test_external_tables_are_what_the_loaders_write(templates: Templates) -> None:
    tables = glue_tables(templates)
    written = {f"${{LakeUri}}/raw/{table.name}/": table.schema for table in raw.TABLES}
    written[f"${{VaultUri}}/{key.TABLE}/"] = key.SCHEMA
    for table in tables.values():
        columns = table["StorageDescriptor"]["Columns"]
        schema = written.pop(table["StorageDescriptor"]["Location"]["Fn::Sub"])
        assert [column["Name"] for column in columns] == schema.names
        for column, field in zip(columns, schema, strict=True):
            assert (
                pa.types.is_timestamp(field.type)
                if column["Type"] == "timestamp"
                else ARROW[column["Type"]] == field.type
            )
    assert not written


def test_databases_are_the_layers(templates: Templates) -> None:
    project = yaml.safe_load((DBT / "dbt_project.yml").read_text())["models"]["lakehouse"]
    layers = {held["+schema"] for held in project.values() if isinstance(held, dict)}
    names = {properties["DatabaseInput"]["Name"] for _, _, properties in of_type(templates, "AWS::Glue::Database")}
    assert names == layers | {schema for schema, _ in sources()}


def test_saved_queries_read_columns_that_are_there(templates: Templates) -> None:
    columns = models("curated") | {
        name: {c["name"] for c in table["columns"]} for (_, name), table in sources().items()
    }
    queries = [properties for _, _, properties in of_type(templates, "AWS::Athena::NamedQuery")]
    assert len(queries) >= 3
    for query in queries:
        text = re.sub(r"'[^']*'", "", query["QueryString"])
        table = re.search(r"from (\w+)", text)[1]
        words = {"select", "count", "distinct", "as", "max", "from", "where", "interval", "current_date", "day"}
        words |= {"group", "order", "by", "desc"}
        named = {*re.findall(r" as (\w+)", text), table}
        assert set(re.findall(r"\w+", text)) - words - named - set(columns[table]) == set()


def test_analysts_saved_queries_read_nothing_personal(templates: Templates) -> None:
    personal = {"users", "user_versions", "user_changes", "completed_user_changes"}
    for _, _, query in of_type(templates, "AWS::Athena::NamedQuery"):
        if query["WorkGroup"] == {"Ref": "AnalystsWorkGroup"}:
            assert query["Database"] == "curated"
            assert not personal & set(re.findall(r"\w+", query["QueryString"]))


def test_data_sets_are_refined_models(templates: Templates) -> None:
    refined = models("refined")
    data_sets = list(of_type(templates, "AWS::QuickSight::DataSet"))
    assert len(data_sets) == 4
    for _, _, properties in data_sets:
        for table in properties["PhysicalTableMap"].values():
            held = table["RelationalTable"]
            columns = {column["Name"]: column["Type"] for column in held["InputColumns"]}
            assert columns == {name: QUICKSIGHT[kind] for name, kind in refined[held["Name"]].items()}


def test_dashboards_are_dbts_exposures_and_show_columns_of_their_data_sets(templates: Templates) -> None:
    held = templates["consumption"]["Resources"]
    sets = {
        name: next(iter(resource["Properties"]["PhysicalTableMap"].values()))["RelationalTable"]["Name"]
        for name, resource in held.items()
        if resource["Type"] == "AWS::QuickSight::DataSet"
    }
    found = {}
    for _, _, properties in of_type(templates, "AWS::QuickSight::Dashboard"):
        definition = properties["Definition"]
        declared = {
            item["Identifier"]: sets[item["DataSetArn"]["Fn::GetAtt"][0]]
            for item in definition["DataSetIdentifierDeclarations"]
        }
        column = r'{"DataSetIdentifier": "(\w+)", "ColumnName": "(\w+)"}'
        shown = re.findall(column, json.dumps([definition["Sheets"], definition.get("FilterGroups")]))
        assert {identifier for identifier, _ in shown} == declared.keys()  # nothing is declared that is not shown
        for identifier, name in shown:
            assert name in models("refined")[declared[identifier]]
        text = json.dumps(definition["Sheets"])
        fields = re.findall(r'"FieldId": "([^"]+)", "(?:Column|DateGranularity)"', text)
        assert len(fields) == len(set(fields))
        sorted_by = set(re.findall(r'"FieldSort": {"FieldId": "([^"]+)"', text))
        assert sorted_by
        assert sorted_by <= set(fields)
        found[properties["Name"]] = set(declared.values())
    exposures = yaml.safe_load((DBT / "models/exposures.yml").read_text())["exposures"]
    assert found == {
        exposure["label"]: {re.search("'(.+)'", model)[1] for model in exposure["depends_on"]}
        for exposure in exposures
        if exposure["type"] == "dashboard"
    }


def test_an_alarm_counts_each_kind_of_alert(templates: Templates) -> None:
    filters = [properties for _, _, properties in of_type(templates, "AWS::Logs::MetricFilter")]
    counted = {item["MetricTransformations"][0]["MetricName"] for item in filters}
    assert counted == alerts.KINDS.keys() - {"trial"}
    assert {item["MetricTransformations"][0]["MetricNamespace"] for item in filters} == {metrics.NAMESPACE}


def test_a_filter_finds_what_the_notifier_logs(templates: Templates, caplog: Any) -> None:
    filters = [properties for _, _, properties in of_type(templates, "AWS::Logs::MetricFilter")]
    patterns = {item["MetricTransformations"][0]["MetricName"]: item["FilterPattern"].strip('"') for item in filters}
    settings = from_environment(deploy.FIXED)
    for kind, pattern in patterns.items():
        caplog.clear()
        alerts.notify(settings, alerts.Alert(kind, "lakehouse"))
        assert [other for other, text in patterns.items() if text in caplog.text] == [kind], pattern


def test_the_stream_lands_where_the_loader_does(templates: Templates) -> None:
    target = templates["ingestion"]["Resources"]["Delivery"]["Properties"]["ExtendedS3DestinationConfiguration"]
    assert target["Prefix"] == f"raw/{raw.USER_CHANGES.name}/load_date=!{{timestamp:yyyy-MM-dd}}/"


def test_airflow_is_given_what_the_bundle_holds(templates: Templates) -> None:
    held = templates["orchestration"]
    airflow = held["Resources"]["Airflow"]["Properties"]
    paths = {airflow[name] for name in ("DagS3Path", "RequirementsS3Path", "StartupScriptS3Path")}
    text = Path(bundle.__file__).read_text()
    assert all(f'folder / "{path}"' in text for path in paths)
    version = held["Parameters"]["AirflowVersion"]["Default"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(text) for text in project["optional-dependencies"]["airflow"]]
    assert next(item for item in wanted if item.name == "apache-airflow").specifier.contains(version)
    assert f"apache-airflow=={version} " in (ROOT / "requirements.lock").read_text()


def test_outputs_are_settings(templates: Templates) -> None:
    """What stands under `Outputs` as a setting is one, and nothing that AWS needs is missing."""
    environment = deploy.Environment("dev", "us-east-1", {}, 1, False)
    outputs = {name: name for template in templates.values() for name in template["Outputs"]}
    settings = deploy.settings_of(outputs, environment)
    said = [
        output["Description"].removeprefix("The setting ")
        for template in templates.values()
        for output in template["Outputs"].values()
        if output.get("Description", "").startswith("The setting ")
    ]
    assert set(said) <= settings.keys()
    profiles = (ROOT / "profiles.yml").read_text()
    athena_and_redshift = set(re.findall(r"env_var\('([A-Z_]+)'", profiles.partition("athena:")[2]))
    assert athena_and_redshift - {"DBT_SCHEMA", "USER"} <= settings.keys()
    loaders_need = {"LAKE_URI", "VAULT_URI", "DOCS_URI", "LAKE_KMS_KEY_ID", "VAULT_KMS_KEY_ID", "MASKING_KEY_SECRET_ID"}
    assert loaders_need <= settings.keys()
    database = templates["warehouse"]["Resources"]["Namespace"]["Properties"]["DbName"]
    assert templates["warehouse"]["Outputs"]["RedshiftDatabase"]["Value"] == database


def test_every_parameter_is_given(templates: Templates) -> None:
    """By a stack before it, by the environments' files, or by a default."""
    for path in (deploy.HERE / "environments").glob("*.yaml"):
        given = set(yaml.safe_load(path.read_text())["parameters"]) | {"Environment", "LakeRegion"}
        used = set()
        for stack in deploy.STACKS:
            declared = templates[stack]["Parameters"]
            bundled = {"BundleVersion", "RequirementsVersion"}
            assert {name for name, held in declared.items() if "Default" not in held} <= given | bundled, stack
            used |= declared.keys()
            given |= templates[stack]["Outputs"].keys()
        assert set(yaml.safe_load(path.read_text())["parameters"]) <= used
