"""The commands that start, show and stop the outside world: the customer database and the Disney API's stand-in."""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import asdict
from pathlib import Path

from sandbox import customer_app, home, postgres


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    up = subparsers.add_parser("up", help="start PostgreSQL, its standby and the Disney API; create the table")
    up.add_argument("--people", type=int, default=20_000, help="how many people an empty table gets")
    up.set_defaults(run=_up)
    down = subparsers.add_parser("down", help="stop them; PostgreSQL's data stays")
    down.set_defaults(run=_down)
    status = subparsers.add_parser("status", help="print as JSON where they are")
    status.set_defaults(run=_status)
    env = subparsers.add_parser("env", help='print the loaders\' settings: eval "$(python -m sandbox env)"')
    env.set_defaults(run=_env)


def prepare(people: int) -> postgres.Database:
    """Start the servers, and give the customer database its table and an empty table its people."""
    database = postgres.create_database(postgres.start(home()), customer_app.DATABASE)
    customer_app.create_table(database.app_dsn)
    if customer_app.count_people(database.app_dsn) == 0:
        customer_app.seed_people(database.app_dsn, people)
    return database


def _up(args: argparse.Namespace) -> int:
    prepare(args.people)
    _start_api()
    return _status(args)


def _down(args: argparse.Namespace) -> None:
    postgres.stop(home())
    if _api_url():
        os.kill(int(_api_file("pid").read_text()), signal.SIGTERM)
        while _api_url():
            time.sleep(0.05)


def _status(args: argparse.Namespace) -> int:
    """Exits with 0 where all servers answer, else with 1."""
    database, api = _database(), _api_url()
    running = database is not None and api is not None
    print(json.dumps({"home": str(home()), "running": running, "disney_api_url": api, **_urls(database)}))
    return 0 if running else 1


def _env(args: argparse.Namespace) -> int:
    database, api = _database(), _api_url()
    if database is None or api is None:
        raise SystemExit("the sandbox is not running: python -m sandbox up")
    for name, value in {
        "CUSTOMER_DSN": database.dsn,
        "CUSTOMER_SNAPSHOT_DSN": database.snapshot_dsn,
        "DISNEY_API_URL": api,
    }.items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def _database() -> postgres.Database | None:
    servers = postgres.running(home())
    return servers and postgres.database(servers, customer_app.DATABASE)


def _urls(database: postgres.Database | None) -> dict[str, str]:
    return asdict(database) if database else {}


# ---------- the Disney API, in a process of its own


def _api_file(name: str) -> Path:
    """Where the process notes its `url` and its `pid`."""
    return home() / f"disney-api.{name}"


def _api_url() -> str | None:
    """The stand-in's URL, if it answers there."""
    try:
        url = _api_file("url").read_text().strip()
        with urllib.request.urlopen(f"{url}/_sandbox/requests", timeout=5):
            return url
    except (OSError, ValueError):
        return None


def _start_api() -> None:
    if _api_url():
        return
    with _api_file("url").open("w") as url, _api_file("log").open("w") as log:
        command = [sys.executable, "-m", "sandbox", "disney-api", "--change-every", "300"]
        process = subprocess.Popen(command, stdout=url, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    _api_file("pid").write_text(str(process.pid))
    while not _api_url():
        if process.poll() is not None:
            raise SystemExit(f"the Disney API did not start: see {_api_file('log')}")
        time.sleep(0.05)
