"""docs/architecture.md has each piece of the challenge, and docs/arquitetura.md says the same in Portuguese."""

import re
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path

import pytest

from tests import markdown

DOCS = Path(__file__).parent.parent / "docs"
ENGLISH, PORTUGUESE = ((DOCS / name).read_text() for name in ("architecture.md", "arquitetura.md"))
# A file of one document, and what stands for it in the other.
COUNTERPARTS = {"arquitetura.md": "architecture.md", "images/arquitetura.png": "images/architecture.png"}
PIECES = [
    "MWAA", "Kinesis", "S3: raw, curated, refined", "Glue", "Redshift", "Athena", "QuickSight", "SageMaker", "IAM",
    "KMS", "CloudWatch", "Cost and Usage Report",
]  # fmt: skip


END = markdown.Section(-1, "the end", "")


def differences(english: str, portuguese: str) -> Iterator[str]:
    """Where the translation no longer follows: headings, tables, code, links, figures, items; each with its section."""
    ours, theirs = markdown.sections(english), markdown.sections(portuguese)
    names = {section.title for section in ours} & {section.title for section in theirs}  # of services: not translated
    for one, other in zip_longest(ours, theirs, fillvalue=END):
        if _shape(one, names) != _shape(other, names):
            yield f"headings part at «{one.title}» / «{other.title}»"
            return
    # Headings are translated, so a link to one is told by its place.
    places = [{section.anchor: str(place) for place, section in enumerate(found)} for found in (ours, theirs)]
    for one, other in zip(ours, theirs, strict=True):
        for what, of in ASPECTS.items():
            mine, yours = of(one.text, places[0]), of(other.text, places[1])
            if mine != yours:
                yield f"«{one.title}» / «{other.title}»: {what} differ: {_apart(mine, yours)}"


def _shape(section: markdown.Section, names: set[str]) -> tuple[int, str]:
    return section.level, section.title if section.title in names else "translated"


def _apart(mine: set[str] | list[int], yours: set[str] | list[int]) -> str:
    if isinstance(mine, set):
        return f"only in English {sorted(mine - yours)}, only in Portuguese {sorted(yours - mine)}"
    return f"{mine} in English, {yours} in Portuguese"


def _links(text: str, places: dict[str, str]) -> set[str]:
    targets = [target.partition("#") for target in markdown.LINK.findall(text)]
    return {
        f"{COUNTERPARTS.get(name, name)}#{anchor if name else places.get(anchor, anchor)}"
        for name, _, anchor in targets
        if name not in ("architecture.md", "arquitetura.md")  # each names the other
    }


def _figures(text: str, _: dict[str, str]) -> set[str]:
    """Numbers of the prose without their separators, which are other ones in Portuguese."""
    prose = markdown.CODE.sub("", re.sub(r"\]\([^)]*\)", "", markdown.FENCE.sub("", text)))
    return {re.sub("[.,]", "", number) for number in re.findall(r"\d(?:[\d.,]*\d)?", prose)}


ASPECTS: dict[str, Callable[[str, dict[str, str]], set[str] | list[int]]] = {
    "tables (lines of each)": lambda text, _: markdown.tables(text),
    "items of lists": lambda text, _: [len(re.findall(r"^(?:- |\d+\. )", text, re.MULTILINE))],
    "drawings": lambda text, _: [len(markdown.PICTURE.findall(text)) + len(markdown.FENCE.findall(text))],
    "code": lambda text, _: {" ".join(code.split()) for code in markdown.CODE.findall(markdown.FENCE.sub("", text))},
    "links": _links,
    "figures": _figures,
}


def test_no_piece_of_the_challenge_is_missing() -> None:
    titles = [section.title for section in markdown.sections(ENGLISH) if section.level == 3]
    assert [title for title in titles if title in PIECES] == PIECES


def test_the_translation_follows() -> None:
    assert list(differences(ENGLISH, PORTUGUESE)) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\n### KMS\n", "\n### KMS\n\n### Macie\n", "headings part at «Macie» / «CloudWatch»"),
        ("| KMS | ", "| KMS | a |\n| KMS | ", "«The pieces» / «As peças»: tables"),
        ("- The loader reads by", "- It sleeps.\n- The loader reads by", "«The source never waits for us» / "),
        ("`WAREHOUSE_TARGET=athena`", "`LAKE_TARGET=athena`", "«Redshift» / «Redshift»: code"),
        ("(#the-schedule)", "(#iam)", "«MWAA» / «MWAA»: links"),
        ("14.9 s", "15.9 s", "«Kinesis» / «Kinesis»: figures differ: only in English ['159']"),
    ],
)
def test_a_change_of_one_document_alone_is_found(old: str, new: str, message: str) -> None:
    assert old in ENGLISH
    assert message in "\n".join(differences(ENGLISH.replace(old, new, 1), PORTUGUESE))
