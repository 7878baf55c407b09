"""A wrong proxy or a wrong file of certificates is told as such, wherever HTTP is used."""

from collections.abc import Callable
from pathlib import Path

import pytest

from loaders import alerts, disney, key, settings
from loaders.errors import OperatorError
from loaders.http_environment import check
from loaders.lake import open_lake

EVERY = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*EVERY, *map(str.lower, EVERY), "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)


def land_characters(lake: str) -> None:
    disney.land(settings.from_environment({"LAKE_URI": lake, "DISNEY_API_URL": "https://127.0.0.1:9"}))


def send_alert(lake: str) -> None:
    alerts.trial(settings.from_environment({"LAKE_URI": lake, "ALERT_TARGET": "https://127.0.0.1:9/s3cr3t"}))


def publish_alert(lake: str) -> None:
    topic = "arn:aws:sns:us-east-1:111122223333:lakehouse"
    alerts.trial(settings.from_environment({"LAKE_URI": lake, "ALERT_TARGET": topic}))


def read_secret(lake: str) -> None:
    key.write(settings.from_environment({"VAULT_URI": lake, "MASKING_KEY_SECRET_ID": lake}), rotate=False)


def open_bucket(lake: str) -> None:
    open_lake("s3://bucket/lake")


REQUESTS, AWS = (land_characters, send_alert), (publish_alert, read_secret, open_bucket)


@pytest.mark.parametrize("use", [*REQUESTS, *AWS])
@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("REQUESTS_CA_BUNDLE", "{folder}/nothing.pem", "REQUESTS_CA_BUNDLE is '.*nothing.pem', which cannot be read"),
        ("REQUESTS_CA_BUNDLE", "{folder}/text.pem", "REQUESTS_CA_BUNDLE is '.*text.pem', which holds no certificate"),
        ("HTTPS_PROXY", "nonsense:99999", "HTTPS_PROXY or ALL_PROXY is not the URL of an HTTP proxy"),
        ("HTTPS_PROXY", "socks5://{login}@a:1", "HTTPS_PROXY or ALL_PROXY is not the URL of an HTTP proxy"),
        ("ALL_PROXY", "http://", "HTTPS_PROXY or ALL_PROXY is not the URL of an HTTP proxy"),
    ],
)
def test_a_wrong_setting_of_http_needs_a_person(
    use: Callable[[str], None],
    variable: str,
    value: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Use faults F14."""
    (tmp_path / "text.pem").write_text("no certificate")
    monkeypatch.setenv(variable, value.format(folder=tmp_path, login="me:s3cr3t"))
    with pytest.raises(OperatorError, match=message) as raised:
        use(str(tmp_path))
    assert "s3cr3t" not in str(raised.value)


def test_only_what_a_request_depends_on_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nothing.pem")
    monkeypatch.setenv("HTTPS_PROXY", "http://")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    check("http://127.0.0.1:9")
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    check("https://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")
    check("https://api.example")
