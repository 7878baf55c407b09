"""What benchmarks/counts.py counts for infra/cost: dbt's adapters pass a later run, and statements' reads are found."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.counts import BUILD, LAKE, WAREHOUSE, kind
from benchmarks.scans import Read, Reader, is_free
from benchmarks.statements import athena, redshift

TABLES = {"curated.users": ["user_id", "email", "load_date"], "raw.changes": ["id", "batch_id", "load_date"]}
VIEWS = {"staging.stg_changes": 'select id as user_id, batch_id, load_date from "awsdatacatalog"."raw"."changes"'}


def test_a_later_run_on_athena_passes_with_all_that_the_adapter_asks_of_it(tmp_path: Path) -> None:
    """Iceberg tables included: the adapter refuses them where their place is not their own (profiles.yml)."""
    lake = athena(tmp_path, (*BUILD, "--selector", LAKE))
    charged = Counter((node, kind(sql)) for node, sql in lake.statements if not is_free(sql))
    assert charged["model.lakehouse.users", "merge"] == 1
    assert charged["model.lakehouse.user_changes", "insert"] == 1
    assert charged["model.lakehouse.character_appearances", "create"] == 1
    assert charged["seed.lakehouse.media_types", "create"] == 1
    assert lake.requests["athena:StartQueryExecution"] == len(lake.statements)


def test_a_later_run_on_redshift_passes(tmp_path: Path) -> None:
    statements = redshift(tmp_path, WAREHOUSE).statements
    assert any("dim_users" in node and "delete" in sql for node, sql in statements)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select max(user_id) from curated.users", [("curated.users", {"user_id"}, "all")]),
        (
            "select email from curated.users where load_date >= date '2026-11-25'",
            [("curated.users", {"email", "load_date"}, "recent")],
        ),
        (
            "select user_id from curated.users where load_date >= (select max(load_date) from curated.users)",
            [("curated.users", {"load_date", "user_id"}, "all"), ("curated.users", {"load_date"}, "all")],
        ),
        (
            "select user_id from staging.stg_changes where batch_id = 'b'",
            [("raw.changes", {"id", "batch_id"}, "new")],
        ),
        (
            "with named as (select user_id from curated.users) select a.user_id from named as a, named as b",
            [("curated.users", {"user_id"}, "all")] * 2,
        ),
        (
            "merge into curated.users as target using curated.users__dbt_tmp as src on (target.user_id = src.user_id) "
            "when matched then update set email = src.email",
            [
                ("curated.users", {"user_id"}, "all"),
                ("curated.users__dbt_tmp", {"user_id", "email", "load_date"}, "all"),
            ],
        ),
        ("select user_id from curated.users where false", []),
        ("create or replace view staging.v as select * from curated.users", []),
    ],
)
def test_a_statement_reads_columns_of_stored_tables(sql: str, expected: list[tuple[str, set[str], str]]) -> None:
    tables = TABLES | {"curated.users__dbt_tmp": TABLES["curated.users"]}
    found = Reader(VIEWS, tables).reads(sql)
    assert Counter(found) == Counter(Read(table, frozenset(columns), part) for table, columns, part in expected)


def test_a_recursive_expression_counts_as_often_as_it_is_written_out() -> None:
    sql = """
        with recursive walk (user_id) as (
            select user_id from curated.users
            union all
            select users.user_id from curated.users as users inner join walk on users.user_id = walk.user_id
        )
        select user_id from walk
    """
    assert len(Reader(VIEWS, TABLES).reads(sql)) == 11
