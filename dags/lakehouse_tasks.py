"""What the DAGs do beside dbt: land, keep raw in order, tell people, publish the docs.

The loaders' modules are imported when a task runs, so that reading a DAG file costs no more than it must.
"""

import json
import shutil
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from airflow.sdk import XComArg, task
from airflow.sdk.exceptions import AirflowFailException


def land(source: str) -> XComArg:
    """Land one batch of `loaders.<source>`, which tries again by itself for a bounded time; then the next run does."""

    @task(task_id=f"land_{source}")
    def run() -> dict[str, Any]:
        from loaders import alerts, metrics, watch

        started = time.monotonic()
        settings, landed = _call(f"loaders.{source}", "land")
        if settings.metrics == "emf":
            print(metrics.emf(landed, time.monotonic() - started, datetime.now(UTC)))
        alerts.notify(settings, *watch.alerts_of_landing(landed, settings.alert_slot_lag_bytes))
        return asdict(landed)

    return run()


def maintain_raw(command: str, *, pool: str) -> XComArg:
    """Compact raw, or remove what its retention lets go."""
    module = {"compact": "loaders.compaction", "retain": "loaders.retention"}[command]

    @task(task_id=f"{command}_raw", retries=1, retry_delay=timedelta(minutes=1), pool=pool)
    def run() -> dict[str, Any]:
        return asdict(_call(module, command)[1])

    return run()


def verify_lake(*, pool: str) -> XComArg:
    """Compare curated.users with the customer table: red, and an alert, where they differ."""

    @task(task_id="verify", retries=1, retry_delay=timedelta(minutes=1), pool=pool)
    def run() -> dict[str, Any]:
        from loaders import alerts, watch

        settings, found = _call("loaders.verify", "verify")
        alerts.notify(settings, *watch.alerts_of_verification(found))
        if not found.is_equal:
            raise AirflowFailException("the lake differs from the source: `python -m loaders verify` says how")
        return asdict(found)

    return run()


@task(trigger_rule="all_success")
def verdict(dag_id: str) -> None:
    """Write down that all of a run succeeded: the leaf that decides what a run's colour is."""
    from loaders import settings, success

    success.record(settings.from_environment(), dag_id)


def alert_of_failed_task(context: dict[str, Any]) -> None:
    from loaders import alerts, settings, watch

    ti = context["ti"]
    found = watch.alerts_of_failure(ti.dag_id, ti.task_id, ti.run_id, ti.try_number, context.get("exception"))
    alerts.notify(settings.from_environment(), *found)


def alert_of_failed_run(context: dict[str, Any]) -> None:
    """Tell of a run that was cut (no task of it says so), and of a DAG that has not succeeded for too long."""
    from loaders import alerts, settings, success, watch

    config, dag_id = settings.from_environment(), context["dag_run"].dag_id
    found = watch.alerts_of_lateness(dag_id, success.last(config, dag_id), datetime.now(UTC))
    if context.get("reason") == "timed_out":
        found = [alerts.Alert("run_cut", dag_id, {"run_id": context["dag_run"].run_id}), *found]
    alerts.notify(config, *found)


def alerts_of_build(project_dir: str, **_: Any) -> None:
    """After `dbt build`: tell of failed nodes and of rows that were set aside."""
    from loaders import alerts, settings, watch

    results = Path(project_dir, "target", "run_results.json")
    if results.exists():  # dbt may have failed before it had any: then the task fails
        alerts.notify(settings.from_environment(), *watch.alerts_of_dbt(json.loads(results.read_text())))


def alerts_of_freshness(context: Any, dag: Any, group: Any, nodes: Any, sources: dict[str, Any] | None) -> list:
    """After `dbt source freshness`: tell of sources that are late. What is built of them is built all the same."""
    from loaders import alerts, settings, watch

    alerts.notify(settings.from_environment(), *watch.alerts_of_freshness(sources or {"results": []}))
    return []


def alerts_of_daily_freshness(project_dir: str, **_: Any) -> None:
    """The same, of what `dbt source freshness` has written in a task of its own."""
    sources = Path(project_dir, "target", "sources.json")
    if sources.exists():  # dbt may have failed before it had any: then the task fails
        alerts_of_freshness(None, None, None, None, json.loads(sources.read_text()))


def publish_docs(project_dir: str, **_: Any) -> None:
    """After `dbt docs generate --static`: put the site, one page, to where it is served from, with columns' classes."""
    from loaders import lake, settings
    from privacy import site

    site.annotate(Path(project_dir, "target"))
    config = settings.from_environment()
    with lake.open_lake(config.docs_uri, kms_key_id=config.lake_kms_key_id).new_file("index.html") as path:
        shutil.copyfile(Path(project_dir, "target", "static_index.html"), path)


def _call(module: str, function: str) -> tuple[Any, Any]:
    """The settings, and what a function of the loaders made of them; no second try where a person must act."""
    from loaders import errors, settings

    try:
        config = settings.from_environment()
        return config, getattr(import_module(module), function)(config)
    except errors.OperatorError as error:
        raise AirflowFailException(str(error)) from None
