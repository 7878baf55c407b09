"""The runbook quotes what the programs really say."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
# First columns hold what somebody sees: a message of a loader's, an alert's kind, a task, a command.
QUOTED = re.compile(r"`([^`]+)`")


def said() -> str:
    """Every text in the programs' source, one a line; what stands between the values of an f-string is one text."""
    sources = [*(ROOT / "loaders").rglob("*.py"), *(ROOT / "dags").glob("*.py")]
    nodes = [node for path in sources for node in ast.walk(ast.parse(path.read_text()))]
    return "\n".join(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_every_quoted_message_is_one_of_the_programs() -> None:
    rows = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
    quoted = {text for row in rows for text in QUOTED.findall(row)}
    assert len(quoted) > 30
    # land_… are tasks by the loader's name, and a command is tried by tests/test_documents.py
    texts = said()
    unknown = {text for text in quoted if text not in texts and not text.startswith(("land_", "python -m"))}
    assert unknown == set()
