"""Readable masks, run by DuckDB over short, long and hostile values: what a mask shows must never be all of a value.

The reading (privacy.lineage) says that a value passes a mask; this says that the mask masks. Every macro that
privacy/policy.py allows for a class is run over values of the type that the class has in curated, so a new mask
needs no entry here.
"""

import unicodedata
from datetime import date
from itertools import product

import duckdb
import pyarrow as pa
from sqlglot import exp

from privacy import policy
from privacy.graph import Graph
from privacy.lineage import DIALECT
from privacy.masks import PLACEHOLDER
from privacy.verdict import Verdict

# Letters with and without case, composed, combined and joined; digits of several scripts; signs; what is invisible.
UNITS = (
    "a", "B", "ab", "Ana", "\u00e9", "e\u0301", "\u00df", "\ufb01", "\u01c5", "\u0130", "\u674e", "\ud55c", "\u10d0",
    "\u0645", "\u0e01", "A\u200d", "\u200eA", "\u202eA", "A\ufeff", "\u0301", "a\u20dd", "A.", "-A", "A\t",
    "\U0001f642", "\U0001f469\U0001f3fd\u200d\U0001f680", "7", "21", "\u0667", "\uff17", "7\u20e3", "'", "%", "***",
)  # fmt: skip
SPACES = (" ", "  ", "\u00a0", "\u3000", "\n")
SHAPES = (
    "{a}", "{a}{b}", "{a} {b}", "{a}{space}{b}", "{a}@e.co", "{a}{b}@e.co", "{a}@{b}", "{a}.{b}@e.co",
    "https://{a}", "https://{a}.co", "https://{a}.co/", "https://{a}.co/{b}", "http://e.co/{a}",
    "+{a}", "({a}) {b}-{a}",
)  # fmt: skip
NUMBERS = "52998224725013101001198765"
LONG = 5_000  # characters, more than a mask reads


def texts() -> list[str]:
    """Short, long and hostile texts, each once."""
    found = {
        shape.format(a=a, b=b, space=SPACES[(len(a) + 3 * len(b)) % len(SPACES)])
        for shape in SHAPES
        for a, b in product(UNITS, repeat=2)
    }
    for length in range(1, len(NUMBERS)):
        digits = NUMBERS[:length]
        found |= {
            digits,
            f"+{digits}",
            f"{digits[:3]}.{digits[3:6]}-{digits[6:]}",
            f"{digits[:5]}-{digits[5:]}",
            f"0{digits}",
        }
    found |= {unit * LONG for unit in UNITS} | {f"{unit} " * LONG + unit for unit in ("A", "\u674e")}
    return sorted(found)


DATES = [date(1, 1, 1), date(1900, 2, 28), date(1980, 2, 3), date(2000, 2, 29), date(2026, 3, 1), date(9999, 12, 31)]
VALUES = {"varchar": (texts, pa.string()), "date": (lambda: DATES, pa.date32())}


def faults(graph: Graph, verdict: Verdict) -> list[str]:
    """What is wrong with the masks, a line each; never more of a value than the made-up ones above."""
    types = _types(graph, verdict)
    found = []
    for mask, tree in sorted(graph.patterns.expansions.items()):
        if mask in policy.DIGESTS:
            continue
        for type_ in sorted({types.get(pii, "unknown") for pii, masks in policy.ALLOWED.items() if mask in masks}):
            if type_ not in VALUES:
                found.append(f"{mask}: privacy/disclosure.py has no values of the type {type_} to run it over")
            elif shown := disclosed(tree, type_):
                value, result = shown[0]
                found.append(
                    f"{mask}: it shows all of {len(shown)} of the values tried, such as {value!r} as {result!r}"
                )
    return found


def disclosed(mask: exp.Expr, type_: str) -> list[tuple[str, str]]:
    """The values of that type that a mask shows whole, each with what it makes of it, the shortest first."""
    values, arrow_type = VALUES[type_]
    arguments = sorted({column.name for column in mask.find_all(exp.Column) if column.name.startswith(PLACEHOLDER)})
    table = pa.table({name: pa.array(values(), arrow_type) for name in arguments})
    with duckdb.connect() as connection:
        connection.register("tried", table)
        query = f"select {arguments[0]}::varchar, ({mask.sql(DIALECT)})::varchar from tried"  # noqa: S608 (our own macros)
        results = connection.execute(query).fetchall()
    shown = [(value, result) for value, result in results if _tells(value) and _tells(value) in _tells(result or "")]
    return sorted(shown, key=lambda pair: (len(pair[0]), pair))


def _tells(text: str) -> str:
    """What of a text tells it from others: letters without accents, digits and symbols, whatever their form or case."""
    plain = unicodedata.normalize("NFKD", text)
    return "".join(char for char in plain if unicodedata.category(char)[0] in "LNS").casefold()


def _types(graph: Graph, verdict: Verdict) -> dict[str, str]:
    """The type that each class has in curated, by the contracts there."""
    return {
        trace.pii: relation.described[name]
        for id_, relation in graph.relations.items()
        if relation.layer == "curated"
        for name, traces in verdict.columns.get(id_, {}).items()
        for trace in traces
        if relation.described.get(name) and not trace.masks
    }
