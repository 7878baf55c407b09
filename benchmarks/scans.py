"""What a statement that dbt sends to Athena reads: which columns of which stored tables, and whether it can prune.

Views are followed to the tables below them. A common table expression counts as often as it is named, since Trino,
which Athena is, runs it anew each time. Nothing is asked of Athena: all of this is reasoned, as docs/cost.md says.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import sqlglot
from sqlglot import exp
from sqlglot.optimizer.pushdown_projections import pushdown_projections
from sqlglot.optimizer.qualify import qualify

DIALECT = "athena"
FREE = ("create or replace view", "create external table", "create database", "drop", "alter")  # data definition
# What is left of a table where a condition compares a column with a literal. A batch is a file of its own, which the
# least and greatest batch_id of each file tell apart; load_date is raw's partition, and grows with Iceberg's files.
PRUNED_BY = {"batch_id": "new", "committed_at": "recent", "load_date": "recent"}
RECURSION = 10  # a recursive expression is written out so many times (Trino's max_recursion_depth)
PARTS = ("new", "recent", "all")  # the batch that has just landed; since yesterday; everything


class Read(NamedTuple):
    """One pass over a stored table."""

    table: str  # schema.name
    columns: frozenset[str]
    part: str  # one of PARTS


class Reader:
    """Finds what statements read, given views (by "schema.name", their SQL) and stored tables (their columns)."""

    def __init__(self, views: Mapping[str, str], tables: Mapping[str, Iterable[str]]) -> None:
        self.views = views
        self.schema: dict[str, dict[str, dict[str, str]]] = {}
        for table, columns in tables.items():
            schema, _, name = table.partition(".")
            self.schema.setdefault(schema, {})[name] = dict.fromkeys(columns, "varchar")

    def reads(self, sql: str) -> list[Read]:
        """Each pass over a stored table; none where the statement needs no row. Raises SqlglotError on unknown SQL."""
        if is_free(sql) or re.search(r"where false\s+limit 0\s*$", sql):
            return []
        tree = sqlglot.parse_one(sql, dialect=DIALECT)
        found = []
        if isinstance(tree, exp.Merge):
            target = _name(tree.this)
            keys = {column.name for column in tree.args["on"].find_all(exp.Column)}
            found = [Read(target, frozenset(keys), "all")]
            tree = exp.select("*").from_(tree.args["using"])
        elif isinstance(tree, (exp.Create, exp.Insert)):
            tree = tree.expression
        elif isinstance(tree, (exp.Update, exp.Delete)):
            return [Read(_name(tree.this), frozenset(self._columns(_name(tree.this))), "all")]
        return found + list(self._passes(tree))

    def _passes(self, query: exp.Expression) -> Iterator[Read]:
        whole = qualify(self._expanded(query), schema=self.schema, dialect=DIALECT, validate_qualify_columns=False)
        tree = pushdown_projections(whole)
        yield from _scan(tree, {}, "all")

    def _expanded(self, query: exp.Expression) -> exp.Expression:
        """The query with its catalog left out and each view replaced by what it selects."""

        def replace(node: exp.Expression) -> exp.Expression:
            if not isinstance(node, exp.Table) or not node.db:
                return node
            view = self.views.get(_name(node))
            if view is None:
                node.set("catalog", None)
                return node
            inner = self._expanded(sqlglot.parse_one(view, dialect=DIALECT))
            return exp.Subquery(this=inner, alias=exp.TableAlias(this=exp.to_identifier(node.alias_or_name)))

        return query.transform(replace)

    def _columns(self, table: str) -> Iterable[str]:
        schema, _, name = table.partition(".")
        return self.schema[schema][name]


def is_free(sql: str) -> bool:
    """Whether Athena charges nothing for it: statements of data definition (Athena's pricing page)."""
    text = re.sub(r"(--|/\*).*\n", "", sql).strip().lower()
    return text.startswith(FREE)


def _scan(query: exp.Expression, named: Mapping[str, exp.Expression], part: str) -> Iterator[Read]:
    """The passes of a query, where `named` are the common table expressions that it may name."""
    if isinstance(query, exp.Subquery):
        yield from _scan(query.this, named, part)
        return
    named = {**named, **{cte.alias: cte.this for cte in query.ctes}}
    if isinstance(query, exp.SetOperation):
        for side in (query.this, query.expression):
            yield from _scan(side, named, part)
        return
    conditions = list(_conjuncts(query))
    if exp.false() in conditions:
        return
    sources = [source.this for source in [query.args.get("from_"), *query.args.get("joins", [])] if source]
    own = [node for part in _parts(query) for node in part.walk(prune=lambda node: isinstance(node, exp.Query))]
    for source in sources:
        pruned = min([part, *(_left(condition, source.alias_or_name) for condition in conditions)], key=PARTS.index)
        if isinstance(source, exp.Subquery):
            yield from _scan(source, named, pruned)
        elif isinstance(source, exp.Table) and source.db:
            columns = {node.name for node in own if isinstance(node, exp.Column) and node.table == source.alias_or_name}
            yield Read(_name(source), frozenset(columns), pruned)
        elif isinstance(source, exp.Table):
            inner = named.get(source.name)
            others = {name: query for name, query in named.items() if name != source.name}
            if inner is not None:
                yield from _scan(inner, others, pruned)
            if isinstance(inner, exp.Union) and any(
                _is(table, source.name) for table in inner.expression.find_all(exp.Table)
            ):
                yield from list(_scan(inner.expression, others, pruned)) * (RECURSION - 1)
    for node in own:
        if isinstance(node, exp.Query) and node not in sources:
            yield from _scan(node, named, "all")


def _parts(query: exp.Expression) -> Iterator[exp.Expression]:
    """What a select consists of, but for its common table expressions."""
    for name, value in query.args.items():
        if name != "with_":
            yield from (
                part for part in (value if isinstance(value, list) else [value]) if isinstance(part, exp.Expression)
            )


def _conjuncts(query: exp.Expression) -> Iterator[exp.Expression]:
    where = query.args.get("where")
    for condition in (
        where.this.flatten() if where and isinstance(where.this, exp.And) else [where.this] if where else []
    ):
        yield condition.unnest()


def _left(condition: exp.Expression, source: str) -> str:
    """Which part of a source a condition leaves to be read; statistics also tell which files have a null at all."""
    column = condition.this
    if not isinstance(column, exp.Column) or column.table != source:
        return "all"
    if isinstance(condition, exp.Is) and isinstance(condition.expression, exp.Null):
        return "recent"
    compares = isinstance(condition, (exp.GTE, exp.GT, exp.EQ, exp.Between))
    literal = not any(node is not column for node in condition.find_all(exp.Column, exp.Query))
    return PRUNED_BY.get(column.name, "all") if compares and literal else "all"


def _is(table: exp.Table, name: str) -> bool:
    return table.name == name and not table.db


def _name(table: exp.Expression) -> str:
    table = table.find(exp.Table)
    return f"{table.db}.{table.name}"
