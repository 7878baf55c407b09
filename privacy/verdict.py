"""The verdict: what each column of the graph holds, and all that breaks the policy."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlglot import exp

from privacy import policy
from privacy.graph import Graph, Relation
from privacy.lineage import NOTHING, Columns, Reader, Step, Trace, Traces, UnreadableError, merged

KEY_SOURCE = "vault.masking_key"


@dataclass(frozen=True)
class Finding:
    """What is wrong with a column (or relation), why, and the way that a value took to it."""

    where: str
    reason: str
    path: tuple[Step, ...] = ()

    def __str__(self) -> str:
        way = "".join(f"\n      {step}" for step in self.path)
        return f"{self.where}: {self.reason}{way}"


@dataclass
class Verdict:
    columns: dict[str, Columns]  # relation's id -> what its columns hold; no entry where that cannot be told
    findings: list[Finding]
    declared: dict[str, str] = field(default_factory=dict)  # origin (relation.column) -> class


def judge(graph: Graph, known: Verdict | None = None) -> Verdict:
    """Judge all of the graph. What `known` says of relations that did not change is not read again."""
    return _Judge(graph, known).verdict()


class _Judge:
    def __init__(self, graph: Graph, known: Verdict | None) -> None:
        self.graph = graph
        self.columns = dict(known.columns) if known else {}
        self.declared = dict(known.declared) if known else {}
        self.findings: list[Finding] = []
        self.reading: list[str] = []
        self.reader = Reader(self._relation, graph.patterns, KEY_SOURCE)

    def verdict(self) -> Verdict:
        for relation in self.graph.relations.values():
            self._read(relation)
        for id_, columns in self.columns.items():
            self._check(self.graph.relations[id_], columns)
        for node in self.graph.manifest["nodes"].values():
            if node["resource_type"] == "test" and node["config"].get("store_failures"):
                self.findings.append(Finding(node["name"], "it stores the rows that fail, in the clear"))
        return Verdict(self.columns, sorted(set(self.findings), key=lambda f: (f.where, f.reason)), self.declared)

    def _relation(self, table: exp.Table | exp.Subquery) -> tuple[str, Columns] | None:
        id_ = self.graph.find(table)
        if id_ is None:
            return None
        if id_ not in self.reading:
            self._read(self.graph.relations[id_])
        elif id_ != self.reading[-1]:
            raise UnreadableError(f"it reads {id_}, which is built from it")
        if id_ not in self.columns:
            raise UnreadableError(f"it reads {self.graph.relations[id_].name}, which cannot be read itself")
        return id_, self.columns[id_]

    def _read(self, relation: Relation) -> None:
        """Find out what the relation's columns hold, once."""
        if relation.id in self.columns or any(finding.where == relation.name for finding in self.findings):
            return
        self.findings += [Finding(relation.name, fault) for fault in relation.faults]
        self.reading.append(relation.id)
        try:
            if relation.queries:
                self._read_queries(relation)
            elif not relation.faults:
                held = dict.fromkeys(relation.described, NOTHING)
                self.columns[relation.id] = self._declare(relation, held)
        except UnreadableError as error:
            self.columns.pop(relation.id, None)
            self.findings.append(Finding(relation.name, f"its SQL cannot be read: {error}"))
        finally:
            self.reading.pop()

    def _read_queries(self, relation: Relation) -> None:
        first, *others = relation.queries
        held = self.reader.columns(first, relation.name)
        self.columns[relation.id] = self._declare(relation, held)
        while others:  # what it goes on from is itself, so again until nothing is new
            held = merged(held, *(self.reader.columns(query, relation.name) for query in others))
            again = self._declare(relation, held)
            if again == self.columns[relation.id]:
                break
            self.columns[relation.id] = again
        if _is_refined(relation):
            for query in relation.queries:
                for id_ in self.reader.stars_over(query, lambda id_: not _is_refined(self.graph.relations[id_])):
                    reason = f"select * brings in {self.graph.relations[id_].name} across the line: name the columns"
                    self.findings.append(Finding(relation.name, reason))

    def _declare(self, relation: Relation, held: Columns) -> Columns:
        """The columns with what their declarations make of them."""
        declared = dict(held)
        for name, pii in relation.classes.items():
            where = f"{relation.name}.{name}"
            inherited = held.get(name, NOTHING)
            others = {trace.pii for trace in inherited} - {policy.DOCUMENT}
            if name not in held:
                self._find(where, f"is declared {pii}, but there is no such column")
            elif pii != policy.NONE and pii not in policy.ALLOWED:
                self._find(where, f"is declared {pii}, which is no class of privacy/policy.py")
            elif _is_refined(relation):
                self._find(where, "is declared in refined: declare it where it first appears, before the line")
            elif others - {policy.SECRET} and not all(trace.origin == where for trace in inherited):
                self._find(where, f"inherits {_listed(others)} already: remove its declaration", inherited)
            elif pii == policy.NONE:
                declared[name] = NOTHING
                self.declared[where] = pii
            else:
                way = min((trace.steps for trace in inherited), key=len, default=(Step(where, ""),))
                declared[name] = frozenset({Trace(where, pii, steps=way)})
                self.declared[where] = pii
        return declared

    def _find(self, where: str, reason: str, traces: Traces = NOTHING) -> None:
        self.findings.append(Finding(where, reason, min((trace.steps for trace in traces), key=len, default=())))

    def _check(self, relation: Relation, columns: Columns) -> None:
        for name, traces in columns.items():
            where = f"{relation.name}.{name}"
            if not traces and where not in self.declared and policy.LOOKS_PERSONAL.search(name):
                self._find(where, "looks personal by its name, but is not declared and descends from nothing that is")
            for trace in sorted(traces, key=lambda trace: (trace.pii, trace.origin, len(trace.steps))):
                for reason in _faults(relation, trace, name):
                    self.findings.append(Finding(where, reason, trace.steps))


def _faults(relation: Relation, trace: Trace, name: str) -> Iterator[str]:
    if trace.pii == policy.SECRET and relation.queries and not fits(trace):
        yield "holds the masking key, which belongs into no table"
    elif _is_refined(relation):
        if not trace.masks:
            yield f"holds {trace.pii} of {trace.origin} in the clear: no mask on its way"
        elif not fits(trace):
            allowed = _listed(policy.ALLOWED[trace.pii]) or "nothing: leave it out"
            yield f"{_listed(trace.masks)} does not mask {trace.pii} of {trace.origin}; allowed is {allowed}"
    elif trace.pii == policy.DOCUMENT and not trace.masks and not trace.whole:
        yield f"is taken out of {trace.origin}: declare its class, or none, in config.meta.pii"


def fits(trace: Trace) -> bool:
    """Whether one of the masks on the way is allowed for the trace's class."""
    return bool(set(trace.masks) & (policy.ALLOWED[trace.pii] | policy.BREAKERS))


def _is_refined(relation: Relation) -> bool:
    return relation.layer not in policy.READERS


def _listed(names: object) -> str:
    return ", ".join(sorted(names))
