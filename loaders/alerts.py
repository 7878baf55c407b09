"""The one notifier: tells people that something needs them, wherever ALERT_TARGET says.

Unset or `log`: a line of the log. `arn:aws:sns:…`: that SNS topic. `http(s)://…`: a webhook, which gets a POST of JSON.

An alert holds no personal value and no secret: its facts have names from a list, values without blanks (names, counts,
times, ids), and of an exception the class alone, since its text may quote rows.
"""

import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import requests

from loaders import http_environment
from loaders.errors import OperatorError, TransientError
from loaders.settings import Settings

log = logging.getLogger(__name__)

# How bad each kind is: an ERROR needs somebody now, a WARNING a look today.
KINDS = {
    "task_failed": logging.ERROR,
    "run_cut": logging.ERROR,
    "run_late": logging.ERROR,
    "model_failed": logging.ERROR,
    "test_failed": logging.ERROR,
    "source_stale": logging.ERROR,
    "slot_lag": logging.ERROR,
    "changes_missing": logging.ERROR,
    "lake_differs": logging.ERROR,
    "rows_rejected": logging.WARNING,
    "values_unreadable": logging.WARNING,
    "source_drifted": logging.WARNING,
    "test_warned": logging.WARNING,
    "trial": logging.WARNING,
}
FACTS = frozenset(
    (
        "dag_id", "task_id", "run_id", "try_number", "error", "last_success", "limit_minutes",
        "status", "failures", "max_loaded_at", "age_seconds", "slot_lag_bytes", "limit_bytes",
        "epoch", "from_lsn", "to_lsn", "from_time", "to_time",
        "missing", "extra", "different", "repeated", "columns",
    )
)  # fmt: skip
VALUE = re.compile(r"[\w.:+/-]{1,300}", re.ASCII)  # no blank, no @: neither a sentence nor an address
WITHHELD = "withheld"

TRIES = 3
TIMEOUT = 5.0  # seconds, to connect and between two bytes of an answer
BACKOFF = 0.5  # seconds, and twice that after the second try
BUDGET = 20.0  # seconds for one alert with all its tries: a target that drips or hangs keeps nobody longer
TOPIC = re.compile(r"arn:aws[a-z-]*:sns:([a-z0-9-]+):\d{12}:[\w-]{1,256}", re.ASCII)


@dataclass(frozen=True)
class Alert:
    """What happened (one of KINDS), to what (a name), and what is known of it (FACTS).

    A name that is no kind or no fact raises ValueError; a value that could be more than a name, a number or a time is
    withheld.
    """

    kind: str
    subject: str
    facts: Mapping[str, str | int | float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS or not self.facts.keys() <= FACTS:
            raise ValueError(f"an alert cannot be of kind {self.kind} with the facts {sorted(self.facts)}")
        object.__setattr__(self, "subject", _plain(self.subject))
        object.__setattr__(self, "facts", {name: _plain(value) for name, value in self.facts.items()})

    @property
    def level(self) -> int:
        return KINDS[self.kind]

    @property
    def text(self) -> str:
        """All of it in one line."""
        return ", ".join([f"{self.kind}: {self.subject}", *(f"{name}={value}" for name, value in self.facts.items())])

    @property
    def document(self) -> dict[str, Any]:
        """What SNS and webhooks get; `text` is what Slack and Teams show."""
        return {
            "text": f"lakehouse: {self.text}",
            "kind": self.kind,
            "severity": logging.getLevelName(self.level).lower(),
            "subject": self.subject,
            "facts": self.facts,
        }


def _plain(value: Any) -> str | int | float:
    if isinstance(value, int | float):
        return value
    return value if isinstance(value, str) and VALUE.fullmatch(value) else WITHHELD


def notify(settings: Settings, *alerts: Alert) -> bool:
    """Send the alerts in their order; False when one did not arrive, which is logged and never raised.

    What does not arrive stands in the log, so that it is not lost; once the target has failed, it is not asked again
    for the rest. Raises OperatorError for an ALERT_TARGET that is none (see `find_target`).
    """
    name, send = find_target(settings)
    arrived = True
    for alert in alerts:
        if arrived and send:
            try:
                _in_time(send, alert)
                continue
            except Exception as error:  # whatever it is: an alert must not fail the work that it tells of
                arrived = False
                log.error("no alert reaches %s (%s): check ALERT_TARGET", name, _cause(settings, error))
        log.log(alert.level, "alert: %s", alert.text)
    return arrived


@dataclass(frozen=True)
class Trial:
    """What `python -m loaders alert --test` says on stdout: where its alert arrived."""

    target: str


def trial(settings: Settings) -> Trial:
    """Send an alert that means nothing. Raises TransientError when it does not arrive, OperatorError as `notify`."""
    name, _ = find_target(settings)
    _check_environment(settings)
    if not notify(settings, Alert("trial", "alert_test")):
        raise TransientError(f"the alert did not reach {name}: the line above says why")
    return Trial(name)


Send = Callable[[Alert], None]


def find_target(settings: Settings) -> tuple[str, Send | None]:
    """What may be said of ALERT_TARGET, and what sends there (None for the log).

    Raises OperatorError when it is no target, without quoting it: a webhook's path is its password.
    """
    target = settings.alert_target or "log"
    if target == "log":
        return "the log", None
    if topic := TOPIC.fullmatch(target):
        return f"SNS topic {target.rpartition(':')[2]}", lambda alert: _publish(target, topic[1], alert)
    try:
        url = urlsplit(target)
        host, _ = url.hostname, url.port
        if url.scheme in ("http", "https") and host:
            return f"webhook on {host}", lambda alert: _post(target, alert)
    except ValueError:  # a port that is no number, brackets that hold no address
        pass
    raise OperatorError(
        "ALERT_TARGET is not a place for alerts: give log, the ARN of a standard SNS topic (arn:aws:sns:…) "
        "or a webhook's http(s) URL"
    )


def _in_time(send: Send, alert: Alert) -> None:
    """Send within BUDGET: TimeoutError after it, whatever the target does. The thread is left to end by itself."""
    sent: Future[None] = Future()

    def work() -> None:
        try:
            sent.set_result(send(alert))
        except Exception as error:
            sent.set_exception(error)

    Thread(target=work, daemon=True, name="alert").start()
    sent.result(BUDGET)


def _publish(topic: str, region: str, alert: Alert) -> None:
    import boto3  # here, since it would cost every start 0.4 s
    from botocore.config import Config

    retries = {"mode": "standard", "total_max_attempts": TRIES}
    config = Config(connect_timeout=TIMEOUT, read_timeout=TIMEOUT, retries=retries)
    client: Any = boto3.Session().client("sns", region_name=region, config=config)
    client.publish(TopicArn=topic, Subject=f"{alert.kind}: {alert.subject}"[:100], Message=json.dumps(alert.document))


class _WebhookError(Exception):
    """The webhook's answer was no 2xx."""


def _post(url: str, alert: Alert) -> None:
    """POST the document, again after a broken connection, a 5xx or a 429.

    Not by urllib3's Retry: it logs the URL's path, and waits for as long as an answer asks.
    """
    for attempt in range(1, TRIES + 1):
        try:
            with (
                _unlogged(),
                requests.post(url, json=alert.document, timeout=TIMEOUT, allow_redirects=False, stream=True) as answer,
            ):
                status = answer.status_code  # the body is left unread
            if status < 300:
                return
            failure: Exception = _WebhookError(f"answered {status}")
            may_pass = status >= 500 or status == 429
        except (requests.ConnectionError, requests.Timeout) as error:
            failure, may_pass = error, True
        if attempt == TRIES or not may_pass:
            raise failure
        time.sleep(BACKOFF * 2 ** (attempt - 1))


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keep urllib3 from logging requests, which it does with their path at level DEBUG."""

    def nothing(record: logging.LogRecord) -> bool:
        return False

    logger = logging.getLogger("urllib3.connectionpool")
    logger.addFilter(nothing)
    try:
        yield
    finally:
        logger.removeFilter(nothing)


def _check_environment(settings: Settings) -> None:
    """Raise OperatorError where the environment's proxy or certificates are wrong for the target."""
    target = settings.alert_target or "log"
    if TOPIC.fullmatch(target):
        http_environment.check_aws("sns")
    elif target != "log":
        http_environment.check(target)


def _cause(settings: Settings, error: Exception) -> str:
    try:
        _check_environment(settings)
    except OperatorError as wrong:
        return str(wrong)
    return _reason(error)


def _reason(error: Exception) -> str:
    """What may be said of a failure: its class, and the code of AWS or HTTP. Its text may hold the URL."""
    if isinstance(error, _WebhookError):
        return str(error)
    code = getattr(error, "response", None) or {}
    code = code.get("Error", {}).get("Code") if isinstance(code, dict) else None
    return f"{type(error).__name__} {code}" if code else type(error).__name__
