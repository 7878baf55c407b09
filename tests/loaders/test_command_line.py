"""`python -m loaders` as a person or a scheduler meets it: help, exit codes, one JSON line, logs on stderr."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

KEY = "8f" * 32


def loaders(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command in an empty folder, with a lake and a vault there and no setting but the given ones."""
    places = {"LAKE_URI": str(cwd / "lake"), "VAULT_URI": str(cwd / "vault")}
    environment = {"PATH": os.environ["PATH"], "LAKEHOUSE_ENV_FILE": os.devnull} | places | variables
    command = [sys.executable, "-m", "loaders", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("command", ["", "disney", "users", "key", "compact", "retain", "watch", "alert"])
def test_help(command: str, tmp_path: Path) -> None:
    answer = loaders(*command.split(), "--help", cwd=tmp_path)
    assert answer.returncode == 0
    assert answer.stdout.startswith("usage: python -m loaders")


def test_the_last_line_says_what_landed_and_logs_go_elsewhere(tmp_path: Path) -> None:
    answer = loaders("key", cwd=tmp_path, MASKING_KEY=KEY)
    assert answer.returncode == 0, answer.stderr
    said = json.loads(answer.stdout)
    assert {"batch_id", "rows", "bytes", "range", "slot_lag_bytes", "seconds"} <= said.keys()
    assert (tmp_path / "vault").is_dir()
    assert KEY not in answer.stdout + answer.stderr


@pytest.mark.parametrize("command", ["compact", "retain"])
def test_a_lake_that_is_empty_is_nothing_to_do(command: str, tmp_path: Path) -> None:
    answer = loaders(command, cwd=tmp_path, RAW_RETENTION_DAYS="30")
    assert answer.returncode == 0, answer.stderr
    assert "files" in json.loads(answer.stdout)


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (["users"], {}, "CUSTOMER_DSN is not set"),
        (["key"], {}, "openssl rand"),
        (["key", "--rotate"], {}, "no new key was given: set MASKING_KEY"),
        (["disney"], {"LAKE_URI": "ftp://somewhere"}, "not a place for a lake"),
        (["alert", "--test"], {"ALERT_TARGET": "mailto:someone"}, "ALERT_TARGET is not a place for alerts"),
        (["alert"], {}, "--test"),
        (["key"], {"MASKING_KEY": KEY, "METRICS": "statsd"}, "METRICS must be none or emf"),
        (["key"], {"MASKING_KEY": KEY, "ALERT_SLOT_LAG_BYTES": "1 GB"}, "ALERT_SLOT_LAG_BYTES is not a whole number"),
        (["key"], {"MASKING_KEY": KEY, "ALERT_SLOT_LAG_BYTES": "0"}, "ALERT_SLOT_LAG_BYTES is not a whole number"),
        (["compact", "--day", "yesterday"], {}, "--day: invalid"),
        (["compact", "--day", "2999-01-01"], {}, "2999-01-01 is not closed"),
        (["retain"], {"RAW_RETENTION_DAYS": "-1"}, "RAW_RETENTION_DAYS is '-1': give a whole number of days"),
        (["land"], {}, "invalid choice"),
        ([], {}, "usage"),
    ],
)
def test_wrong_settings_exit_with_2_and_say_what_to_do(
    arguments: list[str], variables: dict[str, str], message: str, tmp_path: Path
) -> None:
    answer = loaders(*arguments, cwd=tmp_path, **variables)
    assert answer.returncode == 2
    assert message in answer.stderr
    assert "Traceback" not in answer.stderr
    assert answer.stdout == ""


def test_a_lake_that_cannot_be_written_exits_with_1(tmp_path: Path) -> None:
    (tmp_path / "vault").write_text("a file where the folder should be")
    answer = loaders("key", cwd=tmp_path, MASKING_KEY=KEY)
    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr


def test_settings_come_from_the_env_file_and_the_environment_wins(tmp_path: Path) -> None:
    env_file = tmp_path / "settings"
    env_file.write_text(f"MASKING_KEY={KEY}\nVAULT_URI={tmp_path}/from-file\n")
    command = [sys.executable, "-m", "loaders", "key"]
    variables = {"LAKEHOUSE_ENV_FILE": str(env_file)}
    environment = {"PATH": os.environ["PATH"]} | variables
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert (tmp_path / "from-file").is_dir()
    assert loaders("key", cwd=tmp_path, VAULT_URI=str(tmp_path / "from-environment"), **variables).returncode == 0
    assert (tmp_path / "from-environment").is_dir()


def test_an_alert_that_is_tried_and_arrives(tmp_path: Path) -> None:
    answer = loaders("alert", "--test", cwd=tmp_path)
    assert answer.returncode == 0
    assert json.loads(answer.stdout).keys() == {"target", "seconds"}
    assert "WARNING alert: trial" in answer.stderr


def test_an_alert_that_does_not_arrive_exits_with_1_and_keeps_the_webhook_secret(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    answer = loaders("alert", "--test", cwd=tmp_path, ALERT_TARGET=f"http://127.0.0.1:{port}/hook/s3cr3t?key=s3cr3t")
    assert answer.returncode == 1
    assert "the alert did not reach webhook on 127.0.0.1" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert "s3cr3t" not in answer.stderr
    assert answer.stdout == ""
