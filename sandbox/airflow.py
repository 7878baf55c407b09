"""Airflow on a laptop: its parts on loopback, all that they write below one folder, every process ended by `down`.

On AWS this is MWAA's work. Here each part is a process of its own, as in `airflow standalone`, but for that one's log
servers, which listen on all interfaces: the API server reads the logs from the folder that all parts share. The
metadata database is a PostgreSQL of its own, so that a restart of the customer database does not take the schedule
with it.
"""

import base64
import json
import os
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from loaders.settings import from_environment
from sandbox import home, postgres, private, processes

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
# In the order in which they are started. The first answers before the others begin: they and the tasks call it.
PARTS = {
    "airflow-api-server": [BIN / "airflow", "api-server"],
    "airflow-scheduler": [BIN / "airflow", "scheduler", "--skip-serve-logs"],
    "airflow-dag-processor": [BIN / "airflow", "dag-processor"],
    "airflow-triggerer": [BIN / "airflow", "triggerer", "--skip-serve-logs"],
}
PATIENCE = 120  # seconds
POOL = "dbt"  # of one slot: see dags/lakehouse_dbt.py


class AirflowError(RuntimeError):
    """Airflow did not start; the message says where to look."""


def start(settings: Mapping[str, str], port: int) -> str:
    """Deploy the DAGs, start all parts that do not run, and return once DAGs are scheduled: where it is, who logs in.

    `settings` are those of the loaders and dbt; another port is taken where `port` is not free. Does nothing where all
    runs. Raises AirflowError.
    """
    environment = _environment(settings, port)
    _run("db", environment, BIN / "airflow", "db", "migrate")
    _run("pool", environment, BIN / "airflow", "pools", "set", POOL, "1", "one dbt at a time")
    deploy(environment)
    url = environment["AIRFLOW__API__BASE_URL"]
    start_parts(PARTS, url, environment)
    return f"Airflow: {url} (user admin, password in {folder() / 'passwords.json'})"


def start_parts(parts: Mapping[str, Sequence[str | Path]], url: str, environment: Mapping[str, str]) -> None:
    """Start what does not run; the first part, the API server, answers at `url` before the others start.

    Returns once all report to be healthy. Raises AirflowError.
    """
    server, *others = parts
    processes.start(server, parts[server], environment)
    _wait([server], lambda: [name for name in _unhealthy(url) if name == "api-server"])
    for name in others:
        processes.start(name, parts[name], environment)
    _wait(list(parts), lambda: _unhealthy(url))


def _wait(names: Sequence[str], missing: Callable[[], list[str]]) -> None:
    """Wait until nothing is missing while the named processes run."""
    deadline = time.monotonic() + PATIENCE
    while left := missing():
        dead = [name for name in names if not processes.running(name)]
        if dead or time.monotonic() > deadline:
            raise AirflowError(f"Airflow did not start ({', '.join(left)}): see {processes.log((dead or names)[0])}")
        time.sleep(0.3)


def stop() -> None:
    """End all parts with all that they have started; their data stays."""
    processes.stop(*PARTS)
    postgres.stop(folder())


def deploy(environment: Mapping[str, str]) -> None:
    """What a deployment does: make the manifest that the DAGs are rendered from, and a first docs site.

    The site lacks the columns' types until the daily DAG publishes one: no engine is asked, nothing may be built yet.
    """
    dbt = [BIN / "dbt", "--quiet"]
    target = Path(environment["DBT_MANIFEST"]).parent
    _run("manifest", environment, *dbt, "parse", "--target-path", target)
    docs = Path(environment["DOCS_URI"])
    if "://" not in environment["DOCS_URI"] and not (docs / "index.html").exists():
        made = folder() / "docs-target"
        Path(environment["DUCKDB_PATH"]).parent.mkdir(parents=True, exist_ok=True)
        _run("docs", environment, *dbt, "docs", "generate", "--static", "--empty-catalog", "--target-path", made)
        docs.mkdir(parents=True, exist_ok=True)
        (made / "static_index.html").replace(docs / "index.html")


def folder() -> Path:
    """Where Airflow keeps all that it writes."""
    return home() / "airflow"


def _environment(settings: Mapping[str, str], port: int) -> dict[str, str]:
    """What every part runs with: the settings, their paths absolute, and our configuration of Airflow below them."""
    where = folder()
    kept = _kept(port)
    url = f"http://127.0.0.1:{kept['port']}"
    database = postgres.create_database(postgres.start(where, standby=False), "airflow").app_dsn
    database = database.replace("postgresql://", "postgresql+psycopg://")
    known = from_environment(settings)
    ours = {
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(kept["port"]),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__SECRET_KEY": kept["secret_key"],
        "AIRFLOW__API_AUTH__JWT_SECRET": kept["jwt_secret"],
        "AIRFLOW__CORE__FERNET_KEY": kept["fernet_key"],
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(where / "passwords.json"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "sandbox/airflow_plugins"),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",  # two cores run no more tasks at once; each worker is a process
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",  # a deployment is a new start
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": database,
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(private.folder(where / "logs")),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",  # seconds that a task may wait for the next look
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",  # seconds after which a killed task has failed
        # Seconds for which a worker may sleep before it sees that its task has ended and takes the next (default: 5).
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW__COSMOS__ENABLE_CACHE_DBT_YAML_SELECTORS": "False",  # it would read the database for each DAG
        # A copy of a producer's results for its next try, written anew after each node of dbt: a producer has one try.
        "AIRFLOW__COSMOS__ENABLE_WATCHER_RELIABLE_RETRY": "False",
        "AIRFLOW__COSMOS__DBT_DOCS_PROJECTS": json.dumps({"lakehouse": {"dir": known.docs_uri, "name": "Lakehouse"}}),
        "DBT_MANIFEST": str(where / "dbt" / "manifest.json"),
    }
    resolved = {
        "AIRFLOW_HOME": str(where),
        "PATH": os.pathsep.join([str(BIN), settings.get("PATH", os.defpath)]),
        "LAKE_URI": known.lake_uri,
        "VAULT_URI": known.vault_uri,
        "DUCKDB_PATH": known.duckdb_path or f"{where}/warehouse.duckdb",
        "DOCS_URI": known.docs_uri,
    }
    return {**ours, **settings, **resolved}


def _kept(port: int) -> dict:
    """The secrets, made at the first start, and the port, which changes only where another program has taken it."""
    private.folder(folder()).chmod(0o711)  # PostgreSQL passes through it, as another user where we are root
    passwords = folder() / "passwords.json"
    if passwords.exists():
        passwords.chmod(0o600)  # an older version let Airflow make the file
    else:  # Airflow would print the one that it makes
        private.write(passwords, json.dumps({"admin": secrets.token_urlsafe(12)}))
    path = folder() / "airflow.json"
    if path.exists():
        kept = json.loads(path.read_text())
    else:
        kept = {
            "port": port,
            "secret_key": secrets.token_hex(32),
            "jwt_secret": secrets.token_hex(64),
            "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        }
    if not processes.running("airflow-api-server") and not (kept["port"] and postgres.is_free(kept["port"])):
        kept["port"] = postgres.free_port()
    private.write(path, json.dumps(kept))
    return kept


def _unhealthy(url: str) -> list[str]:
    """The parts that do not report to be healthy."""
    try:
        with urllib.request.urlopen(f"{url}/api/v2/monitor/health", timeout=5) as answer:
            health = json.load(answer)
    except (OSError, ValueError):
        return ["api-server"]
    return [name for name in ("scheduler", "dag_processor", "triggerer") if health[name]["status"] != "healthy"]


def _run(name: str, environment: Mapping[str, str], *command: str | Path) -> None:
    """Run a command to its end; what it says is kept for the case that it fails."""
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        path = processes.log(f"airflow-{name}")
        private.folder(path.parent)
        private.write(path, done.stdout + done.stderr)
        raise AirflowError(f"{Path(command[0]).name} {command[1]} failed: see {path}")
