"""Settings: `.env.example` and the code know the same names."""

import re
from pathlib import Path

import pytest

from loaders.errors import OperatorError
from loaders.settings import from_environment

ROOT = Path(__file__).parent.parent
EXAMPLE = (ROOT / ".env.example").read_text()
# Where a developer works, not how the product runs.
NOT_SETTINGS = {"DBT_SCHEMA", "USER"}


def test_every_setting_is_in_the_example() -> None:
    read = set(re.findall(r'get\("([A-Z_]+)"\)', (ROOT / "loaders/settings.py").read_text()))
    read |= {"WAREHOUSE_TARGET", "CHANGE_FEED_NAME"}  # read by the DAG
    read |= {"SANDBOX_HOME", "SANDBOX_CACHE", "MAVEN_REPOSITORY_URL"}  # read by the sandbox
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
