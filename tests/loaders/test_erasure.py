"""Erasure in raw: the person's values go and nothing else does, whatever is killed, broken or under way meanwhile."""

import io
import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pyarrow.parquet as pq
import pytest

from loaders import compaction, erasure, ledger, raw, swap
from loaders.erasure import erase, parse_ids
from loaders.errors import OperatorError, TransientError
from loaders.lake import Lake, open_lake
from loaders.ledger import Ledger
from loaders.raw import USER_CHANGES
from loaders.settings import Settings, from_environment
from loaders.users import events, scrub
from loaders.users.events import Event
from loaders.users.state import NAME
from tests.loaders.raw_files import all_rows, land_crawl
from tests.loaders.test_compaction import killed as killed_compaction

DAY = datetime(2026, 3, 1, tzinfo=UTC)
HIS = {"id": "7", "nome": "Zebedeu Quaresma", "email": "zebedeu@correio.example", "cpf": "98765432100"}
HER = {"id": "77", "nome": "Marta Vilela", "email": "marta@correio.example", "cpf": "7"}


def text(row: dict | None) -> bytes | None:
    return row and json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()


def land(lake: Lake, first: int, *changes: tuple[str, dict | bytes | None, dict | bytes | None]) -> str:
    """Land changes (op, before, after) as the loader would; returns their key."""
    at = DAY + timedelta(minutes=first)
    moment = events.microseconds(at)
    made = []
    for seq, (op, *documents) in enumerate(changes):
        before, after = (text(document) if isinstance(document, dict) else document for document in documents)
        made.append(Event(op, first, seq, moment, before, after, b"{}"))
    key = USER_CHANGES.key(at, f"1-{first:016X}-{first + 1:016X}")
    with lake.new_file(key) as path:
        events.write(path, made, epoch=1, batch_id=raw.new_batch_id(at), landed_at=at)
    return key


def land_history(lake: Lake) -> list[str]:
    land_crawl(lake, DAY)
    return [
        land(lake, 1, ("c", None, HIS), ("c", None, HER)),
        land(lake, 2, ("u", None, HER)),
        land(
            lake, 3, ("u", {"id": "7"}, HIS | {"id": "9"}), ("u", {"id": "5"}, HIS), ("d", HIS, None), ("t", None, None)
        ),
    ]


def changes_of(lake: Lake) -> list[tuple]:
    """(load_date, epoch, op, commit_lsn, change_seq, before, after) of all but what erasures have landed, in order."""
    rows = [row for row in all_rows(lake)[USER_CHANGES.name] if row[4] < 10**9]
    return sorted(((row[0], *row[1:5], *row[6:8]) for row in rows), key=lambda row: (row[1], *row[3:5]))


def holding(settings: Settings, *texts: str) -> list[str]:
    """The objects of lake and vault in which one of the texts stands, in bytes or in a Parquet file's values."""
    found = []
    for uri in (settings.lake_uri, settings.vault_uri):
        place = open_lake(uri)
        for key in place.keys(""):
            body = place.read(key)[0]
            if key.endswith(".parquet"):
                with place.local_file(key) as path:
                    body += repr(pq.read_table(path, partitioning=None).to_pylist()).encode()
                    body += repr(pq.read_metadata(path).to_dict()).encode()
            if any(part.encode() in body for part in texts):
                found.append(key)
    return found


def test_his_values_go_and_all_else_stays(settings: Settings, lake: Lake) -> None:
    land_history(lake)
    before = all_rows(lake)
    assert len(holding(settings, "Zebedeu", "98765432100")) == 2

    done = erase(settings, ["7"])

    assert holding(settings, "Zebedeu", "98765432100") == []
    assert (done.files, done.events, done.not_in_raw, done.moved_keys, done.is_raw_clean) == (2, 4, 0, 2, True)
    day = "load_date=2026-03-01"
    assert changes_of(lake) == [
        (day, 1, "c", 1, 0, None, '{"erased":true,"id":"7"}'),
        (day, 1, "c", 1, 1, None, text(HER).decode()),
        (day, 1, "u", 2, 0, None, text(HER).decode()),
        (day, 1, "u", 3, 0, '{"id":"7"}', '{"erased":true,"id":"9"}'),
        (day, 1, "u", 3, 1, '{"id":"5"}', '{"erased":true,"id":"7"}'),
        (day, 1, "d", 3, 2, '{"id":"7"}', None),
        (day, 1, "t", 3, 3, None, None),
    ]
    now = all_rows(lake)
    others = [row for row in before[USER_CHANGES.name] if "Zebedeu" not in repr(row)]
    assert [row for row in now[USER_CHANGES.name] if row in others] == others
    assert now[raw.CHARACTERS.name] == before[raw.CHARACTERS.name]
    assert erase(settings, ["7"], check=True).exit_code == 0


def test_a_second_call_says_that_nothing_is_left(settings: Settings, lake: Lake) -> None:
    land_history(lake)
    erase(settings, ["7"])
    before = {key: lake.read(key) for key in lake.keys("raw")}
    done = erase(settings, ["7"])
    assert (done.new_requests, done.files, done.events) == (0, 0, 0)
    assert {key: lake.read(key) for key in lake.keys("raw")} == before


def test_a_file_keeps_its_row_groups_and_its_writers_settings(in_folder: Settings) -> None:
    lake = open_lake(in_folder.lake_uri)
    key = land(lake, 1, ("c", None, HIS), *[("c", None, HER | {"id": str(number)}) for number in range(100, 200)])
    table = pq.read_table(Path(in_folder.lake_uri, key), partitioning=None)
    pq.write_table(table, Path(in_folder.lake_uri, key), row_group_size=30, compression="snappy", use_dictionary=["op"])
    before = pq.read_metadata(Path(in_folder.lake_uri, key))
    erase(in_folder, ["7"])
    after = pq.read_metadata(Path(in_folder.lake_uri, key))
    assert [after.row_group(n).num_rows for n in range(4)] == [before.row_group(n).num_rows for n in range(4)]
    for number in range(before.num_columns):
        was, column = before.row_group(0).column(number), after.row_group(0).column(number)
        assert (column.compression, column.has_dictionary_page) == (was.compression, was.has_dictionary_page)
        assert column.is_stats_set == (was.is_stats_set and was.path_in_schema not in ("before", "after", "source"))
    assert pq.read_schema(Path(in_folder.lake_uri, key)).equals(table.schema)


@pytest.mark.parametrize(
    ("document", "is_his"),
    [
        (b'{"id": 7, "nome": "Zebedeu"}', True),  # Debezium's numbers
        (b'{"nome":"Zebedeu","id":"7"}', True),
        (b'{"id":"7","nome":"Zebed', True),
        (b'{"nome":"Zebedeu","id":"7","em', True),
        (b'{"id":"x7","nome":"Zebedeu"}', True),  # no id that staging would take
        (b'{"id":"007","nome":"Zebedeu"}', True),
        (b"id=7;nome=Zebedeu", True),
        (b'{"id":"8","nome":"Rua 7, \\"id\\":\\"7\\""}', False),
        (b'{"id":"70","cpf":"7"}', False),
        (b'{"paid":"7","id":"8"}', False),
        (b"[7]", False),
        (b"", False),
    ],
)
def test_broken_and_foreign_documents(document: bytes, is_his: bool, in_folder: Settings) -> None:
    lake = open_lake(in_folder.lake_uri)
    land(lake, 1, ("c", None, document), ("u", document, HER))
    done = erase(in_folder, ["7"])
    assert done.events == (2 if is_his else 0)
    assert (holding(in_folder, "Zebed") == []) or not is_his
    row = changes_of(lake)[0]
    if is_his:
        scrubbed = row[6]
        try:
            was_object = isinstance(json.loads(document), dict)
        except ValueError:
            was_object = False
        assert scrubbed.startswith('{"erased":true')
        assert scrubbed.endswith("}") == was_object  # what staging has set aside stays so
    else:
        assert row[6] == document.decode()
    assert erase(in_folder, ["7"]).events == 0


def test_nothing_of_a_value_stays_in_an_id(in_folder: Settings) -> None:
    lake = open_lake(in_folder.lake_uri)
    land(lake, 1, ("c", None, {"id": "7 Zebedeu", "nome": "Zebedeu"}))
    erase(in_folder, ["7"])
    assert holding(in_folder, "Zebedeu") == []


def test_who_is_not_in_raw_is_recorded_and_told_to_the_tables(in_folder: Settings) -> None:
    """Retention may have removed what tables still hold."""
    lake = open_lake(in_folder.lake_uri)
    land_history(lake)
    done = erase(in_folder, ["12345"])
    assert (done.new_requests, done.not_in_raw, done.exit_code) == (1, 1, 0)
    assert "12345" in Ledger.open(in_folder, lake)
    told = [row for row in all_rows(lake)[USER_CHANGES.name] if row[4] > 10**9]
    assert [row[7] for row in told] == ['{"erased":true,"id":"12345"}']


def test_the_ledger_holds_no_id_and_no_value(in_folder: Settings) -> None:
    lake = open_lake(in_folder.lake_uri)
    land(lake, 1, ("c", None, HIS | {"id": "424242424242"}))
    erase(in_folder, ["424242424242"])
    vault = open_lake(in_folder.vault_uri)
    (row,) = pq.read_table(Path(in_folder.vault_uri, ledger.KEY)).to_pylist()
    assert len(row["pseudonym"]) == 64
    assert None not in (row["requested_at"], row["raw_clean_at"])
    assert holding(in_folder, "Zebedeu") == []
    assert b"424242424242" not in b"".join(vault.read(key)[0] for key in vault.keys(""))
    assert Path(in_folder.vault_uri, ledger.KEY).stat().st_mode & 0o777 == 0o600


# ---------- killed


def erase_seven(settings: Settings) -> None:
    erase(settings, ["7"])


def killed(step: int, settings: Settings) -> bool:
    was_killed = killed_compaction(step, settings, erase_seven)
    if settings.lake_uri.startswith("s3://"):
        open_lake(settings.lake_uri).delete([f"state/{NAME}.lock"])
    return was_killed


def test_killed_at_each_step(settings: Settings, lake: Lake) -> None:
    land_history(lake)
    bodies = {uri: {key: open_lake(uri).read(key)[0] for key in open_lake(uri).keys("")} for uri in places(settings)}
    halves = 0
    for step in itertools.count(1):
        was_killed = killed(step, settings)
        skeletons = [row[:5] for row in changes_of(lake)]
        assert len(skeletons) == 7
        halves += bool(holding(settings, "Zebedeu"))
        if not was_killed:
            break
        done = erase(settings, ["7"])
        assert done.exit_code == 0
        assert holding(settings, "Zebedeu", "98765432100") == []
        assert [row[:5] for row in changes_of(lake)] == skeletons
        assert [row[6] for row in changes_of(lake)[1:3]] == [text(HER).decode()] * 2
        assert '{"erased":true,"id":"7"}' in {row[7] for row in all_rows(lake)[USER_CHANGES.name] if row[4] > 10**9}
        assert Ledger.open(settings, lake).lacking("raw_clean_at", ["7"]) == []
        for uri, before in bodies.items():
            place = open_lake(uri)
            place.delete(key for key in list(place.keys("")) if key not in before)
            for key, body in before.items():
                with place.new_file(key) as path:
                    path.write_bytes(body)
    assert halves > 4
    assert step > 12


def places(settings: Settings) -> tuple[str, str]:
    return settings.lake_uri, settings.vault_uri


# ---------- what the store keeps


def test_former_versions_on_s3_go_too(bucket: str) -> None:
    client = boto3.client("s3")
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    settings = from_environment({"LAKE_URI": f"s3://{bucket}/lake", "VAULT_URI": f"s3://{bucket}/vault"})
    lake = open_lake(settings.lake_uri)
    land_history(lake)
    land(lake, 40, ("u", None, HIS))
    compaction.compact(settings)  # whose old files are former versions now
    # two files as they landed, the one that two were compacted into, and the late one
    assert versions_holding(bucket, b"Zebedeu") == 4
    done = erase(settings, ["7"])
    assert done.exit_code == 0
    assert versions_holding(bucket, b"Zebedeu") == 0
    assert len(changes_of(lake)) == 8


def versions_holding(bucket: str, value: bytes) -> int:
    client = boto3.client("s3")
    found = client.list_object_versions(Bucket=bucket, Prefix="lake/raw/customer").get("Versions", [])
    count = 0
    for version in found:
        body = client.get_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])["Body"].read()
        count += value.decode() in repr(pq.read_table(io.BytesIO(body)).to_pylist())
    return count


def test_versions_that_may_not_be_removed_are_said(
    settings: Settings, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    land_history(lake)

    def refuse(*_: str) -> int:
        raise OperatorError("cannot list the former versions: AccessDenied")

    monkeypatch.setattr(type(lake), "forget", refuse)
    done = erase(settings, ["7"])
    assert (done.exit_code, done.is_raw_clean) == (1, False)
    assert "AccessDenied" in done.problems[0]
    assert holding(settings, "Zebedeu") == []  # of what may be changed, all was


def test_unfinished_files_of_killed_runs_go(in_folder: Settings) -> None:
    lake = open_lake(in_folder.lake_uri)
    land_history(lake)
    left = Path(in_folder.lake_uri, ".incoming/killed")
    left.write_bytes(b"Zebedeu")
    erase(in_folder, ["7"])
    assert not left.exists()


def test_what_has_leaked_into_texts_is_told(
    in_folder: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = open_lake(in_folder.lake_uri)
    land_history(lake)
    for name, body in {"target": f"-- {HIS['email']}", "logs": "Marta Vilela"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text(body)
    monkeypatch.setenv("DBT_TARGET_PATH", str(tmp_path / "target"))
    monkeypatch.setenv("DBT_LOG_PATH", str(tmp_path / "logs"))
    found = {place.place: place.after for place in erase(in_folder, ["7"]).places}
    assert (found["dbt's target"], found["dbt's logs"]) == (1, 0)


# ---------- kept out


def test_at_landing_only_people_of_the_ledger_lose_their_values(in_folder: Settings) -> None:
    lake = open_lake(in_folder.lake_uri)
    erase(in_folder, ["7"])
    his = [
        Event("r", 1, 0, 0, None, text(HIS), b"{}"),
        Event("u", 1, 1, 0, text({"id": "7"}), text(HIS | {"id": "9"}), b"{}"),
    ]
    hers = [Event("r", 1, 2, 0, None, text(HER), b"{}"), Event("t", 1, 3, 0, None, None, b"{}")]
    scrubbed = list(scrub.events(iter([*his, *hers]), Ledger.open(in_folder, lake)))
    assert scrubbed[2:] == hers
    assert [(event.before, event.after) for event in scrubbed[:2]] == [
        (None, b'{"erased":true,"id":"7"}'),
        (b'{"id":"7"}', b'{"erased":true,"id":"9"}'),
    ]


def test_a_call_without_ids_erases_again_what_a_restore_has_brought_back(in_folder: Settings) -> None:
    lake = open_lake(in_folder.lake_uri)
    keys = land_history(lake)
    bodies = {key: lake.read(key)[0] for key in keys}
    erase(in_folder, ["7"])
    for key, body in bodies.items():
        Path(in_folder.lake_uri, key).write_bytes(body)
    assert erase(in_folder, [], check=True).exit_code == 1
    assert erase(in_folder, []).events == 4
    assert holding(in_folder, "Zebedeu") == []
    assert len([row for row in all_rows(lake)[USER_CHANGES.name] if row[4] > 10**9]) == 2


@pytest.mark.parametrize("lost", [ledger.KEY, ledger.PADS_KEY])
def test_without_its_ledger_nothing_lands(in_folder: Settings, lost: str) -> None:
    lake = open_lake(in_folder.lake_uri)
    erase(in_folder, ["7"])
    Path(in_folder.vault_uri, lost).unlink()
    for run in (lambda: Ledger.open(in_folder, lake), lambda: erase(in_folder, ["8"])):
        with pytest.raises(OperatorError, match="restore"):
            run()


# ---------- others at the same time, and bad input


def test_the_request_is_recorded_though_another_run_changes_files(settings: Settings, lake: Lake) -> None:
    land_history(lake)
    with lake.lock(swap.NAME), pytest.raises(TransientError, match="another run holds"):
        erase(settings, ["7"])
    assert "7" in Ledger.open(settings, lake)
    assert erase(settings, ["7"]).events == 4


def test_a_landing_that_has_begun_is_waited_for(in_folder: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = open_lake(in_folder.lake_uri)
    land_history(lake)
    monkeypatch.setattr(erasure, "LANDING_SECONDS", 0.3)
    with lake.lock(NAME), pytest.raises(TransientError, match="the request is recorded, but nothing was erased"):
        erase(in_folder, ["7"])
    assert erase(in_folder, ["7"]).events == 4


def test_a_file_that_cannot_be_read_is_no_success(in_folder: Settings) -> None:
    lake = open_lake(in_folder.lake_uri)
    land_history(lake)
    lake.write(USER_CHANGES.key(DAY, "part-0"), b"another tool's", expected=None)
    done = erase(in_folder, ["7"])
    assert (done.exit_code, done.events) == (1, 4)
    assert "part-0.parquet" in done.problems[0]


@pytest.mark.parametrize(
    ("ids", "body", "message"),
    [
        (["seven"], None, "number 1 of the ids is no whole number"),
        (["7", "7.5"], None, "number 2"),
        (["9223372036854775808"], None, "number 1"),
        (["٣"], None, "number 1"),
        ([], "7\n\nana@correio.example\n", "number 2"),
        ([], "\n", "names nobody"),
        ([], b"\xff\xfe", "give a text file"),
    ],
)
def test_ids_that_are_none(ids: list[str], body: str | bytes | None, message: str, tmp_path: Path) -> None:
    file = None
    if body is not None:
        file = tmp_path / "ids"
        file.write_bytes(body if isinstance(body, bytes) else body.encode())
    with pytest.raises(OperatorError, match=message) as error:
        parse_ids(ids, file)
    assert "correio" not in str(error.value)


def test_ids_of_command_line_and_file_are_one_list(tmp_path: Path) -> None:
    (tmp_path / "ids").write_text(" 8 \r\n007\n")
    assert parse_ids(["7", "-1"], tmp_path / "ids") == ["7", "-1", "8"]
