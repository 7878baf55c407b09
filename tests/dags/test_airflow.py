"""The DAGs in a real Airflow: runs agree with the live table, what fails is red, the next run heals."""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import duckdb
import psutil
import psycopg
import pytest
import requests
from playwright.sync_api import Page, expect

from sandbox import customer_app, postgres
from tests.dags import running
from tests.dags.conftest import ROOT
from tests.dags.running import EVERY, Airflow

pytestmark = [pytest.mark.xdist_group("airflow"), pytest.mark.timeout(900)]  # one Airflow for all of them


LIMIT = 15  # seconds after which a run of the DAG `lakehouse_cut` is cut


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    cut = (ROOT / "dags/lakehouse.py").read_text()
    for ours, other in {
        '"lakehouse"': '"lakehouse_cut"',
        f'"{EVERY}"': "None",
        "timedelta(minutes=4, seconds=40)": f"timedelta(seconds={LIMIT})",
    }.items():
        assert ours in cut
        cut = cut.replace(ours, other)
    airflow = running.start(tmp_path_factory.mktemp("airflow"), schedule=None, more={"lakehouse_cut.py": cut})
    yield airflow
    airflow.sandbox("down")
    assert left_running(airflow.folder) == []


def left_running(folder: Path) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(str(folder)) or str(folder) in " ".join(process.cmdline()):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def marts_agree(airflow: Airflow) -> None:
    """What refined says of the users is what the customer's own table says now, and each change came once."""
    with duckdb.connect(str(airflow.folder / "lake/warehouse.duckdb"), read_only=True) as lake:
        shown = dict(lake.sql("select state_code, users from refined.mart_users_by_state").fetchall())
        live = dict(airflow.live_states())
        merged = set(live) - set(shown)  # states of too few people to be shown
        assert shown == {state: live[state] for state in shown if state != "other"} | (
            {"other": sum(live[state] for state in merged)} if merged else {}
        )
        twice = "select count(*) - count(distinct (epoch, commit_lsn, change_seq, user_id)) from curated.user_changes"
        assert lake.sql(twice).fetchall() == [(0,)]


def write(airflow: Airflow, changes: int = 60) -> None:
    customer_app.write_changes(airflow.database.app_dsn, changes=changes, seed=changes)


def healthy_run(airflow: Airflow) -> str:
    """A run of which nothing is wrong, and after which all agrees."""
    write(airflow)
    run = airflow.trigger()
    assert airflow.end(run) == "success", airflow.tasks(run)
    assert set(airflow.tasks(run).values()) == {"success"}
    marts_agree(airflow)
    return run


def cut_run(airflow: Airflow) -> str:
    """A run of `lakehouse_cut` that was cut during its landing; on a busy machine a run may be cut before it."""
    while True:
        run = airflow.trigger("lakehouse_cut")
        assert airflow.end(run, "lakehouse_cut") == "failed"
        if airflow.log(run, "land_disney", "lakehouse_cut"):
            return run


def heals(airflow: Airflow, run: str) -> None:
    """The run, or where it ended red the next one, made all agree."""
    if airflow.end(run) == "success":
        marts_agree(airflow)
    else:
        healthy_run(airflow)


def test_runs_follow_the_table_and_wait_for_one_another(airflow: Airflow) -> None:
    write(airflow)
    first = airflow.trigger()
    airflow.wait_for_task(first, "lake.dbt_producer_watcher")
    write(airflow, changes=61)
    second = airflow.trigger()
    for run in (first, second):
        assert airflow.end(run) == "success"
        assert set(airflow.tasks(run).values()) == {"success"}
    assert airflow.run(second)["start_date"] >= airflow.run(first)["end_date"]
    marts_agree(airflow)


def test_nothing_listens_beyond_loopback(airflow: Airflow) -> None:
    ours = set(psutil.Process(airflow.part("airflow-api-server").pid).children(recursive=True))
    for part in ("api-server", "scheduler", "dag-processor", "triggerer"):
        leader = airflow.part(f"airflow-{part}")
        ours |= {leader, *leader.children(recursive=True)}
    listening = [
        connection.laddr.ip
        for process in ours
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert set(listening) == {"127.0.0.1"}


def test_asking_without_a_login_is_refused(airflow: Airflow) -> None:
    assert requests.get(f"{airflow.url}/api/v2/dags", timeout=30).status_code == 401


def test_after_a_killed_producer_the_next_run_heals_though_its_scheduler_is_killed(airflow: Airflow) -> None:
    write(airflow)
    run = airflow.trigger()
    airflow.wait_for_task(run, "lake.dbt_producer_watcher")
    airflow.wait_for(lambda: "START" in airflow.log(run, "lake.dbt_producer_watcher"), "dbt builds")
    for process in airflow.task_processes():
        process.kill()
    assert airflow.end(run) == "failed"
    assert airflow.tasks(run)["lake.dbt_producer_watcher"] == "failed"

    write(airflow)
    run = airflow.trigger()
    airflow.wait_for_task(run, "lake.dbt_producer_watcher")
    airflow.kill("airflow-scheduler")
    airflow.sandbox("airflow", "--per-day", "1")
    heals(airflow, run)


def test_users_go_on_while_disney_is_down_a_run_beyond_its_limit_is_cut_and_the_next_one_heals(
    airflow: Airflow,
) -> None:
    write(airflow)
    airflow.kill("disney-api")
    run = airflow.trigger()
    assert airflow.end(run) == "failed"
    tasks = airflow.tasks(run)
    assert {name for name, state in tasks.items() if state != "success"} == {"land_disney", "verdict"}
    marts_agree(airflow)
    assert "alert: task_failed: lakehouse.land_disney" in airflow.log(run, "land_disney")
    airflow.sandbox("airflow", "--per-day", "1")

    write(airflow)
    api = airflow.part("disney-api")
    api.send_signal(signal.SIGSTOP)  # the landing hangs
    try:
        run = cut_run(airflow)
        # Until its worker's next heartbeat the landing lives on, with its lock.
        airflow.wait_for(
            lambda: "Task killed!" in airflow.log(run, "land_disney", "lakehouse_cut"), "the landing is gone"
        )
    finally:
        api.send_signal(signal.SIGCONT)
    assert "skipped" in airflow.tasks(run, "lakehouse_cut").values()
    healthy_run(airflow)


def test_a_crash_of_the_customer_database_costs_one_run_at_most(airflow: Airflow) -> None:
    write(airflow)
    run = airflow.trigger()
    home = airflow.folder / ".sandbox"
    postgres.stop(home, "immediate")
    postgres.start(home)
    heals(airflow, run)


def test_a_failing_test_is_red_the_other_branch_is_green_until_the_run_is_cleared(airflow: Airflow) -> None:
    seed = airflow.folder / "dbt_project/seeds/media_types.csv"
    good = seed.read_text()
    last = good.strip().splitlines()[-1]
    seed.write_text(f"{good.strip()}\n{last}\n")
    try:
        write(airflow)
        run = airflow.trigger()
        assert airflow.end(run) == "failed"
        tasks = airflow.tasks(run)
    finally:
        seed.write_text(good)
    assert tasks["lake.media_types.test"] == tasks["lake.character_appearances.run"] == "failed"
    assert {tasks[name] for name in ("lake.users.run", "lake.users.test", "warehouse.mart_users_by_state.run")} == {
        "success"
    }
    marts_agree(airflow)
    assert "alert: test_failed: test.lakehouse.unique_media_types" in airflow.log(run, "lake.dbt_producer_watcher")
    write(airflow)
    airflow.clear(run)
    assert airflow.end(run) == "success", airflow.tasks(run)
    assert set(airflow.tasks(run).values()) == {"success"}
    marts_agree(airflow)


def test_the_daily_run_compacts_and_rebuilds_on_demand(airflow: Airflow) -> None:
    run = airflow.trigger("lakehouse_daily", full_refresh=True)
    assert airflow.end(run, "lakehouse_daily") == "success", airflow.tasks(run, "lakehouse_daily")
    assert "--full-refresh" in airflow.log(run, "build_lake", "lakehouse_daily")
    marts_agree(airflow)
    assert "dim_users" in (airflow.folder / "docs-site/index.html").read_text()


def test_no_personal_value_is_in_any_log(airflow: Airflow) -> None:
    with psycopg.connect(airflow.database.app_dsn) as app:
        people = app.execute("SELECT nome, email, cpf, telefone FROM usuarios").fetchall()
    values = {value for person in people for value in person if value and len(value) > 6}
    assert len(values) > 100
    logs = [path for path in (airflow.folder / ".sandbox").rglob("*.log") if path.is_file()]
    assert logs
    for path in logs:
        text = path.read_text(errors="replace")
        assert not [value for value in values if value in text], path


def test_the_grid_and_the_docs_open_in_a_browser(airflow: Airflow, page: Page) -> None:
    # The login redirects to the page that was asked for. Another goto() here would abort the login.
    page.goto(f"{airflow.url}/dags/lakehouse")
    page.locator("input[name=username]").fill("admin")
    page.locator("input[name=password]").fill(airflow.password)
    page.locator("button[type=submit]").click()
    expect(page.get_by_text("land_users").first).to_be_visible()
    if picture := os.environ.get("GRID_PICTURE"):
        page.screenshot(path=picture)
    docs = f"{airflow.url}/cosmos/lakehouse/dbt_docs_index.html"
    page.wait_for_load_state()
    assert "<title>dbt Docs</title>" in page.request.get(docs).text()  # with the login's cookie


def test_what_plugins_serve_asks_for_a_login(airflow: Airflow) -> None:
    """Use faults F2: dbt's docs, and whatever else a plugin adds to the web server."""
    for path in ("dbt_docs", "dbt_docs_index.html", "manifest.json", "catalog.json", "", "../lakehouse/dbt_docs"):
        url = f"{airflow.url}/cosmos/lakehouse/{path}"
        assert requests.get(url, timeout=30).status_code == 401, path
        forged = {"Authorization": f"Bearer {airflow.token[:-1]}"}
        assert requests.get(url, headers=forged, timeout=30).status_code in (401, 403), path
    login = {"Authorization": f"Bearer {airflow.token}"}
    docs = requests.get(f"{airflow.url}/cosmos/lakehouse/dbt_docs_index.html", headers=login, timeout=30)
    assert re.search("<title>dbt Docs</title>", docs.text)


def test_no_other_user_can_read_what_holds_a_password_or_a_key(airflow: Airflow) -> None:
    """Use faults F18: other users enter no folder of logs and open no file beside them."""
    home = airflow.folder / ".sandbox"
    secret = [airflow.password, json.loads(airflow.file("airflow/airflow.json"))["fernet_key"]]
    closed = {path for path in home.rglob("*") if path.is_dir() and not path.stat().st_mode & 0o077}
    found = set()
    for path in home.rglob("*"):
        if path.is_file() and not closed & set(path.parents):
            holds = any(value.encode() in path.read_bytes() for value in secret)
            found |= {path.name} if holds else set()
            assert not (holds and path.stat().st_mode & 0o077), path
    assert found == {"passwords.json", "airflow.json"}
    assert {home / "airflow/logs", home / "processes"} <= closed
    assert airflow.password not in airflow.file("processes/airflow-api-server.log")
