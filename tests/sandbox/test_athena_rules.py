"""The local Athena's rules: what Trino or Glue gets for a statement, and what is refused. No engine runs."""

from datetime import date

import pytest

from sandbox.athena import rules

TODAY = date(2026, 3, 15)
RESULTS = "s3://results/tables/an-id/"


def plan(sql: str, *, enforced: bool = True) -> rules.Plan:
    return rules.plan(sql, TODAY, results=RESULTS, enforced=enforced)


def refused(sql: str, *, enforced: bool = True) -> str:
    with pytest.raises(rules.RefusedError) as error:
        plan(sql, enforced=enforced)
    return str(error.value)


@pytest.mark.parametrize(
    "sql",
    [
        "select 1",
        "-- a comment; with a semicolon\nwith a as (select ';' as x) select * from a",
        "/* dbt */ insert into t select 'create external table', \"create table x\" from u",
        'merge into "awsdatacatalog"."s"."t" as t using u on t.id = u.id when matched then delete',
        "delete from t where a = 'optimize'",
        "update t set a = 'vacuum x'",
        'drop view if exists "awsdatacatalog"."s"."v"',
        "explain select 1\n\n",
    ],
)
def test_what_is_trinos_goes_through_byte_for_byte(sql: str) -> None:
    assert plan(sql) == rules.Query(sql)


@pytest.mark.parametrize("end", [";", " ;\n", "\n;  "])
def test_a_final_semicolon_goes_and_no_other(end: str) -> None:
    assert plan(f"select ';'{end}") == rules.Query("select ';'")


def test_a_view_goes_through_and_its_columns_are_told() -> None:
    sql = '-- c\ncreate or replace view "awsdatacatalog"."Staging"."v_1" as select 1 as a'
    assert plan(sql) == rules.CreateView(sql, "staging", "v_1")


def test_a_statement_longer_than_athenas_limit_is_refused() -> None:
    longest = "select '" + "é" * ((rules.MAX_BYTES - 10) // 2) + "'"
    assert plan(longest) == rules.Query(longest)
    assert "less than or equal to 262144" in refused(longest + "  -- é")


@pytest.mark.parametrize("sql", ["", "  \n", ";", "-- only a comment", "/* and another */ ;"])
def test_no_statement_at_all_is_refused(sql: str) -> None:
    assert refused(sql)


# ---------- Hive's DDL


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("create database if not exists `raw`", rules.CreateDatabase("raw", True)),
        ("-- c\nCREATE SCHEMA Curated;", rules.CreateDatabase("curated", False)),
    ],
)
def test_create_database(sql: str, expected: rules.Plan) -> None:
    assert plan(sql) == expected


def test_create_external_table_becomes_an_entry_in_glue() -> None:
    found = plan(
        """create external table if not exists `raw`.`Events` (
            `epoch` int, `tags` map<string,string>, `amount` decimal(18,2)
        )
        partitioned by (`load_date` date)
        stored as parquet
        location 's3://lake/raw/events/'
        tblproperties ('projection.enabled' = 'true', 'projection.load_date.format' = 'yyyy-MM-dd',
          'storage.location.template' = 's3://lake/raw/it''s=${load_date}/')"""
    )
    assert isinstance(found, rules.CreateExternalTable)
    assert (found.database, found.lenient) == ("raw", True)
    assert found.table["Name"] == "events"
    assert found.table["PartitionKeys"] == [{"Name": "load_date", "Type": "date"}]
    storage = found.table["StorageDescriptor"]
    assert storage["Columns"] == [
        {"Name": "epoch", "Type": "int"},
        {"Name": "tags", "Type": "map<string,string>"},
        {"Name": "amount", "Type": "decimal(18,2)"},
    ]
    assert storage["Location"] == "s3://lake/raw/events/"
    assert storage["SerdeInfo"]["SerializationLibrary"].endswith("ParquetHiveSerDe")
    assert found.table["Parameters"] == {
        "EXTERNAL": "TRUE",
        "projection.enabled": "true",
        "projection.load_date.format": "yyyy-MM-dd",
        "storage.location.template": "s3://lake/raw/it's=${load_date}/",
    }


def test_a_seeds_csv_has_the_serde_that_it_names() -> None:
    found = plan("create external table s.t (a string) row format serde 'x.OpenCSVSerde' location 's3://b/t/'")
    assert found.table["StorageDescriptor"]["SerdeInfo"]["SerializationLibrary"] == "x.OpenCSVSerde"
    assert found.table["StorageDescriptor"]["InputFormat"].endswith("TextInputFormat")
    assert not found.lenient


def test_a_projection_by_months_names_them() -> None:
    found = plan(
        "create external table s.t (a int) partitioned by (m string) stored as parquet location 's3://b/' "
        "tblproperties ("
        "'projection.m.type' = 'date', 'projection.m.format' = 'yyyy-MM', 'projection.m.range' = '2025-11,NOW')"
    )
    assert found.table["Parameters"] == {
        "EXTERNAL": "TRUE",
        "projection.m.type": "enum",
        "projection.m.values": "2025-11,2025-12,2026-01,2026-02,2026-03",
    }


@pytest.mark.parametrize(
    "sql",
    [
        'create external table "s"."t" (a int) location \'s3://b/\'',
        "create external table s.t location 's3://b/'",
        "create external table s.t (a int",
        "create external table s.t (a int) stored as parquet",
        "create external table s.t (a) location 's3://b/'",
        "create external table s.t (a int) location 's3://b/' tblproperties (a = 'b')",
        'create database "s"',
        "alter table \"s\".\"t\" set tblproperties ('a' = 'b')",
        'drop table "s"."t"',
    ],
)
def test_hives_ddl_that_athena_cannot_parse_is_refused(sql: str) -> None:
    assert re_worded(refused(sql))


def re_worded(message: str) -> bool:
    """As Athena's parsers word it."""
    return message.startswith(("no viable alternative at input", "mismatched input"))


@pytest.mark.parametrize(
    "sql",
    ["msck repair table s.t", "show tables", "describe t", "drop database s", "alter table s.t add columns (a int)"],
)
def test_what_no_rule_is_for_is_refused_in_its_own_name(sql: str) -> None:
    assert refused(sql).startswith("the local Athena has no rule for")


def test_a_rename_and_a_drop_are_said_in_trinos_words() -> None:
    rename = plan("-- c\nalter table `s`.`t__tmp` rename to `s`.`t`")
    assert rename.sql == 'alter table "awsdatacatalog"."s"."t__tmp" rename to "awsdatacatalog"."s"."t"'
    assert plan("drop table if exists `s`.`t`;").sql == 'drop table if exists "awsdatacatalog"."s"."t"'


def test_properties_of_a_table() -> None:
    found = plan("alter table `s`.`t` set tblproperties ('vacuum_max_snapshot_age_seconds' = '1', 'b' = 'it''s')")
    assert found == rules.SetProperties("s", "t", {"vacuum_max_snapshot_age_seconds": "1", "b": "it's"})
    assert rules.properties_set(found) == (
        'alter table "awsdatacatalog"."s"."t" set properties extra_properties = '
        "map(array['vacuum_max_snapshot_age_seconds', 'b'], array['1', 'it''s'])"
    )


# ---------- CREATE TABLE AS

BODY = "\n    as\n      select 'with (x)' as \"a;b\" from t"


def test_an_iceberg_table_keeps_its_query_and_its_comment() -> None:
    found = plan(
        """/* dbt */
        create table "awsdatacatalog"."curated"."users"
        with (
          table_type='iceberg', is_external=false, location='s3://lake/tables/users/x',
          partitioning=ARRAY['bucket(id, 8)', 'day(a)'], vacuum_max_snapshot_age_seconds='60',
          format='parquet', write_compression='zstd'
        )"""
        + BODY
    )
    assert isinstance(found, rules.CreateTableAs)
    head, body = found.sql[: -len(BODY)], found.sql[-len(BODY) :]
    assert body == BODY
    assert head.split() == (
        [
            "/*",
            "dbt",
            "*/",
            "create",
            "table",
            '"awsdatacatalog"."curated"."users"',
            "with",
            "(location",
            "=",
            "'s3://lake/tables/users/x',",
            "partitioning",
            "=",
            "ARRAY['bucket(id,",
            "8)',",
            "'day(a)'],",
            "format",
            "=",
            "'PARQUET',",
            "extra_properties",
            "=",
            "map(array['vacuum_max_snapshot_age_seconds'],",
            "array['60']))",
        ]
    )


def test_another_table_lies_below_the_results_of_its_workgroup() -> None:
    found = plan(f"create table s.t with (table_type='hive', is_external=true, format='parquet'){BODY}")
    assert found.sql == (
        f'create table "hive"."s"."t" with (format = \'PARQUET\', external_location = \'{RESULTS}\'){BODY}'
    )
    assert plan(f"create table s.t{BODY}").sql == (
        f'create table "hive"."s"."t" with (external_location = \'{RESULTS}\'){BODY}'
    )


def test_a_place_of_its_own_is_for_workgroups_that_do_not_enforce_theirs() -> None:
    sql = f"create table s.t with (external_location='s3://b/t/'){BODY}"
    assert "enforces a centralized output location" in refused(sql)
    assert (
        plan(sql, enforced=False).sql == f'create table "hive"."s"."t" with (external_location = \'s3://b/t/\'){BODY}'
    )


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ("table_type='iceberg', is_external=false, location='s3://b/t', colour='red'", "'colour' does not exist"),
        ("table_type='iceberg', is_external=false, location='s3://b/t', external_location='s3://b/'", "does not exist"),
        ("format='parquet', location='s3://b/t'", "'location' does not exist"),
        ("format='parquet', vacuum_max_snapshot_age_seconds='60'", "does not exist"),
        ("table_type='iceberg', is_external=false", "a location"),
        ("table_type='iceberg', location='s3://b/t'", "is_external = false"),
        ("table_type='iceberg' is_external=false", "mismatched input"),
    ],
)
def test_properties_that_athena_does_not_know_are_refused(properties: str, message: str) -> None:
    assert message in refused(f"create table s.t with ({properties}){BODY}")


def test_a_table_without_a_query_is_not_athenas_sql() -> None:
    assert refused("create table s.t (a int)") == "Queries of this type are not supported"


# ---------- OPTIMIZE and VACUUM


@pytest.mark.parametrize("table", ['"awsdatacatalog"."s"."t"', "awsdatacatalog.s.t", "`s`.`t`", "t"])
def test_optimize_and_vacuum_take_a_table_by_any_name(table: str) -> None:
    quoted = ".".join(f'"{name}"' for name in table.replace('"', "").replace("`", "").split("."))
    optimize = plan(f"-- c\noptimize {table} rewrite data using bin_pack")
    assert optimize.sql == f"alter table {quoted} execute optimize"
    assert plan(f"VACUUM {table};") == rules.Vacuum(quoted)


def test_optimize_keeps_its_condition() -> None:
    assert plan("optimize s.t REWRITE DATA USING BIN_PACK where d > date '2026-01-01'").sql == (
        'alter table "s"."t" execute optimize where d > date \'2026-01-01\''
    )


def test_vacuum_keeps_snapshots_for_as_long_as_the_table_says() -> None:
    def ages(properties: dict[str, str]) -> list[str]:
        return [statement.split(" execute ")[1] for statement in rules.vacuumed('"s"."t"', properties)]

    assert ages({}) == [
        "expire_snapshots(retention_threshold => '432000s')",
        "remove_orphan_files(retention_threshold => '432000s')",
    ]
    assert ages({"vacuum_max_snapshot_age_seconds": "1"})[0] == "expire_snapshots(retention_threshold => '1s')"


@pytest.mark.parametrize(
    "sql", ["optimize t", "optimize t rewrite data using sort", "vacuum", "vacuum t full", "vacuum a b"]
)
def test_other_forms_of_optimize_and_vacuum_are_refused(sql: str) -> None:
    assert "mismatched input" in refused(sql)
