"""What to alert on: pure functions from what a run left behind to alerts, none where all is well."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from loaders import duckdb_file
from loaders.alerts import Alert
from loaders.raw import Landed
from loaders.verify import Verified

TESTS = ("test", "unit_test")  # what else dbt runs (models, seeds, snapshots) makes tables
YEAR_ONE = "0001-01-01"  # what dbt says of a source without any row among those it looked at


def alerts_of_failure(
    dag_id: str, task_id: str, run_id: str, try_number: int, error: BaseException | str | None
) -> list[Alert]:
    """A task failed: which one, and of the exception its class alone, for its text may quote rows.

    A DuckDB file that another process had open is the exception: then the alert names that process. Airflow may give a
    text instead of an exception, or nothing.
    """
    facts = {"dag_id": dag_id, "task_id": task_id, "run_id": run_id, "try_number": try_number}
    if in_use := duckdb_file.IN_USE.search(str(error)):
        facts["error"] = f"DuckDB_file_in_use_by_process_{in_use[1]}"
    elif isinstance(error, BaseException):
        facts["error"] = type(error).__name__
    return [Alert("task_failed", f"{dag_id}.{task_id}", facts)]


def alerts_of_landing(landed: Landed, limit_bytes: int) -> list[Alert]:
    """The slot held more WAL than `limit_bytes` (ALERT_SLOT_LAG_BYTES) when the run came; changes are missing."""
    alerts = []
    if landed.slot_lag_bytes is not None and landed.slot_lag_bytes > limit_bytes:
        facts = {"slot_lag_bytes": landed.slot_lag_bytes, "limit_bytes": limit_bytes}
        alerts.append(Alert("slot_lag", landed.table, facts))
    if landed.gap:
        names = ("epoch", "from_lsn", "to_lsn", "from_time", "to_time")
        facts = {name: landed.gap[name] for name in names if landed.gap[name] is not None}
        alerts.append(Alert("changes_missing", landed.table, facts))
    return alerts


def alerts_of_verification(verified: Verified) -> list[Alert]:
    """The lake differs from the source: in how many rows, and in which columns."""
    if verified.is_equal:
        return []
    counts = {name: getattr(verified, name) for name in ("missing", "extra", "different", "repeated")}
    return [Alert("lake_differs", "curated.users", counts | {"columns": "/".join(verified.columns) or "none"})]


def alerts_of_lateness(dag_id: str, last_success: datetime | None, now: datetime, minutes: float = 10) -> list[Alert]:
    """No run has succeeded for so many minutes, or none ever has; both times know their zone."""
    if last_success is not None and now - last_success <= timedelta(minutes=minutes):
        return []
    facts = {"last_success": last_success.isoformat() if last_success else "never", "limit_minutes": minutes}
    return [Alert("run_late", dag_id, facts)]


def alerts_of_dbt(run_results: Mapping[str, Any]) -> list[Alert]:
    """What failed or warned in dbt's target/run_results.json (format v6: schemas.getdbt.com/dbt/run-results).

    The file is the last command's: read it after `dbt build`, before `dbt docs generate` writes it anew. What was
    skipped is no alert of its own, since what made dbt skip it is.
    """
    alerts = []
    for result in run_results["results"]:
        kind = _kind(result["unique_id"], result["status"])
        if kind:
            facts = {"status": _word(result["status"])}
            if result.get("failures") is not None:
                facts["failures"] = result["failures"]
            alerts.append(Alert(kind, result["unique_id"], facts))
    return alerts


def _kind(unique_id: str, status: str) -> str | None:
    resource_type, _, name = unique_id.split(".")[:3]
    if resource_type not in TESTS:
        return "model_failed" if status in ("error", "partial success") else None
    if status in ("warn", "fail"):
        if name.startswith("rejected_"):
            return "rows_rejected"
        if name.startswith("unreadable_"):
            return "values_unreadable"
        if name.startswith("drifted_"):
            return "source_drifted"
    return {"warn": "test_warned", "fail": "test_failed", "error": "test_failed"}.get(status)


def alerts_of_freshness(sources: Mapping[str, Any]) -> list[Alert]:
    """The sources that are late in dbt's target/sources.json (format v3: schemas.getdbt.com/dbt/sources).

    dbt 1.11 leaves a source out of the file whose question failed; then `dbt source freshness` fails itself.
    """
    alerts = []
    for result in sources["results"]:
        if result["status"] in ("warn", "error", "runtime error"):
            facts = {"status": _word(result["status"])}
            if result.get("max_loaded_at", "").startswith(YEAR_ONE):
                facts["max_loaded_at"] = "none"
            elif "max_loaded_at" in result:
                facts["max_loaded_at"] = result["max_loaded_at"]
                facts["age_seconds"] = round(result["max_loaded_at_time_ago_in_s"])
            alerts.append(Alert("source_stale", result["unique_id"], facts))
    return alerts


def _word(status: str) -> str:
    return status.replace(" ", "_")
