"""Crawls of the Disney API become characters: any way of cutting them into runs gives what a full refresh gives."""

import itertools
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.dbt.lakes import MASKING_KEY, Dbt, land_crawl

MODELS = ["--select", "media_types", "source:disney+", "--exclude", "resource_type:unit_test"]
TABLES = [
    "curated.characters",
    "curated.character_appearances",
    "curated.character_relations",
    "refined.dim_characters",
    "refined.fct_character_appearances",
    "refined.mart_media_catalogue",
]
START = datetime(2026, 1, 1, 23, 50)


def record(character_id: int, name: str = "Ana", **fields: Any) -> dict[str, Any]:
    lists = ("films", "shortFilms", "tvShows", "videoGames", "parkAttractions", "allies", "enemies")
    return {"_id": character_id, "name": name} | {key: [] for key in lists} | fields


@pytest.fixture
def build(dbt: Dbt) -> Callable[..., Any]:
    return lambda *arguments: dbt("build", *MODELS, *arguments)


def tables(query: Callable[..., Any]) -> dict[str, list[tuple]]:
    return {name: query(f"select * from {name} order by all") for name in TABLES}


def test_an_empty_lake_builds(build: Callable[..., Any], query: Callable[..., Any]) -> None:
    build()
    assert tables(query) == {name: [] for name in TABLES}


def test_a_record_without_an_id_is_set_aside_and_a_bad_value_costs_that_value(
    build: Callable[..., Any], lake: Path, query: Callable[..., Any]
) -> None:
    """Change-data faults, S1 'What staging sets aside is not only that event', for the Disney API."""
    bad = record(2, films="one", tvShows=["Ação"], allies=["Ana"]) | {"name": {"first": "Bia"}, "imageUrl": []}
    land_crawl(lake, START, [record(1, films=["Ação, the Film"]), '{"_id": 2,', {"name": "no id"}, {"_id": []}, bad])
    results = {result.node.name: result for result in build().results}
    assert query("select character_id, work_title from curated.character_appearances order by 1") == [
        (1, "Ação, the Film"),
        (2, "Ação"),
    ]
    assert query("select related_name from curated.character_relations") == [("Ana",)]
    assert query("select character_id, name, image_url, unreadable_columns from curated.characters order by 1") == [
        (1, "Ana", None, None),
        (2, None, None, ",name,image_url,films,"),
    ]
    assert query("select reason from staging.stg_disney__rejected_characters order by 1") == [
        ("_id is not an integer",),
        ("malformed JSON",),
        ("no _id",),
    ]
    for name, failures in [("rejected_characters", 3), ("unreadable_character_columns", 3)]:
        assert (results[name].status, results[name].failures) == ("warn", failures)


def test_a_new_key_is_reported_by_name_only(build: Callable[..., Any], lake: Path) -> None:
    land_crawl(lake, START, [record(1, voiceActor="somebody")])
    results = {result.node.name: result for result in build().results}
    assert results["drifted_character_keys"].status == "warn"


def test_the_order_of_keys_and_the_time_of_a_touch_are_no_change(
    build: Callable[..., Any], lake: Path, query: Callable[..., Any]
) -> None:
    first = record(1, films=["A", "B"], updatedAt="2021-04-12T01:31:30.547Z")
    land_crawl(lake, START, [first])
    build()
    touched = dict(reversed(first.items())) | {"updatedAt": "2022-01-01T00:00:00.000Z"}
    land_crawl(lake, START + timedelta(minutes=5), [touched])
    build()
    assert query("select changed_at from curated.characters") == [(START,)]
    land_crawl(lake, START + timedelta(minutes=10), [touched | {"films": ["A"]}])
    build()
    assert query("select changed_at from curated.characters") == [(START + timedelta(minutes=10),)]


def test_a_picture_that_is_gone_is_gone(build: Callable[..., Any], lake: Path, query: Callable[..., Any]) -> None:
    land_crawl(lake, START, [record(1, imageUrl="https://example.com/1.png")])
    land_crawl(lake, START + timedelta(minutes=5), [record(1)])
    build()
    assert query("select image_url from curated.characters") == [(None,)]


HISTORIES = list(itertools.product(["absent", "a", "b", "unreadable"], repeat=4))


def land_histories(lake: Path, crawl: int) -> None:
    """Land one of four crawls, in which each character is in one of four states; one more is always there, because a
    crawl of nothing never lands. The crawls lie on both sides of midnight."""
    records = [
        record(id_, history[crawl], films=[history[crawl]])
        if history[crawl] in "ab"
        else f'{{"_id": {id_}, "name": {{}}, "films": 1}}'
        for id_, history in enumerate(HISTORIES)
        if history[crawl] != "absent"
    ]
    land_crawl(lake, at(crawl), [*records, record(1000, "Always", allies=["a"])])


def at(crawl: int) -> datetime:
    return START + timedelta(minutes=7 * crawl)


def expected(history: tuple[str, ...]) -> tuple[str | None, str | None, datetime, datetime, datetime | None] | None:
    """Name, unreadable columns, first seen, changed and removed of a character with that history; none if unseen."""
    seen = [(crawl, content) for crawl, content in enumerate(history) if content != "absent"]
    if not seen:
        return None
    before = [None, *(content for _, content in seen)]
    changed = [crawl for (crawl, content), earlier in zip(seen, before, strict=False) if content != earlier][-1]
    last_seen, content = seen[-1]
    removed_at = at(last_seen + 1) if last_seen + 1 < len(history) else None
    name, unreadable = (None, ",name,films,") if content == "unreadable" else (content, None)
    return name, unreadable, at(seen[0][0]), at(changed), removed_at


@pytest.mark.parametrize("runs", [[[0, 1, 2, 3]], [[0], [1], [2], [3]], [[0, 1], [2, 3]], [[0], [1, 2, 3]]])
def test_any_cut_of_the_crawls_into_runs_gives_every_history(
    dbt: Dbt, lake: Path, query: Callable[..., Any], runs: list[list[int]]
) -> None:
    for crawls in runs:
        for crawl in crawls:
            land_histories(lake, crawl)
        dbt("run", "--select", "path:models/staging/disney", "characters")
    found = query(
        """
        select character_id, name, unreadable_columns, first_seen_at, changed_at, removed_at
        from curated.characters order by 1
        """
    )
    known = [(id_, *row) for id_, history in enumerate(HISTORIES) if (row := expected(history))]
    assert found == [*known, (1000, "Always", None, START, START, None)]
    in_runs = query("select * from curated.characters order by 1")
    dbt("run", "--select", "characters", "--full-refresh")
    assert query("select * from curated.characters order by 1") == in_runs


def test_later_runs_give_what_a_full_refresh_gives(
    build: Callable[..., Any], lake: Path, query: Callable[..., Any]
) -> None:
    for crawl in range(2):
        land_histories(lake, crawl)
        build()
    in_runs = tables(query)
    assert all(in_runs.values())
    build("--full-refresh")
    assert tables(query) == in_runs


def test_refined_holds_no_name_and_no_link(build: Callable[..., Any], lake: Path, query: Callable[..., Any]) -> None:
    person = record(4711, "Zuleika Quintanilha", imageUrl="https://example.com/zuleika.png", films=["Some Film"])
    land_crawl(lake, START, [person])
    build()
    names = query("select table_name from information_schema.tables where table_schema = 'refined'")
    text = "".join(str(query(f"select * from refined.{name}")) for (name,) in names)
    assert "Some Film" in text
    assert "Z. Q." in text
    assert not [secret for secret in ("Zuleika", "Quintanilha", "zuleika", "4711", MASKING_KEY.hex()) if secret in text]
