"""The drawing shows what the templates make, its pictures are of today's page, and nothing in it runs into anything."""

import re
import struct
from collections.abc import Callable, Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Browser, Page

from infra import deploy, drawing
from tests.infra.rules import Templates

LANGUAGES = list(drawing.PICTURES)
# The pieces that the challenge names, and what makes each of them.
PIECES = {
    "MWAA": "AWS::MWAA::Environment",
    "Kinesis": "AWS::Kinesis::Stream",
    "S3 raw": "AWS::S3::Bucket",
    "S3 curated": "AWS::S3::Bucket",
    "S3 refined": "AWS::S3::Bucket",
    "Glue": "AWS::Glue::Table",
    "Redshift": "AWS::RedshiftServerless::Workgroup",
    "QuickSight": "AWS::QuickSight::Dashboard",
    "Athena": "AWS::Athena::WorkGroup",
    "SageMaker": "AWS::SageMaker::NotebookInstance",
    "IAM": "AWS::IAM::Role",
    "KMS": "AWS::KMS::Key",
    "CloudWatch": "AWS::CloudWatch::Alarm",
    "Cost and Usage Report": "AWS::BCMDataExports::Export",
}
BOXES = """boxes => boxes.map(box => ({
    title: box.querySelector("h3").innerText.trim(),
    made: (box.dataset.made ?? "").split(" ").filter(Boolean),
    optional: box.classList.contains("optional"),
    outside: box.classList.contains("outside"),
}))"""
# Whatever holds words and has a place of its own, and the corners of each arrow.
PLACES = """things => things.filter(thing => thing.getClientRects().length).map(thing => {
    const {left, top, right, bottom} = thing.getBoundingClientRect();
    const fonts = [thing, ...thing.querySelectorAll("*")].map(part => parseFloat(getComputedStyle(part).fontSize));
    const spills = thing.scrollWidth > thing.clientWidth || thing.scrollHeight > thing.clientHeight;
    return {name: thing.id || thing.innerText.trim(), left, top, right, bottom, font: Math.min(...fonts), spills};
})"""
ARROWS = """paths => paths.map(path => ({from: path.dataset.from, to: path.dataset.to, way: path.getAttribute("d")}))"""
MISTAKES = {
    "a word wider than its box": ("<h3>", "Donaudampfschifffahrtsgesellschaft<h3>", "spills"),
    "small print": (".box p {", ".box p { font-size: 11px;", "small"),
    "a box over another": ('id="replica" style="', 'id="replica" style="margin-top: -30px; ', "overlap"),
    "a page too wide": ("[use-start] 130px", "[use-start] 160px", "wider"),
    "an arrow through a box": ('"primary" data-to="users"', '"primary" data-to="staging"', "through"),
    "arrows that cross": ('data-round="8 12"', 'data-round="8 40"', "cross"),
}


@pytest.fixture(scope="module", params=LANGUAGES)
def drawn(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    with drawing.opened(browser, request.param) as page:
        yield page


def boxes(page: Page) -> list[dict[str, Any]]:
    return page.eval_on_selector_all(".box", BOXES)


def resource(templates: Templates, made: str) -> dict[str, Any]:
    stack, _, logical = made.partition(".")
    return templates.get(stack, {}).get("Resources", {}).get(logical, {"Type": f"nothing makes {made}"})


@pytest.mark.parametrize(("piece", "kind"), PIECES.items())
def test_every_piece_of_the_challenge_is_a_box(drawn: Page, templates: Templates, piece: str, kind: str) -> None:
    named = [box for box in boxes(drawn) if piece in box["title"]]
    assert named
    assert any(resource(templates, made)["Type"] == kind for box in named for made in box["made"])


def test_a_box_is_made_by_the_templates_or_stands_outside(drawn: Page, templates: Templates) -> None:
    for box in boxes(drawn):
        found = [resource(templates, made) for made in box["made"]]
        assert all(one["Type"].startswith("AWS::") for one in found), (box, found)
        assert box["outside"] == (not found), box
        if found:
            assert box["optional"] == all("Condition" in one for one in found), box


def test_every_stack_is_drawn(drawn: Page) -> None:
    assert {made.partition(".")[0] for box in boxes(drawn) for made in box["made"]} == set(deploy.STACKS)


def test_tables_have_the_names_of_dbt(drawn: Page) -> None:
    folder = deploy.ROOT / "dbt_project/models"
    models = {path.stem for path in folder.rglob("*.sql")}
    for path in folder.rglob("_sources.yml"):
        for source in yaml.safe_load(path.read_text())["sources"]:
            models |= {table["name"] for table in source["tables"]}
    named = set(drawn.eval_on_selector_all("code", "codes => codes.map(code => code.innerText)"))
    assert named
    assert named <= models


def test_what_is_said_in_one_language_is_said_in_the_other(drawn: Page) -> None:
    said = drawn.eval_on_selector_all(
        "body [lang]", "all => all.map(one => [one.lang, one.localName, one.textContent.trim()])"
    )
    for (english, element, words), (portuguese, other, translated) in zip(said[::2], said[1::2], strict=True):
        assert (english, portuguese, element) == ("en", "pt", other), words
        assert words != translated, words


def findings(page: Page) -> Iterator[str]:
    """What a look at the picture would find wrong."""
    places = page.eval_on_selector_all(".box, .step, .note, .zone > span, h2, .legend > span", PLACES)
    arrows = page.eval_on_selector_all("#arrows [data-from]", ARROWS)
    if page.evaluate("document.documentElement.scrollWidth") > drawing.WIDTH:
        yield "the page is wider than the picture"
    for place in places:
        if place["spills"]:
            yield f"{place['name']} spills out of its box"
        if place["font"] < 12:
            yield f"{place['name']} is too small to read"
    for one, other in combinations(places, 2):
        if min(shared(one, other)) > 0:
            yield f"{one['name']} and {other['name']} overlap"
    lines = [(arrow, line) for arrow in arrows for line in segments(arrow["way"])]
    for arrow, line in lines:
        for place in places:
            width, height = shared(line, place)
            if min(width, height) >= 0 and max(width, height) > 1:
                yield f"the arrow from {arrow['from']} to {arrow['to']} goes through {place['name']}"
    for (arrow, line), (other, crossing) in combinations(lines, 2):
        if arrow != other and min(shared(line, crossing)) >= 0:
            yield f"the arrows {arrow['from']} to {arrow['to']} and {other['from']} to {other['to']} cross"


def shared(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float]:
    """Width and height of what two rectangles share, negative where they are apart. A line is a rectangle too."""
    return (
        min(one["right"], other["right"]) - max(one["left"], other["left"]),
        min(one["bottom"], other["bottom"]) - max(one["top"], other["top"]),
    )


def segments(way: str) -> Iterator[dict[str, float]]:
    """The straight parts of an SVG path of M, H and V."""
    x = y = 0.0
    points = []
    for step, numbers in re.findall(r"([MHV])([\d. ]+)", way):
        first, *second = map(float, numbers.split())
        x, y = (first, second[0]) if step == "M" else (first, y) if step == "H" else (x, first)
        points.append((x, y))
    assert len(points) > 1, way
    for (x, y), (to_x, to_y) in pairwise(points):
        yield {"left": min(x, to_x), "right": max(x, to_x), "top": min(y, to_y), "bottom": max(y, to_y)}


def test_nothing_runs_into_anything(drawn: Page, counted: Callable[[str], None]) -> None:
    assert list(findings(drawn)) == []
    counted(f"drawing:     {len(boxes(drawn))} boxes, nothing runs into anything ({drawn.url.partition('#')[2]})")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_drawing_is_found(browser: Browser, tmp_path: Path, mistake: str) -> None:
    before, after, found = MISTAKES[mistake]
    page = drawing.SOURCE.read_text()
    assert before in page
    (tmp_path / "drawing.html").write_text(page.replace(before, after, 1))
    with drawing.opened(browser, "en", tmp_path / "drawing.html") as page:
        assert [finding for finding in findings(page) if found in finding]


def test_pictures_are_rendered_from_a_page(browser: Browser, tmp_path: Path) -> None:
    source = tmp_path / "drawing.html"
    source.write_text(drawing.SOURCE.read_text())
    made = {path.name: path.read_bytes() for path in drawing.render(browser, tmp_path, source)}
    assert set(made) == set(drawing.PICTURES.values())
    assert len(set(made.values())) == len(made)  # each in its language
    for picture in made.values():
        assert struct.unpack_from(">I", picture, 16) == (2 * drawing.WIDTH,)
        assert drawing.stamp(picture) == drawing.digest_of()
    source.write_text(source.read_text() + " ")
    assert drawing.digest_of(source) != drawing.digest_of()


@pytest.mark.parametrize("name", drawing.PICTURES.values())
def test_the_pictures_in_the_documents_are_of_the_page_as_it_is(name: str) -> None:
    assert drawing.stamp((drawing.FOLDER / name).read_bytes()) == drawing.digest_of(), "run `make drawing`"


def test_without_a_browser_it_is_said_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="tests/install_chromium"), drawing.chromium():
        pass


def test_a_picture_that_says_nothing_has_no_stamp() -> None:
    assert drawing.stamp((drawing.FOLDER / "airflow-grid.png").read_bytes()) == ""


def test_documents_show_the_drawing_and_say_alike_what_it_shows() -> None:
    alternatives = set()
    for path in (deploy.ROOT / "README.md", deploy.ROOT / "docs/architecture.md"):
        [(alternative, shown)] = re.findall(r"!\[([^\]]+)\]\((\S+architecture\.png)\)", path.read_text())
        assert (path.parent / shown).resolve() == drawing.FOLDER / "architecture.png"
        alternatives.add(alternative)
    [alternative] = alternatives
    assert len(alternative) > 100  # for those who do not see it
