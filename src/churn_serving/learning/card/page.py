"""The page itself: who made the model of what, what it is for, and what was measured of it."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from churn_serving.learning.card import figures, markup
from churn_serving.learning.card.markup import Html, code, figure_of
from churn_serving.learning.card.profit import profit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

__all__ = ["Subject", "make_card"]

_STYLE: Final = Path(__file__).with_name("card.css")
_PUBLIC: Final = "public benchmark"
_PARTS: Final = {
    "purpose": "What it is for",
    "data": "Data",
    "figures": "How good it is",
    "calibration": "Probabilities",
    "profit": "Profit",
    "fields": "Fields",
    "subgroups": "Kinds of customers",
    "gates": "Gates",
    "origin": "Origin",
    "signature": "Signature",
}
_DRAWN: Final = frozenset(("curves", "effects", "profit"))
_USES: Final = (
    "Put customers in order: call those first who are most likely to leave.",
    "Weigh an offer's cost against a customer's worth, where the calibration has passed.",
    "Customers like those it was trained on, with the same eight fields, measured the same way.",
)
_MISUSES: Final = (
    "A forecast with a date: the label has no horizon, and does not say who leaves next month.",
    "Causes. A longer contract goes with staying; that does not say that it makes anybody stay.",
    "Who can be persuaded. A high risk is not a high chance that an offer helps.",
    "Decisions against a person: prices, credit, or whether somebody is served at all.",
    "Other companies, other products, or a market that has changed, without new figures.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a card tells of.

    Attributes:
        tag: ``name:version``.
        threshold: Probabilities from here on are predicted as churn.
        metadata: Everything that is kept with the model; what is missing is said to be.
        labels: Given by whoever registered it.
        signed_by: The fingerprint of the key that signs it; None: it was not signed.
    """

    tag: str
    threshold: float
    metadata: Mapping[str, Any]
    labels: Mapping[str, str]
    signed_by: str | None = None


def make_card(subject: Subject) -> bytes:
    """Return the page: one file of HTML without script, which loads nothing."""
    metadata = subject.metadata
    is_drawn = not _DRAWN.isdisjoint(metadata)
    plots = _plots() if is_drawn else None
    sections = {
        "purpose": _purpose(subject),
        "data": _data(metadata),
        "figures": _tolerant("figures", lambda: figures.accuracy(metadata, plots)),
        "calibration": _tolerant("calibration", lambda: figures.calibration(metadata, plots)),
        "profit": _tolerant("profit", lambda: profit(metadata, plots)),
        "fields": _tolerant("fields", lambda: figures.effects(metadata, plots)),
        "subgroups": _tolerant("subgroups", lambda: figures.subgroups(metadata)),
        "gates": _tolerant("gates", lambda: _gates(metadata)),
        "origin": _origin(subject),
        "signature": _signature(subject),
    }
    links = "".join(
        f'<li><a href="#{name}">{_PARTS[name]}</a></li>' for name, part in sections.items() if part
    )
    style = _STYLE.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    name, _, version = subject.tag.partition(":")
    undrawn = (
        markup.note(
            "matplotlib was not installed where this model was registered: this page has tables "
            "in the place of plots.",
        )
        if plots is None and is_drawn
        else ""
    )
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'"
    return (
        f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Model card: {markup.text(subject.tag)}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<header>
<p class="eyebrow">Model card</p>
<h1>{markup.text(name)}<wbr>:{markup.text(version)}</h1>
<p class="lead">{_lead(subject)}</p>
{_forced(metadata)}{undrawn}{_tiles(subject)}
<nav aria-label="On this page"><ul>{links}</ul></nav>
</header>
<main>
{"".join(sections.values())}
</main>
<footer><p>Made from what is kept with the model, when it was registered. A running service has the
same figures as JSON at <code>/metrics/model</code>.</p></footer>
</body>
</html>
"""
    ).encode()


def _tolerant(name: str, make: Callable[[], Html]) -> Html:
    """Return a part of the page, or say that what is kept has another form than ours.

    Whoever calls ``save_artifact`` may keep what he likes; his model is registered all the same.
    """
    try:
        return make()
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return markup.section(
            name,
            _PARTS[name],
            markup.note("What is kept of this has a form of its own, which this page cannot show."),
        )


def _plots() -> ModuleType | None:
    """Return what draws; None where matplotlib is not installed."""
    try:
        from churn_serving.learning.card import plots  # noqa: PLC0415 - half a second, and an extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        return None
    return plots


def _lead(subject: Subject) -> Html:
    estimator = str(subject.metadata.get("estimator", "a model")).rpartition(".")[2]
    return Html(
        f"{markup.text(estimator)} on eight fields of a telecom customer. It says how probable it "
        "is that the customer leaves, and predicts that from a probability of "
        f"<strong>{subject.threshold:.3f}</strong> on."
    )


def _forced(metadata: Mapping[str, Any]) -> Html:
    gates = metadata.get("gates")
    reasons = " ".join(
        str(each.get("sentence"))
        for each in (gates if isinstance(gates, list) else ())
        if isinstance(each, dict) and each.get("outcome") == "stopped"
    )
    if not reasons:
        return Html("")
    return markup.note(
        "A gate stopped this model, and a person registered it all the same: ",
        reasons,
        kind="stop",
    )


def _tiles(subject: Subject) -> Html:
    metadata = subject.metadata
    shown = metadata.get("held_out") or metadata.get("measured")
    tiles = []
    for name, title, form in (
        ("auc", "AUC", ".3f"),
        ("lift_10", "Lift, top 10%", ".1f"),
        ("recall", "Found, of those who left", ".0%"),
    ):
        if figure := figure_of(shown, name):
            tiles.append(
                (title, f"{figure.value:{form}}", f"{figure.low:{form}} to {figure.high:{form}}")
            )
    calibration = metadata.get("calibration")
    if isinstance(calibration, dict) and (slope := figure_of(calibration, "slope")):
        verdict = "passed" if calibration.get("passed") else "failed"
        tiles.append(
            (
                "Calibration",
                verdict,
                f"slope {slope.value:.2f}, {slope.low:.2f} to {slope.high:.2f}",
            )
        )
    if (rows := metadata.get("train_rows")) and (tested := metadata.get("test_rows")):
        tiles.append(("Trained on", f"{rows:,}", f"customers; {tested:,} others held out"))
    cells = "".join(
        f"<div><dt>{title}</dt><dd><strong>{value}</strong><small>{below}</small></dd></div>"
        for title, value, below in tiles
    )
    return Html(f'<dl class="tiles">{cells}</dl>') if cells else Html("")


def _purpose(subject: Subject) -> Html:
    halves = (
        f"<div><h3>Made for</h3>{markup.listed(_USES)}</div>"
        f"<div><h3>Not made for</h3>{markup.listed(_MISUSES)}</div>"
    )
    missing = [what for name, what in figures.UNMEASURED.items() if not subject.metadata.get(name)]
    if not (subject.metadata.get("held_out") or subject.metadata.get("measured")):
        missing.insert(0, "how good it is, on any customers")
    unknown = (
        f"<h3>Not measured</h3>{markup.note('Nobody has measured of this model:')}"
        f"{markup.listed(missing)}"
        if missing
        else ""
    )
    return markup.section(
        "purpose", "What it is for", Html(f'<div class="columns">{halves}</div>{unknown}')
    )


def _data(metadata: Mapping[str, Any]) -> Html:
    data = metadata.get("data")
    data = data if isinstance(data, dict) else {}
    label = metadata.get("label")
    if not data and not label:
        return Html("")
    split = metadata.get("split")
    split = split if isinstance(split, dict) else {}
    without = metadata.get("no_skill")
    left = without.get("probability") if isinstance(without, dict) else None
    pairs = {
        "table": data.get("source"),
        "SHA-256 of the file": code(data["sha256"]) if data.get("sha256") else None,
        "rows": _counted(data.get("rows")),
        "customers": _counted(split.get("customers")),
        "left, of those trained on": f"{left:.1%}" if isinstance(left, float) else None,
        "trained on": _counted(metadata.get("train_rows")),
        "held out, to measure": _held_out(metadata.get("test_rows"), split),
        "rows of customers seen before": _counted(split.get("repeated_rows")),
        "customers with both labels": _counted(split.get("conflicting_customers")),
        "customers on both sides of the split": _counted(split.get("customers_on_both_sides")),
        "equal rows on both sides": _counted(split.get("identical_rows_on_both_sides")),
    }
    public = _PUBLIC in str(data.get("source", ""))
    warning = (
        markup.note(
            "The public table describes a fictional company. It is good for trying and comparing; "
            "train on your own customers before you act on an answer."
        )
        if public
        else ""
    )
    said = markup.paragraph(Html("<strong>The label:</strong> "), label) if label else ""
    return markup.section("data", "Data and label", said, warning, markup.facts(pairs))


def _held_out(rows: object, split: Mapping[str, Any]) -> str | None:
    if not isinstance(rows, int):
        return None
    since = split.get("since")
    return f"{rows:,}, " + (f"the latest, since {since}" if since else "drawn by lot")


def _counted(number: object) -> str | None:
    return f"{number:,}" if isinstance(number, int) else None


def _gates(metadata: Mapping[str, Any]) -> Html:
    gates = metadata.get("gates")
    if not gates:
        return Html("")
    return markup.section(
        "gates",
        "What it had to pass",
        markup.paragraph("A model that a gate stops is registered only if a person insists."),
        markup.table(
            "Gates",
            ("gate", "outcome", "what was found"),
            (
                [
                    each["gate"],
                    Html(
                        f'<span class="badge {markup.text(each["outcome"])}">'
                        f"{markup.text(each['outcome'])}</span>"
                    ),
                    each["sentence"],
                ]
                for each in gates
            ),
        ),
    )


def _origin(subject: Subject) -> Html:
    metadata = subject.metadata
    libraries = metadata.get("library_versions")
    versions = libraries if isinstance(libraries, dict) else {}
    threshold = figure_of(metadata, "threshold")
    steps = metadata.get("steps")
    steps = steps if isinstance(steps, list) else []
    pairs: dict[str, object] = {
        "tag": code(subject.tag),
        "registered": metadata.get("trained_at"),
        "from the file": metadata.get("registered_from"),
        "converted from": metadata.get("converted_from"),
        "git commit of the code": code(metadata.get("git_commit", "unknown")),
        "estimator": code(metadata.get("estimator", "unknown")),
        "steps": code(", ".join(map(str, steps))) if steps else None,
        "seed": metadata.get("seed"),
        "decision threshold": Html(
            f"{subject.threshold:.4f}"
            + (
                f' <span class="range">{threshold.low:.3f} to {threshold.high:.3f}, where F1 is '
                "highest on customers not seen</span>"
                if threshold
                else ""
            )
        ),
        "Python": metadata.get("python_version"),
        **{str(library): version for library, version in versions.items()},
        **{f"label: {name}": value for name, value in subject.labels.items()},
    }
    return markup.section("origin", "Where it comes from", markup.facts(pairs))


def _signature(subject: Subject) -> Html:
    verify = f"churn model verify {subject.tag}"
    if subject.signed_by:
        said = markup.paragraph(
            "Signed when it was registered, with the key of the fingerprint ",
            code(subject.signed_by),
            ".",
        )
    else:
        said = markup.paragraph("Not signed when it was registered. It may have been signed since.")
    return markup.section(
        "signature",
        "Signature",
        said,
        markup.paragraph(
            "A page cannot prove that: whoever can change the model can write such a page. This "
            "one is a file of the model, and its checksum stands in the model's manifest, which is "
            "what is signed. Check it with the public key from a place that you trust:"
        ),
        markup.paragraph(code(f"{verify} --public-key churn-model.pub.pem")),
    )
