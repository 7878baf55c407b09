"""Refined on the stand-in of Redshift, by the real dbt-redshift and its driver: every relation equals DuckDB's.

What the stand-in cannot show is in docs/architecture.md. Each test brings the lake and the warehouse from whatever
state to one of its own, and compares all of refined.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redshift_connector
import yaml

from infra import warehouse
from sandbox import postgres, redshift
from sandbox.redshift import Redshift
from sandbox.redshift.faults import Fault
from sandbox.redshift.refusals import mistakes
from tests.dbt.test_engines import FUNCTIONS, called_functions
from tests.dbt.user_events import land
from tests.engines import compare, hostile_values
from tests.engines.lakes import AS_THE_DAG, ROOT, SmallLake, read

pytestmark = [pytest.mark.xdist_group("redshift"), pytest.mark.timeout(600)]

DBT = "IAMR:lakehouse-dev-airflow"
READERS = {"REDSHIFT_READERS": "role:analyst", "REDSHIFT_FEATURE_READERS": "role:data_scientist"}


class World:
    """A small lake and the warehouse that reads it."""

    def __init__(self, lake: SmallLake, server: Redshift, password: str) -> None:
        self.lake, self.server, self.password = lake, server, password
        self.profiles = lake.folder / "profiles"
        self._write_profile(password)

    def _write_profile(self, password: str) -> None:
        """The project's profile, but by password and in the clear: GetCredentials and TLS cost 0.3 s a connection."""
        profile = yaml.safe_load((ROOT / "profiles.yml").read_text())
        for name in ("redshift", "redshift_dev"):
            by_password = {"method": "database", "user": DBT, "password": password, "sslmode": "disable"}
            profile["lakehouse"]["outputs"][name] |= by_password
        self.profiles.mkdir()
        (self.profiles / "profiles.yml").write_text(yaml.safe_dump(profile))

    def dbt(self, *arguments: str, target: str = "redshift", **variables: str) -> Any:
        """Run dbt on the warehouse; raises AssertionError with what failed."""
        return self.lake.dbt(
            *arguments, "--target", target, profiles=self.profiles, environment=self.settings(variables)
        )

    def try_dbt(self, *arguments: str, **variables: str) -> Any:
        return self.lake.try_dbt(
            *arguments, "--target", "redshift", profiles=self.profiles, environment=self.settings(variables)
        )

    def settings(self, variables: dict[str, str]) -> dict[str, str]:
        return self.server.exports({}) | READERS | variables

    def build(self, *arguments: str, **variables: str) -> Any:
        return self.dbt("build", *AS_THE_DAG, *arguments, **variables)

    def relations(self, schema: str = "refined") -> dict[str, compare.Relation]:
        """The warehouse's tables and views of a schema, whole, as the administrator reads them by the driver."""
        with self.server.connect() as connection, connection.cursor() as cursor:
            cursor.execute("select table_name from information_schema.tables where table_schema = %s", (schema,))
            names = [name for (name,) in cursor.fetchall()]
            return {name: read(cursor.execute, f'select * from "{schema}"."{name}"') for name in names}

    def connect(self, *, autocommit: bool = True) -> redshift_connector.Connection:
        """A connection as dbt's user."""
        connection = redshift_connector.connect(
            host="127.0.0.1", port=self.server.port, database="lakehouse", user=DBT, password=self.password, ssl=False
        )
        connection.autocommit = autocommit
        return connection

    def entries(self) -> list[dict[str, Any]]:
        """Every login and statement, first to last."""
        return [json.loads(line) for line in self.server.log.read_text().splitlines()]

    def statements(self) -> list[dict[str, Any]]:
        """Every statement that dbt sent, first to last."""
        return [entry for entry in self.entries() if "sql" in entry and entry["user"] == DBT]

    def one_transaction(self, first: str, last: str) -> bool:
        """Whether the last statement like `first` is followed by one like `last` before its transaction ended."""
        statements = self.statements()
        place = max(n for n, entry in enumerate(statements) if re.search(first, entry["sql"], re.I))
        session = [entry for entry in statements[place:] if entry["session"] == statements[place]["session"]]
        end = next(
            n for n, entry in enumerate(session) if re.search(r"^\W*(commit|rollback)|; *commit", entry["sql"], re.I)
        )
        return any(re.search(last, entry["sql"], re.I) for entry in session[:end])

    def may_read(self, who: str, name: str, schema: str = "refined") -> bool:
        """Whether a user or role may select from a relation."""
        with psycopg.connect(self.server.dsn) as administrator:
            asked = "select has_table_privilege(%s, %s, 'select') and has_schema_privilege(%s, %s, 'usage')"
            return administrator.execute(asked, [who, f"{schema}.{name}", who, schema]).fetchone()[0]

    def privileges(self) -> list[tuple[Any, ...]]:
        """All that anybody may do in the database, and how users are bound."""
        with psycopg.connect(self.server.dsn) as administrator:
            granted = """
                select 'schema', nspname, nspowner::regrole::text, nspacl::text from pg_namespace
                union all select 'relation', relname, relowner::regrole::text, relacl::text from pg_class
                union all select 'member', roleid::regrole::text, member::regrole::text, '' from pg_auth_members
                union all select 'user', usename, session_timeout::text, (statement_timeout, sees_all)::text
                from rs.users
            """
            return sorted(administrator.execute(granted).fetchall(), key=repr)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, servers: postgres.Servers) -> Iterator[World]:
    """One server and one lake for all tests; nothing is built."""
    folder = tmp_path_factory.mktemp("redshift")
    database = postgres.create_database(servers, "redshift_lake")
    with SmallLake.api_of_few_characters() as api, patch.dict(os.environ, {"SANDBOX_HOME": str(folder / "sandbox")}):
        lake = SmallLake(folder, database, api)
        lake.land()
        land(folder / "lake", hostile_values.events(2_000_000, 1_000), datetime.now(UTC))
        server = redshift.start(port=postgres.free_port(), environment=os.environ | lake.pipeline.environment)
        try:
            password = "made up for dbt"
            with server.connect() as connection, connection.cursor() as cursor:
                cursor.execute(f"alter user \"{DBT}\" password '{warehouse.digest(password)}'")
            yield World(lake, server, password)
        finally:
            redshift.stop()


@pytest.fixture(scope="module")
def built(world: World) -> World:
    """The first build, of the lake and of the warehouse."""
    world.lake.build()
    world.dbt("build")  # as a person types it: unit tests too, which are not for this engine
    return world


@pytest.fixture
def agrees(built: World) -> Callable[[], None]:
    """Fails unless every relation of refined is equal to DuckDB's."""

    def check(schema: str = "refined") -> None:
        expected, found = built.lake.relations(), built.relations(schema)
        assert found.keys() == expected.keys()
        told = {name: compare.differences(expected[name], found[name]) for name in expected}
        assert {name: lines for name, lines in told.items() if lines} == {}
        assert all(relation.rows for relation in expected.values())

    return check


def test_the_first_build_agrees(built: World, agrees: Callable[[], None]) -> None:
    agrees()


def test_the_projects_own_profile_logs_in_by_iam_over_tls(built: World, agrees: Callable[[], None]) -> None:
    """With nothing new to build, of which two models are enough: each connection costs half a second of boto3."""
    select = ("--select", "dim_users", "mart_users_by_state")
    done = built.lake.dbt("build", "--target", "redshift", *select, environment=built.settings({}))
    assert {str(result.status) for result in done.results} == {"success", "pass"}
    logins = [entry for entry in built.entries() if entry.get("login") == DBT]
    assert sum(entry["tls"] for entry in logins) >= len(done.results)
    agrees()


def test_changes_of_every_length_agree(built: World, agrees: Callable[[], None]) -> None:
    """Inserts, updates and deletes, and texts that no column of refined could hold, nor their trailing blanks."""
    long = {"megabyte": "😀" * 262_144, "bytes": "é" * 200, "address": f"a@{'d' * 249}.com"}
    insert = (
        "INSERT INTO usuarios (nome, email, cpf, telefone, cep, cidade, uf, status, observacoes) VALUES "
        + ", ".join(
            "({})".format(", ".join(f"'{value}'" for value in values))
            for values in (
                [long["megabyte"]] * 6 + ["😀😀", long["megabyte"], long["megabyte"]],
                [
                    long["bytes"],
                    long["address"],
                    "1" * 1_000_000,
                    "1" * 1_000_000,
                    "1" * 9,
                    "x",
                    "é",
                    long["bytes"],
                    "x",
                ],
                ["A  B ", " A@B.example ", "123.456.789-09", "119 ", "01310-777 ", "x", "S", "ativo  ", "x"],
                ["", "", "", "", "", "", "", "", ""],
            )
        )
    )
    built.lake.api.records[0] = built.lake.api.records[0] | {
        "name": f"{long['megabyte']} {long['megabyte']}",
        "films": [long["megabyte"] + "1", long["megabyte"] + "2", "A title ", "A title", f"{'x' * 255} y"],
        "imageUrl": f"https://{'a' * 300_000}/",
    }
    lengthen_the_bill(built)
    built.lake.pipeline.loaders("disney")
    built.lake.change(insert, "DELETE FROM usuarios WHERE id = 3", "UPDATE usuarios SET uf = NULL WHERE id < 30")
    built.lake.build()
    built.build()
    agrees()
    found = built.relations()
    texts = {value for relation in found.values() for row in relation.rows for value in row if isinstance(value, str)}
    assert {"ativo", "é" * 64, "😀" * 64, "😀" * 256, "x" * 255} <= texts
    # Redshift compares as if there were no blanks at the end, so a text with some would mean two things.
    assert [text for text in texts if text != text.rstrip(" ")] == []


def test_the_five_minute_and_the_daily_run_agree(built: World, agrees: Callable[[], None]) -> None:
    """By the selectors of the DAGs. Every five minutes builds all but what AWS bills."""
    built.lake.change(seed=3)
    built.lake.build()
    done = built.build("--selector", "warehouse_every_five_minutes")
    models = {result.node.name for result in done.results if result.node.resource_type == "model"}
    assert models == built.relations().keys() - {"mart_platform_cost"}
    agrees()
    done = built.build("--selector", "warehouse", "--vars", "daily: true")
    names = {result.node.name for result in done.results}
    assert "mart_platform_cost" in names
    assert any(name.startswith("unique_together_dim_users") for name in names)
    agrees()


def test_a_full_refresh_agrees_and_one_of_a_table_keeps_the_view_on_it(
    built: World, agrees: Callable[[], None]
) -> None:
    built.dbt("run", "--full-refresh", "--select", "dim_users")
    agrees()
    assert built.may_read("IAMR:lakehouse-dev-notebook", "user_features")
    built.build("--full-refresh")
    agrees()


def test_a_conflict_in_a_key_rotation_changes_nothing_and_the_next_run_has_the_new_key(
    built: World, agrees: Callable[[], None]
) -> None:
    """An adapter that sends the failed statement again by another connection commits it without the hook's delete."""
    before = built.relations()["dim_users"]
    built.lake.rotate_key("a5" * 32)
    built.lake.build("--select", "path:models/refined")
    for fault in (
        Fault('insert into "dim_users__dbt_tmp'),
        Fault('insert into "dim_users__dbt_tmp', lose_connection=True),
    ):
        built.server.tell(fault)
        done = built.try_dbt("run", "--select", "dim_users")
        assert not done.success
        assert built.server.pending() == []
        assert built.relations()["dim_users"] == before
    built.build()
    agrees()
    assert built.one_transaction(r"delete from \S+dim_users\S* where key_id not in", r"insert into \S+dim_users")


def test_who_is_erased_is_gone_and_the_counts_agree(built: World, agrees: Callable[[], None]) -> None:
    built.lake.change("UPDATE usuarios SET status = 'inativo' WHERE id IN (5, 6)", changes=0)
    built.lake.pipeline.loaders("erase", "--user-id", "5", "--user-id", "6")
    built.lake.build()
    built.build()
    agrees()
    assert built.one_transaction(
        r"delete from \S+fct_user_changes\S* where window_start in", r"insert into \S+fct_user"
    )


def test_external_schemas_show_the_lake_as_it_is_now(built: World) -> None:
    """Also within a transaction that has read them before, as Spectrum does."""
    reader = built.connect(autocommit=False)
    with reader, reader.cursor() as cursor:
        cursor.execute("select count(*) from curated.brazilian_states")
        assert cursor.fetchall() == ([27],)
        built.lake.write("create or replace table curated.brazilian_states as from curated.brazilian_states limit 5")
        cursor.execute("select count(*) from curated.brazilian_states")
        assert cursor.fetchall() == ([5],)
        built.lake.write("create table curated.just_made as select 1 as one, 'x' as text")
        cursor.execute("select text, one from lakehouse.curated.just_made")
        assert cursor.fetchall() == (["x", 1],)
        cursor.execute("select columnname, external_type from svv_external_columns where tablename = 'just_made'")
        assert sorted(map(tuple, cursor.fetchall())) == [("one", "int"), ("text", "string")]
        built.lake.write("drop table curated.just_made")
        reader.commit()
        with pytest.raises(redshift_connector.ProgrammingError, match=r"curated\.just_made.* does not exist"):
            cursor.execute("select * from curated.just_made")
    with built.server.connect("quicksight") as reader, reader.cursor() as cursor:
        for schema in ("curated", "vault"):
            with pytest.raises(redshift_connector.ProgrammingError, match=f"permission denied for schema {schema}"):
                cursor.execute(f"select * from {schema}.users")
    built.lake.build("--full-refresh", "--select", "brazilian_states")


def test_readers_who_are_taken_from_the_list_read_no_longer(built: World) -> None:
    """Whatever they are, a role or a user, and whether the table is replaced (a mart), kept (dim_users) or a view."""
    with built.server.connect() as admin, admin.cursor() as cursor:
        cursor.execute("create role bi")
        cursor.execute("grant usage on schema refined to role bi")
    run = ("run", "--select", "dim_users", "mart_users_by_state", "user_features")
    names = run[2:]
    analyst, notebook = "IAMR:lakehouse-dev-analyst", "IAMR:lakehouse-dev-notebook"
    assert all(built.may_read(analyst, name) for name in names)
    assert [built.may_read(notebook, name) for name in names] == [False, False, True]
    built.dbt(*run, REDSHIFT_READERS="role:bi, user:quicksight", REDSHIFT_FEATURE_READERS="role:bi")
    assert all(built.may_read(reader, name) for reader in ("bi", "quicksight") for name in names)
    assert not any(built.may_read(reader, name) for reader in (analyst, notebook) for name in names)
    built.dbt(*run, REDSHIFT_READERS="", REDSHIFT_FEATURE_READERS="")
    assert not any(built.may_read(reader, name) for reader in ("bi", "quicksight", analyst, notebook) for name in names)
    built.dbt(*run)


def test_a_transaction_that_a_reader_left_open_ends_before_the_build_does(built: World) -> None:
    """By their SESSION TIMEOUT, which is shortened here from the two minutes of infra/warehouse.sql."""
    with psycopg.connect(built.server.dsn) as administrator:
        bounded = "update rs.users set session_timeout = %s where usename = 'quicksight' returning session_timeout"
        administrator.execute(bounded, [2])
    try:
        cursor = built.server.connect("quicksight", autocommit=False).cursor()
        cursor.execute("select count(*) from refined.mart_users_by_state")
        built.dbt("run", "--select", "mart_users_by_state")
        with pytest.raises(redshift_connector.Error):
            cursor.execute("select count(*) from refined.mart_users_by_state")
    finally:
        with psycopg.connect(built.server.dsn) as administrator:
            administrator.execute(bounded, [120])


def test_the_example_of_data_science_leaves_no_transaction_open(built: World) -> None:
    """As in a notebook of SageMaker: by the notebook's role, by IAM over TLS."""
    keys = {
        "AWS_ACCESS_KEY_ID": "lakehouse-dev-notebook",
        "AWS_SECRET_ACCESS_KEY": "made-up",
        "AWS_REGION": "us-east-1",
    }
    environment = (
        built.lake.pipeline.environment | built.server.exports(keys) | keys | {"AWS_DEFAULT_REGION": "us-east-1"}
    )
    command = [sys.executable, ROOT / "examples/read_features.py", "--warehouse"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "users" in done.stdout, done.stderr
    [asked] = [entry for entry in built.entries() if entry.get("user") == "IAMR:lakehouse-dev-notebook"]
    assert "refined.user_features" in asked["sql"]


def test_a_developers_own_target_reads_and_builds_its_own_schemas(
    built: World, agrees: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER", "ana")
    with built.server.connect() as admin, admin.cursor() as cursor:
        cursor.execute(f'grant create on database lakehouse to "{DBT}"')
    built.lake.write("create schema ana_curated")
    for name in built.lake.relations("curated"):
        built.lake.write(f"create table ana_curated.{name} as from curated.{name}")
    built.dbt("run-operation", "create_external_schemas", target="redshift_dev", USER="ana")
    built.dbt("build", *AS_THE_DAG, target="redshift_dev", USER="ana")
    agrees("ana_refined")
    assert not built.may_read("IAMR:lakehouse-dev-analyst", "mart_users_by_state", schema="ana_refined")


def test_docs_freshness_and_run_operations(built: World, capsys: pytest.CaptureFixture[str]) -> None:
    catalogue = built.dbt("docs", "generate")
    tables = {node.metadata.name: set(node.columns) for node in catalogue.nodes.values()}
    assert tables == {name: set(relation.columns) for name, relation in built.relations().items()}
    built.dbt("source", "freshness")
    capsys.readouterr()
    role = "arn:aws:iam::123456789012:role/made-up"
    built.dbt("run-operation", "create_external_schemas", "--args", f"{{iam_role: '{role}'}}")
    curated, vault = capsys.readouterr().out.strip().rstrip(";").split(";\n\n")
    assert curated == (
        f"create external schema if not exists \"curated\"\nfrom data catalog\ndatabase 'curated'\niam_role '{role}'"
    )
    assert vault == curated.replace("curated", "vault")
    built.dbt("run-operation", "grant_usage")
    statement = 'grant usage on schema "refined" to ROLE analyst, ROLE data_scientist'
    assert capsys.readouterr().out.strip() == f"{statement};"
    [granted] = [entry for entry in built.statements() if entry["sql"].endswith(statement)]
    assert (granted["transaction"], granted.get("error")) == ("I", None)


def test_warehouse_sql_runs_again_and_changes_nothing(built: World) -> None:
    before = built.privileges()
    assert redshift.prepare(built.server) > 0
    assert built.privileges() == before


def test_redshift_refuses_no_statement_that_was_sent(built: World) -> None:
    """Nor answers one otherwise than PostgreSQL does. Its documentation says so, not Redshift."""
    sent = {(entry["sql"], entry["transaction"] != "I") for entry in built.statements()}
    assert len(sent) > 100
    found = {sql: list(map(str, told)) for sql, within in sent if (told := mistakes(sql, in_transaction=within))}
    assert found == {}


def test_redshift_refuses_no_compiled_sql_of_refined(built: World) -> None:
    """That of a first run; what later ones send is above. All tests, the daily ones too."""
    done = built.dbt("compile", "--vars", "daily: true", "--full-refresh")
    compiled = [result.node for result in done.results]
    assert {node.name for node in compiled} >= built.relations().keys()
    known = set(FUNCTIONS["redshift"].split())
    assert {
        node.name: new for node in compiled if (new := called_functions(node.compiled_code, "redshift") - known)
    } == {}
    assert {node.name: found for node in compiled if (found := list(map(str, mistakes(node.compiled_code))))} == {}


def lengthen_the_bill(world: World) -> None:
    """Let AWS name a service, a currency and a unit that no column of refined could hold."""
    for path in (world.lake.folder / "lake/raw/aws").rglob("*.snappy.parquet"):
        table = pq.read_table(path, partitioning=None)
        rows = table.to_pylist()
        for column in ("line_item_product_code", "line_item_currency_code", "pricing_unit"):
            rows[0][column] = "😀" * 300_000
        pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
