"""What Redshift's documentation refuses of SQL that PostgreSQL takes, and what it answers otherwise.

Each rule has its source: a page of Amazon Redshift's Database Developer Guide, named by its file, or what somebody met
on a real cluster. Words are read from the statement's tokens, because a parser maps the names of types and functions to
those of its dialect; only what depends on structure is read from the tree.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import sqlglot
from sqlglot import exp
from sqlglot.optimizer.scope import traverse_scope
from sqlglot.tokens import Token, TokenType

from sandbox.redshift.rewrite import without_comments


class Mistake(NamedTuple):
    """Something that Redshift refuses; where `differs`, it takes it and gives another result than PostgreSQL."""

    rule: str
    what: str
    source: str
    differs: bool = False

    def __str__(self) -> str:
        return f"{self.rule}: {self.what} ({self.source})"


# c_unsupported-postgresql-functions; the last two lines are functions of other engines, which no page of Redshift has.
_UNSUPPORTED = """
    string_agg array_agg every xmlagg corr covar_pop covar_samp regr_slope generate_series generate_subscripts div
    setseed width_bucket bit_length overlay convert_from convert_to encode format quote_nullable regexp_matches
    regexp_split_to_array regexp_split_to_table clock_timestamp justify_days justify_hours justify_interval pg_sleep
    transaction_timestamp unnest array_to_string string_to_array jsonb_build_object json_agg jsonb_agg to_jsonb
    row_to_json concat_ws make_date make_timestamp gen_random_uuid sha256 digest hmac bool_xor mode
    max_by min_by arg_max range regexp_like json_extract_scalar to_utf8 from_utf8 try try_cast element_at
"""
# c_SQL_functions_leader_node_only
_LEADER_ONLY = """
    current_schema current_schemas has_database_privilege has_schema_privilege has_table_privilege age now localtime
    isfinite get_byte set_bit set_byte to_ascii
"""
# c_unsupported-postgresql-datatypes, and names of other engines' types
_TYPES = """
    bytea json jsonb uuid xml money serial bigserial bit hstore inet cidr string blob struct map list hugeint
"""
# r_pg_keywords, without the words that PostgreSQL reserves too
_RESERVED = """
    aes128 aes256 allowoverwrite analyse az64 backup blanksasnull bytedict bzip2 credentials defrag deflate delta
    delta32k disable emptyasnull enable encrypt encryption explicit freeze globaldict256 globaldict64k gzip identity
    ignore lun luns lzo lzop minus mostly16 mostly32 mostly8 new off offline offset oid old open parallel percent
    permissions pivot raw readratio recover rejectlog resort respect restore snapshot sysdate system tag tdes text255
    text32k top truncatecolumns unpivot verbose wallet without
"""
UNSUPPORTED, LEADER_ONLY, TYPES, RESERVED = (
    frozenset(words.split()) for words in (_UNSUPPORTED, _LEADER_ONLY, _TYPES, _RESERVED)
)
_LONGEST_NAME = 127  # bytes (r_names)

# Clauses, as patterns over a statement's words joined by single blanks.
_CLAUSES = (
    (r"\bfilter \( where\b", "FILTER (WHERE ...) of an aggregate", "r_COUNT: no such clause"),
    (r"\bdistinct on \(", "DISTINCT ON", "c_unsupported-postgresql-features"),
    (r"\blateral\b", "LATERAL", "r_FROM_clause30"),
    (r"\bis (not )?distinct from\b", "IS [NOT] DISTINCT FROM", "c_unsupported-postgresql-features"),
    (r"\bon conflict\b", "ON CONFLICT", "r_INSERT_30"),
    (r"\breturning\b", "RETURNING", "r_INSERT_30"),
    (r"\barray \[", "an array constructor", "c_unsupported-postgresql-features"),
    (r"\btablesample\b", "TABLESAMPLE", "r_FROM_clause30"),
    (r"\bwith ordinality\b", "WITH ORDINALITY", "r_FROM_clause30"),
    (r"\bfor (update|share)\b", "FOR UPDATE", "r_SELECT_synopsis"),
    (
        r"\b(delete from|update) \S+( \. \S+)* as \S",
        "an alias of the table that DELETE or UPDATE changes",
        "dbt-adapters #958",
    ),
)
_VALUES_AS_A_TABLE = r"(\( |\bfrom |\bjoin |, )values \("
_NOT_IN_A_TRANSACTION = (
    r"((create|drop) external (table|schema)|vacuum|(create|drop) database|alter table .* (append|alter column))\b"
)
# What is no query: sqlglot's grammar of it is not Redshift's.
_ADMINISTRATION = (
    r"(create (user|role|schema|external)|alter (user|table)|grant|revoke|drop|comment|analyze|vacuum|copy|unload)\b"
)
_TRANSACTION_CONTROL = r"(begin|commit|rollback|start transaction|set|show)\b"


@lru_cache(maxsize=4096)
def mistakes(sql: str, *, in_transaction: bool = False) -> tuple[Mistake, ...]:
    """What is wrong with one statement, whatever engine wrote it; nothing for a statement without a text."""
    sql = without_comments(sql)
    if not sql or re.match(_TRANSACTION_CONTROL, sql, re.I):
        return ()
    tokens = sqlglot.tokenize(sql, read="redshift")
    found = {mistake for rule in _OF_TOKENS for mistake in rule(tokens)}
    found |= set(_clauses(tokens, in_transaction)) | set(_patterns(sql, tokens))
    if not re.match(_ADMINISTRATION, sql, re.I):
        try:
            tree = sqlglot.parse_one(sql, read="redshift")
        except sqlglot.ParseError as error:
            found.add(Mistake("grammar", str(error).splitlines()[0], "sqlglot's dialect of Redshift"))
        else:
            found |= {mistake for rule in _OF_TREE for mistake in rule(tree)}
    return tuple(sorted(found))


# ---------- tokens


def _words(tokens: list[Token]) -> list[str]:
    """The statement's words in lower case; texts and quoted names say nothing."""
    silent = (TokenType.STRING, TokenType.IDENTIFIER)
    return ["'" if token.token_type in silent else token.text.lower() for token in tokens]


def _clauses(tokens: list[Token], in_transaction: bool) -> Iterator[Mistake]:
    words = _words(tokens)
    text = " ".join(words)
    for pattern, what, source in _CLAUSES:
        if re.search(pattern, text):
            yield Mistake("clause", what, source)
    if words[0] not in ("insert", "merge") and re.search(_VALUES_AS_A_TABLE, text):
        yield Mistake("clause", "VALUES as a table", "c_unsupported-postgresql-features")
    if in_transaction and re.match(_NOT_IN_A_TRANSACTION, text):
        what = f"{' '.join(words[:2])} within a transaction block"
        yield Mistake("transaction", what, "r_CREATE_EXTERNAL_TABLE, r_ALTER_TABLE, r_VACUUM_command")


def _functions(tokens: list[Token]) -> Iterator[Mistake]:
    for token, following in pairwise(tokens):
        is_call = following.text == "(" and following.start == token.end + 1
        if is_call and token.token_type != TokenType.IDENTIFIER and token.text.lower() in UNSUPPORTED:
            yield Mistake("function", token.text.lower(), "c_unsupported-postgresql-functions")


def _types(tokens: list[Token]) -> Iterator[Mistake]:
    for before, token in pairwise(tokens):
        is_type = before.text.lower() in ("as", "::") and token.token_type not in (
            TokenType.STRING,
            TokenType.IDENTIFIER,
        )
        if is_type and token.text.lower() in TYPES:
            yield Mistake("type", token.text.lower(), "c_unsupported-postgresql-datatypes")


def _names(tokens: list[Token]) -> Iterator[Mistake]:
    for before, token in zip([None, *tokens], tokens, strict=False):
        named = before is not None and (before.text.lower() == "as" or before.text == ".")
        if token.token_type == TokenType.VAR and named and token.text.lower() in RESERVED:
            yield Mistake("reserved word", token.text, "r_pg_keywords")
        is_name = token.token_type in (TokenType.VAR, TokenType.IDENTIFIER)
        if is_name and len(token.text.encode()) > _LONGEST_NAME:
            yield Mistake("length of a name", f"{token.text[:40]}...", "r_names")
        is_users = token.text.startswith(("IAM:", "IAMR:"))
        if token.token_type == TokenType.IDENTIFIER and token.text != token.text.lower() and not is_users:
            yield Mistake("case", f'"{token.text}" folds to lower case', "r_names", differs=True)


def _patterns(sql: str, tokens: list[Token]) -> Iterator[Mistake]:
    """The statement's own text: a tokenizer has taken the backslash already."""
    for before, token in pairwise(tokens):
        is_pattern = before.text in ("~", "!~", "~*", "!~*") and token.token_type == TokenType.STRING
        if is_pattern and "\\" in sql[token.start : token.end + 1]:
            what = "a backslash in a pattern is the text's own escape first"
            yield Mistake("regular expression", what, "pattern-matching-conditions-posix", differs=True)


# ---------- the tree


def _tables(tree: exp.Expression) -> list[exp.Table]:
    """Tables that lie on compute nodes: with a schema, or dbt's temporary ones. Not CTEs."""
    return [table for table in tree.find_all(exp.Table) if table.db or "__dbt_tmp" in table.name]


def _leader_node(tree: exp.Expression) -> Iterator[Mistake]:
    tables = _tables(tree)
    calls = [node for node in tree.find_all(exp.Func) if not isinstance(node, _NO_CALLS)]
    names = {_called(node) for node in calls} - {"current_user"}
    # The adapter reads the leader's own catalogue by such functions.
    stored = [table for table in tables if not table.db.startswith(("pg_", "information_schema"))]
    for name in sorted(names & LEADER_ONLY if stored else ()):
        yield Mistake("leader node", f"{name}() in a statement that reads a table", "c_SQL_functions_leader_node_only")
    is_asked = isinstance(tree, exp.Query) and names - LEADER_ONLY and not any(name.startswith("pg_") for name in names)
    if is_asked and not tables and {table.name for table in tree.find_all(exp.Table)} <= _cte_names(tree):
        what = "reads no table: the leader node answers, and compute nodes may answer otherwise"
        yield Mistake("leader node", what, "c_sql-functions-leader-node", differs=True)


_NO_CALLS = (exp.Cast, exp.Connector, exp.Case, exp.Coalesce, exp.Exists)


def _called(node: exp.Func) -> str:
    if isinstance(node, exp.Anonymous):
        return node.name.lower()
    return "now" if isinstance(node, exp.CurrentTimestamp) else node.sql_name().lower()


def _cte_names(tree: exp.Expression) -> set[str]:
    return {cte.alias for cte in tree.find_all(exp.CTE)}


def _lengths(tree: exp.Expression) -> Iterator[Mistake]:
    for kind in tree.find_all(exp.DataType):
        if kind.this not in (exp.DataType.Type.VARCHAR, exp.DataType.Type.TEXT) or kind.expressions:
            continue
        column = kind.find_ancestor(exp.ColumnDef)
        if column and kind.find_ancestor(exp.Create):
            what = f"{column.name} has 256 bytes, and a longer value stops the statement"
            yield Mistake("varchar without a length", what, "r_Character_types", differs=True)
        elif isinstance(kind.parent, exp.Cast) and not isinstance(kind.parent.this, (exp.Null, exp.Literal)):
            what = f"cast({kind.parent.this.sql('redshift')[:40]} as varchar) is cut at 256 bytes"
            yield Mistake("varchar without a length", what, "r_CAST_function", differs=True)


def _interval_columns(tree: exp.Expression) -> Iterator[Mistake]:
    for kind in tree.find_all(exp.DataType):
        if kind.this == exp.DataType.Type.INTERVAL and kind.find_ancestor(exp.ColumnDef):
            yield Mistake("type", "a column of INTERVAL without a qualifier", "r_interval_data_types")
    for interval in tree.find_all(exp.Interval):
        amount = interval.this
        if (
            isinstance(amount, exp.Literal)
            and re.fullmatch(r"\s*-?\d+\s*", amount.this)
            and not interval.args.get("unit")
        ):
            yield Mistake("interval", f"interval '{amount.this}' is in seconds", "r_interval_literals", differs=True)


def _windows(tree: exp.Expression) -> Iterator[Mistake]:
    for window in tree.find_all(exp.Window):
        is_aggregate = isinstance(window.this, exp.AggFunc) and not isinstance(window.this, _RANKING)
        if is_aggregate and window.args.get("order") and not window.args.get("spec"):
            what = f"{window.this.sql('redshift')[:40]} over (order by ...) has no frame"
            yield Mistake("window", what, "c_Window_functions, r_WF_first_value")
        for ordered in window.find_all(exp.Ordered):
            if re.search(r"nulls (first|last)", ordered.sql("redshift"), re.I):
                yield Mistake("window", "NULLS FIRST or NULLS LAST", "c_unsupported-postgresql-features")


_RANKING = (exp.Lag, exp.Lead, exp.FirstValue, exp.LastValue, exp.NthValue)


def _subscripts(tree: exp.Expression) -> Iterator[Mistake]:
    for _ in tree.find_all(exp.Bracket):
        yield Mistake("clause", "a subscript, which SUPER alone has", "c_unsupported-postgresql-features")


def _merges(tree: exp.Expression) -> Iterator[Mistake]:
    for merge in tree.find_all(exp.Merge):
        if len(merge.args["whens"].expressions) > 2:
            yield Mistake("merge", "more than one WHEN MATCHED or WHEN NOT MATCHED", "r_MERGE")


def _unknown_literals(tree: exp.Expression) -> Iterator[Mistake]:
    """Bare texts and nulls of a CTE or subquery have the type `unknown`, which no function takes."""
    for select in tree.find_all(exp.Select):
        holder = select.find_ancestor(exp.CTE, exp.Subquery)
        if not holder or not holder.alias:
            continue
        bare = {
            each.alias
            for each in select.expressions
            if isinstance(each, exp.Alias) and (isinstance(each.this, exp.Null) or _is_text(each.this))
        }
        used = {
            column.name
            for column in tree.find_all(exp.Column)
            if column.find_ancestor(exp.Select) is not select and not isinstance(column.parent, (exp.Select, exp.Alias))
        }
        for name in sorted(bare & used):
            what = f'{name}: "failed to find conversion function from "unknown" to text"'
            yield Mistake("unknown literal", what, "calogica/dbt-expectations #99, tuva-health/tuva-core #1165")


def _is_text(node: exp.Expression) -> bool:
    return isinstance(node, exp.Literal) and node.is_string


def _correlated(tree: exp.Expression) -> Iterator[Mistake]:
    """Some correlated subqueries are refused; only a person can say which, so all of them are told."""
    for scope in traverse_scope(tree) if isinstance(tree, exp.Query) else ():
        # sqlglot takes every column without a table's name for an outer one.
        outer = [column for column in scope.columns if column.table and column.table not in scope.sources]
        if outer and (scope.is_subquery or scope.is_derived_table):
            what = scope.expression.sql("redshift")[:60]
            yield Mistake("correlated subquery", what, "r_correlated_subqueries", differs=True)


_OF_TOKENS: tuple[Callable[[list[Token]], Iterator[Mistake]], ...] = (_functions, _types, _names)
_OF_TREE: tuple[Callable[[exp.Expression], Iterator[Mistake]], ...] = (
    _leader_node, _lengths, _interval_columns, _windows, _subscripts, _merges, _unknown_literals, _correlated,
)  # fmt: skip
