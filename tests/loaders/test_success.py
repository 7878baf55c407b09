"""The watch from outside: quiet while the schedule succeeds, loud when it has not for too long."""

import json
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from loaders import success
from loaders.errors import TransientError
from loaders.settings import Settings, from_environment


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return from_environment({"LAKE_URI": str(tmp_path / "lake")})


def test_a_success_is_remembered_and_a_later_one_replaces_it(settings: Settings) -> None:
    assert success.last(settings, "lakehouse") is None
    before = datetime.now(UTC)
    success.record(settings, "lakehouse")
    first = success.last(settings, "lakehouse")
    success.record(settings, "lakehouse")
    assert before <= first <= success.last(settings, "lakehouse")
    assert success.last(settings, "lakehouse_daily") is None


def test_a_lake_on_s3_remembers_too(settings: Settings, bucket: str) -> None:
    settings = replace(settings, lake_uri=f"s3://{bucket}/lake")
    success.record(settings, "lakehouse")
    success.record(settings, "lakehouse")
    assert success.check(settings, "lakehouse", 10).last_success


def test_a_schedule_that_never_succeeded_or_not_lately_is_told(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(TransientError, match="has not succeeded for 10 minutes"):
        success.check(settings, "lakehouse", 10)
    success.record(settings, "lakehouse")
    assert success.check(settings, "lakehouse", 10).dag_id == "lakehouse"
    state = tmp_path / "lake/state/success/lakehouse.json"
    state.write_text(json.dumps({"succeeded_at": (datetime.now(UTC) - timedelta(minutes=11)).isoformat()}))
    with caplog.at_level(logging.ERROR), pytest.raises(TransientError):
        success.check(settings, "lakehouse", 10)
    assert "alert: run_late: lakehouse" in caplog.text
