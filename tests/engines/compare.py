"""Whether two engines hold the same rows, and where they do not, by what values mean and not by their Python types."""

import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, NamedTuple

SHOWN = 5  # rows that a message describes


class Relation(NamedTuple):
    """A relation's rows, each as often as it is there; values in the order of the columns, which are sorted by name."""

    columns: tuple[str, ...]
    rows: "Counter[tuple[Any, ...]]"


def relation(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Relation:
    """The rows that a cursor gave, whatever the order of its columns. Raises TypeError for an unknown type."""
    order = sorted(range(len(columns)), key=lambda place: columns[place])
    return Relation(
        tuple(columns[place] for place in order),
        Counter(tuple(normalised(row[place]) for place in order) for row in rows),
    )


def normalised(value: Any) -> Any:
    """A value that equals another engine's if both mean the same: 1.50 is 1.5 and 1, true is not 1."""
    match value:
        case None:
            return None
        case bool():
            return "boolean", value
        case int() | Decimal():
            return "number", Decimal(value).normalize() + 0  # no negative zero
        case float():
            return "float", struct.pack("!d", value + 0.0)
        case datetime() if value.tzinfo is not None:
            return "instant", value.timestamp()
        case datetime() | date() | time():
            return type(value).__name__, value.isoformat()
        case str():
            return value
        case bytes() | bytearray() | memoryview():
            return "bytes", bytes(value)
        case list() | tuple():
            return tuple(map(normalised, value))
        case dict():
            return "map", tuple(sorted((key, normalised(item)) for key, item in value.items()))
    raise TypeError(f"no rule compares a {type(value).__name__}")


def differences(expected: Relation, found: Relation) -> list[str]:
    """What tells the second relation from the first: columns, and rows paired with those that they are nearest to."""
    if expected.columns != found.columns:
        only = sorted(set(expected.columns) - set(found.columns)), sorted(set(found.columns) - set(expected.columns))
        return [f"columns: {only[0]} are missing, {only[1]} are too many"]
    missing, surplus = list((expected.rows - found.rows).elements()), list((found.rows - expected.rows).elements())
    if not missing and not surplus:
        return []
    told = [f"{len(missing)} rows are missing and {len(surplus)} too many, of {expected.rows.total()} expected"]
    for row in missing[:SHOWN]:
        if not surplus:
            told.append(f"missing: {dict(zip(expected.columns, row, strict=True))}")
            continue
        nearest = max(surplus, key=lambda other: sum(a == b for a, b in zip(row, other, strict=True)))
        surplus.remove(nearest)
        told.append(
            "; ".join(
                f"{column}: {one!r}, not {other!r}"
                for column, one, other in zip(expected.columns, nearest, row, strict=True)
                if one != other
            )
        )
    told += [f"too many: {dict(zip(expected.columns, row, strict=True))}" for row in surplus[:SHOWN]]
    return told
