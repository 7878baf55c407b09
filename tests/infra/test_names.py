"""Names, prefixes and columns of the templates are those of the code: a change on one side alone fails here."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from packaging.version import Version

from infra import deploy, warehouse
from infra.mwaa import bundle
from loaders import alerts, key, metrics, raw
from loaders.settings import from_environment
from tests.infra.rules import Templates, of_type

ROOT = deploy.ROOT
DBT = ROOT / "dbt_project"
HIVE = {
    "string": "varchar", "int": "integer", "bigint": "bigint", "double": "double", "timestamp": "timestamp",
    "date": "date", "map<string,string>": "map(varchar, varchar)",
}  # fmt: skip
ARROW = {
    "string": pa.string(), "int": pa.int32(), "bigint": pa.int64(), "double": pa.float64(),
    "map<string,string>": pa.map_(pa.string(), pa.string()),
}  # fmt: skip
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
            said["partition" in meta].append((column["name"], column["data_type"]))
        assert (columns, partitions) == (said[False], said[True])
        folder = re.sub(r"\{\{ env_var\('(\w+)'.*?\}\}", lambda found: f"${{{found[1]}}}", wanted[place]["location"])
        setting = {"${LAKE_URI}": "${LakeUri}", "${VAULT_URI}": "${VaultUri}"}
        for name, parameter in setting.items():
            folder = folder.replace(name, parameter)
        assert storage["Location"] == {"Fn::Sub": f"{folder}/"}
    counted(f"names:       {len(tables)} external tables, {len(models('refined'))} refined models as the code has them")


def test_partitions_are_projected_as_the_macro_does(templates: Templates) -> None:
    macro = (DBT / "macros/engine/external_tables.sql").read_text()
    formats = ast.literal_eval(re.search(r"set format = (\{.*?\})", macro)[1])
    year, month = ({"Fn::Select": [place, {"Fn::Split": ["-", {"Ref": "LakeSince"}]}]} for place in (0, 1))
    ranges = {
        "day": {"Fn::Sub": "${LakeSince},NOW+1DAYS"},
        "month": {"Fn::Sub": ["${Year}-${Month},NOW", {"Year": year, "Month": month}]},
    }
    assert "{'day': since ~ ',NOW+1DAYS', 'month': since[:7] ~ ',NOW'}" in macro
    tables = glue_tables(templates)
    for place, source in sources().items():
        wanted = {}
        for column in source["columns"]:
            meta = column.get("config", {}).get("meta", {})
            if unit := meta.get("partition"):
                wanted |= {"projection.enabled": "true", f"projection.{column['name']}.type": "date"}
                wanted |= {f"projection.{column['name']}.format": formats[unit]}
                wanted |= {f"projection.{column['name']}.range": ranges[unit]}
            if "folder" in meta:
                folder = tables[place]["StorageDescriptor"]["Location"]["Fn::Sub"]
                template = f"{folder}{meta['folder']}=${{!{column['name']}}}/"
                wanted["storage.location.template"] = {"Fn::Sub": template}
        assert tables[place]["Parameters"] == {"EXTERNAL": "TRUE", **wanted}


def test_the_lake_begins_on_the_same_day_in_the_templates_and_in_dbt(templates: Templates) -> None:
    macro = (DBT / "macros/engine/external_tables.sql").read_text()
    parameter = templates["catalogue"]["Parameters"]["LakeSince"]
    assert parameter["Default"] == re.search(r"env_var\('LAKE_SINCE', '([^']+)'\)", macro)[1]


def test_the_cost_export_lands_where_its_table_is_and_with_its_columns(templates: Templates) -> None:
    export = templates["billing"]["Resources"]["CostReport"]["Properties"]["Export"]
    prefix = export["DestinationConfigurations"]["S3Destination"]["S3Prefix"]
    assert f"{prefix}/{export['Name']}/data" == raw.COST_AND_USAGE_FOLDER
    query = re.fullmatch(r"SELECT (.*) FROM COST_AND_USAGE_REPORT", export["DataQuery"]["QueryStatement"])
    assert query[1].split(", ") == raw.COST_AND_USAGE.names


def test_what_a_layer_costs_is_told_by_names_that_resources_have(templates: Templates) -> None:
    model = (DBT / "models/curated/aws/cost_line_items.sql").read_text()
    layers = ast.literal_eval(re.search(r"set layers = (\[.*?\])", model)[1])
    patterns = [re.compile(f"lakehouse-[a-z]+-{layer}-[0-9]+-") for layer in layers]
    patterns += [re.compile(found) for found in re.findall(r"regexp_matches\('resource_id', '([^']+)'\)", model)]
    values = {"${Environment}": "dev", "${AWS::AccountId}": "123456789012", "${AWS::Region}": "sa-east-1"}

    def names(kind: str, key: str, before: str = "") -> list[str]:
        found = [properties[key]["Fn::Sub"] for _, _, properties in of_type(templates, kind)]
        return [before + re.sub(r"\$\{.*?\}", lambda name: values[name[0]], name) for name in found]

    buckets = names("AWS::S3::Bucket", "BucketName")
    theirs = [bucket for bucket in buckets if any(pattern.search(bucket) for pattern in patterns)]
    assert {bucket.split("-")[2] for bucket in theirs} == set(layers)
    assert {bucket.split("-")[2] for bucket in buckets} - set(layers) == {"airflow", "athena", "logs"}
    others = names("AWS::Athena::WorkGroup", "Name", ":workgroup/")
    others += names("AWS::Kinesis::Stream", "Name", ":stream/")
    others += names("AWS::KinesisFirehose::DeliveryStream", "DeliveryStreamName", ":deliverystream/")
    assert len(others) == 5
    assert all(any(pattern.search(name) for pattern in patterns) for name in others)


def test_external_tables_are_what_the_loaders_write(templates: Templates) -> None:
    tables = glue_tables(templates)
    written = {f"${{LakeUri}}/raw/{table.name}/": table.schema for table in raw.TABLES}
    written[f"${{LakeUri}}/{raw.COST_AND_USAGE_FOLDER}/"] = raw.COST_AND_USAGE
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
    project = yaml.safe_load((DBT / "dbt_project.yml").read_text())
    folders = [*project["models"]["lakehouse"].values(), project["seeds"]["lakehouse"]]
    layers = {held["+schema"] for held in folders if isinstance(held, dict)}  # beside settings of all of them
    names = {properties["DatabaseInput"]["Name"] for _, _, properties in of_type(templates, "AWS::Glue::Database")}
    assert names == layers | {schema for schema, _ in sources()}


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What dbt's run-operations tell an administrator to do."""
    folder = tmp_path_factory.mktemp("dbt")
    macros = ("print_lake_formation_setup()", "create_external_schemas(dry_run=true)")
    command = [
        Path(sys.executable).with_name("dbt"),
        "--quiet",
        "compile",
        "--target",
        "local",
        "--target-path",
        folder,
    ]
    command += ["--inline", "".join(f"{{{{ {macro} }}}}" for macro in macros)]
    settings = {
        "DUCKDB_PATH": str(folder / "warehouse.duckdb"),
        "DBT_PROJECT_DIR": str(DBT),
        "DBT_PROFILES_DIR": str(ROOT),
    }
    said = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=True).stdout
    return said[said.rindex(said.partition("\n")[0]) :]  # dbt says it twice: when it parses and when it compiles


def test_tags_and_their_grants_are_those_that_dbt_puts_on(templates: Templates, printed: str) -> None:
    """As `dbt run-operation print_lake_formation_setup` says them for who has no stacks."""
    values = {
        found[1]: found[2].split() for found in re.finditer("create-lf-tag --tag-key (.*) --tag-values (.*)", printed)
    }
    defaults = {name: held.get("Default") for name, held in templates["catalogue"]["Parameters"].items()}

    def plain(resource: dict[str, Any]) -> dict[str, Any]:
        """As the command line writes it, with the values of the tag for the parameter that holds them."""
        text = re.sub(r'"CatalogId": \{.*?\}, ', "", json.dumps(resource))
        return json.loads(
            re.sub(r'\{"Ref": "(\w+TagValues)"\}', lambda found: json.dumps(defaults[found[1]].split(",")), text)
        )

    tags = [plain(properties) for _, _, properties in of_type(templates, "AWS::LakeFormation::Tag")]
    assert tags == [{"TagKey": key, "TagValues": held} for key, held in values.items()]
    wanted = {"TRANSFORMER": [], "ANALYST": []}
    for role, permissions, resource in re.findall(
        r"Identifier=(\w+)_ROLE_ARN --permissions (.*) --resource '(.*)'", printed
    ):
        wanted[role].append((set(permissions.split()), json.loads(resource)))
    given: dict[str, list[tuple[set[str], dict[str, Any]]]] = {}
    for _, _, properties in of_type(templates, "AWS::LakeFormation::PrincipalPermissions"):
        if {"LFTag", "LFTagPolicy"} & properties["Resource"].keys():
            role = properties["Principal"]["DataLakePrincipalIdentifier"]["Fn::GetAtt"][0]
            given.setdefault(role, []).append((set(properties["Permissions"]), plain(properties["Resource"])))
    assert given["TransformerRole"] == given["AirflowRole"] == wanted["TRANSFORMER"]
    assert given["AnalystRole"] == wanted["ANALYST"]


def test_external_schemas_of_the_warehouse_are_those_that_dbt_names(printed: str) -> None:
    wanted = re.findall(r"(create external schema [^;]*);", printed)
    made = [statement.sql for statement in warehouse.statements({"environment": "dev", "dashboard_password": "x"})]
    assert len(wanted) == 2
    assert [sql for sql in made if sql.startswith("create external schema")] == wanted


def test_saved_queries_read_columns_that_are_there_and_what_their_readers_may_read(templates: Templates) -> None:
    queries = [properties for _, _, properties in of_type(templates, "AWS::Athena::NamedQuery")]
    assert len(queries) >= 3
    for query in queries:
        allowed = {"refined"} if query["WorkGroup"] == {"Ref": "AnalystsWorkGroup"} else {"curated", "refined"}
        assert query["Database"] in allowed
        text = re.sub(r"'[^']*'", "", query["QueryString"])
        table = re.search(r"from (\w+)", text)[1]
        words = {"select", "count", "sum", "avg", "max", "as", "from", "where", "interval", "current_date", "day"}
        words |= {"group", "order", "by", "desc"}
        named = {*re.findall(r" as (\w+)", text), table}
        assert set(re.findall(r"\w+", text)) - words - named - set(models(query["Database"])[table]) == set()


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
    version = Version(held["Parameters"]["AirflowVersion"]["Default"])
    tested = Version(
        re.search("^apache-airflow==([0-9.]+) ", (ROOT / "requirements.lock").read_text(), re.MULTILINE)[1]
    )
    assert version.release[:2] == tested.release[:2]  # MWAA has not every patch


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
    assert set(said) | deploy.FIXED.keys() <= settings.keys()
    assert deploy.FIXED.keys() <= set(re.findall("^#([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    profiles = (ROOT / "profiles.yml").read_text()
    athena_and_redshift = set(re.findall(r"env_var\('([A-Z_]+)'", profiles.partition("athena:")[2]))
    assert athena_and_redshift - {"DBT_SCHEMA", "USER", "REDSHIFT_PORT"} <= settings.keys()
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
