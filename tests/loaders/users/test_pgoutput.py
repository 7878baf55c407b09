"""The decoder on messages built by hand from the documentation's message formats."""

import json
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.errors import OperatorError
from loaders.users.events import Event
from loaders.users.pgoutput import decode

OID = 16_384
COLUMNS = (("id", True), ("nome", False), ('100% "útil"', False))
UNCHANGED = object()
BINARY = object()


def begin(lsn: int, microseconds: int = 0, xid: int = 700) -> bytes:
    return struct.pack(">cqqI", b"B", lsn, microseconds, xid)


def commit(lsn: int) -> bytes:
    return struct.pack(">cBqqq", b"C", 0, lsn, lsn + 48, 0)


def relation(columns: Sequence[tuple[str, bool]] = COLUMNS, oid: int = OID, table: str = "usuarios") -> bytes:
    body = struct.pack(">cI", b"R", oid) + b"public\0" + table.encode() + b"\0d" + struct.pack(">H", len(columns))
    for name, is_key in columns:
        body += struct.pack(">B", is_key) + name.encode() + b"\0" + struct.pack(">Ii", 25, -1)
    return body


def row(tag: bytes, *values: object) -> bytes:
    body = tag + struct.pack(">H", len(values))
    for value in values:
        if value is None:
            body += b"n"
        elif value is UNCHANGED:
            body += b"u"
        elif value is BINARY:
            body += b"b" + struct.pack(">I", 1) + b"x"
        else:
            body += b"t" + struct.pack(">I", len(value.encode())) + value.encode()
    return body


def change(kind: bytes, *rows: bytes, oid: int = OID) -> bytes:
    return struct.pack(">cI", kind, oid) + b"".join(rows)


def truncate(*oids: int) -> bytes:
    return struct.pack(f">cIB{len(oids)}I", b"T", len(oids), 0, *oids)


def decoded(*messages: bytes, start: int = 0, end: int = 1 << 62) -> list[Event]:
    numbered = list(enumerate(messages, start=1_000))
    return list(decode(numbered, relation_oid=OID, database="customer", start=start, end=end))


def one(*messages: bytes) -> Event:
    (event,) = decoded(begin(5), relation(), *messages, commit(5))
    return event


def test_an_insert_carries_its_transaction_and_its_source() -> None:
    (event,) = decoded(begin(5, microseconds=1, xid=701), relation(), change(b"I", row(b"N", "1", "Ana", None)))
    assert (event.op, event.commit_lsn, event.change_seq, event.before) == ("c", 5, 0, None)
    assert event.committed_at == 946_684_800_000_001  # 2000-01-01T00:00:00.000001Z
    assert json.loads(event.after) == {"id": "1", "nome": "Ana", '100% "útil"': None}
    assert json.loads(event.source) == {
        "db": "customer", "schema": "public", "table": "usuarios", "xid": 701, "lsn": 1_002,
    }  # fmt: skip


def test_a_plain_update_has_no_before() -> None:
    event = one(change(b"U", row(b"N", "1", "Ana", "x")))
    assert (event.op, event.before) == ("u", None)


def test_an_update_of_the_key_says_the_old_key_alone() -> None:
    event = one(change(b"U", row(b"K", "1", None, None), row(b"N", "2", "Ana", "x")))
    assert (json.loads(event.before), json.loads(event.after)["id"]) == ({"id": "1"}, "2")


def test_a_whole_old_row_is_kept_with_its_nulls() -> None:
    event = one(change(b"U", row(b"O", "1", None, "x"), row(b"N", "1", "Ana", "x")))
    assert json.loads(event.before) == {"id": "1", "nome": None, '100% "útil"': "x"}


def test_a_delete_has_no_after() -> None:
    event = one(change(b"D", row(b"K", "1", None, None)))
    assert (event.op, json.loads(event.before), event.after) == ("d", {"id": "1"}, None)


def test_an_unchanged_toasted_value_is_a_missing_key_and_not_null() -> None:
    assert json.loads(one(change(b"U", row(b"N", "1", UNCHANGED, None))).after) == {"id": "1", '100% "útil"': None}


def test_a_truncate_of_several_tables_counts_when_ours_is_among_them() -> None:
    assert one(truncate(1, OID, 2))[:3] == ("t", 5, 0)
    assert decoded(begin(5), relation(), truncate(1, 2)) == []


def test_other_relations_are_left_out_and_not_counted() -> None:
    other = relation((("x", True),), oid=9, table="pedidos")
    first, second = decoded(
        begin(5), other, change(b"I", row(b"N", "1"), oid=9), relation(), change(b"I", row(b"N", "1", "a", "b")),
        change(b"D", row(b"K", "1"), oid=9), change(b"D", row(b"K", "1", None, None)),
    )  # fmt: skip
    assert (first.op, first.change_seq, second.op, second.change_seq) == ("c", 0, "d", 1)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ((("id", False), ("email", True)), change(b"D", row(b"K", None, "a@example.com"))),
        ((("id", False), ("email", True)), change(b"U", row(b"N", "2", "a@example.com"))),  # its key may have moved
        ((("id", False), ("email", False)), change(b"D", row(b"K", None, None))),
        # The table's identity is the key, that of the partition is not
        ((("id", True), ("email", False)), change(b"D", row(b"K", None, "a@example.com"))),
        ((("id", True), ("email", False)), change(b"U", row(b"O", None, '"id":"1"'), row(b"N", "2", "x"))),
    ],
)
def test_a_change_that_does_not_name_its_row_by_the_key_stops_loudly(
    columns: Sequence[tuple[str, bool]], message: bytes
) -> None:
    """Change-data faults A6. Inserts, and other transactions' changes, are not concerned."""
    decoded(begin(5), relation(columns), change(b"I", row(b"N", "1", "x")), commit(5))
    decoded(begin(5), relation(columns), message, commit(5), start=6)
    with pytest.raises(OperatorError, match="do not say by id which row they are of"):
        decoded(begin(5), relation(columns), message)


def test_a_relation_message_changes_how_the_next_rows_are_read() -> None:
    old, new = (("id", True), ("nome", False)), (("id", True), ("nome_completo", False), ("apelido", False))
    before, after = decoded(
        begin(5), relation(old), change(b"I", row(b"N", "1", "Ana")),
        relation(new), change(b"I", row(b"N", "2", "Bia", None)),
    )  # fmt: skip
    assert json.loads(before.after) == {"id": "1", "nome": "Ana"}
    assert json.loads(after.after) == {"id": "2", "nome_completo": "Bia", "apelido": None}


def test_only_transactions_from_start_to_before_end_count_and_the_rest_is_not_even_read() -> None:
    insert = change(b"I", row(b"N", "1", "a", "b"))
    messages = [relation()]
    for lsn in (4, 5, 6, 7):
        messages += [begin(lsn), insert, insert, commit(lsn)]
    events = decoded(*messages, b"?unknown", start=5, end=7)
    assert [(event.commit_lsn, event.change_seq) for event in events] == [(5, 0), (5, 1), (6, 0), (6, 1)]


def test_types_and_origins_say_nothing_about_rows() -> None:
    assert decoded(begin(5), b"Oorigin", b"Y" + bytes(8), commit(5)) == []


@pytest.mark.parametrize("message", [b"M" + bytes(20), b"S" + bytes(5), b"\xff"])
def test_an_unknown_message_stops_loudly(message: bytes) -> None:
    with pytest.raises(OperatorError, match="does not know"):
        decoded(begin(5), relation(), message)


def test_a_binary_value_stops_loudly() -> None:
    with pytest.raises(OperatorError, match="not asked for"):
        one(change(b"I", row(b"N", "1", BINARY, None)))


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
names = st.lists(texts.filter(bool), min_size=1, max_size=6, unique=True)


@given(st.data(), names)
def test_any_row_is_valid_json_with_the_very_same_texts(data: st.DataObject, columns: list[str]) -> None:
    values = [data.draw(st.none() | texts | st.just(UNCHANGED)) for _ in columns]
    (event,) = decoded(begin(1), relation([(name, False) for name in columns]), change(b"I", row(b"N", *values)))
    sent = {name: value for name, value in zip(columns, values, strict=True) if value is not UNCHANGED}
    assert json.loads(event.after) == sent
