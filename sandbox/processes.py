"""Processes that go on in the background after the command that started them: each leads a session of its own.

A session's id outlives its leader, so that all which a process has started is found and ended, also after the process
itself was killed. (Environment variables would not do: a process that sets its title overwrites them.)
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from sandbox import home, private

GRACE_SECONDS = 10.0  # for a process to end by itself


def start(name: str, command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
    """Start a command in the background, unless it runs already; what it says goes to log().

    What an earlier one has left behind when it was killed is ended first.
    """
    if running(name):
        return
    stop(name)
    private.folder(log(name).parent)
    with private.create(log(name)) as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    # With the time of its start: after a reboot another process may have its id.
    _note(name).write_text(json.dumps([process.pid, psutil.Process(process.pid).create_time()]))


def stop(*names: str) -> None:
    """Ask each to end, then end all that is left of its session."""
    left = [process for name in names for process in _session(name)]
    leaders = {process.pid for process in left if os.getsid(process.pid) == process.pid}
    for process in left:
        if process.pid in leaders:
            process.terminate()
    _, alive = psutil.wait_procs(left, timeout=GRACE_SECONDS)
    for name in names:  # read anew: more may have been started meanwhile
        alive += _session(name)
    for process in alive:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, timeout=GRACE_SECONDS)
    for name in names:
        _note(name).unlink(missing_ok=True)


def running(name: str) -> bool:
    """Whether the process itself is alive."""
    found = _noted(name)
    if found is None:
        return False
    pid, started = found
    try:
        process = psutil.Process(pid)
        return process.create_time() == started and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def log(name: str) -> Path:
    """What the process has said."""
    return home() / "processes" / f"{name}.log"


def _note(name: str) -> Path:
    return log(name).with_suffix(".json")


def _noted(name: str) -> tuple[int, float] | None:
    try:
        pid, started = json.loads(_note(name).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return pid, started


def _session(name: str) -> list[psutil.Process]:
    """The living processes of the session that the named process began."""
    found = _noted(name)
    if found is None:
        return []
    pid, started = found
    members = []
    for process in psutil.process_iter():
        try:
            # None of it is older than its leader: another session that got the same id after a reboot may be.
            if os.getsid(process.pid) == pid and process.create_time() >= started:
                members.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess, PermissionError):
            continue
    leader = next((process for process in members if process.pid == pid), None)
    return members if leader is None or leader.create_time() == started else []
