"""dbt in Airflow: a Cosmos group per layer of the project, rendered from the manifest that the deployment made.

Cosmos's WATCHER mode runs one `dbt build` for a group, its producer, and shows each node of dbt as a task that watches
what the producer reports. Here those tasks begin after the producer has ended, whatever came of it: then they never
defer (Airflow 3.3.2 fails healthy tasks that do, now and then: apache/airflow #67287), and each is as green or red as
its own node.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

from airflow.sdk import BaseOperator, TaskGroup
from cosmos import DbtTaskGroup, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig
from cosmos.constants import ExecutionMode, InvocationMode, LoadMode, SourceRenderingBehavior
from cosmos.operators._watcher.base import BaseConsumerSensor
from lakehouse_tasks import alert_of_failed_task, alerts_of_build, alerts_of_freshness

PROJECT = Path(os.environ["DBT_PROJECT_DIR"])
PROFILES = Path(os.environ["DBT_PROFILES_DIR"]) / "profiles.yml"
MANIFEST = Path(os.environ["DBT_MANIFEST"])
# One at a time: DuckDB allows one writer, and compaction takes away files that a query may be about to read.
POOL = "dbt"
SOURCES = {True: SourceRenderingBehavior.WITH_TESTS_OR_FRESHNESS, False: SourceRenderingBehavior.NONE}
# What every dbt operator of ours is given.
DBT = {"project_dir": str(PROJECT), "invocation_mode": InvocationMode.DBT_RUNNER, "install_deps": False, "pool": POOL}


class Group(NamedTuple):
    """A layer's tasks, and the one among them that runs dbt."""

    group: TaskGroup
    producer: BaseOperator


def profile(target: str) -> ProfileConfig:
    return ProfileConfig(profile_name="lakehouse", target_name=target, profiles_yml_filepath=PROFILES)


def as_first_try(context: dict[str, Any]) -> None:
    """Let who clears a run have it built again: on a second try Cosmos skips a producer, and a sensor runs dbt itself.

    It means to keep two builds apart, which the pool does here.
    """
    context["ti"].try_number = 1


def build_group(layer: str, target: str, *, freshness: bool = False) -> Group:
    """What is built of a layer (`lake`, `warehouse`) every five minutes, a task for each model, seed and model's tests.

    With `freshness` the producer asks first how fresh the sources are, and each is a task too: red when it is stale.
    """
    group = DbtTaskGroup(
        group_id=layer,
        project_config=ProjectConfig(dbt_project_path=PROJECT, manifest_path=MANIFEST, install_dbt_deps=False),
        profile_config=profile(target),
        render_config=RenderConfig(
            selector=f"{layer}_every_five_minutes",
            load_method=LoadMode.DBT_MANIFEST,
            emit_datasets=False,
            source_rendering_behavior=SOURCES[freshness],
        ),
        execution_config=ExecutionConfig(
            execution_mode=ExecutionMode.WATCHER,
            invocation_mode=InvocationMode.DBT_RUNNER,
            setup_operator_args={
                "pool": POOL,
                "dbt_cmd_flags": ["--exclude-resource-type", "unit_test"],  # they test the code, not the data
                "pre_execute": as_first_try,
                "callback": alerts_of_build,
                "freshness_callback": alerts_of_freshness,
                "on_failure_callback": alert_of_failed_task,
            },
        ),
        # One alert for a build, by its producer, and none by each of the tasks that watch it.
        operator_args={
            "trigger_rule": "all_done",
            "install_deps": False,
            "on_failure_callback": None,
            "pre_execute": as_first_try,
        },
    )
    producer = group.children[f"{layer}.dbt_producer_watcher"]
    for task in group.iter_tasks():
        if isinstance(task, BaseConsumerSensor):
            # As if it had asked before: else each of them would run dbt itself where the producer died without a word.
            task.poke_retry_number = 1
            if not task.upstream_task_ids:
                producer >> task
    return Group(group, producer)


def share_tests(earlier: Group, later: Group) -> None:
    """A test of models of both groups is reported by the later one, so no task of the earlier one may wait for it."""
    reported_later = {test for tests in later.producer.tests_per_model.values() for test in tests}
    earlier.producer.tests_per_model = {
        model: [test for test in tests if test not in reported_later]
        for model, tests in earlier.producer.tests_per_model.items()
    }
