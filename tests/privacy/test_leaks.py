"""Mistakes that an analyst could make, each put into the real graph: all are found, for the right reason."""

import re

import pytest

from privacy.graph import Graph
from privacy.verdict import Verdict, judge
from tests.privacy.conftest import USERS, Findings, Mask, model, with_models

pytestmark = pytest.mark.xdist_group("privacy")  # one compiled graph for all of them, so one worker

SPELLED_OUT = " ".join(f"when 'city {n}' then '{n}'" for n in range(20))
IN_CLEAR = "in the clear: no mask on its way"

# What the mistake is -> the query of a refined model, and what must be said of it.
LEAKS = {
    "alias": (f"select u.email as contact {USERS}", f"mart.contact: holds email .*{IN_CLEAR}"),
    "quoted names": ('select "Email" as c from "warehouse"."curated"."users"', f"mart.c: holds email .*{IN_CLEAR}"),
    "cast": (f"select cast(u.birth_date as varchar) as born {USERS}", f"mart.born: holds birth_date .*{IN_CLEAR}"),
    "concat": (f"select u.full_name || ' <' || u.city || '>' as who {USERS}", f"mart.who: holds name .*{IN_CLEAR}"),
    "format": (f"select format('{{}} x', u.cpf) as x {USERS}", f"mart.x: holds cpf .*{IN_CLEAR}"),
    "case": (
        f"select case when u.is_deleted then 'gone' else u.phone end as x {USERS}",
        f"mart.x: holds phone .*{IN_CLEAR}",
    ),
    "coalesce": (f"select coalesce(u.notes, 'none') as x {USERS}", f"mart.x: holds free_text .*{IN_CLEAR}"),
    "nullif": (f"select nullif(u.email, '') as x {USERS}", f"mart.x: holds email .*{IN_CLEAR}"),
    "union": (
        f"select 'none' as x union all select u.email {USERS}",
        f"mart.x: holds email .*{IN_CLEAR}",
    ),
    "scalar subquery": (
        "select s.state_code, (select max(email) from warehouse.curated.users) as x"
        " from warehouse.curated.brazilian_states as s",
        f"mart.x: holds email .*{IN_CLEAR}",
    ),
    "derived table": (f"select d.y as x from (select u.email as y {USERS}) as d", f"mart.x: holds email .*{IN_CLEAR}"),
    "CTE with a column list": (f"with a (z) as (select u.cpf {USERS}) select z as x from a", f"mart.x: .*{IN_CLEAR}"),
    "recursive CTE": (
        f"with recursive a as (select u.city as p, 'x' as x {USERS} union all select a.p, a.p from a) select x from a",
        f"mart.x: holds city .*{IN_CLEAR}",
    ),
    "window": (
        f"select first_value(u.email) over (partition by u.state_code order by u.user_id) as x {USERS}",
        f"mart.x: holds email .*{IN_CLEAR}",
    ),
    "named window and lag": (
        f"select lag(u.cpf, 1) over w as x {USERS} window w as (order by u.user_id)",
        f"mart.x: holds cpf .*{IN_CLEAR}",
    ),
    "json extraction": (
        "select json_extract_string(c.after, '$.email') as x from warehouse.staging.base_customer__user_changes as c",
        f"mart.x: holds document .*{IN_CLEAR}",
    ),
    "to_json of the row": (f"select to_json(u) as x {USERS}", f"mart.x: holds cpf .*{IN_CLEAR}"),
    "the row itself": (f"select u as x {USERS}", f"mart.x: holds email .*{IN_CLEAR}"),
    "struct and its field": (
        f"select s.a.b as x from (select {{'b': u.email}} as a {USERS}) as s",
        f"mart.x: holds email .*{IN_CLEAR}",
    ),
    "list of a group": (
        f"select u.state_code, list(u.email) as x {USERS} group by u.state_code",
        f"mart.x: holds email .*{IN_CLEAR}",
    ),
    "string_agg": (f"select string_agg(u.full_name, ', ') as x {USERS}", f"mart.x: holds name .*{IN_CLEAR}"),
    "unnest": (f"select unnest([u.email, u.phone]) as x {USERS}", f"mart.x: holds phone .*{IN_CLEAR}"),
    "lateral unnest": (
        f"select e.v as x {USERS}, unnest([u.email]) as e (v)",
        f"mart.x: holds email .*{IN_CLEAR}",
    ),
    "lateral subquery": (f"select l.z as x {USERS}, lateral (select u.cpf as z) as l", f"mart.x: .*{IN_CLEAR}"),
    "lambda": (f"select list_transform([u.email], e -> upper(e)) as x {USERS}", f"mart.x: holds email .*{IN_CLEAR}"),
    "substr": (f"select substr(u.cpf, 1, 6) as x {USERS}", f"mart.x: holds cpf .*{IN_CLEAR}"),
    "reverse": (f"select reverse(u.email) as x {USERS}", f"mart.x: holds email .*{IN_CLEAR}"),
    "a digest without a key": (f"select sha256(u.cpf) as x {USERS}", f"mart.x: holds cpf .*{IN_CLEAR}"),
    "least of a group": (
        f"select u.state_code, min(u.full_name) as x {USERS} group by u.state_code",
        f"mart.x: holds name .*{IN_CLEAR}",
    ),
    "most recent of a group": (
        f"select u.state_code, arg_max(u.phone, u.updated_at) as x {USERS} group by u.state_code",
        f"mart.x: holds phone .*{IN_CLEAR}",
    ),
    "mean of a group of any size": (
        f"select u.city is null as x, avg(u.monthly_income) as y {USERS} group by all",
        "mart.y: mean of any group does not mask income .*",
    ),
    "mean of too small a group": (
        f"select case when count(*) >= 2 then avg(u.monthly_income) end as y {USERS} group by u.state_code",
        "mart.y: mean of any group does not mask income .*",
    ),
    "mean of a group that is rich, not large": (
        f"select case when sum(u.monthly_income) >= 9 then avg(u.monthly_income) end as y {USERS} group by u.status",
        "mart.y: mean of any group does not mask income .*",
    ),
    "mean over a window": (
        f"select case when count(*) >= 9 then avg(u.monthly_income) over (partition by u.user_id) end as y {USERS}"
        " group by all",
        "mart.y: mean of any group does not mask income .*",
    ),
    "median": (
        f"select case when count(*) >= 9 then median(u.monthly_income) end as y {USERS} group by u.state_code",
        f"mart.y: holds income .*{IN_CLEAR}",
    ),
    "a percentile in its order by": (
        f"select percentile_cont(0.5) within group (order by u.monthly_income) as y {USERS}",
        f"mart.y: holds income .*{IN_CLEAR}",
    ),
    "a constant for each value": (
        f"select case u.city {SPELLED_OUT} end as x {USERS}",
        f"mart.x: holds city .*{IN_CLEAR}",
    ),
    "forged marker": (
        f"select /* mask: mask_email */ u.email as masked_email /* mask_email(email) */ {USERS}",
        f"mart.masked_email: holds email .*{IN_CLEAR}",
    ),
    "an own macro that is called a mask": (
        f"select mask_email(u.email) as x {USERS}",
        f"mart.x: holds email .*{IN_CLEAR}",
    ),
    "using": (
        f"select email as x {USERS} join warehouse.curated.users as v using (email)",
        f"mart.x: holds email .*{IN_CLEAR}",
    ),
    "the source's files read as source() reads them": (
        "select r.after as x from (select *,"
        " cast(split_part(split_part(filename, '/load_date=', -1), '/', 1) as date) as load_date"
        " from read_parquet('lake/raw/customer/usuarios/*/*.parquet', hive_partitioning = false)) as r",
        f"mart.x: holds document .*{IN_CLEAR}",
    ),
    "the source's files read by hand": (
        "select r.after as x from read_parquet('lake/raw/customer/usuarios/*/*.parquet') as r",
        "mart: its SQL cannot be read: it reads READ_PARQUET.*, which is no model, seed or source",
    ),
    "the key": (
        "select k.inner_pad as x from read_parquet('vault/masking_key/masking_key.parquet') as k",
        "mart.x: holds the masking key",
    ),
    "select * across the line": (
        "with users as (select * from warehouse.curated.users) select * from users where is_deleted",
        "mart: select [*] brings in users across the line",
    ),
    "select * without one column": (
        "select u.* exclude (email, cpf, phone, full_name) from warehouse.curated.users as u",
        "mart: select [*] brings in users across the line",
    ),
    "a name that looks personal": ("select 'x' as nome_da_mae", "mart.nome_da_mae: looks personal by its name"),
}

# What nobody can follow is refused, whatever it holds.
UNREADABLE = {
    "columns by a pattern": (f"select columns('e.*') {USERS}", "its SQL cannot be read"),
    "union by name": (f"select u.status as x {USERS} union all by name select u.email as x {USERS}", "union by name"),
    "pivot": ("pivot warehouse.curated.users on email using count(*)", "its SQL cannot be read"),
    "unpivot": ("select * from warehouse.curated.users unpivot (v for n in (email, cpf))", "its SQL cannot be read"),
    "a table named by a text": ("select x from query_table('users')", "no model, seed or source"),
    "an unknown file": ("select x from read_csv('people.csv')", "no model, seed or source"),
    "an unknown table": ("select x from somewhere.people", "no model, seed or source"),
    "an unknown column": (f"select u.nickname as x {USERS}", "its SQL cannot be read"),
    "a place instead of a name": (f"select #3 as x {USERS}", "its SQL cannot be read"),
    "a parameter": (f"select $1 as x {USERS}", "its SQL cannot be read"),
    "no SQL": ("selec email frm users", "its SQL cannot be read"),
    "two statements": (f"select 1 as x; select u.email as x {USERS}", "it is not one query"),
    "no query": ("drop table users", "it is not one query"),
}


@pytest.mark.parametrize("mistake", LEAKS)
def test_a_leak_is_found_and_its_reason_told(findings: Findings, mistake: str) -> None:
    sql, reason = LEAKS[mistake]
    found = findings(sql)
    assert [finding for finding in found if re.match(reason, finding)], found


@pytest.mark.parametrize("query", UNREADABLE)
def test_what_cannot_be_read_is_refused(findings: Findings, query: str) -> None:
    sql, reason = UNREADABLE[query]
    found = findings(sql)
    assert [finding for finding in found if finding.startswith("mart: ") and reason in finding], found


# The mask is there, but does not do: the call, and what must be said of it.
MISFITS = {
    "a mask of another class": (("mask_phone", {"phone": "u.cpf"}), "mask_phone does not mask cpf"),
    "a mask that keeps too much": (("mask_cpf", {"cpf": "u.phone"}), "mask_cpf does not mask phone"),
    "a digest of what many share": (("pseudonym", {"value": "u.postal_code"}), "pseudonym does not mask postal_code"),
    "a digest of a date of birth": (
        ("pseudonym", {"value": "cast(u.birth_date as varchar)"}),
        "pseudonym does not mask birth_date",
    ),
    "free text, masked": (
        ("pseudonym", {"value": "u.notes"}),
        "pseudonym does not mask free_text .*allowed is nothing",
    ),
    "a mask of a mixture": (
        ("mask_email", {"email": "('x@' || u.email)"}),
        "mask_email of a piece does not mask email",
    ),
    "a mask of a piece": (("mask_cpf", {"cpf": "substr(u.cpf, 1, 11)"}), "mask_cpf of a piece does not mask cpf"),
    "a mask of either of two": (("mask_email", {"email": "coalesce(u.email, u.cpf)"}), "mask_email does not mask cpf"),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_mask_that_does_not_fit_is_found(findings: Findings, mask: Mask, misfit: str) -> None:
    (macro, arguments), reason = MISFITS[misfit]
    vault = "cross join read_parquet('vault/masking_key/masking_key.parquet') as masking_key"
    found = findings(f"select {mask(macro, **arguments)} as x {USERS} {vault}")
    assert [finding for finding in found if re.match(f"mart.x: {reason}", finding)], found


def test_a_masked_and_an_unmasked_column_in_one_are_found(findings: Findings, mask: Mask) -> None:
    masked = mask("mask_email", email="u.email")
    for sql in (
        f"({masked}) || u.cpf",
        f"coalesce({masked}, u.email)",
        f"case when u.is_deleted then {masked} else u.cpf end",
    ):
        assert [f for f in findings(f"select {sql} as x {USERS}") if f.startswith("mart.x: holds ")], sql
    union = f"select {masked} as x {USERS} union all select u.email {USERS}"
    assert [f for f in findings(union) if f.startswith("mart.x: holds email")]


def test_a_mask_that_was_touched_is_none(findings: Findings, mask: Mask) -> None:
    touched = mask("mask_cpf", cpf="u.cpf").replace("4, 3", "1, 6", 1)
    assert findings(f"select {touched} as x {USERS}")[0].startswith("mart.x: holds cpf")


def test_a_pseudonym_under_another_key_is_none(findings: Findings, mask: Mask) -> None:
    pseudonym = mask("pseudonym", value="u.cpf")
    own = "cross join (select 'aa' as inner_pad, 'bb' as outer_pad) as masking_key"
    [found] = findings(f"select {pseudonym} as x {USERS} {own}")
    assert found.startswith("mart.x: holds cpf")


def test_a_rename_through_three_models_is_told_step_by_step(findings: Findings) -> None:
    found = findings(
        "select t.c as x from warehouse.curated.third as t",
        first=f"with found as (select lower(u.email) as a {USERS}) select a from found",
        second="select f.a as b from warehouse.curated.first as f",
        third="select s.b as c from warehouse.curated.second as s",
    )
    [leak] = [finding for finding in found if finding.startswith("mart.x")]
    steps = [line.strip() for line in leak.splitlines()[1:]]
    assert steps[-5:] == [
        "first (found).a := LOWER(u.email)",
        "first.a := found.a",
        "second.b := f.a",
        "third.c := s.b",
        "mart.x := t.c",
    ]
    assert steps[0] == "customer.usuarios.after"
    assert "users.email := CASE WHEN NOT resolved.is_deleted THEN resolved.email END" in steps


def test_a_leak_of_the_incremental_form_alone_is_found(graph: Graph, verdict: Verdict) -> None:
    mart = model(
        "mart", "select 'none' as a, 'none' as b", f"select m.b as a, u.cpf as b {USERS}, warehouse.refined.mart as m"
    )
    found = [str(finding) for finding in judge(with_models(graph, mart), verdict).findings]
    assert [finding.partition(" of ")[0] for finding in found] == ["mart.a: holds cpf", "mart.b: holds cpf"]


def test_declarations_stand_where_a_class_first_appears_and_nowhere_else(graph: Graph, verdict: Verdict) -> None:
    sql = f"select u.email as x, 1 as y {USERS}"
    declared = {
        ("curated", "email"): "mail.x: inherits email already: remove its declaration",
        ("curated", "none"): "mail.x: inherits email already: remove its declaration",
        ("refined", "none"): "mail.x: is declared in refined",
    }
    for (layer, pii), reason in declared.items():
        found = judge(with_models(graph, model("mail", sql, layer=layer, classes={"x": pii})), verdict).findings
        assert [finding for finding in found if str(finding).startswith(reason)], found
    for column, pii, reason in (("y", "shoe size", "is no class"), ("z", "email", "there is no such column")):
        classes = {column: pii}
        found = judge(with_models(graph, model("mail", sql, layer="curated", classes=classes)), verdict).findings
        assert reason in str(found[0])


def test_what_is_taken_out_of_a_document_must_be_declared(graph: Graph, verdict: Verdict) -> None:
    parsed = "json_extract_string(c.after, '$.rg') as r"
    sql = f"select c.after, {parsed} from warehouse.staging.base_customer__user_changes as c"
    changes = model("changes", sql, layer="curated")
    [found] = judge(with_models(graph, changes), verdict).findings
    assert str(found).startswith("changes.r: is taken out of customer.usuarios.after: declare its class")
    declared = model("changes", sql, layer="curated", classes={"r": "identifier"})
    mart = model("mart", "select c.r from warehouse.curated.changes as c")
    [found] = judge(with_models(graph, declared, mart), verdict).findings
    assert str(found).startswith("mart.r: holds identifier of changes.r in the clear")
