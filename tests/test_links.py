"""Each link of a document leads to a file that is there, and to a heading of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import markdown

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "infra").rglob("*.md"))]


def dead(document: Path) -> Iterator[str]:
    """The links and pictures of a document that lead nowhere. Addresses of the web are not asked."""
    text = markdown.FENCE.sub("", document.read_text())
    for target in markdown.LINK.findall(text) + markdown.PICTURE.findall(text):
        name, _, anchor = target.partition("#")
        if name.startswith(("https:", "http:", "mailto:")):
            continue
        path = document.parent / name if name else document
        if not path.exists():
            yield f"{target}: there is no such file"
        elif anchor and anchor not in {section.anchor for section in markdown.sections(path.read_text())}:
            yield f"{target}: there is no such heading"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    assert list(dead(document)) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[a](b.md)", ["b.md: there is no such file"]),
        ("![a](b.png)", ["b.png: there is no such file"]),
        ("# One: `two`\n[a](#one)", ["#one: there is no such heading"]),
        ("# One: `two`\n[a](#one-two), [b](a.md#one-two), [c](https://example.com/#x)", []),
        ("```\n# a\n[a](b.md)\n```\n[a](#a)", ["#a: there is no such heading"]),
    ],
)
def test_a_dead_link_is_found(text: str, found: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(text)
    assert list(dead(tmp_path / "a.md")) == found
