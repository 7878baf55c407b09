"""The runbook quotes what the programs really say."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
# First columns hold what somebody sees: a message of a loader's, an alert's kind, a task, a command.
QUOTED = re.compile(r"`([^`]+)`")
LONG = 12  # characters, of a piece of a message that says what it is


def rows() -> list[str]:
    """The first columns of the runbook's tables."""
    return re.findall(r"^\| ([^|]+) \|", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)


def said() -> str:
    """Every text in the programs' source, one a line; what stands between the values of an f-string is one text."""
    sources = [*(ROOT / "loaders").rglob("*.py"), *(ROOT / "dags").glob("*.py")]
    nodes = [node for path in sources for node in ast.walk(ast.parse(path.read_text()))]
    return "\n".join(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_every_quoted_message_is_one_of_the_programs() -> None:
    quoted = {text for row in rows() for text in QUOTED.findall(row)}
    assert len(quoted) > 30
    # land_… are tasks by the loader's name, and a command is tried by tests/test_documents.py
    texts = said()
    unknown = {text for text in quoted if text not in texts and not text.startswith(("land_", "python -m"))}
    assert unknown == set()


def test_every_message_that_needs_a_person_is_in_the_runbook() -> None:
    """What ends a loader with exit code 2; a message that is nothing but names and values cannot be looked for."""
    quoted = {text for row in rows() for text in QUOTED.findall(row)}
    missing, found = [], 0
    for path in (ROOT / "loaders").rglob("*.py"):
        tree = ast.parse(path.read_text())
        constants = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for call in ast.walk(tree):
            if not (isinstance(call, ast.Call) and getattr(call.func, "id", None) == "OperatorError"):
                continue
            argument = call.args[0]
            text = texts_of(constants.get(argument.id, argument) if isinstance(argument, ast.Name) else argument)
            if any(len(piece) > LONG for piece in text):
                found += 1
                if not any(words in piece for words in quoted for piece in text):
                    missing.append(f"{path.relative_to(ROOT)}:{call.lineno}: {' … '.join(text)}")
    assert found > 70
    assert missing == []


def texts_of(node: ast.AST) -> list[str]:
    return [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)]
