"""The commands that start, show and stop the outside world, and an Airflow beside it."""

import argparse
import json
import os
import secrets
import shlex
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from loaders import settings
from sandbox import airflow, athena, customer_app, home, postgres, processes, redshift

API, WRITER = "disney-api", "customer-app"  # processes in the background


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    up = subparsers.add_parser("up", help="start PostgreSQL, its standby and the Disney API; create the table")
    up.add_argument("--people", type=int, default=20_000, help="how many people an empty table gets")
    up.add_argument("--characters", type=int, default=9_800, help="how many the Disney API has when it starts")
    up.set_defaults(run=_up)
    schedule = subparsers.add_parser("airflow", help="start Airflow, and what its settings do not name of the world")
    schedule.add_argument("--people", type=int, default=20_000, help="how many people an empty table gets")
    schedule.add_argument("--per-day", type=float, default=150_000, help="changes that the application writes a day")
    schedule.add_argument("--port", type=int, default=8080, help="on 127.0.0.1, or any other where it is taken")
    schedule.set_defaults(run=_airflow)
    engine = subparsers.add_parser("athena", help="start Athena's API over Trino, S3 and Glue; print what to export")
    engine.set_defaults(run=_athena)
    down = subparsers.add_parser("down", help="stop all of it; what Athena held is gone, all other data stay")
    down.set_defaults(run=_down)
    status = subparsers.add_parser("status", help="print as JSON where they are")
    status.set_defaults(run=_status)
    env = subparsers.add_parser("env", help='print the settings of what runs: eval "$(python -m sandbox env)"')
    env.set_defaults(run=_env)


def prepare(people: int) -> postgres.Database:
    """Start the servers, and give the customer database its table and an empty table its people."""
    database = postgres.create_database(postgres.start(home()), customer_app.DATABASE)
    customer_app.create_table(database.app_dsn)
    if customer_app.count_people(database.app_dsn) == 0:
        customer_app.seed_people(database.app_dsn, people)
    return database


def new_masking_key(environment: Mapping[str, str]) -> dict[str, str]:
    """A made-up key where neither the settings nor a vault on this machine has one; it lives on in the vault alone."""
    known = settings.from_environment(environment)
    given = known.masking_key or known.masking_key_secret_id
    if given or "://" in known.vault_uri or list(Path(known.vault_uri).glob("masking_key/*.parquet")):
        return {}
    return {"MASKING_KEY": secrets.token_hex(32)}


def _up(args: argparse.Namespace) -> int:
    prepare(args.people)
    _start_api(args.characters)
    return _status(args)


def _airflow(args: argparse.Namespace) -> int:
    """Start Airflow over what the settings name, or else over the sandbox's own database, application and API."""
    environment = dict(os.environ)
    if not environment.get("CUSTOMER_DSN"):
        database = prepare(args.people)
        processes.start(WRITER, [sys.executable, "-m", "sandbox", "write", "--per-day", str(args.per_day)])
        environment |= {"CUSTOMER_DSN": database.dsn, "CUSTOMER_SNAPSHOT_DSN": database.snapshot_dsn}
    if not environment.get("DISNEY_API_URL"):
        environment["DISNEY_API_URL"] = _start_api()
    key = [sys.executable, "-m", "loaders", "key"]
    subprocess.run(key, env=environment | new_masking_key(environment), stdout=subprocess.DEVNULL, check=True)
    print(airflow.start(environment, args.port))
    return 0


def _athena(args: argparse.Namespace) -> int:
    settings = athena.exports(athena.start())
    print("# Athena runs, its lake and vault in memory: `python -m sandbox down` empties them.")
    _print_exports(settings)
    return 0


def _down(args: argparse.Namespace) -> None:
    airflow.stop()
    athena.stop()
    redshift.stop()
    processes.stop(WRITER, API)
    postgres.stop(home())


def _status(args: argparse.Namespace) -> int:
    """Exits with 0 where all servers answer, else with 1."""
    database, api = _database(), _api_url()
    running = database is not None and api is not None
    print(json.dumps({"home": str(home()), "running": running, "disney_api_url": api, **_urls(database)}))
    return 0 if running else 1


def _env(args: argparse.Namespace) -> int:
    """The settings of all that runs: the sources, and the engines beside them."""
    database, api, lake, warehouse = _database(), _api_url(), athena.running(), redshift.running()
    settings: dict[str, str] = {}
    if database and api:
        settings |= {
            "CUSTOMER_DSN": database.dsn,
            "CUSTOMER_SNAPSHOT_DSN": database.snapshot_dsn,
            "DISNEY_API_URL": api,
        }
    if lake:
        settings |= athena.exports(lake)
    if warehouse:
        settings |= warehouse.exports(os.environ | settings)
    if not settings:
        raise SystemExit("the sandbox is not running: python -m sandbox up")
    _print_exports(settings)
    return 0


def _print_exports(settings: Mapping[str, str]) -> None:
    for name, value in settings.items():
        print(f"export {name}={shlex.quote(value)}")


def _database() -> postgres.Database | None:
    servers = postgres.running(home())
    return servers and postgres.database(servers, customer_app.DATABASE)


def _urls(database: postgres.Database | None) -> dict[str, str]:
    return asdict(database) if database else {}


# ---------- the Disney API, in a process of its own


def _api_url() -> str | None:
    """The stand-in's URL, if it answers there."""
    if not processes.running(API):
        return None
    try:
        url = processes.log(API).read_text().partition("\n")[0]
        with urllib.request.urlopen(f"{url}/_sandbox/requests", timeout=5):
            return url
    except (OSError, ValueError):
        return None


def _start_api(count: int = 9_800) -> str:
    command = [sys.executable, "-m", "sandbox", API, "--change-every", "300", "--characters", str(count)]
    if processes.log(API).exists():  # where it was, so that who knows its URL finds it again
        former = urlsplit(processes.log(API).read_text().partition("\n")[0]).port
        command += ["--port", str(former)] if former and postgres.is_free(former) else []
    processes.start(API, command)
    while not (url := _api_url()):
        if not processes.running(API):
            raise SystemExit(f"the Disney API did not start: see {processes.log(API)}")
        time.sleep(0.05)
    return url
