"""The reference in a real browser, served by a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system.conftest import serving
from tests.system.test_card_page import CONTRASTS, OUTSIDE, READABLE, WIDTHS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from churn_serving.model.artifact import Artifact
    from tests.system.conftest import Server


@pytest.fixture(scope="module")
def server(bento_model: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("reference") / "log"
    with serving(
        "service.py:ChurnService", log, env={"CHURN_MODEL_TAG": bento_model.tag}
    ) as server:
        yield server


@pytest.fixture(params=[(w, s) for w in WIDTHS for s in ("light", "dark")], ids=lambda p: f"{p}")
def page(request: pytest.FixtureRequest, browser: Browser, server: Server) -> Iterator[Page]:
    """The reference at one width and in one scheme; the browser had nothing to complain of."""
    width, scheme = request.param
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda one: asked.append(one.url))
    page.goto(f"{server.url}/redoc", wait_until="networkidle")
    yield page
    page.close()
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [f"{server.url}/redoc"]


def test_the_page_fits_its_window_and_can_be_read_with_everything_unfolded(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    width, seen = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= seen
    assert page.evaluate(OUTSIDE) == []
    found = page.evaluate(CONTRASTS)
    assert len(found) > 100
    assert [each for each in found if each[0] < READABLE] == []


def test_a_route_unfolds_with_the_keyboard(page: Page) -> None:
    summary = page.locator("summary").first
    summary.focus()
    assert not page.locator("details[open]").count()
    page.keyboard.press("Enter")
    assert page.locator("details[open] table").first.is_visible()
    assert page.locator("details[open] pre").first.is_visible()


def test_the_page_takes_its_own_style(page: Page) -> None:
    # Its policy names the style by digest: a changed one would be dropped without a word here.
    assert page.evaluate("getComputedStyle(document.querySelector('h3')).display") == "inline"
