"""Kill -9 at each step of a run, and at any moment, under load: nothing is lost, nothing lands twice.

A witness, a second slot on the same database that no loader touches, says what was truly committed.
"""

import itertools
import json
import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import pytest

from loaders import users
from loaders.lake import local
from loaders.settings import Settings
from loaders.users import changes, epochs, events, history, pgoutput, publication, server, slots, snapshot, timeline
from loaders.users.state import Bookmark
from sandbox import customer_app
from tests.loaders.users.conftest import Landing, person, writing

# A run is killed just before each call of one of these, which is just after what came before it.
STEPS = [
    (users, "connect"),
    (epochs, "connect"),
    (changes, "connect"),
    (timeline, "identify"),
    (history, "first_difference"),
    (slots, "find"),
    (slots, "drop"),
    (slots, "create"),
    (snapshot, "begin_on_standby"),
    (Bookmark, "save"),
    (events, "write"),
    (os, "replace"),  # makes a file or the state visible
    (local, "_sync_folder"),
    (slots, "advance"),
]
PER_DAY = 200 * 86_400  # the application's changes

# Forked from a process that has imported all this: a run starts in no time.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload([__name__])


def die_at(step: int, settings: Settings, resnapshot: bool) -> None:
    """Land, in a process that kills itself before the given step."""
    steps = itertools.count(1)

    def deadly(function: Callable) -> Callable:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for owner, name in STEPS:
        setattr(owner, name, deadly(getattr(owner, name)))
    users.land(settings, resnapshot=resnapshot)


def run(landing: Landing, *, step: int = 0, resnapshot: bool = False, kill_after: float | None = None) -> bool:
    """Run the loader in another process, which is killed at a step or after some seconds; say whether it was."""
    process = processes.Process(target=die_at, args=[step, landing.settings, resnapshot])
    process.start()
    process.join(kill_after)
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


@contextmanager
def witnessed(landing: Landing) -> Iterator[None]:
    """Let the application write meanwhile; in the end raw must hold what the witness saw, each change once."""
    customer_app.seed_people(landing.customer.app_dsn, 100)
    landing.admin("SELECT pg_create_logical_replication_slot('witness', 'pgoutput')")
    landing.land()
    with writing(landing, per_day=PER_DAY):
        yield
    landing.land()
    seen = witness(landing)
    landed = landing.events()
    for epoch in {event["epoch"] for event in landed}:
        ranges = sorted(path.stem.split("-")[1:] for path in landing.files() if path.stem.startswith(f"{epoch}-"))
        assert ranges[0][0] == f"{0:016X}" and sum(start == ranges[0][0] for start, _ in ranges) == 1
        first, last = int(ranges[0][1], 16), int(ranges[-1][1], 16)
        assert [comparable(event) for event in landed if event["epoch"] == epoch and event["op"] not in "tr"] == [
            change for change in seen if first <= change["commit_lsn"] < last
        ]
    assert landing.replayed() == landing.live()
    begins = [event for event in landed if event["op"] == "t" and event["source"]["xid"] is None]
    assert [event["epoch"] for event in begins if "gap_reason" not in event["source"]] == [1]


def witness(landing: Landing) -> list[dict]:
    """All that was committed since the witness was made, in order."""
    peek = """
        SELECT (lsn - '0/0')::bigint, data FROM pg_logical_slot_peek_binary_changes(
            'witness', NULL, NULL, 'proto_version', '1', 'publication_names', 'lakehouse_usuarios')
    """
    with server.connect(landing.customer.dsn) as connection:
        table = publication.find_table(connection, "public.usuarios")
        changes = pgoutput.decode(
            connection.execute(peek), relation_oid=table.oid, database=landing.customer.name, start=0, end=1 << 62
        )
        return [comparable(event._asdict()) for event in changes]


def comparable(event: dict) -> dict:
    """What the witness knows of an event, its JSON parsed."""
    texts = {name: event[name] for name in ("before", "after", "source")}
    parsed = {name: json.loads(text) if isinstance(text, bytes) else text for name, text in texts.items()}
    return {name: event[name] for name in ("op", "commit_lsn", "change_seq")} | parsed


@pytest.mark.parametrize("resnapshot", [False, True], ids=["changes", "snapshot"])
def test_killed_at_each_step(landing: Landing, resnapshot: bool) -> None:
    with witnessed(landing):
        for step in itertools.count(1):
            landing.write(person("Ana"))  # so that no run has nothing to do
            if not run(landing, step=step, resnapshot=resnapshot):
                break
            run(landing, step=step)  # what heals is killed at the same step
            landing.land()
    assert step > 12


def test_killed_at_any_moment(landing: Landing) -> None:
    rng = random.Random(1)
    with witnessed(landing):
        killed = sum(run(landing, resnapshot=rng.random() < 0.2, kill_after=rng.uniform(0.0, 0.2)) for _ in range(25))
    assert killed
