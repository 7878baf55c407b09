"""Alerts of the documents that dbt itself has written, where something warned, failed or is late."""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from loaders.alerts import Alert
from loaders.watch import alerts_of_dbt, alerts_of_freshness
from tests.dbt.lakes import Dbt, land_crawl
from tests.dbt.test_characters import record

MODELS = ["path:models/staging/disney", "characters"]
PERSON = "Zuleika Quintanilha"


def document(documents: Path, name: str, schema: str) -> dict:
    """What dbt has just written; it is gone then, so that no later test reads it again."""
    path = documents / f"{name}.json"
    found = json.loads(path.read_text())
    path.unlink()
    assert found["metadata"]["dbt_schema_version"] == f"https://schemas.getdbt.com/dbt/{schema}.json"
    return found


def freshness(dbt: Dbt, documents: Path) -> dict:
    with suppress(AssertionError):  # a source that is late by more than its error_after is a failure of the command
        dbt("source", "freshness", "--select", "source:disney")
    return document(documents, "sources", "sources/v3")


def test_what_warned(dbt: Dbt, documents: Path, lake: Path) -> None:
    records = [record(1, PERSON, voiceActor=PERSON), f'{{"name": "{PERSON}",', {"name": PERSON}]
    land_crawl(lake, datetime.now(UTC), records)
    dbt("run", "--select", *MODELS)
    dbt("test", "--select", "path:tests/disney")
    alerts = alerts_of_dbt(document(documents, "run_results", "run-results/v6"))
    assert sorted(alerts, key=lambda alert: alert.subject) == [
        Alert("source_drifted", "test.lakehouse.drifted_character_keys", {"status": "warn", "failures": 1}),
        Alert("rows_rejected", "test.lakehouse.rejected_characters", {"status": "warn", "failures": 2}),
    ]
    assert PERSON not in str(alerts)


def test_what_failed_without_its_message(dbt: Dbt, documents: Path, lake: Path) -> None:
    """A file that is none, which dbt's message names."""
    land_crawl(lake, datetime.now(UTC), [record(1)])
    broken = lake / f"raw/disney/characters/load_date=2026-01-01/{PERSON}.parquet"
    broken.parent.mkdir(parents=True)
    broken.write_text("no Parquet")
    with pytest.raises(AssertionError, match=PERSON):
        dbt("run", "--select", *MODELS)
    found = document(documents, "run_results", "run-results/v6")
    assert PERSON in json.dumps(found)
    alerts = alerts_of_dbt(found)
    assert Alert("model_failed", "model.lakehouse.characters", {"status": "error"}) in alerts
    assert PERSON not in str(alerts)


@pytest.mark.parametrize(("age", "status"), [(1, None), (30, "warn"), (90, "error")])
def test_a_source_that_is_late(age: int, status: str | None, lake: Path, dbt: Dbt, documents: Path) -> None:
    landed_at = datetime.now(UTC) - timedelta(minutes=age)
    land_crawl(lake, landed_at, [record(1)])
    alerts = alerts_of_freshness(freshness(dbt, documents))
    if status is None:
        assert alerts == []
    else:
        (alert,) = alerts
        assert (alert.kind, alert.subject) == ("source_stale", "source.lakehouse.disney.characters")
        assert alert.facts["status"] == status
        assert datetime.fromisoformat(alert.facts["max_loaded_at"]) == landed_at.replace(
            microsecond=landed_at.microsecond // 1000 * 1000
        )
        assert age * 60 <= alert.facts["age_seconds"] < (age + 5) * 60


def test_a_source_that_never_landed(lake: Path, dbt: Dbt, documents: Path) -> None:
    (alert,) = alerts_of_freshness(freshness(dbt, documents))
    assert alert.facts == {"status": "error", "max_loaded_at": "none"}


def test_dbt_does_not_tell_of_a_source_that_it_could_not_ask(lake: Path, dbt: Dbt, documents: Path) -> None:
    """So a freshness command that fails is an alert of its own, whatever its document says."""
    broken = lake / f"raw/disney/characters/load_date={datetime.now(UTC):%Y-%m-%d}/broken.parquet"
    broken.parent.mkdir(parents=True)
    broken.write_text("no Parquet")
    with pytest.raises(AssertionError, match="Parquet"):
        dbt("source", "freshness", "--select", "source:disney")
    assert document(documents, "sources", "sources/v3")["results"] == []
