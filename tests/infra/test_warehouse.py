"""warehouse.sql makes what dbt and the readers need, again without an error, and never says a password.

The Data API is answered by a stand-in of ours behind botocore's own clients: it knows users, roles, schemas and grants,
and refuses what Redshift would refuse of them. No Redshift was ever asked.
"""

import hashlib
import json
import re
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from redshift_connector.utils.extensible_digest import ExtensibleDigest

from infra import deploy, warehouse
from infra.warehouse import WarehouseError
from tests.infra.rules import Templates, of_type

PASSWORD = "Correct0Horse1Battery2Staple3AndSoOn4567"
OUTPUTS = {
    "NamespaceName": "lakehouse-dev",
    "WorkgroupName": "lakehouse-dev",
    "RedshiftDatabase": "lakehouse",
    "DashboardSecretArn": "arn:aws:secretsmanager:us-east-1:000000000000:secret:quicksight",
}
ADMINISTRATOR = "arn:aws:secretsmanager:us-east-1:000000000000:secret:administrator"
AIRFLOW, ANALYST, ENGINEER, NOTEBOOK = (
    f'"IAMR:lakehouse-dev-{name}"' for name in ("airflow", "analyst", "engineer", "notebook")
)


class CutError(Exception):
    """The network is gone."""


class RefusedError(Exception):
    """Redshift's own error."""


def need(condition: bool, text: str) -> None:
    if not condition:
        raise RefusedError(text)


class Redshift:
    """What stands in for the warehouse at the network's edge: it takes requests of boto3 and keeps a catalogue."""

    def __init__(self) -> None:
        self.users: dict[str, str] = {"administrator": "somebody's"}
        self.roles: set[str] = set()
        self.owners = {"public": "administrator"}
        self.grants: set[tuple[str, str]] = {("create on public", "public")}
        self.options: set[tuple[str, str]] = set()
        self.heard: list[str] = []
        self.answers: list[dict[str, Any]] = []
        self.asleep = 2  # how many times each statement is only picked up
        self.refused = "drop"  # statements with this word
        self.left = sys.maxsize  # requests until the network is cut

    def answer(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        operation, body = request.headers["X-Amz-Target"].decode().partition(".")[2], json.loads(request.body)
        return Answer(request.url, json.dumps(getattr(self, operation)(**body)))

    def GetNamespace(self, namespaceName: str) -> dict[str, Any]:  # noqa: N802, N803 the API's names
        return {"namespace": {"namespaceName": namespaceName, "adminPasswordSecretArn": ADMINISTRATOR}}

    def GetSecretValue(self, SecretId: str) -> dict[str, Any]:  # noqa: N802, N803
        assert SecretId == OUTPUTS["DashboardSecretArn"]
        return {"SecretString": json.dumps({"username": "quicksight", "password": PASSWORD})}

    def ExecuteStatement(self, Sql: str, **where: str) -> dict[str, Any]:  # noqa: N802, N803
        assert where == {"WorkgroupName": "lakehouse-dev", "Database": "lakehouse", "SecretArn": ADMINISTRATOR} | {
            "ClientToken": where["ClientToken"]
        }
        if not self.left:
            raise CutError
        self.left -= 1
        self.heard.append(Sql)
        try:
            need(self.refused not in Sql, "not allowed")
            answer = {"Status": "FINISHED", "ResultRows": self.run(" ".join(Sql.split()))}
        except RefusedError as error:
            answer = {"Status": "FAILED", "Error": f"ERROR: {error}"}
        self.answers += [{"Status": "PICKED"}] * self.asleep + [answer]
        return {"Id": str(len(self.heard))}

    def DescribeStatement(self, Id: str) -> dict[str, Any]:  # noqa: N802, N803
        return self.answers.pop(0) | {"Id": Id}

    def run(self, sql: str) -> int:
        """Result: the rows, -1 for a statement that has none. Raises RefusedError for what Redshift refuses."""
        for pattern, method in self.KNOWN.items():
            if found := re.fullmatch(pattern, sql):
                rows = method(self, *found.groups())
                return -1 if rows is None else rows
        raise RefusedError(f"syntax error: {sql}")

    def has(self, catalogue: str, name: str) -> int:
        return int(name in {"pg_user where usename": self.users, "svv_roles where role_name": self.roles}[catalogue])

    def create_user(self, name: str) -> None:
        need(name.strip('"') not in self.users, f"user {name} already exists")
        self.users[name.strip('"')] = "disabled"

    def alter_user(self, name: str, password: str) -> None:
        need(name in self.users, f"user {name} does not exist")
        self.users[name] = password

    def set_option(self, name: str, option: str) -> None:
        need(name.strip('"') in self.users, f"user {name} does not exist")
        self.options.add((name, option))

    def create_role(self, name: str) -> None:
        need(name not in self.roles, f"role {name} already exists")
        self.roles.add(name)

    def create_schema(self, name: str, owner: str) -> None:
        need(owner in self.users, f"user {owner} does not exist")
        self.owners.setdefault(name, owner)

    def create_external_schema(self, name: str, database: str) -> None:
        self.owners.setdefault(name, f"Glue's {database}")

    def grant(self, schema: str, kind: str | None, name: str) -> None:
        need(schema in self.owners, f"schema {schema} does not exist")
        need(name.strip('"') in (self.roles if kind else self.users), f"{name} does not exist")
        self.grants.add((f"usage on {schema}", name))

    def grant_role(self, role: str, name: str) -> None:
        need(role in self.roles, f"role {role} does not exist")
        need(name.strip('"') in self.users, f"user {name} does not exist")
        self.grants.add((f"role {role}", name))

    def revoke(self, schema: str) -> None:
        self.grants.discard((f"create on {schema}", "public"))

    KNOWN: ClassVar = {
        r"select 1 from ((?:pg_user|svv_roles) where \w+) = '([^']+)'": has,
        r'create user (\w+|"[\w:-]+") password disable': create_user,
        r"alter user (\w+) password '(sha256\|[0-9a-f]{64}\|[0-9a-f]{64})'": alter_user,
        r'alter user (\w+|"[\w:-]+") (session timeout \d+|set statement_timeout to \d+|syslog access unrestricted)': (
            set_option
        ),
        r"create role (\w+)": create_role,
        r'create schema if not exists "(\w+)" authorization "([\w:-]+)"': create_schema,
        r"""create external schema if not exists "(\w+)" from data catalog database '(\w+)' iam_role default""": (
            create_external_schema
        ),
        r'grant usage on schema "(\w+)" to (role )?(\w+|"[\w:-]+")': grant,
        r'grant role (\w+) to (\w+|"[\w:-]+")': grant_role,
        r'revoke create on schema "(\w+)" from public': revoke,
    }


class Answer(AWSResponse):
    """An answer of HTTP without a network."""

    def __init__(self, url: str, text: str) -> None:
        super().__init__(url, 200, {}, None)
        self._content = text.encode()


@pytest.fixture
def redshift(monkeypatch: pytest.MonkeyPatch) -> Redshift:
    monkeypatch.setattr(warehouse, "POLL_SECONDS", 0)
    return Redshift()


@pytest.fixture
def prepare(redshift: Redshift) -> Callable[[], int]:
    @cache
    def client(service: str) -> Any:
        made = boto3.client(service, "us-east-1", aws_access_key_id="made-up", aws_secret_access_key="made-up")
        made.meta.events.register("before-send", redshift.answer)
        return made

    return lambda: warehouse.prepare(client, OUTPUTS, "dev")


def test_dbt_and_the_readers_find_what_they_need(prepare: Callable[[], int], redshift: Redshift) -> None:
    prepare()
    assert redshift.owners == {
        "public": "administrator",
        "refined": AIRFLOW.strip('"'),
        "curated": "Glue's curated",
        "vault": "Glue's vault",
    }
    assert redshift.grants == {
        ("usage on curated", AIRFLOW),
        ("usage on vault", AIRFLOW),
        ("usage on refined", "analyst"),
        ("usage on refined", "data_scientist"),
        ("role analyst", ANALYST),
        ("role analyst", ENGINEER),
        ("role analyst", "quicksight"),
        ("role data_scientist", NOTEBOOK),
    }
    bounds = {"session timeout 120", "set statement_timeout to 120000"}
    assert redshift.options == {(AIRFLOW, "syslog access unrestricted")} | {
        (reader, bound) for reader in (ANALYST, ENGINEER, NOTEBOOK, "quicksight") for bound in bounds
    }
    # Who comes by an IAM role has no password, and nobody else is let in by one.
    assert {name for name, password in redshift.users.items() if password != "disabled"} == {
        "administrator",
        "quicksight",
    }


def test_a_second_run_changes_nothing(prepare: Callable[[], int], redshift: Redshift) -> None:
    first = prepare()
    before = (dict(redshift.owners), set(redshift.grants), set(redshift.roles), set(redshift.users))
    assert prepare() == first - len(redshift.users) + 1 - len(redshift.roles)  # the administrator was there already
    assert (redshift.owners, redshift.grants, redshift.roles, set(redshift.users)) == before


def test_a_run_that_was_cut_is_gone_on_with(prepare: Callable[[], int], redshift: Redshift) -> None:
    prepare()
    whole, statements = redshift.grants, len(redshift.heard)
    for cut in range(statements):
        redshift.__init__()
        redshift.left = cut
        with pytest.raises(CutError):
            prepare()
        redshift.left = sys.maxsize
        prepare()
        assert redshift.grants == whole


def test_no_statement_says_the_password_and_it_opens_the_door(prepare: Callable[[], int], redshift: Redshift) -> None:
    prepare()
    assert PASSWORD not in "".join(redshift.heard)
    kind, digest, salt = redshift.users["quicksight"].split("|")
    assert (kind, len(bytes.fromhex(salt))) == ("sha256", 32)
    # What Redshift's own driver would send for the password is what a server expects that holds the digest.
    sent = ExtensibleDigest.encode(b"client", PASSWORD.encode(), bytes.fromhex(salt), "SHA256", b"server")
    assert sent == hashlib.sha256(bytes.fromhex(digest) + b"server" + b"client").digest()
    prepare()
    assert redshift.users["quicksight"] != f"{kind}|{digest}|{salt}"  # a salt of its own each time


def test_a_refusal_names_the_statement_and_no_digest(prepare: Callable[[], int], redshift: Redshift) -> None:
    redshift.refused = "alter user quicksight password"
    with pytest.raises(WarehouseError, match=r"^ERROR: not allowed, at: alter user quicksight$"):
        prepare()


def test_a_warehouse_that_does_not_answer_is_given_up(
    prepare: Callable[[], int], redshift: Redshift, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warehouse, "PATIENCE_SECONDS", 0.05)
    redshift.asleep = 10**6
    with pytest.raises(WarehouseError, match=r"no answer within .* deploy again"):
        prepare()


def test_names_are_those_of_the_roles_and_settings(templates: Templates) -> None:
    roles = [
        properties["RoleName"] for _, _, properties in of_type(templates, "AWS::IAM::Role") if "RoleName" in properties
    ]
    assert OUTPUTS.keys() <= templates["warehouse"]["Outputs"].keys()
    text = warehouse.SQL.read_text().replace("${environment}", "${Environment}")
    assert set(re.findall(r'"IAMR:(\S+)"', text)) <= {role["Fn::Sub"] for role in roles}
    settings = deploy.settings_of({}, deploy.Environment("dev", "us-east-1", {}, 1, False))
    made = [statement.sql for statement in warehouse.statements({"environment": "dev", "dashboard_password": "x"})]
    assert f'create user "{settings["REDSHIFT_USER"]}" password disable' in made
    for readers in ("REDSHIFT_READERS", "REDSHIFT_FEATURE_READERS"):
        assert f"create {settings[readers].replace(':', ' ')}" in made
    secret = templates["warehouse"]["Resources"]["DashboardSecret"]["Properties"]["GenerateSecretString"]
    assert json.loads(secret["SecretStringTemplate"])["username"] == "quicksight"
