"""cfn-lint and checkov find nothing, and what is kept from checkov is no more than what it finds."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import deploy

CHECKOV = deploy.ROOT / ".checkov/bin/checkov"
REGIONS = ("us-east-1", "sa-east-1")


def cfn_lint(*arguments: str | Path) -> list[dict[str, Any]]:
    program = Path(sys.executable).with_name("cfn-lint")
    run = subprocess.run([program, "--format", "json", *arguments], capture_output=True, text=True, check=False)
    assert run.stdout, run.stderr
    return json.loads(run.stdout)


def test_cfn_lint_finds_nothing_in_two_regions(counted: Callable[[str], None]) -> None:
    everywhere = [deploy.template_path(stack) for stack in deploy.STACKS if stack not in deploy.ELSEWHERE]
    assert cfn_lint("--regions", *REGIONS, "--templates", *everywhere) == []
    for stack, region in deploy.ELSEWHERE.items():
        assert cfn_lint("--regions", region, "--templates", deploy.template_path(stack)) == []
    counted(
        f"cfn-lint:    no finding in {' and '.join(REGIONS)} (billing: us-east-1, the only one that knows its types)"
    )


@pytest.mark.parametrize(
    ("wrong", "right", "rule"),
    [
        ("s3:GetObjekt", "s3:GetObject", "W3037"),  # an action that IAM does not know
        ("AWS::Glue::Tabel", "AWS::Glue::Table", "E3006"),
        ("!Ref Nobody", "!Ref LakeKmsKeyId", "E1020"),
    ],
)
def test_cfn_lint_finds_mistakes(wrong: str, right: str, rule: str, tmp_path: Path) -> None:
    stack = "catalogue"
    text = deploy.template_path(stack).read_text()
    assert right in text
    path = tmp_path / f"{stack}.yaml"
    path.write_text(text.replace(right, wrong))
    assert rule in {found["Rule"]["Id"] for found in cfn_lint("--regions", "us-east-1", "--templates", path)}


def checkov(folder: Path, *arguments: str | Path) -> tuple[set[str], dict[str, int]]:
    """The checks that fail, and checkov's own counts."""
    if not CHECKOV.exists():
        pytest.fail("checkov is not installed: run `make infra-check`, which installs it into .checkov")
    command = [CHECKOV, "--directory", folder, "--output", "json", "--soft-fail", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(run.stdout)
    return {check["check_id"] for check in found["results"]["failed_checks"]}, found["summary"]


def test_checkov_finds_what_is_suppressed_and_nothing_else(tmp_path: Path, counted: Callable[[str], None]) -> None:
    """Run without the suppressions: one that nothing needs any more is a finding too."""
    shutil.copytree(deploy.HERE / "stacks", tmp_path / "stacks")
    settings = yaml.safe_load((deploy.HERE / "checkov.yaml").read_text())
    suppressed = set(settings.pop("skip-check"))
    (tmp_path / "checkov.yaml").write_text(yaml.safe_dump(settings))
    found, counts = checkov(tmp_path / "stacks", "--config-file", tmp_path / "checkov.yaml")
    assert found == suppressed
    counted(f"checkov:     {counts['passed']} checks passed, {len(suppressed)} kinds suppressed with a reason")


def test_checkov_finds_a_mistake(tmp_path: Path) -> None:
    text = deploy.template_path("query").read_text()
    (tmp_path / "query.yaml").write_text(
        text.replace("EnforceWorkGroupConfiguration: true", "EnforceWorkGroupConfiguration: false")
    )
    found, _ = checkov(tmp_path, "--config-file", deploy.HERE / "checkov.yaml")
    assert found == {"CKV_AWS_82"}
