"""Change events of the customer table: made by hand, landed as the loader would, and folded by a plain Python model."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from loaders import raw

# The source's column -> ours.
COLUMNS = {
    "nome": "full_name",
    "email": "email",
    "cpf": "cpf",
    "telefone": "phone",
    "data_nascimento": "birth_date",
    "cep": "postal_code",
    "cidade": "city",
    "uf": "state_code",
    "renda_mensal": "monthly_income",
    "status": "status",
    "observacoes": "notes",
    "criado_em": "created_at",
    "atualizado_em": "updated_at",
}
# Values that are none of their column's type; a text column has only those that are no text.
UNREADABLE: dict[str, list[Any]] = {
    "nome": [["Ana"]],
    "data_nascimento": ["infinity", "0044-03-15 BC"],
    "renda_mensal": ["NaN", "10000000000000000"],
    "observacoes": [{"a": 1}, []],
    "criado_em": ["294276-12-31 23:59:59+00"],
}
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
Position = tuple[int, int, int]
Values = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """One event; `before` and `after` are JSON, or dicts to be written as such."""

    op: str
    commit_lsn: int
    change_seq: int = 0
    before: dict | str | None = None
    after: dict | str | None = None
    epoch: int = 1
    source: str = "{}"

    @property
    def position(self) -> Position:
        return self.epoch, self.commit_lsn, self.change_seq

    @property
    def committed_at(self) -> datetime:
        """Follows from the position, so that events tell time in their order."""
        return NOON + timedelta(days=self.epoch - 1, seconds=17 * self.commit_lsn)


def row(user_id: int, **values: Any) -> Values:
    """The whole row of a user: what is not given is null."""
    return {"id": str(user_id)} | dict.fromkeys(COLUMNS) | values


def land(lake: Path, events: Iterable[Event], at: datetime, name: str | None = None) -> str:
    """Land events as one batch at a time in UTC, in a file called `name` or after the batch. Its batch_id."""
    batch_id = raw.new_batch_id(at)

    def document(value: dict | str | None) -> str | None:
        return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value

    rows = [
        {
            "epoch": event.epoch,
            "op": event.op,
            "commit_lsn": event.commit_lsn,
            "change_seq": event.change_seq,
            "committed_at": event.committed_at,
            "before": document(event.before),
            "after": document(event.after),
            "source": event.source,
            "batch_id": batch_id,
            "landed_at": at,
        }
        for event in events
    ]
    path = lake / raw.USER_CHANGES.key(at, name or batch_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, raw.USER_CHANGES.schema), path)
    return batch_id


# ---------- the model


@dataclass
class Version:
    """What one event made of one user."""

    position: Position
    user_id: int
    op: str
    values: Values
    unreadable: frozenset[str]
    valid_from: datetime
    valid_to: datetime | None = None

    @property
    def unreadable_columns(self) -> str | None:
        """Our names of the columns that could not be read, as the tables list them."""
        return (
            f",{','.join(name for key, name in COLUMNS.items() if key in self.unreadable)},"
            if self.unreadable
            else None
        )


@dataclass
class History:
    """All versions, each user's in order, and the truncates."""

    versions: dict[int, list[Version]] = field(default_factory=dict)
    truncates: list[tuple[Position, datetime]] = field(default_factory=list)

    @property
    def users(self) -> dict[int, tuple[Position, bool, datetime | None, Values, str | None]]:
        """Of each user: the last change's position, whether gone, when, the values, and which could not be read."""
        found = {}
        for user_id, versions in self.versions.items():
            last = versions[-1]
            gone_at = last.valid_from if last.op == "d" else last.valid_to
            values = last.values if gone_at is None else dict.fromkeys(COLUMNS)
            unreadable = last.unreadable_columns if gone_at is None else None
            found[user_id] = last.position, gone_at is not None, gone_at, values, unreadable
        return found


def fold(events: Sequence[Event]) -> History:
    """Apply events, each once, in the order of their positions; one with a key that is no number is passed over."""
    history = History()

    def append(event: Event, op: str, user_id: int, values: Values, unreadable: Iterable[str] = ()) -> None:
        moment = event.committed_at.replace(tzinfo=None)
        version = Version(event.position, user_id, op, values, frozenset(unreadable), moment)
        history.versions.setdefault(user_id, []).append(version)

    nothing: Values = dict.fromkeys(COLUMNS)
    for event in sorted({event.position: event for event in events}.values(), key=lambda event: event.position):
        if not all(str(document["id"]).isdecimal() for document in (event.before, event.after) if document):
            continue
        if event.op == "t":
            history.truncates.append((event.position, event.committed_at.replace(tzinfo=None)))
            continue
        if event.op == "d":
            append(event, "d", int(event.before["id"]), nothing)
            continue
        user_id = int(event.after["id"])
        carried_from = user_id
        if event.op == "u" and event.before and int(event.before["id"]) != user_id:
            carried_from = int(event.before["id"])
        before = history.versions.get(carried_from)
        last = before[-1] if event.op == "u" and before else None
        values, unreadable = dict(last.values if last else nothing), set(last.unreadable if last else ())
        for key in COLUMNS.keys() & event.after.keys():
            is_unreadable = event.after[key] in UNREADABLE.get(key, [])
            values[key] = None if is_unreadable else event.after[key]
            (unreadable.add if is_unreadable else unreadable.discard)(key)
        if carried_from != user_id:
            append(event, "d", carried_from, nothing)
        append(event, event.op, user_id, values, unreadable)

    for versions in history.versions.values():
        for version, following in zip(versions, [*versions[1:], None], strict=True):
            ends = [(following.position, following.valid_from)] if following else []
            ends += [end for end in history.truncates if end[0] > version.position]
            version.valid_to = min(ends)[1] if ends else None
    return history
