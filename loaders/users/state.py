"""The loader's bookmark: how far the changes have been landed, kept in the lake and not in the slot.

The slot alone would lose or repeat changes: it may move back when the database crashes, and it cannot be moved in
one step with the landing of a file.
"""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self

from loaders.errors import OperatorError
from loaders.lake import Lake
from loaders.users.gaps import Gap
from loaders.users.shape import Shape

NAME = "customer.usuarios"
KEY = f"state/{NAME}.json"
FORMAT = 2


@dataclass(frozen=True)
class Intent:
    """The batch that is being landed: written down before it is read, so that a killed run is done again alike.

    `end` is the LSN that ends its range, which its file's name says. A snapshot learns it once its transaction is open.
    """

    batch_time: str  # ISO 8601, UTC
    end: int | None = None

    @property
    def time(self) -> datetime:
        return datetime.fromisoformat(self.batch_time)


@dataclass(frozen=True)
class State:
    """What has been landed (this epoch's snapshot and all changes before `position`), from where, what is under way."""

    slot: str
    epoch: int
    system_identifier: str | None = None
    database: str | None = None
    table: str | None = None
    published_as: Shape | str | None = None  # see loaders.users.shape.from_state
    position: int | None = None  # None: the epoch's snapshot is not landed yet
    intent: Intent | None = None
    created_slot: bool = False  # whether the slot of that name is this lake's; no other is ever dropped
    timeline: int | None = None  # the one on which the changes before `position` were read; None: not known
    comparable_from: int | None = None  # from this LSN on, raw has all changes of the epoch; see loaders.users.history
    landed_at: str | None = None  # the batch time of the run that reached `position`; None: not known
    gap: Gap | None = None  # between the former epoch and this one; dropped once the snapshot that records it is landed

    @classmethod
    def from_json(cls, body: bytes) -> Self:
        """Raises OperatorError when a newer loader has written it."""
        fields = json.loads(body)
        match version := fields.pop("format"):
            case 1:
                fields = _upgraded(fields)
            case 2:
                pass
            case _:
                raise OperatorError(
                    f"{KEY} has format {version}, this loader knows formats up to {FORMAT}: use the newer one"
                )
        intent, gap = fields.pop("intent"), fields.pop("gap")
        return cls(**fields, intent=intent and Intent(**intent), gap=gap and Gap(**gap))

    def to_json(self) -> bytes:
        return json.dumps({"format": FORMAT} | asdict(self), indent=2).encode()


def _upgraded(fields: dict[str, Any]) -> dict[str, Any]:
    """A state of format 1, which did not know timelines: it created its slot before anything was landed through it."""
    began = fields["position"] is not None or fields["intent"] is not None
    return fields | {"created_slot": began, "comparable_from": fields["position"], "gap": None}


class Bookmark:
    """The state document in the lake; a write succeeds only where nobody else has written since."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        body, self.version = lake.read(KEY) or (None, None)
        self.state = State.from_json(body) if body else None

    def save(self, state: State) -> State:
        self.version = self.lake.write(KEY, state.to_json(), expected=self.version)
        self.state = state
        return state
