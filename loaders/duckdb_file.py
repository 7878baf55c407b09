"""Opens the DuckDB file. One process may write it, or many may read it, so another one may have to be waited for."""

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loaders.errors import TransientError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

PATIENCE = 10.0  # seconds; dbt waits longer (DUCKDB_WAIT_SECONDS)
PAUSE = 0.25  # seconds between two tries
IN_USE = re.compile(r"is in use by process (\d+)")  # what the error below says
HELD = re.compile(r"Conflicting lock is held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")


def connect(
    path: Path | str, *, read_only: bool = False, patience: float | None = None, config: dict[str, Any] | None = None
) -> "DuckDBPyConnection":
    """Open the file; wait for at most `patience` (PATIENCE) seconds while another process has it open.

    Raises TransientError, which names that process, and duckdb.Error for everything else.
    """
    import duckdb  # here, since only dbt's environment has it

    patience = PATIENCE if patience is None else patience
    deadline = time.monotonic() + patience
    while True:
        try:
            return duckdb.connect(str(path), read_only=read_only, config=config or {})
        except duckdb.IOException as error:
            if "Could not set lock" not in str(error):
                raise
            if time.monotonic() >= deadline:
                held = HELD.search(str(error))
                holder = f"process {held['pid']} ({held['program']})" if held else "another process"
                raise TransientError(
                    f"{path} is in use by {holder}, also after {patience:.0f} s of waiting: "
                    "let it end or close its connection, then run again"
                ) from None
        time.sleep(PAUSE)
