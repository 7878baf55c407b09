"""Prepares the warehouse: users, the readers' role, schemas and grants, as infra/warehouse.sql says.

It goes through the Redshift Data API, so that who deploys needs no way into the VPC, and as the namespace's
administrator, whose password Secrets Manager keeps and nobody sees.
"""

import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

SQL = Path(__file__).with_name("warehouse.sql")
POLL_SECONDS = 1.0
PATIENCE_SECONDS = 600.0  # for one statement: a warehouse that slept wakes up first


class WarehouseError(Exception):
    """A statement that the warehouse refused, and what it said."""


class Statement(NamedTuple):
    """One statement of warehouse.sql; where the query `unless` has a row it is not run."""

    sql: str
    unless: str | None


def prepare(client: Callable[[str], Any], outputs: Mapping[str, str], environment: str) -> int:
    """Run warehouse.sql by the Data API; returns how many statements were run. To run it again changes nothing.

    `client` gives boto3's of a service, `outputs` are those of the stack `warehouse`. Raises WarehouseError.
    """
    namespace = client("redshift-serverless").get_namespace(namespaceName=outputs["NamespaceName"])["namespace"]
    held = client("secretsmanager").get_secret_value(SecretId=outputs["DashboardSecretArn"])["SecretString"]
    values = {"environment": environment, "dashboard_password": digest(json.loads(held)["password"])}
    where = {
        "WorkgroupName": outputs["WorkgroupName"],
        "Database": outputs["RedshiftDatabase"],
        "SecretArn": namespace["adminPasswordSecretArn"],
    }
    data, done = client("redshift-data"), 0
    for statement in statements(values):
        if statement.unless and _run(data, where, statement.unless):
            continue
        _run(data, where, statement.sql)
        done += 1
    return done


def statements(values: Mapping[str, str]) -> Iterator[Statement]:
    """The statements in their order. Raises KeyError for a value that is not given."""
    for text in Template(SQL.read_text()).substitute(values).split(";\n"):
        unless = re.search("^-- unless: (.*)$", text, re.MULTILINE)
        if sql := re.sub("^--.*\n", "", text, flags=re.MULTILINE).strip():
            yield Statement(sql, unless and unless[1])


def digest(password: str) -> str:
    """A password as CREATE USER takes it without seeing it: 'sha256|digest|256-bit salt', both in hex.

    Source: Amazon Redshift Database Developer Guide, "CREATE USER". That the salt follows the password is what
    Redshift's driver does to log in (redshift_connector, utils/extensible_digest.py).
    """
    salt = secrets.token_bytes(32)
    return f"sha256|{hashlib.sha256(password.encode() + salt).hexdigest()}|{salt.hex()}"


def _run(data: Any, where: Mapping[str, str], sql: str) -> int:
    """Run a statement and wait until it has ended; returns how many rows it has."""
    key = data.execute_statement(**where, Sql=sql)["Id"]
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        answer = data.describe_statement(Id=key)
        if answer["Status"] == "FINISHED":
            return max(answer.get("ResultRows", 0), 0)  # -1: it has no result
        if answer["Status"] in ("FAILED", "ABORTED"):
            raise WarehouseError(f"{answer.get('Error', answer['Status'])}, at: {sql.partition(' password ')[0]}")
        time.sleep(POLL_SECONDS)
    raise WarehouseError(f"no answer within {PATIENCE_SECONDS:.0f} s, deploy again: {sql.partition(' password ')[0]}")
