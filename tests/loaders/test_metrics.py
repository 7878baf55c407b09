"""The metrics' line follows the embedded metric format's specification and the JSON schema published with it."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from loaders.metrics import emf
from loaders.raw import Landed
from tests.loaders.test_command_line import KEY, loaders

NOW = datetime(2026, 11, 25, 12, 0, 0, 123_456, tzinfo=UTC)
USERS = Landed("customer/usuarios", "20261125T120000.000000Z", 7, 4711, "0-1", slot_lag_bytes=1 << 33)


def metrics(line: str) -> dict[str, tuple[float, str]]:
    """The line's metrics as (value, unit) by name, once it has passed the rules of the format."""
    assert "\n" not in line  # one log event
    assert len(line.encode()) < 256 * 1024
    document = json.loads(line)
    timestamp = document["_aws"]["Timestamp"]
    assert type(timestamp) is int and len(str(timestamp)) == 13  # milliseconds
    (directive,) = document["_aws"]["CloudWatchMetrics"]
    assert directive.keys() == {"Namespace", "Dimensions", "Metrics"}
    assert 1 <= len(directive["Namespace"]) <= 1024
    assert directive["Dimensions"]
    for names in directive["Dimensions"]:
        assert len(names) <= 30
        for name in names:
            assert 1 <= len(name) <= 250
            assert isinstance(document[name], str) and 1 <= len(document[name]) <= 1024
    assert 1 <= len(directive["Metrics"]) <= 100
    for metric in directive["Metrics"]:
        assert metric.keys() == {"Name", "Unit"}
        assert metric["Unit"] in ("Count", "Bytes", "Seconds")
        assert type(document[metric["Name"]]) in (int, float)  # a bool or null is no number
    return {metric["Name"]: (document[metric["Name"]], metric["Unit"]) for metric in directive["Metrics"]}


def test_what_landed_becomes_metrics_by_table() -> None:
    line = emf(USERS, 1.25, NOW)
    assert metrics(line) == {
        "rows": (7, "Count"),
        "bytes": (4711, "Bytes"),
        "seconds": (1.25, "Seconds"),
        "slot_lag_bytes": (1 << 33, "Bytes"),
    }
    document = json.loads(line)
    assert document["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Lakehouse"
    assert document["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["table"]]
    assert document["table"] == "customer/usuarios"


def test_nothing_new_is_zero_rows_and_a_lag_that_nobody_knows_is_no_metric() -> None:
    assert metrics(emf(Landed("disney/characters"), 0.5, NOW)) == {
        "rows": (0, "Count"),
        "bytes": (0, "Bytes"),
        "seconds": (0.5, "Seconds"),
    }


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=-3))])
def test_the_time_is_utc_in_milliseconds(zone: timezone) -> None:
    assert json.loads(emf(USERS, 1, NOW.astimezone(zone)))["_aws"]["Timestamp"] == 1795608000123


def test_the_command_line_says_them_before_its_last_line_only_when_asked(tmp_path: Path) -> None:
    asked = loaders("key", cwd=tmp_path, MASKING_KEY=KEY, METRICS="emf")
    line, last = asked.stdout.splitlines()
    said = json.loads(last)
    assert "_aws" not in said
    assert {name: value for name, (value, _) in metrics(line).items()} == {
        name: said[name] for name in ("rows", "bytes", "seconds")
    }
    assert (said["rows"], said["slot_lag_bytes"]) == (1, None)
    assert len(loaders("key", cwd=tmp_path, METRICS="none").stdout.splitlines()) == 1
