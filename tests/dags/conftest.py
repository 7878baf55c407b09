"""Fixtures of the tests of the DAGs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def dag_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a DAG file needs to be read: the manifest that a deployment makes, and where dbt's project is."""
    folder = tmp_path_factory.mktemp("dags")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LAKEHOUSE_ENV_FILE": os.devnull,
        "LAKE_URI": str(folder / "lake"),
        "VAULT_URI": str(folder / "vault"),
        "DBT_PROJECT_DIR": str(ROOT / "dbt_project"),
        "DBT_PROFILES_DIR": str(ROOT),
        "DBT_MANIFEST": str(folder / "manifest.json"),
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__COSMOS__ENABLE_CACHE_DBT_YAML_SELECTORS": "False",
    }
    dbt = [str(Path(sys.executable).with_name("dbt")), "--quiet", "parse", "--target-path", str(folder)]
    done = subprocess.run(dbt, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return environment
