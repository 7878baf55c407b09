"""Masks are run over hostile values: those of the project hold, and one that shows a whole value is found by itself."""

from dataclasses import replace

import pytest
import sqlglot

from privacy import disclosure, policy
from privacy.graph import Graph
from privacy.lineage import DIALECT
from privacy.masks import PLACEHOLDER, Patterns
from privacy.verdict import Verdict

pytestmark = pytest.mark.xdist_group("privacy")

# Masks that show all of a value of some kind: (the class that allows it, its SQL, a value that it shows whole).
BAD = {
    "the initials of any word": (
        "name",
        "upper(substr({0}, 1, 1)) || '. ' || upper(substr(split_part({0}, ' ', 2), 1, 1)) || '.'",
        "a B",
    ),
    "a fixed number of last digits": ("phone", "'***' || right({0}, 2)", "21"),
    "the first of two characters, one of which is no letter": ("email", "substr({0}, 1, 1) || '***'", "e\u0301"),
    "the host of a link": ("link", "split_part({0}, '/', 1) || '//' || split_part({0}, '/', 3) || '/***'", "https://a"),
    "what an empty match leaves": ("cpf", "regexp_replace({0}, '^[0-9][0-9][0-9]', '***')", "7"),
    "a text turned round and back": ("postal_code", "reverse(reverse({0})) || '-***'", "7"),
    "the whole day": ("birth_date", "strftime({0}, '%d/%m/%Y') || ' ' || cast({0} as varchar)", "1980-02-03"),
}


def test_no_mask_shows_all_of_a_value(graph: Graph, verdict: Verdict) -> None:
    """Use fault F3 and its kind: a mask that keeps a fixed number of characters shows all of a value with no more."""
    assert disclosure.faults(graph, verdict) == []


@pytest.mark.parametrize("kind", BAD)
def test_a_mask_that_shows_all_of_a_value_is_found_as_soon_as_the_policy_allows_it(
    graph: Graph, verdict: Verdict, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pii, sql, value = BAD[kind]
    tree = sqlglot.parse_one(sql.format(f"{PLACEHOLDER}value"), dialect=DIALECT)
    monkeypatch.setitem(policy.ALLOWED, pii, policy.ALLOWED[pii] | {"mask_badly"})
    seeded = replace(graph, patterns=Patterns(graph.patterns.expansions | {"mask_badly": tree}))
    [fault] = disclosure.faults(seeded, verdict)
    assert fault.startswith("mask_badly: it shows all of ")
    shown = disclosure.disclosed(tree, "date" if pii == "birth_date" else "varchar")
    assert value in [tried for tried, _ in shown]


def test_a_mask_of_a_type_without_values_is_a_fault(
    graph: Graph, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = sqlglot.parse_one(f"{PLACEHOLDER}value", dialect=DIALECT)
    monkeypatch.setitem(policy.ALLOWED, "income", frozenset({"mask_badly"}))
    seeded = replace(graph, patterns=Patterns(graph.patterns.expansions | {"mask_badly": tree}))
    [fault] = disclosure.faults(seeded, verdict)
    assert "no values of the type decimal(18,2)" in fault
