"""A real Airflow over a real customer database, started by the command that a person types, asked by its API."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import psycopg
import requests

from sandbox.airflow import PARTS
from sandbox.postgres import Database
from tests.dags.conftest import ROOT

PATIENCE = 300.0  # seconds that a run may take here beside other tests: more than the DAG's own limit
EVERY = "*/5 * * * *"


@dataclass
class Airflow:
    """Its folder, its settings, and what can be asked of it."""

    folder: Path
    environment: dict[str, str] = field(repr=False)

    def sandbox(self, *arguments: str) -> str:
        """Run one of the sandbox's commands."""
        command = [sys.executable, "-m", "sandbox", *arguments]
        done = subprocess.run(command, env=self.environment, cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @cached_property
    def url(self) -> str:
        return f"http://127.0.0.1:{json.loads(self.file('airflow/airflow.json'))['port']}"

    @cached_property
    def password(self) -> str:
        return json.loads(self.file("airflow/passwords.json"))["admin"]

    @cached_property
    def token(self) -> str:
        login = {"username": "admin", "password": self.password}
        return requests.post(f"{self.url}/auth/token", json=login, timeout=30).json()["access_token"]

    def file(self, name: str) -> str:
        return (self.folder / ".sandbox" / name).read_text()

    def ask(self, method: str, path: str, **document: Any) -> dict[str, Any]:
        answer = requests.request(
            method,
            f"{self.url}/api/v2/dags/{path}",
            json=document or None,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=30,
        )
        assert answer.ok, answer.text
        return answer.json()

    def trigger(self, dag: str = "lakehouse", **conf: Any) -> str:
        return self.ask("POST", f"{dag}/dagRuns", logical_date=None, conf=conf)["dag_run_id"]

    def clear(self, run: str, dag: str = "lakehouse") -> None:
        """Have all of a past run done again."""
        self.ask("POST", f"{dag}/dagRuns/{run}/clear", dry_run=False)

    def run(self, run: str, dag: str = "lakehouse") -> dict[str, Any]:
        return self.ask("GET", f"{dag}/dagRuns/{run}")

    def state(self, run: str, dag: str = "lakehouse") -> str:
        return self.run(run, dag)["state"]

    def tasks(self, run: str, dag: str = "lakehouse") -> dict[str, str | None]:
        found = self.ask("GET", f"{dag}/dagRuns/{run}/taskInstances?limit=200")["task_instances"]
        return {task["task_id"]: task["state"] for task in found}

    def wait_for(self, condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
        deadline = time.monotonic() + patience
        while not (found := condition()):
            assert time.monotonic() < deadline, f"waited in vain until {what}"
            time.sleep(0.5)
        return found

    def end(self, run: str, dag: str = "lakehouse", patience: float = PATIENCE) -> str:
        """The state in which a run ends."""

        def ended() -> str | None:
            return state if (state := self.state(run, dag)) in ("success", "failed") else None

        return self.wait_for(ended, f"{run} has ended", patience)

    def wait_for_task(self, run: str, task: str, state: str = "running") -> None:
        self.wait_for(lambda: self.tasks(run).get(task) == state, f"{task} is {state}")

    def log(self, run: str, task: str, dag: str = "lakehouse") -> str:
        folder = self.folder / f".sandbox/airflow/logs/dag_id={dag}/run_id={run}/task_id={task}"
        return "".join(path.read_text() for path in sorted(folder.glob("*.log")))

    def part(self, name: str) -> psutil.Process:
        """The process that leads a part of Airflow, or another one in the background."""
        pid, _ = json.loads(self.file(f"processes/{name}.json"))
        return psutil.Process(pid)

    def kill(self, name: str) -> None:
        """Kill a part, and return once it is gone."""
        process = self.part(name)

        def gone() -> bool:
            try:
                return process.status() == psutil.STATUS_ZOMBIE  # it has ended, and its parent has yet to collect it
            except psutil.NoSuchProcess:
                return True

        process.kill()
        self.wait_for(gone, f"{name} is gone")

    def task_processes(self) -> list[psutil.Process]:
        """The processes in which tasks run now."""
        scheduler = self.part("airflow-scheduler")
        return [child for worker in scheduler.children() for child in worker.children()]

    def processes(self) -> list[psutil.Process]:
        """All processes of Airflow, those of tasks among them."""
        sessions = {self.part(name).pid for name in PARTS}
        return [process for process in psutil.process_iter() if os.getsid(process.pid) in sessions]

    @cached_property
    def status(self) -> dict[str, str]:
        return json.loads(self.sandbox("status"))

    @cached_property
    def database(self) -> Database:
        return Database(**{field.name: self.status[field.name] for field in fields(Database)})

    @property
    def settings(self) -> dict[str, str]:
        """For commands that do the same work without Airflow."""
        return self.environment | {
            "DBT_PROFILES_DIR": str(ROOT),
            "DBT_MANIFEST": str(self.folder / ".sandbox/airflow/dbt/manifest.json"),
            "CUSTOMER_DSN": self.database.dsn,
            "CUSTOMER_SNAPSHOT_DSN": self.database.snapshot_dsn,
            "DISNEY_API_URL": self.status["disney_api_url"],
        }

    def live_states(self) -> list[tuple[str, int]]:
        """How many people each state has in the customer's own table."""
        with psycopg.connect(self.database.app_dsn) as app:
            return app.execute(
                "SELECT coalesce(uf::text, 'unknown') AS state, count(*) FROM usuarios GROUP BY state ORDER BY state"
            ).fetchall()


def start(
    folder: Path,
    *,
    people: int = 500,
    schedule: str | None = EVERY,
    more: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
) -> Airflow:
    """Start it with a project, DAGs and data of its own; the application writes only when a test makes it.

    `schedule` is that of the five-minute DAG, `more` are further DAG files by name, `settings` are added to its own.
    """
    project, dags = folder / "dbt_project", folder / "dags"
    shutil.copytree(ROOT / "dbt_project", project, ignore=shutil.ignore_patterns("target", "logs"))
    shutil.copytree(ROOT / "dags", dags, ignore=shutil.ignore_patterns("__pycache__"))
    lakehouse = dags / "lakehouse.py"
    lakehouse.write_text(lakehouse.read_text().replace(f'"{EVERY}"', repr(schedule)))
    for name, text in (more or {}).items():
        (dags / name).write_text(text)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "LAKEHOUSE_ENV_FILE": os.devnull,
        "SANDBOX_HOME": str(folder / ".sandbox"),
        "LAKE_URI": str(folder / "lake"),
        "VAULT_URI": str(folder / "vault"),
        "DOCS_URI": str(folder / "docs-site"),
        "DBT_PROJECT_DIR": str(project),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        **(settings or {}),
    }
    airflow = Airflow(folder, environment)
    airflow.sandbox("airflow", "--people", str(people), "--per-day", "1", "--port", "0")
    return airflow
