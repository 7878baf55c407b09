"""`make deploy ENV=…` and `make destroy ENV=…`: the stacks of infra/stacks in their order, by change sets.

Each stack's changes are shown before anything is done. A stack's parameters come from the outputs of those before it
and from infra/environments/ENV.yaml, by name; what neither gives has a default in the template. What stands already is
left alone, so to run it again after a failure goes on where it stopped.
"""

import argparse
import hashlib
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import yaml
from botocore.exceptions import BotoCoreError, ClientError, WaiterError
from cfnlint.decode import cfn_yaml

from infra import warehouse
from infra.mwaa import bundle

HERE = Path(__file__).parent
ROOT = HERE.parent
# Each needs only outputs of those before it.
STACKS = (
    "keys", "storage", "catalogue", "query", "network", "ingestion", "warehouse", "access", "orchestration",
    "consumption", "observability", "billing",
)  # fmt: skip
ELSEWHERE = {"billing": "us-east-1"}  # AWS keeps billing there, wherever the lake is
# What the lakehouse is set to on AWS whatever the stacks say; the alarms of `observability` read alerts from the log.
FIXED = {
    "LAKE_TARGET": "athena",
    "WAREHOUSE_TARGET": "redshift",
    "ALERT_TARGET": "log",
    "LAKE_FORMATION_TAGS": "true",  # by them the stack `access` grants what people read
    "REDSHIFT_READERS": "role:analyst",  # which warehouse.sql makes
    "REDSHIFT_FEATURE_READERS": "role:data_scientist",  # this too
}
POOL = "dbt"  # of one slot, which dags/lakehouse_dbt.py names
WAIT = {"Delay": 10, "MaxAttempts": 540}  # 90 minutes: an MWAA environment takes half an hour


class DeployError(Exception):
    """What keeps us from going on, and what to do."""


@dataclass(frozen=True)
class Environment:
    """infra/environments/NAME.yaml."""

    name: str
    region: str
    parameters: Mapping[str, str]
    usage_limit_rpu_hours: int
    protected: bool


def read_environment(name: str, folder: Path = HERE / "environments") -> Environment:
    """Read an environment's file. Raises DeployError where there is none or a value is still to be given."""
    path = folder / f"{name}.yaml"
    if not re.fullmatch("[a-z]+", name) or not path.is_file():
        known = ", ".join(sorted(found.stem for found in folder.glob("*.yaml")))
        raise DeployError(f"there is no environment {name!r}: give ENV=…, one of {known} (infra/environments/)")
    held = yaml.safe_load(path.read_text())
    parameters = {key: str(value) for key, value in held["parameters"].items()}
    if missing := [key for key, value in parameters.items() if value.startswith("<")]:
        raise DeployError(f"{path} still has to be filled in: {', '.join(missing)}")
    return Environment(name, held["region"], parameters, held["usage_limit_rpu_hours"], held["protected"])


def read_template(stack: str) -> dict[str, Any]:
    """A stack's template, with CloudFormation's short forms (!Ref) written out."""
    return cfn_yaml.load(str(template_path(stack)))


def template_path(stack: str) -> Path:
    return HERE / "stacks" / f"{stack}.yaml"


def parameters_of(stack: str, environment: Environment, outputs: Mapping[str, str]) -> dict[str, str]:
    """The values of the template's parameters. Raises DeployError that names those which nobody gives."""
    given = dict(environment.parameters)
    given |= outputs | {"Environment": environment.name, "LakeRegion": environment.region}
    declared = read_template(stack).get("Parameters", {})
    if missing := [name for name, parameter in declared.items() if name not in given and "Default" not in parameter]:
        raise DeployError(
            f"the stack {stack} needs {', '.join(missing)}: deploy the stacks before it, or give the value in "
            f"infra/environments/{environment.name}.yaml"
        )
    return {name: given[name] for name in declared if name in given}


def settings_of(outputs: Mapping[str, str], environment: Environment) -> dict[str, str]:
    """The settings (.env.example) that the stacks' outputs say: the output LakeUri is LAKE_URI.

    Of a DSN the secret's id, from which MWAA's start-up script reads it.
    """
    known = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    named = {re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper(): value for name, value in outputs.items()}
    said = {name: value for name, value in named.items() if name in known or name.endswith("_SECRET_ID")}
    user = {"REDSHIFT_USER": f"IAMR:lakehouse-{environment.name}-airflow"}  # how Redshift names who comes by a role
    return dict(sorted((FIXED | user | said | {"AWS_REGION": environment.region}).items()))


def stack_name(environment: Environment, stack: str) -> str:
    return f"lakehouse-{environment.name}-{stack}"


def deploy(environment: Environment, stacks: tuple[str, ...] = STACKS, *, yes: bool = False) -> dict[str, str]:
    """Bring the stacks to what their templates say, and the warehouse to what warehouse.sql says.

    Returns the outputs of all stacks that stand. Raises DeployError, WarehouseError.
    """
    outputs: dict[str, str] = {}
    for stack in STACKS:
        client = _client("cloudformation", environment, stack)
        name = stack_name(environment, stack)
        if stack in stacks:
            if stack == "orchestration" and "AirflowBucketName" in outputs:
                outputs |= upload_bundle(environment, outputs)
            _bring_up(client, name, stack, parameters_of(stack, environment, outputs), environment, yes=yes)
        if found := _describe(client, name):
            outputs |= {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
        if stack == "warehouse" and stack in stacks:
            hours = environment.usage_limit_rpu_hours
            ensure_usage_limit(_client("redshift-serverless", environment), outputs["WorkgroupArn"], hours)
            prepare_warehouse(environment, outputs)
        if stack == "orchestration" and stack in stacks:
            ensure_pool(_client("mwaa", environment), outputs["AirflowEnvironmentName"])
    return outputs


def _bring_up(
    client: Any, name: str, stack: str, parameters: Mapping[str, str], environment: Environment, *, yes: bool
) -> None:
    status = (_describe(client, name) or {"StackStatus": "REVIEW_IN_PROGRESS"})["StackStatus"]
    if status == "ROLLBACK_COMPLETE":
        raise DeployError(f"{name} could not be made the last time: look at its events, delete it, deploy again")
    if status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS":
        raise DeployError(f"{name} is {status}: somebody else is at work, deploy again when it has ended")
    kind = "CREATE" if status == "REVIEW_IN_PROGRESS" else "UPDATE"
    change_set = {"StackName": name, "ChangeSetName": f"deploy-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"}
    client.create_change_set(
        **change_set,
        ChangeSetType=kind,
        TemplateBody=template_path(stack).read_text(),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
        Tags=[{"Key": "project", "Value": f"lakehouse-{environment.name}"}],
    )
    try:
        client.get_waiter("change_set_create_complete").wait(
            **change_set, WaiterConfig={"Delay": 2, "MaxAttempts": 150}
        )
    except WaiterError as error:
        reason = client.describe_change_set(**change_set).get("StatusReason", str(error))
        client.delete_change_set(**change_set)
        if "didn't contain changes" in reason or "No updates are to be performed" in reason:
            print(f"{name}: nothing to change")
            return
        raise DeployError(f"CloudFormation refuses the changes of {name}: {reason}") from error
    print(f"{name} ({kind.lower()}):")
    for line in _changes(client, change_set):
        print(f"  {line}")
    if not yes and not _agreed("Apply?"):
        client.delete_change_set(**change_set)
        raise DeployError(f"{name} was left as it is, and all that comes after it")
    client.execute_change_set(**change_set)
    try:
        client.get_waiter(f"stack_{kind.lower()}_complete").wait(StackName=name, WaiterConfig=WAIT)
    except WaiterError as error:
        raise DeployError(f"{name} failed and was rolled back:\n" + "\n".join(_failures(client, name))) from error
    if environment.protected:
        client.update_termination_protection(StackName=name, EnableTerminationProtection=True)


def _agreed(question: str) -> bool:
    try:
        return input(f"{question} [y/N] ").strip().lower() == "y"
    except EOFError:  # nobody is there to answer
        return False


def _changes(client: Any, change_set: Mapping[str, str]) -> Iterator[str]:
    """A line per resource: what becomes of it, and whether it is made anew (which loses what it holds)."""
    for page in client.get_paginator("describe_change_set").paginate(**change_set):
        for change in page["Changes"]:
            resource = change["ResourceChange"]
            anew = "  REPLACED" if resource.get("Replacement") == "True" else ""
            yield f"{resource['Action']:<7} {resource['ResourceType']:<45} {resource['LogicalResourceId']}{anew}"


def _failures(client: Any, name: str) -> Iterator[str]:
    for page in client.get_paginator("describe_stack_events").paginate(StackName=name):
        for event in page["StackEvents"]:
            if event.get("ResourceStatus", "").endswith("_FAILED"):
                yield f"  {event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}"


def destroy(environment: Environment, *, yes: bool = False) -> None:
    """Delete the stacks, the last one first. What holds data is retained: buckets, keys, secrets, the warehouse."""
    for stack in reversed(STACKS):
        client, name = _client("cloudformation", environment, stack), stack_name(environment, stack)
        found = _describe(client, name)
        if found is None:
            continue
        if found.get("EnableTerminationProtection"):
            raise DeployError(f"{name} is protected: switch its termination protection off by hand first")
        kept = [
            logical
            for logical, resource in read_template(stack)["Resources"].items()
            if resource.get("DeletionPolicy") == "RetainExceptOnCreate"
        ]
        print(f"{name}: deleted" + (f", but kept: {', '.join(kept)}" if kept else ""))
        if not yes and not _agreed("Delete?"):
            raise DeployError(f"{name} was left as it is, and all that comes before it")
        client.delete_stack(StackName=name)
        try:
            client.get_waiter("stack_delete_complete").wait(StackName=found["StackId"], WaiterConfig=WAIT)
        except WaiterError as error:
            raise DeployError(f"{name} could not be deleted:\n" + "\n".join(_failures(client, name))) from error


def upload_bundle(environment: Environment, outputs: Mapping[str, str]) -> dict[str, str]:
    """Put what `make mwaa` makes, and dags/.env, into Airflow's bucket; what is there already is left alone.

    Returns the versions of the two files whose change MWAA takes up only by version.
    """
    client, bucket = _client("s3", environment), outputs["AirflowBucketName"]
    with tempfile.TemporaryDirectory(prefix="lakehouse-mwaa-") as folder:
        bundle.bundle(Path(folder))
        settings = settings_of(outputs, environment)
        lines = (f"{name}={shlex.quote(value)}\n" for name, value in settings.items())
        Path(folder, "dags/.env").write_text("".join(lines))
        paths = {path.relative_to(folder).as_posix(): path for path in Path(folder).rglob("*") if path.is_file()}
        versions = {key: _put(client, bucket, key, path.read_bytes()) for key, path in sorted(paths.items())}
    print(f"s3://{bucket}: {len(versions)} files of the bundle")
    return {"BundleVersion": versions["startup.sh"], "RequirementsVersion": versions["requirements.txt"]}


def _put(client: Any, bucket: str, key: str, body: bytes) -> str:
    """Put the object unless it is there already; returns its version."""
    digest = hashlib.sha256(body).hexdigest()
    try:
        found = client.head_object(Bucket=bucket, Key=key)
        if found["Metadata"].get("sha256") == digest:
            return found["VersionId"]
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchKey"):
            raise
    return client.put_object(Bucket=bucket, Key=key, Body=body, Metadata={"sha256": digest})["VersionId"]


def ensure_usage_limit(client: Any, workgroup_arn: str, rpu_hours: int) -> None:
    """Let the warehouse stop after so many RPU-hours a day. CloudFormation has no type for it."""
    wanted = {"amount": rpu_hours, "breachAction": "deactivate"}
    pages = client.get_paginator("list_usage_limits").paginate(
        resourceArn=workgroup_arn, usageType="serverless-compute"
    )
    found = [limit for page in pages for limit in page.get("usageLimits", []) if limit["period"] == "daily"]
    if not found:
        client.create_usage_limit(resourceArn=workgroup_arn, usageType="serverless-compute", period="daily", **wanted)
    elif {key: found[0][key] for key in wanted} != wanted:
        client.update_usage_limit(usageLimitId=found[0]["usageLimitId"], **wanted)


def ensure_pool(client: Any, airflow: str) -> None:
    """Make the pool in which one dbt runs at a time: without it tasks wait for ever. Made once; slots set by hand stay.

    MWAA has no property for it; InvokeRestApi reaches a private web server too (MWAA User Guide, "Using the Apache
    Airflow REST API").
    """
    try:
        client.invoke_rest_api(Name=airflow, Path=f"/pools/{POOL}", Method="GET")
    except client.exceptions.RestApiClientException as error:
        if error.response.get("RestApiStatusCode") != 404:
            raise
        pool = {"name": POOL, "slots": 1, "description": "one dbt at a time", "include_deferred": False}
        client.invoke_rest_api(Name=airflow, Path="/pools", Method="POST", Body=pool)


def prepare_warehouse(environment: Environment, outputs: Mapping[str, str]) -> None:
    """Make users, schemas and grants of the warehouse (infra/warehouse.sql) where they are not there yet."""
    done = warehouse.prepare(lambda service: _client(service, environment), outputs, environment.name)
    print(f"the warehouse's users, schemas and grants: {done} statements of infra/warehouse.sql")


def _describe(client: Any, name: str) -> dict[str, Any] | None:
    try:
        return client.describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise


def _client(service: str, environment: Environment, stack: str = "") -> Any:
    return boto3.client(service, region_name=ELSEWHERE.get(stack, environment.region))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m infra.deploy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("up", "show and apply each stack's changes"),
        ("down", "delete the stacks; what holds data is kept"),
        ("settings", "print the settings (.env) that the stacks say"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("environment", help="a file of infra/environments: dev, prod")
        if name == "up":
            command.add_argument("--only", choices=STACKS, action="append", help="only this stack (again: and this)")
        if name != "settings":
            command.add_argument("--yes", action="store_true", help="do not ask")
    options = parser.parse_args()
    try:
        environment = read_environment(options.environment)
        if options.command == "down":
            destroy(environment, yes=options.yes)
        elif options.command == "up":
            deploy(environment, tuple(options.only or STACKS), yes=options.yes)
        else:
            outputs = deploy(environment, ())
            print("".join(f"{name}={value}\n" for name, value in settings_of(outputs, environment).items()), end="")
    except (DeployError, warehouse.WarehouseError, BotoCoreError, ClientError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    import loaders.interruptible  # noqa: F401 (ends this program in one line when it is interrupted)

    main()
