"""`make deploy` and `make destroy` against ministack, a local CloudFormation that refuses what it does not know.

The templates are reduced by what it refuses. No AWS was ever asked.
"""

import io
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from infra import deploy
from infra.deploy import DeployError, Environment
from tests.infra.rules import Templates

pytestmark = pytest.mark.xdist_group("ministack")

# What ministack 1.5 refuses: the list of what was never deployed anywhere.
REFUSED = {
    "AWS::Athena::NamedQuery", "AWS::BCMDataExports::Export", "AWS::Budgets::Budget", "AWS::EC2::EIP",
    "AWS::EC2::FlowLog", "AWS::EC2::NatGateway", "AWS::EC2::SecurityGroupEgress", "AWS::EC2::SecurityGroupIngress",
    "AWS::LakeFormation::DataLakeSettings", "AWS::LakeFormation::PrincipalPermissions", "AWS::LakeFormation::Resource",
    "AWS::LakeFormation::Tag",
    "AWS::MWAA::Environment", "AWS::RedshiftServerless::Namespace", "AWS::RedshiftServerless::Workgroup",
}  # fmt: skip
PERSON = "arn:aws:iam::000000000000:role/person"
DEV = Environment(
    "dev",
    "us-east-1",
    {"LakeAdministratorArn": PERSON, "TrustedPrincipalArn": PERSON, "AlertEmail": "nobody@example.com"},
    usage_limit_rpu_hours=8,
    protected=False,
)


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a running ministack on loopback."""
    program = deploy.ROOT / ".checks/ministack/bin/ministack"
    if not program.exists():
        pytest.fail("ministack is not installed: `make infra-check` installs it into .checks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "IOT_MTLS_ENABLED": "false"}
    folder = tmp_path_factory.mktemp("ministack")
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [program], cwd=folder, env=os.environ | settings, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_for(port: int) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    pytest.fail("ministack did not start within two minutes")


@pytest.fixture
def account(ministack: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, templates: Templates) -> Iterator[Path]:
    """An empty account; the folder of the reduced templates, which a test may change."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "made-up")
    monkeypatch.setenv("AWS_ENDPOINT_URL", ministack)
    monkeypatch.setattr(deploy, "WAIT", {"Delay": 0.1, "MaxAttempts": 300})
    monkeypatch.setattr(deploy, "template_path", lambda stack: tmp_path / f"{stack}.json")
    for unknown in ("ensure_usage_limit", "ensure_pool"):  # to ministack: they have tests of their own
        monkeypatch.setattr(deploy, unknown, lambda *_: None)
    monkeypatch.setattr(deploy.warehouse, "prepare", lambda *_: 0)  # tests/infra/test_warehouse.py
    monkeypatch.setattr(deploy.bundle, "bundle", small_bundle)
    for stack, template in templates.items():
        (tmp_path / f"{stack}.json").write_text(json.dumps(reduced(template)))
    yield tmp_path
    deploy.destroy(Environment(**(DEV.__dict__)), yes=True)
    s3 = boto3.resource("s3", region_name="us-east-1")
    for bucket in s3.buckets.all():  # they are kept
        bucket.object_versions.delete()
        bucket.delete()


def small_bundle(folder: Path) -> None:
    """What `make mwaa` makes (tests/dags/test_mwaa.py), in small."""
    (folder / "dags").mkdir()
    for name in ("startup.sh", "requirements.txt", "dags/lakehouse.py"):
        (folder / name).write_text(name)


def reduced(template: dict[str, Any]) -> dict[str, Any]:
    """The template without what ministack refuses; references to it are made-up names."""
    gone = {name for name, resource in template["Resources"].items() if resource["Type"] in REFUSED}

    def without(node: Any) -> Any:
        if isinstance(node, dict):
            named = node.get("Ref") or node.get("Fn::GetAtt", [None])[0]
            if named in gone:
                return f"arn:aws:made-up:us-east-1:000000000000:{named}"
            kept = {key: without(value) for key, value in node.items() if key not in gone}
            if set(map(str, kept.get("DependsOn", []) if isinstance(kept.get("DependsOn"), list) else [])) & gone:
                kept["DependsOn"] = [name for name in kept["DependsOn"] if name not in gone]
            if kept.get("DependsOn") in gone:
                del kept["DependsOn"]
            return kept
        if isinstance(node, list):
            return [without(item) for item in node]
        return node

    found = without(json.loads(json.dumps(template)))
    if not found["Resources"]:  # a template needs one
        found["Resources"] = {"Nothing": {"Type": "AWS::SNS::Topic"}}
    return found


def statuses() -> dict[str, str]:
    stacks = boto3.client("cloudformation", region_name="us-east-1").describe_stacks()["Stacks"]
    return {stack["StackName"]: stack["StackStatus"] for stack in stacks if "DELETE" not in stack["StackStatus"]}


def test_one_command_makes_all_stacks_and_a_second_one_changes_nothing(
    account: Path, capsys: pytest.CaptureFixture[str], templates: Templates, counted: Callable[[str], None]
) -> None:
    outputs = deploy.deploy(DEV, yes=True)
    said = capsys.readouterr().out
    assert statuses() == {f"lakehouse-dev-{stack}": "CREATE_COMPLETE" for stack in deploy.STACKS}
    assert re.search(r"Add +AWS::S3::Bucket +RawBucket", said)
    # What no template makes comes after the stack that it belongs to.
    places = [
        said.index(text) for text in ("lakehouse-dev-warehouse (", "the warehouse's users", "lakehouse-dev-access (")
    ]
    assert places == sorted(places)

    # What one stack says, the next one takes: the loader's policy names the bucket that `storage` made.
    iam = boto3.client("iam", region_name="us-east-1")
    version = iam.get_policy(PolicyArn=outputs["LoaderPolicyArn"])["Policy"]["DefaultVersionId"]
    policy = iam.get_policy_version(PolicyArn=outputs["LoaderPolicyArn"], VersionId=version)["PolicyVersion"]
    assert f"arn:aws:s3:::{outputs['RawBucketName']}/state/*" in json.dumps(policy["Document"])

    # Airflow's bucket holds the bundle and the settings.
    s3 = boto3.client("s3", region_name="us-east-1")
    listed = s3.list_objects_v2(Bucket=outputs["AirflowBucketName"])["Contents"]
    assert {item["Key"] for item in listed} == {"startup.sh", "requirements.txt", "dags/lakehouse.py", "dags/.env"}
    written = s3.get_object(Bucket=outputs["AirflowBucketName"], Key="dags/.env")["Body"].read().decode()
    assert f"LAKE_URI=s3://{outputs['RawBucketName']}" in written.splitlines()
    assert "LAKE_TARGET=athena" in written.splitlines()

    assert deploy.deploy(DEV, yes=True) == outputs
    again = capsys.readouterr().out
    assert len(re.findall("nothing to change", again)) == len(deploy.STACKS)
    resources = [held["Type"] for template in templates.values() for held in template["Resources"].values()]
    made = sum(kind not in REFUSED for kind in resources)
    counted(
        f"ministack:   {made} of {len(resources)} resources deployed; it refuses {len(REFUSED)} types (test_deploy.py)"
    )


def test_it_refuses_what_is_listed_and_no_more(account: Path, templates: Templates) -> None:
    client, found = boto3.client("cloudformation", region_name="us-east-1"), set()
    for stack, template in templates.items():
        given = {name: "made-up" for name, held in template["Parameters"].items() if "Default" not in held}
        given |= {"Environment": "dev"} if "Environment" in template["Parameters"] else {}
        try:
            client.create_change_set(
                StackName=f"whole-{stack}",
                ChangeSetName="whole",
                ChangeSetType="CREATE",
                TemplateBody=json.dumps(template),
                Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()],
                Capabilities=["CAPABILITY_NAMED_IAM"],
            )
            client.delete_stack(StackName=f"whole-{stack}")
        except ClientError as error:
            found |= set(re.findall(r"AWS::\w+::\w+", str(error)))
    assert found == REFUSED


@pytest.mark.parametrize("typed", ["n\n", "\n", ""])
def test_nothing_is_done_before_somebody_agrees(account: Path, monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    """Nor where nobody is there to answer."""
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    with pytest.raises(DeployError, match="lakehouse-dev-keys was left as it is"):
        deploy.deploy(DEV)
    assert set(statuses().values()) <= {"REVIEW_IN_PROGRESS"}
    deploy.deploy(DEV, ("keys",), yes=True)  # a stack in review is no hindrance
    assert statuses()["lakehouse-dev-keys"] == "CREATE_COMPLETE"


def test_a_change_is_shown_and_made(account: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deploy.deploy(DEV, ("keys",), yes=True)
    path = account / "keys.json"
    template = json.loads(path.read_text())
    template["Resources"]["Another"] = {"Type": "AWS::SNS::Topic"}
    path.write_text(json.dumps(template))
    capsys.readouterr()
    deploy.deploy(DEV, ("keys",), yes=True)
    said = capsys.readouterr().out
    assert "lakehouse-dev-keys (update):" in said
    assert re.search(r"Add +AWS::SNS::Topic +Another", said)


def test_a_stack_that_fails_says_which_resource_and_stops_the_rest(account: Path) -> None:
    path = account / "storage.json"
    template = json.loads(path.read_text())
    template["Resources"]["Broken"] = {
        "Type": "AWS::Logs::MetricFilter",
        "Properties": {"LogGroupName": "nowhere", "FilterPattern": "x", "MetricTransformations": []},
    }
    path.write_text(json.dumps(template))
    with pytest.raises(DeployError, match=r"(?s)lakehouse-dev-storage failed and was rolled back:.*Broken: .*nowhere"):
        deploy.deploy(DEV, yes=True)
    assert "lakehouse-dev-catalogue" not in statuses()


def test_destroy_keeps_what_holds_data_and_refuses_what_is_protected(
    account: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy.deploy(DEV, ("keys", "storage"), yes=True)
    client = boto3.client("cloudformation", region_name="us-east-1")
    client.update_termination_protection(StackName="lakehouse-dev-storage", EnableTerminationProtection=True)
    with pytest.raises(DeployError, match="lakehouse-dev-storage is protected"):
        deploy.destroy(DEV, yes=True)
    client.update_termination_protection(StackName="lakehouse-dev-storage", EnableTerminationProtection=False)
    deploy.destroy(DEV, yes=True)
    assert statuses() == {}
    assert re.search("lakehouse-dev-storage: deleted, but kept: .*VaultBucket", capsys.readouterr().out)
    buckets = boto3.client("s3", region_name="us-east-1").list_buckets()["Buckets"]
    assert len(buckets) == 7
    deploy.destroy(DEV, yes=True)  # there is nothing left to do


def test_the_bundle_is_put_once(account: Path) -> None:
    deploy.deploy(DEV, ("keys", "storage"), yes=True)
    outputs = deploy.deploy(DEV, ())
    first = deploy.upload_bundle(DEV, outputs)
    assert deploy.upload_bundle(DEV, outputs) == first  # else MWAA would take half an hour to update to the same


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], "create_usage_limit"),
        ([{"usageLimitId": "1", "period": "daily", "amount": 4, "breachAction": "log"}], "update_usage_limit"),
        ([{"usageLimitId": "1", "period": "daily", "amount": 8, "breachAction": "deactivate"}], None),
    ],
)
def test_the_warehouse_has_a_usage_limit(found: list[dict[str, Any]], expected: str | None) -> None:
    """Against botocore's model of the service, which knows names and types."""
    client = boto3.client("redshift-serverless", "us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    with Stubber(client) as stub:
        stub.add_response("list_usage_limits", {"usageLimits": found} if found else {})
        if expected:
            stub.add_response(expected, {})
        deploy.ensure_usage_limit(client, "arn:aws:redshift-serverless:us-east-1:000000000000:workgroup/x", 8)
        stub.assert_no_pending_responses()


def test_airflow_has_the_pool_that_the_dags_name() -> None:
    client = boto3.client("mwaa", "us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    get = {"Name": "lakehouse-dev", "Path": "/pools/dbt", "Method": "GET"}
    pool = {"name": "dbt", "slots": 1, "description": "one dbt at a time", "include_deferred": False}
    post = {"Name": "lakehouse-dev", "Path": "/pools", "Method": "POST", "Body": pool}

    def unless(status: int, *more: dict[str, Any]) -> None:
        with Stubber(client) as stub:
            said = {"RestApiStatusCode": status}
            if status == 200:
                stub.add_response("invoke_rest_api", said, get)
            else:
                stub.add_client_error(
                    "invoke_rest_api", "RestApiClientException", expected_params=get, modeled_fields=said
                )
            for request in more:
                stub.add_response("invoke_rest_api", {"RestApiStatusCode": 201}, request)
            deploy.ensure_pool(client, "lakehouse-dev")
            stub.assert_no_pending_responses()

    unless(200)
    unless(404, post)
    with pytest.raises(ClientError):
        unless(403)
    dag = (deploy.ROOT / "dags/lakehouse_dbt.py").read_text()
    assert f'POOL = "{deploy.POOL}"' in dag


def test_an_environment_has_to_be_filled_in(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="one of dev, prod"):
        deploy.read_environment("staging")
    with pytest.raises(DeployError, match=r"filled in: LakeAdministratorArn, TrustedPrincipalArn, AlertEmail"):
        deploy.read_environment("dev")
    text = re.sub("<.*>", "given", (deploy.HERE / "environments/dev.yaml").read_text())
    (tmp_path / "dev.yaml").write_text(text)
    environment = deploy.read_environment("dev", tmp_path)
    assert environment.parameters["BaseCapacity"] == "4"
    with pytest.raises(DeployError, match="the stack storage needs LakeKmsKeyId, VaultKmsKeyId"):
        deploy.parameters_of("storage", environment, {})


@pytest.mark.parametrize("command", ["up", "down"])
def test_the_command_says_what_is_wrong(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["deploy", command, "nowhere"])
    with pytest.raises(SystemExit, match="there is no environment 'nowhere'"):
        deploy.main()
