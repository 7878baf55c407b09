"""The commands, as a person types them."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import psycopg


def test_up_write_env_status_down(tmp_path: Path):
    def sandbox(*arguments: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, "SANDBOX_HOME": str(tmp_path / "world")}
        command = [sys.executable, "-m", "sandbox", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    nothing = {"home": str(tmp_path / "world"), "running": False, "disney_api_url": None}
    assert json.loads(sandbox("status").stdout) == nothing
    assert sandbox("env").returncode == sandbox("write").returncode == 1
    try:
        up = sandbox("up", "--people", "50")
        assert up.returncode == 0, up.stderr
        database = json.loads(up.stdout)
        again = sandbox("up", "--people", "50")
        assert json.loads(again.stdout) == json.loads(sandbox("status").stdout) == database

        written = sandbox("write", "--per-day", "0", "--changes", "100")
        counts = json.loads(written.stdout)
        assert counts["inserts"] + counts["updates"] + counts["deletes"] == 100
        with psycopg.connect(database["dsn"]) as loader:
            (people,) = loader.execute("SELECT count(*) FROM usuarios").fetchone()
        assert people == 50 + counts["inserts"] - counts["deletes"]

        elsewhere = sandbox("write", "--dsn", database["app_dsn"].replace("customer_app:", "customer_app:wrong"))
        assert elsewhere.returncode == 1
        assert "password authentication failed" in elsewhere.stderr

        env = subprocess.run(["sh", "-c", f"{sandbox('env').stdout} env"], capture_output=True, text=True).stdout
        assert f"CUSTOMER_DSN={database['dsn']}\n" in env
        assert f"CUSTOMER_SNAPSHOT_DSN={database['snapshot_dsn']}\n" in env
        with urllib.request.urlopen(f"{database['disney_api_url']}/character") as answer:
            assert len(json.load(answer)["data"]) == 50
    finally:
        assert sandbox("down").returncode == 0
    assert sandbox("status").returncode == 1
