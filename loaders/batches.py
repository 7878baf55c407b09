"""The time that names a batch: within a table it never goes back, whatever the host's clock says.

dbt looks for new batches from the day before the latest one it has built, so it would never find a batch under an older
`load_date`. Every program that lands in a table takes its batch times here.
"""

import json
import logging
from datetime import UTC, datetime, timedelta

from loaders.errors import OperatorError
from loaders.lake import Lake
from loaders.raw import RawTable

log = logging.getLogger(__name__)


class BatchClock:
    """The last batch time of a table, as the lake knew it when this object was made."""

    def __init__(self, lake: Lake, table: RawTable) -> None:
        """Raises OperatorError where the document that holds it is not one of ours."""
        self.lake, self.key = lake, table.clock
        found = lake.read(self.key)
        self.last, self.version = datetime.fromtimestamp(0, UTC), None
        if found:
            try:
                self.last, self.version = datetime.fromisoformat(json.loads(found[0])["batch_time"]), found[1]
            except (ValueError, KeyError, TypeError) as error:
                raise OperatorError(
                    f"{lake.uri}/{self.key} is not what this loader wrote: restore or remove it"
                ) from error

    def take(self, now: datetime | None = None) -> datetime:
        """A time for one more batch: `now`, or just after the last batch where the host's clock is behind that.

        The time is used up before the batch exists, so it stays unique wherever the run is killed. Raises
        TransientError where another run has taken one since this object was made.
        """
        now = now or datetime.now(UTC)
        if now < self.last - timedelta(minutes=1):
            log.warning(
                "this host's clock is %d s behind the last batch, whose time the new batch gets: check the clock",
                (self.last - now).total_seconds(),
            )
        self.last = max(now, self.last + timedelta(microseconds=1))
        body = json.dumps({"batch_time": self.last.isoformat()}).encode()
        self.version = self.lake.write(self.key, body, expected=self.version)
        return self.last
