"""Takes a person's values out of change events: of `before` and `after` the key stays, so that order and shape do.

`after` becomes `{"erased":true,"id":"7"}`: staging knows by its beginning that it has no values. A document that
cannot be parsed stays one that cannot. To whom an event belongs is said by its ids: one that moves a row has two.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from loaders.ledger import Ledger
from loaders.users.events import Event

KEY = "id"
# What the loader writes begins with the key, the table's first column. Also RE2's syntax: pyarrow matches it too.
BEGINNING = r'^\{(?:"erased":true,)?"id": ?"(?P<id>0|-?[1-9][0-9]{0,18})"[,}]'
CUT = b'{"erased":true'  # for what was no JSON object: it must not become one
_beginning = re.compile(BEGINNING.encode())
_digits = re.compile(r"-?[0-9]+")
_day = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_mention = re.compile(rb"(?i)\bid\b[^0-9a-z]{0,6}[a-z_]*(-?[0-9]+)")  # of an id, in text that is no JSON
BIGINT = range(-(2**63), 2**63)


def events(changes: Iterator[Event], ledger: Ledger) -> Iterator[Event]:
    """The same events, those of people in the ledger without their values."""
    for event in changes:
        if any(user_id in ledger for user_id in ids(event.before) | ids(event.after)):
            event = event._replace(before=scrubbed(event.before), after=scrubbed(event.after, mark=True))
        yield event


def ids(document: bytes | None) -> set[str]:
    """The user ids that a document names, in decimal: one, unless it is broken."""
    if document is None:
        return set()
    if found := _beginning.match(document):
        return {found["id"].decode()}
    row = _parsed(document)
    mentions = _digits.findall(str(row[KEY])) if KEY in row else [text.decode() for text in _mention.findall(document)]
    return {str(int(text)) for text in mentions if len(text) < 30 and int(text) in BIGINT}


def scrubbed(document: bytes | None, *, mark: bool = False) -> bytes | None:
    """The document without values; the same one where it has none. `mark`: it says so itself."""
    if document is None:
        return None
    row = _parsed(document)
    if not row and document.strip() != b"{}":
        return CUT
    skeleton = {"erased": True} if mark else {}
    if _digits.fullmatch(str(row.get(KEY))):
        skeleton[KEY] = row[KEY]
    return document if row == skeleton else json.dumps(skeleton, separators=(",", ":")).encode()


def telling_values(document: bytes | None) -> Iterator[str]:
    """Of the texts that `scrubbed` takes out those that are hardly anyone else's, to search for: addresses, numbers."""
    for name, value in _parsed(document or b"").items():
        if name != KEY and isinstance(value, str) and ("@" in value or len(re.findall("[0-9]", value)) >= 8):
            yield from (line.strip() for line in value.splitlines() if not _day.match(line))


def _parsed(document: bytes) -> dict[str, Any]:
    try:
        row = json.loads(document)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}
