"""The card of a trained model in a real browser, served by a real server."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import pytest

from churn_serving.features.columns import FEATURE_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from tests.system.conftest import Server

WIDTHS: Final = (1280, 400)
PLOTS: Final = 4 + len(FEATURE_NAMES)
READABLE: Final = 4.5
"""The contrast of text that WCAG asks for (AA)."""

# Of each element with text of its own: how far its colour is from what is behind it.
CONTRASTS: Final = """() => {
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const rgb = numbers(getComputedStyle(e).backgroundColor);
      if (rgb.length === 3 || rgb[3] === 1) return rgb.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !e.getClientRects().length || e.matches("svg text.f-sheet")) continue;
    const style = getComputedStyle(e);
    const colour = numbers(e.closest("svg") ? style.fill : style.color).slice(0, 3);
    const [one, other] = [luminance(colour), luminance(behind(e))].sort((a, b) => b - a);
    found.push([(one + 0.05) / (other + 0.05), e.tagName, e.textContent.trim().slice(0, 40)]);
  }
  return found;
}"""

OUTSIDE: Final = """() => [...document.querySelectorAll("body *")]
  .filter((e) => e.getClientRects().length && !e.closest("svg"))
  .filter((e) => e.getBoundingClientRect().right > innerWidth + 0.5
              || e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0
                 && getComputedStyle(e).display !== "inline")
  .map((e) => `${e.tagName} ${e.textContent.trim().slice(0, 40)}`)"""

DRAWN: Final = """() => [...document.querySelectorAll("figure > svg")].map((svg) => {
  const box = svg.getBoundingClientRect();
  const inside = [...svg.querySelectorAll("text")].map((t) => t.getBoundingClientRect());
  return {
    width: box.width, height: box.height,
    shapes: svg.querySelectorAll("path, rect, use").length,
    label: svg.getAttribute("aria-label"),
    cut: inside.filter((t) => t.left < box.left - 12 || t.right > box.right + 12).length,
  };
})"""


@pytest.fixture(params=[(w, s) for w in WIDTHS for s in ("light", "dark")], ids=lambda p: f"{p}")
def page(request: pytest.FixtureRequest, browser: Browser, server: Server) -> Iterator[Page]:
    """The card at one width and in one scheme; the browser had nothing to complain of."""
    width, scheme = request.param
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("requestfailed", lambda failed: said.append(f"failed: {failed.url}"))
    page.on("request", lambda one: asked.append(one.url))
    page.goto(f"{server.url}/model", wait_until="networkidle")
    yield page
    page.close()
    assert said == []
    assert {urlsplit(url).path for url in asked if not url.startswith("data:")} == {"/model"}
    assert {urlsplit(url).netloc for url in asked if url.startswith("http")} == {
        urlsplit(server.url).netloc
    }


def test_the_page_fits_its_window(page: Page) -> None:
    width, seen = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= seen
    assert page.evaluate(OUTSIDE) == []


def test_every_plot_is_there_to_see(page: Page) -> None:
    drawn = page.evaluate(DRAWN)
    assert len(drawn) == PLOTS
    for plot in drawn:
        assert plot["width"] > 180, plot
        assert plot["height"] > 100, plot
        assert plot["shapes"] > 10, plot
        assert plot["cut"] == 0, plot
    # Lines and text of a plot have the page's colours: its one style sheet was taken.
    colours = page.evaluate(
        "[...document.querySelectorAll('.s-accent')].map((e) => getComputedStyle(e).stroke)"
    )
    assert len(set(colours)) == 1
    assert colours[0] not in {"none", "rgb(0, 0, 0)"}


def test_text_can_be_read_on_what_is_behind_it(page: Page) -> None:
    found = page.evaluate(CONTRASTS)
    assert len(found) > 200
    assert [each for each in found if each[0] < READABLE] == []


def test_a_screen_reader_finds_its_way(page: Page) -> None:
    headings = page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3, h4')].map((e) => [+e.tagName[1], e.innerText])"
    )
    levels = [level for level, _ in headings]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(text.strip() for _, text in headings)
    ways = page.evaluate(
        """() => ({
          language: document.documentElement.lang,
          landmarks: ["header", "nav[aria-label]", "main", "footer"]
            .map((s) => document.querySelectorAll(`body > ${s}, header > ${s}`).length),
          lost: [...document.querySelectorAll("nav a")]
            .filter((a) => !document.querySelector(a.getAttribute("href"))).length,
          unnamed: [...document.querySelectorAll("section")]
            .filter((s) => !document.getElementById(s.getAttribute("aria-labelledby"))).length,
          tables: document.querySelectorAll("table").length,
          captions: document.querySelectorAll("table > caption").length,
          unscoped: document.querySelectorAll("th:not([scope])").length,
          headless: [...document.querySelectorAll("table")]
            .filter((t) => !t.querySelector("thead th[scope=col]")
                        || t.querySelector("tbody tr > :first-child:not(th[scope=row])")).length,
          silent: [...document.querySelectorAll("svg")]
            .filter((s) => s.getAttribute("aria-hidden") !== "true"
                        && !(s.getAttribute("role") === "img" && s.getAttribute("aria-label")))
            .length,
          twins: document.querySelectorAll("[id]").length
            - new Set([...document.querySelectorAll("[id]")].map((e) => e.id)).size,
        })"""
    )
    assert ways["language"] == "en"
    assert ways["landmarks"] == [1, 1, 1, 1]
    assert ways["tables"] == ways["captions"] > 5
    faults = ("lost", "unnamed", "unscoped", "headless", "silent", "twins")
    assert {name: ways[name] for name in faults} == dict.fromkeys(faults, 0)
    labels = [plot["label"] for plot in page.evaluate(DRAWN)]
    assert all(re.search(r"\d%|\d\.\d", label) for label in labels)


def test_the_numbers_of_a_plot_unfold_with_the_keyboard(page: Page) -> None:
    summary = page.locator("figure summary").first
    summary.focus()
    assert not summary.locator("xpath=..").get_attribute("open")
    page.keyboard.press("Enter")
    assert page.locator("figure details[open] table").first.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_every_figure_of_the_page_is_in_the_json(browser: Browser, server: Server) -> None:
    context = browser.new_context()
    told: dict[str, Any] = context.request.get(f"{server.url}/metrics/model").json()
    page = context.request.get(f"{server.url}/model").text()
    context.close()
    for name, figure in told["held_out"].items():
        form = ".2f" if name.startswith("lift") else ".3f"
        assert f"{figure['value']:{form}} <span" in page, name
    for each in told["calibration"]["bins"]:
        assert f"told {each['predicted']:.0%}" in page
    for each in told["effects"]["fields"]:
        assert f"<h3>{each['field']}</h3>" in page
        for probability in each["probability"]:
            assert f"<td>{probability:.1%}</td>" in page
    for kinds in told["subgroups"].values():
        for kind in kinds:
            assert f"<td>{kind['rows']:,}</td>" in page
    for gate in told["gates"]:
        assert gate["sentence"] in page
    assert told["data"]["sha256"] in page


def test_no_script_runs_in_the_page(browser: Browser, server: Server) -> None:
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(f"{server.url}/model")
    # As if whoever can write the model store had put it there.
    page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "document.title = 'changed'";
          document.body.append(script);
        }"""
    )
    assert page.title().startswith("Model card: churn_trained:")
    assert len(said) == 1
    assert "Blocked script execution" in said[0]
    page.close()


def test_the_page_can_be_printed(browser: Browser, server: Server) -> None:
    page = browser.new_page()
    page.goto(f"{server.url}/model")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert len(page.pdf()) > 20_000
    page.close()
