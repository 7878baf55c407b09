"""Each job's policy allows what its code calls, and little else.

The loaders run against a local S3 and a real PostgreSQL; every request that they make is held against the policy of the
job. What dbt's adapter may call is read from its source. No IAM of AWS's was asked.
"""

import ast
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import botocore.session
import psycopg
import pytest
import redshift_connector.iam_helper
from botocore import xform_name
from botocore.client import BaseClient

from loaders import compaction, disney, erasure, key, raw, retention, settings, success, swap, users
from loaders.lake import open_lake
from sandbox import postgres
from sandbox.characters import characters
from sandbox.disney_api import DisneyApi
from tests.infra.iam import Call, Policy, calls
from tests.infra.rules import Templates, listed, of_type, statements
from tests.loaders.raw_files import land_changes, land_crawl
from tests.loaders.users.conftest import person

LAKE_KEY, VAULT_KEY = "arn:aws:kms:us-east-1:111122223333:key/lake", "arn:aws:kms:us-east-1:111122223333:key/vault"
# Allowed, though no test gets there.
SELDOM = {"s3:AbortMultipartUpload": "a large upload that breaks off"}


class Platform(NamedTuple):
    """Buckets and a secret on the local server, named as the templates' parameters are."""

    values: dict[str, str]
    keys: dict[str, str]

    def settings(self, **given: str) -> settings.Settings:
        places = {
            "LAKE_URI": f"s3://{self.values['RawBucketName']}",
            "VAULT_URI": f"s3://{self.values['VaultBucketName']}",
            "DOCS_URI": f"s3://{self.values['RefinedBucketName']}/docs",
        }
        return settings.from_environment(places | given)


@pytest.fixture
def platform(aws: None) -> Platform:
    s3, number = boto3.client("s3"), f"{datetime.now(UTC):%H%M%S%f}"
    values = {
        f"{name}BucketName": f"{name.lower()}-{number}" for name in ("Raw", "Curated", "Refined", "Vault", "Results")
    }
    for bucket in values.values():
        s3.create_bucket(Bucket=bucket)
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    secret = boto3.client("secretsmanager").create_secret(Name=f"masking-key-{number}", SecretString="ab" * 32)["ARN"]
    keys = dict.fromkeys(values.values(), LAKE_KEY) | {values["VaultBucketName"]: VAULT_KEY, secret: VAULT_KEY}
    values |= {
        "MaskingKeySecretId": secret,
        "CustomerDsnSecretId": "arn:aws:secretsmanager:us-east-1:111122223333:secret:customer-dsn",
        "CustomerSnapshotDsnSecretId": "arn:aws:secretsmanager:us-east-1:111122223333:secret:customer-snapshot-dsn",
        "LakeKmsKeyId": LAKE_KEY,
        "VaultKmsKeyId": VAULT_KEY,
        "AWS::Partition": "aws",
        "AWS::Region": "us-east-1",
        "AWS::AccountId": "111122223333",
    }
    return Platform(values, keys)


@pytest.fixture
def asked(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """What IAM would be asked for every request that boto3 makes from now on."""
    found: list[Call] = []
    send = BaseClient._make_api_call

    def noted(client: BaseClient, operation: str, params: dict[str, Any]) -> Any:
        found.extend(calls(operation, params, platform.keys))
        return send(client, operation, params)

    monkeypatch.setattr(BaseClient, "_make_api_call", noted)
    return found


def refused(policy: Policy, asked: list[Call]) -> list[Call]:
    assert asked, "nothing was called"
    return sorted({call for call in asked if not policy.allows(call)})


def unused(policy: Policy, asked: list[Call]) -> set[str]:
    return policy.actions - {call.action for call in asked} - SELDOM.keys()


def test_the_loader_may_do_what_it_calls(
    platform: Platform, asked: list[Call], customer: postgres.Database, templates: Templates
) -> None:
    with DisneyApi(characters(30, seed=1)) as api:
        config = platform.settings(
            DISNEY_API_URL=api.url, CUSTOMER_DSN=customer.dsn, CUSTOMER_SNAPSHOT_DSN=customer.snapshot_dsn
        )
        for _ in range(2):  # the first run finds an empty lake, the second one what it left
            disney.land(config)
            users.land(config)
    success.record(config, "lakehouse")
    policy = Policy(templates, ["Loader"], platform.values)
    assert refused(policy, asked) == []
    # MWAA's start-up script reads the DSNs.
    for name in ("CustomerDsnSecretId", "CustomerSnapshotDsnSecretId"):
        script = list(calls("GetSecretValue", {"SecretId": platform.values[name]}, {platform.values[name]: VAULT_KEY}))
        assert refused(policy, script) == []
        asked += script
    assert unused(policy, asked) == set()


def old_raw(config: settings.Settings) -> None:
    lake, day = open_lake(config.lake_uri), datetime.now(UTC) - timedelta(days=40)
    raw.ensure_tables(lake)
    for minutes in (0, 5, 10):
        land_crawl(lake, day + timedelta(minutes=minutes))
        land_changes(lake, day + timedelta(minutes=minutes), minutes * 16, minutes * 16 + 80)
    land_changes(lake, day + timedelta(days=2), 0, 16, epoch=2)
    land_crawl(lake, day + timedelta(days=2))


def test_the_keeper_may_do_what_it_calls(platform: Platform, asked: list[Call], templates: Templates) -> None:
    config = platform.settings(RAW_RETENTION_DAYS="30")
    old_raw(config)
    asked.clear()
    assert compaction.compact(config)
    assert any(retention.retain(config).files.values())
    policy = Policy(templates, ["Keeper"], platform.values)
    assert refused(policy, asked) == []
    assert unused(policy, asked) == set()


def begin_a_compaction(config: settings.Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave one behind that was killed before it deleted."""
    lake = open_lake(config.lake_uri)
    with monkeypatch.context() as killed:
        killed.setattr(type(lake), "delete", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            compaction.compact(config)


def test_a_loader_alone_may_not_finish_what_a_killed_compaction_left(
    platform: Platform, asked: list[Call], templates: Templates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It deletes, which is the keeper's alone. MWAA's role may do both; a loader of its own role lands all the same."""
    config = platform.settings()
    old_raw(config)
    begin_a_compaction(config, monkeypatch)
    asked.clear()
    swap.finish(open_lake(config.lake_uri))
    assert {call.action for call in refused(Policy(templates, ["Loader"], platform.values), asked)} == {
        "s3:DeleteObject"
    }
    assert refused(Policy(templates, ["Loader", "Keeper"], platform.values), asked) == []


def test_the_eraser_may_do_what_it_calls_and_the_loader_goes_on(
    platform: Platform,
    asked: list[Call],
    customer: postgres.Database,
    templates: Templates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = platform.settings(CUSTOMER_DSN=customer.dsn, CUSTOMER_SNAPSHOT_DSN=customer.snapshot_dsn)
    with psycopg.connect(customer.app_dsn, autocommit=True) as application:
        for written in (
            person("Joana", id="8"),
            person("Zebedeu", id="7"),
            "UPDATE public.usuarios SET cidade = 'Recife' WHERE id = 7",
        ):
            application.execute(written)
            users.land(config)
    lake, day = open_lake(config.lake_uri), datetime.now(UTC) - timedelta(days=3)
    for minutes in (0, 5):  # a closed day, for a compaction to be finished before
        land_changes(lake, day + timedelta(minutes=minutes), minutes * 16, minutes * 16 + 80)
    begin_a_compaction(config, monkeypatch)
    asked.clear()

    done = erasure.erase(config, ["7"])
    assert (done.exit_code, done.is_raw_clean, done.files) == (0, True, 2)
    assert erasure.erase(config, [], check=True).exit_code == 0
    policy = Policy(templates, ["Eraser"], platform.values)
    assert refused(policy, asked) == []
    assert unused(policy, asked) == set()

    # Who was erased is known to the loader, by no more than its own policy.
    asked.clear()
    with psycopg.connect(customer.app_dsn, autocommit=True) as application:
        application.execute("DELETE FROM public.usuarios WHERE id = 7")
    assert users.land(config).rows == 1
    assert refused(Policy(templates, ["Loader"], platform.values), asked) == []


def test_the_key_maker_may_do_what_it_calls(platform: Platform, asked: list[Call], templates: Templates) -> None:
    config = platform.settings(MASKING_KEY_SECRET_ID=platform.values["MaskingKeySecretId"])
    assert key.write(config).rows == 1
    assert key.write(config).rows == 0
    assert key.write(platform.settings(MASKING_KEY="cd" * 32), rotate=True).rows == 1
    policy = Policy(templates, ["KeyMaker"], platform.values)
    assert refused(policy, asked) == []
    assert unused(policy, asked) == set()


def test_the_watcher_may_do_what_it_calls(platform: Platform, asked: list[Call], templates: Templates) -> None:
    config = platform.settings()
    success.record(config, "lakehouse")
    asked.clear()
    success.check(config, "lakehouse", 10)
    policy = Policy(templates, ["Watcher"], platform.values)
    assert refused(policy, asked) == []
    assert unused(policy, asked) == set()


def test_the_docs_publisher_may_do_what_it_calls(platform: Platform, asked: list[Call], templates: Templates) -> None:
    """As dags/lakehouse_tasks.py does it."""
    with open_lake(platform.settings().docs_uri).new_file("index.html") as path:
        path.write_text("<html></html>")
    policy = Policy(templates, ["DocsPublisher"], platform.values)
    assert refused(policy, asked) == []
    assert unused(policy, asked) == {"kms:Decrypt"}  # an upload in parts


@pytest.mark.parametrize(
    ("job", "action", "place"),
    [
        ("Loader", "s3:DeleteObject", "{RawBucketName}/raw/customer/usuarios/x.parquet"),
        ("Loader", "s3:PutObject", "{RawBucketName}/raw/aws/cost_and_usage/data/BILLING_PERIOD=2026-11/x"),
        ("Loader", "s3:PutObject", "{CuratedBucketName}/tables/x"),
        ("Loader", "s3:GetObject", "{VaultBucketName}/masking_key/masking_key.parquet"),
        ("Loader", "s3:PutObject", "{VaultBucketName}/erasure_ledger/erasure_ledger.parquet"),
        ("Loader", "s3:DeleteObjectVersion", "{RawBucketName}/raw/customer/usuarios/x.parquet"),
        ("Keeper", "s3:DeleteObject", "{RawBucketName}/state/customer.usuarios.json"),
        ("Keeper", "s3:DeleteObjectVersion", "{RawBucketName}/raw/customer/usuarios/x.parquet"),
        ("Eraser", "s3:DeleteObject", "{RawBucketName}/raw/disney/characters/x.parquet"),
        ("Eraser", "s3:DeleteObjectVersion", "{VaultBucketName}/erasure_ledger/erasure_ledger.parquet"),
        ("Eraser", "s3:GetObject", "{VaultBucketName}/masking_key/masking_key.parquet"),
        ("Eraser", "s3:GetObject", "{CuratedBucketName}/tables/curated/users/x"),
        ("KeyMaker", "s3:GetObject", "{VaultBucketName}/erasure_ledger/erasure_ledger.parquet"),
        ("Transformer", "s3:PutObject", "{RawBucketName}/raw/customer/usuarios/x.parquet"),
        ("Transformer", "s3:GetObject", "{RawBucketName}/state/customer.usuarios.json"),
        ("Transformer", "s3:PutObject", "{VaultBucketName}/masking_key/masking_key.parquet"),
        ("Transformer", "s3:GetObject", "{VaultBucketName}/erasure_key/erasure_key.parquet"),
        ("DocsPublisher", "s3:PutObject", "{RefinedBucketName}/features/x"),
        ("DocsPublisher", "s3:GetObject", "{RawBucketName}/raw/disney/characters/x"),
        ("Watcher", "s3:GetObject", "{RawBucketName}/raw/customer/usuarios/x.parquet"),
        ("Analyst", "s3:GetObject", "{CuratedBucketName}/tables/curated/users/x"),
        ("Analyst", "s3:GetObject", "{ResultsBucketName}/dbt/x"),
        ("Engineer", "s3:GetObject", "{VaultBucketName}/masking_key/masking_key.parquet"),
        ("Engineer", "s3:GetObject", "{RawBucketName}/raw/customer/usuarios/x.parquet"),
        ("Operator", "s3:GetObject", "{RawBucketName}/raw/customer/usuarios/x.parquet"),
    ],
)
def test_a_job_may_not(job: str, action: str, place: str, platform: Platform, templates: Templates) -> None:
    values = platform.values | {
        name: name for name in templates["access"]["Parameters"].keys() - platform.values.keys()
    }
    policy = Policy(templates, [job], values)
    ours = [
        statement for statement in policy.statements if any(a.startswith("s3:") for a in listed(statement["Action"]))
    ]
    policy.statements = ours
    assert not policy.allows(Call(action, f"arn:aws:s3:::{place.format(**platform.values)}"))


# What dbt-athena has code for, and we do not use.
GRANTS = "grants are the stacks' (config lf_grants)"
NOT_USED = {
    "lakeformation:ListDataCellsFilter": GRANTS, "lakeformation:CreateDataCellsFilter": GRANTS,
    "lakeformation:UpdateDataCellsFilter": GRANTS, "lakeformation:DeleteDataCellsFilter": GRANTS,
    "lakeformation:ListPermissions": GRANTS, "lakeformation:BatchGrantPermissions": GRANTS,
    "lakeformation:BatchRevokePermissions": GRANTS,
    "athena:GetCalculationExecution": "Spark", "athena:StartCalculationExecution": "Spark",
    "athena:StopCalculationExecution": "Spark", "athena:StartSession": "Spark", "athena:GetSessionStatus": "Spark",
    "sts:AssumeRole": "profiles.yml names no role", "sts:GetCallerIdentity": "everybody may",
    "glue:DeleteDatabase": "the layers' databases are the stacks'",
}  # fmt: skip
S3_ACTIONS = {"ListObjectsV2": "s3:ListBucket", "DeleteObjects": "s3:DeleteObject"}


def actions_in(folder: Path) -> Iterator[str]:
    """The IAM action of each call in these sources of a method that a client of boto3 has."""
    session = botocore.session.get_session()
    operations: dict[str, list[str]] = {}
    for service in ("s3", "glue", "athena", "lakeformation", "sts", "redshift-serverless"):
        for operation in session.get_service_model(service).operation_names:
            operations.setdefault(xform_name(operation), []).append(f"{service}:{operation}")
    for path in folder.rglob("*.py") if folder.is_dir() else [folder]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            name = node.func.attr
            if name == "get_paginator":
                name = node.args[0].value
            for action in operations.get(name, []):
                yield S3_ACTIONS.get(action.partition(":")[2], action)


def test_dbt_may_do_what_its_adapters_call(templates: Templates, counted: Callable[[str], None]) -> None:
    policy = Policy(templates, ["Transformer"], {})
    called = set(actions_in(Path(find_spec("dbt.adapters.athena").origin).parent))
    assert len(called) > 25
    assert called - NOT_USED.keys() - policy.actions == set()
    tagging = {action for action in policy.actions if action.startswith("lakeformation:")}
    assert tagging - called == {"lakeformation:GetDataAccess"}  # which Athena asks for
    redshift = set(actions_in(Path(redshift_connector.iam_helper.__file__)))
    assert {action for action in redshift if action.startswith("redshift-serverless")} <= policy.actions
    documents = list(of_type(templates, "AWS::IAM::Role", "AWS::IAM::ManagedPolicy"))
    actions = set().union(
        *(
            set(listed(statement["Action"]))
            for _, _, properties in documents
            for policy in [properties, *properties.get("Policies", [])]
            for statement in policy.get("PolicyDocument", {"Statement": []})["Statement"]
        )
    )
    counted(
        f"IAM:         {len(documents)} roles and policies, {len(actions)} actions; held against the calls of the code"
    )


def test_consumption_sees_refined_alone(templates: Templates) -> None:
    """Its roles reach the warehouse, which grants them refined; none reads an object or a table of the lake."""
    only = {"consumption": templates["consumption"]}
    services = {
        action.partition(":")[0] for _, _, statement in statements(only) for action in listed(statement["Action"])
    }
    assert services == {"ec2", "kms", "redshift-serverless", "sagemaker", "secretsmanager"}
    assert not [name for name in only["consumption"]["Parameters"] if name.endswith(("BucketName", "DatabaseName"))]


def test_the_notebook_may_do_what_the_example_calls(templates: Templates) -> None:
    """Which calls its driver makes is shown by tests/dbt/test_features.py; here is all that the driver could."""
    role = templates["consumption"]["Resources"]["DataScientistNotebookRole"]
    document = role["Properties"]["Policies"][0]["PolicyDocument"]
    allowed = {action for statement in document["Statement"] for action in listed(statement["Action"])}
    called = set(actions_in(Path(redshift_connector.iam_helper.__file__)))
    assert allowed == {action for action in called if action.startswith("redshift-serverless:")} | {
        "sagemaker:StopNotebookInstance"  # its start-up script
    }
