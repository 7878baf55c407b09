"""What goes on in the background of a test."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PAUSE = 0.02  # seconds


@contextmanager
def repeating(action: Callable[[], object]) -> Iterator[None]:
    """Do something again and again in a thread, until the block ends."""
    done = threading.Event()

    def repeat() -> None:
        while not done.wait(PAUSE):
            action()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
