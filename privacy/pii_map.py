"""The map of personal data: from each column where a class is declared to the last table that it reaches.

`python -m privacy write` puts it where dbt finds it: a macro, which tags and the docs site take a column's class from,
and a page of the docs site. Both are generated, and a test fails when they are not what the lineage says.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from privacy import policy
from privacy.graph import Graph, Relation
from privacy.lineage import Trace, Traces
from privacy.verdict import Verdict

MACRO = "macros/privacy/column_privacy.sql"
PAGE = "models/docs/pii_map.md"

MACRO_TEXT = """\
{{#- Which columns hold personal data, of which class, and what masks them, by relation.
    Generated from the lineage by `python -m privacy write`; never edited.
    Result: dict, relation -> column -> class and, where the value is masked, masked_by. #}}
{{% macro column_privacy() %}}
    {{{{- return({columns}) }}}}
{{% endmacro %}}
"""
PAGE_TEXT = """\
{{% docs __lakehouse__ %}}

# Personal data

Every column whose class is declared, where its values go from there in the clear, and what becomes of them in refined.
Generated from the lineage of the compiled SQL by `python -m privacy write`; never edited. Each column's own page says
the same of that column.

{declared}

Raw and staging are read by {transformer}, curated by {engineers}, refined by {analysts}.

## How refined is masked

{masked}

A mask is one of the masking macros. `condition`: one of a few constants that a condition chooses, or a truth value;
`count`: how many there are; `mean of a group`: of {least} or more.

{{% enddocs %}}
"""


@dataclass(frozen=True)
class Row:
    """One column in which personal data is declared, and the columns that descend from it."""

    origin: str
    pii: str
    in_clear: tuple[str, ...]
    masked: tuple[str, ...]


def column_privacy(graph: Graph, verdict: Verdict) -> dict[str, dict[str, dict[str, str]]]:
    """relation -> column -> `class` and, where the value is masked, `masked_by`."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for relation, columns in _relations(graph, verdict):
        for name, traces in columns.items():
            clear = [trace for trace in traces if not trace.masks]
            if clear:
                found.setdefault(relation.name, {})[name] = {"class": _listed({trace.pii for trace in clear})}
            elif traces and relation.layer not in policy.READERS:
                classes = _listed({trace.pii for trace in traces})
                found.setdefault(relation.name, {})[name] = {"class": classes, "masked_by": _masked_by(traces)}
    return found


def rows(graph: Graph, verdict: Verdict) -> list[Row]:
    """The map, in the order of the graph's layers."""
    clear: dict[str, list[str]] = {}
    masked: dict[str, list[str]] = {}
    for relation, columns in _relations(graph, verdict):
        for name, traces in columns.items():
            where = f"{relation.name}.{name}"
            for origin in sorted({trace.origin for trace in traces if not trace.masks and trace.origin != where}):
                clear.setdefault(origin, []).append(where)
            if relation.layer not in policy.READERS:
                for origin in sorted({trace.origin for trace in traces if trace.masks}):
                    by = _masked_by(trace for trace in traces if trace.origin == origin)
                    masked.setdefault(origin, []).append(f"{where} ({by})")
    relations = _relations(graph, verdict)  # not the order of the manifest, which is that in which files were read
    order = {f"{relation.name}.{name}": None for relation, columns in relations for name in columns}
    return [
        Row(origin, pii, tuple(dict.fromkeys(clear.get(origin, ()))), tuple(dict.fromkeys(masked.get(origin, ()))))
        for origin in order
        if (pii := verdict.declared.get(origin, policy.NONE)) != policy.NONE
    ]


def macro(graph: Graph, verdict: Verdict) -> str:
    relations = []
    for relation, columns in column_privacy(graph, verdict).items():
        lines = ",\n".join(f"{' ' * 12}{json.dumps(name)}: {json.dumps(column)}" for name, column in columns.items())
        relations.append(f"{' ' * 8}{json.dumps(relation)}: {{\n{lines}\n{' ' * 8}}}")
    return MACRO_TEXT.format(columns="{\n" + ",\n".join(relations) + "\n    }")


def page(graph: Graph, verdict: Verdict) -> str:
    declared = _table(
        ("declared", "class", "in the clear in", "masked in refined"),
        [(f"`{row.origin}`", row.pii, _codes(row.in_clear), _codes(row.masked)) for row in rows(graph, verdict)],
    )
    refined = {relation.name for relation, _ in _relations(graph, verdict) if relation.layer not in policy.READERS}
    masked = _table(
        ("column", "class", "masked by"),
        [
            (f"`{relation}.{name}`", column["class"], column.get("masked_by", "nothing"))
            for relation, columns in column_privacy(graph, verdict).items()
            for name, column in columns.items()
            if relation in refined
        ],
    )
    return PAGE_TEXT.format(
        declared=declared,
        masked=masked,
        least=policy.LEAST_GROUP,
        transformer=policy.readers("staging"),
        engineers=policy.readers("curated"),
        analysts=policy.readers("refined"),
    )


def files(graph: Graph, verdict: Verdict) -> dict[str, str]:
    """The generated files, by their paths in the dbt project."""
    return {MACRO: macro(graph, verdict), PAGE: page(graph, verdict)}


def stale(project: Path, graph: Graph, verdict: Verdict) -> list[str]:
    """Which of the generated files are not there or say something else."""
    wanted = files(graph, verdict)
    return [name for name in wanted if not (project / name).exists() or (project / name).read_text() != wanted[name]]


def _relations(graph: Graph, verdict: Verdict) -> Iterator[tuple[Relation, dict[str, Traces]]]:
    order = list(policy.READERS)
    relations = sorted(
        (graph.relations[id_] for id_ in verdict.columns),
        key=lambda relation: (
            order.index(relation.layer) if relation.layer in order else len(order),
            relation.name,
        ),
    )
    for relation in relations:
        yield relation, verdict.columns[relation.id]


def _masked_by(traces: Iterable[Trace]) -> str:
    """All masks and breakers on the way; of a mean that a count bears out, not that it is one of any group too."""
    masks = {mask for trace in traces for mask in trace.masks}
    return _listed(masks - {"mean of any group"} if "mean of a group" in masks else masks)


def _table(head: tuple[str, ...], body: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _codes(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "nowhere"


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))
