"""The pages behind a proxy that strips a prefix from each path."""

from __future__ import annotations

import re
import subprocess
import time
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import httpx2
import pytest
from playwright.sync_api import expect

from tests.bad_requests import CUSTOMER, PREDICT
from tests.system.browsing import chromium, visit
from tests.system.conftest import serving
from tests.tools import free_port, tool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from churn_serving.model.artifact import Artifact

PREFIX = "/ml/churn"
CONFIGURATION = """
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 60s
frontend silent
    bind 127.0.0.1:{silent}
    use_backend churn if {{ path_beg {prefix}/ }}
frontend announcing
    bind 127.0.0.1:{announcing}
    http-request set-header X-Forwarded-Prefix {prefix}
    use_backend churn if {{ path_beg {prefix}/ }}
backend churn
    http-request replace-path {prefix}(/.*) \\1
    server one {service}
"""


@pytest.fixture(scope="module")
def urls(bento_model: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The service's URL behind a proxy that says nothing, and one that says its prefix."""
    folder = tmp_path_factory.mktemp("prefix")
    silent, announcing = free_port(), free_port()
    env = {"CHURN_MODEL_TAG": bento_model.tag}
    with serving("service.py:ChurnService", folder / "log", env=env) as server:
        configuration = folder / "haproxy.cfg"
        service = server.url.removeprefix("http://")
        configuration.write_text(
            CONFIGURATION.format(
                prefix=PREFIX, silent=silent, announcing=announcing, service=service
            )
        )
        proxy = subprocess.Popen([tool("haproxy"), "-q", "-db", "-f", str(configuration)])
        try:
            bases = [f"http://127.0.0.1:{port}{PREFIX}" for port in (silent, announcing)]
            while not all(_answers(f"{base}/health") for base in bases):
                assert proxy.poll() is None
                time.sleep(0.05)
            yield bases
        finally:
            proxy.terminate()
            proxy.wait()


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url).status_code == 200
    except httpx2.TransportError:
        return False


@pytest.mark.parametrize("page", ["/docs"])
@pytest.mark.parametrize(("proxy", "named"), [(0, "."), (1, PREFIX)], ids=["silent", "announcing"])
def test_all_that_the_documentation_names_is_below_the_prefix(
    urls: list[str], page: str, proxy: int, named: str
) -> None:
    url = f"{urls[proxy]}{page}"
    text = httpx2.get(url).text
    assets = [urljoin(url, name) for name in re.findall(r'(?:href|src)="([^"]+)"', text)]
    assert len(assets) == 4
    assert {httpx2.get(asset).status_code for asset in assets} == {200}
    (name,) = re.findall(r'url: "([^"]+)"', text)
    document = urljoin(url, name)
    (server,) = httpx2.get(document).json()["servers"]
    assert server == {"url": named}
    # Relative to the document, as OpenAPI has it.
    predict = urljoin(document, server["url"]).rstrip("/") + PREDICT
    assert httpx2.post(predict, json=CUSTOMER).status_code == 200


@pytest.mark.parametrize("proxy", [0, 1], ids=["silent", "announcing"])
def test_the_page_for_people_works_below_the_prefix(urls: list[str], proxy: int) -> None:
    with chromium() as browser, visit(browser, f"{urls[proxy]}/") as visited:
        expect(visited.page.locator("#probability")).to_have_text(re.compile(r"\d%"))
        assert {urlsplit(url).path.startswith(f"{PREFIX}/") for url in visited.asked} == {True}
