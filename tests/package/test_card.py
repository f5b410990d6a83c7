"""The card of a model: a page that is true to what is kept with it, and harms nobody."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from churn_serving.cli import churn
from churn_serving.features.columns import COLUMN_NAMES, FEATURE_NAMES
from churn_serving.learning.card.page import Subject, make_card
from churn_serving.learning.card.svg import COLOURS, inlined
from churn_serving.learning.measuring.effects import effects
from churn_serving.learning.registration import save_artifact
from churn_serving.model.artifact import find_model
from churn_serving.model.card import CARD, read_card
from churn_serving.model.portable import MANIFEST, parse_manifest
from churn_serving.model.signature import fingerprint, generate_key_pair, read_public_key

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.package.conftest import Fitted, TrainingRun

PLOTS = 4 + len(FEATURE_NAMES)
SOURCE = {"source": "customers.csv", "sha256": "ab" * 32, "rows": 7043}
UNBALANCED = {"br", "img", "input", "link", "meta", "wbr"}


def page_of(metadata: Mapping[str, Any], **changes: Any) -> str:
    subject: dict[str, Any] = {"tag": "churn:v1", "threshold": 0.335, "labels": {}, **changes}
    return make_card(Subject(metadata=metadata, **subject)).decode()


@pytest.fixture(scope="module")
def metadata(training_run: TrainingRun) -> dict[str, Any]:
    # As it comes back from the manifest.
    measured = json.loads(json.dumps(training_run.result.measured))
    return {"data": SOURCE, "estimator": "LogisticRegression", "git_commit": "f" * 40, **measured}


@pytest.fixture(scope="module")
def page(metadata: dict[str, Any]) -> str:
    return page_of(metadata)


class Balance(HTMLParser):
    """Counts on each tag to be closed in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in UNBALANCED:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page.partition("</style>")[2]).split())


def test_the_page_is_small_whole_and_alone(page: str) -> None:
    assert len(page) < 150_000
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))
    # Nothing that runs, nothing that is fetched, no style but the one that its policy names.
    assert not re.findall(r"<script|\son\w+=|\sstyle=|url\((?!#)|@import|<iframe|<form", page)
    assert set(re.findall(r'(?:href|src)="([^"#]+)', page)) == {"data:,"}
    assert page.count("<style>") == 1


def test_the_same_figures_give_the_same_page(metadata: dict[str, Any], page: str) -> None:
    assert page_of(metadata) == page


def test_the_page_says_what_a_reviewer_asks_for(page: str) -> None:
    text = text_of(page)
    for part in (
        "Made for",
        "Not made for",
        "the label has no horizon",
        "Whether the customer had left when the table was made.",
        "ab" * 32,
        "trained on 5,634",
        "0.839 0.820 to 0.863",
        "lift, top 10%",
        "hist-gradient-boosting",
        "with all 19 columns of the raw table",
        "slope (1 is right) 1.00 0.9",
        "a perfect model shows 0.023 by chance",
        "s threshold, 0.164, brings 10.18 (8.82 to 11.48) for each held-out customer, contacted or",
        "accept the offer as often as the policy says, all alike",
        "A high risk is not a high chance that an offer helps.",
        "The mean probability over 500 training customers",
        "two-year: none of the 9 customers who left is found",
        "374 held-out customers left and 1,035 stayed.",
        "f" * 40,
        "Not signed when it was registered.",
        "churn model verify churn:v1",
    ):
        assert part in text, part


def test_each_plot_says_in_numbers_what_it_shows(page: str, metadata: dict[str, Any]) -> None:
    labels = re.findall(r'<svg [^>]*role="img"[^>]*aria-label="([^"]+)"', page)
    assert len(labels) == page.count("<figure>") == PLOTS
    assert all(re.search(r"\d%|\d\.\d", label) for label in labels)
    by_field = {
        field: label for label in labels for field in FEATURE_NAMES if f"by {field}" in label
    }
    assert set(by_field) == set(FEATURE_NAMES)
    (found,) = [e for e in metadata["effects"]["fields"] if e["field"] == "contract_type"]
    assert f"two-year: {found['probability'][-1]:.0%}" in by_field["contract_type"]


def test_all_figures_of_the_page_are_in_the_metadata(metadata: dict[str, Any]) -> None:
    assert metadata.keys() >= {
        *("held_out", "no_skill", "cross_validation", "calibration", "curves", "effects"),
        *("subgroups", "gates", "notices", "threshold", "split", "label", "fields", "profit"),
    }


def test_text_of_others_stays_text() -> None:
    evil = "<script>alert(1)</script>\"'&"
    text = page_of(
        {
            "data": {"source": evil, "sha256": evil, "rows": evil},
            "estimator": evil,
            "git_commit": evil,
            "steps": [evil],
            "library_versions": {evil: evil},
            "label": evil,
            "notices": [evil],
            "gates": [{"gate": evil, "outcome": evil, "sentence": evil}],
            "subgroups": {evil: [{"name": evil, "rows": 1, "observed": 0.5, "predicted": 0.5}]},
            "cross_validation": {evil: {"auc": {"value": 0.5, "low": 0.4, "high": 0.6}}},
        },
        tag=f"churn:{evil}",
        labels={evil: evil},
        signed_by=evil,
    )
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    Balance().feed(text)


@pytest.mark.parametrize(
    "kept",
    [
        *(None, 1, "text", [], [1], ["text"], {}, {"auc": "0.8"}, {"bins": [], "fields": []}),
        {"curve": {"threshold": [0.0], "profit": [], "low": [], "high": []}, "threshold": None},
    ],
)
def test_whatever_is_kept_in_another_form_costs_a_part_and_no_model(kept: object) -> None:
    names = ("data", "held_out", "measured", "calibration", "curves", "effects", "subgroups")
    more = (
        "profit",
        "gates",
        "notices",
        "label",
        "split",
        "no_skill",
        "library_versions",
        "threshold",
    )
    for name in (*names, *more):
        assert "Where it comes from" in page_of({"held_out": {}, name: kept})
    assert "Where it comes from" in page_of(dict.fromkeys((*names, *more), kept))


def test_a_model_without_figures_says_what_nobody_has_measured() -> None:
    page = page_of({"estimator": "forest", "registered_from": "forest.joblib"})
    text = text_of(page)
    assert "Nobody has measured of this model: how good it is, on any customers" in text
    assert "forest.joblib" in text
    assert "<figure>" not in page
    assert "How good it is" not in text


def test_figures_on_a_table_that_it_may_have_seen_are_said_to_be_flattering() -> None:
    auc = {"value": 0.9, "low": 0.88, "high": 0.92}
    text = text_of(page_of({"measured": {"auc": auc}, "data": SOURCE}))
    assert "AUC how often a customer who left" in text
    assert "flatter it" in text
    assert "how good it is, on any customers" not in text


def test_a_profit_on_a_table_that_it_may_have_seen_is_said_to_be_flattering(
    metadata: dict[str, Any],
) -> None:
    page = page_of({"measured": {}, "data": SOURCE, "profit": metadata["profit"]})
    text = text_of(page)
    assert "then the curve flatters it" in text
    assert "for each customer of the table" in text
    assert page.count("<svg") == 1


def test_a_policy_that_never_pays_has_a_curve_without_its_mark(metadata: dict[str, Any]) -> None:
    without = {key: kept for key, kept in metadata["profit"].items() if key != "threshold"}
    page = page_of({**metadata, "profit": without})
    assert "contacted or not" in text_of(page_of(metadata))
    assert "contacted or not" not in text_of(page)
    assert page.count("<figure>") == PLOTS


def test_a_model_that_was_registered_against_a_gate_says_so_first(
    metadata: dict[str, Any],
) -> None:
    gates = [{"gate": "skill", "outcome": "stopped", "sentence": "No better than a coin."}]
    text = text_of(page_of({**metadata, "gates": gates}))
    assert "registered it all the same: No better than a coin." in text.partition("Made for")[0]


def test_a_model_whose_probabilities_are_wrong_says_so(metadata: dict[str, Any]) -> None:
    found = {**metadata["calibration"], "passed": False, "complaints": ["It exaggerates."]}
    text = text_of(page_of({**metadata, "calibration": found}))
    assert "Failed: costs and values cannot be weighed" in text
    assert "It exaggerates." in text


def test_without_matplotlib_the_page_has_tables_for_plots(
    metadata: dict[str, Any], page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "matplotlib was not" not in page
    # As if nobody had drawn before: a package knows the modules that were imported from it.
    monkeypatch.delitem(sys.modules, "churn_serving.learning.card.plots")
    monkeypatch.delattr("churn_serving.learning.card.plots")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    undrawn = page_of(metadata)
    assert "matplotlib was not installed where this model was registered" in undrawn
    assert 'role="img"' not in undrawn
    assert undrawn.count("<figure>") == PLOTS
    assert "<caption>Mean probability by tenure_months</caption>" in undrawn


def test_no_colour_comes_into_a_plot_past_the_style_sheet(page: str) -> None:
    style = page.partition("<style>")[2].partition("</style>")[0]
    for name in COLOURS:
        assert f".f-{name} " in style
        assert f".s-{name} " in style
    drawing = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><path style="fill: red"/></svg>'
    )
    with pytest.raises(ValueError, match="drawn with red"):
        inlined(drawing.encode(), name="x", label="x")


def test_the_effect_of_a_field_is_the_mean_with_all_customers_given_one_value(
    logistic: Fitted,
) -> None:
    found = effects(logistic.predict_proba, logistic.X[:100], seed=0)
    assert [each["field"] for each in found["fields"]] == list(FEATURE_NAMES)
    assert found["rows"] == 100
    assert found["mean"] == pytest.approx(logistic.predict_proba(logistic.X[:100]).mean())
    by_field = {each["field"]: each for each in found["fields"]}
    rows = logistic.X[:100].copy()
    for column, name in enumerate(COLUMN_NAMES):
        if name.startswith("contract_type="):
            rows[:, column] = name.endswith("=one-year")
    at = by_field["contract_type"]["values"].index("one-year")
    mean = logistic.predict_proba(rows).mean()
    assert by_field["contract_type"]["probability"][at] == pytest.approx(mean)
    assert by_field["has_internet"]["values"] == [False, True]
    tenures = by_field["tenure_months"]["values"]
    assert tenures == sorted(set(tenures))
    assert set(tenures) <= set(logistic.X[:100, COLUMN_NAMES.index("tenure_months")])
    assert np.diff(by_field["tenure_months"]["probability"]).max() < 0
    json.dumps(found, allow_nan=False)


def test_each_registered_model_has_its_card_with_its_checksum(saved: str) -> None:
    model = find_model(saved)
    assert CARD in model.manifest.files
    page = (read_card(model) or b"").decode()
    assert saved.partition(":")[2] in page
    assert "0.840" in page
    assert "retention" in page
    assert model.sha256 not in page


def test_a_card_that_was_changed_is_no_card(saved: str) -> None:
    from churn_serving.errors import ModelCorruptedError

    model = find_model(saved)
    (model.folder / CARD).write_bytes(b"<p>The best model ever.</p>")
    with pytest.raises(ModelCorruptedError, match=CARD):
        find_model(saved)
    with pytest.raises(ModelCorruptedError, match=CARD):
        read_card(model)


def test_a_signed_model_names_the_key(tmp_path: Path, logistic: Fitted, model_name: str) -> None:
    private, public = generate_key_pair()
    (tmp_path / "key").write_bytes(private)
    (tmp_path / "pub").write_bytes(public)
    tag = save_artifact(
        estimator=logistic.pipeline,
        threshold=0.3,
        measured={},
        name=model_name,
        sign_key=tmp_path / "key",
    )
    page = (read_card(find_model(tag)) or b"").decode()
    assert fingerprint(read_public_key(tmp_path / "pub")) in page
    assert "Signed when it was registered" in page


def test_the_command_writes_the_very_page(saved: str, tmp_path: Path) -> None:
    page = read_card(find_model(saved))
    printed = CliRunner().invoke(churn, ["model", "card", saved])
    assert printed.exit_code == 0
    assert printed.stdout_bytes == page
    written = CliRunner().invoke(
        churn, ["model", "card", saved, "--output", str(tmp_path / "card.html")]
    )
    assert written.exit_code == 0
    assert (tmp_path / "card.html").read_bytes() == page


def test_the_command_opens_a_browser(saved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def launch(url: str) -> int:
        opened.append(url)
        return 0

    monkeypatch.setattr("click.launch", launch)
    assert CliRunner().invoke(churn, ["model", "card", saved, "--open"]).exit_code == 0
    (url,) = opened
    assert url.startswith("file:///")
    assert url.endswith(f"{saved.partition(':')[2]}.html")


def test_a_model_without_a_card_gets_one_of_what_is_known(saved: str) -> None:
    folder = find_model(saved).folder
    manifest = parse_manifest((folder / MANIFEST).read_bytes())
    kept = {name: file for name, file in manifest.files.items() if name != CARD}
    changed = manifest.model_copy(update={"files": kept})
    (folder / MANIFEST).write_bytes(changed.model_dump_json().encode())
    assert read_card(find_model(saved)) is None
    printed = CliRunner().invoke(churn, ["model", "card", saved])
    assert printed.exit_code == 0
    assert "registered without a card" in printed.stderr
    assert "0.840" in printed.stdout
