"""The stand-in of Redshift by the commands that a person types: start, use, restart, stop; and who may come in."""

import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import boto3
import psutil
import pytest
import redshift_connector

from sandbox import postgres, redshift

pytestmark = pytest.mark.xdist_group("redshift")
DBT = "IAMR:lakehouse-dev-airflow"


@pytest.fixture(scope="module")
def port() -> int:
    return postgres.free_port()


@pytest.fixture(scope="module")
def sandbox(
    tmp_path_factory: pytest.TempPathFactory, port: int
) -> Iterator[Callable[..., subprocess.CompletedProcess]]:
    """`sandbox("redshift", ...)` runs the command in a home of the module's own; it is started once."""
    home = tmp_path_factory.mktemp("home")
    environment = {"PATH": os.environ["PATH"], "LAKEHOUSE_ENV_FILE": os.devnull, "SANDBOX_HOME": str(home)}

    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "sandbox", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    with patch.dict(os.environ, environment, clear=True):
        done = run("redshift", "--port", str(port))
        assert done.returncode == 0, done.stderr
        yield run
        assert run("down").returncode == 0
    assert not any(str(home) in " ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))


@pytest.fixture
def server(sandbox: Callable[..., object]) -> redshift.Redshift:
    return redshift.running()


def exports(done: subprocess.CompletedProcess) -> dict[str, str]:
    lines = [line.removeprefix("export ") for line in done.stdout.splitlines() if line.startswith("export ")]
    return {name: value.strip("'") for name, _, value in (line.partition("=") for line in lines)}


def test_it_says_what_to_export_and_a_second_start_changes_nothing(
    sandbox: Callable[..., subprocess.CompletedProcess], port: int
) -> None:
    env = exports(sandbox("env"))
    assert (env["REDSHIFT_HOST"], env["REDSHIFT_PORT"]) == ("localhost", str(port))
    again = sandbox("redshift", "--port", str(port))
    assert exports(again) == env
    assert sandbox("redshift", "--help").returncode == 0


def test_a_port_that_another_program_has_is_named(
    sandbox: Callable[..., subprocess.CompletedProcess], port: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        done = sandbox("redshift", "--port", str(taken))
    assert done.returncode != 0
    assert done.stderr.strip().endswith(
        f"port {taken} of 127.0.0.1 is taken: end what listens there, or choose another --port"
    )
    assert sandbox("redshift", "--port", str(port)).returncode == 0


def test_iam_gives_the_user_of_the_role_that_asks(server: redshift.Redshift) -> None:
    def user(key: str) -> str:
        client = boto3.client(
            "redshift-serverless", "us-east-1", endpoint_url=server.credentials_url,
            aws_access_key_id=key, aws_secret_access_key="made-up",
        )  # fmt: skip
        given = client.get_credentials(dbName="lakehouse", customDomainName="localhost")
        assert given["expiration"] > given["nextRefreshTime"]
        return given["dbUser"]

    assert user("made-up") == user("lakehouse-dev-airflow") == DBT
    assert user("lakehouse-dev-notebook") == "IAMR:lakehouse-dev-notebook"


def test_iam_answers_nothing_else(server: redshift.Redshift) -> None:
    client = boto3.client(
        "redshift-serverless", "us-east-1", endpoint_url=server.credentials_url,
        aws_access_key_id="-", aws_secret_access_key="-",
    )  # fmt: skip
    with pytest.raises(client.exceptions.ClientError, match="answers GetCredentials alone, not ListWorkgroups"):
        client.list_workgroups()


@pytest.mark.parametrize("user", ["admin", "nobody", DBT])
def test_who_has_no_password_or_another_one_is_refused(server: redshift.Redshift, user: str) -> None:
    with pytest.raises(redshift_connector.Error, match=f'password authentication failed for user "{user}"'):
        redshift_connector.connect(
            host="127.0.0.1", port=server.port, database="lakehouse", user=user, password="wrong", ssl=False
        )


def test_the_certificate_is_for_localhost_and_trusted_by_what_is_exported(server: redshift.Redshift) -> None:
    trusting = ssl.create_default_context(cafile=server.exports()["SSL_CERT_FILE"])
    for context, passes in ((trusting, True), (ssl.create_default_context(), False)):
        with socket.create_connection(("127.0.0.1", server.port)) as plain:
            plain.sendall((8).to_bytes(4) + (80877103).to_bytes(4))
            assert plain.recv(1) == b"S"
            if passes:
                context.wrap_socket(plain, server_hostname="localhost").close()
            else:
                with pytest.raises(ssl.SSLCertVerificationError):
                    context.wrap_socket(plain, server_hostname="localhost")


def test_the_driver_sees_redshift(server: redshift.Redshift) -> None:
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("select version(), 'x' as text, extract(year from date '2026-01-02') as year")
        assert [(name, kind) for name, kind, *_ in cursor.description] == [
            ("version", 1043),
            ("text", 1043),
            ("year", 23),
        ]
        [[version, *rest]] = cursor.fetchall()
        assert "Redshift" in version
        assert rest == ["x", 2026]


def test_a_column_counts_bytes(server: redshift.Redshift) -> None:
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("create temporary table t (a varchar(4))")
        cursor.execute("insert into t (a) values ('éé')")
        with pytest.raises(
            redshift_connector.ProgrammingError, match=r"value too long for type character varying\(4\)"
        ):
            cursor.execute("insert into t (a) values ('ééx')")


def test_functions_are_redshifts(server: redshift.Redshift) -> None:
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("select regexp_replace('1-2-3', '[^0-9]', ''), sha2('abc', 256), sha2(from_hex('616263'), 256)")
        digits, of_text, of_bytes = cursor.fetchall()[0]
        assert digits == "123"
        assert of_text == of_bytes == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_late_binding_view_outlives_its_table(server: redshift.Redshift) -> None:
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("create table refined.t (a int)")
        cursor.execute("create view refined.v as (select a from refined.t) with no schema binding")
        cursor.execute("drop table refined.t cascade")
        with pytest.raises(redshift_connector.ProgrammingError, match="does not exist"):
            cursor.execute("select * from refined.v")
        cursor.execute("create table refined.t as select 7 as a")
        cursor.execute("select * from refined.v")
        assert cursor.fetchall() == ([7],)
        cursor.execute("drop view refined.v")
        cursor.execute("drop table refined.t")


def test_a_fault_meets_so_many_statements(
    sandbox: Callable[..., subprocess.CompletedProcess], server: redshift.Redshift
) -> None:
    assert sandbox("redshift-fault", "(").returncode != 0
    done = sandbox("redshift-fault", "select 4.", "--message", "not today", "--sqlstate", "XX000", "--times", "2")
    assert json.loads(done.stdout)[0]["times"] == 2
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("select 1")
        for _ in range(2):
            with pytest.raises(redshift_connector.ProgrammingError, match="not today"):
                cursor.execute("select 42")
        cursor.execute("select 42")
        assert cursor.fetchall() == ([42],)
    assert sandbox("redshift-fault", "select 4.", "--lose-connection").returncode == 0
    with server.connect() as connection, connection.cursor() as cursor, pytest.raises(redshift_connector.Error):
        cursor.execute("select 42")
    assert server.pending() == []


def test_the_log_has_every_statement_and_no_digest(server: redshift.Redshift) -> None:
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("select 'for the log'")
        with pytest.raises(redshift_connector.ProgrammingError):
            cursor.execute("select nothing_of_that_name")
    right, wrong = [json.loads(line) for line in server.log.read_text().splitlines()][-2:]
    assert (right["sql"], right["user"], right["transaction"]) == ("select 'for the log'", "admin", "I")
    assert right["seconds"] >= 0
    assert wrong["error"].startswith("42703 column")
    assert "sha256|" not in server.log.read_text()


def test_secrets_are_the_owners_alone(server: redshift.Redshift) -> None:
    for name in ("server.json", "servers.json", "key.pem"):
        assert (server.folder / name).stat().st_mode & 0o077 == 0, name
    assert Path(server.folder).is_relative_to(os.environ["SANDBOX_HOME"])


def test_what_redshift_refuses_is_refused_on_demand(
    sandbox: Callable[..., subprocess.CompletedProcess], port: int
) -> None:
    assert sandbox("redshift", "--port", str(port), "--refuse").returncode == 0
    with redshift.running().connect() as connection, connection.cursor() as cursor:
        with pytest.raises(redshift_connector.ProgrammingError, match=r"clause: DISTINCT ON .*c_unsupported"):
            cursor.execute("select distinct on (a) a from (select 1 as a) as t")
        cursor.execute("select 1")
    assert sandbox("redshift", "--port", str(port)).returncode == 0
