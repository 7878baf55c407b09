"""The five-minute DAG in a real Airflow: the local Athena builds the lake, the local Redshift builds refined."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from sandbox import athena, customer_app, postgres, redshift
from sandbox.athena import Athena
from sandbox.redshift import Redshift
from tests.dags import running
from tests.dags.conftest import ROOT
from tests.dags.running import EVERY, Airflow

pytestmark = [pytest.mark.xdist_group("athena"), pytest.mark.timeout(900)]

PEOPLE = 80
CUT = "timedelta(minutes=4, seconds=40)"  # Trino's seconds on a busy laptop are not Athena's


@pytest.fixture
def warehouse(tmp_path: Path, athena_server: Athena) -> Iterator[Redshift]:
    """A Redshift whose external schemas show an empty lake on the local Athena."""
    with patch.dict(os.environ, {"SANDBOX_HOME": str(tmp_path / "redshift")}):
        settings = os.environ | athena.exports(athena_server)
        try:
            yield redshift.start(port=postgres.free_port(), environment=settings)
        finally:
            redshift.stop()


@pytest.fixture
def airflow(tmp_path: Path, athena_server: Athena, warehouse: Redshift) -> Iterator[Airflow]:
    """An Airflow that builds on both engines, with a customer database and an API of its own."""
    settings = athena.exports(athena_server)
    settings |= warehouse.exports(settings) | {"WAREHOUSE_TARGET": "redshift"}
    patient = (ROOT / "dags/lakehouse.py").read_text().replace(f'"{EVERY}"', "None")
    assert CUT in patient
    patient = patient.replace(CUT, "timedelta(minutes=14)")
    airflow = running.start(tmp_path, people=PEOPLE, more={"lakehouse.py": patient}, settings=settings)
    create = [Path(sys.executable).with_name("dbt"), "run-operation", "create_raw_tables", "--target", "athena"]
    done = subprocess.run(create, env=airflow.settings | settings, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    yield airflow
    airflow.sandbox("down")


def test_a_run_on_athena_and_redshift_shows_the_table(airflow: Airflow, warehouse: Redshift) -> None:
    customer_app.write_changes(airflow.database.app_dsn, changes=60, seed=3)
    run = airflow.trigger()
    assert airflow.end(run, patience=600) == "success", airflow.tasks(run)
    assert set(airflow.tasks(run).values()) == {"success"}
    with warehouse.connect() as connection, connection.cursor() as cursor:
        cursor.execute("select state_code, users from refined.mart_users_by_state")
        shown = dict(map(tuple, cursor.fetchall()))
    live = dict(airflow.live_states())
    assert sum(shown.values()) == sum(live.values())  # states of few people are shown together
    shared = shown.keys() & live.keys()
    assert shared
    assert {state: shown[state] for state in shared} == {state: live[state] for state in shared}
