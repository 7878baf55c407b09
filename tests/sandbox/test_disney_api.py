"""The stand-in answers as the Disney API does, and lies as it is told."""

import json
import subprocess
import sys
from email.utils import parsedate_to_datetime

import pytest
import requests

from sandbox.characters import KINDS, characters
from sandbox.disney_api import DisneyApi, encode
from sandbox.disney_lies import Lie


def ask(api: DisneyApi, **parameters: object) -> dict:
    return requests.get(f"{api.url}/character", params=parameters, timeout=10).json()


def test_pages_hold_the_list_in_its_order_and_fifty_by_default() -> None:
    with DisneyApi(characters(120)) as api:
        answers = [ask(api, page=page) for page in (1, 2, 3)]
        assert [answer["info"]["count"] for answer in answers] == [50, 50, 20]
        assert {answer["info"]["totalPages"] for answer in answers} == {3}
        assert [record for answer in answers for record in answer["data"]] == api.records
        assert ask(api, pageSize=1_000_000)["data"] == api.records


def test_one_record_is_an_object() -> None:
    with DisneyApi(characters(51)) as api:
        assert ask(api, page=2)["data"] == api.records[50]
        identity = api.records[3]["_id"]
        assert requests.get(f"{api.url}/character/{identity}", timeout=10).json()["data"] == api.records[3]


def test_no_match_and_a_page_after_the_end_are_empty_lists() -> None:
    with DisneyApi(characters(51)) as api:
        assert ask(api, page=3)["data"] == []
        assert ask(api, name="nobody is called so")["data"] == []
        assert requests.get(f"{api.url}/character/0", timeout=10).json()["data"] == []


def test_links_say_http_and_drop_the_filter_that_chose_the_records() -> None:
    with DisneyApi(characters(300)) as api:
        answer = ask(api, films="the ", page=2, pageSize=10)
        assert 0 < len(answer["data"]) == sum("the " in encode(r["films"]).lower() for r in answer["data"])
        assert answer["info"]["nextPage"] == f"{api.url}/character?page=3&pageSize=10"
        assert answer["info"]["previousPage"] == f"{api.url}/character?page=1&pageSize=10"
        assert ask(api, page=30, pageSize=10)["info"]["nextPage"] is None


def test_the_page_size_can_be_bounded() -> None:
    with DisneyApi(characters(51), max_page_size=20) as api:
        assert ask(api, pageSize=1000)["info"] | {"nextPage": ""} == {
            "count": 20, "totalPages": 3, "previousPage": None, "nextPage": "",
        }  # fmt: skip


def test_made_up_characters_are_the_same_for_a_seed_and_look_like_the_real_ones() -> None:
    records = characters(9800, 7)
    assert records == characters(9800, 7)
    assert records != characters(9800, 8)
    ids = [record["_id"] for record in records]
    assert len(set(ids)) == 9800
    assert ids != sorted(ids)
    assert 9850 < max(ids) < 10_000  # the real ids have a gap in each 90
    assert 0.005 < sum("imageUrl" not in record for record in records) / 9800 < 0.02
    assert 0.02 < sum(not any(record[kind] for kind in KINDS) for record in records) / 9800 < 0.06
    names = [record["name"] for record in records]
    assert 0.05 < 1 - len(set(names)) / 9800 < 0.12
    values = [value for record in records for kind in KINDS for value in record[kind]]
    assert 2 < len(values) / 9800 < 3.5
    assert 0.003 < sum("," in value for value in values) / len(values) < 0.03
    assert any(not value.isascii() for value in values)
    assert any(not name.isascii() for name in names)
    assert sum(bool(record["allies"]) for record in records) == 1


def test_changes_edit_remove_and_add() -> None:
    before = characters(100)
    with DisneyApi(before) as api, DisneyApi(before) as other:
        assert requests.post(f"{api.url}/_sandbox/change", json={"seed": 5}, timeout=10).json() == {
            "edited": 1, "removed": 1, "added": 1,
        }  # fmt: skip
        other.change(seed=5)
        assert api.records == other.records != before
        old, new = ({record["_id"]: record for record in records} for records in (before, api.records))
        assert len(new.keys() - old.keys()) == len(old.keys() - new.keys()) == 1
        requests.post(f"{api.url}/_sandbox/change", timeout=10).raise_for_status()
        assert api.records != other.records


@pytest.mark.parametrize(
    ("text", "turns"),
    [("503", [1, 2, 3, 4, 5]), ("503:2", [2]), ("503:2-3", [2, 3]), ("slow=1.5:4-", [4, 5])],
)
def test_a_lie_says_which_requests_it_meets(text: str, turns: list[int]) -> None:
    assert [turn for turn in range(1, 6) if Lie.parse(text).meets(turn)] == turns


@pytest.mark.parametrize("text", ["", "nonsense", "503:", "503:x", "slow=:1", "503:1-2-3"])
def test_what_is_no_lie_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write KIND"):
        Lie.parse(text)


def test_lies_are_told_and_taken_back_over_http_and_requests_are_listed() -> None:
    with DisneyApi(characters(10)) as api:
        requests.post(f"{api.url}/_sandbox/lies", json=["503:2"], timeout=10).raise_for_status()
        statuses = [requests.get(f"{api.url}/character?page={n}", timeout=10).status_code for n in (1, 2, 3)]
        assert statuses == [200, 503, 200]
        asked = requests.get(f"{api.url}/_sandbox/requests", timeout=10).json()
        assert asked == [f"/character?page={n}" for n in (1, 2, 3)]
        assert requests.post(f"{api.url}/_sandbox/lies", json=["nonsense"], timeout=10).status_code == 400
        requests.post(f"{api.url}/_sandbox/lies", json=[], timeout=10).raise_for_status()
        assert requests.get(f"{api.url}/character", timeout=10).status_code == 200


def test_retry_after_comes_in_seconds_or_as_a_date() -> None:
    with DisneyApi(characters(10), lies=["429=7:1", "429-date=60:2"]) as api:
        seconds, date = (requests.get(f"{api.url}/character", timeout=10) for _ in range(2))
        assert (seconds.status_code, seconds.headers["Retry-After"]) == (429, "7")
        until = parsedate_to_datetime(date.headers["Retry-After"])
        assert 58 < (until - parsedate_to_datetime(date.headers["Date"])).total_seconds() < 62


def test_a_truncated_answer_is_shorter_than_it_says() -> None:
    with (
        DisneyApi(characters(10), lies=["truncated"]) as api,
        pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"),
    ):
        ask(api)


def test_pages_shift_under_a_reader() -> None:
    with DisneyApi(characters(30), lies=["replace:2"]) as api:
        first, second = ask(api, page=1, pageSize=10), ask(api, page=2, pageSize=10)
        assert second["data"][0] == first["data"][-1]
        assert len(api.records) == 30


def test_the_command_serves_a_file_and_prints_its_url(tmp_path) -> None:
    data = tmp_path / "characters.json"
    data.write_text(json.dumps([{"_id": 1, "name": "Ação"}, {"_id": 2}]))
    command = [sys.executable, "-m", "sandbox", "disney-api", "--data", str(data), "--lie", "503:1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = server.stdout.readline().strip()
            assert requests.get(f"{url}/character", timeout=10).status_code == 503
            assert requests.get(f"{url}/character", timeout=10).json()["data"] == json.loads(data.read_text())
        finally:
            server.terminate()


def test_the_catalogue_changes_by_itself() -> None:
    command = [sys.executable, "-m", "sandbox", "disney-api", "--characters", "10", "--change-every", "0.05"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = server.stdout.readline().strip()
            first = requests.get(f"{url}/character", timeout=10).json()["data"]
            while requests.get(f"{url}/character", timeout=10).json()["data"] == first:
                pass
        finally:
            server.terminate()
