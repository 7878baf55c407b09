"""Athena on a laptop: its JSON API over Trino, and Trino over moto's S3 and Glue; three processes on loopback.

The real dbt-athena and the loaders meet it through two endpoint addresses and nothing else. S3 and Glue are in memory:
`down` empties the lake and the vault that were kept there.
"""

import json
import os
import secrets
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from sandbox import home, postgres, private, processes
from sandbox.athena import artifacts, trino

AWS, TRINO, API = "athena-aws", "athena-trino", "athena-api"  # processes in the background
BUCKETS = ("lake", "vault", "athena-results")
PATIENCE = 180  # seconds
REGION = "us-east-1"
MADE_UP = ("made-up", "made-up")  # an access key's id, and its secret


class AthenaError(RuntimeError):
    """The local Athena did not start; the message says where to look."""


@dataclass(frozen=True)
class Athena:
    """Where its three processes listen on 127.0.0.1, and a masking key for the vault that it holds."""

    aws: int
    trino: int
    api: int
    masking_key: str

    @property
    def aws_url(self) -> str:
        return f"http://127.0.0.1:{self.aws}"

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.api}"


def start(environment: Mapping[str, str] = os.environ) -> Athena:
    """Start what does not run, fetch Trino where it is missing, and return once all of it answers.

    Raises AthenaError or artifacts.ArtifactError.
    """
    if athena := running():
        return athena
    locked = artifacts.read_lock(artifacts.LOCK.read_text())
    repository = environment.get("MAVEN_REPOSITORY_URL") or artifacts.REPOSITORY
    installed = artifacts.install(artifacts.cache(environment), locked, repository)
    athena = _settled(_known())
    _save(athena)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    module = [sys.executable, "-m"]
    commands = {
        AWS: [*module, "sandbox.athena.aws", str(athena.aws)],
        TRINO: trino.configure(folder() / "trino", installed, athena.trino, athena.aws_url),
        API: [*module, "sandbox.athena.api", str(athena.api), str(athena.trino), athena.aws_url, str(log())],
    }
    for name, command in commands.items():
        processes.start(name, command, clean)
    deadline = time.monotonic() + PATIENCE
    for name, answers in {AWS: _aws_answers, API: _api_answers, TRINO: _trino_answers}.items():
        while not answers(athena):
            if not processes.running(name) or time.monotonic() > deadline:
                raise AthenaError(f"{name} did not start: see {processes.log(name)}")
            time.sleep(0.1)
    make_buckets(athena)
    return athena


def running() -> Athena | None:
    """The local Athena of this sandbox, if all of it answers."""
    athena = _known()
    alive = athena is not None and all(map(processes.running, (AWS, TRINO, API)))
    return athena if alive and all(check(athena) for check in (_aws_answers, _api_answers, _trino_answers)) else None


def stop() -> None:
    """End all three processes; what S3 and Glue held is gone with them."""
    processes.stop(API, TRINO, AWS)


def exports(athena: Athena) -> dict[str, str]:
    """The settings of the loaders, dbt and boto3 that lead to it, credentials made up."""
    return {
        "AWS_ENDPOINT_URL": athena.aws_url,
        "AWS_ENDPOINT_URL_ATHENA": athena.api_url,
        **dict(zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), MADE_UP, strict=True)),
        "AWS_SESSION_TOKEN": "made-up",  # an earlier one would belong to other keys
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "LAKE_URI": "s3://lake",
        "VAULT_URI": "s3://vault",
        "MASKING_KEY": athena.masking_key,
        "LAKE_TARGET": "athena",
        "WAREHOUSE_TARGET": "athena",
        "ATHENA_WORK_GROUP": "dbt",
        "LAKE_SINCE": f"{first_day(datetime.now(UTC).date())}",
    }


def first_day(today: date) -> date:
    """When a lake in memory begins at the earliest: with last month, for which AWS may still send a bill."""
    return (today.replace(day=1) - timedelta(days=1)).replace(day=1)


def make_buckets(athena: Athena) -> None:
    """Create the buckets that are not there."""
    s3 = client("s3", athena.aws_url)
    for bucket in BUCKETS:
        s3.create_bucket(Bucket=bucket)


def client(service: str, url: str) -> Any:
    """boto3's client of one of the servers, by made-up credentials and whatever else the environment says."""
    session = boto3.Session(*MADE_UP, region_name=REGION)
    return session.client(service, endpoint_url=url, config=Config(retries={"total_max_attempts": 1}))


def empty(athena: Athena) -> None:
    """Take all that S3, Glue and the rest hold, and create the buckets again."""
    _post(f"{athena.aws_url}/moto-api/reset", {})
    make_buckets(athena)


def inject(athena: Athena, *faults: Mapping[str, object]) -> None:
    """Let the statements that match a fault's pattern fail so many times (queries.Fault); none: as it was."""
    _post(f"{athena.api_url}/_sandbox/faults", list(faults))


def folder() -> Path:
    """Where it keeps what it writes."""
    return home() / "athena"


def log() -> Path:
    """A JSON line for each statement that ended (queries.py)."""
    return folder() / "statements.jsonl"


# ---------- what is remembered


def _known() -> Athena | None:
    try:
        return Athena(**json.loads((folder() / "athena.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _settled(known: Athena | None) -> Athena:
    """The ports of before where they are free or still ours, else new ones."""
    former = asdict(known) if known else {}
    ports = {
        name: former[name]
        if name in former and (processes.running(process) or postgres.is_free(former[name]))
        else postgres.free_port()
        for name, process in {"aws": AWS, "trino": TRINO, "api": API}.items()
    }
    if ports != {name: former.get(name) for name in ports}:
        stop()  # the processes know each other's ports
    return Athena(**ports, masking_key=former.get("masking_key") or secrets.token_hex(32))


def _save(athena: Athena) -> None:
    folder().mkdir(parents=True, exist_ok=True)
    private.write(folder() / "athena.json", json.dumps(asdict(athena)))


# ---------- whether each answers


def _aws_answers(athena: Athena) -> bool:
    return _answers(lambda: urllib.request.urlopen(f"{athena.aws_url}/moto-api/data.json", timeout=5).close())


def _api_answers(athena: Athena) -> bool:
    return _answers(lambda: _post(athena.api_url, {}, "AmazonAthena.ListDataCatalogs"))


def _trino_answers(athena: Athena) -> bool:
    return trino.answers(athena.trino)


def _answers(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except OSError:
        return False
    return True


def _post(url: str, body: object, action: str = "") -> None:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"X-Amz-Target": action})
    urllib.request.urlopen(request, timeout=5).close()
