"""cfn-lint and checkov find nothing in the templates, and what is kept from checkov is no more than what it finds."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import yaml
from cfnlint import ManualArgs
from cfnlint.api import lint_file

from infra import deploy

CHECKOV = deploy.ROOT / ".checks/checkov/bin/checkov"
REGIONS = ("us-east-1", "sa-east-1")


def cfn_lint(path: Path, regions: Iterable[str]) -> list[str]:
    return [f"{found.rule.id} {found.message}" for found in lint_file(path, ManualArgs(regions=list(regions)))]


@pytest.mark.parametrize("stack", deploy.STACKS)
def test_cfn_lint_finds_nothing(stack: str) -> None:
    """In two regions; billing in the only one that knows its types."""
    assert (
        cfn_lint(deploy.template_path(stack), [deploy.ELSEWHERE[stack]] if stack in deploy.ELSEWHERE else REGIONS) == []
    )


@pytest.mark.parametrize(
    ("right", "wrong", "rule"),
    [
        ("s3:GetObject", "s3:GetObjekt", "W3037"),  # an action that IAM does not know
        ("AWS::Glue::Table", "AWS::Glue::Tabel", "E3006"),
        ("!Ref LakeKmsKeyId", "!Ref Nobody", "E1020"),
    ],
)
def test_cfn_lint_finds_mistakes(right: str, wrong: str, rule: str, tmp_path: Path) -> None:
    text = deploy.template_path("catalogue").read_text()
    assert right in text
    path = tmp_path / "catalogue.yaml"
    path.write_text(text.replace(right, wrong))
    assert rule in {found.partition(" ")[0] for found in cfn_lint(path, REGIONS)}


def test_what_cfn_lint_was_asked(counted: Callable[[str], None]) -> None:
    assert set(deploy.STACKS) == {path.stem for path in (deploy.HERE / "stacks").glob("*.yaml")}
    counted(f"cfn-lint:    no finding in {' and '.join(REGIONS)} (billing: in the only region that knows its types)")


def test_checkov_finds_what_is_suppressed_and_nothing_else(tmp_path: Path, counted: Callable[[str], None]) -> None:
    """Run once, as it takes seconds, without the suppressions (one that nothing needs is a finding too), and beside the
    stacks over a mistake that it has to find."""
    if not CHECKOV.exists():
        pytest.fail("checkov is not installed: `make infra-check` installs it into .checks")
    shutil.copytree(deploy.HERE / "stacks", tmp_path / "stacks")
    for path in (tmp_path / "stacks").iterdir():  # checkov leaves out what is made only on a condition
        path.write_text(re.sub(r"(?m)^    Condition: \w+\n", "", path.read_text()))
    mistaken = deploy.template_path("query").read_text().replace("Enforce", "#Enforce")
    (tmp_path / "mistaken.yaml").write_text(mistaken)
    settings = yaml.safe_load((deploy.HERE / "checks/checkov.yaml").read_text())
    suppressed = set(settings.pop("skip-check"))
    (tmp_path / "settings").write_text(yaml.safe_dump(settings | {"quiet": False}))  # with what has passed
    command = [
        CHECKOV,
        "--directory",
        tmp_path,
        "--config-file",
        tmp_path / "settings",
        "--output",
        "json",
        "--soft-fail",
    ]
    results = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["results"]
    found = {(Path(check["file_path"]).name, check["check_id"]) for check in results["failed_checks"]}
    assert ("mistaken.yaml", "CKV_AWS_82") in found
    assert {check for name, check in found if name != "mistaken.yaml"} == suppressed
    passed = [check for check in results["passed_checks"] if Path(check["file_path"]).name != "mistaken.yaml"]
    counted(f"checkov:     {len(passed)} checks passed, {len(suppressed)} kinds suppressed with a reason")
