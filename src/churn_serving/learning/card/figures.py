"""What was measured of a model, to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from churn_serving.features.columns import CATEGORIES
from churn_serving.learning.card import markup
from churn_serving.learning.card.markup import Figure, Html, figure_of, ranged
from churn_serving.schema import Customer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

__all__ = ["UNMEASURED", "accuracy", "calibration", "effects", "subgroups"]

_FIGURES: Final = {
    "auc": ("AUC", "how often a customer who left gets a higher probability than one who stayed"),
    "pr_auc": ("PR-AUC", "the mean precision over all thresholds"),
    "log_loss": ("log-loss", "how far probabilities are from what happened; less is better"),
    "brier": ("Brier score", "the same, squared; less is better"),
    "precision": ("precision", "of those predicted to leave, the share that left"),
    "recall": ("recall", "of those who left, the share that is found"),
    "f1": ("F1", "precision and recall in one figure"),
    "lift_5": ("lift, top 5%", "leavers among those most at risk, in times of the average"),
    "lift_10": ("lift, top 10%", "the same of the first tenth"),
    "lift_20": ("lift, top 20%", "the same of the first fifth"),
}
_LIFTS: Final = {0.05: "lift_5", 0.1: "lift_10", 0.2: "lift_20"}
_KINDS: Final = {
    "contract_type": "By contract",
    "has_internet": "By internet",
    "senior": "By age, in a raw table",
}
_UNITS: Final = {
    "tenure_months": "months",
    "monthly_charges": "dollars",
    "total_charges": "dollars",
}
_ROUND: Final = 10
_SHOWN_RECALLS: Final = 10

UNMEASURED: Final = {
    "calibration": "whether the probabilities mean what they say (calibration)",
    "curves": "precision by recall, and lift",
    "profit": "what contacts would bring (profit)",
    "effects": "what each field does to the estimate",
    "subgroups": "how it does for kinds of customers",
    "gates": "the gates that keep a bad model from being registered",
}
"""What a model that was not trained here lacks, by its name in the metadata."""


def accuracy(metadata: Mapping[str, Any], plots: ModuleType | None) -> Html:
    """Return the figures with intervals, and the curves."""
    held_out, elsewhere = metadata.get("held_out"), metadata.get("measured")
    if not isinstance(held_out, dict) and not isinstance(elsewhere, dict):
        return Html("")
    seen = not isinstance(held_out, dict)
    figures = elsewhere if seen else held_out
    parts: list[object] = []
    if seen:
        parts.append(
            markup.note(
                "Measured on a table that the model may have been trained on: then these figures "
                "flatter it. Only customers that it has never seen tell how good it is."
            )
        )
    else:
        parts.append(
            markup.paragraph(
                "On customers that the model had never seen. The range behind a figure is its 95% "
                "interval over resampled customers: another sample of customers would give another "
                "figure, most likely within it."
            )
        )
    parts.append(_figures(figures, _mapping(metadata, "no_skill")))
    parts.append(_curves(metadata, figures, plots))
    parts.append(_candidates(metadata))
    return markup.section("figures", "How good it is", *parts)


def _figures(figures: object, without: Mapping[str, Any]) -> Html:
    rows = []
    for name, (title, meaning) in _FIGURES.items():
        if (figure := figure_of(figures, name)) is None:
            continue
        named = Html(f"{markup.text(title)}<small>{markup.text(meaning)}</small>")
        row: list[object] = [named, ranged(figure, _form(name))]
        if without:
            floor = without.get(name)
            row.append(f"{floor:{_form(name)}}" if isinstance(floor, int | float) else "")
        rows.append(row)
    columns = ["figure", "value", *(["no skill"] if without else [])]
    caption = "Figures" + (
        "; no skill is what one gets by saying the same of everybody" if without else ""
    )
    return markup.table(caption, columns, rows) if rows else Html("")


def _form(name: str) -> str:
    return ".2f" if name.startswith("lift") else ".3f"


def _curves(metadata: Mapping[str, Any], figures: object, plots: ModuleType | None) -> Html:
    curves = metadata.get("curves")
    if not isinstance(curves, dict):
        return Html("")
    without = _mapping(metadata, "no_skill").get("pr_auc")
    drawn = [
        _precision_recall(curves["precision_recall"], figures, without, plots),
        _lift(curves["gains"], figures, plots),
    ]
    return Html(f'<div class="plots">{"".join(drawn)}</div>')


def _precision_recall(
    points: Sequence[Sequence[float]],
    figures: object,
    without: float | None,
    plots: ModuleType | None,
) -> Html:
    recall, precision = figure_of(figures, "recall"), figure_of(figures, "precision")
    at = (recall, precision) if recall and precision else None
    says = "Who wants to find more of those who leave contacts more of those who stay."
    if recall and precision:
        says = (
            f"At the threshold, {recall.value:.0%} of those who left are found, and of those "
            f"predicted to leave {precision.value:.0%} did. {says}"
        )
    every = max(len(points) // _SHOWN_RECALLS, 1)
    shown = points[every - 1 :: every]
    label = "Precision by recall: " + "; ".join(
        f"{found:.0%} found at a precision of {right:.0%}" for found, right in shown[1::2]
    )
    svg = (
        plots.precision_recall(
            points, prevalence=without, at=at and tuple(map(_bounds, at)), label=f"{label}. {says}"
        )
        if plots
        else None
    )
    numbers = markup.table(
        "Precision by recall",
        ("found (recall)", "precision"),
        ([f"{found:.0%}", f"{right:.1%}"] for found, right in shown),
    )
    return markup.plot(svg, "Finding them: precision by recall", says, numbers)


def _lift(gains: Sequence[Sequence[float]], figures: object, plots: ModuleType | None) -> Html:
    known = {share: figure_of(figures, name) for share, name in _LIFTS.items()}
    marked = {share: figure for share, figure in known.items() if figure}
    says = "Contacting everybody finds each leaver at the average rate: a lift of 1."
    if marked:
        told = ", ".join(
            f"{each.value:.1f} among the top {share:.0%}" for share, each in marked.items()
        )
        says = f"There are so many times more leavers than on average: {told}. {says}"
    svg = (
        plots.lift(
            gains, {share: _bounds(each) for share, each in marked.items()}, label=f"Lift. {says}"
        )
        if plots
        else None
    )
    rows = [
        [f"{share:.0%}", f"{found:.1%}", f"{found / share:.2f}"]
        for share, found in gains[1::2]
        if share > 0
    ]
    numbers = markup.table(
        "Lift by the share of customers contacted",
        ("contacted", "of leavers found", "lift"),
        rows,
    )
    return markup.plot(svg, "Whom to contact first: lift", says, numbers)


def _candidates(metadata: Mapping[str, Any]) -> Html:
    """Return the candidates that were compared."""
    validations = _mapping(metadata, "cross_validation")
    if not validations:
        return Html("")
    names = ("auc", "pr_auc", "log_loss", "brier")
    known = [name for name in names if any(figure_of(e, name) for e in validations.values())]
    rows = []
    for name in known:
        found = [figure_of(figures, name) for figures in validations.values()]
        rows.append([_FIGURES[name][0], *(ranged(each) if each else "" for each in found)])
    chosen = metadata.get("candidate")
    selection = _mapping(metadata, "selection")
    said = ""
    if chosen and len(validations) > 1:
        rule = selection.get("rule", "the simplest within one standard error of the best log-loss")
        said = f"Chosen: {chosen}, by the rule: {rule}."
    return Html(
        "<h3>The candidates, cross-validated</h3>"
        + markup.table("On customers that each fold had not seen", ["figure", *validations], rows)
        + (markup.paragraph(said) if said else "")
        + _other_columns(metadata)
    )


def _other_columns(metadata: Mapping[str, Any]) -> Html:
    cost = _mapping(metadata, "fields")
    if not cost:
        return Html("")
    return markup.paragraph(
        f"What the model does not see: with all {cost['columns']} columns of the raw table, a "
        f"logistic regression has an AUC of {cost['all_columns']:.3f}; with these fields, "
        f"{cost['fields']:.3f}."
    )


def calibration(metadata: Mapping[str, Any], plots: ModuleType | None) -> Html:
    """Return whether probabilities mean what they say."""
    found = _mapping(metadata, "calibration")
    if not found:
        return Html("")
    bins = found["bins"]
    worst = max(bins, key=lambda each: abs(each["predicted"] - each["observed"]["value"]))
    says = (
        f"The customers in {len(bins)} parts, by their probability; a line is the 95% interval. "
        "Points on the dashed line are right. Below: how many customers each part has. The "
        f"largest gap: told {worst['predicted']:.0%}, {worst['observed']['value']:.0%} left."
    )
    label = "Reliability: " + "; ".join(
        f"of {each['rows']} told {each['predicted']:.0%}, {each['observed']['value']:.0%} left"
        for each in bins
    )
    numbers = markup.table(
        "Told and seen, customers in order of their probability",
        ("told", "left", "customers"),
        (
            [
                f"{each['predicted']:.1%}",
                ranged(Figure(**each["observed"]), ".1%"),
                f"{each['rows']:,}",
            ]
            for each in bins
        ),
    )
    svg = plots.reliability(bins, label=f"{label}.") if plots else None
    complaints = found.get("complaints", [])
    verdict = (
        markup.paragraph("Passed: no fault that is both larger than allowed and more than chance.")
        if found.get("passed")
        else markup.note(
            "Failed: costs and values cannot be weighed with these probabilities. ",
            " ".join(complaints),
            kind="stop",
        )
    )
    shown = {name: figure_of(found, name) for name in ("slope", "intercept", "shift")}
    pairs: dict[str, object] = {
        "slope (1 is right)": _ranged(shown["slope"], ".2f"),
        "intercept, log-odds (0 is right)": _ranged(shown["intercept"], ".2f"),
        "mean told minus seen (0 is right)": _ranged(shown["shift"], "+.3f"),
        "calibration error (ECE)": f"{found['error']:.3f}; a perfect model shows "
        f"{found['chance']['mean']:.3f} by chance",
        "corrected by a sigmoid": "yes" if found.get("corrected") else "no",
        **{
            f"Brier score: {part}": f"{value:.3f}"
            for part, value in found["brier"].items()
            if part != "score"
        },
    }
    words = Html(
        "<div>"
        + markup.paragraph("Of the customers told 30%, do 30 in 100 leave?")
        + verdict
        + markup.facts(pairs)
        + "</div>"
    )
    drawn = markup.plot(svg, "Told and seen", says, numbers)
    return markup.section(
        "calibration",
        "Do the probabilities mean what they say?",
        Html(f'<div class="columns">{drawn}{words}</div>'),
    )


def effects(metadata: Mapping[str, Any], plots: ModuleType | None) -> Html:
    """Return what each field does to the estimate."""
    found = _mapping(metadata, "effects")
    if not found:
        return Html("")
    mean = found["mean"]
    highest = max(max(each["probability"]) for each in found["fields"])
    # One scale for all: a flat line is a field that matters little.
    top = min(1.0, (int(highest * _ROUND) + 1) / _ROUND + 0.05)
    drawn = "".join(_effect(each, top=top, mean=mean, plots=plots) for each in found["fields"])
    return markup.section(
        "fields",
        "What each field does to the estimate",
        markup.paragraph(
            f"The mean probability over {found['rows']:,} {found['of']} if all of them had the "
            "same value in one field, and kept their others (partial dependence, in probability). "
            f"The dashed line is their mean as they are, {mean:.0%}. Small strokes on the axis: "
            "about as many customers are between any two of them."
        ),
        markup.paragraph(
            "It says how the model answers, not what would happen to a customer. Tenure and total "
            "charges grow together, and here each moves alone: read those two as one."
        ),
        Html(f'<div class="small">{drawn}</div>'),
    )


def _effect(found: Mapping[str, Any], *, top: float, mean: float, plots: ModuleType | None) -> Html:
    field, values, probabilities = found["field"], found["values"], found["probability"]
    names = [_valued(value) for value in values]
    unit = _UNITS.get(field, "")
    pairs = list(zip(names, probabilities, strict=True))
    if field in CATEGORIES or isinstance(values[0], bool):
        says = ", ".join(f"{name} {probability:.0%}" for name, probability in pairs)
    else:
        (first, low), (last, high) = pairs[0], pairs[-1]
        says = f"{f'{first} {unit}'.strip()}: {low:.0%}; {f'{last} {unit}'.strip()}: {high:.0%}"
    described = Customer.model_fields[field].description if field in Customer.model_fields else ""
    label = f"Mean probability by {field}: " + ", ".join(
        f"{name}: {probability:.0%}" for name, probability in pairs
    )
    svg = (
        plots.effect(field, values, probabilities, top=top, mean=mean, label=f"{label}.")
        if plots
        else None
    )
    numbers = markup.table(
        f"Mean probability by {field}",
        (field, "probability"),
        ([name, f"{probability:.1%}"] for name, probability in pairs),
    )
    meaning = (described or "").partition(":")[0].rstrip(".")
    return markup.plot(svg, field, f"{meaning}. {says}." if meaning else f"{says}.", numbers)


def subgroups(metadata: Mapping[str, Any]) -> Html:
    """Return how the model does for kinds of customers."""
    found = _mapping(metadata, "subgroups")
    if not found:
        return Html("")
    tables = [
        markup.table(
            _KINDS.get(by, f"By {by}"),
            ("kind", "customers", "left", "told", "leavers found"),
            map(_subgroup, kinds),
        )
        for by, kinds in found.items()
    ]
    notices = [
        notice
        for notice in metadata.get("notices", [])
        if notice not in _mapping(metadata, "calibration").get("complaints", [])
    ]
    return markup.section(
        "subgroups",
        "For whom it works, and for whom less",
        markup.paragraph(
            "Among the held-out customers: the share that left, the mean of the probabilities that "
            "they were told, and how many of those who left are found at the threshold, with its "
            "95% interval. One threshold for everybody overlooks kinds of whom few leave."
        ),
        *(markup.note(notice) for notice in notices),
        *tables,
    )


def _subgroup(kind: Mapping[str, Any]) -> list[object]:
    recall = figure_of(kind, "recall")
    return [
        kind["name"],
        f"{kind['rows']:,}",
        f"{kind['observed']:.1%}",
        f"{kind['predicted']:.1%}",
        Html(f"{ranged(recall, '.0%')}{markup.bar(recall)}") if recall else "nobody left",
    ]


def _mapping(metadata: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = metadata.get(name)
    return found if isinstance(found, dict) else {}


def _ranged(figure: Figure | None, form: str) -> Html | None:
    return ranged(figure, form) if figure else None


def _bounds(figure: Figure) -> dict[str, float]:
    return figure._asdict()


def _valued(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.0f}" if isinstance(value, float) else str(value)
