"""Faults that the stand-in commits on demand: errors in Redshift's words, and lost connections."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

# What dbt-redshift answers with a second try of the same statement, unless `retries` is 0.
SERIALISATION_CONFLICT = "1023 could not complete because of conflict with concurrent transaction"


@dataclass
class Fault:
    """What happens to the next `times` statements in which `pattern` (a regular expression) is found.

    They fail with `message` under `sqlstate`, or their connection is lost before they arrive.
    """

    pattern: str
    message: str = SERIALISATION_CONFLICT
    sqlstate: str = "40001"
    times: int = 1
    lose_connection: bool = False


class Faults:
    """The faults that are still to come, first told first."""

    def __init__(self) -> None:
        self._pending: list[Fault] = []

    def tell(self, faults: Iterable[Mapping[str, Any]]) -> None:
        """Commit these from now on and no others. Raises ValueError for what is no fault."""
        try:
            pending = [Fault(**each) for each in faults]
            for each in pending:
                re.compile(each.pattern)
        except (TypeError, re.error) as error:
            raise ValueError(f"no fault: {error}") from None
        self._pending = pending

    def pending(self) -> list[dict[str, Any]]:
        return [asdict(fault) for fault in self._pending]

    def take(self, sql: str) -> Fault | None:
        """The fault that this statement meets; it counts as committed."""
        for fault in self._pending:
            if re.search(fault.pattern, sql, re.S | re.I):
                fault.times -= 1
                if fault.times <= 0:
                    self._pending.remove(fault)
                return fault
        return None
