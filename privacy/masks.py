"""Masks recognised by their shape: a masking macro leaves no name in compiled SQL, so its expansion is looked for.

Each macro is compiled by dbt with made-up columns as arguments. What comes out is a pattern: a piece of SQL is that
mask only if it is the same tree, with one and the same expression wherever an argument stands. A comment or an alias
that says `masked` is nothing to it.
"""

from dataclasses import dataclass

from sqlglot import exp

PLACEHOLDER = "argument_"


@dataclass(frozen=True)
class Match:
    """A mask found in a query: the expressions that it was given, and the columns of the key that it joins."""

    mask: str
    arguments: tuple[exp.Expr, ...]
    key_columns: tuple[exp.Column, ...]


class Patterns:
    """The masks' expansions, found by the kind of their outermost node."""

    def __init__(self, expansions: dict[str, exp.Expr]) -> None:
        self.expansions = expansions
        self._by_type: dict[type, list[tuple[str, exp.Expr]]] = {}
        for mask, tree in expansions.items():
            self._by_type.setdefault(type(tree), []).append((mask, tree))

    def find(self, node: exp.Expr) -> Match | None:
        """The mask that this node is, if it is one."""
        for mask, pattern in self._by_type.get(type(node), ()):
            arguments: dict[str, exp.Expr] = {}
            key_columns: list[exp.Column] = []
            if _same(pattern, node, arguments, key_columns):
                return Match(mask, tuple(arguments.values()), tuple(key_columns))
        return None


def _same(pattern: object, node: object, arguments: dict[str, exp.Expr], key_columns: list[exp.Column]) -> bool:
    if isinstance(pattern, exp.Column):
        if pattern.name.startswith(PLACEHOLDER):
            return arguments.setdefault(pattern.name, node) == node
        if isinstance(node, exp.Column) and node.name == pattern.name:
            key_columns.append(node)
            return True
        return False
    if isinstance(pattern, exp.Expr):
        return type(pattern) is type(node) and all(
            _same(pattern.args.get(key), node.args.get(key), arguments, key_columns)
            for key in pattern.args.keys() | node.args.keys()
        )
    if isinstance(pattern, list) or isinstance(node, list):
        pattern, node = pattern or [], node or []
        return len(pattern) == len(node) and all(
            _same(one, other, arguments, key_columns) for one, other in zip(pattern, node, strict=True)
        )
    return (pattern or None) == (node or None)
