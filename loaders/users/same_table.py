"""A lake holds one table of the customer's: a snapshot of another one would make a deleted row of each row in it."""

import json
import logging

import pyarrow.parquet as pq

from loaders.errors import OperatorError
from loaders.lake import Lake
from loaders.raw import USER_CHANGES
from loaders.users import shape
from loaders.users.publication import SourceTable, qualified
from loaders.users.server import Server
from loaders.users.state import State

log = logging.getLogger(__name__)


def check(lake: Lake, state: State | None, table: SourceTable, server: Server) -> None:
    """Raise OperatorError when the lake holds another table than CUSTOMER_TABLE names.

    A table that was renamed is the same. Where the state does not say which table it is, the last event in raw does.
    """
    landed = state.table if state and state.table else _last_landed(lake)
    if landed in (None, table.qualified_name):
        return
    oid = shape.from_state(state.published_as)["table"] if state and state.published_as else None
    # An epoch whose snapshot has only begun does not know its server.
    same_database = (None, None), (server.system_identifier, server.database)
    if oid == table.oid and (state.system_identifier, state.database) in same_database:
        log.warning("the table %s is called %s now", landed, table.qualified_name)
        return
    raise OperatorError(
        f"CUSTOMER_TABLE is {table.qualified_name}, but this lake holds {landed}: a snapshot of {table.qualified_name} "
        f"would mark every user in the lake as deleted. Set CUSTOMER_TABLE to {landed} again, or give "
        f"{table.qualified_name} a lake of its own (LAKE_URI, VAULT_URI and DUCKDB_PATH). Nothing was changed"
    )


def _last_landed(lake: Lake) -> str | None:
    """The table that the last event in raw is of."""
    files = [file for day in USER_CHANGES.files(lake).values() for file in day]
    if not files:
        return None
    with lake.local_file(max(files).key) as path, pq.ParquetFile(path) as file:
        events = file.read_row_group(file.num_row_groups - 1, columns=["source"])
    source = json.loads(events["source"][-1].as_py())
    return qualified(source["schema"], source["table"])
