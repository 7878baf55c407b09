"""A run of the DAG beside the plain commands, and beside a DAG that runs the same commands in BashOperators."""

import logging
import sys
import time
from functools import reduce
from operator import add
from pathlib import Path

import psutil

from benchmarks.measure import Cost, measure, typical
from benchmarks.report import Section, Target
from benchmarks.world import DBT, LOADERS, ROOT
from sandbox import customer_app
from tests.dags import running
from tests.dags.running import Airflow

log = logging.getLogger(__name__)

NEW_CHANGES = 520  # of 150,000 a day, those of five minutes
PEOPLE, QUICK_PEOPLE = 20_000, 200
ROUNDS = 3
IDLE_SECONDS = 20.0
WALL_SECONDS, CPU_RATIO = 60, 4
ALONE, PLAIN = "dbt build alone, as typed", "the DAG's commands, plain"
BASH, OURS = "the same in BashOperators", "our DAG"
# As in the DAG: unit tests test the code and not the data, what is built daily is left out, and how fresh the sources
# are is asked too.
BUILD = [*DBT, "build", "--exclude-resource-type", "unit_test", "--exclude", "tag:daily"]
FRESHNESS = [*DBT, "source", "freshness", "--exclude", "tag:daily"]
# The cheapest DAG that does the same, with none of dbt's nodes to be seen.
BASH_DAG = f"""
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG("bash", schedule=None):
    landings = [
        BashOperator(task_id=name, bash_command="{sys.executable} -m loaders " + name, append_env=True)
        for name in ("disney", "users")
    ]
    landings >> BashOperator(
        task_id="build",
        bash_command="export DBT_TARGET_PATH=$HOME/target; {" ".join(FRESHNESS)}; {" ".join(BUILD)}",
        append_env=True,
    )
"""


def run(work: Path, *, quick: bool) -> Section:
    folder = work / "airflow"
    folder.mkdir()
    people = QUICK_PEOPLE if quick else PEOPLE
    airflow = running.start(folder, people=people, schedule=None, more={"bash.py": BASH_DAG})
    try:
        first = dag_run(airflow, "lakehouse")  # it lands and builds all, and fills dbt's cache
        costs = {ALONE: [], PLAIN: [], BASH: [], OURS: []}
        for _ in range(1 if quick else ROUNDS):  # in turns: what else the machine does hits all alike
            costs[ALONE].append(plain(airflow, [*DBT, "build"]))
            costs[PLAIN].append(plain(airflow, FRESHNESS, BUILD))
            costs[BASH].append(dag_run(airflow, "bash"))
            costs[OURS].append(first if quick else dag_run(airflow, "lakehouse"))
        reading = read(airflow)
        seconds = 1.0 if quick else IDLE_SECONDS
        time.sleep(seconds)
        before = cpu_seconds(airflow)
        time.sleep(seconds)
        idle_cpu = (cpu_seconds(airflow) - before) / seconds
        idle_memory = sum(process.memory_full_info().pss for process in airflow.processes()) / 1e6
    finally:
        airflow.sandbox("down")
    return report({name: typical(found) for name, found in costs.items()}, reading, idle_cpu, idle_memory)


def plain(airflow: Airflow, *commands: list[str]) -> Cost:
    """Land, then run these commands one after the other; of a single command only its own cost counts."""
    write(airflow)
    environment = airflow.settings | {"DBT_TARGET_PATH": str(airflow.folder / "target")}
    landings = [measure([*LOADERS, source], environment, airflow.folder).cost for source in ("disney", "users")]
    costs = [measure(command, environment, airflow.folder).cost for command in commands]
    return reduce(add, costs if len(commands) == 1 else [*landings, *costs])


def dag_run(airflow: Airflow, dag: str) -> Cost:
    """A run of a DAG. Seconds are its own, CPU seconds those of all of Airflow meanwhile."""
    write(airflow)
    before = cpu_seconds(airflow)
    name = airflow.trigger(dag)
    state = airflow.end(name, dag)
    if state != "success":
        raise RuntimeError(f"the run of {dag} ended as {state}: {airflow.tasks(name, dag)}")
    cost = Cost(airflow.run(name, dag)["duration"], cpu_seconds(airflow) - before, 0.0)
    log.info("airflow: a run of %s took %.1f s", dag, cost.wall)
    return cost


def write(airflow: Airflow) -> None:
    customer_app.write_changes(airflow.database.app_dsn, changes=NEW_CHANGES, seed=int(time.time()))


def read(airflow: Airflow) -> tuple[float, float]:
    """CPU seconds of reading the DAG file in a new process, and of the imports that are a part of it."""
    dags = airflow.folder / "dags"
    cosmos = {"AIRFLOW__COSMOS__ENABLE_CACHE_DBT_YAML_SELECTORS": "False"}
    environment = airflow.settings | cosmos | {"PYTHONPATH": f"{dags}:{ROOT}"}
    imports = "import airflow.sdk, cosmos, cosmos.operators.local"
    whole, imported = (
        measure([sys.executable, "-c", code], environment, airflow.folder).cost.cpu
        for code in (f"{imports}, lakehouse", imports)
    )
    return whole, imported


def cpu_seconds(airflow: Airflow) -> float:
    """What all living processes of Airflow have used, with those that they have waited for."""
    total = 0.0
    for process in airflow.processes():
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:  # its parent counts it from now on
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def report(costs: dict[str, Cost], reading: tuple[float, float], idle_cpu: float, idle_memory: float) -> Section:
    alone, commands, ours = costs[ALONE], costs[PLAIN], costs[OURS]
    ratio = ours.cpu / alone.cpu
    whole, imported = reading
    return Section(
        f"A run of the DAG with {NEW_CHANGES} new changes",
        ("what", "s", "of the plain commands", "CPU s", "of the plain commands"),
        [
            (
                name,
                f"{cost.wall:.1f}",
                f"{cost.wall / commands.wall:.1f}x",
                f"{cost.cpu:.1f}",
                f"{cost.cpu / commands.cpu:.1f}x",
            )
            for name, cost in costs.items()
        ],
        [
            Target(f"a whole run within {WALL_SECONDS} s", f"{ours.wall:.0f} s", ours.wall <= WALL_SECONDS),
            Target(f"at most {CPU_RATIO}x the CPU seconds of `dbt build` alone", f"{ratio:.1f}x", ratio <= CPU_RATIO),
        ],
        [
            f"Reading `dags/lakehouse.py` costs {whole:.1f} CPU s in a new process, {imported:.1f} of them to import "
            "Airflow and Cosmos.",
            f"Idle, all of Airflow takes {idle_memory:,.0f} MB and {idle_cpu * 100:.0f} % of a core.",
        ],
    )
