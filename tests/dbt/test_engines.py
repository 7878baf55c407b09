"""One project, three engines: without an account dbt compiles it for each, and what it compiles is that engine's SQL.

No engine runs the SQL here but DuckDB; Athena's catalogue is a moto server. What Redshift is sent is compiled and run
in tests/engines/test_redshift.py.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import boto3
import pytest
import requests
import sqlglot
from moto.athena.models import AthenaBackend, QueryResults
from moto.server import ThreadedMotoServer
from sqlglot.tokens import TokenType

from tests.dbt.conftest import ROOT
from tests.dbt.lakes import Dbt

PROJECT = ROOT / "dbt_project"

# The functions that our SQL may call, each looked up in its engine's documentation: a parser takes any name for a
# function, and nobody here can ask Athena or Redshift.
STANDARD = """
    avg cast chr coalesce concat count date_trunc extract greatest lag lead length lower max min nullif over replace
    row_number rtrim split_part strpos substr sum translate upper values
"""
FUNCTIONS = {
    "duckdb": f"""{STANDARD}
        arg_max_null array_to_string concat_ws encode from_json generate_subscripts json_keys json_type last_value
        list_has_any read_parquet regexp_matches regexp_replace sha256 trim try try_cast unhex unnest
    """,
    "athena": f"""{STANDARD}
        array_join concat_ws element_at from_hex from_iso8601_timestamp_nanos json_extract json_extract_scalar
        json_format json_parse last_value map_keys max_by regexp_like regexp_replace sha256 to_hex to_utf8
        transform try try_cast unnest
    """,
    "redshift": f"{STANDARD} btrim from_hex regexp_replace sha2 to_varbyte",
}
LAYERS = ["staging", "curated", "refined"]
DIALECTS = {"local": "duckdb", "athena": "athena"}  # of the targets that build all layers


@pytest.fixture
def aws() -> Iterator[str]:
    """The URL of a server that answers for AWS."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    requests.post(f"http://{host}:{port}/moto-api/reset", timeout=10)  # what it holds outlives it
    server.stop()


@pytest.fixture
def engine(dbt: Dbt, aws: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`engine("athena", "compile")` runs dbt on that target as if its account were there."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "made-up")
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws)
    monkeypatch.setenv("AWS_REGION", "us-east-1")

    def run(target: str, *arguments: str) -> Any:
        if target != "local":
            monkeypatch.setenv("LAKE_URI", "s3://lake")
            monkeypatch.setenv("VAULT_URI", "s3://vault")
        return dbt(*arguments, "--target", target)

    return run


@pytest.fixture
def built(aws: str) -> None:
    """Glue holds a table for every model, so that incremental models compile as on a later run."""
    glue = boto3.client("glue", "us-east-1", endpoint_url=aws, aws_access_key_id="-", aws_secret_access_key="-")
    for layer in LAYERS:
        glue.create_database(DatabaseInput={"Name": layer})
        for name in model_names(layer):
            table = {"Name": name, "TableType": "EXTERNAL_TABLE", "Parameters": {"table_type": "ICEBERG"}}
            glue.create_table(DatabaseName=layer, TableInput=table)


def model_names(layer: str) -> set[str]:
    return {path.stem for path in (PROJECT / "models" / layer).rglob("*.sql")}


def called_functions(sql: str, dialect: str) -> set[str]:
    """The names that a statement calls: our SQL writes `name(` for a call, and `name (` for everything else."""
    tokens = sqlglot.tokenize(sql, dialect=dialect)
    return {
        token.text.lower()
        for before, token, after in zip([None, *tokens], tokens, tokens[1:], strict=False)
        if after.token_type == TokenType.L_PAREN
        and after.start == token.end + 1
        and token.text[-1].isalnum()
        and not (before and before.token_type == TokenType.ALIAS)
    }


def mistakes(sql: str, dialect: str) -> set[str]:
    """What a compiled statement calls that its engine does not have; raises where it does not even parse."""
    sqlglot.parse_one(sql, dialect=dialect)
    return called_functions(sql, dialect) - set(FUNCTIONS[dialect].split())


@pytest.mark.parametrize("target", DIALECTS)
def test_first_run_compiles_to_the_sql_of_its_engine(engine: Callable[..., Any], target: str) -> None:
    nodes = [result.node for result in engine(target, "compile").results if result.node.resource_type != "seed"]
    models = {node.name for node in nodes if node.resource_type == "model"}
    assert models == set().union(*map(model_names, LAYERS))
    assert {node.name: wrong for node in nodes if (wrong := mistakes(node.compiled_code, DIALECTS[target]))} == {}


def test_later_run_compiles_to_the_sql_of_its_engine(engine: Callable[..., Any], built: None) -> None:
    results = engine("athena", "compile", "--select", "path:models,config.materialized:incremental").results
    nodes = [result.node for result in results if result.node.resource_type == "model"]
    wrong = {node.name: mistakes(node.compiled_code, "athena") for node in nodes}
    assert wrong
    assert not any(wrong.values()), wrong
    assert any("where false" in node.compiled_code for node in nodes), "no model asks for new rows only"


@pytest.mark.parametrize(
    ("dialect", "sql"),
    [
        ("athena", "select json_type(payload) from t"),
        ("athena", "select list_transform(names, x -> upper(x)) from t"),
        ("redshift", "select sha256(value) from t"),
        ("redshift", "select max_by(name, batch_id) from t"),
    ],
)
def test_a_function_of_another_engine_is_caught(dialect: str, sql: str) -> None:
    assert mistakes(sql, dialect)


@pytest.mark.parametrize(
    ("dialect", "sql"), [("athena", "select * exclude (a) from t where"), ("redshift", "select a.[1] from t")]
)
def test_what_the_engine_cannot_parse_is_caught(dialect: str, sql: str) -> None:
    with pytest.raises(sqlglot.ParseError):
        mistakes(sql, dialect)


def test_athena_gets_a_projected_external_table_for_each_raw_table(
    engine: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    engine("athena", "run-operation", "create_raw_tables", "--args", "{dry_run: true}")
    statements = dict.fromkeys(capsys.readouterr().out.split(";\n\n"))
    assert (
        """
create external table if not exists `raw`.`disney_characters` (
    `batch_id` string,
    `extracted_at` timestamp,
    `request_url` string,
    `position` int,
    `payload` string
)
partitioned by (`load_date` date)
stored as parquet
location 's3://lake/raw/disney/characters/'
tblproperties (
    'projection.enabled' = 'true',
    'projection.load_date.type' = 'date',
    'projection.load_date.format' = 'yyyy-MM-dd',
    'projection.load_date.range' = '2026-01-01,NOW+1DAYS'
)""".strip()
        in statements
    )
    assert (
        """
create external table if not exists `vault`.`masking_key` (
    `key_id` string,
    `inner_pad` string,
    `outer_pad` string
)
stored as parquet
location 's3://vault/masking_key/'""".strip()
        in statements
    )
    [report] = [statement for statement in statements if "`raw`.`aws_cost_and_usage`" in statement]
    assert "    `line_item_unblended_cost` double,\n    `resource_tags` map<string,string>\n)" in report
    assert (
        """
partitioned by (`billing_period` string)
stored as parquet
location 's3://lake/raw/aws/cost_and_usage/data/'
tblproperties (
    'projection.enabled' = 'true',
    'projection.billing_period.type' = 'date',
    'projection.billing_period.format' = 'yyyy-MM',
    'projection.billing_period.range' = '2026-01,NOW',
    'storage.location.template' = 's3://lake/raw/aws/cost_and_usage/data/BILLING_PERIOD=${billing_period}/'
)""".strip()
        in report
    )
    assert "create database if not exists `raw`" in statements
    assert any("`raw`.`customer_usuarios`" in statement for statement in statements)


@pytest.mark.parametrize("target", ["redshift_dev", "local_dev"])
def test_developers_schemas_bear_their_name(
    target: str, engine: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Use faults F15: on DuckDB too."""
    monkeypatch.setenv("USER", "ana")
    nodes = [node for node in engine(target, "parse").nodes.values() if node.resource_type == "model"]
    assert {node.schema for node in nodes} == {"ana_staging", "ana_curated", "ana_refined"}


@pytest.mark.parametrize(
    ("target", "readers"),
    [("redshift", "role:analyst"), ("redshift", ""), ("redshift_dev", "role:analyst"), ("athena", "role:analyst")],
)
def test_refined_on_redshift_alone_is_granted_and_only_to_named_readers(
    engine: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, target: str, readers: str
) -> None:
    """An empty list, not none: dbt revokes by a list alone."""
    monkeypatch.setenv("REDSHIFT_READERS", readers)
    nodes = engine(target, "parse").nodes.values()
    granted = {node.name: node.config.grants for node in nodes if node.resource_type in ("model", "seed")}
    listed = {"select": [readers] if readers else []} if target == "redshift" else {}
    assert {name: grants for name, grants in granted.items() if grants} == dict.fromkeys(
        model_names("refined") if target == "redshift" else (), listed
    )


def test_the_feature_set_alone_is_granted_to_its_readers(
    engine: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def granted() -> dict[str, list[str]]:
        nodes = engine("redshift", "parse").nodes.values()
        return {node.name: node.config.grants["select"] for node in nodes if node.config.get("grants")}

    nobody = {name: [] for name in model_names("refined")}
    monkeypatch.setenv("REDSHIFT_FEATURE_READERS", "role:data_scientist")
    assert granted() == nobody | {"user_features": ["role:data_scientist"]}
    monkeypatch.setenv("REDSHIFT_READERS", "role:analyst, group:bi")
    assert granted() == {name: ["role:analyst", "group:bi"] for name in nobody} | {
        "user_features": ["role:analyst", "group:bi", "role:data_scientist"]
    }


def test_every_text_of_refined_has_a_length(engine: Callable[..., Any]) -> None:
    """Without one it has 256 bytes on Redshift, and whoever writes a longer value stops the model for good."""
    nodes = [node for node in engine("local", "parse").nodes.values() if node.schema == "refined"]
    types = {
        f"{node.name}.{name}": column.data_type
        for node in nodes
        if node.resource_type == "model"
        for name, column in node.columns.items()
    }
    assert {column.partition(".")[0] for column in types} == model_names("refined")
    bare = {
        column for column, kind in types.items() if kind.startswith(("varchar", "text", "string")) and "(" not in kind
    }
    assert bare == set()
    assert all(0 < int(kind[8:-1]) <= 65535 for kind in types.values() if kind.startswith("varchar"))


STAGED = "base_customer__user_changes"


@pytest.fixture
def lake_formation(aws: str) -> Any:
    """Lake Formation, which has the project's tags; some tables are falsely tagged as free of personal data."""
    connect = {"region_name": "us-east-1", "endpoint_url": aws, "aws_access_key_id": "-", "aws_secret_access_key": "-"}
    glue, client = boto3.client("glue", **connect), boto3.client("lakeformation", **connect)
    boto3.client("s3", **connect).create_bucket(Bucket="lake")
    for key in ("layer", "pii"):
        client.create_lf_tag(TagKey=key, TagValues=["none"])
    for schema, name in [("staging", STAGED), ("ana_staging", STAGED), ("curated", "brazilian_states")]:
        glue.create_database(DatabaseInput={"Name": schema})
        if name == STAGED:
            glue.create_table(DatabaseName=schema, TableInput={"Name": name, "TableType": "VIRTUAL_VIEW"})
        tags = [{"TagKey": "pii", "TagValues": ["none"]}]
        client.add_lf_tags_to_resource(Resource={"Table": {"DatabaseName": schema, "Name": name}}, LFTags=tags)
    return client


def tags_on(lake_formation: Any, schema: str, name: str, *columns: str) -> dict[str, dict[str, str]]:
    """The tags of a table, under its name, and of those columns that have their own."""
    table = {"DatabaseName": schema, "Name": name}
    found = [{"Name": name, "LFTags": lake_formation.get_resource_lf_tags(Resource={"Table": table})["LFTagsOnTable"]}]
    if columns:
        resource = {"TableWithColumns": {**table, "ColumnNames": columns}}
        found += lake_formation.get_resource_lf_tags(Resource=resource).get("LFTagsOnColumns", [])
    return {each["Name"]: {tag["TagKey"]: tag["TagValues"][0] for tag in each["LFTags"]} for each in found}


def test_athena_tags_tables_and_their_personal_columns(
    engine: Callable[..., Any], lake_formation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKE_FORMATION_TAGS", "true")
    engine("athena", "build", "--select", STAGED, "brazilian_states", "--resource-type", "model", "seed")
    assert tags_on(lake_formation, "staging", STAGED, "full_name", "cpf", "notes", "op") == {
        STAGED: {"layer": "staging", "pii": "undeclared"},
        "full_name": {"pii": "name"},
        "cpf": {"pii": "cpf"},
        "notes": {"pii": "free_text"},
    }
    states = {"brazilian_states": {"layer": "curated", "pii": "undeclared"}}
    assert tags_on(lake_formation, "curated", "brazilian_states", "state_name") == states


@pytest.mark.parametrize(
    ("target", "schema", "wanted"), [("athena", "staging", "false"), ("athena_dev", "ana_staging", "true")]
)
def test_athena_tags_nothing_unless_told_to(
    engine: Callable[..., Any],
    lake_formation: Any,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    schema: str,
    wanted: str,
) -> None:
    monkeypatch.setenv("LAKE_FORMATION_TAGS", wanted)
    monkeypatch.setenv("USER", "ana")
    engine(target, "run", "--select", STAGED)
    assert tags_on(lake_formation, schema, STAGED, "cpf") == {STAGED: {"pii": "none"}}


def test_a_setting_of_lake_formation_that_means_nothing_stops_dbt(
    engine: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKE_FORMATION_TAGS", "yes")
    with pytest.raises(AssertionError, match="LAKE_FORMATION_TAGS is 'yes': set it to true or false"):
        engine("athena", "parse")


def test_refined_alone_is_tagged_as_free_of_personal_data(engine: Callable[..., Any]) -> None:
    inline = "{% for node in graph.nodes.values() if node.resource_type == 'model' %}{{ node.name }} "
    inline += "{{ lake_formation_tags(node).tags.pii }};{% endfor %}"
    compiled = engine("local", "compile", "--inline", inline).results[0].node.compiled_code
    tags = dict(line.split() for line in compiled.strip(";").split(";"))
    assert {name for name, tag in tags.items() if tag == "none"} == model_names("refined")
    assert set(tags) == set().union(*map(model_names, LAYERS))


def test_the_administrator_is_told_every_tag_that_the_project_uses(
    engine: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    engine("local", "run-operation", "print_lake_formation_setup")
    said = capsys.readouterr().out
    values = set(re.search("--tag-key pii --tag-values (.*)", said)[1].split())
    assert values >= {"undeclared", "none", "name", "email", "cpf", "phone", "free_text"}
    assert "--tag-key layer --tag-values curated refined staging\n" in said


# What an engine answers to the questions that hooks ask before they write: somebody was erased, the key was changed.
TYPES = {"load_date": "date", "landed_at": "timestamp", "committed_at": "timestamp"}
ANSWERS = {
    "max(batch_id), max(landed_at)": {"batch_id": "b2", "landed_at": "2026-11-20 10:00:00", "load_date": "2026-11-20"},
    "select max(load_date)": {"load_date": "2026-11-20"},
    "first_batch_id": {"first_batch_id": "b1", "last_batch_id": "b2"},
    "min(committed_at)": {"committed_at": "2026-11-20 10:00:00"},
    "min(key_id)": {"least": "former", "greatest": "present"},
    "limit 1": {"found": "1"},
}


def answer(sql: str) -> dict[str, str]:
    return next((row for question, row in ANSWERS.items() if question in sql), {})


def athena_answers(backend: AthenaBackend, execution: str) -> QueryResults:
    row = answer(backend.executions[execution].query)
    described = {"CatalogName": "hive", "SchemaName": "", "TableName": "", "Precision": 0, "Scale": 0}
    described |= {"Nullable": "UNKNOWN", "CaseSensitive": False}
    columns = [described | {"Name": name, "Label": name, "Type": TYPES.get(name, "varchar")} for name in row]
    values = [{"Data": [{"VarCharValue": text} for text in line]} for line in (row.keys(), row.values()) if row]
    return QueryResults(rows=values, column_info=columns)


@pytest.mark.parametrize(
    ("model", "verb"),
    [
        ("user_changes", "update"),
        ("completed_user_changes", "delete"),
        ("fct_user_changes", "delete"),
        ("dim_users", "delete"),
    ],
)
def test_hooks_write_the_sql_of_their_engine(
    engine: Callable[..., Any], built: None, aws: str, monkeypatch: pytest.MonkeyPatch, model: str, verb: str
) -> None:
    """They run before the model does; that one then fails, because no server here makes the tables that it asks for."""
    monkeypatch.setattr(AthenaBackend, "get_query_results", athena_answers)
    with suppress(AssertionError):
        engine("athena", "run", "--select", model)
    statements = [re.sub(r"^\s*(--|/\*).*\n\s*", "", sql) for sql in athena_queries(aws)]
    hook = next(sql for sql in statements if re.match(f"(update|delete from) .*{model}", sql))
    assert hook.startswith(verb)
    assert mistakes(hook, "athena") == set()


def athena_queries(aws: str) -> list[str]:
    """What Athena was asked, first to last."""
    client = boto3.client("athena", "us-east-1", endpoint_url=aws)
    identifiers = client.list_query_executions()["QueryExecutionIds"]
    return [client.get_query_execution(QueryExecutionId=each)["QueryExecution"]["Query"] for each in identifiers]
