"""The bundle for MWAA holds all that the DAGs need, and its versions are those that the tests ran on."""

import os
import re
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from packaging.requirements import Requirement

from infra.mwaa import bundle
from tests.dags.test_dag_files import read

pytestmark = pytest.mark.xdist_group("dag files")  # one manifest and one bundle for all of them, so one worker


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mwaa") / "mwaa"
    bundle.bundle(folder)
    bundle.bundle(folder)  # once more changes nothing
    return folder


@pytest.mark.parametrize("name", ["lakehouse", "lakehouse_daily"])
def test_the_dag_files_read_from_the_bundle_as_mwaa_would(
    bundled: Path, name: str, dag_environment: dict[str, str], tmp_path: Path
) -> None:
    (bundled / "dags/.env").write_text("LAKE_TARGET=athena\nWAREHOUSE_TARGET=redshift\nDOCS_URI=s3://docs/site\n")
    script = (bundled / "startup.sh").read_text().replace("/usr/local/airflow/dags", str(bundled / "dags"))
    env = subprocess.run(["sh", "-c", f"{script}\nenv"], env={}, capture_output=True, text=True, check=True).stdout
    base = {name: dag_environment[name] for name in ("PATH", "HOME", "AIRFLOW_HOME", "AIRFLOW__CORE__LOAD_EXAMPLES")}
    environment = base | dict(line.split("=", 1) for line in env.splitlines() if not line.startswith(("PWD", "_=")))
    found = read(name, environment, bundled / "dags")
    assert found["dag"]["dag_id"] == name
    assert found["loaders"] == [str(bundled / "dags/loaders")]


def test_each_requirement_is_held_to_the_version_of_the_lock(bundled: Path) -> None:
    first, *requirements = (bundled / "requirements.txt").read_text().splitlines()
    assert first == '--constraint "/usr/local/airflow/dags/constraints.txt"'
    pinned = {}
    for line in (bundled / "dags/constraints.txt").read_text().splitlines():
        requirement = Requirement(line)
        pinned.setdefault(requirement.name, []).append(requirement)
    names = [Requirement(line) for line in requirements]
    assert {"dbt-athena", "dbt-redshift", "astronomer-cosmos", "psycopg"} <= {name.name for name in names}
    for wanted in names:
        for held in pinned[wanted.name]:
            version = re.fullmatch(r"==(.+)", str(held.specifier))[1]
            assert wanted.specifier.contains(version), wanted
    ours = pinned.keys() | {name.name for name in names}
    assert not {"apache-airflow", "boto3", "botocore", "flask", "greenlet", "sqlalchemy"} & ours, (
        "MWAA holds them itself"
    )


def test_the_bundle_holds_no_link_and_nothing_that_a_run_made(bundled: Path) -> None:
    paths = list(bundled.rglob("*"))
    assert (bundled / "dags/dbt_project/seeds/media_types.csv").is_file()
    assert not [path for path in paths if path.is_symlink()]
    assert not [path for path in paths if path.name in ("__pycache__", "target", "logs")]


def test_the_startup_script_reads_dsns_from_their_secrets(aws: None) -> None:
    """One that has no value yet is told, and stops nothing: an environment is made before its secrets have values."""
    boto3.client("secretsmanager").create_secret(Name="made-up/dsn", SecretString="postgresql://nobody@localhost/x")
    names = {"CUSTOMER_DSN_SECRET_ID": "made-up/dsn", "CUSTOMER_SNAPSHOT_DSN_SECRET_ID": "made-up/empty"}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    script = (bundle.ROOT / "infra/mwaa/startup.sh").read_text()
    run = subprocess.run(
        ["sh", "-c", f"{script}\nenv"],
        env=os.environ | names | {"PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    said = dict(line.split("=", 1) for line in run.stdout.splitlines() if "=" in line)
    assert said["CUSTOMER_DSN"] == "postgresql://nobody@localhost/x"
    assert "CUSTOMER_SNAPSHOT_DSN" not in said
    assert "CUSTOMER_SNAPSHOT_DSN: the secret made-up/empty has no value yet" in run.stderr
    assert said["DBT_MANIFEST"].endswith("dags/manifest.json")
