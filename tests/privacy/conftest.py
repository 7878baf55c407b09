"""The project's graph, compiled and judged once for all of a worker's tests, and mistakes to put into it."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlglot
from sqlglot import exp

from privacy import graph as graphs
from privacy.graph import Graph, Relation
from privacy.lineage import DIALECT
from privacy.masks import PLACEHOLDER
from privacy.verdict import Verdict, judge

USERS = "from warehouse.curated.users as u"
Findings = Callable[..., list[str]]
Mask = Callable[..., str]


@pytest.fixture(scope="session")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return graphs.load(target=tmp_path_factory.mktemp("target"))


@pytest.fixture(scope="session")
def verdict(graph: Graph) -> Verdict:
    return judge(graph)


@pytest.fixture
def findings(graph: Graph, verdict: Verdict) -> Findings:
    """`findings(sql)`: what is wrong with the graph once it has a refined model `mart` of that query; models that are
    given by name are curated ones."""

    def judged(sql: str, **curated: str) -> list[str]:
        models = [model(name, query, layer="curated") for name, query in curated.items()]
        return [str(finding) for finding in judge(with_models(graph, *models, model("mart", sql)), verdict).findings]

    return judged


@pytest.fixture(scope="session")
def mask(graph: Graph) -> Mask:
    """`mask("mask_email", email="u.email")`: what a call of the macro compiles to."""

    def expanded(macro: str, **arguments: str) -> str:
        def given(node: exp.Expr) -> exp.Expr:
            if isinstance(node, exp.Column) and node.name.startswith(PLACEHOLDER):
                return sqlglot.parse_one(arguments[node.name.removeprefix(PLACEHOLDER)], dialect=DIALECT)
            return node

        return graph.patterns.expansions[macro].copy().transform(given).sql(DIALECT)

    return expanded


def model(name: str, *queries: str, layer: str = "refined", classes: dict[str, str] | None = None) -> Relation:
    return Relation(f"model.lakehouse.{name}", name, layer, {}, classes or {}, queries)


def with_models(graph: Graph, *models: Relation) -> Graph:
    """The graph with more models, or others in the place of its own."""
    relations = graph.relations | {model.id: model for model in models}
    tables = graph.tables | {(model.layer, model.name): model.id for model in models}
    return replace(graph, relations=relations, tables=tables)
