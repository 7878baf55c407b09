"""When a schedule last succeeded, kept in the lake: whoever watches from outside needs no access to the scheduler."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from loaders.alerts import notify
from loaders.errors import TransientError
from loaders.lake import open_lake
from loaders.settings import Settings
from loaders.watch import alerts_of_lateness


@dataclass(frozen=True)
class Schedule:
    """What `python -m loaders watch` says on stdout."""

    dag_id: str
    last_success: str | None


def record(settings: Settings, dag_id: str) -> None:
    """Write down that a run has just succeeded."""
    lake = open_lake(settings.lake_uri, kms_key_id=settings.lake_kms_key_id)
    _, version = lake.read(_key(dag_id)) or (None, None)
    lake.write(_key(dag_id), json.dumps({"succeeded_at": datetime.now(UTC).isoformat()}).encode(), expected=version)


def last(settings: Settings, dag_id: str) -> datetime | None:
    """When a run last succeeded (UTC), None where none ever has."""
    found = open_lake(settings.lake_uri, kms_key_id=settings.lake_kms_key_id).read(_key(dag_id))
    return datetime.fromisoformat(json.loads(found[0])["succeeded_at"]) if found else None


def check(settings: Settings, dag_id: str, minutes: float) -> Schedule:
    """For a watch outside of the scheduler, which cannot tell that it is down itself.

    Raises TransientError, after an alert, when no run has succeeded for so many minutes.
    """
    succeeded_at = last(settings, dag_id)
    late = alerts_of_lateness(dag_id, succeeded_at, datetime.now(UTC), minutes)
    if late:
        notify(settings, *late)
        raise TransientError(f"{dag_id} has not succeeded for {minutes:g} minutes: {late[0].text}")
    return Schedule(dag_id, succeeded_at.isoformat())


def _key(dag_id: str) -> str:
    return f"state/success/{dag_id}.json"
