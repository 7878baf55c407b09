"""The one reader of settings: they come from the environment, and `.env.example` explains each of them.

The loaders, the DAGs and the sandbox read them here. dbt reads the same variables: loaders/environment.py has given
them their defaults and made their paths absolute when Python started.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from loaders import paths
from loaders.errors import OperatorError

FEEDS = ("loader", "stream", "dms")  # what may land the changes of users


@dataclass(frozen=True)
class Settings:
    """What the loaders need to know. Secrets stay out of the repr, which may reach a log."""

    lake_uri: str
    vault_uri: str
    disney_api_url: str
    customer_table: str
    customer_dsn: str | None = field(default=None, repr=False)
    customer_snapshot_dsn: str | None = field(default=None, repr=False)
    customer_gaps: str = "repair"
    masking_key: str | None = field(default=None, repr=False)
    masking_key_secret_id: str | None = None
    lake_kms_key_id: str | None = None
    vault_kms_key_id: str | None = None
    docs_uri: str = paths.DEFAULTS["DOCS_URI"]
    duckdb_path: str | None = None  # None: the lake is on S3, and no file is named
    alert_target: str | None = field(default=None, repr=False)
    alert_slot_lag_bytes: int = 1024**3
    metrics: str | None = None
    raw_retention: str | None = None

    @property
    def required_customer_dsn(self) -> str:
        """CUSTOMER_DSN, or an OperatorError that says how to set it."""
        if not self.customer_dsn:
            raise OperatorError(
                "CUSTOMER_DSN is not set: give the libpq URL of the customer database, "
                "for example postgresql://loader@host:5432/customer"
            )
        return self.customer_dsn

    @property
    def raw_retention_days(self) -> int | None:
        """RAW_RETENTION_DAYS, None where all is kept, or an OperatorError. Only who removes anything has to care."""
        if self.raw_retention and not re.fullmatch("[1-9][0-9]{0,4}", self.raw_retention):
            raise OperatorError(
                f"RAW_RETENTION_DAYS is {self.raw_retention!r}: give a whole number of days, 1 to 99999"
            )
        return int(self.raw_retention) if self.raw_retention else None


def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings; an empty variable counts as one that is not set. Raises OperatorError."""

    def get(name: str) -> str | None:
        return environ.get(name, "").strip() or None

    _check_day("LAKE_SINCE", get("LAKE_SINCE"))
    lake_uri = place("LAKE_URI", environ)
    duckdb_path = get("DUCKDB_PATH") or (None if "://" in lake_uri else f"{lake_uri}/warehouse.duckdb")
    return Settings(
        lake_uri=lake_uri,
        vault_uri=place("VAULT_URI", environ),
        disney_api_url=(get("DISNEY_API_URL") or "https://api.disneyapi.dev").rstrip("/"),
        customer_table=get("CUSTOMER_TABLE") or "public.usuarios",
        customer_dsn=get("CUSTOMER_DSN"),
        customer_snapshot_dsn=get("CUSTOMER_SNAPSHOT_DSN") or get("CUSTOMER_DSN"),
        customer_gaps=_one_of("CUSTOMER_GAPS", get("CUSTOMER_GAPS") or Settings.customer_gaps, "repair", "stop"),
        masking_key=get("MASKING_KEY"),
        masking_key_secret_id=get("MASKING_KEY_SECRET_ID"),
        lake_kms_key_id=get("LAKE_KMS_KEY_ID"),
        vault_kms_key_id=get("VAULT_KMS_KEY_ID"),
        docs_uri=place("DOCS_URI", environ),
        duckdb_path=_duckdb_path(duckdb_path) if duckdb_path else None,
        alert_target=get("ALERT_TARGET"),
        alert_slot_lag_bytes=_positive(
            "ALERT_SLOT_LAG_BYTES", get("ALERT_SLOT_LAG_BYTES") or str(Settings.alert_slot_lag_bytes)
        ),
        metrics=_metrics(get("METRICS")),
        raw_retention=get("RAW_RETENTION_DAYS"),
    )


def place(name: str, environ: Mapping[str, str] = os.environ, default: str | None = None) -> str:
    """A setting that names a folder, or its default, as an absolute path or a URI. Raises OperatorError."""
    return _absolute(name, environ.get(name, "").strip() or default or paths.DEFAULTS[name])


def _absolute(name: str, text: str) -> str:
    try:
        return paths.absolute(text)
    except ValueError as error:
        raise OperatorError(f"{name} is {text!r}, which {error}") from None


def _duckdb_path(text: str) -> str:
    path = _absolute("DUCKDB_PATH", text)
    if "?" in path or "#" in path:  # DuckDB puts its log's suffix before a ?, and dbt-duckdb reads the path as a URL
        raise OperatorError(
            f"DuckDB's file would be {path}, but DuckDB and dbt misread a path with a ? or #: "
            "set DUCKDB_PATH to another path"
        )
    return path


def targets(environ: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """dbt's targets: the one that builds staging and curated, and the one that builds refined."""
    lake, warehouse = (environ.get(name, "").strip() or "local" for name in ("LAKE_TARGET", "WAREHOUSE_TARGET"))
    return lake, warehouse


def lands_users(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the loader lands the changes of users. Where a stream does, it must not. Raises OperatorError."""
    feed = environ.get("CHANGE_FEED_NAME", "").strip() or FEEDS[0]
    if feed not in FEEDS:
        raise OperatorError(f"CHANGE_FEED_NAME is {feed!r}: give one of {', '.join(FEEDS)}")
    return feed == FEEDS[0]


def _positive(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise OperatorError(f"{name} is not a whole number above 0: give it in plain digits")
    return int(text)


def _one_of(name: str, text: str, *values: str) -> str:
    if text not in values:
        raise OperatorError(f"{name} must be {' or '.join(values)}")
    return text


def _check_day(name: str, text: str | None) -> None:
    """Athena reads no file of a day before LAKE_SINCE, so one that has not come yet would hide all that lands."""
    if text is None:
        return
    try:
        day = date.fromisoformat(text) if re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text) else None
    except ValueError:
        day = None
    if day is None:
        raise OperatorError(f"{name} is {text!r}: give a day as YYYY-MM-DD")
    if day > datetime.now(UTC).date():
        raise OperatorError(f"{name} is {text}, a day to come: Athena would not read what lands today. Give a past day")


def _metrics(text: str | None) -> str | None:
    if text not in (None, "none", "emf"):
        raise OperatorError("METRICS must be none or emf (CloudWatch's embedded metric format, on stdout)")
    return None if text == "none" else text
