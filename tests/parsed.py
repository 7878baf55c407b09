"""Shares what dbt has parsed between the tests and the workers of a run: parsing the project costs 3 to 5 CPU seconds.

dbt reuses the parsed project in its target folder only while the target and the variables stay the same. So each
combination of them has a folder of its own, and a new folder starts with what another worker has parsed.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

PARSED = "partial_parse.msgpack"
DECIDING = ("--target", "--vars")


def folder_for(arguments: Sequence[str], target: Path) -> Path:
    """The target folder of a dbt command: `target` itself unless the command names a target or variables."""
    told = [pair for pair in pairwise(arguments) if pair[0] in DECIDING]
    return target / hashlib.sha256(str(told).encode()).hexdigest()[:8] if told else target


@contextmanager
def shared(factory: pytest.TempPathFactory, name: str, target: Path) -> Iterator[None]:
    """Run dbt on the folder `target` inside this block: it starts from, or else provides, what is shared as `name`."""
    ours = factory.getbasetemp()
    run = ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours
    kept, own = run / f"{name}.{PARSED}", target / PARSED
    if kept.exists() and not own.exists():
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(kept, own)
    yield
    if own.exists() and not kept.exists():
        draft = ours / f"{name}.{PARSED}.new"  # so that another worker sees the whole file or none
        shutil.copy(own, draft)
        draft.rename(kept)
