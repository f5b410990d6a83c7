"""Choose a table of customers on the page for people, and wait for the ranked list.

``python -m bench.page`` opens the page of a running service in Debian's Chromium (a test's
dependency), chooses the first 5,000 customers of the public table some times, and prints how long
it took until the ranked list stood there: reading, scoring with reasons, ranking, drawing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import TYPE_CHECKING, Final

from playwright.sync_api import sync_playwright

from churn_serving.learning.dataset import _public_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from playwright.sync_api import Browser

ROWS: Final = 5000
ROUNDS: Final = 7
PATIENCE_MS: Final = 60_000
_FLAGS: Final = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")


def ranked_in(browser: Browser, address: str, table: bytes) -> float:
    """Return the seconds from the choice of a file to its ranked list."""
    page = browser.new_page()
    page.goto(address)
    page.wait_for_load_state("networkidle")
    begun = time.perf_counter()
    page.set_input_files(
        "#file", {"name": "customers.csv", "mimeType": "text/csv", "buffer": table}
    )
    page.wait_for_selector("#result", timeout=PATIENCE_MS)
    page.wait_for_selector("#working", state="hidden", timeout=PATIENCE_MS)
    seconds = time.perf_counter() - begun
    page.close()
    return seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=__doc__)
    parser.add_argument("address", nargs="?", default="http://localhost:3000")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--browser", default="/usr/bin/chromium", help="default: %(default)s")
    options = parser.parse_args(arguments)
    lines = _public_file().read_bytes().splitlines(keepends=True)
    table = b"".join(lines[: ROWS + 1])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.browser, args=[*_FLAGS])
        seconds = [ranked_in(browser, options.address, table) for _ in range(options.rounds)]
        browser.close()
    print(  # noqa: T201 - what it is for
        f"{ROWS:,} customers to the ranked list: {statistics.median(seconds):.2f} s "
        f"({min(seconds):.2f} to {max(seconds):.2f}, {len(seconds)} rounds)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
