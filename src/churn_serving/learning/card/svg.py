"""matplotlib's SVG, made fit to stand in a page.

matplotlib writes a document of its own with a style at each element. A page whose policy allows one
style sheet and nothing else needs attributes and classes instead; with classes, the plot also
follows the page into dark mode. What says nothing (groups, ids, a dozen font names) goes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["COLOURS", "inlined"]

COLOURS: Final = {
    "ink": "#010101",
    "muted": "#020202",
    "line": "#030303",
    "accent": "#040404",
    "second": "#050505",
    "sheet": "#060606",
}
"""What to draw with: each stands for a colour of the page's style sheet."""

_NAMES: Final = {colour: name for name, colour in COLOURS.items()}
_KEPT: Final = {
    *(
        "fill-opacity",
        "font-size",
        "opacity",
        "stroke-dasharray",
        "stroke-linecap",
        "stroke-linejoin",
    ),
    *("stroke-width", "text-anchor"),
}
_NUMBER: Final = re.compile(r"-?\d+\.\d+")
_HREF: Final = "{http://www.w3.org/1999/xlink}href"
_NOTHING: Final = re.compile(r"rotate\(-?0 .*\)")


def inlined(document: bytes, *, name: str, label: str) -> str:
    """Return the ``<svg>`` element of a plot.

    Args:
        document: As matplotlib wrote it, drawn with ``COLOURS`` only.
        name: Unique in the page; ids begin with it.
        label: What the plot shows, for who cannot see it.

    Raises:
        ValueError: It has another colour.
    """
    source = ET.fromstring(document)  # noqa: S314 - matplotlib has just written it
    root = ET.Element(
        "svg", {"viewBox": source.attrib["viewBox"], "role": "img", "aria-label": label}
    )
    for child in source:
        root.extend(list(_cleaned(child, f"{name}-")))
    return ET.tostring(root, encoding="unicode")


def _cleaned(element: ET.Element, prefix: str) -> Iterator[ET.Element]:
    kind = element.tag.rpartition("}")[2]
    if kind in {"metadata", "style"}:
        return
    children = [made for child in element for made in _cleaned(child, prefix)]
    attributes = dict(_attributes(element, kind, prefix))
    if kind in {"g", "defs"} and not children:
        return
    if kind == "g" and not attributes:
        yield from children
        return
    made = ET.Element(kind, attributes)
    made.text = (element.text or "").strip() or None
    made.extend(children)
    yield made


def _attributes(element: ET.Element, kind: str, prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in element.attrib.items():
        if key == "id":
            if kind != "g":
                yield "id", f"{prefix}{value}"
        elif key == _HREF:
            yield "href", f"#{prefix}{value[1:]}"
        elif key == "clip-path":
            yield key, value.replace("#", f"#{prefix}")
        elif key == "style":
            yield from _styled(value)
        elif not (key == "transform" and _NOTHING.fullmatch(value)):
            yield key, _NUMBER.sub(_rounded, " ".join(value.split()))


def _styled(style: str) -> Iterator[tuple[str, str]]:
    """Turn a style into attributes, and its colours into classes."""
    classes = []
    for declaration in style.split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key in {"fill", "stroke"}:
            if value == "none":
                yield key, value
            elif value in _NAMES:
                classes.append(f"{key[0]}-{_NAMES[value]}")
            else:
                raise ValueError(f"a plot is drawn with {value}, which the page has no name for")
        elif key in _KEPT:
            yield key, value
    if classes:
        yield "class", " ".join(classes)


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.1f}".removesuffix(".0")
