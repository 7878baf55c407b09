"""No built column shows personal values without carrying their class: what its name does not say, its values do."""

import json
import random

import duckdb
import pytest

from privacy.site import column_privacy
from privacy.values import is_cpf, scan
from sandbox import people
from tests.pipeline.product import Pipeline

pytestmark = pytest.mark.xdist_group("published")  # one lake for all of them, so one worker

Privacy = dict[str, dict[str, dict[str, str]]]


@pytest.fixture
def privacy(published: Pipeline) -> Privacy:
    return column_privacy(json.loads((published.folder / "target/manifest.json").read_text()))


def scanned(published: Pipeline, privacy: Privacy) -> list[str]:
    with duckdb.connect(str(published.folder / "lake/warehouse.duckdb"), read_only=True) as connection:
        return scan(connection, privacy)


def test_no_column_shows_personal_values_that_nothing_declares(published: Pipeline, privacy: Privacy) -> None:
    assert scanned(published, privacy) == []


def test_the_scan_finds_columns_that_lose_their_class(published: Pipeline, privacy: Privacy) -> None:
    users = {name: column for name, column in privacy["users"].items() if name not in ("email", "cpf")}
    found = scanned(published, privacy | {"users": users})
    assert {"users.cpf: a CPF", "users.email: an e-mail address"} <= set(found)
    assert {line.partition(":")[0] for line in found} == {"users.cpf", "users.email"}


def test_the_scan_knows_values_by_their_form_and_check_digits() -> None:
    cpf = "".join(filter(str.isdigit, people.cpf(random.Random(1))))
    assert is_cpf(cpf)
    assert not is_cpf(cpf[:10] + str((int(cpf[10]) + 1) % 10))
    assert not is_cpf("11111111111")
    written = f"{cpf[:3]}.{cpf[3:6]}.{cpf[6:9]}-{cpf[9:]}"
    wrong = f"{cpf[:9]}{(int(cpf[9]) + 1) % 10}{cpf[10]}"
    with duckdb.connect() as connection:
        connection.execute(
            "create table t as select ? as a, ? as b, ? as c, ? as d, ? as e, ? as f, ? as g",
            [cpf, f"see {written}", wrong, "mail ana@example.com", "(11) 98765-4321", "01310-100", "m***@example.com"],
        )
        assert scan(connection, {}) == [
            "t.a: a CPF",
            "t.b: a CPF",
            "t.d: an e-mail address",
            "t.e: a phone number",
            "t.f: a CEP",
        ]
