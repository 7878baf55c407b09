"""Ctrl-C, SIGTERM and a closed terminal end every command in one line, and what it has started ends with it."""

import ast
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parent.parent
# Programs that run for others only, who end them: servers in the background, and what starts a command to measure it.
OTHERS = {"sandbox/redshift/server.py", "sandbox/athena/api.py", "sandbox/athena/aws.py", "benchmarks/measure.py"}
PATIENCE = 120.0  # seconds
ENDED = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "the end of its terminal"}


def test_every_program_ends_in_one_line_when_it_is_interrupted() -> None:
    """Use faults F17: also while it is still importing, where `__main__.py` is nothing else."""
    found = set()
    for path in subprocess.check_output(["git", "ls-files", "*.py"], cwd=ROOT, text=True).split():
        tree = ast.parse((ROOT / path).read_text())
        blocks = [node for node in tree.body if isinstance(node, ast.If) and "__name__" in ast.dump(node.test)]
        if not blocks or path.startswith("tests/") or path in OTHERS:
            continue
        found.add(path)
        first = ast.dump(blocks[0])
        assert "loaders.interruptible" in first, path
        if path.endswith("__main__.py"):
            assert tree.body[1] is blocks[0], path  # after the docstring, before all imports
    assert len(found) > 8


@contextmanager
def started(folder: Path, *command: str, **variables: str) -> Iterator[subprocess.Popen]:
    """A command in a session of its own, with all that it writes below the folder."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LAKEHOUSE_ENV_FILE": os.devnull,
        "LAKE_URI": str(folder / "lake"),
        "VAULT_URI": str(folder / "vault"),
        "DOCS_URI": str(folder / "docs"),
        "SANDBOX_HOME": str(folder / "world"),
        "DBT_TARGET_PATH": str(folder / "target"),
        "DBT_LOG_PATH": str(folder / "logs"),
        "PYTHONUNBUFFERED": "1",
        **variables,
    }
    output = (folder / "said").open("w")
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        output.close()


def wait_for(condition: Callable[[], object], process: subprocess.Popen, folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, (folder / "said").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def end(process: subprocess.Popen, number: signal.Signals, folder: Path) -> str:
    """Send the signal to the command alone; returns what it said, once it and all of its session have ended."""
    os.kill(process.pid, number)
    assert process.wait(PATIENCE) == 128 + number
    below = [each for each in psutil.process_iter() if works_below(each, folder)]
    assert psutil.wait_procs(below, timeout=30)[1] == []
    said = (folder / "said").read_text()
    assert "Traceback" not in said
    assert said.endswith(f"\nended by {ENDED[number]}\n")
    return said


def works_below(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and any(str(folder) in part for part in process.cmdline())
    except psutil.Error:
        return False


@pytest.mark.parametrize(
    ("number", "command"),
    [(signal.SIGINT, "disney"), (signal.SIGTERM, "disney"), (signal.SIGHUP, "disney"), (signal.SIGTERM, "users")],
)
def test_a_loader_that_waits_for_its_source(number: signal.Signals, command: str, tmp_path: Path) -> None:
    """Use faults F17. One more line than its log has, and nothing has landed."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        sources = {"DISNEY_API_URL": f"http://{address}", "CUSTOMER_DSN": f"postgresql://loader@{address}/customer"}
        with started(tmp_path, "-m", "loaders", command, **sources) as process:
            silent.settimeout(PATIENCE)
            connection, _ = silent.accept()
            said = end(process, number, tmp_path)
            connection.close()
    assert len(re.findall(r"\n(?!\d{4}-)(?=.)", said)) == 1


def test_the_sandbox_stops_the_servers_that_an_interrupted_start_has_started(tmp_path: Path) -> None:
    """Use faults F17."""
    servers = tmp_path / "world/primary/postmaster.pid"
    with started(tmp_path, "-m", "sandbox", "up", "--people", "200000") as process:
        wait_for(lambda: list((tmp_path / "world").glob("**/postmaster.pid")), process, tmp_path)
        end(process, signal.SIGINT, tmp_path)
    assert not servers.exists()


def test_dbt_in_a_program_of_ours(tmp_path: Path) -> None:
    """Use faults F17: dbt reports an interrupt as an error, with a traceback."""
    with started(tmp_path, "-m", "privacy") as process:

        def dbt_parses() -> bool:
            return "dbt_extractor" in Path(f"/proc/{process.pid}/maps").read_text()

        wait_for(dbt_parses, process, tmp_path)
        assert end(process, signal.SIGTERM, tmp_path) == "\nended by SIGTERM\n"
