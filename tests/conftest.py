"""Fixtures that several test files share."""

import atexit
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import hypothesis
import psycopg
import pytest
from moto.server import ThreadedMotoServer
from playwright.sync_api import Browser, Page, expect

from infra import drawing
from sandbox import athena, customer_app, postgres

PATIENCE = 60_000  # milliseconds that a browser or a database may take on an overloaded machine

# The tests that take minutes begin first, the longest at the head, so that no worker is left alone with one at the end.
LONGEST = (
    "tests/engines/test_athena.py",
    "tests/engines/test_dag.py",
    "tests/dags/test_airflow.py",
    "tests/engines/",
    "tests/test_documents.py",
    "tests/test_benchmarks.py",
    "tests/pipeline/",
)

# An example may be slow because the machine is busy: that is no fault of the code.
hypothesis.settings.register_profile("lakehouse", deadline=None)
hypothesis.settings.load_profile("lakehouse")

_numbers = itertools.count(1)

# When the interpreter ends, DuckDB's bindings list what is still referenced ("nanobind: leaked ..."). That has nothing
# to do with the tests, and a failure must be the last thing on the screen. Only their C++ could switch it off.
atexit.register(os.dup2, os.open(os.devnull, os.O_WRONLY), 2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        return next((number for number, path in enumerate(LONGEST) if item.nodeid.startswith(path)), len(LONGEST))

    items.sort(key=rank)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres.Servers]:
    """A running primary and its standby, one pair for each worker of the test run."""
    home = tmp_path_factory.mktemp("sandbox")
    yield postgres.start(home)
    postgres.stop(home)


def _new_database(servers: postgres.Servers, name: str) -> postgres.Database:
    database = postgres.create_database(servers, name)
    customer_app.create_table(database.app_dsn)
    postgres.wait_for_standby(servers)
    return database


@pytest.fixture(scope="session")
def customer_database(servers: postgres.Servers) -> postgres.Database:
    """A database with an empty public.usuarios that lives as long as the servers: for tests that only read."""
    return _new_database(servers, "customer")


@pytest.fixture
def customer(servers: postgres.Servers) -> Iterator[postgres.Database]:
    """A database of the test's own: an empty public.usuarios, its grants and its publication, no slot."""
    database = _new_database(servers, f"customer_{next(_numbers)}")
    yield database
    with psycopg.connect(servers.dsn(postgres.ADMIN), autocommit=True) as admin:
        slots = "FROM pg_replication_slots WHERE database = %s"
        admin.execute(f"SELECT pg_terminate_backend(active_pid, {PATIENCE}) {slots} AND active", [database.name])
        admin.execute(f"SELECT pg_drop_replication_slot(slot_name) {slots}", [database.name])
        admin.execute(f"DROP DATABASE {database.name} WITH (FORCE)")


@pytest.fixture(scope="session")
def aws_server() -> Iterator[str]:
    """The URL of a local S3 server (moto's)."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(aws_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points boto3 to the local server with made-up credentials."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
def bucket(aws: None) -> str:
    """An empty bucket on the local S3 server."""
    name = f"bucket-{next(_numbers)}"
    boto3.client("s3").create_bucket(Bucket=name)
    return name


@dataclass(frozen=True)
class LocalAthena:
    """The one local Athena of a test run, its log of statements, and the environment of the commands that know it."""

    engine: athena.Athena
    log: Path
    environment: dict[str, str]


@pytest.fixture(scope="session")
def local_athena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAthena]:
    """Athena over Trino, S3 and Glue, for all tests of the xdist group `athena`: they share what it holds."""
    home = tmp_path_factory.mktemp("athena-sandbox")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SANDBOX_HOME", str(home))
            local = LocalAthena(athena.start(), athena.log(), dict(os.environ))
        yield local
    finally:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SANDBOX_HOME", str(home))
            athena.stop()


@pytest.fixture
def athena_server(local_athena: LocalAthena) -> athena.Athena:
    """The local Athena with nothing in it."""
    athena.empty(local_athena.engine)
    return local_athena.engine


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE)
    with drawing.chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A new page: the site is one page, and an address that differs only after its # would not load it again."""
    with browser.new_page() as page:
        page.set_default_timeout(PATIENCE)
        yield page
