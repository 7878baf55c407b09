"""Alerts arrive where ALERT_TARGET says or stand in the log; they fail no caller, and quote no value and no secret."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest

from loaders import alerts, watch
from loaders.alerts import Alert, notify
from loaders.errors import OperatorError, TransientError
from loaders.raw import Landed
from loaders.settings import Settings, from_environment

UNTOLD = "B0B-of-the-webhook"
LAG = Alert("slot_lag", "customer/usuarios", {"slot_lag_bytes": 2_000_000_000, "limit_bytes": 1 << 30})
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


class Webhook:
    """A server on 127.0.0.1 that answers as it is told, once each: a status, or one of "close", "hang" and "drip"."""

    def __init__(self) -> None:
        self.answers: list[int | str] = []
        self.received: list[dict] = []
        self.ended = threading.Event()
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                webhook.received.append({"path": self.path, "type": self.headers["Content-Type"], "body": body})
                answer = webhook.answers.pop(0) if webhook.answers else 200
                if answer == "close":
                    self.close_connection = True
                elif answer == "hang":
                    webhook.ended.wait(60)
                elif answer == "drip":  # a header that never ends, fast enough for a timeout between two bytes
                    while not webhook.ended.wait(0.05):
                        self.wfile.write(b"H")
                else:
                    self.send_response(answer)
                    self.send_header("Location", "/elsewhere")
                    self.send_header("Retry-After", "3600")
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # a client that has given up
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/{UNTOLD}?token={UNTOLD}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def documents(self) -> list[dict]:
        return [json.loads(request["body"]) for request in self.received]


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    monkeypatch.setattr(alerts, "BACKOFF", 0.01)
    webhook = Webhook()
    yield webhook
    webhook.close()


@pytest.fixture(autouse=True)
def everything_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a test does, at the most talkative level: no line of any library holds the secret."""
    caplog.set_level(logging.DEBUG)
    yield
    logged = "\n".join(map(logging.Formatter().format, caplog.get_records("call")))
    assert UNTOLD not in logged


def settings(target: str | None = None) -> Settings:
    return from_environment({"ALERT_TARGET": target} if target else {})


def levels(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [record.levelname for record in caplog.records if text in record.getMessage()]


# -- The log.


@pytest.mark.parametrize("target", [None, "log"])
def test_alerts_stand_in_the_log_by_their_severity(target: str | None, caplog: pytest.LogCaptureFixture) -> None:
    assert notify(settings(target), LAG, Alert("rows_rejected", "test.lakehouse.rejected_users", {"failures": 2}))
    assert levels(caplog, "slot_lag: customer/usuarios, slot_lag_bytes=2000000000, limit_bytes=1073741824") == ["ERROR"]
    assert levels(caplog, "rows_rejected: test.lakehouse.rejected_users, failures=2") == ["WARNING"]


# -- Webhooks.


def test_a_webhook_gets_the_document(webhook: Webhook) -> None:
    assert notify(settings(webhook.url), LAG)
    (request,) = webhook.received
    assert request["path"] == f"/services/{UNTOLD}?token={UNTOLD}"
    assert request["type"] == "application/json"
    assert webhook.documents == [
        {
            "text": "lakehouse: slot_lag: customer/usuarios, slot_lag_bytes=2000000000, limit_bytes=1073741824",
            "kind": "slot_lag",
            "severity": "error",
            "subject": "customer/usuarios",
            "facts": {"slot_lag_bytes": 2000000000, "limit_bytes": 1073741824},
        }
    ]


@pytest.mark.parametrize("failures", [[500], [503, 502], [429], ["close"], ["close", 500], ["hang"]])
def test_a_failure_that_passes_is_tried_again(
    failures: list, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "TIMEOUT", 1.0 if "hang" in failures else 10.0)
    webhook.answers = failures.copy()
    assert notify(settings(webhook.url), LAG)
    assert len(webhook.received) == len(failures) + 1


@pytest.mark.parametrize(
    ("answers", "tries", "reason"),
    [
        ([500] * 9, 3, "answered 500"),
        ([503] * 9, 3, "answered 503"),  # which asks for an hour's patience
        (["close"] * 9, 3, "ConnectionError"),
        (["hang"] * 9, 3, "ReadTimeout"),
        ([404], 1, "answered 404"),
        ([302], 1, "answered 302"),  # a redirected POST would arrive as a GET
    ],
)
def test_a_failure_that_stays_is_logged_beside_the_alert(
    answers: list,
    tries: int,
    reason: str,
    webhook: Webhook,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(alerts, "TIMEOUT", 1.0 if "hang" in answers else 10.0)
    webhook.answers = answers
    assert notify(settings(webhook.url), LAG) is False
    assert len(webhook.received) == tries
    assert levels(caplog, f"no alert reaches webhook on 127.0.0.1 ({reason})") == ["ERROR"]
    assert levels(caplog, "alert: slot_lag: customer/usuarios") == ["ERROR"]


def test_a_server_that_refuses(webhook: Webhook, caplog: pytest.LogCaptureFixture) -> None:
    webhook.close()
    assert notify(settings(webhook.url), LAG) is False
    assert levels(caplog, "no alert reaches webhook on 127.0.0.1 (ConnectionError)") == ["ERROR"]


def test_an_answer_that_never_ends_keeps_nobody(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(alerts, "BUDGET", 0.5)
    webhook.answers = ["drip"]
    started = time.monotonic()
    assert notify(settings(webhook.url), LAG) is False
    assert time.monotonic() - started < 60
    assert levels(caplog, "(TimeoutError)") == ["ERROR"]


def test_a_dead_target_is_asked_once_and_every_alert_stands_in_the_log(
    webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    webhook.answers = [200, 404]
    models = [Alert("model_failed", f"model.lakehouse.m{number}") for number in range(4)]
    assert notify(settings(webhook.url), *models) is False
    assert [document["subject"] for document in webhook.documents] == ["model.lakehouse.m0", "model.lakehouse.m1"]
    assert [name for name in range(4) if levels(caplog, f"alert: model_failed: model.lakehouse.m{name}")] == [1, 2, 3]


# -- SNS.


def test_sns_gets_the_document(aws: None) -> None:
    topic = boto3.client("sns").create_topic(Name="lakehouse-alerts")["TopicArn"]
    sqs = boto3.client("sqs")
    queue = sqs.create_queue(QueueName="alerts")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    boto3.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    assert notify(settings(topic), LAG)
    (message,) = sqs.receive_message(QueueUrl=queue)["Messages"]
    envelope = json.loads(message["Body"])
    assert envelope["Subject"] == "slot_lag: customer/usuarios"
    assert json.loads(envelope["Message"]) == LAG.document


def test_a_topic_that_is_not_there(aws: None, caplog: pytest.LogCaptureFixture) -> None:
    assert notify(settings("arn:aws:sns:us-east-1:123456789012:nobody"), LAG) is False
    (line,) = [record.getMessage() for record in caplog.records if "no alert reaches" in record.getMessage()]
    assert "SNS topic nobody (NotFound" in line
    assert levels(caplog, "alert: slot_lag: customer/usuarios") == ["ERROR"]


def test_sns_without_credentials_does_not_fail_the_caller(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert notify(settings("arn:aws:sns:us-east-1:123456789012:alerts"), LAG) is False
    assert levels(caplog, "SNS topic alerts (NoCredentialsError)") == ["ERROR"]


# -- Wrong targets.


@pytest.mark.parametrize(
    "target",
    [
        f"htps://hooks.example/{UNTOLD}",
        f"https:///{UNTOLD}",
        f"https://hooks.example:{UNTOLD}/",
        f"http://[::{UNTOLD}",
        f"hooks.example/{UNTOLD}",
        f"{UNTOLD}@example.com",
        "arn:aws:sqs:us-east-1:123456789012:alerts",
        "arn:aws:sns:us-east-1:123456789012:alerts.fifo",
        "arn:aws:sns:us-east-1:alerts",
    ],
)
def test_a_target_that_is_none_needs_a_person_and_is_not_quoted(target: str) -> None:
    with pytest.raises(OperatorError, match="ALERT_TARGET is not a place for alerts") as raised:
        notify(settings(target), LAG)
    assert UNTOLD not in str(raised.value)
    assert target not in repr(settings(target))


def test_a_trial(webhook: Webhook) -> None:
    assert alerts.trial(settings(webhook.url)).target == "webhook on 127.0.0.1"
    assert [document["kind"] for document in webhook.documents] == ["trial"]
    webhook.answers = [404]
    with pytest.raises(TransientError, match=r"did not reach webhook on 127\.0\.0\.1"):
        alerts.trial(settings(webhook.url))


# -- What an alert may say.


def test_a_value_in_an_exception_is_not_told(webhook: Webhook, caplog: pytest.LogCaptureFixture) -> None:
    error = ValueError("Key (email)=(ana.souza@example.com) already exists")
    found = watch.alerts_of_failure("lakehouse", "users", "scheduled__2026-11-25T12:00:00+00:00", 1, error)
    assert notify(settings(webhook.url), *found)
    (document,) = webhook.documents
    assert (document["kind"], document["subject"]) == ("task_failed", "lakehouse.users")
    assert document["facts"] == {
        "dag_id": "lakehouse",
        "task_id": "users",
        "run_id": "scheduled__2026-11-25T12:00:00+00:00",
        "try_number": 1,
        "error": "ValueError",
    }
    assert "ana.souza" not in json.dumps(document) + caplog.text
    (text_only,) = watch.alerts_of_failure("lakehouse", "users", "manual", 1, str(error))
    assert "error" not in text_only.facts


@pytest.mark.parametrize("value", ["Ana Souza", "ana@example.com", "line\nline", "ação", "", "x" * 301, None, ["a"]])
def test_what_could_be_more_than_a_name_is_withheld(value: Any) -> None:
    alert = Alert("task_failed", value, {"run_id": value})
    assert alert.text == "task_failed: withheld, run_id=withheld"


@pytest.mark.parametrize(("kind", "facts"), [("failed", {}), ("task_failed", {"message": "x"})])
def test_only_known_kinds_and_facts(kind: str, facts: dict) -> None:
    with pytest.raises(ValueError, match="an alert cannot be of kind"):
        Alert(kind, "users", facts)


# -- What to alert on.


def test_a_slot_that_holds_too_much() -> None:
    def kinds(lag: int | None) -> list[str]:
        return [alert.kind for alert in watch.alerts_of_landing(Landed("customer/usuarios", slot_lag_bytes=lag), 1000)]

    assert (kinds(None), kinds(0), kinds(1000), kinds(1001)) == ([], [], [], ["slot_lag"])


@pytest.mark.parametrize(
    ("minutes_ago", "last_success"), [(0, None), (10, None), (10.1, "2026-11-25T11:49:54+00:00"), (None, "never")]
)
def test_no_success_for_ten_minutes_is_late(minutes_ago: float | None, last_success: str | None) -> None:
    succeeded = None if minutes_ago is None else NOW - timedelta(minutes=minutes_ago)
    facts = {"last_success": last_success, "limit_minutes": 10}
    expected = [Alert("run_late", "lakehouse", facts)] if last_success else []
    assert watch.alerts_of_lateness("lakehouse", succeeded, NOW) == expected


@pytest.mark.parametrize(
    ("unique_id", "status", "failures", "kind"),
    [
        ("test.lakehouse.rejected_characters", "warn", 2, "rows_rejected"),
        ("test.lakehouse.rejected_characters", "fail", 2, "rows_rejected"),
        ("test.lakehouse.rejected_characters", "error", None, "test_failed"),  # it could not be asked
        ("test.lakehouse.drifted_user_columns", "warn", 1, "source_drifted"),
        ("test.lakehouse.unreadable_user_columns", "warn", 4, "values_unreadable"),
        ("test.lakehouse.unique_users_user_id.7c7082641e", "warn", 3, "test_warned"),
        ("test.lakehouse.unique_users_user_id.7c7082641e", "fail", 3, "test_failed"),
        ("unit_test.lakehouse.users.the_last_wins", "fail", 1, "test_failed"),
        ("model.lakehouse.users", "error", None, "model_failed"),
        ("seed.lakehouse.media_types", "error", None, "model_failed"),
        ("model.lakehouse.rejected_users", "success", None, None),
        ("model.lakehouse.dim_users", "skipped", None, None),
        ("test.lakehouse.users_agree", "skipped", None, None),
        ("test.lakehouse.users_agree", "pass", 0, None),
    ],
)
def test_each_result_of_dbt(unique_id: str, status: str, failures: int | None, kind: str | None) -> None:
    result = {"unique_id": unique_id, "status": status, "failures": failures, "message": "Ana Souza is no number"}
    facts = {"status": status} | ({} if failures is None else {"failures": failures})
    expected = [Alert(kind, unique_id, facts)] if kind else []
    assert watch.alerts_of_dbt({"results": [result]}) == expected


def test_a_source_that_could_not_be_asked() -> None:
    result = {"unique_id": "source.lakehouse.customer.usuarios", "status": "runtime error", "error": "Ana Souza"}
    assert watch.alerts_of_freshness({"results": [result]}) == [
        Alert("source_stale", "source.lakehouse.customer.usuarios", {"status": "runtime_error"})
    ]
