"""Each rule that makes Redshift's SQL PostgreSQL's, and what no rule knows."""

import pytest

from sandbox.redshift.rewrite import RefusedError, dotted_names, rewrite

RULES = {
    "quoted names fold, users keep theirs": [
        ('select "Name" from "S"."T"', 'select "name" from "s"."t"'),
        ('grant usage on schema "s" to "IAMR:Some-Role"', 'grant usage on schema "s" to "IAMR:Some-Role"'),
        ("select 'Name', \"a\" from t", "select 'Name', \"a\" from t"),
    ],
    "extract is an integer": [
        (
            "select extract(year from a) - extract(month from b.c)",
            "select rs.extract_part('year', a) - rs.extract_part('month', b.c)",
        ),
    ],
    "a varchar without a length has 256": [
        ("select cast(a as varchar), b::text", "select cast(a as varchar(256)), b::varchar(256)"),
        ("select cast(a as varchar(20)), 'x' as text", "select cast(a as varchar(20)), 'x' as text"),
    ],
    "a column counts bytes": [
        (
            'create table s.t (a varchar(64), "B" varchar)',
            'create table s.t (a varchar(64) check (rs.fits("a", 64)), "b" varchar(256) check (rs.fits("b", 256)))',
        ),
        (
            "create temporary table t (a character varying(8))",
            'create temporary table t (a varchar(8) check (rs.fits("a", 8)))',
        ),
    ],
    "catalogues list no external table": [
        (
            'select 1 from information_schema."columns" join pg_catalog.pg_class as c on true',
            'select 1 from rs_info."columns" join rs_info.pg_class as c on true',
        ),
        ("select pg_class.oid from pg_class", "select pg_class.oid from rs_info.pg_class"),
    ],
    "columns of late-binding views": [
        (
            "select * from pg_get_late_binding_view_cols() cols(view_schema name, view_name name, n int) where true",
            "select * from rs.late_binding_cols as cols(view_schema, view_name, n) where true",
        ),
    ],
    "how a table is stored is passed over": [
        ("create table t (a int) backup no diststyle key distkey (a) compound sortkey(a, b)", "create table t (a int)"),
        ("create table t (diststyle int)", "create table t (diststyle int)"),
    ],
    "grantees": [
        ("grant select on s.t to ROLE a, GROUP b, c", "grant select on s.t to a, b, c"),
        ("revoke select on s.t from ROLE a", "revoke select on s.t from a"),
        ('grant role a to "IAMR:b"', 'grant a to "IAMR:b"'),
    ],
    "users": [
        (
            'create user "IAMR:a" password disable session timeout 60',
            "select rs.create_user('IAMR:a', 60, null)",
        ),
        (
            f"alter user a password 'sha256|{'0' * 64}|{'1' * 64}'",
            f"select rs.set_user('a', '{'0' * 64}', '{'1' * 64}', null, null, null)",
        ),
        ("alter user a set statement_timeout to 500", "select rs.set_user('a', null, null, null, 500, null)"),
        ("alter user a syslog access unrestricted", "select rs.set_user('a', null, null, null, null, true)"),
    ],
    "external schemas": [
        (
            "create external schema if not exists \"Lake\"\nfrom data catalog\ndatabase 'curated'\niam_role default",
            "select rs.create_external_schema('lake', 'curated', 'default')",
        ),
    ],
    "late-binding views": [
        (
            "create view s.v as (select 'it''s', extract(day from a) from s.t) with no schema binding;",
            "select rs.create_late_binding_view('s.v', '(select ''it''''s'', rs.extract_part(''day'', a) from s.t)')",
        ),
    ],
    "all else stays as it is": [
        ("/* a comment */ select a\nfrom t -- the end", "/* a comment */ select a\nfrom t -- the end"),
        ("begin transaction", "begin transaction"),
        ("create table t as (select 1 as a)", "create table t as (select 1 as a)"),
    ],
}


@pytest.mark.parametrize(("sql", "expected"), [pair for pairs in RULES.values() for pair in pairs])
def test_rule(sql: str, expected: str) -> None:
    assert " ".join(rewrite(sql).split()) == " ".join(expected.split())


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("copy t from 's3://x'", "does not know this kind of statement: copy t from"),
        ("unload ('select 1') to 's3://x'", "does not know this kind of statement"),
        ("show tables from schema a.b", "does not know this kind of statement"),
        ("reset session authorization", "does not know this kind of statement"),
        ("set session authorization admin", "does not know this kind of statement"),
        ("merge into s.t using s.u on true when matched then delete", "does not know this kind of statement"),
        ("create user a password 'Secret-1'", "does not know this option of a user"),
        ("create user a session timeout 60", "PASSWORD DISABLE alone"),
        ("alter user a session timeout 59", "60 to 1728000 seconds"),
        ("alter user a password 'sha256|short|salt'", "does not know this option of a user"),
        ("create external schema s from hive metastore database 'x'", "FROM DATA CATALOG alone"),
        ("create external table s.t (a int)", "FROM DATA CATALOG alone"),
        ("select 'it does not end", "no SQL"),
    ],
)
def test_what_no_rule_knows_is_refused(sql: str, said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        rewrite(sql)


def test_dotted_names_are_those_of_relations_whatever_stands_before_them() -> None:
    sql = 'select u.a from "lakehouse"."Curated"."users" as u, vault.masking_key where b = \'x.y\''
    assert {("curated", "users"), ("vault", "masking_key")} <= dotted_names(sql)
    assert ("x", "y") not in dotted_names(sql)
