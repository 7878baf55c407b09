"""One project, three engines: without an account dbt compiles it for each, and what it compiles is that engine's SQL.

No engine runs the SQL here but DuckDB. Athena's catalogue is a moto server; Redshift's connection is replaced where
it would open its socket. What the engines would say of the SQL beyond its grammar and its functions is not known here.
"""

from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
import redshift_connector
import requests
import sqlglot
from moto.server import ThreadedMotoServer
from sqlglot.tokens import TokenType

from tests.dbt.conftest import ROOT
from tests.dbt.lakes import Dbt

PROJECT = ROOT / "dbt_project"

# The functions that our SQL may call, each looked up in its engine's documentation: a parser takes any name for a
# function, and nobody here can ask Athena or Redshift.
STANDARD = """
    avg cast chr coalesce concat count date_trunc extract greatest lag lead length lower max min nullif over replace
    reverse row_number rtrim split_part strpos substr sum upper values
"""
FUNCTIONS = {
    "duckdb": f"""{STANDARD}
        arg_max_null array_to_string concat_ws encode from_json generate_subscripts json_keys json_type last_value
        read_parquet regexp_matches regexp_replace sha256 trim try try_cast unhex unnest
    """,
    "athena": f"""{STANDARD}
        array_join concat_ws from_hex from_iso8601_timestamp_nanos json_extract json_extract_scalar json_format
        json_parse last_value map_keys max_by regexp_like regexp_replace sha256 to_hex to_utf8 try try_cast unnest
    """,
    "redshift": f"{STANDARD} btrim from_hex regexp_replace sha2 to_varbyte",
}
LAYERS = ["staging", "curated", "refined"]
DIALECTS = {"local": "duckdb", "athena": "athena", "redshift": "redshift"}


class Cursor:
    """Redshift's answers: it knows of refined's tables where they are `built`, and says nothing else."""

    built = False
    rowcount = 0
    description: Sequence[tuple[str, int]] | None = None

    def __enter__(self) -> "Cursor":
        return self

    def __exit__(self, *_: object) -> None: ...

    def execute(self, sql: str, *_: Any) -> "Cursor":
        lists_tables = self.built and "from information_schema.tables" in sql
        self.description = [(name, 1043) for name in ("database", "name", "schema", "type")] if lists_tables else None
        return self

    def fetchone(self) -> None: ...

    def fetchall(self) -> list[tuple[str, ...]]:
        return [("lakehouse", name, "refined", "table") for name in model_names("refined")]


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
    monkeypatch.setenv("REDSHIFT_HOST", "group.123456789012.us-east-1.redshift-serverless.amazonaws.com")
    connection = SimpleNamespace(cursor=Cursor, close=lambda: None, commit=lambda: None, rollback=lambda: None)
    monkeypatch.setattr(redshift_connector, "connect", lambda **_: connection)

    def run(target: str, *arguments: str) -> Any:
        if target != "local":
            monkeypatch.setenv("LAKE_URI", "s3://lake")
            monkeypatch.setenv("VAULT_URI", "s3://vault")
        return dbt(*arguments, "--target", target)

    return run


@pytest.fixture
def built(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both catalogues hold a table for every model, so that incremental models compile as on a later run."""
    monkeypatch.setattr(Cursor, "built", True)
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
    layers = ["refined"] if target == "redshift" else LAYERS
    models = {node.name for node in nodes if node.resource_type == "model"}
    assert models == set().union(*map(model_names, layers))
    assert {node.name: wrong for node in nodes if (wrong := mistakes(node.compiled_code, DIALECTS[target]))} == {}


@pytest.mark.parametrize("target", ["athena", "redshift"])
def test_later_run_compiles_to_the_sql_of_its_engine(engine: Callable[..., Any], built: None, target: str) -> None:
    layers = "models/refined" if target == "redshift" else "models"
    results = engine(target, "compile", "--select", f"path:{layers},config.materialized:incremental").results
    nodes = [result.node for result in results if result.node.resource_type == "model"]
    wrong = {node.name: mistakes(node.compiled_code, DIALECTS[target]) for node in nodes}
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
    'projection.load_date.range' = '2020-01-01,NOW+1DAYS'
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
    assert "create database if not exists `raw`" in statements
    assert any("`raw`.`customer_usuarios`" in statement for statement in statements)


def test_redshift_reads_curated_and_the_vault_through_external_schemas(
    engine: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    role = "arn:aws:iam::123456789012:role/made-up"
    engine("redshift", "run-operation", "create_external_schemas", "--args", f"{{iam_role: '{role}', dry_run: true}}")
    curated, vault = capsys.readouterr().out.strip().rstrip(";").split(";\n\n")
    assert (
        curated
        == f"""
create external schema if not exists "curated"
from data catalog
database 'curated'
iam_role '{role}'""".strip()
    )
    assert vault == curated.replace("curated", "vault")


def test_developers_schemas_bear_their_name(engine: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "ana")
    nodes = [result.node for result in engine("redshift_dev", "compile").results]
    assert {node.schema for node in nodes if node.resource_type == "model"} == {"ana_refined"}
    assert any('"ana_curated"."users"' in node.compiled_code for node in nodes)
