"""What reading the DAG files gives and costs: no scheduler runs here, and nothing but files may be touched."""

import json
import os
import site
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Template

from tests.dags.conftest import ROOT

pytestmark = pytest.mark.xdist_group("dag files")  # one manifest and one bundle for all of them, so one worker

# A DAG file is read in a process of its own: whatever asks the network or a database, or imports dbt, is an error.
READ = """
import importlib.util, json, socket, sys, time

def refuse(*_):
    raise AssertionError("a DAG file asked the network")

import airflow.sdk, cosmos, cosmos.operators.local
socket.socket.connect = socket.create_connection = refuse
folder, name = sys.argv[1:]
sys.path.insert(0, folder)
before, started = set(sys.modules), time.process_time()
module = __import__(name)
seconds = time.process_time() - started
dag = module.dag
print(json.dumps({
    "dag": {name: str(getattr(dag, name)) for name in
            ("dag_id", "schedule", "catchup", "max_active_runs", "dagrun_timeout", "start_date")},
    "params": {name: str(dag.params.get_param(name).value) for name in dag.params},
    "tasks": {task.task_id: {
        "type": type(task).__name__, "upstream": sorted(task.upstream_task_ids), "pool": task.pool,
        "trigger_rule": str(task.trigger_rule.value), "retries": task.retries,
        "alerts": bool(task.on_failure_callback),
        "tests": getattr(task, "tests_per_model", None), "flags": getattr(task, "dbt_cmd_flags", None),
    } for task in dag.tasks},
    "seconds": seconds,
    "loaders": getattr(importlib.util.find_spec("loaders"), "submodule_search_locations", None),
    "imported": sorted(set(sys.modules) - before),
    "dbt": sorted(name for name in sys.modules if name.split(".")[0] in ("dbt", "duckdb")),
}))
"""
PARSE_SECONDS = 2.0  # of CPU, for the file itself; Airflow's and Cosmos's own imports are paid before it


def read(name: str, environment: dict[str, str], folder: Path = ROOT / "dags") -> dict[str, Any]:
    # Without site's .pth files, one of which puts this repository on the path. The loaders are next to the DAGs.
    command = [sys.executable, "-B", "-S", "-c", READ, str(folder), name]
    packages = {"PYTHONPATH": os.pathsep.join([site.getsitepackages()[0], str(folder.parent)])}
    done = subprocess.run(command, env=environment | packages, cwd=environment["HOME"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def five_minutes(dag_environment: dict[str, str]) -> dict[str, Any]:
    return read("lakehouse", dag_environment)


@pytest.fixture(scope="module")
def daily(dag_environment: dict[str, str]) -> dict[str, Any]:
    return read("lakehouse_daily", dag_environment)


@pytest.fixture(scope="module")
def manifest(dag_environment: dict[str, str]) -> dict[str, Any]:
    return json.loads(Path(dag_environment["DBT_MANIFEST"]).read_text())


def test_every_file_of_the_folder_is_a_dag_or_ignored() -> None:
    ignored = (ROOT / "dags/.airflowignore").read_text().split()
    files = {path.name for path in (ROOT / "dags").glob("*.py")}
    assert files - set(ignored) == {"lakehouse.py", "lakehouse_daily.py"}


def test_the_schedule_is_five_minutes_one_run_at_a_time_and_cut_before_the_next(five_minutes: dict[str, Any]) -> None:
    dag = five_minutes["dag"]
    assert (dag["schedule"], dag["catchup"], dag["max_active_runs"]) == ("*/5 * * * *", "False", "1")
    assert dag["dagrun_timeout"] == "0:04:40"


def test_reading_a_dag_file_is_cheap_and_imports_no_dbt(five_minutes: dict[str, Any], daily: dict[str, Any]) -> None:
    for found in (five_minutes, daily):
        assert found["seconds"] < PARSE_SECONDS
        assert found["dbt"] == []
        ours = {name for name in found["imported"] if name.startswith("loaders.")}
        assert ours <= {"loaders.errors", "loaders.paths", "loaders.settings"}


def test_there_is_a_task_for_each_node_and_no_more_than_a_budget(
    five_minutes: dict[str, Any], manifest: dict[str, Any]
) -> None:
    built = [node for node in manifest["nodes"].values() if node["resource_type"] in ("model", "seed")]
    nodes = {node["name"] for node in built if "daily" not in node["tags"]}
    sources = [source for source in manifest["sources"].values() if source["loaded_at_field"]]
    nodes |= {source["identifier"] for source in sources if "daily" not in source["tags"]}
    assert "mart_platform_cost" in {node["name"] for node in built} - nodes
    tasks = set(five_minutes["tasks"])
    shown = {task.split(".")[1].removesuffix("_run") for task in tasks if "." in task and "producer" not in task}
    assert shown == nodes
    assert len(tasks) <= 60


def test_sources_land_side_by_side_and_the_warehouse_follows_the_lake(five_minutes: dict[str, Any]) -> None:
    tasks = five_minutes["tasks"]
    lake, warehouse = "lake.dbt_producer_watcher", "warehouse.dbt_producer_watcher"
    assert tasks["land_disney"]["upstream"] == tasks["land_users"]["upstream"] == []
    assert tasks[lake]["upstream"] == ["land_disney", "land_users"]
    assert tasks[warehouse]["upstream"] == [lake]
    assert tasks["verdict"]["trigger_rule"] == "all_success"
    assert {"land_disney", "land_users"} <= set(tasks["verdict"]["upstream"])
    # Nothing that runs dbt waits for success, or runs beside another dbt, or is tried again beside one.
    for name in (lake, warehouse):
        assert (tasks[name]["trigger_rule"], tasks[name]["pool"], tasks[name]["retries"]) == ("all_done", "dbt", 0)


@pytest.mark.parametrize("feed", ["stream", "dms"])
def test_where_a_stream_brings_changes_of_users_no_task_does(dag_environment: dict[str, str], feed: str) -> None:
    tasks = read("lakehouse", dag_environment | {"CHANGE_FEED_NAME": feed})["tasks"]
    assert "land_users" not in tasks
    assert tasks["lake.dbt_producer_watcher"]["upstream"] == ["land_disney"]


def test_a_watching_task_begins_after_its_producer_and_says_what_its_own_node_was(five_minutes: dict[str, Any]) -> None:
    tasks = five_minutes["tasks"]
    watching = {name: task for name, task in tasks.items() if task["type"].endswith("WatcherOperator")}
    watching = {name: task for name, task in watching.items() if "producer" not in name}
    assert len(watching) > 20

    def ancestors(name: str) -> set[str]:
        found = set(tasks[name]["upstream"])
        return found.union(*(ancestors(parent) for parent in found)) if found else found

    for name, task in watching.items():
        assert f"{name.split('.')[0]}.dbt_producer_watcher" in ancestors(name)
        assert task["trigger_rule"] == "all_done"
        assert not task["alerts"], "one alert for a build, not one for each of its nodes"


def test_no_task_waits_for_a_test_that_its_producer_does_not_run(
    five_minutes: dict[str, Any], manifest: dict[str, Any]
) -> None:
    refined = {uid for uid, node in manifest["nodes"].items() if "refined" in node["fqn"][1:2]}
    watched = five_minutes["tasks"]["lake.dbt_producer_watcher"]["tests"]
    spanning = {
        uid
        for uid, node in manifest["nodes"].items()
        if node["resource_type"] == "test" and refined & set(node["depends_on"]["nodes"])
    }
    assert spanning
    assert not spanning & {test for tests in watched.values() for test in tests}
    names = {uid: node["name"] for uid, node in manifest["nodes"].items()}
    names |= {uid: source["identifier"] for uid, source in manifest["sources"].items()}
    shown = {names[uid] for uid, tests in watched.items() if tests}
    for task in five_minutes["tasks"]:
        if task.startswith("lake.") and task.endswith(".test"):
            assert task.split(".")[1] in shown


def test_the_daily_run_does_all_its_steps_one_after_the_other(daily: dict[str, Any]) -> None:
    order = ["compact_raw", "retain_raw", "source_freshness", "build_lake", "build_warehouse"]
    order += ["verify", "maintain_tables", "publish_docs"]
    for before, after in pairwise(order):
        assert daily["tasks"][after]["upstream"] == [before]
        assert daily["tasks"][after]["trigger_rule"] == "all_done"
    assert {task["pool"] for name, task in daily["tasks"].items() if name != "verdict"} == {"dbt"}
    assert daily["tasks"]["verdict"]["upstream"] == sorted(order)
    assert daily["tasks"]["verdict"]["trigger_rule"] == "all_success"
    assert daily["params"] == {"full_refresh": "False", "forget": "False"}
    assert daily["dag"]["start_date"] == "None", "a first deployment at noon would run last night's"


@pytest.mark.parametrize("forget", [True, False])
def test_tables_forget_their_snapshots_where_the_run_says_so(daily: dict[str, Any], forget: bool) -> None:
    option, text = daily["tasks"]["maintain_tables"]["flags"]
    said = yaml.safe_load(Template(text).render(params={"forget": forget}))
    assert (option, said) == ("--args", {"forget": forget})
