"""The docs site in a real browser: a model's page shows what it is, and the lineage graph draws."""

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from playwright.sync_api import Page, expect

from tests.pipeline.product import Pipeline

pytestmark = pytest.mark.xdist_group("published")  # one lake for all of them, so one worker


@pytest.fixture(scope="module")
def site(published: Pipeline) -> Iterator[str]:
    """The address of the generated site, as `dbt docs serve` would serve it."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(published.folder / "target"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_models_page_shows_its_description_and_columns(site: str, page: Page) -> None:
    page.goto(f"{site}/#!/model/model.lakehouse.dim_users")
    expect(page.get_by_role("heading", name="dim_users")).to_be_visible()
    expect(page.get_by_text("One row per", exact=False).first).to_be_visible()
    for column in ("user_key", "email_pseudonym", "key_id"):
        expect(page.get_by_role("cell", name=column, exact=True).first).to_be_visible()


def test_the_overview_is_ours(site: str, page: Page) -> None:
    page.goto(f"{site}/#!/overview")
    expect(page.get_by_role("heading", name="The lakehouse")).to_be_visible()


def test_a_columns_page_says_its_class_its_mask_and_who_reads_it(site: str, page: Page) -> None:
    shown = {
        "dim_users": ("masked_email", ["email", "mask_email", "analysts"]),
        "users": ("email", ["email", "nothing: in the clear", "engineers"]),
    }
    for model, (column, values) in shown.items():
        page.goto(f"{site}/#!/model/model.lakehouse.{model}")
        page.get_by_role("cell", name=column, exact=True).first.click()
        for label, value in zip(("personal data", "masked by", "read by"), values, strict=True):
            details = page.locator("dt", has_text=label).locator("xpath=following-sibling::dd[1]")
            expect(details.locator("visible=true").first).to_have_text(value)
        page.goto("about:blank")


def test_the_privacy_page_follows_each_column_from_the_source_to_the_last_table(site: str, page: Page) -> None:
    page.goto(f"{site}/#!/overview")
    page.get_by_role("link", name="Personal data").click()
    expect(page.get_by_role("heading", name="Personal data")).to_be_visible()
    row = page.get_by_role("row").filter(has_text="base_customer__user_changes.email").first
    expect(row).to_contain_text("users.email")
    expect(row).to_contain_text("dim_users.masked_email (mask_email)")


def test_the_static_page_says_the_same(published: Pipeline, page: Page) -> None:
    page.goto(f"{(published.folder / 'target/static_index.html').as_uri()}#!/model/model.lakehouse.dim_users")
    page.get_by_role("cell", name="masked_cpf", exact=True).first.click()
    expect(page.locator("dd").filter(has_text="mask_cpf").locator("visible=true").first).to_be_visible()


def test_the_lineage_graph_draws(site: str, page: Page) -> None:
    page.goto(f"{site}/#!/overview?g_v=1")
    drawn = """() => [...document.querySelectorAll('canvas')].some(canvas => {
        const pixels = canvas.width && canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        return pixels && pixels.some(value => value !== 0);
    })"""
    page.wait_for_function(drawn)
