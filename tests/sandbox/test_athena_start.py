"""What the local Athena remembers, where Trino is told to listen, and what is said when it does not start."""

import sys
from datetime import date
from pathlib import Path

import pytest

from sandbox import athena
from sandbox.athena import artifacts, trino


def test_trino_runs_on_the_environments_java_and_on_loopback(tmp_path: Path) -> None:
    command = trino.configure(tmp_path / "trino", tmp_path / "installed", 8123, "http://127.0.0.1:9123")
    assert Path(command[0]).is_relative_to(sys.prefix)
    assert command[-3:] == ["-cp", str(tmp_path / "installed/lib/*"), "io.trino.server.TrinoServer"]
    server = (tmp_path / "trino/etc/config.properties").read_text().splitlines()
    assert {"node.bind-ip=127.0.0.1", "http-server.http.port=8123", "http-server.log.enabled=false"} <= set(server)
    for catalogue in ("awsdatacatalog", "hive"):
        settings = (tmp_path / f"trino/etc/catalog/{catalogue}.properties").read_text().splitlines()
        assert {"s3.endpoint=http://127.0.0.1:9123", "hive.metastore.glue.endpoint-url=http://127.0.0.1:9123"} <= set(
            settings
        )


def test_what_does_not_start_is_named_and_its_ports_are_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANDBOX_HOME", str(tmp_path))
    monkeypatch.setattr(artifacts, "install", lambda *_: tmp_path)
    monkeypatch.setattr(trino, "configure", lambda *_: ["false"])
    remembered = []
    try:
        for _ in range(2):
            with pytest.raises(athena.AthenaError, match=r"athena-trino did not start: see .*athena-trino\.log"):
                athena.start({})
            remembered.append((tmp_path / "athena/athena.json").read_text())
        assert athena.running() is None
    finally:
        athena.stop()
    assert remembered[0] == remembered[1]
    assert (tmp_path / "athena/athena.json").stat().st_mode & 0o077 == 0  # it holds a masking key


def test_an_index_that_cannot_be_reached_stops_it_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANDBOX_HOME", str(tmp_path / "home"))
    nowhere = {"SANDBOX_CACHE": str(tmp_path / "cache"), "MAVEN_REPOSITORY_URL": "http://127.0.0.1:1/maven2"}
    with pytest.raises(artifacts.ArtifactError, match="could not be reached"):
        athena.start(nowhere)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("today", "expected"), [(date(2026, 3, 1), date(2026, 2, 1)), (date(2026, 1, 31), date(2025, 12, 1))]
)
def test_the_lake_begins_with_last_month(today: date, expected: date) -> None:
    assert athena.first_day(today) == expected
