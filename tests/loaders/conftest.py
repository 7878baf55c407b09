"""A lake for the loaders' tests, in a folder and on the local S3 server."""

from pathlib import Path

import pytest

from loaders import raw
from loaders.lake import Lake, open_lake
from loaders.settings import Settings, from_environment


@pytest.fixture(autouse=True)
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that a killed process leaves go with the test's own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def settings_in(place: str) -> Settings:
    return from_environment({"LAKE_URI": f"{place}/lake", "VAULT_URI": f"{place}/vault"})


@pytest.fixture(params=["folder", "s3"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return settings_in(str(tmp_path) if request.param == "folder" else f"s3://{request.getfixturevalue('bucket')}")


@pytest.fixture
def in_folder(tmp_path: Path) -> Settings:
    """For what does not depend on where the lake is."""
    return settings_in(str(tmp_path))


@pytest.fixture
def lake(settings: Settings) -> Lake:
    """A lake that nothing has landed in, which all runs of a test share."""
    lake = open_lake(settings.lake_uri)
    raw.ensure_tables(lake)
    return lake
