"""Changes that Firehose lands in the loader's place: events that have raw's columns, and DMS's messages by the function
of the stack `ingestion`. Its code runs as it stands in the template; Firehose is played by pyarrow, DMS by messages of
the shape that its documentation and its users show. Neither was asked."""

import base64
import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra import deploy
from loaders import raw
from loaders.compaction import compact
from loaders.erasure import erase
from loaders.settings import from_environment
from tests.dbt.lakes import Dbt
from tests.dbt.test_any_order import tables_found
from tests.dbt.user_events import NOON, Event, land, row

EXAMPLES = deploy.HERE / "examples"
EPOCH = 2
MODELS = ["run", "--select", "+dim_users", "fct_user_changes", "user_versions"]
ARRIVED = datetime(2026, 3, 1, 12, 5, tzinfo=UTC)
# The timestamps that its OpenX deserializer reads as such (Firehose Developer Guide, "Convert input data format").
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
ARROW = {"string": pa.string(), "int": pa.int32(), "bigint": pa.int64(), "timestamp": pa.timestamp("us")}
Query = Callable[..., list[tuple]]


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (EXAMPLES / name).read_text().splitlines()]


def deliver(lake: Path, rows: Iterable[dict[str, Any]], number: int = 1) -> Path:
    """One object as Firehose makes it of these rows: by the Glue table's columns, under its own name.

    As Hive's writer does: Snappy, timestamps as INT96, every column optional. Result: the object's path.
    """
    table = deploy.read_template("catalogue")["Resources"]["UserChangesTable"]["Properties"]["TableInput"]
    columns = {column["Name"]: column["Type"] for column in table["StorageDescriptor"]["Columns"]}
    values: dict[str, list[Any]] = {name: [] for name in columns}
    for found in rows:
        assert found.keys() == columns.keys()
        for name, value in found.items():
            if columns[name] == "timestamp":
                assert TIMESTAMP.fullmatch(value)
                value = datetime.fromisoformat(value).replace(tzinfo=None)
            values[name].append(value)
    written = pa.table({name: pa.array(values[name], ARROW[kind]) for name, kind in columns.items()})
    target = deploy.read_template("ingestion")["Resources"]["Delivery"]["Properties"][
        "ExtendedS3DestinationConfiguration"
    ]
    folder = lake / re.sub(r"!\{timestamp:yyyy-MM-dd\}", f"{ARRIVED:%Y-%m-%d}", target["Prefix"])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"lakehouse-dev-user-changes-{number}-{ARRIVED:%Y-%m-%d-%H-%M-%S}-0b1c2d3e-made-up.parquet"
    pq.write_table(written, path, compression="snappy", use_deprecated_int96_timestamps=True)
    return path


@pytest.fixture
def transform(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Any]], list[dict[str, Any]]]:
    """`transform(messages)`: what the template's function answers Firehose, one answer each."""
    monkeypatch.setenv("EPOCH", str(EPOCH))
    function: dict[str, Any] = {}
    exec(deploy.read_template("ingestion")["Resources"]["EnvelopeFunction"]["Properties"]["Code"]["ZipFile"], function)

    def run(messages: list[Any]) -> list[dict[str, Any]]:
        records = [
            {
                "recordId": f"record {number}",
                "approximateArrivalTimestamp": int((ARRIVED + timedelta(seconds=number)).timestamp() * 1000),
                "kinesisRecordMetadata": {
                    "sequenceNumber": f"49663978758868311932389618382582776745412103{number:012}"
                },
                "data": base64.b64encode(
                    message if isinstance(message, bytes) else json.dumps(message).encode()
                ).decode(),
            }
            for number, message in enumerate(messages)
        ]
        answers = function["handler"]({"records": records}, None)["records"]
        assert [answer["recordId"] for answer in answers] == [record["recordId"] for record in records]
        return answers

    return run


def rows_of(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [json.loads(base64.b64decode(answer["data"])) for answer in answers if answer["result"] == "Ok"]


def users(query: Query) -> list[tuple]:
    return query(
        "select user_id, full_name, email, cpf, birth_date::varchar, state_code, monthly_income::varchar, notes,"
        " created_at::varchar, is_deleted, epoch, change_seq from curated.users order by user_id"
    )


CREATED = "2026-02-03 04:05:06"
ANA = ("Ana Souza", "ana.souza@example.com", "123.456.789-09", "1990-05-17", "SP", "3500.50", "prefers mail", CREATED)
GONE = (None,) * 8
BIA = ("Bia Lima", "bia@example.com", None, None, "RJ", None, None, None)


def test_what_firehose_lands_has_the_columns_of_what_the_loader_lands(lake: Path) -> None:
    landed = pq.read_schema(deliver(lake, lines("user_changes.jsonl")))
    assert landed.names == raw.USER_CHANGES.schema.names
    for field, ours in zip(landed, raw.USER_CHANGES.schema, strict=True):
        assert pa.types.is_timestamp(field.type) if pa.types.is_timestamp(ours.type) else field.type == ours.type


def test_events_of_the_stream_reach_the_tables_beside_the_loaders(dbt: Dbt, lake: Path, query: Query) -> None:
    land(lake, [Event("t", 10), Event("r", 10, 1, after=row(7, nome="Ana")), Event("r", 10, 2, after=row(3))], NOON)
    dbt(*MODELS)
    events = lines("user_changes.jsonl")
    deliver(lake, events[:4], 1)
    dbt(*MODELS)
    deliver(lake, events[4:], 2)
    dbt(*MODELS)
    assert users(query) == [
        (3, *GONE, False, 1, 2),
        (7, *ANA, False, EPOCH, 0),  # with the note that the update left out
        (8, *GONE, True, EPOCH, 0),  # moved to 9
        (9, *BIA, False, EPOCH, 0),
        (10, *GONE, True, EPOCH, 0),
    ]
    found = tables_found(query)
    dbt(*MODELS, "--full-refresh")
    assert tables_found(query) == found

    # Firehose delivers at least once: a second time, and as DMS sends it again, changes nothing.
    deliver(lake, events, 3)
    again = [event | {"batch_id": f"{event['batch_id']}-again"} for event in events]
    deliver(lake, again, 4)
    dbt(*MODELS)
    assert tables_found(query) == found
    dbt(*MODELS, "--full-refresh")
    assert tables_found(query) == found


def test_compaction_leaves_them_alone_and_erasure_does_not(dbt: Dbt, lake: Path, query: Query) -> None:
    for minutes in (0, 5):
        lsn = 10 + minutes
        name = f"1-{lsn:016X}-{lsn + 5:016X}"
        land(lake, [Event("c", lsn, 0, after=row(lsn, nome="Davi"))], NOON + timedelta(minutes=minutes), name)
    path = deliver(lake, lines("user_changes.jsonl"))
    before = path.read_bytes()
    config = from_environment({"LAKE_URI": str(lake), "VAULT_URI": str(lake.with_name("vault"))})
    assert compact(config).files == 2
    assert path.read_bytes() == before

    dbt(*MODELS)
    assert erase(config, ["7"]).exit_code == 0
    left = pq.read_table(path, partitioning=None)
    assert left.schema == pq.read_schema(pa.BufferReader(before))
    assert "Ana Souza" not in str(left.to_pylist())
    assert "Bia Lima" in str(left.to_pylist())
    dbt(*MODELS)
    assert query("select full_name from curated.users where user_id in (7, 9) order by user_id") == [
        (None,),
        ("Bia Lima",),
    ]


def test_messages_of_dms_become_the_same_users(
    dbt: Dbt, lake: Path, query: Query, transform: Callable[..., list[dict[str, Any]]]
) -> None:
    answers = transform(lines("dms.jsonl"))
    assert [answer["result"] for answer in answers] == ["Dropped", *["Ok"] * 6]  # the first says how the table is made
    rows = rows_of(answers)
    assert [found["op"] for found in rows] == ["r", "c", "u", "u", "c", "d"]
    assert [(found["commit_lsn"], found["change_seq"]) for found in rows[:2]] == [(0, 7), (0x1_F0008170, 1)]
    assert rows[3]["before"] == '{"id":"8"}'
    assert rows[5]["after"] is None
    deliver(lake, rows)
    dbt("run", "--select", "+users")
    assert users(query) == [
        # 3500.50 came as the number 3500.5
        (7, *ANA, False, EPOCH, 1),
        (8, *GONE, True, EPOCH, 1),
        (9, *BIA, False, EPOCH, 1),
        (10, *GONE, True, EPOCH, 1),
    ]
    assert query("select * from staging.base_customer__user_changes where rejection_reason is not null") == []


def test_dms_is_told_to_send_what_the_function_reads() -> None:
    held = deploy.read_template("ingestion")["Resources"]
    task = held["ReplicationTask"]["Properties"]
    [selected] = json.loads(task["TableMappings"])["rules"]
    assert ".".join(selected["object-locator"].values()) == from_environment({}).customer_table
    before = json.loads(task["ReplicationTaskSettings"])["BeforeImageSettings"]
    assert before["EnableBeforeImage"]
    assert f'message.get("{before["FieldName"]}")' in held["EnvelopeFunction"]["Properties"]["Code"]["ZipFile"]


@pytest.mark.parametrize(
    "wrong",
    [
        b"no JSON",
        b"[1]",
        {"metadata": {"record-type": "data", "operation": "truncate"}, "data": {}},
        lambda message: message["metadata"].pop("stream-position"),
        lambda message: message["metadata"].update({"stream-position": "mysql-bin-changelog.000001:4"}),
        lambda message: message.pop("data"),
    ],
)
def test_what_the_function_cannot_read_comes_back_as_it_was(
    wrong: Any, transform: Callable[..., list[dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    good = lines("dms.jsonl")[3]
    if callable(wrong):
        message = json.loads(json.dumps(good))
        wrong(message)
    else:
        message = wrong
    failed, ok = transform([message, good])
    assert (failed["result"], ok["result"]) == ("ProcessingFailed", "Ok")
    sent = base64.b64decode(failed["data"])
    assert sent == (message if isinstance(message, bytes) else json.dumps(message).encode())
    assert capsys.readouterr() == ("", "")
