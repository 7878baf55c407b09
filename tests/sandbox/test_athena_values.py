"""How the local Athena prints values and names types, and what it tells Glue of a view."""

import base64
import json
from typing import Any

import pytest

from sandbox.athena import catalogue, values


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (None, "bigint", None),
        (7, "bigint", "7"),
        (True, "boolean", "true"),
        ("1.50", "decimal(18,2)", "1.50"),
        ("2026-01-01 00:00:00.123000", "timestamp(6)", "2026-01-01 00:00:00.123000"),
        ("", "varchar", ""),
        (1.5, "double", "1.5"),
        (0.001, "double", "0.001"),
        (0.0001, "double", "1.0E-4"),
        (9999999.0, "double", "9999999.0"),
        (12345678.9, "double", "1.23456789E7"),
        (-1e300, "double", "-1.0E300"),
        ("NaN", "double", "NaN"),
        ("AQID", "varbinary", "01 02 03"),
        (["a", None, "b, c"], "array(varchar)", "[a, null, b, c]"),
        ([[1], []], "array(array(bigint))", "[[1], []]"),
        ({"k": 1.5}, "map(varchar, double)", "{k=1.5}"),
        ([1, ["x"]], 'row(a bigint, "b c" array(varchar))', "{a=1, b c=[x]}"),
    ],
)
def test_a_value_is_printed_as_athena_does(value: Any, kind: str, expected: str | None) -> None:
    assert values.text(value, kind) == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("varchar(10)", "varchar"),
        ("timestamp(6)", "timestamp"),
        ("timestamp(3) with time zone", "timestamp with time zone"),
        ("array(varchar)", "array"),
        ("decimal(18, 2)", "decimal"),
    ],
)
def test_a_type_is_named_without_its_parameters(kind: str, expected: str) -> None:
    assert values.column("a", kind)["Type"] == expected


def test_a_decimal_keeps_its_precision() -> None:
    described = values.column("a", "decimal(18,2)")
    assert (described["Precision"], described["Scale"]) == (18, 2)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("varchar", "string"),
        ("varchar(64)", "string"),
        ("integer", "int"),
        ("real", "float"),
        ("timestamp(6)", "timestamp"),
        ("decimal(18,2)", "decimal(18,2)"),
        ("array(varchar)", "array<string>"),
        ("map(varchar,integer)", "map<string,int>"),
    ],
)
def test_glue_has_hives_name_for_a_type(kind: str, expected: str) -> None:
    assert catalogue.hive_type(kind) == expected


def test_a_views_columns_are_in_its_text() -> None:
    view = json.dumps({"columns": [{"name": "a", "type": "bigint"}, {"name": "b", "type": "array(varchar)"}]})
    text = f"/* Presto View: {base64.b64encode(view.encode()).decode()} */"
    assert catalogue.view_columns(text) == [{"Name": "a", "Type": "bigint"}, {"Name": "b", "Type": "array<string>"}]
