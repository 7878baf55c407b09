"""What the privacy commands do with a whole project: mistakes that dbt itself compiles, and generated files."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from privacy import graph as graphs
from privacy import pii_map, policy, site
from privacy.__main__ import report
from privacy.graph import Graph
from privacy.verdict import Verdict, judge
from tests.privacy.conftest import model, with_models

pytestmark = pytest.mark.xdist_group("privacy")  # one compiled graph for all of them, so one worker

PROJECT = graphs.ROOT / "dbt_project"

# Files of the project, and what is put into them: (what stands there, what in its place), or a new file's text.
MISTAKES: dict[str, str | tuple[str, str]] = {
    "macros/masking/hide.sql": "{% macro hide(value) %}upper({{ value }}){% endmacro %}",
    "models/refined/customer/by_macro.sql": "select {{ hide('email') }} as x from {{ ref('users') }}",
    "models/refined/customer/by_loop.sql": (
        "select {% for column in ['status', 'city'] %}{{ column }} as c{{ loop.index }}, {% endfor %} 1 as one"
        " from {{ ref('users') }}"
    ),
    "models/refined/customer/by_column.sql": "select rg as x, renamed as y from {{ ref('people') }}",
    "models/curated/customer/people.sql": (
        "{{ config(contract={'enforced': false}) }} select rg, full_name as renamed"
        " from {{ ref('base_customer__user_changes') }}"
    ),
    "models/refined/customer/by_ephemeral.sql": "select e.hidden as x from {{ ref('between') }} as e",
    "models/curated/customer/between.sql": (
        "{{ config(materialized='ephemeral') }} select phone as hidden from {{ ref('users') }}"
    ),
    "models/anywhere.sql": "select postal_code as x from {{ ref('users') }}",
    "models/refined/customer/by_hook.sql": (
        "{{ config(post_hook=\"insert into {{ this }} select email from {{ ref('users') }}\") }} select 'none' as x"
    ),
    "models/refined/customer/by_first_run.sql": (
        "{{ config(materialized='incremental', on_schema_change='fail') }} select user_id as x from {{ ref('users') }}"
        " {% if is_incremental() %} union all select cpf from {{ ref('users') }} {% endif %}"
    ),
    "models/staging/customer/base/base_customer__user_changes.sql": (
        "\n    before,\n    after,\n    batch_id,\n",
        "\n    full_name as rg,\n    before,\n    after,\n    batch_id,\n",
    ),
}
FOUND = {
    "by_macro.x: holds email of base_customer__user_changes.email in the clear",
    "by_loop.c2: holds city of base_customer__user_changes.city in the clear",
    "by_column.x: holds document of customer.usuarios.after in the clear",
    "by_column.y: holds name of base_customer__user_changes.full_name in the clear",
    "by_ephemeral.x: holds phone of base_customer__user_changes.phone in the clear",
    "anywhere.x: holds postal_code of base_customer__user_changes.postal_code in the clear",
    "by_first_run.x: holds identifier of base_customer__user_changes.user_id in the clear",
    "by_first_run.x: holds cpf of base_customer__user_changes.cpf in the clear",
    "base_customer__user_changes.rg: is taken out of customer.usuarios.after: declare its class, or none",
    "by_hook: its hook insert into {{ this }} select email",
}


def test_mistakes_in_a_project_are_found_in_what_dbt_compiles(tmp_path: Path) -> None:
    project = tmp_path / "dbt_project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    for name, change in MISTAKES.items():
        path = project / name
        if isinstance(change, tuple):
            assert change[0] in path.read_text()
            path.write_text(path.read_text().replace(*change))
        else:
            path.write_text(change)
    config = (project / "dbt_project.yml").read_text()
    (project / "dbt_project.yml").write_text(
        config.replace("+contract: {enforced: true}", "+contract: {enforced: false}")
    )
    findings = [str(finding) for finding in judge(graphs.load(project, tmp_path / "target")).findings]
    assert {start for start in FOUND if not any(finding.startswith(start) for finding in findings)} == set()
    of_ours = ("dim_", "mart_", "fct_", "users", "user_", "stg_")
    assert [finding for finding in findings if finding.startswith(of_ours)] == []


def test_a_project_that_does_not_compile_is_an_error(tmp_path: Path) -> None:
    shutil.copytree(PROJECT, tmp_path / "p", ignore=shutil.ignore_patterns("target", "logs"))
    (tmp_path / "p/models/broken.sql").write_text("select * from {{ ref('nobody') }}")
    with pytest.raises(RuntimeError, match="dbt cannot compile the project"):
        graphs.load(tmp_path / "p", tmp_path / "target")


def test_generated_files_say_what_the_lineage_says(graph: Graph, verdict: Verdict) -> None:
    assert pii_map.stale(PROJECT, graph, verdict) == [], "run: python -m privacy write"


@pytest.mark.parametrize(
    ("sql", "exits", "says"),
    [
        (
            "select status as x from warehouse.curated.users",
            0,
            "of refined unmasked",
        ),
        ("select email as x from warehouse.curated.users", 1, "mart.x := users.email"),
    ],
)
def test_the_report_prints_map_verdict_and_figures_and_exits_by_the_verdict(
    graph: Graph,
    sql: str,
    exits: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DUCKDB_PATH", str(tmp_path / "none.duckdb"))
    monkeypatch.setattr(graphs, "load", lambda: with_models(graph, model("mart", sql)))
    monkeypatch.setattr(pii_map, "stale", lambda *_: [])
    assert report() == exits
    printed = capsys.readouterr().out
    assert "base_customer__user_changes.cpf: cpf" in printed
    assert "no lake yet: make demo" in printed
    assert says in printed


def test_the_map_follows_every_declared_column(graph: Graph, verdict: Verdict) -> None:
    rows = {row.origin: row for row in pii_map.rows(graph, verdict)}
    email = rows["base_customer__user_changes.email"]
    assert {"stg_customer__user_changes.email", "user_versions.email", "users.email"} <= set(email.in_clear)
    assert email.masked == ("dim_users.email_pseudonym (pseudonym)", "dim_users.masked_email (mask_email)")
    declared = {
        f"{relation.name}.{name}"
        for relation in graph.relations.values()
        for name, pii in relation.classes.items()
        if pii != policy.NONE
    }
    assert rows.keys() == declared


def test_the_docs_are_annotated_from_the_manifest_alone(graph: Graph, verdict: Verdict, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(graph.manifest))
    for _ in range(2):  # twice does no harm
        subprocess.run([sys.executable, "-m", "privacy", "site", tmp_path], cwd=graphs.ROOT, check=True)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert site.column_privacy(manifest) == pii_map.column_privacy(graph, verdict)
    columns = manifest["nodes"]["model.lakehouse.dim_users"]["columns"]
    assert columns["masked_cpf"]["meta"] == {"personal data": "cpf", "masked by": "mask_cpf", "read by": "analysts"}
    assert columns["status"]["meta"] == {}
    source = manifest["sources"]["source.lakehouse.customer.usuarios"]["columns"]["after"]
    assert source["meta"]["read by"] == "the transformer"


def test_docs_that_were_not_generated_are_an_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "privacy", "site", tmp_path]
    done = subprocess.run(command, cwd=graphs.ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"{tmp_path}/manifest.json is not there: run `dbt docs generate` first\n"


def test_every_class_is_masked_by_macros_that_exist(graph: Graph) -> None:
    assert set(graph.patterns.expansions) == set(policy.MASKS)
