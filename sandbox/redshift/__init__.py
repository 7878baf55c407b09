"""A stand-in of Redshift: real dbt-redshift and redshift_connector, PostgreSQL 16 dressed as Redshift behind a proxy.

    clients --TLS, password by GetCredentials--> proxy.py --rewritten SQL (rewrite.py)--> PostgreSQL + compat.sql
                                                 external.py: tables of the lake, as they are now

Its database is prepared by the project's own infra/warehouse.sql, so that dbt has those grants and no others. What it
cannot show is in docs/architecture.md. Everything that it writes is in the folder `redshift` of SANDBOX_HOME; all of
it listens on 127.0.0.1 only.
"""

import argparse
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from infra import warehouse
from sandbox import home, postgres, private, processes
from sandbox.redshift.faults import SERIALISATION_CONFLICT, Fault

if TYPE_CHECKING:
    import redshift_connector

NAME = "redshift"  # of the process, the folder and the command
PORT = 5439  # Redshift's own
DATABASE, ENVIRONMENT = "lakehouse", "dev"
ADMINISTRATOR, DASHBOARD = "admin", "quicksight"  # who have passwords
PATIENCE = 60  # seconds
# The settings that say which lake external schemas show (lakes.py), and where its AWS is.
_LAKE = re.compile("(LAKE_TARGET|LAKE_URI|DUCKDB_PATH|VAULT_URI|ATHENA_.*|AWS_REGION|AWS_ENDPOINT_URL(?!_REDSHIFT).*)$")
AUTHORITIES = "authorities.pem"
COMPAT = Path(__file__).with_name("compat.sql")

FLAVOUR = postgres.Flavour(
    "pginstall",  # PostgreSQL 16: with 15 and 17 compat.sql does not do
    ("--lc-collate", "C", "--lc-ctype", "C.UTF-8"),  # text sorts by its bytes (c_collation_sequences)
    {
        **{name: value for name, value in postgres.SETTINGS.items() if "wal" not in name and "standby" not in name},
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "synchronous_commit": "off",
        "max_connections": "100",
        "timezone": "UTC",
        "jit": "off",
    },
    "host all all 127.0.0.1/32 password\n",  # the proxy alone knows it
    {postgres.ADMIN: ""},
)


class RedshiftError(RuntimeError):
    """The stand-in did not start; the message says why."""


@dataclass(frozen=True)
class Redshift:
    """A running stand-in: where it is, and the passwords of those who have one."""

    folder: Path
    port: int
    credentials_url: str
    passwords: dict[str, str] = field(repr=False)
    dsn: str = field(repr=False)  # of PostgreSQL itself, as its superuser

    @property
    def log(self) -> Path:
        """Every statement and login, a JSON line each, first to last."""
        return self.folder / "statements.jsonl"

    def exports(self, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
        """What dbt and the examples need to come here. AWS's keys may be any; without some they are made up."""
        port = {} if self.port == PORT else {"REDSHIFT_PORT": str(self.port)}
        keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        made_up = {} if any(environment.get(key) for key in keys) else dict.fromkeys(keys, "made-up")
        return {
            "REDSHIFT_HOST": "localhost",
            **port,
            "REDSHIFT_DATABASE": DATABASE,
            "WAREHOUSE_TARGET": "redshift",
            "SSL_CERT_FILE": str(self.folder / AUTHORITIES),
            "AWS_ENDPOINT_URL_REDSHIFT_SERVERLESS": self.credentials_url,
            **made_up,
        }

    def connect(self, user: str = ADMINISTRATOR, *, autocommit: bool = True) -> "redshift_connector.Connection":
        """A connection by the real driver, as somebody who has a password."""
        import redshift_connector  # here, since it would cost every command of the sandbox half a second

        connection = redshift_connector.connect(
            host="127.0.0.1", port=self.port, database=DATABASE, user=user, password=self.passwords[user], ssl=False
        )
        connection.autocommit = autocommit
        return connection

    def tell(self, *faults: Fault) -> list[dict[str, Any]]:
        """Commit these faults from now on and no others; returns those that are still to come. Raises ValueError."""
        return _faults(self.credentials_url, json.dumps([asdict(fault) for fault in faults]).encode())

    def pending(self) -> list[dict[str, Any]]:
        """The faults that are still to come."""
        return _faults(self.credentials_url, None)


def start(*, port: int = PORT, refuses: bool = False, environment: Mapping[str, str] = os.environ) -> Redshift:
    """Start what does not run, prepare the warehouse once, and return once it answers.

    With `refuses` it refuses all that Redshift's documentation refuses (refusals.py). The lake that external schemas
    show is that of `environment`; where one of these has changed, the proxy is started again. Raises RedshiftError
    for a port that another program has, and postgres.PostgresError.
    """
    compat = hashlib.sha256(COMPAT.read_bytes()).hexdigest()
    if _read_settings().get("compat", compat) != compat:  # the project has changed: dbt builds all of it again
        stop()
        shutil.rmtree(folder())
    servers = postgres.start(folder(), standby=False, flavour=FLAVOUR)
    _create_database(servers)
    if not (folder() / AUTHORITIES).exists():
        from sandbox.redshift import certificate  # here, since few commands of the sandbox need it

        certificate.write(folder())
    former = _read_settings()
    settings = {
        "upstream": {
            "port": servers.ports["primary"],
            "database": DATABASE,
            "user": postgres.ADMIN,
            "password": servers.passwords[postgres.ADMIN],
        },
        "ports": {"proxy": port, "credentials": former.get("ports", {}).get("credentials")},
        "passwords": former.get("passwords") or {each: _password() for each in (ADMINISTRATOR, DASHBOARD)},
        "environment": ENVIRONMENT,
        "refuses": refuses,
        "lake": {name: value for name, value in sorted(environment.items()) if _LAKE.match(name)},
        "compat": compat,
        "is_prepared": True,
    }
    if processes.running(NAME) and settings == former:
        return _redshift(settings)
    processes.stop(NAME)
    if not postgres.is_free(port):
        raise RedshiftError(f"port {port} of 127.0.0.1 is taken: end what listens there, or choose another --port")
    if not postgres.is_free(settings["ports"]["credentials"]):
        settings["ports"]["credentials"] = postgres.free_port()
    written = _write_settings(settings | {"is_prepared": False})
    processes.start(NAME, [sys.executable, "-m", "sandbox.redshift.server", written], environment)
    _wait_until_ready()
    redshift = _redshift(settings)
    with psycopg.connect(redshift.dsn) as connection:
        _set_administrator(connection, settings["passwords"][ADMINISTRATOR])
    prepare(redshift)
    _write_settings(settings)
    return redshift


def stop() -> None:
    """Stop all of it; its data stays."""
    processes.stop(NAME)
    postgres.stop(folder(), flavour=FLAVOUR)


def running() -> Redshift | None:
    """The stand-in, if it answers."""
    settings = _read_settings()
    if not settings or not processes.running(NAME):
        return None
    found = _redshift(settings)
    try:
        found.pending()
    except OSError:
        return None
    return found


def prepare(redshift: Redshift) -> int:
    """Run infra/warehouse.sql as the administrator, which may be done again; returns how many statements were run."""
    values = {"environment": ENVIRONMENT, "dashboard_password": warehouse.digest(redshift.passwords[DASHBOARD])}
    done = 0
    with redshift.connect() as connection, connection.cursor() as cursor:
        for statement in warehouse.statements(values):
            if statement.unless:
                cursor.execute(statement.unless)
                if cursor.fetchall():
                    continue
            cursor.execute(statement.sql)
            done += 1
    return done


# ---------- making it


def _create_database(servers: postgres.Servers) -> None:
    """The warehouse's database with compat.sql, whole or not at all."""
    draft = f"{DATABASE}_draft"
    with psycopg.connect(servers.dsn(postgres.ADMIN), autocommit=True) as admin:
        if admin.execute("select from pg_database where datname = %s", [DATABASE]).rowcount:
            return
        admin.execute(f"drop database if exists {draft} with (force)")
        admin.execute(f"create database {draft}")
        admin.execute(f'alter database {draft} set search_path = rs, pg_catalog, "$user", public')
        with psycopg.connect(servers.dsn(postgres.ADMIN, draft)) as connection:
            connection.execute(COMPAT.read_text())
        admin.execute(f"alter database {draft} rename to {DATABASE}")


def _set_administrator(connection: psycopg.Connection, password: str) -> None:
    """The namespace's administrator is a superuser, who exists before infra/warehouse.sql."""
    if not connection.execute("select from pg_roles where rolname = %s", [ADMINISTRATOR]).rowcount:
        connection.execute(f"create role {ADMINISTRATOR} login superuser")
    _, digest, salt = warehouse.digest(password).split("|")
    connection.execute("select rs.set_user(%s, %s, %s, null, null, true)", [ADMINISTRATOR, digest, salt])


def _wait_until_ready() -> None:
    deadline = time.monotonic() + PATIENCE
    while "ready\n" not in processes.log(NAME).read_text():
        if not processes.running(NAME) or time.monotonic() > deadline:
            raise RedshiftError(f"the stand-in of Redshift did not start: see {processes.log(NAME)}")
        time.sleep(0.02)


def _password() -> str:
    return secrets.token_urlsafe(24)


# ---------- what is remembered


def folder() -> Path:
    return home() / NAME


def _read_settings() -> dict[str, Any]:
    try:
        return json.loads((folder() / "server.json").read_text())
    except FileNotFoundError:
        return {}


def _write_settings(settings: Mapping[str, Any]) -> Path:
    """Returns the folder that has them."""
    private.write(folder() / "server.json", json.dumps(settings))
    return folder()


def _redshift(settings: Mapping[str, Any]) -> Redshift:
    upstream = settings["upstream"]
    return Redshift(
        folder(),
        settings["ports"]["proxy"],
        f"http://127.0.0.1:{settings['ports']['credentials']}",
        settings["passwords"],
        f"postgresql://{upstream['user']}:{upstream['password']}@127.0.0.1:{upstream['port']}/{upstream['database']}",
    )


def _faults(url: str, body: bytes | None) -> list[dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"{url}/_sandbox/faults", body, timeout=5) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise ValueError(json.load(error)["message"]) from None


# ---------- commands


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    up = subparsers.add_parser(NAME, help="start the stand-in of Redshift and print what dbt needs to come to it")
    up.add_argument("--port", type=int, default=PORT, help="on 127.0.0.1 (%(default)s)")
    up.add_argument("--refuse", action="store_true", help="refuse what Redshift's documentation refuses")
    up.set_defaults(run=_start)
    fault = subparsers.add_parser("redshift-fault", help="let statements on the stand-in of Redshift fail")
    fault.add_argument("pattern", help="a regular expression that is found in the statement")
    fault.add_argument("--message", default=SERIALISATION_CONFLICT, help="what it fails with (%(default)s)")
    fault.add_argument("--sqlstate", default="40001", help="(%(default)s)")
    fault.add_argument("--times", type=int, default=1, help="how many statements fail (%(default)s)")
    fault.add_argument("--lose-connection", action="store_true", help="end the connection, and say nothing")
    fault.set_defaults(run=_fault)


def print_exports(redshift: Redshift) -> None:
    for name, value in redshift.exports().items():
        print(f"export {name}={shlex.quote(value)}")


def _start(args: argparse.Namespace) -> None:
    redshift = start(port=args.port, refuses=args.refuse)
    print("# Redshift's stand-in answers. In a shell with these settings: dbt build --target redshift")
    print_exports(redshift)


def _fault(args: argparse.Namespace) -> None:
    redshift = running()
    if redshift is None:
        raise RedshiftError("the stand-in of Redshift is not running: python -m sandbox redshift")
    try:
        pending = redshift.tell(Fault(args.pattern, args.message, args.sqlstate, args.times, args.lose_connection))
    except ValueError as error:
        raise RedshiftError(str(error)) from None
    print(json.dumps(pending))
