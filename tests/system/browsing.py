"""A page in Debian's Chromium, of which the browser had nothing to complain."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from tests.tools import tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from playwright.sync_api import Browser, Page, Route

__all__ = ["FLAGS", "Visit", "chromium", "faults_of", "sent", "visit"]

# Debian's Chromium as root, in a network that leads nowhere.
FLAGS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@dataclass(slots=True)
class Visit:
    """A page that is open.

    Attributes:
        page: The page.
        said: What the browser wrote to its console, and requests that failed.
        asked: What the page asked for.
        expected: What the browser may say: that the server refused something, for one.
    """

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run the browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=tool("chromium"), args=[*FLAGS])
        yield browser
        browser.close()


@contextmanager
def visit(
    browser: Browser,
    url: str,
    *,
    width: int = 1280,
    scheme: str = "light",
    expected: tuple[str, ...] = (),
    routes: Mapping[str, Callable[[Route], None]] | None = None,
) -> Iterator[Visit]:
    """Open a page; once the block ends, its console must be silent and its requests its own.

    Args:
        browser: Shows it.
        url: The page's.
        width: The window's.
        scheme: light or dark.
        expected: What the browser may write to its console.
        routes: Who answers in the server's place, by the paths.
    """
    page = browser.new_page(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
    )
    visit = Visit(page, expected=expected)
    page.on("console", lambda message: visit.said.append(message.text))
    page.on("pageerror", lambda error: visit.said.append(str(error)))
    page.on("request", lambda one: visit.asked.append(one.url))
    for path, answer in (routes or {}).items():
        page.route(path, answer)
    page.goto(url, wait_until="networkidle")
    yield visit
    page.close()
    unexpected = [text for text in visit.said if not any(each in text for each in visit.expected)]
    assert unexpected == []
    asked = [urlsplit(one) for one in visit.asked]
    origin = urlsplit(url).netloc
    assert {one.netloc for one in asked if one.scheme not in {"data", "blob"}} == {origin}


def faults_of(page: Page) -> list[str]:
    """Return what axe-core finds that keeps people out."""
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{each['id']}: {each['help']}: {node['html'][:120]}"
        for each in found
        for node in each["nodes"]
    ]


def sent(route: Route) -> dict[str, Any]:
    """Return the JSON body of a request."""
    body: dict[str, Any] = route.request.post_data_json or {}
    return body
