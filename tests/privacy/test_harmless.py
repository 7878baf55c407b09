"""Changes that put nothing personal into refined: none is complained of, and the project itself is clean."""

from collections.abc import Callable

import pytest

from privacy import policy
from privacy.graph import Graph
from privacy.verdict import Verdict
from tests.privacy.conftest import USERS, Findings, Mask

pytestmark = pytest.mark.xdist_group("privacy")  # one compiled graph for all of them, so one worker

VAULT = "cross join read_parquet('vault/masking_key/masking_key.parquet') as masking_key"


def test_nothing_personal_reaches_refined(verdict: Verdict) -> None:
    assert [str(finding) for finding in verdict.findings] == []


def test_every_relation_was_read(graph: Graph, verdict: Verdict) -> None:
    assert verdict.columns.keys() == graph.relations.keys()
    assert {relation.layer for relation in graph.relations.values()} == {*policy.READERS, "refined"}


def test_incremental_models_are_read_in_both_forms(graph: Graph) -> None:
    incremental = {
        node["name"] for node in graph.manifest["nodes"].values() if node["config"].get("materialized") == "incremental"
    }
    assert {relation.name for relation in graph.relations.values() if len(relation.queries) == 2} == incremental


HARMLESS = {
    "count of rows": f"select count(*) as n {USERS}",
    "count of values": f"select count(u.email) as n, count(distinct u.cpf) as people {USERS}",
    "count of a window": f"select count(u.email) over (partition by u.state_code) as n {USERS}",
    "count by a condition": f"select count(case when u.email like '%@example.com' then 1 end) as n {USERS}",
    "filtered count": f"select count(*) filter (where u.birth_date > date '2000-01-01') as n {USERS}",
    "filter": f"select u.status {USERS} where u.email like '%@example.com' and u.monthly_income > 100",
    "join": f"select u.status {USERS} inner join warehouse.curated.users as v on u.cpf = v.cpf",
    "semi-join": f"select u.status {USERS} where u.cpf in (select v.cpf from warehouse.curated.users as v)",
    "exists": f"select exists (select 1 from warehouse.curated.users as v where v.email = u.email) as x {USERS}",
    "order": f"select u.status, row_number() over (order by u.full_name) as place {USERS}",
    "group": f"select u.state_code, count(*) as n {USERS} group by u.state_code, u.city having count(u.city) > 3",
    "is null": f"select u.email is not null as has_contact, u.notes is null as without_text {USERS}",
    "truth value": f"select u.monthly_income > 1000 as earns_more {USERS}",
    "bands": f"select case when u.monthly_income < 1000 then 'less' else 'more' end as band {USERS}",
    "mean of a large group": f"select u.state_code, case when count(*) >= 10 then avg(u.monthly_income) end as mean"
    f" {USERS} group by u.state_code",
    "mean of large groups only": f"select u.state_code, sum(u.monthly_income) as total {USERS} group by u.state_code"
    " having count(*) >= 10 and u.state_code <> 'XX'",
    "mean of merged groups": "with a as (select u.state_code, u.status, count(u.monthly_income) as known,"
    f" sum(u.monthly_income) as total {USERS} group by all) select a.state_code,"
    " case when sum(a.known) >= 10 then sum(a.total) / sum(a.known) end as mean from a group by a.state_code",
    "dates that are nobody's birth": f"select date_trunc('month', u.created_at) as m, u.updated_at {USERS}",
    "constants": "select 'Ana' as label, 1 as one, date '2026-01-01' as day",
    "a seed": "select s.state_code, s.state_name, s.region from warehouse.curated.brazilian_states as s",
    "a seed joined": f"select s.region, count(*) as n {USERS} left join warehouse.curated.brazilian_states as s"
    " on u.state_code = s.state_code group by s.region",
    "generated rows": "select g.n from range(10) as g (n) union all select v.n from (values (11)) as v (n)",
    "renames of a masked column": "with a as (select d.masked_email as b from warehouse.refined.dim_users as d),"
    " c as (select a.b as d from a) select c.d as e from c",
    "pieces of a masked column": "select split_part(d.masked_email, '@', 2) as domain, max(d.masked_name) as m"
    " from warehouse.refined.dim_users as d group by all",
    "select * of refined": "select * from warehouse.refined.mart_users_by_state",
    "select * into a CTE": "with users as (select * from warehouse.curated.users) select users.status from users",
    "no group but a name that is a table's": "select users.users from warehouse.refined.mart_users_by_state as users",
}


@pytest.mark.parametrize("change", HARMLESS)
def test_a_harmless_change_raises_nothing(findings: Findings, change: str) -> None:
    assert findings(HARMLESS[change]) == []


@pytest.fixture
def masked(mask: Mask) -> Callable[[str], str]:
    """A query with calls of masks in it, {email} and so on."""
    calls = {
        "email": mask("mask_email", email="u.email"),
        "lower": mask("mask_email", email="lower(trim(cast(u.email as varchar)))"),
        "name": mask("mask_initials", name="u.full_name"),
        "pseudonym": mask("pseudonym", value="cast(u.user_id as varchar)"),
        "both": mask("pseudonym", value="u.email || u.cpf"),
        "age": mask("age_band", birth_date="u.birth_date", on_date="current_date"),
        "last": mask("mask_phone", phone="last_value(u.phone) over (order by u.updated_at)"),
    }
    return lambda sql: sql.format_map({name: f"({call})" for name, call in calls.items()})


@pytest.mark.parametrize(
    "sql",
    [
        f"select {{email}} as a, {{name}} as b, {{age}} as c {USERS}",
        f"select {{lower}} as a, {{last}} as b {USERS}",
        f"select case when u.is_deleted then null else {{email}} end as a {USERS}",
        f"select coalesce({{name}}, 'nobody') as a {USERS}",
        f"select {{email}} || ' ' || {{name}} as a {USERS}",
        f"select {{email}} as a {USERS} union all select {{name}} {USERS}",
        f"select max({{name}}) as a, list(distinct {{email}}) as b {USERS}",
        f"select {{pseudonym}} as a, {{both}} as b {USERS} {VAULT}",
        f"with k as (select * from read_parquet('vault/masking_key/masking_key.parquet')),"
        f" masking_key as (select inner_pad, outer_pad, key_id from k) select {{pseudonym}} as a {USERS}, masking_key",
    ],
)
def test_masked_values_may_go_anywhere(findings: Findings, masked: Callable[[str], str], sql: str) -> None:
    assert findings(masked(sql)) == []
