"""Values as Athena prints them: every cell of a result is text."""

import base64
import re
from decimal import Decimal
from typing import Any


def column(name: str, kind: str) -> dict[str, Any]:
    """What a result says of a column; `kind` is Trino's type."""
    numbers = re.fullmatch(r"decimal\((\d+),\s*(\d+)\)", kind)
    return {
        "CatalogName": "hive",
        "SchemaName": "",
        "TableName": "",
        "Name": name,
        "Label": name,
        "Type": type_name(kind),
        "Precision": int(numbers[1]) if numbers else 0,
        "Scale": int(numbers[2]) if numbers else 0,
        "Nullable": "UNKNOWN",
        "CaseSensitive": kind.startswith(("varchar", "char")),
    }


def type_name(kind: str) -> str:
    """A type without its parameters: `timestamp(6) with time zone` is `timestamp with time zone`."""
    name = re.match(r"\w+", kind)[0]
    return f"{name} with time zone" if name in ("timestamp", "time") and kind.endswith("with time zone") else name


def text(value: Any, kind: str) -> str | None:
    """A value of Trino's JSON as Athena prints it; `kind` is Trino's type."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _double(value)
    if kind == "varbinary":
        return base64.b64decode(value).hex(" ")
    if kind.startswith("row("):
        fields = [field.strip().rpartition(" ")[0::2] for field in _arguments(kind)]
        shown = [f"{name.strip(chr(34))}={_inner(v, k)}" for v, (name, k) in zip(value, fields, strict=True)]
        return "{" + ", ".join(shown) + "}"
    if isinstance(value, list):
        [element] = _arguments(kind)
        return "[" + ", ".join(_inner(v, element) for v in value) + "]"
    if isinstance(value, dict):
        key, element = _arguments(kind)
        return "{" + ", ".join(f"{_inner(k, key)}={_inner(v, element)}" for k, v in value.items()) + "}"
    return str(value)


def _inner(value: Any, kind: str) -> str:
    shown = text(value, kind)
    return "null" if shown is None else shown


def _arguments(kind: str) -> list[str]:
    """The types in a type's parentheses."""
    inside, parts, depth, last = kind.partition("(")[2][:-1], [], 0, 0
    for place, sign in enumerate(inside):
        depth += {"(": 1, ")": -1}.get(sign, 0)
        if sign == "," and depth == 0:
            parts.append(inside[last:place])
            last = place + 1
    return [part.strip() for part in [*parts, inside[last:]]]


def _double(value: float) -> str:
    """As Java prints a double: 1.0E10, 1.0E-5, 0.001."""
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return repr(value)
    shortest = Decimal(repr(value))
    digits = "".join(map(str, shortest.as_tuple().digits)).rstrip("0")
    return f"{'-' if value < 0 else ''}{digits[0]}.{digits[1:] or '0'}E{shortest.adjusted()}"
