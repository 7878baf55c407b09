"""`python -m loaders verify`: the lake against the source, each of them corrupted behind the loader's back."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import duckdb
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from loaders import __main__, verify
from loaders.settings import Settings, from_environment
from loaders.users import shape
from loaders.users.server import connect
from loaders.users.state import KEY
from loaders.verify import Differences, bucket_width
from loaders.verify.source import Column, canonical
from sandbox import customer_app, postgres
from tests.background import repeating
from tests.engines import hostile_values
from tests.loaders.users.conftest import person
from tests.pipeline.product import Pipeline, new_pipeline

PEOPLE = 300


class Compared:
    """A lake that equals its source, and what can be done to either."""

    def __init__(self, pipeline: Pipeline, database: postgres.Database) -> None:
        self.pipeline, self.database = pipeline, database
        self.warehouse = pipeline.folder / "lake/warehouse.duckdb"

    @property
    def settings(self) -> Settings:
        return from_environment(self.pipeline.environment)

    @property
    def environment(self) -> dict[str, str]:
        """With the folder in which dbt keeps what it has parsed."""
        return self.pipeline.environment | {"DBT_TARGET_PATH": str(self.pipeline.folder / "target")}

    def verify(self, **settings: str | None) -> verify.Verified:
        with patch.dict(os.environ, self.environment):
            return verify.verify(replace(self.settings, **settings), keys=True)

    def main(self, *arguments: str) -> int:
        with patch.dict(os.environ, self.environment):
            return __main__.main(["verify", *arguments])

    def write(self, *statements: str) -> None:
        """Run the statements as the application, in one transaction."""
        with psycopg.connect(self.database.app_dsn) as app:
            for statement in statements:
                app.execute(statement)

    @contextmanager
    def writing(self, statement: str) -> Iterator[None]:
        """Meanwhile the application runs the statement, over and over."""
        with psycopg.connect(self.database.app_dsn, autocommit=True) as app, repeating(lambda: app.execute(statement)):
            yield

    def corrupt(self, *statements: str) -> None:
        """Run the statements in DuckDB, where only dbt should write."""
        with duckdb.connect(str(self.warehouse)) as connection:
            for statement in statements:
                connection.execute(statement)

    def skip(self) -> None:
        """Move the bookmark and the slot past all that was committed: changes that never land."""
        path = self.pipeline.folder / "lake" / KEY
        state = json.loads(path.read_text())
        with psycopg.connect(self.database.admin_dsn) as admin:
            advance = "pg_replication_slot_advance(%s, pg_current_wal_flush_lsn())"
            reached = f"SELECT (end_lsn - '0/0')::bigint FROM {advance}"
            (now,) = admin.execute(reached, [state["slot"]]).fetchone()
        path.write_text(json.dumps(state | {"position": now}))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, servers: postgres.Servers) -> Compared:
    """A lake of people, of their changes and of values that only some columns can hold."""
    database = postgres.create_database(servers, "verified")
    customer_app.create_table(database.app_dsn)
    customer_app.seed_people(database.app_dsn, PEOPLE, seed=1)
    compared = Compared(new_pipeline(tmp_path_factory.mktemp("verified"), database), database)
    compared.write(
        "ALTER TABLE usuarios ALTER renda_mensal TYPE numeric",
        "UPDATE usuarios SET nome = E'\\u0001 \"\\\\ 李明 ', uf = NULL, observacoes = repeat('á', 20000) WHERE id = 1",
        "UPDATE usuarios SET renda_mensal = 'NaN', criado_em = 'infinity', atualizado_em = '-infinity' WHERE id = 2",
        "UPDATE usuarios SET renda_mensal = 1e20, data_nascimento = '0044-03-15 BC' WHERE id = 3",
        "UPDATE usuarios SET renda_mensal = -0.005, criado_em = '294276-12-31 23:59:59.999999+00' WHERE id = 4",
        "UPDATE usuarios SET renda_mensal = 9999999999999999.995, data_nascimento = 'infinity' WHERE id = 5",
        "UPDATE usuarios SET renda_mensal = NULL, criado_em = '0001-01-01 00:00:00.000001+00' WHERE id = 6",
        "UPDATE usuarios SET id = -id WHERE id IN (7, 8)",
    )
    compared.pipeline.loaders("users")
    customer_app.write_changes(database.app_dsn, changes=200, seed=2)
    compared.write("UPDATE usuarios SET cidade = 'Recife' WHERE id = 1")  # leaves the long text out
    compared.pipeline.loaders("users")
    compared.pipeline.dbt("run", "--select", "+users", "+user_versions")
    return compared


@pytest.fixture
def compared(built: Compared, tmp_path: Path) -> Iterator[Compared]:
    """The same for each test: what a test does to DuckDB's tables is undone."""
    shutil.copy(built.warehouse, tmp_path)
    yield built
    shutil.copy(tmp_path / built.warehouse.name, built.warehouse)


def test_a_lake_that_equals_its_source(compared: Compared, capsys: pytest.CaptureFixture[str]) -> None:
    assert compared.main() == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["is_equal"], said["keys"], said["not_compared"]) == (True, None, [])
    with psycopg.connect(compared.database.app_dsn) as app:
        assert said["rows"] == app.execute("SELECT count(*) FROM usuarios").fetchone()[0] > PEOPLE / 2


def test_it_names_exactly_the_rows_that_were_corrupted_in_the_lake(
    compared: Compared, capsys: pytest.CaptureFixture[str]
) -> None:
    compared.corrupt(
        "delete from curated.users where user_id = 11",
        "insert into curated.users select * from curated.users where user_id = 12",
        "update curated.users set full_name = upper(full_name), monthly_income = 1.01, city = null where user_id = 13",
        "update curated.users set created_at = created_at + interval '1 microsecond' where user_id = 14",
        "update curated.users set notes = '-' where user_id = 1",
        "insert into curated.users select * replace (70000 as user_id) from curated.users where user_id = 15",
    )
    found = compared.verify()
    assert found.keys == {"missing": [11], "extra": [70_000], "different": [1, 13, 14], "repeated": [12]}
    assert (found.missing, found.extra, found.different, found.repeated) == (1, 1, 3, 1)
    assert found.columns == {"city": 1, "created_at": 1, "full_name": 1, "monthly_income": 1, "notes": 1}
    assert (found.is_equal, found.is_complete) == (False, True)

    assert compared.main() == 2
    said = capsys.readouterr()
    assert json.loads(said.out.splitlines()[-1])["keys"] is None
    with psycopg.connect(compared.database.app_dsn) as app:
        for value in app.execute("SELECT nome, email FROM usuarios WHERE id IN (11, 12, 13)").fetchall():
            assert not set(value) & set((said.out + said.err).split('"'))


def test_it_lands_and_builds_what_it_needs_while_the_application_writes(compared: Compared) -> None:
    """Rows that were written after the LSN are compared as they were before it."""
    compared.write("UPDATE usuarios SET cidade = 'Olinda' WHERE id = 31", "DELETE FROM usuarios WHERE id = 32")
    with compared.writing("UPDATE usuarios SET telefone = random()::text WHERE id BETWEEN 50 AND 60"):
        assert compared.verify().is_equal
        compared.corrupt("update curated.users set cpf = '' where user_id = 33")
        found = compared.verify()
    assert (found.keys["different"], found.columns) == ([33], {"cpf": 1})


def test_people_who_were_erased_are_no_difference(compared: Compared) -> None:
    compared.pipeline.loaders("erase", "--user-id", "41")
    assert compared.verify().is_equal


def test_without_a_replica_the_primary_is_read_and_no_slot_stays(compared: Compared) -> None:
    slots = "SELECT slot_name FROM pg_replication_slots ORDER BY 1"
    with psycopg.connect(compared.database.admin_dsn) as admin:
        before = admin.execute(slots).fetchall()
        assert compared.verify(customer_snapshot_dsn=compared.database.dsn).is_equal
        assert admin.execute(slots).fetchall() == before


def test_what_cannot_be_compared_exits_with_1(compared: Compared, capsys: pytest.CaptureFixture[str]) -> None:
    for variable in ("CUSTOMER_DSN", "CUSTOMER_SNAPSHOT_DSN"):
        broken = compared.environment | {variable: "postgresql://nobody@127.0.0.1:1/nothing"}
        with patch.dict(os.environ, broken):
            assert __main__.main(["verify"]) == 1
    assert capsys.readouterr().out == ""


def test_it_names_exactly_what_changed_behind_the_loaders_back(
    compared: Compared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changes that never landed, and DDL that rewrites rows, here unnoticed. This lake's last test: it stays so."""
    monkeypatch.setattr(shape, "differences", lambda *_: [])
    compared.write(
        "DELETE FROM usuarios WHERE id = 21",
        person("Nova", id="80000"),
        "UPDATE usuarios SET email = 'x@example.com' WHERE id = 22",
        "UPDATE usuarios SET id = 80001 WHERE id = 23",
    )
    compared.skip()
    compared.write("ALTER TABLE usuarios ALTER cidade TYPE text USING upper(cidade)")
    with psycopg.connect(compared.database.app_dsn) as app:
        moved = {key for (key,) in app.execute("SELECT id FROM usuarios WHERE id < 80000 AND cidade IS NOT NULL")}
    found = compared.verify()
    moved -= {key for (key,) in compared.pipeline.query("select user_id from curated.users where op = 'e'")}
    different = sorted({22, *moved})
    assert found.keys == {"missing": [80_000, 80_001], "extra": [21, 23], "different": different, "repeated": []}
    assert found.columns == {"city": len(moved), "email": 1}


def test_texts_of_the_source_are_read_as_staging_reads_them(customer_database: postgres.Database) -> None:
    """Of a column that is text though another type is declared: loaders/verify/source.py has staging's rules too."""
    expected = {
        "date": {text: value and value.isoformat() for text, value in hostile_values.DATES.items()},
        "decimal(18,2)": {
            text: None if value is None else f"{value:.2f}" for text, value in hostile_values.DECIMALS.items()
        },
        "timestamp": {
            text: value and value.isoformat(" ", "microseconds") for text, value in hostile_values.TIMESTAMPS.items()
        },
    }
    with connect(customer_database.dsn) as connection:
        for declared, texts in expected.items():
            reading = canonical(Column("v", "v", declared, False), "text")
            query = sql.SQL("SELECT v, {} FROM unnest(%s::text[]) AS v").format(reading)
            assert dict(connection.execute(query, [list(texts)]).fetchall()) == texts


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_buckets_are_few_and_a_power_of_two_wide(one: int, other: int) -> None:
    least, greatest = sorted((one, other))
    width = bucket_width(least, greatest)
    assert width.bit_count() == 1
    assert (greatest - least) // width <= 2 * verify.BUCKETS


ROWS = st.dictionaries(st.integers(0, 9), st.tuples(st.sampled_from("ab"), st.sampled_from("ab")))
COLUMNS = [Column("one", "um", "varchar", False), Column("two", "dois", "varchar", False)]


@given(ROWS, ROWS, st.sets(st.integers(0, 9)))
def test_every_difference_is_counted_once(theirs: dict, ours: dict, doubled: set[int]) -> None:
    found = Differences()
    lake = [(key, *row) for key, row in ours.items() for _ in range(1 + (key in doubled))]
    found.compare([(key, *row) for key, row in theirs.items()], lake, COLUMNS)
    assert found.keys() == {
        "missing": sorted(set(theirs) - set(ours)),
        "extra": sorted(set(ours) - set(theirs)),
        "different": sorted(key for key in set(theirs) & set(ours) if theirs[key] != ours[key]),
        "repeated": sorted(doubled & set(ours)),
    }
    assert (len(found) == 0) == (theirs == ours and not doubled & set(ours))
