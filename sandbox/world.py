"""The commands that start, show and stop the customer database."""

import argparse
import json
import shlex
from dataclasses import asdict

from sandbox import customer_app, home, postgres


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    up = subparsers.add_parser("up", help="start PostgreSQL and its standby; create the table and its people")
    up.add_argument("--people", type=int, default=20_000, help="how many people an empty table gets")
    up.set_defaults(run=_up)
    down = subparsers.add_parser("down", help="stop PostgreSQL; its data stays")
    down.set_defaults(run=_down)
    status = subparsers.add_parser("status", help="print as JSON where the customer database is")
    status.set_defaults(run=_status)
    env = subparsers.add_parser("env", help='print the loaders\' settings: eval "$(python -m sandbox env)"')
    env.set_defaults(run=_env)


def _up(args: argparse.Namespace) -> int:
    database = postgres.create_database(postgres.start(home()), customer_app.DATABASE)
    customer_app.create_table(database.app_dsn)
    if customer_app.count_people(database.app_dsn) == 0:
        customer_app.seed_people(database.app_dsn, args.people)
    return _status(args)


def _down(args: argparse.Namespace) -> None:
    postgres.stop(home())


def _status(args: argparse.Namespace) -> int:
    """Exits with 0 where both servers answer, else with 1."""
    database = _database()
    print(json.dumps({"home": str(home()), "running": database is not None, **(asdict(database) if database else {})}))
    return 0 if database else 1


def _env(args: argparse.Namespace) -> int:
    database = _database()
    if database is None:
        raise SystemExit("the sandbox is not running: python -m sandbox up")
    print(f"export CUSTOMER_DSN={shlex.quote(database.dsn)}")
    print(f"export CUSTOMER_SNAPSHOT_DSN={shlex.quote(database.snapshot_dsn)}")
    return 0


def _database() -> postgres.Database | None:
    servers = postgres.running(home())
    return servers and postgres.database(servers, customer_app.DATABASE)
