"""Ask the Disney API for pages, politely, and take the answers apart without touching the records' text."""

import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from loaders import http_environment
from loaders.errors import OperatorError, TransientError

USER_AGENT = f"lakehouse-loader/0.1 (snapshots of /character for a data lake) python-requests/{requests.__version__}"
TRIES = 5  # of one page
TRY_AGAIN = frozenset((408, 425, 429, *range(500, 600)))
REFUSED_FOR_NOW = frozenset((401, 403, 451))  # a firewall's or a rate limit's: the API itself asks for no login
BYTE_ORDER_MARK = "\ufeff"
MAX_BODY = 128 * 1024**2  # bytes; the whole list is 4 MB today
MAX_PAGES = 100_000

WRONG_URL = (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL, requests.exceptions.MissingSchema)
DECODER = json.JSONDecoder()
SIGN = re.compile(r"[ \t\r\n]*([\[\]{}:,])[ \t\r\n]*")


@dataclass(frozen=True)
class Page:
    """One answer: each record's text as it stands in the body, and the `_id` of those that have one."""

    url: str
    total_pages: int
    payloads: list[str]
    ids: list[int | str]


class _PageError(Exception):
    """A page could not be had this time. The API may have said how many seconds to wait."""

    def __init__(self, problem: str, retry_after: float = 0.0) -> None:
        super().__init__(problem)
        self.retry_after = retry_after


class Client:
    """Gives pages to several threads, which all hold back when one of them fails or is told to wait.

    Raises OperatorError where the environment's proxy or certificates are wrong.

    Retries are our own, not urllib3's: those know neither a spoilt body nor the other threads nor the end of the run.
    """

    def __init__(self, api_url: str, connections: int, *, timeout: float, budget: float, backoff: float) -> None:
        http_environment.check(api_url)
        self.api_url = api_url
        self.timeout = timeout
        self.backoff = backoff
        self.not_before = time.monotonic()
        self.why = ""
        self.deadline = self.not_before + budget
        self.closed = threading.Event()
        self.session = requests.Session()
        self.session.headers["User-Agent"] = USER_AGENT
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(pool_maxsize=connections))

    def close(self) -> None:
        """Drop the connections and send home the threads that wait."""
        self.closed.set()
        self.session.close()

    def page(self, number: int, size: int) -> Page:
        """One page, after at most TRIES tries; TransientError when they fail or take too long."""
        # Never the answers' own `nextPage`: it says http:// and drops parameters.
        url = f"{self.api_url}/character?page={number}&pageSize={size}"
        problem = ""
        for attempt in range(TRIES):
            self._wait()
            try:
                return read_page(url, self._get(url))
            except _PageError as error:
                problem = str(error)
                self.postpone(max(error.retry_after, self.backoff * 2**attempt), problem)
        raise TransientError(f"{url}: {problem} ({TRIES} tries)")

    def postpone(self, seconds: float, why: str) -> None:
        """Let no thread ask before so many seconds have passed."""
        self.not_before, self.why = max((self.not_before, self.why), (time.monotonic() + seconds, why))

    def _wait(self) -> None:
        while (pause := self.not_before - time.monotonic()) > 0:
            if self.not_before > self.deadline:
                raise TransientError(f"the Disney API wants {pause:.0f} s of rest, more than this run has: {self.why}")
            if self.closed.wait(pause):
                raise TransientError("the crawl was given up")

    def _get(self, url: str) -> bytes:
        """The whole body of a 200. The timeout is for all of it, not only between two of its bytes."""
        until = min(time.monotonic() + self.timeout, self.deadline)
        left = until - time.monotonic()
        if left <= 0:
            raise TransientError("the Disney API is too slow for the time that a run has")
        try:
            with self.session.get(url, timeout=left, stream=True) as answer:
                if answer.status_code in TRY_AGAIN:
                    raise _PageError(f"answered {answer.status_code}", _retry_after(answer))
                if answer.status_code in REFUSED_FOR_NOW:
                    raise _PageError(
                        f"answered {answer.status_code}, as firewalls and rate limits do: it refuses us for now",
                        _retry_after(answer),
                    )
                if answer.status_code == 407:
                    raise OperatorError("the proxy asks for a login: put it into HTTP_PROXY or HTTPS_PROXY")
                if answer.status_code != 200:
                    raise OperatorError(f"{url} answered {answer.status_code}: check DISNEY_API_URL")
                return b"".join(_chunks(answer, until))
        except WRONG_URL as error:
            raise OperatorError(f"DISNEY_API_URL cannot be asked: {error}") from error
        except requests.exceptions.ProxyError as error:
            if "407" in str(error):
                raise OperatorError("the proxy asks for a login: put it into HTTP_PROXY or HTTPS_PROXY") from None
            raise _PageError("the proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names does not answer") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            if http_environment.is_not_trusted(error):
                raise OperatorError(
                    f"{url} has a certificate that nobody trusted has signed: "
                    "name your authority's file in REQUESTS_CA_BUNDLE (SSL_CERT_FILE is not read)"
                ) from None
            raise _PageError(f"{type(error).__name__}: {error}") from error


def _chunks(answer: requests.Response, until: float) -> Iterator[bytes]:
    size = 0
    while chunk := answer.raw.read1(1 << 16, decode_content=True):
        size += len(chunk)
        if size > MAX_BODY:
            raise TransientError(f"{answer.url} answers more than {MAX_BODY} bytes: not believed")
        if time.monotonic() > until:
            raise _PageError("the answer took too long")
        yield chunk


def _retry_after(answer: requests.Response) -> float:
    """How many seconds the answer asks to wait, by number or by date (RFC 9110, Retry-After); 0 when it does not."""
    try:
        return urllib3.Retry().parse_retry_after(answer.headers.get("Retry-After", "0"))
    except urllib3.exceptions.InvalidHeader:
        return 0.0


def read_page(url: str, body: bytes) -> Page:
    """Take a body apart; raises _PageError when it is not a page, or not all of one."""
    try:
        info, records = parse_envelope(body.decode().removeprefix(BYTE_ORDER_MARK))
        total_pages = int(info["totalPages"])
        if info["count"] != len(records) or not 0 <= total_pages <= MAX_PAGES:
            raise ValueError("counts that cannot be")
        return Page(
            url,
            total_pages,
            [payload for payload, _ in records],
            [identity for _, identity in records if identity is not None],
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        what = ", but a web page, as of a firewall or an outage" if body.lstrip().startswith(b"<") else ""
        raise _PageError(f"its {len(body)} bytes are not a page of characters{what}") from error


def parse_envelope(text: str) -> tuple[Any, list[tuple[str, int | str | None]]]:
    """`info`, and each record of `data` as its exact text and its `_id`; raises ValueError for what is not JSON.

    `data` is a list of records, or the record itself where there is exactly one. Python's json has no way to ask for
    the text of a value, so the two outer levels are walked here and it decodes what they hold.
    """
    info, records = None, None
    sign, at = _sign(text, 0, "{")
    while sign != "}":
        key, at = DECODER.raw_decode(text, at)
        _, at = _sign(text, at, ":")
        if key == "data" and text.startswith("[", at):
            records, at = _records(text, at)
        else:
            start = at
            value, at = DECODER.raw_decode(text, start)
            if key == "data" and isinstance(value, dict):
                records = [(text[start:at], _identity(value))]
            elif key == "info":
                info = value
        sign, at = _sign(text, at, ",}")
    if info is None or records is None or at < len(text):
        raise ValueError("no envelope of the Disney API")
    return info, records


def _records(text: str, at: int) -> tuple[list[tuple[str, int | str | None]], int]:
    """The records of the array at this offset, and the offset after it."""
    records = []
    sign, at = _sign(text, at, "[")
    if text.startswith("]", at):
        return records, at + 1
    while sign != "]":
        value, end = DECODER.raw_decode(text, at)
        records.append((text[at:end], _identity(value)))
        sign, at = _sign(text, end, ",]")
    return records, at


def _identity(record: Any) -> int | str | None:
    """A record's `_id`. Raw takes any record: staging is what sets aside those without a sound one."""
    identity = record.get("_id") if isinstance(record, dict) else None
    return identity if isinstance(identity, int | str) else None


def _sign(text: str, at: int, allowed: str) -> tuple[str, int]:
    """The next sign of JSON's grammar, which must be one of these, and the offset of what follows it."""
    match = SIGN.match(text, at)
    if not match or match[1] not in allowed:
        raise ValueError(f"no {allowed} at offset {at}")
    return match[1], match.end()
