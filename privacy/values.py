"""Columns that hold personal values without being declared: what no name gives away is found by its form."""

import re
from collections.abc import Iterable, Iterator

import duckdb

from privacy.graph import Graph
from privacy.verdict import Finding, Verdict

# RE2, as DuckDB reads it. An e-mail address or a written CPF may stand within a text; bare digits must be all of it.
FORMS = {
    "e-mail": r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}",
    "CPF": r"(^|[^0-9])[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}($|[^0-9])|^[0-9]{11}$",
    "phone": r"^(\+?55[ -]?)?\(?[1-9][0-9]\)?[ -]?9?[0-9]{4}[ -]?[0-9]{4}$",
    "CEP": r"^[0-9]{5}-[0-9]{3}$",
}


def scan(connection: duckdb.DuckDBPyConnection, graph: Graph, verdict: Verdict) -> list[Finding]:
    """Text columns of the built tables that show such values in the clear and carry no class. Views are left out."""
    found = []
    for relation in graph.relations.values():
        columns = verdict.columns.get(relation.id, {})
        text = connection.execute(
            "select column_name from duckdb_columns() inner join duckdb_tables() using (schema_name, table_name)"
            " where schema_name = ? and table_name = ? and data_type = 'VARCHAR'",
            [relation.layer, relation.name],
        ).fetchall()
        for (column,) in text:
            if any(not trace.masks for trace in columns.get(column.lower(), ())):
                continue
            for kind in _kinds(connection, f'"{relation.layer}"."{relation.name}"', column):
                where = f"{relation.name}.{column}"
                found.append(Finding(where, f"shows values of the form of a {kind}, but nothing says it is personal"))
    return found


def _kinds(connection: duckdb.DuckDBPyConnection, table: str, column: str) -> Iterator[str]:
    for kind, form in FORMS.items():
        query = f'select distinct "{column}" from {table} where regexp_matches("{column}", ?)'  # noqa: S608
        rows = connection.execute(query if kind == "CPF" else f"{query} limit 1", [form]).fetchall()
        if rows and (kind != "CPF" or _any_valid_cpf(value for (value,) in rows)):
            yield kind


def _any_valid_cpf(texts: Iterable[str]) -> bool:
    written = re.compile(r"(?<![0-9])(?:[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}|[0-9]{11})(?![0-9])")
    return any(is_cpf(re.sub("[^0-9]", "", text)) for value in texts for text in written.findall(value))


def is_cpf(digits: str) -> bool:
    """Whether eleven digits bear the check digits of a CPF (modulo 11, as the Receita Federal defines them)."""
    if len(digits) != 11 or len(set(digits)) == 1:
        return False
    numbers = [int(digit) for digit in digits]
    for length in (9, 10):
        weights = range(length + 1, 1, -1)
        weighted = sum(number * weight for number, weight in zip(numbers, weights, strict=False))
        if numbers[length] != weighted * 10 % 11 % 10:
            return False
    return True
