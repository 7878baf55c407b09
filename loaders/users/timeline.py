"""Timelines: which history of the database a server continues. Each promotion and each restore begins a new one.

PostgreSQL says it over a replication connection (its documentation, "Streaming Replication Protocol": IDENTIFY_SYSTEM
and TIMELINE_HISTORY), on a primary and on a standby.
"""

import re
from dataclasses import dataclass

import psycopg

# A line of a history file: a former timeline, and the LSN at which the next one left it.
FORK = re.compile(r"^\s*(\d+)\s+([0-9A-F]+)/([0-9A-F]+)", re.MULTILINE)


@dataclass(frozen=True)
class Origin:
    """Where the WAL that a replication connection offers comes from."""

    system_identifier: str
    timeline: int


def identify(replication: psycopg.Connection) -> Origin:
    system_identifier, timeline, *_ = replication.execute("IDENTIFY_SYSTEM").fetchone()
    return Origin(str(system_identifier), int(timeline))


def fork(replication: psycopg.Connection, former: int, current: int) -> int | None:
    """The LSN up to which the timelines `former` and `current` are one history.

    None where `current` does not descend from `former`, or where the server no longer has the history file.
    """
    try:
        _, content = replication.execute(f"TIMELINE_HISTORY {current:d}").fetchone()
    except psycopg.errors.UndefinedFile:
        return None
    text = content.decode() if isinstance(content, bytes) else content
    forks = {int(number): (int(high, 16) << 32) + int(low, 16) for number, high, low in FORK.findall(text)}
    return forks.get(former)
