"""The k-anonymity figures: what the tests of the graph name is measured, no more and no less."""

from pathlib import Path
from typing import Any

import duckdb
import pytest

from privacy.groups import database, measure

MACROS = {
    "macro.lakehouse.test_k_anonymous": {
        "macro_sql": "{% test k_anonymous(model, quasi_identifiers, k=5, people=none) %}..."
    },
    "macro.lakehouse.test_l_diverse": {
        "macro_sql": "{% test l_diverse(model, quasi_identifiers, sensitive, l=3) %}..."
    },
}


def manifest(*tests: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    nodes: dict[str, Any] = {"model.mart": {"name": "mart", "schema": "refined", "alias": "mart", "config": {}}}
    for number, (name, arguments) in enumerate(tests):
        metadata = {"name": name, "kwargs": {"model": "{{ get_where_subquery(ref('mart')) }}", **arguments}}
        nodes[f"test.{number}"] = {"test_metadata": metadata, "attached_node": "model.mart", "config": {}}
    return {"nodes": nodes, "macros": MACROS}


@pytest.fixture
def built(tmp_path: Path) -> Path:
    path = tmp_path / "warehouse.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("create schema refined")
        connection.execute(
            "create table refined.mart as from (values ('SP', 'a', 6, 10), ('SP', 'b', 1, 20), ('RJ', 'a', 4, null))"
            " as rows (state, band, users, income)"
        )
    return path


def test_groups_are_measured_by_the_tests_arguments(built: Path) -> None:
    found = measure(
        manifest(
            ("k_anonymous", {"quasi_identifiers": ["state"], "people": "users"}),
            ("k_anonymous", {"quasi_identifiers": ["state", "band"], "k": 1}),
            ("l_diverse", {"quasi_identifiers": ["state"], "sensitive": "income", "l": 2}),
            ("l_diverse", {"quasi_identifiers": ["state"], "sensitive": "income"}),
            ("never_null", {"columns": ["state"]}),
        ),
        built,
    )
    assert [(groups.rule, groups.groups, groups.least, groups.wanted, groups.holds) for groups in found] == [
        ("k", 2, 4, 5, False),
        ("k", 3, 1, 1, True),
        ("l of income", 1, 2, 2, True),  # in RJ nobody's income is shown
        ("l of income", 1, 2, 3, False),
    ]


def test_what_is_not_built_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty.duckdb"
    duckdb.connect(str(empty)).close()
    assert measure(manifest(("k_anonymous", {"quasi_identifiers": ["state"]})), empty) == []
    monkeypatch.setenv("DUCKDB_PATH", str(tmp_path / "none.duckdb"))
    assert database() is None
    monkeypatch.setenv("DUCKDB_PATH", str(empty))
    assert database() == empty
