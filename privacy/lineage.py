"""Column-level lineage of one query: which personal values each of its columns holds, and what masked them on the way.

A trace is one personal column's value on its way. It goes from a column to whatever an expression makes of it; it ends
nowhere, but a mask or a breaker that it passes is written on it. What only decides which rows there are (joins,
filters, groups, orders) carries no value and leaves no trace. What cannot be understood raises UnreadableError, for
it is not the same as no lineage.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify

from privacy import policy
from privacy.masks import Patterns

DIALECT = "duckdb"

TRUTH_VALUES = (exp.Predicate, exp.Connector, exp.Not, exp.RegexpLike, exp.StartsWith, exp.Contains, exp.Exists)
COUNTS = (exp.Count, exp.CountIf, exp.ApproxDistinct)
COUNTS_BY_NAME = {"generate_subscripts"}  # places in an array
MEANS = (exp.Sum, exp.Avg, exp.Stddev, exp.StddevPop, exp.StddevSamp, exp.Variance, exp.VariancePop)
# What hands a value on as it is, but for its type, case and outer spaces, or picks one of several.
SAME_VALUE = (
    exp.Cast, exp.TryCast, exp.Paren, exp.Alias, exp.Lower, exp.Upper, exp.Trim, exp.Coalesce, exp.Nullif, exp.Case,
    exp.If, exp.Array, exp.Bracket, exp.Explode, exp.Window, exp.Lead, exp.Lag, exp.FirstValue, exp.LastValue,
    exp.Max, exp.Min, exp.ArgMax, exp.ArgMin, exp.AnyValue, exp.IgnoreNulls, exp.RespectNulls, exp.Filter, exp.Subquery,
)  # fmt: skip
SAME_VALUE_BY_NAME = {"arg_max_null", "arg_min_null"}
NOT_UNDERSTOOD = (exp.Star, exp.Columns, exp.PositionalColumn, exp.Pivot, exp.Placeholder, exp.Parameter, exp.Command)
GENERATORS = (exp.GenerateSeries, exp.Values)


class UnreadableError(Exception):
    """SQL whose lineage cannot be told."""


@dataclass(frozen=True)
class Step:
    """One column on the way, and the expression that made it."""

    column: str
    expression: str

    def __str__(self) -> str:
        return f"{self.column} := {self.expression}" if self.expression else self.column


@dataclass(frozen=True)
class Trace:
    """A personal column's value in another column. `whole`: as it was, neither cut nor mixed."""

    origin: str
    pii: str
    masks: tuple[str, ...] = ()
    whole: bool = True
    steps: tuple[Step, ...] = field(default=(), compare=False)

    def masked(self, mask: str) -> "Trace":
        return self if mask in self.masks else replace(self, masks=(*self.masks, mask))


Traces = frozenset[Trace]
Columns = dict[str, Traces]
NOTHING: Traces = frozenset()


def merged(*columns: Columns) -> Columns:
    """The same columns, with all that any of them holds; the first way found is the one that is told."""
    names = dict.fromkeys(name for some in columns for name in some)
    return {name: _union(some.get(name, NOTHING) for some in columns) for name in names}


def _union(several: Iterable[Traces]) -> Traces:
    found: dict[Trace, Trace] = {}
    for traces in several:
        for trace in traces:
            if trace not in found or len(trace.steps) < len(found[trace].steps):
                found[trace] = trace
    return frozenset(found.values())


@dataclass
class Reader:
    """Reads queries over known relations. `relation` finds the name and columns of what a query reads: a table by its
    name, or a source by the table function or subquery that reads its files."""

    relation: Callable[[exp.Table | exp.Subquery], tuple[str, Columns] | None]
    patterns: Patterns
    key_relation: str = ""  # the only table whose key makes a pseudonym

    def columns(self, sql: str, name: str) -> Columns:
        """What each column of the query called `name` holds. Raises UnreadableError."""
        try:
            statements = [statement for statement in sqlglot.parse(sql, dialect=DIALECT) if statement]
            if len(statements) != 1 or not isinstance(statements[0], exp.Query):
                raise UnreadableError("it is not one query")
            tree, relations = self._named(statements[0])
            schema = {table: dict.fromkeys(columns, "unknown") for table, columns in relations.items()}
            tree = qualify(tree, dialect=DIALECT, schema=schema, quote_identifiers=False)
        except SqlglotError as error:
            raise UnreadableError(" ".join(str(error).split())[:200]) from None
        return _Query(self, relations, name).query(tree, {}, None)

    def stars_over(self, sql: str, is_across: Callable[[str], bool]) -> list[str]:
        """The relations across the line whose columns a star alone, never a name, brings into the query's result."""
        tree, _ = self._named(sqlglot.parse_one(sql, dialect=DIALECT))
        return sorted({found for found in _starred(tree, {}) if is_across(found)})

    def _named(self, tree: exp.Expr) -> tuple[exp.Expr, dict[str, Columns]]:
        """The tree with each table that is no CTE under the relation's own name, and those relations."""
        tree = tree.copy()
        relations: dict[str, Columns] = {}
        for subquery in list(tree.find_all(exp.Subquery)):  # some sources' files are read by one
            if found := self.relation(subquery):
                relations[found[0]] = found[1]
                _replace(subquery, found[0])
        for table in list(tree.find_all(exp.Table)):
            if not table.db and isinstance(table.this, exp.Identifier) and (_is_cte(table) or table.name in relations):
                continue
            found = self.relation(table)
            if found is None:
                if isinstance(table.this, GENERATORS):
                    continue
                raise UnreadableError(f"it reads {table.sql(DIALECT)}, which is no model, seed or source")
            relations[found[0]] = found[1]
            _replace(table, found[0])
        return tree, relations


def _replace(read: exp.Table | exp.Subquery, name: str) -> None:
    """Put the relation called `name` where the query reads it, under the alias that it has there."""
    if read.args.get("pivots") or read.args.get("sample"):
        raise UnreadableError(f"what becomes of a column is not told by {read.sql(DIALECT)}")
    alias = read.args.get("alias") or exp.TableAlias(this=exp.to_identifier(read.alias_or_name or "_source"))
    named = exp.Table(this=exp.to_identifier(name, quoted=True), alias=alias.copy(), joins=read.args.get("joins"))
    read.replace(named)


def _is_cte(table: exp.Table) -> bool:
    node: exp.Expr | None = table
    while node := node.parent:
        with_ = node.args.get("with_")
        if with_ and any(cte.alias.lower() == table.name.lower() for cte in with_.expressions):
            # A CTE that bears the name of the table it reads means the table, unless it is recursive.
            inside = table.find_ancestor(exp.CTE)
            if inside is None or inside.alias.lower() != table.name.lower() or with_.args.get("recursive"):
                return True
    return False


def _starred(node: exp.Expr, ctes: dict[str, tuple]) -> set[str]:
    """The relations that a query's result has columns of by stars alone; `ctes` holds each with those before it."""
    if isinstance(node, exp.Subquery):
        return _starred(node.this, ctes)
    with_ = node.args.get("with_")
    if with_:
        for cte in with_.expressions:
            ctes = {**ctes, cte.alias.lower(): (cte.this, ctes)}
    if isinstance(node, exp.SetOperation):
        return _starred(node.left, ctes) | _starred(node.right, ctes)
    if not isinstance(node, exp.Select):
        return set()
    found: set[str] = set()
    for projection in node.expressions:
        if not (projection.is_star or projection.find(exp.Columns)):
            continue
        of = projection.table if isinstance(projection, exp.Column) else ""
        for source in _sources(node):
            if of and source.alias_or_name.lower() != of.lower():
                continue
            if isinstance(source, exp.Table):
                inner = ctes.get(source.name.lower())
                found |= _starred(*inner) if inner else {source.name}
            elif isinstance(source, exp.Subquery):
                found |= _starred(source.this, ctes)
    return found


def _sources(select: exp.Select) -> list[exp.Expr]:
    from_ = select.args.get("from_")
    joins = [join.this for join in select.args.get("joins") or []]
    sources = [*([from_.this] if from_ else []), *joins, *(select.args.get("laterals") or [])]
    nested = [join.this for source in sources for join in source.args.get("joins") or []]
    return sources + nested


@dataclass
class _Scope:
    """What a select can name: its sources by alias, and what the queries around it can."""

    sources: dict[str, Columns]
    outer: "_Scope | None"

    def column(self, node: exp.Column) -> Traces:
        scope: _Scope | None = self
        while scope:
            if node.table.lower() in scope.sources:
                source = scope.sources[node.table.lower()]
                if node.name.lower() not in source:
                    break
                return source[node.name.lower()]
            scope = scope.outer
        raise UnreadableError(f"{node.sql(DIALECT)} is no column that is known")


@dataclass
class _Query:
    reader: Reader
    relations: dict[str, Columns]
    name: str

    def query(self, node: exp.Expr, ctes: dict[str, Columns], outer: _Scope | None, within: str = "") -> Columns:
        if isinstance(node, exp.Subquery | exp.Paren):
            return self.query(node.this, self._with(node, ctes, outer), outer, within)
        ctes = self._with(node, ctes, outer)
        if isinstance(node, exp.SetOperation):
            if node.args.get("by_name"):
                raise UnreadableError("union by name: say the columns in one order instead")
            left = self.query(node.left, ctes, outer, within)
            return _positional(left, self.query(node.right, ctes, outer, within))
        if isinstance(node, exp.Values):
            return self._values(node, _Scope({}, outer), ctes)
        if not isinstance(node, exp.Select):
            raise UnreadableError(f"{type(node).__name__.lower()} is not understood")
        scope = _Scope({}, outer)
        for source in _sources(node):
            alias = source.alias_or_name.lower()
            if alias in scope.sources:
                raise UnreadableError(f"two tables are called {alias}")
            scope.sources[alias] = self._source(source, scope, ctes)
        having = node.args.get("having")
        guarded = bool(having and self._bears_out(having.this, scope, ctes))
        columns: Columns = {}
        for projection in node.expressions:
            if not projection.alias_or_name or projection.is_star:
                raise UnreadableError(f"the column {projection.sql(DIALECT)[:80]} has no name")
            found = self.expression(projection, scope, ctes, guarded)
            name = projection.alias_or_name.lower()
            while name in columns:  # a union goes by places, so none may be lost
                name += "_1"
            columns[name] = self._stepped(found, projection, within)
        return columns

    def _stepped(self, traces: Traces, projection: exp.Expr, within: str) -> Traces:
        """The traces with this column on their way; a CTE's column that only hands on its namesake is left out."""
        name, made = projection.alias_or_name.lower(), projection.unalias()
        if within and isinstance(made, exp.Column) and made.name.lower() == name:
            return traces
        expression = made.sql(DIALECT, comments=False)
        expression = expression if len(expression) <= 90 else f"{expression[:86]} ..."
        column = f"{self.name}{f' ({within})' if within else ''}.{name}"
        return frozenset(replace(trace, steps=(*trace.steps, Step(column, expression))) for trace in traces)

    def _with(self, node: exp.Expr, ctes: dict[str, Columns], outer: _Scope | None) -> dict[str, Columns]:
        with_ = node.args.get("with_")
        if not with_:
            return ctes
        ctes = dict(ctes)
        for cte in with_.expressions:
            name = cte.alias.lower()
            recursive = with_.args.get("recursive") and isinstance(cte.this, exp.SetOperation)
            if recursive:
                ctes[name] = _renamed(self.query(cte.this.left, ctes, outer, name), cte)
            columns = _renamed(self.query(cte.this, ctes, outer, name), cte)
            while (
                recursive and ctes[name] != columns
            ):  # each round can only add, and there is a bounded number of traces
                ctes[name] = merged(ctes[name], columns)
                columns = merged(ctes[name], _renamed(self.query(cte.this, ctes, outer, name), cte))
            ctes[name] = columns
        return ctes

    def _source(self, node: exp.Expr, scope: _Scope, ctes: dict[str, Columns]) -> Columns:
        if node.args.get("pivots"):
            raise UnreadableError("what becomes of a column is not told by a pivot")
        if isinstance(node, exp.Table):
            if isinstance(node.this, GENERATORS):
                return self._table_function(node, scope, ctes)
            found = ctes.get(node.name.lower()) if not node.db else None
            found = self.relations.get(node.name) if found is None else found
            if found is None:
                raise UnreadableError(f"{node.sql(DIALECT)} is no table that is known")
            return _renamed(found, node)
        if isinstance(node, exp.Lateral) and isinstance(node.this, exp.Subquery):
            return _renamed(self.query(node.this, ctes, scope), node)
        if isinstance(node, exp.Subquery):
            return _renamed(self.query(node, ctes, scope.outer, node.alias_or_name), node)
        if isinstance(node, exp.Values):
            return _renamed(self._values(node, scope, ctes), node)
        if isinstance(node, exp.Unnest | exp.Lateral):
            return self._table_function(node, scope, ctes)
        raise UnreadableError(f"{node.sql(DIALECT)[:80]} is not understood as a table")

    def _values(self, node: exp.Values, scope: _Scope, ctes: dict[str, Columns]) -> Columns:
        rows = [row.expressions if isinstance(row, exp.Tuple) else [row] for row in node.expressions]
        return {
            f"col{place}": _union(self.expression(value, scope, ctes) for value in column)
            for place, column in enumerate(zip(*rows, strict=True))
        }

    def _table_function(self, node: exp.Expr, scope: _Scope, ctes: dict[str, Columns]) -> Columns:
        alias = node.args.get("alias")
        names = [name.name.lower() for name in (alias.args.get("columns") or [])] if alias else []
        arguments = [*node.expressions, *([node.this] if isinstance(node.this, exp.Expr) else [])]
        values = _union(self.expression(argument, scope, ctes) for argument in arguments)
        return dict.fromkeys(names or [node.alias_or_name.lower()], values)

    def expression(self, node: exp.Expr, scope: _Scope, ctes: dict[str, Columns], guarded: bool = False) -> Traces:
        """What a value holds. `guarded`: a count of the group's rows has been asked for."""
        mask = self.reader.patterns.find(node)
        if mask and self._key_is_the_vaults(mask.key_columns, scope):
            return frozenset(
                trace.masked(mask.mask if trace.whole or mask.mask in policy.DIGESTS else f"{mask.mask} of a piece")
                for argument in mask.arguments
                for trace in self.expression(argument, scope, ctes, guarded)
            )
        if isinstance(node, NOT_UNDERSTOOD):
            raise UnreadableError(f"{node.sql(DIALECT)} names no column")
        if isinstance(node, exp.Column):
            return scope.column(node)
        if isinstance(node, exp.TableColumn):
            whole_row = scope.sources.get(node.name.lower())
            if whole_row is None:
                raise UnreadableError(f"{node.sql(DIALECT)} is no table that is known")
            return _altered(_union(whole_row.values()))
        if isinstance(node, exp.Query | exp.Subquery):
            return _union(self.query(node, ctes, scope).values())
        if isinstance(node, TRUTH_VALUES):
            return self._condition(node, scope, ctes)
        if isinstance(node, COUNTS) or _name(node) in COUNTS_BY_NAME:
            return self._masked_children(node, "count", scope, ctes)
        if isinstance(node, MEANS):
            return self._masked_children(node, "mean of a group" if guarded else "mean of any group", scope, ctes)
        if isinstance(node, exp.Window):
            return self.expression(node.this, scope, ctes)  # a count of the group says nothing of a window
        if isinstance(node, exp.Filter):
            return self.expression(node.this, scope, ctes, guarded)
        if isinstance(node, exp.Case | exp.If):
            return self._case(node, scope, ctes, guarded)
        if isinstance(node, exp.Nullif):
            compared = self._condition(node.expression, scope, ctes)
            return _union([self.expression(node.this, scope, ctes, guarded), compared])
        found = _union(self.expression(child, scope, ctes, guarded) for child in node.iter_expressions())
        return found if _hands_on(node) else _altered(found)

    def _bears_out(self, condition: exp.Expr, scope: _Scope, ctes: dict[str, Columns]) -> bool:
        """Whether a condition asks in all its cases for LEAST_GROUP or more, of a count or of a sum of counts."""
        condition = condition.unnest()
        if isinstance(condition, exp.And):
            return any(self._bears_out(side, scope, ctes) for side in (condition.left, condition.right))
        least = condition.expression if isinstance(condition, exp.GTE | exp.GT) else None
        if not (isinstance(least, exp.Literal) and least.is_int):
            return False
        if int(least.name) + isinstance(condition, exp.GT) < policy.LEAST_GROUP:
            return False
        if isinstance(condition.this, exp.Count):
            return True
        counted = self.expression(condition.this, scope, ctes) if isinstance(condition.this, exp.Sum) else NOTHING
        return bool(counted) and all("count" in trace.masks for trace in counted)

    def _key_is_the_vaults(self, key_columns: Iterable[exp.Column], scope: _Scope) -> bool:
        for column in key_columns:
            traces = scope.column(column)
            of_vault = {f"{self.reader.key_relation}.{column.name.lower()}"}
            if {trace.origin for trace in traces} != of_vault or not all(trace.whole for trace in traces):
                return False
        return True

    def _masked_children(self, node: exp.Expr, mask: str, scope: _Scope, ctes: dict[str, Columns]) -> Traces:
        children = [child for child in node.iter_expressions() if not isinstance(child, exp.Star)]
        return frozenset(t.masked(mask) for child in children for t in self.expression(child, scope, ctes))

    def _condition(self, node: exp.Expr, scope: _Scope, ctes: dict[str, Columns]) -> Traces:
        """A truth value: columns that are named in it, but not what a subquery of it looks up."""
        if isinstance(node, exp.Query | exp.Subquery):
            return NOTHING
        if isinstance(node, exp.Is):  # whether something is known at all
            return NOTHING
        if isinstance(node, TRUTH_VALUES):
            return _union(self._condition(child, scope, ctes) for child in node.iter_expressions())
        found = self.expression(node, scope, ctes)
        return frozenset(trace.masked("condition") for trace in found if not policy.BREAKERS & set(trace.masks))

    def _case(self, node: exp.Case | exp.If, scope: _Scope, ctes: dict[str, Columns], guarded: bool) -> Traces:
        branches = [node] if isinstance(node, exp.If) else node.args["ifs"]
        otherwise = node.args.get("false" if isinstance(node, exp.If) else "default")
        results = [branch.args["true"] for branch in branches] + ([otherwise] if otherwise else [])
        guards = [guarded or self._bears_out(branch.this, scope, ctes) for branch in branches] + [guarded]
        values = [self.expression(result, scope, ctes, guard) for result, guard in zip(results, guards, strict=False)]
        constants = {result for result in results if isinstance(result, exp.Literal)}
        if not constants or not all(isinstance(result, exp.Literal | exp.Null) for result in results):
            return _union(values)  # the conditions choose among values, as a filter does among rows
        asked = [branch.this for branch in branches] + ([node.this] if isinstance(node, exp.Case) and node.this else [])
        if len(constants) > policy.MOST_CONSTANTS:  # as many as may spell the value out
            return _altered(_union(self._named_in(condition, scope, ctes) for condition in asked))
        return _union(self._condition(condition, scope, ctes) for condition in asked)

    def _named_in(self, condition: exp.Expr, scope: _Scope, ctes: dict[str, Columns]) -> Traces:
        return _union(self.expression(column, scope, ctes) for column in condition.find_all(exp.Column))


def _hands_on(node: exp.Expr) -> bool:
    return isinstance(node, SAME_VALUE) or _name(node) in SAME_VALUE_BY_NAME


def _name(node: exp.Expr) -> str:
    """The name of a function that sqlglot does not know."""
    return node.name.lower() if isinstance(node, exp.Anonymous) else ""


def _altered(traces: Traces) -> Traces:
    return frozenset(replace(trace, whole=False) for trace in traces)


def _positional(left: Columns, right: Columns) -> Columns:
    if len(left) != len(right):
        raise UnreadableError("the two sides of a union have different numbers of columns")
    return {name: _union([left[name], other]) for name, other in zip(left, right.values(), strict=True)}


def _renamed(columns: Columns, node: exp.Expr) -> Columns:
    """The columns under the names that `as alias (a, b, ...)` gives them, where it does."""
    alias = node.args.get("alias")
    names = (
        [name.name.lower() for name in (alias.args.get("columns") or [])] if isinstance(alias, exp.TableAlias) else []
    )
    if len(names) > len(columns):
        raise UnreadableError(f"{alias.sql(DIALECT)} has more names than there are columns")
    return dict(zip([*names, *list(columns)[len(names) :]], columns.values(), strict=True))
