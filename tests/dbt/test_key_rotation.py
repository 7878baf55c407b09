"""After `python -m loaders key --rotate`: the next run has all pseudonyms of the new key, and two keys never meet."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from loaders import key
from tests.dbt.lakes import MASKING_KEY, Dbt, land_crawl, write_masking_key
from tests.dbt.test_masking import python_hmac
from tests.dbt.user_events import NOON, Event, land, row

NEW_KEY = hashlib.sha256(b"another key for tests").digest()
KEY_ID, NEW_KEY_ID = (key.pads(secret)["key_id"] for secret in (MASKING_KEY, NEW_KEY))
TABLES = ("dim_users", "dim_characters", "fct_character_appearances")
BUILD = ("build", "--exclude-resource-types", "unit_test", "test")
ONE_KEY = ("test", "--select", "refined_has_one_key")
Query = Callable[..., list[tuple]]


@pytest.fixture
def built(dbt: Dbt, lake: Path) -> None:
    """Refined holds three users, one of them gone, and two characters, all by MASKING_KEY."""
    land(lake, [Event("c", 10, seq, after=row(seq + 1)) for seq in range(3)], NOON)
    land(lake, [Event("d", 20, before={"id": "3"})], NOON.replace(minute=5))
    characters = [{"_id": number, "name": f"Mouse {number}", "films": ["Fantasia"]} for number in (1, 2)]
    land_crawl(lake, NOON, characters)
    dbt(*BUILD)


@pytest.fixture
def key_ids(query: Query) -> Callable[[], dict[str, set[str]]]:
    return lambda: {table: {key_id for (key_id,) in query(f"select key_id from refined.{table}")} for table in TABLES}


def test_the_next_run_makes_all_pseudonyms_anew(
    dbt: Dbt, lake: Path, built: None, query: Query, key_ids: Callable[[], dict[str, set[str]]]
) -> None:
    """As the five-minute run does: nothing asks for a full refresh, and new changes came too."""
    columns = "* exclude (user_key, email_pseudonym, cpf_pseudonym, phone_pseudonym, key_id)"
    before = query(f"select {columns} from refined.dim_users order by all")
    assert set(map(frozenset, key_ids().values())) == {frozenset({KEY_ID})}
    write_masking_key(NEW_KEY)
    dbt(*BUILD)
    assert query(f"select {columns} from refined.dim_users order by all") == before
    dbt(*ONE_KEY)
    land(lake, [Event("c", 30, after=row(4))], NOON.replace(minute=10))
    dbt(*BUILD)
    expected = {python_hmac(str(number), NEW_KEY) for number in (1, 2, 3, 4)}
    assert {user_key for (user_key,) in query("select user_key from refined.dim_users")} == expected
    assert set(map(frozenset, key_ids().values())) == {frozenset({NEW_KEY_ID})}
    assert query("select characters from refined.mart_media_catalogue") == [(2,)]


def test_a_full_refresh_moves_to_the_new_key(
    dbt: Dbt, built: None, query: Query, key_ids: Callable[[], dict[str, set[str]]]
) -> None:
    write_masking_key(NEW_KEY)
    dbt(*BUILD, "--full-refresh")
    assert set(map(frozenset, key_ids().values())) == {frozenset({NEW_KEY_ID})}
    assert query("select count(*) from refined.dim_users") == [(3,)]


def test_tables_of_two_keys_are_not_joined(dbt: Dbt, built: None, query: Query) -> None:
    """Only one of the two was built since the rotation, as when it came in the midst of a run."""
    catalogue = query("from refined.mart_media_catalogue")
    write_masking_key(NEW_KEY)
    dbt("run", "--select", "dim_characters")
    with pytest.raises(AssertionError, match="would be joined") as refused:
        dbt("run", "--select", "mart_media_catalogue")
    assert "dbt build --full-refresh --select fct_character_appearances dim_characters" in str(refused.value)
    assert query("from refined.mart_media_catalogue") == catalogue
    with pytest.raises(AssertionError, match="refined_has_one_key"):
        dbt(*ONE_KEY)
    dbt(*BUILD)
    dbt(*ONE_KEY)


def test_rows_of_two_keys_in_one_table_are_found_and_made_anew(
    dbt: Dbt, lake: Path, built: None, write: Callable[[str], None], key_ids: Callable[[], dict[str, set[str]]]
) -> None:
    write(f"update refined.dim_users set key_id = '{NEW_KEY_ID}' where user_key = '{python_hmac('1')}'")
    with pytest.raises(AssertionError, match="refined_has_one_key"):
        dbt(*ONE_KEY)
    dbt(*BUILD)
    assert key_ids()["dim_users"] == {KEY_ID}


def test_a_rotation_in_the_midst_of_a_run_adds_no_row_of_the_new_key(
    dbt: Dbt, lake: Path, built: None, query: Query, write: Callable[[str], None]
) -> None:
    """What dbt had compiled when the key changed selects nothing any more."""
    land(lake, [Event("c", 30, after=row(4))], NOON.replace(minute=10))
    [compiled] = [result.node.compiled_code for result in dbt(*BUILD).results if result.node.name == "dim_users"]
    write(f"delete from refined.dim_users where user_key = '{python_hmac('4')}'")  # so that it is new again
    assert len(query(compiled)) == 1
    write_masking_key(NEW_KEY)
    assert query(compiled) == []
