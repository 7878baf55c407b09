"""The feature set of data science, and the example that reads it, by the command that a person types."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import redshift_connector
from botocore.client import BaseClient

from tests.dbt.conftest import ROOT
from tests.dbt.lakes import Dbt
from tests.dbt.user_events import NOON, Event, land, row

EXAMPLE = ROOT / "examples/read_features.py"
BUILD = ["run", "--select", "+user_features"]
HOST = "lakehouse-dev.111122223333.us-east-1.redshift-serverless.amazonaws.com"


@pytest.fixture
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("read_features", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_example(folder: Path) -> subprocess.CompletedProcess[str]:
    places = os.environ | {"LAKE_URI": str(folder / "lake")}
    return subprocess.run([sys.executable, EXAMPLE], env=places, cwd=folder, capture_output=True, text=True)


def test_it_has_who_is_there_without_masks_and_without_gaps(
    dbt: Dbt, lake: Path, query: Callable[..., list[tuple]]
) -> None:
    known = {"data_nascimento": "1990-05-17", "uf": "SP", "renda_mensal": "3500.00", "status": "ativo"}
    known |= {"cpf": "123.456.789-09", "criado_em": "2026-02-03 04:05:06+00", "atualizado_em": "2026-02-03 04:05:06+00"}
    events = [
        Event("c", 10, 0, after=row(1, **known)),
        Event("c", 10, 1, after=row(2)),
        Event("c", 10, 2, after=row(3)),
    ]
    land(lake, [*events, Event("d", 20, 0, before={"id": "3"})], NOON)
    dbt(*BUILD)
    dbt("test", "--select", "user_features", "--vars", "{daily: true}")
    columns = "age_band, state_code, income_band, status, created_month::varchar"
    assert query(f"select {columns} from refined.user_features order by all") == [
        ("35-44", "SP", "2000-4999", "ativo", "2026-02-01"),
        ("unknown", "unknown", "unknown", "unknown", None),
    ]
    assert query(
        "select count(*), count(distinct dim.user_key) from refined.user_features as features"
        " inner join refined.dim_users as dim using (user_key, key_id)"
    ) == [(2, 2)]

    # It holds nothing of its own: who goes from dim_users goes from it.
    land(lake, [Event("d", 30, 0, before={"id": "1"})], NOON.replace(hour=13))
    dbt("run", "--select", "+dim_users")
    assert query("select count(*) from refined.user_features where state_code = 'SP'") == [(0,)]


@pytest.mark.parametrize(
    ("status_of", "said"),
    [
        (lambda user: "inativo" if user % 2 else "ativo", "the bands help"),  # as the year of birth has it
        (lambda user: "inativo" if user % 4 < 2 else "ativo", "the bands tell nothing"),
    ],
)
def test_the_example_says_what_the_features_are_worth(
    dbt: Dbt, lake: Path, status_of: Callable[[int], str], said: str
) -> None:
    people = [
        row(
            user,
            data_nascimento="1950-01-01" if user % 2 else "2000-01-01",
            renda_mensal="3500.00",
            status=status_of(user),
            atualizado_em="2026-02-03 04:05:06+00",
        )
        for user in range(800)
    ]
    land(lake, [Event("c", 10, user, after=after) for user, after in enumerate(people)], NOON)
    dbt(*BUILD)
    done = run_example(lake.parent)
    assert done.returncode == 0, done.stderr
    first, _, last = done.stdout.splitlines()
    assert first.startswith("800 users, ")
    assert last == said


def test_the_example_says_that_there_are_too_few(dbt: Dbt, lake: Path) -> None:
    dbt(*BUILD)
    done = run_example(lake.parent)
    assert done.returncode != 0
    assert "refined.user_features has 0 users: too few" in done.stderr
    assert "Traceback" not in done.stderr


class Warehouse:
    """Redshift's driver beyond the network: what it was told, and one row."""

    def __init__(self, **told: Any) -> None:
        self.told, self.heard = told, ""

    def cursor(self) -> Any:
        return self

    def execute(self, sql: str) -> None:
        self.heard = sql

    def fetchall(self) -> list[tuple]:
        return [("0" * 64, "35-44", "2000-4999", "ativo")]


def test_in_a_notebook_it_reads_the_warehouse_by_the_notebooks_role(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the driver's own code up to the network; that it may make these calls is tests/infra/test_access.py."""
    asked: list[str] = []

    def answer(client: BaseClient, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        asked.append(f"{client.meta.service_model.service_name}:{operation}")
        assert (params["workgroupName"], params["dbName"]) == ("lakehouse-dev", "lakehouse")
        return {"dbUser": "IAMR:lakehouse-dev-notebook", "dbPassword": "-", "expiration": NOON}

    monkeypatch.setattr(BaseClient, "_make_api_call", answer)
    monkeypatch.setattr(redshift_connector, "Connection", Warehouse)
    for name, value in {"REDSHIFT_HOST": HOST, "AWS_ACCESS_KEY_ID": "-", "AWS_SECRET_ACCESS_KEY": "-"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("REDSHIFT_DATABASE", raising=False)
    connection = example.connect(warehouse=True)
    assert asked == ["redshift-serverless:GetCredentials"]
    assert (connection.told["host"], connection.told["ssl"], connection.told["user"]) == (
        HOST, True, "IAMR:lakehouse-dev-notebook",
    )  # fmt: skip
    assert connection.autocommit is True  # else it would keep a transaction open, and dbt from replacing the table
    [user] = example.read(connection)
    assert user.age_band == "35-44"
    assert connection.heard == example.QUERY
