"""Run a command in a process of its own and say what it cost.

The command is started by this very file, run as a script that imports next to nothing: Linux counts the memory of the
process that starts another one into the other's peak, so a large parent would hide what a small command needs.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple, Self


class Cost(NamedTuple):
    """What one command, or the median of several, cost."""

    wall: float  # seconds
    cpu: float  # seconds, of the command and of every process that it started and waited for
    memory: float  # peak resident megabytes (10^6 bytes) of the largest of those processes

    def __add__(self, other: Self) -> "Cost":
        """One command after the other."""
        return Cost(self.wall + other.wall, self.cpu + other.cpu, max(self.memory, other.memory))


class Measured(NamedTuple):
    cost: Cost
    output: str  # what the command wrote to stdout


def measure(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Measured:
    """Run a command in a folder. Raises RuntimeError with its output when it fails."""
    with tempfile.NamedTemporaryFile("r") as report:
        launcher = [sys.executable, "-I", "-S", __file__, report.name]
        done = subprocess.run([*launcher, *command], env=environment, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
        return Measured(Cost(*json.load(report)), done.stdout)


def typical(costs: Sequence[Cost]) -> Cost:
    """The median of each figure, but of memory the highest."""
    return Cost(
        median(cost.wall for cost in costs), median(cost.cpu for cost in costs), max(cost.memory for cost in costs)
    )


def _launch(report: str, command: Sequence[str]) -> int:
    started = time.monotonic()
    _, status, used = os.wait4(os.posix_spawnp(command[0], command, os.environ), 0)
    wall = time.monotonic() - started
    kilobyte = 1 if sys.platform == "darwin" else 1024  # in what ru_maxrss counts
    cost = [wall, used.ru_utime + used.ru_stime, used.ru_maxrss * kilobyte / 1e6]
    Path(report).write_text(json.dumps(cost))
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(_launch(sys.argv[1], sys.argv[2:]))
