"""Every command in README.md and docs/ is run, in order, by a newcomer: in a fresh copy of what is tracked."""

import os
import re
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from loaders import paths
from sandbox.athena import artifacts

pytestmark = pytest.mark.xdist_group("clone")  # one after the other in one copy, so one worker

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Commands that this test leaves to others, and who runs them.
ELSEWHERE = {
    "make test": "this very run",
    "make lint": ".ci/run",
    "make bench": "tests/test_benchmarks.py, at a small size",
    "make docs": "a test below",
    "make airflow": "tests/dags/test_airflow.py, by the command behind it",
}


ENGINES = "make athena"  # the block that has it takes minutes: a test of its own


def blocks() -> list[str]:
    """The shell blocks of all documents, without comments and without what is run elsewhere."""
    found = []
    for document in DOCUMENTS:
        for block in re.findall(r"^```sh\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL):
            lines = [re.sub(r"\s+#.*", "", line) for line in block.splitlines()]
            found.append("\n".join(line for line in lines if line not in ELSEWHERE))
    return [block for block in found if block.strip()]


# Folders that somebody's clone may lie in: each has a character that some language or program gives a meaning.
HOSTILE_FOLDERS = "load_date=2020-01-01/d'avila [x] a*b {0} 100% ção"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_the_project(tmp_path_factory.mktemp("clone") / HOSTILE_FOLDERS)


def copy_of_the_project(folder: Path) -> Path:
    """The tracked files as from a zip that was extracted without links and modes; it shares this run's environment.

    All are so old that make finds that environment in order.
    """
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            (folder / name).write_text(str((ROOT / name).readlink()))
        else:
            shutil.copyfile(ROOT / name, folder / name)
        os.utime(folder / name, (0, 0))
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


def environment(clone: Path) -> dict[str, str]:
    """No setting of ours, and all places in the copy: the shared environment would name those of this project."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(clone.parent),
        "DBT_PROJECT_DIR": str(clone / "dbt_project"),
        "DBT_PROFILES_DIR": str(clone),
        "LAKEHOUSE_ENV_FILE": str(clone / ".env"),
        **{name: str(clone / folder) for name, folder in paths.DEFAULTS.items()},
    }


def test_make_docs_serves_the_site_on_loopback_before_there_is_a_lake(clone: Path) -> None:
    """Use faults F11: another port where the asked one is taken. F17: one line when its terminal closes."""
    taken = socket.create_server(("127.0.0.1", 0))
    process = subprocess.Popen(
        ["make", "docs", f"DOCS_PORT={taken.getsockname()[1]}"],
        cwd=clone,
        env=environment(clone),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    said = ""
    try:
        for line in process.stdout:
            said += line
            if found := re.search(r"Docs site: (http://127\.0\.0\.1:\d+) ", line):
                break
        else:
            pytest.fail(said)
        with urllib.request.urlopen(f"{found[1]}/", timeout=30) as answer:
            assert b"<title>dbt Docs</title>" in answer.read()
    finally:
        taken.close()
        os.killpg(process.pid, signal.SIGHUP)
        last, _ = process.communicate(timeout=30)
    assert "ended by the end of its terminal\n" in last
    assert "Traceback" not in last


def test_every_command_of_the_documents_works(clone: Path) -> None:
    written = [block for block in blocks() if ENGINES not in block]
    assert len(written) >= 3
    for block in written:
        run(block, clone)


@pytest.mark.xdist_group("athena")
def test_the_engines_build_by_the_commands_of_the_readme(tmp_path: Path) -> None:
    [block] = [block for block in blocks() if ENGINES in block]
    folder = copy_of_the_project(tmp_path / "clone")
    # Trino's files are those of the user who runs the tests.
    cache = {"SANDBOX_CACHE": str(artifacts.cache().parent)}
    said = run(block, folder, cache)
    assert said.count("Completed successfully") == 2  # a build on each engine
    assert re.search(r"Finished running .*\b\d+ unit tests", said)
    assert still_running(folder) == []


def run(block: str, folder: Path, more: Mapping[str, str] = MappingProxyType({})) -> str:
    """Run a block in a shell that stops at the first command that fails; returns what it printed."""
    script, settings = f"set -eu\n{block}", environment(folder) | more
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, f"{block}\n---\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def test_a_second_demo_lands_only_what_is_new(clone: Path) -> None:
    done = subprocess.run(["make", "demo"], cwd=clone, env=environment(clone), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"snapshot or changes\W+0\W+nothing new", done.stdout), done.stdout
    assert re.search(r"changes\W+1,000\W+[0-9A-F]{16}-[0-9A-F]{16}", done.stdout), done.stdout
    assert re.search(r"[0-9A-F]+/[0-9A-F]+\W+[0-9]{2},[0-9]{3}\W+0\W+0\W+0\W+0\W", done.stdout), done.stdout  # verified
    assert still_running(clone) == []


def still_running(folder: Path) -> list[str]:
    """Command lines of processes that work below the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").resolve().is_relative_to(folder):
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found
