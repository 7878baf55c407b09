"""When a schedule last succeeded, kept in the lake: whoever watches from outside needs no access to the scheduler."""

import json
from datetime import UTC, datetime

from loaders.lake import open_lake
from loaders.settings import Settings


def record(settings: Settings, dag_id: str) -> None:
    """Write down that a run has just succeeded."""
    lake = open_lake(settings.lake_uri, kms_key_id=settings.lake_kms_key_id)
    _, version = lake.read(_key(dag_id)) or (None, None)
    lake.write(_key(dag_id), json.dumps({"succeeded_at": datetime.now(UTC).isoformat()}).encode(), expected=version)


def last(settings: Settings, dag_id: str) -> datetime | None:
    """When a run last succeeded (UTC), None where none ever has."""
    found = open_lake(settings.lake_uri, kms_key_id=settings.lake_kms_key_id).read(_key(dag_id))
    return datetime.fromisoformat(json.loads(found[0])["succeeded_at"]) if found else None


def _key(dag_id: str) -> str:
    return f"state/success/{dag_id}.json"
