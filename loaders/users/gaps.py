"""Gaps: where the changes of one epoch end and the next epoch's snapshot begins, without the history in between.

A gap is recorded in the `source` of the truncate that begins the new epoch. It is in the same file as the snapshot, so
that either both are landed or neither is.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from loaders.users.events import lsn_text


@dataclass(frozen=True)
class Gap:
    """What ended an epoch. The gap reaches from `from_lsn` to the LSN of the next epoch's snapshot.

    It is not known which changes were made in between: a row shows only the state in which the snapshot found it, and
    a row that was created and deleted in between is missing.
    """

    reason: str  # sentences without any value of a row
    noticed_at: str  # ISO 8601, UTC
    former_epoch: int | None = None
    from_lsn: int | None = None  # all changes before it were landed; None: not known
    from_time: str | None = None  # when the run that reached it began, ISO 8601, UTC; None: not known
    asked_for: bool = False  # by a person, with --resnapshot

    def source_fields(self) -> bytes:
        """The end of the JSON object `source`: what to put before its closing brace."""
        fields = {
            "gap_reason": self.reason,
            "gap_noticed_at": self.noticed_at,
            "gap_former_epoch": _text(self.former_epoch),
            "gap_from_lsn": _text(self.from_lsn),
            "gap_from_time": self.from_time,
        }
        return b"," + json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()[1:-1]

    def describe(self, *, epoch: int, to_lsn: int, to_time: str) -> dict[str, Any]:
        """The gap as the JSON line on stdout has it, LSNs as PostgreSQL writes them."""
        fields = asdict(self) | {"epoch": epoch, "to_lsn": lsn_text(to_lsn), "to_time": to_time}
        return fields | {"from_lsn": None if self.from_lsn is None else lsn_text(self.from_lsn)}


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)
