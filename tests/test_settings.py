"""Settings: `.env.example` and the code know the same names."""

import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from loaders import paths
from loaders.errors import OperatorError
from loaders.settings import from_environment, lands_users, place, targets
from sandbox.athena import artifacts

ROOT = Path(__file__).parent.parent
EXAMPLE = (ROOT / ".env.example").read_text()
LOCK = (ROOT / "sandbox/athena/trino.lock").read_text()
# Where a developer works, not how the product runs.
NOT_SETTINGS = {"DBT_SCHEMA", "USER"}


def test_every_setting_is_in_the_example() -> None:
    read = set(re.findall(r'get\("([A-Z_]+)"', (ROOT / "loaders/settings.py").read_text())) | set(paths.NAMES)
    read |= {"WAREHOUSE_TARGET", "MAVEN_REPOSITORY_URL"}  # read by settings.targets and by the sandbox
    project = ROOT / "dbt_project"
    for path in [ROOT / "profiles.yml", *project.rglob("*.yml"), *project.rglob("*.sql")]:
        if project / "target" not in path.parents:  # what dbt has written
            read |= set(re.findall(r"env_var\(['\"]([A-Z_]+)", path.read_text()))
    assert len(read) > 10
    assert set(re.findall(r"^#?([A-Z_]+)=", EXAMPLE, re.MULTILINE)) == read - NOT_SETTINGS


def test_every_line_of_the_example_is_a_comment() -> None:
    assert not [line for line in EXAMPLE.splitlines() if line and not line.startswith("#")]


def test_secrets_stay_out_of_the_repr() -> None:
    settings = from_environment(
        {
            "CUSTOMER_DSN": "postgresql://a:hunter2@b/c",
            "CUSTOMER_SNAPSHOT_DSN": "x:hunter2",
            "MASKING_KEY": "hunter2",
            "ALERT_TARGET": "https://hooks.example/hunter2",
        }
    )
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("day", "message"),
    [("yesterday", "YYYY-MM-DD"), ("2026-02-30", "YYYY-MM-DD"), ("20260101", "YYYY-MM-DD"), ("9999-01-01", "to come")],
)
def test_a_first_day_that_would_hide_what_lands_is_refused(day: str, message: str) -> None:
    with pytest.raises(OperatorError, match=message):
        from_environment({"LAKE_SINCE": day})


SAY = """
import json, os, sys
from loaders import settings
known = settings.from_environment()
print(json.dumps([dict(os.environ), vars(known), settings.place("SANDBOX_HOME")]))
"""


def test_a_setting_means_the_same_from_every_folder(tmp_path: Path) -> None:
    """Use faults F6 and F7: one reader, paths expanded once, relative ones at the project's root, in .env too."""
    env_file = tmp_path / "settings"
    env_file.write_text("VAULT_URI=~/vault\nDUCKDB_PATH=\nSANDBOX_HOME=${HOME}/world\nLAKE_TARGET=\nDOCS_URI=docs\n")
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "LAKEHOUSE_ENV_FILE": str(env_file)}
    done = subprocess.run(
        [sys.executable, "-c", SAY],
        cwd=elsewhere,
        env=environment | {"LAKE_URI": "../lake", "SANDBOX_CACHE": " "},
        capture_output=True,
        text=True,
        check=True,
    )
    environ, settings, sandbox = json.loads(done.stdout)
    lake = str(ROOT.resolve().parent / "lake")
    assert environ["LAKE_URI"] == settings["lake_uri"] == lake
    assert environ["VAULT_URI"] == settings["vault_uri"] == str(home / "vault")
    assert environ["DOCS_URI"] == settings["docs_uri"] == str(ROOT.resolve() / "docs")
    assert environ["SANDBOX_HOME"] == sandbox == str(home / "world")
    assert settings["duckdb_path"] == f"{lake}/warehouse.duckdb"
    assert not {"DUCKDB_PATH", "SANDBOX_CACHE", "LAKE_TARGET"} & environ.keys()
    assert environ["DBT_PROJECT_DIR"] == str(ROOT.resolve() / "dbt_project")


def test_an_environment_is_installed_in_a_folder_of_any_name(tmp_path: Path) -> None:
    """Use faults F10: the Makefile pastes no path into a shell's text."""
    folder = tmp_path / """d'avila [x] "y" #1 100% $HOME `z`"""
    for name in ("__init__", "environment", "paths"):
        (folder / "loaders").mkdir(parents=True, exist_ok=True)
        (folder / f"loaders/{name}.py").write_text((ROOT / f"loaders/{name}.py").read_text())
    venv.create(folder / ".venv", with_pip=False)
    [line] = re.findall(r"^\t@(\$\(PYTHON\) -c .*install.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    command = line.replace("$(PYTHON)", ".venv/bin/python")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    subprocess.run(["sh", "-c", command], cwd=folder, env=environment, check=True)
    said = subprocess.run(
        [folder / ".venv/bin/python", "-c", "import os; print(os.environ['LAKE_URI'])"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == f"{folder.resolve()}/lake\n"


def test_expanding_a_path_twice_changes_nothing() -> None:
    folder = "/a/$HOME/~/[x] *?{0} 'y' #1 100%"
    assert paths.absolute(folder) == paths.absolute(paths.absolute(folder)) == folder
    assert paths.absolute("s3://bucket/prefix/") == "s3://bucket/prefix"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"LAKE_URI": "~nobody-of-this-name/lake"}, "LAKE_URI is '~nobody.* leads nowhere"),
        ({"VAULT_URI": "s3:/bucket/prefix"}, "VAULT_URI is 's3:/bucket/prefix', which looks like a URI without"),
        ({"DOCS_URI": "C:\\docs"}, "DOCS_URI is .* looks like a URI"),
        ({"LAKE_URI": "a\\b"}, "LAKE_URI is .* DuckDB cannot read below"),
        ({"DUCKDB_PATH": "what?/warehouse.duckdb"}, "set DUCKDB_PATH to another path"),
        ({"LAKE_URI": "/what?"}, "set DUCKDB_PATH to another path"),
        ({"LAKE_URI": "/p#1/lake"}, "set DUCKDB_PATH to another path"),
    ],
)
def test_a_path_that_some_program_would_misread_is_refused(variables: dict[str, str], message: str) -> None:
    """Use faults F7 and F10."""
    with pytest.raises(OperatorError, match=message):
        from_environment(variables)


def test_an_empty_setting_is_one_that_is_not_set() -> None:
    assert from_environment({"LAKE_URI": " ", "DUCKDB_PATH": ""}) == from_environment({})
    assert place("SANDBOX_HOME", {"SANDBOX_HOME": ""}) == str(ROOT.resolve() / ".sandbox")
    assert targets({"LAKE_TARGET": "", "WAREHOUSE_TARGET": "redshift"}) == ("local", "redshift")
    assert lands_users({"CHANGE_FEED_NAME": " "})
    with pytest.raises(OperatorError, match="CHANGE_FEED_NAME is 'Stream': give one of loader, stream, dms"):
        lands_users({"CHANGE_FEED_NAME": "Stream"})
    assert from_environment({"LAKE_URI": "/what?", "DUCKDB_PATH": "/elsewhere.duckdb"}).duckdb_path
    assert from_environment({"LAKE_URI": "s3://lake"}).duckdb_path is None


def test_no_home_is_needed(tmp_path: Path) -> None:
    """Use faults F16: pip, uv and the local Athena where the home folder cannot be written."""
    say = ["make", "--silent", "--eval", "say: ; @echo \\[$(NO_CACHE)\\]", "say"]
    for home, flag in ((tmp_path, "[]"), (Path("/proc/no-home"), "[--no-cache-dir]")):
        environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
        done = subprocess.run(say, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == flag
    with pytest.raises(artifacts.ArtifactError, match="set SANDBOX_CACHE to another folder"):
        artifacts.install(Path("/proc/no-home/trino"), artifacts.read_lock(LOCK))
