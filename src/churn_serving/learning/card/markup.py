"""The pieces of HTML that a card is made of. Whatever comes in as text goes out escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "Figure",
    "Html",
    "bar",
    "code",
    "facts",
    "figure_of",
    "folded",
    "listed",
    "note",
    "paragraph",
    "plot",
    "ranged",
    "section",
    "table",
    "text",
]


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


class Figure(NamedTuple):
    """A figure and its 95% interval."""

    value: float
    low: float
    high: float


_NOTHING: Final = Html("")


def figure_of(figures: object, name: str) -> Figure | None:
    """Return a figure that is kept with a model; None if it is not there as we write them."""
    kept = figures.get(name) if isinstance(figures, dict) else None
    if not isinstance(kept, dict):
        return None
    numbers = [kept.get(part) for part in Figure._fields]
    if not all(isinstance(each, int | float) for each in numbers):
        return None
    return Figure(*map(float, numbers))  # type: ignore[arg-type] # the line above has looked


def text(value: object) -> Html:
    """Return anything as markup: what is none yet is escaped."""
    return value if isinstance(value, Html) else Html(escape(str(value)))


def code(value: object) -> Html:
    """Return what a computer would take literally."""
    return Html(f"<code>{text(value)}</code>")


def ranged(figure: Figure, form: str = ".3f") -> Html:
    """Return a figure with its interval."""
    low, high = f"{figure.low:{form}}", f"{figure.high:{form}}"
    return Html(f'{figure.value:{form}} <span class="range">{low} to {high}</span>')


def paragraph(*parts: object) -> Html:
    """Return a paragraph."""
    return Html(f"<p>{''.join(map(text, parts))}</p>")


def note(*parts: object, kind: str = "warn") -> Html:
    """Return what nobody should overlook."""
    return Html(f'<p class="note {kind}">{"".join(map(text, parts))}</p>')


def listed(items: Iterable[object]) -> Html:
    """Return a list; nothing if there is nothing in it."""
    entries = "".join(f"<li>{text(item)}</li>" for item in items)
    return Html(f"<ul>{entries}</ul>") if entries else _NOTHING


def facts(pairs: Mapping[str, object]) -> Html:
    """Return names and values; without a value, a name is left out."""
    entries = "".join(
        f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>"
        for name, value in pairs.items()
        if value not in (None, "")
    )
    return Html(f"<dl>{entries}</dl>")


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    """Return a table; the first cell of a row is its name."""
    head = "".join(f'<th scope="col">{text(column)}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{text(first)}</th>'
        + "".join(f"<td>{text(cell)}</td>" for cell in cells)
        + "</tr>"
        for first, *cells in rows
    )
    return Html(
        f"<table><caption>{text(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def bar(figure: Figure) -> Html:
    """Return a share as a bar with its interval; the number stands beside it."""
    value, low, high = (100 * min(max(part, 0.0), 1.0) for part in figure)
    return Html(
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="f-line" y="2" width="100" height="6"/>'
        f'<rect class="f-accent" y="2" width="{value:.1f}" height="6"/>'
        f'<rect class="f-ink" x="{low:.1f}" y="4" width="{max(high - low, 0.5):.1f}" '
        'height="2"/></svg>'
    )


def folded(summary: str, *parts: object) -> Html:
    """Return what is shown when it is asked for."""
    inside = "".join(map(text, parts))
    return Html(f"<details><summary>{text(summary)}</summary>{inside}</details>")


def plot(svg: str | None, title: str, says: str, numbers: Html) -> Html:
    """Return a plot with what it says, and its numbers to unfold.

    Args:
        svg: The drawing; None if there is nothing to draw with: the numbers are shown instead.
        title: Above it.
        says: Below it.
        numbers: What it was drawn from.
    """
    drawn = Html(svg) if svg else numbers
    details = folded("The numbers", numbers) if svg else _NOTHING
    return Html(
        f"<figure><h3>{text(title)}</h3>{drawn}"
        f"<figcaption>{text(says)}</figcaption>{details}</figure>"
    )


def section(name: str, title: str, *parts: Any) -> Html:  # noqa: ANN401 - markup or text
    """Return a section; nothing if there is nothing in it."""
    inside = "".join(text(part) for part in parts if part)
    if not inside:
        return _NOTHING
    return Html(
        f'<section id="{name}" aria-labelledby="{name}-title">'
        f'<h2 id="{name}-title">{text(title)}</h2>{inside}</section>'
    )
