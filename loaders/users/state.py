"""The loader's bookmark: how far the changes have been landed, kept in the lake and not in the slot.

The slot alone would lose or repeat changes: it may move back when the database crashes, and it cannot be moved in
one step with the landing of a file.
"""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Self

from loaders.errors import OperatorError
from loaders.lake import Lake
from loaders.users.shape import Shape

NAME = "customer.usuarios"
KEY = f"state/{NAME}.json"
FORMAT = 1


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
    position: int | None = None  # None: the epoch's snapshot is not landed as yet
    intent: Intent | None = None

    @classmethod
    def from_json(cls, body: bytes) -> Self:
        """Raises OperatorError when a newer loader has written it."""
        fields = json.loads(body)
        if (version := fields.pop("format")) != FORMAT:
            raise OperatorError(f"{KEY} has format {version}, this loader knows format {FORMAT}: use the newer one")
        intent = fields.pop("intent")
        return cls(**fields, intent=intent and Intent(**intent))

    def to_json(self) -> bytes:
        return json.dumps({"format": FORMAT} | asdict(self), indent=2).encode()


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
