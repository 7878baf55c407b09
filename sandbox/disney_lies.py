"""What the stand-in of the Disney API can lie about, and how a lie is written.

A lie is written `KIND[=VALUE][:FIRST[-[LAST]]]`, where FIRST and LAST number the requests since the lies were told:
`503` lies always, `503:2` to the second request, `slow=3:2-4` three times, `html:5-` from the fifth on.
"""

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Self

from sandbox.characters import characters


@dataclass
class Answer:
    """An answer on its way out: the lies work first on its page, then on its envelope, then on how it is sent."""

    records: list[Any]
    number: int
    size: int
    data: list[Any]
    info: dict[str, Any]
    envelope: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json; charset=utf-8"})
    body: bytes = b""
    sent: int | None = None  # so many bytes of the body are really sent; 0: not even the head; None: all
    pause: float = 0.0  # seconds before each byte of the body


Effect = Callable[[Answer, float | None], None]


# -- The catalogue changes before the answer is made, and stays changed.


def _insert(records: list[Any]) -> None:
    records[:0] = new_characters(records, 1, seed=len(records))


def _remove(records: list[Any]) -> None:
    del records[:1]


def _replace(records: list[Any]) -> None:
    """One in at the front, one out at the end: every page shifts, and no count tells."""
    _insert(records)
    del records[-1]


def _reorder(records: list[Any]) -> None:
    """The last record moves to the front: every page shifts, and the set of records stays the same."""
    records.insert(0, records.pop())


CATALOGUE_LIES = {"insert": _insert, "remove": _remove, "replace": _replace, "reorder": _reorder}


def new_characters(records: list[Any], count: int, *, seed: int) -> list[Any]:
    """Characters whose ids are above those of `records`."""
    top = max((record["_id"] for record in records), default=0)
    return [record | {"_id": top + number} for number, record in enumerate(characters(count, seed), start=1)]


# -- One page is not what it says.


def _repeat(answer: Answer, value: float | None) -> None:
    """The page before it comes again."""
    start = max(answer.number - 2, 0) * answer.size
    answer.data = answer.records[start : start + answer.size]


def _stale(answer: Answer, value: float | None) -> None:
    """Pages after the first come from a state without the first record: each is right, together they lose one."""
    if answer.number > 1:
        start = (answer.number - 1) * answer.size + 1
        answer.data = answer.records[start : start + answer.size]


def _empty_last(answer: Answer, value: float | None) -> None:
    if answer.number == answer.info["totalPages"]:
        answer.data = []


def _empty(answer: Answer, value: float | None) -> None:
    answer.data, answer.info["totalPages"] = [], 0


def _duplicate(answer: Answer, value: float | None) -> None:
    answer.data[-1:] = answer.data[:1]


def _drop(answer: Answer, value: float | None) -> None:
    answer.data = answer.data[:-1]


def _extra_page(answer: Answer, value: float | None) -> None:
    answer.info["totalPages"] += 1


def _fewer_pages(answer: Answer, value: float | None) -> None:
    answer.info["totalPages"] -= 1


def _no_id(answer: Answer, value: float | None) -> None:
    answer.data = [{key: text for key, text in record.items() if key != "_id"} for record in answer.data]


def _no_object(answer: Answer, value: float | None) -> None:
    answer.data = ["not an object", *answer.data[1:]]


PAGE_LIES: dict[str, Effect] = {
    "repeat": _repeat,
    "stale": _stale,
    "empty-last": _empty_last,
    "empty": _empty,
    "duplicate": _duplicate,
    "drop": _drop,
    "extra-page": _extra_page,
    "fewer-pages": _fewer_pages,
    "no-id": _no_id,
    "no-object": _no_object,
}


# -- The envelope contradicts what it holds.


def _wrong_count(answer: Answer, value: float | None) -> None:
    answer.info["count"] += 1


def _data_null(answer: Answer, value: float | None) -> None:
    answer.envelope["data"] = None


def _no_info(answer: Answer, value: float | None) -> None:
    del answer.envelope["info"]


ENVELOPE_LIES: dict[str, Effect] = {"wrong-count": _wrong_count, "data-null": _data_null, "no-info": _no_info}


# -- The answer is refused, spoilt or late on its way.


def _status(status: int) -> Effect:
    def refuse(answer: Answer, value: float | None) -> None:
        answer.status, answer.body = status, b'{"error":"made up"}'

    return refuse


def _too_many_seconds(answer: Answer, value: float | None) -> None:
    """429 with `Retry-After: VALUE`."""
    answer.status, answer.body = 429, b"Too many requests"
    answer.headers["Retry-After"] = f"{value or 1:.0f}"


def _too_many_date(answer: Answer, value: float | None) -> None:
    """429 with a Retry-After date, VALUE seconds away; such a date has whole seconds."""
    answer.status, answer.body = 429, b"Too many requests"
    answer.headers["Retry-After"] = format_datetime(datetime.now(UTC) + timedelta(seconds=value or 1), usegmt=True)


def _html(answer: Answer, value: float | None) -> None:
    answer.headers["Content-Type"] = "text/html"
    answer.body = b"<!doctype html><title>Application error</title><p>Please try again later."


def _truncated(answer: Answer, value: float | None) -> None:
    """Half of what Content-Length promises."""
    answer.sent = len(answer.body) // 2


def _cut_json(answer: Answer, value: float | None) -> None:
    answer.body = answer.body[: len(answer.body) // 2]


def _invalid_utf8(answer: Answer, value: float | None) -> None:
    answer.body = answer.body.replace(b'"name":"', b'"name":"\xff', 1)


def _byte_order_mark(answer: Answer, value: float | None) -> None:
    """What RFC 8259 forbids to send, and allows a reader to skip."""
    answer.body = b"\xef\xbb\xbf" + answer.body


def _content_type(answer: Answer, value: float | None) -> None:
    """Only the header is wrong."""
    answer.headers["Content-Type"] = "text/plain"


def _slow(answer: Answer, value: float | None) -> None:
    """Nothing at all for VALUE seconds."""
    time.sleep(value or 1)


def _drip(answer: Answer, value: float | None) -> None:
    """VALUE seconds before each byte."""
    answer.pause = value or 0.05


def _disconnect(answer: Answer, value: float | None) -> None:
    answer.sent = 0


SENDING_LIES: dict[str, Effect] = {
    "429": _too_many_seconds,
    "429-date": _too_many_date,
    "403": _status(403),
    "404": _status(404),
    "500": _status(500),
    "503": _status(503),
    "html": _html,
    "truncated": _truncated,
    "cut-json": _cut_json,
    "invalid-utf8": _invalid_utf8,
    "bom": _byte_order_mark,
    "content-type": _content_type,
    "slow": _slow,
    "drip": _drip,
    "disconnect": _disconnect,
}

KINDS = (*CATALOGUE_LIES, *PAGE_LIES, *ENVELOPE_LIES, *SENDING_LIES)


@dataclass(frozen=True)
class Lie:
    """One kind of lie, told to the requests `first` to `last` (None: to all that follow)."""

    kind: str
    value: float | None = None
    first: int = 1
    last: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `KIND[=VALUE][:FIRST[-[LAST]]]`; ValueError when it is none."""
        match = re.fullmatch(r"([\w-]+)(?:=([\d.]+))?(?::(\d+)(?:(-)(\d*))?)?", text)
        if not match or match[1] not in KINDS:
            raise ValueError(f"{text!r}: write KIND[=VALUE][:FIRST[-[LAST]]], with a KIND of {', '.join(KINDS)}")
        kind, value, first, dash, last = match.groups()
        return cls(
            kind,
            float(value) if value else None,
            int(first or 1),
            int(last) if last else int(first) if first and not dash else None,
        )

    def meets(self, turn: int) -> bool:
        """Whether the request of this number is lied to."""
        return self.first <= turn <= (self.last or turn)


def apply(lies: Iterable[Lie], effects: dict[str, Effect], answer: Answer) -> None:
    """Let those of the lies work that these effects know."""
    for lie in lies:
        if lie.kind in effects:
            effects[lie.kind](answer, lie.value)
