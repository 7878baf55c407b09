"""Every five minutes: land both sources, build the lake, then the warehouse; every dbt model and test is a task.

    land_disney, land_users >> lake >> warehouse >> verdict

One source that is down does not stop the other: its landing task is red, what the other landed is built, and `verdict`
turns the run red. A run that cannot end in time is cut before the next one. Whatever was cut or failed, the next run
heals: loaders and models go on where they last succeeded.
"""

from datetime import timedelta

from airflow.sdk import DAG
from lakehouse_dbt import build_group, share_tests
from lakehouse_tasks import alert_of_failed_run, alert_of_failed_task, land, verdict

from loaders import settings

# Where a stream brings the changes of users, the loader must not bring them too.
SOURCES = ("disney", "users") if settings.lands_users() else ("disney",)
LAKE_TARGET, WAREHOUSE_TARGET = settings.targets()

with DAG(
    "lakehouse",
    description="Disney and Usuários, from their sources to masked marts",
    doc_md=__doc__,
    schedule="*/5 * * * *",
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=4, seconds=40),
    default_args={"on_failure_callback": alert_of_failed_task},
    on_failure_callback=alert_of_failed_run,
    tags=["lakehouse"],
) as dag:
    landings = [land(source) for source in SOURCES]
    lake = build_group("lake", LAKE_TARGET, freshness=True)
    warehouse = build_group("warehouse", WAREHOUSE_TARGET)
    share_tests(lake, warehouse)

    landings >> lake.producer >> warehouse.producer
    [*landings, lake.group, warehouse.group] >> verdict("lakehouse")
