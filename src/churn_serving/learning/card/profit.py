"""What contacts would have brought, by the threshold from which on customers are contacted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from churn_serving.learning.card import markup
from churn_serving.learning.card.markup import Figure, Html, code, figure_of, ranged

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

__all__ = ["profit"]

_EVERY: Final = 0.05
_LABELLED: Final = 0.1


def profit(metadata: Mapping[str, Any], plots: ModuleType | None) -> Html:
    """Return the profit curve, and what it takes for granted."""
    found = metadata.get("profit")
    if not isinstance(found, dict) or not found:
        return Html("")
    seen = not isinstance(metadata.get("held_out"), dict)
    warning = (
        "On a table that the model may have been trained on: then the curve flatters it."
        if seen
        else ""
    )
    words = Html(
        "<div>"
        + (markup.note(warning) if warning else "")
        + markup.paragraph(
            "An estimate: nobody was contacted to find it out. Customers who left count as about "
            "to leave, and accept the offer as often as the policy says, all alike; customers who "
            "stayed take the offer, and would have stayed anyway. The label says who had left when "
            "the table was made, not who leaves next month."
        )
        + markup.paragraph(
            "A high risk is not a high chance that an offer helps. What contacts bring is known "
            "only beside customers who were not contacted: the policy's control share."
        )
        + markup.facts(_policy(found))
        + "</div>"
    )
    return markup.section(
        "profit",
        "What contacts would bring",
        Html(f'<div class="columns">{_curve(found, seen=seen, plots=plots)}{words}</div>'),
    )


def _curve(found: Mapping[str, Any], *, seen: bool, plots: ModuleType | None) -> Html:
    curve = found["curve"]
    points = list(
        zip(
            curve["threshold"],
            map(Figure, curve["profit"], curve["low"], curve["high"]),
            strict=True,
        )
    )
    threshold, at = found.get("threshold"), figure_of(found, "per_customer")
    best = found["best"]["value"]
    highest = dict(points)[best]
    everybody = points[0][1]
    of = "customer of the table" if seen else "held-out customer"
    says = (
        f"Contacting everybody brings {_money(everybody)} for each {of}, and nobody 0. The highest "
        f"point, {highest.value:,.2f} at {best:.2f}, was picked on these very customers, and looks "
        "better than it is."
    )
    if at is not None and threshold is not None:
        says = (
            f"Contacting those above the policy's threshold, {threshold:.3f}, brings {_money(at)} "
            f"for each {of}, contacted or not. {says}"
        )
    shown = [(cut, each) for cut, each in points if _is_whole(cut, _EVERY)]
    label = "Profit per customer by threshold: " + "; ".join(
        f"{cut:.1f}: {each.value:,.2f}" for cut, each in shown if _is_whole(cut, _LABELLED)
    )
    svg = (
        plots.profit(
            curve,
            at=None if at is None or threshold is None else (threshold, at._asdict()),
            best=(best, highest.value),
            label=f"{label}. {says}",
        )
        if plots
        else None
    )
    numbers = markup.table(
        "Profit per customer, if those above the threshold are contacted",
        ("threshold", "profit"),
        ([f"{cut:.2f}", ranged(each, ",.2f")] for cut, each in shown),
    )
    return markup.plot(svg, "Profit per customer, by threshold", says, numbers)


def _policy(found: Mapping[str, Any]) -> dict[str, object]:
    policy = found["policy"]
    return {
        "a customer who stays is worth": f"{policy['customer_value']:,g}",
        "the offer costs": f"{policy['offer_cost']:,g}",
        "a contact costs": f"{policy['contact_cost']:,g}",
        "of those about to leave, accept": f"{100 * policy['acceptance']:.4g}%",
        "policy version": code(found["policy_version"]),
    }


def _money(figure: Figure) -> str:
    return f"{figure.value:,.2f} ({figure.low:,.2f} to {figure.high:,.2f})"


def _is_whole(cut: float, step: float) -> bool:
    return abs(cut / step - round(cut / step)) < 1e-9  # noqa: PLR2004 - what dividing floats leaves
