"""What the checks of infra/ counted is said at the end of a run: `make infra-check` is for reading."""

from collections.abc import Callable
from typing import Any

import pytest

from infra import deploy
from tests.infra.rules import Templates

COUNTED = "infra-check"


@pytest.fixture(scope="session")
def templates() -> Templates:
    """The templates of all stacks; who changes one changes a copy."""
    return {stack: deploy.read_template(stack) for stack in deploy.STACKS}


@pytest.fixture
def counted(record_property: Callable[[str, Any], None]) -> Callable[[str], None]:
    """Note a line for the end of the run."""
    return lambda line: record_property(COUNTED, line)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = [
        value
        for report in terminalreporter.stats.get("passed", [])
        for name, value in report.user_properties
        if name == COUNTED and report.when == "call"
    ]
    if lines:
        terminalreporter.section(COUNTED)
        terminalreporter.write("".join(f"{line}\n" for line in lines))
