"""The page for people: one customer, the profit curve, the key, and who can use it at all."""

from __future__ import annotations

import os
import re
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest
from playwright.sync_api import expect

from churn_serving.features.columns import FEATURE_NAMES
from churn_serving.model.policy import Policy
from tests.system.browsing import faults_of, sent, visit
from tests.system.conftest import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page, Route

    from tests.system.conftest import Server

KEY: Final = "correct-horse-battery-staple"
DOCS: Final = Path(__file__).parents[2] / "docs"
PICTURE_BYTES: Final = 200_000
SIZE: Final = slice(16, 24)  # of a PNG: width and height
RESTED: Final = 700  # milliseconds; longer than the page waits for the next letter


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    with visit(browser, server.url) as visited:
        expect(visited.page.locator("#changes tr").first).to_be_visible()
        yield visited.page


def settled(page: Page) -> None:
    """Wait until the page has asked for what the fields say."""
    page.wait_for_timeout(RESTED)
    page.wait_for_load_state("networkidle")


def posted(page: Page, path: str) -> list[dict[str, Any]]:
    """Keep the bodies that the page sends to a path from now on."""
    bodies: list[dict[str, Any]] = []

    def keep(route: Route) -> None:
        bodies.append(sent(route))
        route.continue_()

    page.route(f"**{path}", keep)
    return bodies


def test_the_form_has_every_field_of_the_document_with_the_example_filled_in(
    page: Page, server: Server
) -> None:
    document = httpx2.get(f"{server.url}/openapi.json").json()
    example = document["components"]["schemas"]["CustomerV2"]["example"]
    form = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll("#fields [name]")]
          .filter((e) => e.type !== "radio" || e.checked)
          .map((e) => [e.name, e.type === "checkbox" ? e.checked
            : e.type === "number" && e.value ? Number(e.value) : e.value]))"""
    )
    assert form == {**example, "customer_value": ""}
    tenure = page.locator("#tenure_months")
    assert (tenure.get_attribute("min"), tenure.get_attribute("max")) == ("0", "120")


def test_a_field_that_the_service_learns_appears_by_itself(
    browser: Browser, server: Server
) -> None:
    def learned(route: Route) -> None:
        document = route.fetch().json()
        customer = document["components"]["schemas"]["CustomerV2"]
        customer["properties"] |= {
            "support_calls": {"type": "integer", "minimum": 0, "maximum": 9},
            "region": {"type": "string", "enum": [f"region {n}" for n in range(9)]},
        }
        customer["required"].append("support_calls")
        route.fulfill(json=document)

    routes = {"**/openapi.json": learned}
    with visit(browser, server.url, expected=("422",), routes=routes) as visited:
        page = visited.page
        expect(page.get_by_label("Support calls", exact=True)).to_have_value("0")
        expect(page.get_by_label("Region")).to_have_value("region 0")
        # This service does not know them, and says so at the field.
        expect(page.locator("#error-support_calls")).to_have_text(re.compile("not permitted"))


def test_estimate_decision_and_reasons_move_with_the_fields(page: Page) -> None:
    estimate, reasons = page.locator("#probability"), page.locator("#reasons li")
    before = estimate.inner_text()
    assert re.fullmatch(r"\d+%", before)
    expect(page.locator("#action")).to_have_text("Contact")
    assert reasons.count() == 5
    expect(reasons.last).to_contain_text("The other fields")
    bodies = posted(page, "/api/v2/predict")
    page.get_by_label("Two years", exact=True).check()
    page.get_by_label("Months as a customer", exact=True).fill("60")
    page.locator("#follows").check()
    expect(estimate).not_to_have_text(before)
    expect(page.locator("#action")).to_have_text("Leave alone")
    expect(page.locator("#likelihood")).to_have_text("very unlikely to leave")
    expect(page.locator("#answer-spoken")).to_contain_text("very unlikely to leave. Leave alone.")
    assert page.locator("#total_charges").input_value() == "4242"
    assert all(body["what_if"] is True for body in bodies)
    assert bodies[-1]["customer"]["contract_type"] == "two-year"
    text = page.locator("main").inner_text().lower()
    assert "because" not in text
    assert "explains the estimate and is no cause" in text


def test_the_last_answer_wins_though_an_earlier_one_comes_later(page: Page) -> None:
    held: list[Route] = []

    def hold_the_first(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    page.route("**/api/v2/predict", hold_the_first)
    tenure = page.get_by_label("Months as a customer", exact=True)
    tenure.fill("71")
    page.wait_for_timeout(RESTED)
    assert len(held) == 1
    tenure.fill("2")
    expect(page.locator("#probability")).to_have_text("72%")
    settled(page)
    expect(page.locator("#probability")).to_have_text("72%")


def test_typing_asks_once_the_fields_rest(page: Page) -> None:
    bodies = posted(page, "/api/v2/predict")
    page.locator("#monthly_charges").fill("")
    page.locator("#monthly_charges").press_sequentially("101.25", delay=20)
    settled(page)
    assert [body["customer"]["monthly_charges"] for body in bodies] == [101.25]


def test_a_slider_moves_its_number(page: Page) -> None:
    page.get_by_label("Months as a customer, slider").focus()
    page.keyboard.press("End")
    assert page.locator("#tenure_months").input_value() == "72"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("tenure_months", "121", "less than or equal to 120"),
        ("tenure_months", "1.5", "integer"),
        ("tenure_months", "", "required"),
        ("total_charges", "1", "greater than or equal to monthly_charges"),
        ("customer_value", "0", "greater than 0"),
    ],
)
def test_a_rule_that_is_broken_is_told_at_its_field(
    browser: Browser, server: Server, field: str, value: str, said: str
) -> None:
    with visit(browser, server.url, expected=("422",)) as visited:
        page = visited.page
        before = page.locator("#probability").inner_text()
        page.locator(f"#{field}").fill(value)
        expect(page.locator(f"#error-{field}")).to_contain_text(said)
        expect(page.locator(f"#{field}")).to_have_attribute("aria-invalid", "true")
        assert f"error-{field}" in (
            page.locator(f"#{field}").get_attribute("aria-describedby") or ""
        )
        expect(page.locator("#answer-problem")).to_be_visible()
        page.locator(f"#{field}").fill(
            {"total_charges": "151.65", "customer_value": ""}.get(field, "2")
        )
        expect(page.locator("#answer-problem")).to_be_hidden()
        expect(page.locator("#probability")).to_have_text(before)
        expect(page.locator(f"#error-{field}")).to_be_empty()


def test_a_customer_of_the_first_month_needs_no_total(page: Page) -> None:
    page.get_by_label("Months as a customer", exact=True).fill("1")
    page.locator("#total_charges").fill("")
    settled(page)
    expect(page.locator("#answer-problem")).to_be_hidden()


def test_playing_with_the_form_counts_as_no_customer(page: Page, server: Server) -> None:
    def counted() -> set[str]:
        text = httpx2.get(f"{server.url}/metrics").text
        return set(re.findall(r"^ml_(?:predictions|decisions)_total.*", text, re.MULTILINE))

    before = counted()
    page.get_by_label("One year", exact=True).check()
    settled(page)
    assert counted() == before


def test_changes_that_can_be_offered_are_tried_and_worded_as_sensitivity(page: Page) -> None:
    bodies = posted(page, "/api/v2/predict/batch")
    page.get_by_label("Months as a customer", exact=True).fill("45")
    page.locator("#follows").check()
    settled(page)
    items = bodies[-1]["items"]
    assert len(items) == 2 + 3 + 2
    assert all(item["what_if"] and item["max_reasons"] == 0 for item in items)
    tried = {(i["customer"]["contract_type"], i["customer"]["payment_method"]) for i in items}
    assert ("two-year", "electronic") in tried
    assert ("month-to-month", "credit") in tried
    rows = page.locator("#changes tr")
    assert rows.count() == len(items)
    estimates = [float(rows.nth(n).locator("td").first.inner_text()[:-1]) for n in range(7)]
    assert estimates == sorted(estimates)
    expect(page.locator("#change-summary")).to_contain_text("the estimate would be")
    expect(page.get_by_text("This is the model's sensitivity, not a promise")).to_be_visible()


def test_the_profit_curve_marks_the_policy_with_its_interval(page: Page, server: Server) -> None:
    measured = httpx2.get(f"{server.url}/metrics/model").json()["profit"]
    customers = sum(measured["left"]) + sum(measured["stayed"])
    expect(page.locator("#worth-lead")).to_contain_text(f"{customers:,} customers whom the model")
    caption = page.locator("#curve-caption").inner_text()
    shown = [float(each) for each in re.findall(r"\$(-?[\d.]+\d)", caption)]
    own = measured["per_customer"]
    # The page has counts by bin only, and draws customers by itself.
    assert shown == pytest.approx([own["value"], own["low"], own["high"]], abs=0.35)
    assert "pays above 16%" in caption
    picture = page.locator("#curve svg")
    assert "highest at" in (picture.get_attribute("aria-label") or "")
    assert picture.locator(".mark").count() == 1


def test_the_four_figures_change_the_curve_and_leave_the_served_policy_marked(page: Page) -> None:
    caption, marks = page.locator("#curve-caption"), page.locator("#curve .mark")
    before = caption.inner_text()
    page.get_by_label("Cost of the offer").fill("40")
    policy = Policy(offer_cost=40.0)
    assert policy.threshold is not None
    expect(caption).to_contain_text(f"pays above {policy.threshold:.0%}")
    expect(caption).to_contain_text("The served policy contacts above 16%")
    assert marks.count() == 2
    page.get_by_label("Leavers who accept").fill("0")
    expect(caption).to_contain_text("nobody would be contacted")
    page.get_by_label("Value of a customer").fill("0")
    expect(page.locator("#policy-problem")).to_have_text(
        "Value of a customer: expected a number greater than 0."
    )
    page.get_by_label("Value of a customer").fill("2000000000")
    expect(page.locator("#policy-problem")).to_have_text(
        "Value of a customer: expected a number of up to 1,000,000,000."
    )
    # What costs nothing and earns nothing can be drawn: the console stays silent.
    for label, figure in {"Value of a customer": 200, "Cost of the": 0}.items():
        for field in page.get_by_label(label).all():
            field.fill(str(figure))
    expect(caption).to_contain_text("nobody would be contacted")
    page.wait_for_timeout(300)
    page.get_by_role("button", name="Back to the served figures").click()
    expect(caption).to_have_text(before)
    assert marks.count() == 1


def test_what_the_page_computes_of_a_policy_is_what_the_policy_says(page: Page) -> None:
    policies = [
        Policy(),
        Policy(customer_value=50, offer_cost=0, contact_cost=3, acceptance=0.9),
        Policy(offer_cost=0, contact_cost=0),
        Policy(customer_value=11, offer_cost=10, contact_cost=0, acceptance=0.01),
    ]
    for policy in policies:
        threshold, costs = page.evaluate(
            """async ([policy, estimates]) => {
              const { thresholdOf, expectedCost } = await import("./web/profit.js");
              return [thresholdOf(policy), estimates.map((p) => expectedCost(policy, p))];
            }""",
            [policy.figures, [0, 0.25, 1]],
        )
        assert threshold == pytest.approx(policy.threshold)
        assert costs == pytest.approx([policy.expected_cost(p) for p in (0, 0.25, 1)])


def test_the_bootstrap_draws_the_customers_anew(page: Page) -> None:
    # One bin: the interval of a mean is known.
    point = page.evaluate(
        """async () => {
          const { ProfitCurve } = await import("./web/profit.js");
          const curve = new ProfitCurve({ edges: [0, 1], left: [300], stayed: [700] });
          const policy = { customer_value: 200, offer_cost: 10, contact_cost: 1, acceptance: 0.3 };
          return [curve.at(policy, 0), curve.at(policy, 0)];
        }"""
    )
    one, same = point
    assert one == same
    gain, loss = 0.3 * 190 - 1, -11
    error = 1.96 * (gain - loss) * (0.3 * 0.7 / 1000) ** 0.5
    assert one["profit"] == pytest.approx(0.3 * gain + 0.7 * loss)
    assert one["high"] - one["low"] == pytest.approx(2 * error, rel=0.15)


def test_a_model_that_was_not_measured_says_so(browser: Browser, server: Server) -> None:
    def without(route: Route) -> None:
        model = route.fetch().json()
        del model["profit"]
        route.fulfill(json=model)

    def unexplained(route: Route) -> None:
        route.fulfill(json={**route.fetch().json(), "reasons": None, "baseline": None})

    routes = {"**/metrics/model": without, "**/api/v2/predict": unexplained}
    with visit(browser, server.url, routes=routes) as visited:
        page = visited.page
        expect(page.locator("#worth-lead")).to_contain_text("without a profit curve")
        expect(page.locator("#worth-body")).to_be_hidden()
        expect(page.locator("#baseline")).to_contain_text("gives no reasons")
        assert faults_of(page) == []


def test_versions_and_ways_on_are_shown(page: Page, server: Server) -> None:
    policy = httpx2.get(f"{server.url}/api/v2/policy").json()
    model = httpx2.get(f"{server.url}/metrics/model").json()
    footer = page.locator("#versions")
    expect(footer).to_contain_text(model["model_version"])
    expect(footer).to_contain_text(policy["policy_version"])
    for name in ("Model card", "API documentation"):
        link = page.get_by_role("link", name=name).get_attribute("href")
        assert httpx2.get(f"{server.url}/{link}").status_code in {200, 404}


def test_a_key_is_asked_for_and_kept_in_memory_only(
    browser: Browser, trained_model: str, tmp_path: Path
) -> None:
    env = {
        "CHURN_MODEL_TAG": trained_model,
        "CHURN_API_KEYS": f"sha256:{sha256(KEY.encode()).hexdigest()}",
    }
    with (
        serving("service.py:ChurnService", tmp_path / "log", env=env) as server,
        visit(browser, server.url, expected=("401",)) as visited,
    ):
        page = visited.page
        field = page.get_by_role("textbox", name="API key")
        expect(field).to_be_focused()
        assert faults_of(page) == []
        for wrong in ("wrong", "ключ"):
            field.fill(wrong)
            page.keyboard.press("Enter")
            expect(page.locator("#key-error")).not_to_be_empty()
        field.fill(KEY)
        page.keyboard.press("Enter")
        expect(page.locator("#key")).to_be_hidden()
        expect(page.locator("#probability")).to_have_text("72%")
        kept = page.evaluate(
            "[localStorage.length, sessionStorage.length, document.cookie, location.href]"
        )
        assert kept[:3] == [0, 0, ""]
        assert KEY not in kept[3]
        assert KEY not in page.content()
        assert not any(KEY in url for url in visited.asked)
        page.reload()
        expect(field).to_be_visible()


def test_a_server_that_is_gone_or_busy_costs_a_sentence(browser: Browser, server: Server) -> None:
    refused = {"error": "Too many requests.", "detail": []}
    with visit(browser, server.url, expected=("429", "ERR_FAILED")) as visited:
        page = visited.page
        problem, action = page.locator("#answer-problem"), page.locator("#action")
        page.route("**/api/v2/predict", lambda route: route.abort())
        page.get_by_label("Two years", exact=True).check()
        expect(problem).to_contain_text("does not answer")
        page.unroute("**/api/v2/predict")
        page.route(
            "**/api/v2/predict",
            lambda route: route.fulfill(status=429, headers={"Retry-After": "1"}, json=refused),
            times=1,
        )
        page.get_by_label("Months as a customer", exact=True).fill("40")
        expect(problem).to_contain_text("asking again in 1 s")
        expect(problem).to_be_hidden()
        expect(action).to_have_text("Leave alone")


def test_a_start_without_a_server_can_be_tried_again(browser: Browser, server: Server) -> None:
    routes = {"**/api/v2/policy": lambda route: route.abort()}
    with visit(browser, server.url, expected=("ERR_FAILED",), routes=routes) as visited:
        page = visited.page
        expect(page.locator("#start-problem")).to_contain_text("does not answer")
        page.unroute("**/api/v2/policy")
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("#probability")).to_have_text("72%")
        expect(page.locator("#start")).to_be_hidden()


def test_all_of_one_customer_works_with_the_keyboard(page: Page) -> None:
    seen: list[str] = []
    for _ in range(80):
        page.keyboard.press("Tab")
        name = page.evaluate(
            "(document.activeElement.name || document.activeElement.id || "
            "document.activeElement.textContent).trim().slice(0, 30)"
        )
        visible = page.evaluate(
            """() => { const e = document.activeElement, b = e.getBoundingClientRect();
              return e === document.body || b.width > 0; }"""
        )
        assert visible, name
        if name == "contract_type" and name not in seen:
            page.keyboard.press("ArrowRight")
        seen.append(name)
    assert {*FEATURE_NAMES, "customer_value", "policy-acceptance", "file"} <= set(seen)
    assert page.locator("input[name=contract_type]:checked").get_attribute("value") == "one-year"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_nobody_is_kept_out(browser: Browser, server: Server, width: int, scheme: str) -> None:
    with visit(browser, server.url, width=width, scheme=scheme) as visited:
        page = visited.page
        expect(page.locator("#changes tr").first).to_be_visible()
        page.get_by_label("Cost of the offer").fill("40")
        page.get_by_text("The figures of this picture").click()
        assert faults_of(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pictures_of_the_documentation_are_those_of_the_page(
    browser: Browser, server: Server, scheme: str
) -> None:
    """CHURN_PICTURES=1 takes them anew: no two runs draw each pixel alike."""
    kept = DOCS / f"page-{scheme}.png"
    with visit(browser, server.url, scheme=scheme, width=1200) as visited:
        expect(visited.page.locator("#changes tr").first).to_be_visible()
        picture = visited.page.screenshot()
    if os.environ.get("CHURN_PICTURES"):
        kept.write_bytes(picture)
    assert kept.read_bytes()[SIZE] == picture[SIZE]
    assert kept.stat().st_size < PICTURE_BYTES
    assert f"({kept.name})" in (DOCS / "page.md").read_text()
