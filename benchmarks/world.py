"""What the measured programs run in: the sandbox's servers, a lake of their own, none of the caller's settings."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox import customer_app, postgres

ROOT = Path(__file__).parent.parent
MASKING_KEY = "5a" * 32
LOADERS = [sys.executable, "-m", "loaders"]
ALTERNATIVES = [sys.executable, "-m", "benchmarks.alternatives"]
DBT = [str(Path(sys.executable).with_name("dbt"))]


@contextmanager
def customer_database(work: Path) -> Iterator[postgres.Database]:
    """A primary and its standby with an empty public.usuarios, stopped at the end."""
    home = work / "sandbox"
    servers = postgres.start(home)
    try:
        database = postgres.create_database(servers, customer_app.DATABASE)
        customer_app.create_table(database.app_dsn)
        postgres.wait_for_standby(servers)
        yield database
    finally:
        postgres.stop(home)


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """The settings of commands that run in `folder`, with a lake, a vault and dbt's outputs below it."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LAKEHOUSE_ENV_FILE": os.devnull,
        "PYTHONPATH": str(ROOT),
        "LAKE_URI": str(folder / "lake"),
        "VAULT_URI": str(folder / "vault"),
        "DBT_PROJECT_DIR": str(ROOT / "dbt_project"),
        "DBT_PROFILES_DIR": str(ROOT),
        "DBT_TARGET_PATH": str(folder / "target"),
        "DBT_LOG_PATH": str(folder / "logs"),
        "DO_NOT_TRACK": "1",
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        **variables,
    }


def customer_settings(database: postgres.Database) -> dict[str, str]:
    return {"CUSTOMER_DSN": database.dsn, "CUSTOMER_SNAPSHOT_DSN": database.snapshot_dsn}
