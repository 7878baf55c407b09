"""What compaction and retention of raw mean to dbt: the same tables, and the same current state."""

from collections.abc import Callable
from datetime import UTC, timedelta
from pathlib import Path

from loaders.compaction import compact
from loaders.retention import retain
from loaders.settings import from_environment
from tests.dbt.lakes import Dbt, land_crawl
from tests.dbt.test_any_order import tables_found
from tests.dbt.test_characters import START, record
from tests.dbt.test_characters import tables as character_tables
from tests.dbt.user_events import NOON, Event, land, row

EVERYTHING = ["--exclude", "resource_type:unit_test", "resource_type:test"]


def land_history(lake: Path) -> None:
    """Two epochs and crawls over three days, several files on each: users who change, vanish and stay."""
    batches = [
        (0, 1, [Event("t", 10), *[Event("r", 10, user, after=row(user, nome=f"Ana {user}")) for user in (1, 2, 3)]]),
        (1, 1, [Event("u", 20, 0, after={"id": "1", "nome": "Bia"}), Event("d", 20, 1, before={"id": "3"})]),
        (24, 1, [Event("c", 30, 0, after=row(4, nome="Caio", email="caio@example.com"))]),
        (25, 1, [Event("u", 40, 0, {"id": "4"}, row(5, nome="Caio"))]),
        (25.5, 2, [Event("t", 5, 0, epoch=2), *[Event("r", 5, u, after=row(u), epoch=2) for u in (1, 2)]]),
        (26, 2, [Event("u", 15, 0, after={"id": "2", "nome": "Davi"}, epoch=2)]),
        (49, 2, [Event("c", 25, 0, after=row(6, nome="Eva"), epoch=2)]),
        (50, 2, [Event("d", 35, 0, before={"id": "1"}, epoch=2)]),
    ]
    ends: dict[int, int] = {}
    for hour, epoch, events in batches:
        first, end = ends.get(epoch, 0), events[-1].commit_lsn + 1
        land(lake, events, NOON.replace(hour=0) + timedelta(hours=hour), f"{epoch}-{first:016X}-{end:016X}")
        ends[epoch] = end
    crawls = [[1, 2], [1, 2, 3], [2, 3], [1, 3], [1, 3], [1, 4]]
    for number, ids in enumerate(crawls):
        name = f"Name {number // 2}"
        land_crawl(lake, START + timedelta(hours=9 * number), [record(i, name, films=[f"Film {i}"]) for i in ids])


def files(lake: Path) -> int:
    return sum("empty" not in path.name for path in lake.rglob("*.parquet"))


def test_a_full_refresh_gives_the_same_tables_after_compaction(
    dbt: Dbt, lake: Path, query: Callable[..., list[tuple]]
) -> None:
    land_history(lake)
    dbt("build", "--full-refresh", *EVERYTHING)
    before = tables_found(query) | character_tables(query)
    assert len(before["users"]) == 6
    batches = files(lake)

    compact(from_environment({"LAKE_URI": str(lake)}))
    assert files(lake) < batches
    dbt("build", *EVERYTHING)  # nothing is new
    assert tables_found(query) | character_tables(query) == before
    dbt("build", "--full-refresh", *EVERYTHING)
    assert tables_found(query) | character_tables(query) == before


def test_a_full_refresh_gives_the_same_current_state_after_retention(
    dbt: Dbt, lake: Path, query: Callable[..., list[tuple]]
) -> None:
    def state() -> list[list[tuple]]:
        return [
            query(f"select {columns} from curated.{table} where {current} order by all")
            for table, columns, current in [
                ("users", "* exclude (row_version)", "not is_deleted"),
                ("characters", "* exclude (first_seen_at, changed_at)", "removed_at is null"),
                (
                    "character_appearances",
                    "*",
                    "character_id in (select character_id from curated.characters where removed_at is null)",
                ),
            ]
        ]

    land_history(lake)
    dbt("build", "--full-refresh", *EVERYTHING)
    before = state()
    assert [len(rows) for rows in before[:2]] == [2, 2]
    everything = tables_found(query) | character_tables(query)

    settings = from_environment({"LAKE_URI": str(lake), "RAW_RETENTION_DAYS": "1"})
    removed = retain(settings, now=NOON.astimezone(UTC) + timedelta(days=400))
    assert removed.files == {"customer/usuarios": 4, "disney/characters": 5}
    dbt("build", *EVERYTHING)  # what is built keeps what it knows
    assert tables_found(query) | character_tables(query) == everything
    dbt("build", "--full-refresh", *EVERYTHING)
    assert state() == before
