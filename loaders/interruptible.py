"""Importing this makes a program end in one line when it is interrupted: Ctrl-C, SIGTERM, or a closed terminal.

Each program imports it as `__main__`, before what takes time to import; a module that others import does not. A signal
raises Interrupted where the program is, so that every `finally` and `with` on the way out does its work. What the
program has started and left running ends with it. The exit code is 128 plus the signal's number, as a shell has it:
130, 143 or 129.
"""

import atexit
import os
import signal
import sys
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "the end of its terminal"}
GRACE_SECONDS = 10.0  # for what it has started, to end by itself
_started: list[Any] = []  # the processes below this one when the signal came


class Interrupted(KeyboardInterrupt):
    """A signal asks the program to end. Libraries take it for what Ctrl-C is, and clean up after themselves."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {SIGNALS[signal.Signals(number)]}")
        self.exit_code = 128 + number


def _interrupt(number: int, frame: FrameType | None) -> None:
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)  # it ends already; a terminal that closes sends several
    _started.extend(_children())  # a child that is ended on the way out would leave its own to the system
    raise Interrupted(number)


def _end(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if not isinstance(error, Interrupted):
        sys.__excepthook__(kind, error, traceback)
        return
    _end_children()
    with suppress(OSError):  # the terminal may be gone
        print(f"\n{error}", file=sys.stderr, flush=True)
    with suppress(Exception):
        sys.stdout.flush()
        atexit._run_exitfuncs()  # of libraries, which remove files and semaphores
    os._exit(error.exit_code)  # not sys.exit: threads that still wait for an answer would keep it


def _children() -> list[Any]:
    try:
        import psutil  # not where the loaders alone are installed: they start nothing
    except ImportError:
        return []
    return psutil.Process().children(recursive=True)


def _end_children() -> None:
    left = list({*_started, *_children()})
    if not left:
        return
    import psutil

    for child in [*left]:
        with suppress(psutil.NoSuchProcess):
            if any("resource_tracker" in part for part in child.cmdline()):
                left.remove(child)  # Python's own: it ignores signals, and ends when this process has ended
            else:
                child.terminate()
    _, alive = psutil.wait_procs(left, timeout=GRACE_SECONDS)
    for child in alive:
        with suppress(psutil.NoSuchProcess):
            child.kill()


for number in SIGNALS:
    if signal.getsignal(number) != signal.SIG_IGN:  # nohup and background jobs ignore some on purpose
        signal.signal(number, _interrupt)
sys.excepthook = _end
