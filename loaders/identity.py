"""The lake's own identity: a random id, written once, that names what belongs to this lake outside of it."""

import json
import secrets

from loaders.errors import TransientError
from loaders.lake import Lake

KEY = "state/lake.json"


def lake_id(lake: Lake) -> str:
    """The lake's id, 16 hexadecimal digits; it is created where there is none."""
    found = lake.read(KEY)
    if found is None:
        body = json.dumps({"id": secrets.token_hex(8)}).encode()
        try:
            lake.write(KEY, body, expected=None)
        except TransientError:  # another command was first
            found = lake.read(KEY)
            if found is None:
                raise
        else:
            found = body, ""
    identity: str = json.loads(found[0])["id"]
    return identity
