"""What every program of this project's environment starts with: the loaders, dbt, Airflow and pytest alike.

The Makefile makes `.venv` import this module at the start of Python (`install`), so that plain `dbt build` finds the
project and its lake from any folder, and `.env` means the same to all. What is already in the environment wins.
"""

import os
import site
from contextlib import suppress
from pathlib import Path

from loaders import paths

DEFAULTS = {
    "DBT_PROJECT_DIR": str(paths.ROOT / "dbt_project"),
    "DBT_PROFILES_DIR": str(paths.ROOT),
    "DO_NOT_TRACK": "1",  # dbt and Cosmos send usage statistics unless told not to
    # dbt has no defaults of its own for these: the project's models and profile read them from the environment.
    "LAKE_URI": paths.DEFAULTS["LAKE_URI"],
    "VAULT_URI": paths.DEFAULTS["VAULT_URI"],
}


def load() -> None:
    """Fill the environment from LAKEHOUSE_ENV_FILE (default: `.env` in the project's root), then from DEFAULTS.

    An empty variable counts as one that is not set, and paths become absolute.
    """
    env_file = Path(os.environ.get("LAKEHOUSE_ENV_FILE", paths.ROOT / ".env"))
    if env_file.is_file():
        from dotenv import dotenv_values  # here, since it would cost every start of Python

        for name, value in dotenv_values(env_file).items():
            if value and value.strip():
                os.environ.setdefault(name, value)
    for name in {*DEFAULTS, *paths.NAMES}:
        value = os.environ.get(name, "").strip() or DEFAULTS.get(name)
        if value is None:
            os.environ.pop(name, None)
            continue
        if name in paths.NAMES:
            with suppress(ValueError):  # a start of Python cannot refuse it: whatever reads the setting does
                value = paths.absolute(value)
        os.environ[name] = value


def install() -> None:
    """Put the project on this environment's path, and import this module at each start (site's .pth files)."""
    Path(site.getsitepackages()[0], "lakehouse.pth").write_text(f"{paths.ROOT}\nimport loaders.environment\n")


load()
