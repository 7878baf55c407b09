"""`python -m benchmarks --quick`: every benchmark runs from end to end and writes its table."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.measure import Cost, measure, typical
from benchmarks.world import environment
from sandbox.athena import artifacts

READERS = {
    "users": "dlt, ConnectorX",
    "source": "| a report on the primary |",
    "disney": "dlt, rest_api",
    "cycle": "| 2 | 1,200 |",
    "erasure": "copy by DuckDB",
    "verify": "compared in DuckDB",
    "airflow": "| the same in BashOperators |",
    "engines": "refined, the first build | Redshift |",
}


GROUPS = {"airflow": "airflow", "engines": "athena"}  # no two Airflows, no two Trinos side by side


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.xdist_group(GROUPS.get(name, name))) for name in READERS]
)
def test_a_quick_run_writes_its_table_between_its_markers(name: str, tmp_path: Path) -> None:
    output = tmp_path / "figures.md"
    output.write_text(f"before\n<!-- figures of {name}: begin -->\nold\n<!-- figures of {name}: end -->\nafter\n")
    work = tmp_path / "work"
    work.mkdir()
    command = ["-m", "benchmarks", "--quick", "--only", name, "--output", str(output), "--work", str(work)]

    settings = environment(
        tmp_path, SANDBOX_CACHE=str(artifacts.cache().parent)
    )  # Trino's files, as `make athena` has them
    done = subprocess.run([sys.executable, *command], env=settings, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    text = output.read_text()
    assert READERS[name] in text
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("end -->\nafter\n")
    assert not list(work.iterdir())


def test_quick_figures_do_not_reach_the_documentation() -> None:
    done = subprocess.run([sys.executable, "-m", "benchmarks", "--quick"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--output" in done.stderr


def test_a_command_is_measured_with_its_children_and_without_its_parent(tmp_path: Path) -> None:
    ballast = bytearray(300_000_000)
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"

    measured = measure([sys.executable, "-c", f"print('said'); {child}"], environment(tmp_path), tmp_path)

    assert measured.output == "said\n"
    assert measured.cost.cpu >= 0.3
    assert 5 < measured.cost.memory < len(ballast) / 1e6


def test_the_memory_that_a_command_takes_is_seen(tmp_path: Path) -> None:
    measured = measure([sys.executable, "-c", "bytearray(100_000_000)"], environment(tmp_path), tmp_path)
    assert 100 < measured.cost.memory < 150


def test_a_command_that_fails_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no such thing"):
        measure([sys.executable, "-c", "raise SystemExit('no such thing')"], environment(tmp_path), tmp_path)


def test_the_typical_cost_is_the_median_but_of_memory_the_highest() -> None:
    assert typical([Cost(1, 9, 10), Cost(2, 7, 30), Cost(9, 8, 20)]) == Cost(2, 8, 30)


def test_a_document_without_markers_gains_them(tmp_path: Path) -> None:
    section = report.Section("title", ("what", "s"), [("a", "1")], [report.Target("1 s", "2 s", met=False)])
    path = tmp_path / "new.md"
    report.write(path, "a", section)
    report.write(path, "b", section)
    report.write(path, "a", section)
    text = path.read_text()
    assert text.count("| a | 1 |") == 2
    assert text.count("**Missed**: 1 s; found 2 s") == 2
