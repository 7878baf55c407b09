"""A lake of the test's own on a database of the test's own, and what raw says about it."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.dataset as ds
import pytest

from loaders import users
from loaders.errors import OperatorError
from loaders.raw import USER_CHANGES, Landed
from loaders.settings import Settings
from loaders.users import server
from loaders.users.state import KEY
from sandbox import customer_app, postgres
from tests.background import repeating

ORDER = [("epoch", "ascending"), ("commit_lsn", "ascending"), ("change_seq", "ascending")]


class Landing:
    """The loader between a customer database and an empty lake."""

    def __init__(self, customer: postgres.Database, lake: Path) -> None:
        self.customer = customer
        self.lake = lake
        self.settings = Settings(
            lake_uri=str(lake),
            vault_uri=str(lake.with_name("vault")),
            disney_api_url="",
            customer_table="public.usuarios",
            customer_dsn=customer.dsn,
            customer_snapshot_dsn=customer.snapshot_dsn,
            customer_gaps="stop",  # so that a test sees each gap
        )

    def use(self, **settings: str | None) -> None:
        self.settings = replace(self.settings, **settings)

    def land(self, *, resnapshot: bool = False) -> Landed:
        return users.land(self.settings, resnapshot=resnapshot)

    def refuses(self, *reasons: str) -> str:
        """A run stops with exit code 2 and all of these reasons, and neither state nor raw changes; its message."""
        state = (self.lake / KEY).read_bytes() if (self.lake / KEY).exists() else None
        files = self.files()
        with pytest.raises(OperatorError) as raised:
            self.land()
        assert [reason for reason in reasons if reason not in str(raised.value)] == [], str(raised.value)
        assert files == self.files()
        assert state == ((self.lake / KEY).read_bytes() if (self.lake / KEY).exists() else None)
        return str(raised.value)

    def write(self, *statements: str) -> None:
        """Run the statements as the application, in one transaction."""
        with psycopg.connect(self.customer.app_dsn) as connection:
            for statement in statements:
                connection.execute(statement)

    def admin(self, statement: str, *parameters: Any) -> list[tuple]:
        with psycopg.connect(self.customer.admin_dsn, autocommit=True) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def repeating(self, statement: str) -> Iterator[None]:
        """Meanwhile the superuser runs the statement on the primary again and again."""
        with repeating(lambda: self.admin(statement)):
            yield

    @property
    def state(self) -> dict:
        return json.loads((self.lake / KEY).read_text())

    def change_state(self, **fields: Any) -> None:
        (self.lake / KEY).write_text(json.dumps(self.state | fields))

    def files(self) -> list[Path]:
        return [path for path in (self.lake / "raw" / USER_CHANGES.name).rglob("*.parquet") if path.stem != "empty"]

    def events(self) -> list[dict]:
        """Everything in raw, in its order, with `before`, `after` and `source` parsed."""
        files = [str(path) for path in self.files()]
        rows = ds.dataset(files, schema=USER_CHANGES.schema).to_table().sort_by(ORDER).to_pylist() if files else []
        for row in rows:
            for name in ("before", "after", "source"):
                row[name] = row[name] and json.loads(row[name])
        return rows

    def changes(self) -> list[tuple[str, dict | None, dict | None]]:
        """(op, before, after) of everything but the snapshots."""
        return [(e["op"], e["before"], e["after"]) for e in self.events() if e["source"]["xid"] is not None]

    def replayed(self) -> dict[str, dict]:
        """The table as raw's events add up to it: each row by its id."""
        rows: dict[str, dict] = {}
        for event in self.events():
            if event["op"] == "t":
                rows = {}
            if event["op"] in "ud":
                old = rows.pop((event["before"] or event["after"])["id"])
            if event["op"] in "rcu":
                rows[event["after"]["id"]] = (old if event["op"] == "u" else {}) | event["after"]
        return rows

    def live(self) -> dict[str, dict]:
        """The table itself, as text."""
        with server.connect(self.customer.app_dsn) as connection, connection.cursor() as cursor:
            columns = [column.name for column in cursor.execute("SELECT * FROM public.usuarios LIMIT 0").description]
            with cursor.copy("COPY public.usuarios TO STDOUT") as copy:
                return {row[0]: dict(zip(columns, row, strict=True)) for row in copy.rows()}


@pytest.fixture
def landing(customer: postgres.Database, tmp_path: Path) -> Iterator[Landing]:
    landing = Landing(customer, tmp_path / "lake")
    yield landing
    # Whatever a test has done, nothing was landed twice.
    keys = [(event["epoch"], event["commit_lsn"], event["change_seq"]) for event in landing.events()]
    assert len(keys) == len(set(keys))


# A server of another version, which knows less than the sandbox's. OLDER_POSTGRES names the folder of another one's
# binaries (above bin/): all tests that use it hold from PostgreSQL 14 on.
OLDER = postgres.Flavour(
    os.environ.get("OLDER_POSTGRES", "pginstall"),
    ("--locale", "C"),
    postgres.SETTINGS,
    postgres.HBA,
    postgres.CUSTOMER.roles,
)


@pytest.fixture(scope="session")
def older_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres.Database]:
    """A database on PostgreSQL 16, without a standby, for tests that leave nothing in it."""
    home = tmp_path_factory.mktemp("older")
    database = postgres.create_database(postgres.start(home, standby=False, flavour=OLDER), "customer")
    yield database
    postgres.stop(home, "immediate", flavour=OLDER)


@pytest.fixture(params=["newer", pytest.param("older", marks=pytest.mark.xdist_group("older_postgres"))])
def any_version(request: pytest.FixtureRequest) -> postgres.Database:
    return request.getfixturevalue("older_database" if request.param == "older" else "customer_database")


def person(name: str, **columns: str) -> str:
    """An INSERT of a made-up person; further columns are SQL expressions."""
    values = {"nome": f"'{name}'", "email": f"'{name.lower()}@example.com'", "cpf": "'000.000.000-00'"} | columns
    return f"INSERT INTO public.usuarios ({', '.join(values)}) VALUES ({', '.join(values.values())})"


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Return once the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@contextmanager
def writing(landing: Landing, **options: Any) -> Iterator[None]:
    """Meanwhile the application writes; the options are those of sandbox.customer_app.write_changes."""
    stop = threading.Event()
    options |= {"stop": stop}
    writer = threading.Thread(target=customer_app.write_changes, args=[landing.customer.app_dsn], kwargs=options)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()
