"""Every night: compact and retain raw, build all with all tests, verify, maintain the tables, publish the docs site.

The build includes what the platform costs, which the five-minute runs leave out.

With the parameter `full_refresh` all models are built anew from raw; the five-minute runs wait meanwhile. With `forget`
tables forget their snapshots too, so that people who were erased are in no file of theirs (docs/privacy.md).
"""

from datetime import timedelta

from airflow.sdk import DAG, Param, chain
from cosmos.operators.local import (
    DbtBuildLocalOperator,
    DbtDocsLocalOperator,
    DbtRunOperationLocalOperator,
    DbtSourceLocalOperator,
)
from lakehouse_dbt import DBT, POOL, profile
from lakehouse_tasks import (
    alert_of_failed_run,
    alert_of_failed_task,
    alerts_of_build,
    alerts_of_daily_freshness,
    maintain_raw,
    publish_docs,
    verdict,
    verify_lake,
)

from loaders import settings

TARGETS = dict(zip(("lake", "warehouse"), settings.targets(), strict=True))

with DAG(
    "lakehouse_daily",
    description="Maintenance: compaction, retention, heavy tests, tables, docs; or a rebuild from raw",
    doc_md=__doc__,
    # UTC: half past one at night in São Paulo. Without a start_date the first run is the next one, not yesterday's.
    schedule="30 4 * * *",
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    default_args={"on_failure_callback": alert_of_failed_task, "trigger_rule": "all_done"},  # no step needs the former
    on_failure_callback=alert_of_failed_run,
    params={
        "full_refresh": Param(False, type="boolean", description="Build all models anew from raw"),
        "forget": Param(False, type="boolean", description="Forget snapshots of tables, after an erasure"),
    },
    tags=["lakehouse"],
) as dag:
    freshness = DbtSourceLocalOperator(
        task_id="source_freshness",
        profile_config=profile(TARGETS["lake"]),
        select=["tag:daily"],  # of the others the five-minute runs ask
        callback=alerts_of_daily_freshness,
        **DBT,
    )
    builds = [
        DbtBuildLocalOperator(
            task_id=f"build_{selector}",
            profile_config=profile(target),
            selector=selector,
            full_refresh="{{ params.full_refresh }}",
            vars={"daily": True},  # with the tests that read whole tables
            callback=alerts_of_build,
            **DBT,
        )
        for selector, target in TARGETS.items()
    ]
    tables = DbtRunOperationLocalOperator(
        task_id="maintain_tables",
        profile_config=profile(TARGETS["lake"]),
        macro_name="maintain_tables",
        dbt_cmd_flags=["--args", "forget: {{ params.forget }}"],  # YAML's own truth; `args` would make a text of it
        **DBT,
    )
    docs = DbtDocsLocalOperator(
        task_id="publish_docs",
        profile_config=profile(TARGETS["lake"]),
        dbt_cmd_flags=["--static"],
        callback=publish_docs,
        **DBT,
    )

    raw = [maintain_raw("compact", pool=POOL), maintain_raw("retain", pool=POOL)]
    # Changes that a stream brings have no bookmark to compare at.
    verification = [verify_lake(pool=POOL)] if settings.lands_users() else []
    steps = [*raw, freshness, *builds, *verification, tables, docs]
    chain(*steps)
    steps >> verdict("lakehouse_daily")
