"""The five-minute DAG in a real Airflow: the lake built on Athena's stand-in, refined on Redshift's."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import athena, customer_app, redshift
from tests.dags import running
from tests.dags.conftest import ROOT
from tests.dags.running import EVERY, Airflow

pytestmark = [pytest.mark.xdist_group("athena"), pytest.mark.timeout(900)]

CUT = "timedelta(minutes=4, seconds=40)"  # Trino on a busy laptop is no measure of Athena's seconds


@pytest.fixture
def airflow(tmp_path: Path, athena_server: athena.Athena, monkeypatch: pytest.MonkeyPatch) -> Iterator[Airflow]:
    """Airflow over an empty lake on S3, with both engines' stand-ins."""
    monkeypatch.setenv("SANDBOX_HOME", str(tmp_path / "engines"))
    settings = athena.exports(athena_server) | {"WAREHOUSE_TARGET": "redshift"}
    warehouse = redshift.start(port=redshift.free_port(), environment=settings)
    settings |= warehouse.exports(settings)
    patient = (ROOT / "dags/lakehouse.py").read_text()
    assert CUT in patient
    patient = patient.replace(CUT, "timedelta(minutes=14)").replace(f'"{EVERY}"', "None")
    airflow = running.start(
        tmp_path, people=80, schedule=None, more={"lakehouse.py": patient}, settings=settings
    )
    create = [Path(sys.executable).with_name("dbt"), "run-operation", "create_raw_tables", "--target", "athena"]
    done = subprocess.run(create, env=airflow.settings | settings, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    yield airflow
    airflow.sandbox("down")
    redshift.stop()
