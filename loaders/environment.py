"""What every program of this project's environment starts with: the loaders, dbt, Airflow and pytest alike.

The Makefile makes `.venv` import this module at the start of Python (site's .pth files), so that plain `dbt build`
finds the project from any folder, and `.env` means the same to all. What is already in the environment wins.
"""

import os
from pathlib import Path

ROOT = Path(__file__).parent.parent
DEFAULTS = {
    "DBT_PROJECT_DIR": str(ROOT / "dbt_project"),
    "DBT_PROFILES_DIR": str(ROOT),
    "DO_NOT_TRACK": "1",  # dbt and Cosmos send usage statistics unless told not to
}


def load() -> None:
    """Fill the environment from LAKEHOUSE_ENV_FILE (default: `.env` beside the README), then from DEFAULTS."""
    env_file = Path(os.environ.get("LAKEHOUSE_ENV_FILE", ROOT / ".env"))
    if env_file.is_file():
        from dotenv import load_dotenv  # here, since it would cost every start of Python

        load_dotenv(env_file)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


load()
