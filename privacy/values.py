"""Columns that hold personal values without carrying a class: what no name gives away is found by its form."""

import re
from collections.abc import Iterable

import duckdb

# RE2, as DuckDB reads it. An e-mail address or a written CPF may stand within a text; digits alone must be all of it.
FORMS = {
    "an e-mail address": r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}",
    "a CPF": r"(^|[^0-9])[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}($|[^0-9])|^[0-9]{11}$",
    "a phone number": r"^(\+?55[ -]?)?\(?[1-9][0-9]\)?[ -]?9?[0-9]{4}[ -]?[0-9]{4}$",
    "a CEP": r"^[0-9]{5}-[0-9]{3}$",
}
WRITTEN_CPF = re.compile(r"(?<![0-9])(?:[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}|[0-9]{11})(?![0-9])")


def scan(connection: duckdb.DuckDBPyConnection, privacy: dict[str, dict[str, dict[str, str]]]) -> list[str]:
    """The text columns of tables, as `table.column: what`, that show such values though `privacy` (what the macro
    column_privacy returns) does not say that they stand there in the clear. Never a value. Reads all rows."""
    found = []
    columns = connection.execute(
        "select schema_name, table_name, column_name from duckdb_columns()"
        " inner join duckdb_tables() using (schema_name, table_name) where data_type = 'VARCHAR' order by all"
    ).fetchall()
    for schema, table, column in columns:
        known = privacy.get(table, {}).get(column)
        if known and "masked_by" not in known:
            continue
        for kind, form in FORMS.items():
            query = f'select distinct "{column}" from "{schema}"."{table}" where regexp_matches("{column}", ?)'  # noqa: S608
            values = [value for (value,) in connection.execute(query, [form]).fetchall()]
            if _any_valid_cpf(values) if kind == "a CPF" else values:
                found.append(f"{table}.{column}: {kind}")
    return found


def _any_valid_cpf(texts: Iterable[str]) -> bool:
    return any(is_cpf(re.sub("[^0-9]", "", cpf)) for text in texts for cpf in WRITTEN_CPF.findall(text))


def is_cpf(digits: str) -> bool:
    """Whether eleven digits bear a CPF's check digits (modulo 11, as the Receita Federal defines them)."""
    if len(digits) != 11 or len(set(digits)) == 1:
        return False
    numbers = [int(digit) for digit in digits]
    for length in (9, 10):
        weighted = sum(number * weight for number, weight in zip(numbers, range(length + 1, 1, -1), strict=False))
        if numbers[length] != weighted * 10 % 11 % 10:
            return False
    return True
