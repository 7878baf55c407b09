"""dbt's `adapter` for sqlfluff's templater, which knows no adapter: dispatches our macros to DuckDB's form."""

from collections.abc import Callable

from jinja2 import pass_context
from jinja2.runtime import Context


@pass_context
def dispatch(context: Context, macro_name: str, _package: str) -> Callable[..., str]:
    return context.resolve(f"duckdb__{macro_name}") or context.resolve(f"default__{macro_name}")
