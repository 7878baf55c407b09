"""PostgreSQL's logical replication messages, protocol version 1, decoded into change events.

Pure: bytes in, events out. The format is that of the PostgreSQL documentation, "Logical Replication Message Formats".
Values are text as the server's output functions write them. They become JSON here and stay UTF-8 bytes from the server
to Parquet, because at a hundred thousand changes a second every object counts.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from json.encoder import encode_basestring
from struct import Struct

from loaders.errors import OperatorError
from loaders.users.events import POSTGRES_EPOCH, Event, lsn_text, source_prefix
from loaders.users.publication import RESNAPSHOT
from loaders.users.scrub import KEY

BEGIN = Struct(">xqqI")  # the commit record's LSN, the commit time (microseconds since 2000-01-01 UTC), the xid
COLUMN = Struct(">BI")  # what a column of a row holds and, when that is text, its length
read_column = COLUMN.unpack_from
COLUMN_TYPE = 8  # bytes of a column's type and modifier in a relation message; text needs neither
PADDING = bytes(COLUMN.size)  # lets a null in the last place be read like any other column

INSERT, UPDATE, DELETE, TRUNCATE, BEGINS, COMMITS, RELATION, TYPE, ORIGIN = b"IUDTBCRYO"
OPERATIONS = {INSERT: "c", UPDATE: "u", DELETE: "d", TRUNCATE: "t"}
NEW, OLD, OLD_KEY = b"NOK"  # which row follows: the new one, the old one whole, the old one's key
TEXT, NULL, UNCHANGED = b"tnu"  # unchanged: a TOASTed value that the server did not send

FULL = ord("f")  # the replica identity that is the whole row
HAS_KEY = b'"%b":"' % KEY.encode()  # never within a value: quotation marks are escaped there
ESCAPED = bytes([*range(0x20), *b'"\\'])  # what may not stand in a JSON string as it is


def decode(
    messages: Iterable[tuple[int, bytes]], *, relation_oid: int, database: str, start: int, end: int
) -> Iterator[Event]:
    """Yield the changes of one relation in the transactions with `start <= commit_lsn < end`, in commit order.

    `messages` are pairs of a change's own LSN and the message. Ends with them, or at the first transaction at or
    beyond `end`. `commit_lsn` is where the commit record starts. Raises OperatorError on a message it does not know.
    """
    oid = relation_oid.to_bytes(4, "big")
    wanted = False
    commit_lsn = committed_at = xid = change_seq = 0
    source = b""
    rows: dict[int, RowFormat] = {}
    is_keyed = False
    for lsn, message in messages:
        kind = message[0]
        if op := OPERATIONS.get(kind):
            if not wanted or (message[1:5] != oid and (kind != TRUNCATE or oid not in _truncated(message))):
                continue
            before = after = None
            if kind != TRUNCATE:
                message += PADDING
                position = 5
                if (row := message[position]) != NEW:
                    before, position = rows[row].read(message, position + 1)
                if kind != INSERT and not (is_keyed and (before is None or HAS_KEY in before)):
                    raise OperatorError(
                        f"changes from {lsn_text(commit_lsn)} on do not say by {KEY} which row they are of: the table "
                        "had another replica identity then. Nothing of the batch was landed. Make the key its identity "
                        f"again and begin a new epoch with a snapshot: {RESNAPSHOT}"
                    )
                if kind != DELETE:
                    after, position = rows[NEW].read(message, position + 1)
            yield Event(op, commit_lsn, change_seq, committed_at, before, after, b'%b%d,"lsn":%d}' % (source, xid, lsn))
            change_seq += 1
        elif kind == BEGINS:
            commit_lsn, committed_at, xid = BEGIN.unpack(message)
            if commit_lsn >= end:
                return
            wanted = commit_lsn >= start
            committed_at += POSTGRES_EPOCH
            change_seq = 0
        elif kind == RELATION:
            if message[1:5] == oid:
                schema, table, identity, columns = _relation(message)
                is_keyed = identity == FULL or (KEY, True) in columns  # which columns besides: see replica_identity
                source = source_prefix(database, schema, table)
                whole = RowFormat(columns)
                rows = {NEW: whole, OLD: whole, OLD_KEY: RowFormat(columns, key_only=True)}
        elif kind not in (COMMITS, TYPE, ORIGIN):
            raise OperatorError(
                f"the database sent a logical replication message that this loader does not know ({chr(kind)!r}): "
                "nothing of the batch was landed, a newer loader may know it"
            )


class RowFormat:
    """How rows of given columns become JSON objects: a template for each pattern of nulls, filled in one operation."""

    def __init__(self, columns: Sequence[tuple[str, bool]], *, key_only: bool = False) -> None:
        """`columns` are names, and whether each is in the replica identity; `key_only` leaves the others out."""
        self.labels = [encode_basestring(name).encode().replace(b"%", b"%%") for name, _ in columns]
        self.absent = [key_only and not is_key for _, is_key in columns]  # the server sends these as nulls
        self.columns = range(len(columns))
        self.full = self._template(())
        self.template = lru_cache(maxsize=1024)(self._template)

    def read(self, message: bytes, position: int) -> tuple[bytes, int]:
        """The row that starts at `position` as a JSON object, and where it ends. This is the hot loop."""
        position += 2  # the number of columns
        values = []
        gaps = ()
        for column in self.columns:
            kind, length = read_column(message, position)
            if kind == TEXT:
                position += 5
                values.append(message[position : (position := position + length)])
            else:
                position += 1
                gaps += ((column, kind),)
        text = b"".join(values)
        if len(text.translate(None, ESCAPED)) != len(text):
            values = [_escape(value) for value in values]
        return (self.template(gaps) if gaps else self.full) % tuple(values), position

    def _template(self, gaps: tuple[tuple[int, int], ...]) -> bytes:
        """The JSON object with a %b for each text; `gaps` are the columns that hold none, and what they hold."""
        kinds = dict(gaps)
        fields = []
        for column, label in enumerate(self.labels):
            kind = kinds.get(column, TEXT)
            if kind == TEXT:
                fields.append(label + b':"%b"')
            elif kind == NULL:
                if not self.absent[column]:
                    fields.append(label + b":null")
            elif kind != UNCHANGED:
                raise OperatorError(f"the database sent a column in a form that was not asked for ({chr(kind)!r})")
        return b"{" + b",".join(fields) + b"}"


def _escape(value: bytes) -> bytes:
    if len(value.translate(None, ESCAPED)) == len(value):
        return value
    return encode_basestring(str(value, "utf-8"))[1:-1].encode()


def _truncated(message: bytes) -> list[bytes]:
    """The oids of the relations that one statement truncated."""
    return [message[at : at + 4] for at in range(6, len(message), 4)]


def _relation(message: bytes) -> tuple[str, str, int, list[tuple[str, bool]]]:
    """Schema, table, the replica identity's kind, and the columns: names, and whether each is in the identity."""
    schema, position = _string(message, 5)
    table, position = _string(message, position)
    identity = message[position]
    position += 3  # and the number of columns
    columns = []
    while position < len(message):
        in_identity = bool(message[position] & 1)
        name, position = _string(message, position + 1)
        position += COLUMN_TYPE
        columns.append((name, in_identity))
    return schema, table, identity, columns


def _string(message: bytes, position: int) -> tuple[str, int]:
    """The null-terminated string at `position`, and where the next field starts."""
    end = message.index(0, position)
    return str(message[position:end], "utf-8"), end + 1
