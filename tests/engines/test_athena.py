"""The project on the local Athena: the real dbt-athena, Trino's SQL and Iceberg, every relation equal to DuckDB's.

What the stand-in cannot show is in docs/architecture.md. Each test takes the lake from whatever state to one of its
own, builds, and compares all layers row by row.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sandbox import athena, cost_export, customer_app, postgres
from sandbox.characters import characters
from sandbox.disney_api import DisneyApi
from tests.engines.athena import CHARACTERS, PEOPLE, World

pytestmark = [pytest.mark.xdist_group("athena"), pytest.mark.timeout(900)]

FIVE_MINUTES = "_every_five_minutes"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, servers: postgres.Servers) -> Iterator[World]:
    """A small lake whose raw tables exist; nothing is built yet."""
    folder = tmp_path_factory.mktemp("athena")
    database = postgres.create_database(servers, "athena")
    customer_app.create_table(database.app_dsn)
    customer_app.seed_people(database.app_dsn, PEOPLE, seed=1)
    cost_export.deliver(folder / "delivered", datetime.now(UTC).date(), ended=False)
    with pytest.MonkeyPatch.context() as patch, DisneyApi(records=characters()[:CHARACTERS]) as api:
        patch.setenv("SANDBOX_HOME", str(folder / "sandbox"))
        world = World(folder, athena.start(), database, api)
        for path in (folder / "delivered").rglob("*.parquet"):
            world.put(path, str(path.relative_to(folder / "delivered")))
        for command in ("key", "users", "disney"):
            world.loaders(command)
        world.dbt("run-operation", "create_raw_tables")
        yield world
        athena.stop()


def test_the_first_build_is_green_as_a_user_types_it(world: World) -> None:
    results = world.dbt("build").results
    kinds = {result.node.resource_type for result in results}
    assert {"model", "seed", "test", "unit_test"} <= kinds
    world.build_twin()
    assert world.assert_equals_twin() > 1_000


def test_nothing_new_changes_nothing(world: World) -> None:
    before = {name: world.query(f"select * from curated.{name}") for name in ("users",)}
    world.as_the_dag(FIVE_MINUTES)
    assert before
    world.assert_equals_twin()
