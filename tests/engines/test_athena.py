"""The project on the local Athena: the real dbt-athena, Trino's SQL and Iceberg, every relation equal to DuckDB's.

What the stand-in cannot show is in docs/architecture.md. Each test takes the lake from whatever state to one of its
own, builds as a user or the DAGs do, and compares all layers row by row.
"""

import json
import random
import re
import string
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from trino.exceptions import TrinoQueryError

from loaders.compaction import compact
from loaders.retention import retain
from sandbox import athena, cost_export, customer_app, postgres
from sandbox.characters import characters
from sandbox.disney_api import DisneyApi
from tests.conftest import LocalAthena
from tests.dbt.test_stream import deliver, lines, rows_of, transform  # noqa: F401 - a fixture
from tests.dbt.user_events import land
from tests.engines import hostile_values, iceberg_files
from tests.engines.athena import CHARACTERS, LAYERS, PEOPLE, World

pytestmark = [pytest.mark.xdist_group("athena"), pytest.mark.timeout(900)]

FIVE_MINUTES = "_every_five_minutes"
DAILY = ("--vars", "daily: true")  # with the tests that read whole tables
POSITIONS = "select count(*), count(distinct (epoch, commit_lsn, change_seq)) from staging.base_customer__user_changes"
COLUMNS = "nome, email, cpf, telefone, data_nascimento, cep, cidade, uf, renda_mensal, status"


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, servers: postgres.Servers, local_athena: LocalAthena
) -> Iterator[World]:
    """A small lake that is built as a user types it, its Lake Formation tags set up as the project itself says."""
    folder = tmp_path_factory.mktemp("athena")
    athena.empty(local_athena.engine)
    database = postgres.create_database(servers, "athena")
    customer_app.create_table(database.app_dsn)
    customer_app.seed_people(database.app_dsn, PEOPLE, seed=1)
    cost_export.deliver(folder / "delivered", datetime.now(UTC).date(), ended=False)
    with DisneyApi(records=characters(CHARACTERS)) as api:
        world = World(folder, local_athena, database, api)
        for path in (folder / "delivered").rglob("*.parquet"):
            world.put(path, str(path.relative_to(folder / "delivered")))
        for command in ("key", "users", "disney"):
            world.loaders(command)
        create_lake_formation_tags(world)
        world.dbt("run-operation", "create_raw_tables")
        world.first_build = world.dbt("build", "--exclude-resource-type", "unit_test")
        yield world


def create_lake_formation_tags(world: World) -> None:
    """Run what the project prints for an administrator, as far as it creates tags."""
    printed = world.printed("run-operation", "print_lake_formation_setup")
    formation = world.client("lakeformation")
    for key, values in re.findall(r"create-lf-tag --tag-key (\w+) --tag-values (.+)", printed):
        formation.create_lf_tag(TagKey=key, TagValues=values.split())


def test_the_first_build_is_green(world: World) -> None:
    """Unit tests are run by the commands of README (tests/test_documents.py)."""
    kinds = {result.node.resource_type for result in world.first_build.results}
    assert {"model", "seed", "test"} <= kinds
    world.build_twin()
    assert world.assert_equals_twin() > 1_000


def test_tables_have_their_lake_formation_tags(world: World) -> None:
    formation, users = world.client("lakeformation"), {"DatabaseName": "curated", "Name": "users"}
    tags = formation.get_resource_lf_tags(Resource={"Table": users})["LFTagsOnTable"]
    assert {tag["TagKey"]: tag["TagValues"] for tag in tags} == {"layer": ["curated"], "pii": ["undeclared"]}
    columns = users | {"ColumnNames": ["email", "user_id", "batch_id"]}
    found = formation.get_resource_lf_tags(Resource={"TableWithColumns": columns})["LFTagsOnColumns"]
    assert {column["Name"]: column["LFTags"][0]["TagValues"] for column in found} == {
        "email": ["email"],
        "user_id": ["identifier"],
    }


def test_seeds_lie_where_every_reader_may_read(world: World) -> None:
    """In a workgroup that enforces its settings, a table that is not Iceberg's lies below the queries' results."""
    for seed in ("brazilian_states", "media_types"):
        table = world.client("glue").get_table(DatabaseName="curated", Name=seed)["Table"]
        assert table["StorageDescriptor"]["Location"].startswith("s3://lake/tables/")
    assert world.objects("athena-results") == {}


def test_changes_of_the_loader_of_the_stream_and_of_dms(
    world: World,
    tmp_path: Path,
    transform: Callable[[list[Any]], list[dict[str, Any]]],  # noqa: F811
) -> None:
    rng = random.Random(4)

    def text() -> str:
        return "".join(rng.choices(string.ascii_letters, k=9_000))  # so long that an update leaves it out

    world.change(60, seed=2)
    with psycopg.connect(world.database.app_dsn, autocommit=True) as app:
        for number in range(900_001, 900_041):
            values = [number, f"Longo {number}", f"longo{number}@example.com", f"{number}", "11987654321", "1980-01-02"]
            values += ["01310100", "Natal", "RN", 1_000 + number % 7, "ativo", text()]
            places = ", ".join(["%s"] * len(values))
            app.execute(f"INSERT INTO usuarios (id, {COLUMNS}, observacoes) VALUES ({places})", values)
    world.loaders("users")
    with psycopg.connect(world.database.app_dsn, autocommit=True) as app:
        app.execute("UPDATE usuarios SET cidade = 'Recife' WHERE id BETWEEN 900001 AND 900020")
        app.execute("UPDATE usuarios SET observacoes = null WHERE id = 900003")
        app.execute("UPDATE usuarios SET cidade = 'Olinda' WHERE id = 900003")
        app.execute("UPDATE usuarios SET id = id + 100 WHERE id BETWEEN 900010 AND 900015")
        app.execute("UPDATE usuarios SET id = 950000 WHERE id = 900020")
        for step in range(15):
            app.execute("UPDATE usuarios SET id = %s WHERE id = %s", [950_001 + step, 950_000 + step])
        app.execute("UPDATE usuarios SET cidade = 'Belém' WHERE id IN (900110, 950015)")
        app.execute("DELETE FROM usuarios WHERE id = 900030")
    world.loaders("users")
    today = f"raw/customer/usuarios/load_date={datetime.now(UTC):%Y-%m-%d}"
    feeds = (lines("user_changes.jsonl"), rows_of(transform(lines("dms.jsonl"))))
    for number, rows in enumerate(feeds, 1):
        path = deliver(tmp_path, rows, number)
        world.put(path, f"{today}/{path.name}")
    batch_id = land(tmp_path, hostile_values.events(2_000_000, 1_000), datetime.now(UTC))
    [path] = tmp_path.rglob(f"{batch_id}.parquet")
    world.put(path, f"{today}/{path.name}")
    world.api.change(seed=1)
    world.loaders("disney")

    world.as_the_dag(FIVE_MINUTES)
    world.build_twin()
    world.assert_equals_twin()
    assert world.query("select count(*) from curated.user_versions where unreadable_columns is not null")[0][0] > 50
    rejected = world.query("select count(*) from staging.stg_customer__rejected_user_changes")[0][0]
    assert rejected == len(hostile_values.WITHOUT_A_KEY) + 2
    [(notes,)] = world.query("select length(notes) from curated.users where user_id = 950015")
    assert notes == 9_000  # through sixteen changes of its key

    # `verify` asks each engine for hashes of the rows as they are now, and as most of them were before the changes.
    reached = "select approx_percentile(commit_lsn, 0.5), max(commit_lsn) from curated.users where not is_deleted"
    for lsn in world.query(reached)[0]:
        assert world.hashes("athena", 1, lsn + 1) == world.hashes("local", 1, lsn + 1)


def test_nothing_new_appends_nothing_and_changes_nothing(world: World) -> None:
    """A merge may write what is there already; what is appended would be there twice."""
    before = len(world.statements())
    world.dbt("run", "--select", "user_changes", "users", "user_versions", "dim_users", "fct_user_changes")
    appended = [ran for ran in world.statements()[before:] if "insert into" in ran["statement"]]
    assert appended
    assert [ran["statement"] for ran in appended if ran["rows_written"]] == []
    world.assert_equals_twin(("curated", "refined"))


def test_truncate_resnapshot_rotation_and_erasure_in_the_daily_run(world: World) -> None:
    """Raw is compacted before the build, as the DAG does, here while the engine reads it; then files are retired."""
    with psycopg.connect(world.database.app_dsn, autocommit=True) as app:
        # People with the least and greatest values: manifests hold these too, as columns' bounds.
        extremes = f"SELECT id, email, cpf FROM usuarios WHERE id <= {PEOPLE} ORDER BY {{}} LIMIT 1"
        erased = [app.execute(extremes.format(order)).fetchone() for order in ("cpf", "email DESC")]
        app.execute("TRUNCATE usuarios")
    world.erased_values = [value for _, *texts in erased for value in texts]
    assert iceberg_files.holding(world.objects("lake", "tables/"), world.erased_values)
    customer_app.seed_people(world.database.app_dsn, 60, seed=5)
    world.loaders("users")
    world.change(30, seed=6)
    world.loaders("users", "--resnapshot")
    world.loaders("erase", *(f"--user-id={user_id}" for user_id, *_ in erased))
    world.loaders("key", "--rotate", MASKING_KEY="b7" * 32)
    world.api.change(seed=2)
    world.loaders("disney")

    [(_, positions)] = world.query(POSITIONS)
    with reading(world) as answers, world.settings() as settings:
        assert compact(settings, now=datetime.now(UTC) + timedelta(days=2)).files > 1
    assert {distinct for _, distinct in answers} <= {positions}
    world.as_the_dag("", *DAILY)
    world.build_twin()
    world.assert_equals_twin()

    with world.settings(RAW_RETENTION_DAYS="1") as settings:
        assert retain(settings, now=datetime.now(UTC) + timedelta(days=3)).files["customer/usuarios"] > 0
    assert world.query(POSITIONS)[0][1] < positions
    assert world.dbt("source", "freshness", *DAILY).results


def test_maintenance_with_forget_leaves_no_erased_value_in_any_file(world: World) -> None:
    """OPTIMIZE and VACUUM are repeated while Athena asks for more runs, an error that Trino does not have."""
    more_runs = {name: f"ICEBERG_{name.upper()}_MORE_RUNS_NEEDED" for name in ("optimize", "vacuum")}
    faults = [
        {"pattern": rf"\b{name}\b.*\busers\b", "error": f"{error}: run it again", "times": 2}
        for name, error in more_runs.items()
    ]
    athena.inject(world.engine, *faults)
    before = len(world.statements())
    world.dbt("run-operation", "maintain_tables", "--args", "forget: true", *DAILY)
    ran = world.statements()[before:]
    failed = [statement["reason"].split(":")[0] for statement in ran if statement["reason"]]
    assert sorted(failed) == sorted([*more_runs.values()] * 2)
    touched = [statement["rows_written"] for statement in ran if "update " in statement["statement"]]
    assert len(touched) >= 5
    assert max(touched) <= 2  # a row, and at most the other one of the same key
    age = """select value from curated."users$properties" where key = 'vacuum_max_snapshot_age_seconds'"""
    assert world.query(age) == [("432000",)]

    assert iceberg_files.holding(world.objects("lake"), world.erased_values) == {}
    assert iceberg_files.holding(world.objects("athena-results"), world.erased_values) == {}
    told = json.dumps(world.statements(), ensure_ascii=False)
    assert [value for value in world.erased_values if value in told] == []
    world.assert_equals_twin(("curated", "refined"))


def test_a_full_refresh_from_raw(world: World) -> None:
    world.as_the_dag("", *DAILY, "--full-refresh", "--resource-type", "model", "--resource-type", "seed")
    world.build_twin("--full-refresh")
    world.assert_equals_twin()


def test_docs_know_every_relation_and_its_columns(world: World) -> None:
    world.dbt("docs", "generate", *DAILY)
    catalog = json.loads((world.folder / "target-athena/catalog.json").read_text())
    assert catalog["errors"] is None
    nodes = {(node["metadata"]["schema"], node["metadata"]["name"]): node for node in catalog["nodes"].values()}
    for layer in LAYERS:
        columns = "select table_name, array_agg(column_name) from information_schema.columns"
        for name, expected in world.query(f"{columns} where table_schema = '{layer}' group by table_name"):
            assert sorted(nodes[layer, name]["columns"]) == sorted(expected)


def test_a_developer_builds_in_schemas_of_their_own(world: World) -> None:
    world.dbt("run", "--select", "+characters", target="athena_dev")
    assert world.relations("ana_curated") == ["characters"]
    current = "select count(*), min(name), max(record_hash) from {}.characters where removed_at is null"
    assert world.query(current.format("ana_curated")) == world.query(current.format("curated"))


@contextmanager
def reading(world: World) -> Iterator[list[tuple[Any, ...]]]:
    """Ask the engine for POSITIONS again and again in a thread; gives the list of its answers.

    A query may fail while its files are replaced, as on S3; what it answers must be right.
    """
    answers: list[tuple[Any, ...]] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            with suppress(TrinoQueryError):
                answers.extend(world.query(POSITIONS))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        done.set()
        thread.join()
