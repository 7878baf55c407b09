"""What the tests of documents read out of Markdown, as GitHub shows it."""

import re
from typing import NamedTuple

FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
CODE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")


class Section(NamedTuple):
    """A heading and what stands below it, up to the next one; the first of a document may have none (level 0)."""

    level: int
    title: str
    text: str

    @property
    def anchor(self) -> str:
        """What a link to it says after #."""
        return re.sub(r"[^\w\- ]", "", self.title.lower()).replace(" ", "-")


def sections(document: str) -> list[Section]:
    # What is fenced may begin a line with #, so each of its characters is covered, and places stay what they are.
    covered = FENCE.sub(lambda fence: re.sub(r"[^\n]", ".", fence[0]), document)
    headings = list(HEADING.finditer(covered))
    starts = [heading.start() for heading in headings] + [len(document)]
    found = [
        Section(len(heading[1]), heading[2], document[heading.end() : end].strip())
        for heading, end in zip(headings, starts[1:], strict=True)
    ]
    preface = document[: starts[0]].strip()
    return [Section(0, "", preface), *found] if preface else found


def tables(text: str) -> list[int]:
    """How many lines each table of the text has."""
    return [len(table[0].splitlines()) for table in re.finditer(r"(?:^\|.*\n?)+", text, re.MULTILINE)]
