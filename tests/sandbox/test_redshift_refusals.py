"""Each rule of what Redshift refuses finds its seeded mistake, and right statements pass."""

import pytest

from sandbox.redshift.refusals import mistakes

SEEDED = [
    ("function", "select string_agg(a, ',') from s.t"),
    ("function", "select n from generate_series(1, 3) as n"),
    ("function", "select max_by(a, b) from s.t"),
    ("function", "select a from s.t, range(3)"),
    ("leader node", "select now(), a from s.t"),
    ("leader node", "select has_table_privilege('a', 'select') from s.t"),
    ("leader node", "with a as (select cast('x' as varchar(9)) as q) select sha2(q, 256) from a"),
    ("type", "select cast(a as jsonb) from s.t"),
    ("type", "select cast(a as bytea) from s.t"),
    ("type", "select cast('x' as string) as a from s.t"),
    ("type", "create table s.t (a interval)"),
    ("clause", "select count(*) filter (where a > 1) from s.t"),
    ("clause", "select distinct on (a) a, b from s.t"),
    ("clause", "select * from (values (1), (2)) as v (a)"),
    ("clause", "select 1 from s.t where a is not distinct from b"),
    ("clause", "select * from s.t cross join lateral (select 1) as x"),
    ("clause", "select array[1, 2] from s.t"),
    ("clause", "select a[1] from s.t"),
    ("clause", "insert into s.t (a) values (1) on conflict do nothing"),
    ("clause", "insert into s.t (a) values (1) returning a"),
    ("clause", "select a from s.t for update"),
    ("clause", "select a from s.t tablesample system (10)"),
    ("clause", "delete from s.t as x where x.a = 1"),
    ("clause", "update s.t as x set a = 1"),
    ("window", "select sum(a) over (partition by b order by c) from s.t"),
    ("window", "select row_number() over (order by a nulls first) from s.t"),
    ("interval", "select a + interval '5' from s.t"),
    ("unknown literal", "with a as (select 'x' as q from s.t) select upper(q) from a"),
    ("unknown literal", "select q || 'y' from (select null as q from s.t) as a"),
    ("reserved word", "select a as raw from s.t"),
    ("reserved word", "select a as tag from s.t"),
    ("varchar without a length", "create table s.t (a varchar, b int)"),
    ("varchar without a length", "select cast(a as varchar) from s.t"),
    ("regular expression", r"select 1 from s.t where a ~ '\d+'"),
    ("case", 'select "Name" from s.t'),
    ("length of a name", f"select a as {'b' * 128} from s.t"),
    ("length of a name", f'select a as "{"é" * 64}" from s.t'),
    ("grammar", "select a.[1] from s.t"),
    ("correlated subquery", "select a, (select max(b) from s.u where u.c = t.c) from s.t"),
    (
        "merge",
        "merge into s.t using s.u on t.a = u.a when matched and u.b = 1 then delete"
        " when matched then update set b = u.b when not matched then insert (a) values (u.a)",
    ),
]
RIGHT = [
    "select a, count(*) over (partition by b) from s.t",
    "select sum(a) over (order by b rows between unbounded preceding and 1 preceding) from s.t",
    "select lag(a) over (order by b), row_number() over (order by b) from s.t",
    "select date_trunc('hour', a) + extract(minute from a) * interval '1' minute from s.t",
    "select listagg(a, ',') within group (order by a) from s.t",
    "with a as (select cast('x' as varchar(9)) as q from s.t) select upper(q) from a",
    "insert into s.t (a) values (1)",
    "create table s.t (a varchar(64), b numeric(18, 2))",
    "select case when a then 'x' end as b from s.t",
    "delete from s.t where (a, b) in (select distinct a, b from s.u)",
    "select a from s.t where a ~ '^[a-z0-9.-]+$'",
    "select pg_backend_pid()",
    "select has_table_privilege(current_user, 'svv_table_info', 'select') as can_select",
    'create user "IAMR:lakehouse-dev-airflow" password disable',
    "begin",
    "",
]  # fmt: skip


@pytest.mark.parametrize(("rule", "sql"), SEEDED)
def test_a_seeded_mistake_is_found(rule: str, sql: str) -> None:
    assert rule in {mistake.rule for mistake in mistakes(sql)}


@pytest.mark.parametrize("sql", RIGHT)
def test_a_right_statement_passes(sql: str) -> None:
    assert mistakes(sql) == ()


def test_ddl_that_needs_to_stand_outside_of_a_transaction_is_found() -> None:
    sql = "create external table s.t (a int) stored as parquet location 's3://x/'"
    assert [mistake.rule for mistake in mistakes(sql, in_transaction=True)] == ["transaction"]
    assert mistakes(sql) == ()


def test_every_mistake_names_its_source() -> None:
    assert all(mistake.source and mistake.what for _, sql in SEEDED for mistake in mistakes(sql))
