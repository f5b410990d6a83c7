"""The reference at ``/redoc``: the OpenAPI document as one plain page, without a script.

Redoc itself is a program of a megabyte that draws this in the browser. Here the page is written
once, in the service, and is readable without scripts, in print, and by whoever hears it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import escape
from typing import TYPE_CHECKING, Any, Final

from starlette.routing import Route

from churn_serving.http.fields import fields
from churn_serving.http.kept import KeptPage
from churn_serving.http.openapi import JSON

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from churn_serving.http.fields import Field
    from churn_serving.http.openapi import Document

__all__ = ["REFERENCE", "reference_route"]

REFERENCE: Final = "/redoc"

_STYLE: Final = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1a1f24; --muted: #56606b; --line: #dfe3e8;
  --soft: #f4f6f8; --accent: #0a5ea8; }
@media (prefers-color-scheme: dark) { :root { --paper: #12161a; --ink: #e9edf1; --muted: #a7b1bc;
  --line: #323b45; --soft: #1c232a; --accent: #6db6f8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 64rem; padding: 1.5rem 1.25rem 3rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.55 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1, h2, h3, h4 { line-height: 1.25; overflow-wrap: anywhere; }
h2 { margin: 2.5rem 0 .5rem; }
h3 { display: inline; font-size: 1rem; font-weight: 400; }
h3 code { font-weight: 600; }
h4 { margin: 1.25rem 0 .4rem; }
a { color: var(--accent); }
code, pre { font: .9em/1.5 ui-monospace, Consolas, "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere; }
pre { background: var(--soft); padding: .75rem 1rem; margin: 0; white-space: pre-wrap; }
details { border: 1px solid var(--line); border-radius: .5rem; margin: .75rem 0; }
summary { cursor: pointer; padding: .7rem 1rem; }
details > div { padding: 0 1rem 1rem; border-top: 1px solid var(--line); }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4rem .75rem .4rem 0;
  border-bottom: 1px solid var(--line); font-weight: 400; overflow-wrap: anywhere; }
th { width: 42%; }
thead th, small { color: var(--muted); font-size: .875rem; }
th small { display: block; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
@media (max-width: 36rem) { body { padding: 1rem .75rem 2rem; }
  details > div, summary { padding-left: .75rem; padding-right: .75rem; }
  th, td { padding-right: .5rem; font-size: .9rem; } }
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY: Final = (
    f"default-src 'none'; img-src data:; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
# In the descriptions: what a computer takes literally, and links to other pages of the service.
_SPANS: Final = re.compile(r"`([^`]+)`|\[([^\]]+)\]\(([\w./-]+)\)")


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def reference_route(document: Document) -> Route:
    """Return the route.

    Args:
        document: What the page shows.
    """
    written = document.kept(_page)

    async def page(request: Request) -> Response:
        return (await written()).answer(request)

    return Route(REFERENCE, page)


def _page(content: Mapping[str, Any]) -> KeptPage:
    """Return the page. It names other pages relative to itself, so it works below any prefix."""
    info = content["info"]
    title = f"{info['title']} {info['version']}"
    text = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}: reference</title>\n<link rel="icon" href="data:,">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n"
        + _element("header", _element("h1", title), *_introduction(content))
        + _element("main", *_groups(content))
        + "\n</body>\n</html>\n"
    ).encode()
    return KeptPage(text, policy=_POLICY)


def _introduction(content: Mapping[str, Any]) -> Iterator[Html]:
    yield _element("p", _prose(content["info"]["description"]))
    yield _element(
        "p",
        _prose(
            "Try the routes at [docs](docs); programs read [openapi.json](openapi.json). "
            "All paths begin where this page's own does."
        ),
    )
    if "security" in content:
        yield _element(
            "p",
            _prose("Each request needs an API key: `Authorization: Bearer KEY`, or "),
            _prose("`X-API-Key: KEY`."),
        )
    links = (
        _element("li", _element("a", _code(f"{method.upper()} {path}"), href=f"#{_id(operation)}"))
        for path, method, operation in _operations(content)
    )
    yield _element("nav", _element("ul", *links), aria_label="Routes")


def _groups(content: Mapping[str, Any]) -> Iterator[Html]:
    for tag in content["tags"]:
        name = tag["name"]
        yield _element(
            "section",
            _element("h2", name, id=name),
            _element("p", _prose(tag["description"])),
            *(
                _operation(content, path, method, operation)
                for path, method, operation in _operations(content)
                if name in operation["tags"]
            ),
            aria_labelledby=name,
        )


def _operations(content: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in content["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _id(operation: Mapping[str, Any]) -> str:
    return str(operation["operationId"])


def _operation(
    content: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]
) -> Html:
    """Return what there is to know of one route, folded."""
    heading = _element("h3", _code(f"{method.upper()} {path}"), " ", operation["summary"])
    parts: list[Html] = []
    if "requestBody" in operation:
        parts += _document(content, "Request", operation["requestBody"]["content"][JSON])
    answers = {
        status: _followed(content, response) for status, response in operation["responses"].items()
    }
    for status, answer in answers.items():
        if status == "200" or "example" in answer["content"][JSON]:
            title = f"Answer {status}: {answer['description']}"
            parts += _document(content, title, answer["content"][JSON])
    others = [
        (_code(status), answer["description"])
        for status, answer in answers.items()
        if status != "200"
    ]
    parts += [_element("h4", "Errors"), _table(("Status", "Meaning"), others)]
    return _element(
        "details", _element("summary", heading), _element("div", *parts), id=_id(operation)
    )


def _document(content: Mapping[str, Any], title: str, described: Mapping[str, Any]) -> list[Html]:
    """Return what a JSON document holds, and an example of it."""
    found = fields(described["schema"], content["components"]["schemas"])
    parts = [
        _element("h4", title),
        _table(("Field", "Meaning"), map(_row, found)),
    ]
    if "example" in described:
        text = json.dumps(described["example"], indent=2, ensure_ascii=False)
        parts += [_element("h4", "For example"), _element("pre", text)]
    return parts


def _row(field: Field) -> tuple[Html, Html]:
    kind = ", ".join(filter(None, (field.kind, field.limits, "" if field.required else "optional")))
    # A long name may be broken where it is made of parts.
    name = _code(field.path).replace("_", "_<wbr>").replace(".", ".<wbr>")
    return Html(name + _element("small", _prose(kind))), _prose(field.description)


def _followed(content: Mapping[str, Any], response: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a response, or the one that it refers to."""
    name = response.get("$ref", "").rpartition("/")[2]
    found: Mapping[str, Any] = content["components"]["responses"][name] if name else response
    return found


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Html:
    head = _element("tr", *(_element("th", column, scope="col") for column in columns))
    body = (
        _element("tr", _element("th", first, scope="row"), *(_element("td", c) for c in cells))
        for first, *cells in rows
    )
    return _element("table", _element("thead", head), _element("tbody", *body))


def _prose(text: str) -> Html:
    """Return a sentence with its code and its links as markup."""
    parts, end = [], 0
    for span in _SPANS.finditer(text):
        literal, label, target = span.groups()
        parts.append(escape(text[end : span.start()]))
        parts.append(_code(literal) if literal else _element("a", label, href=target))
        end = span.end()
    return Html("".join([*parts, escape(text[end:])]))


def _code(text: str) -> Html:
    return _element("code", text)


def _element(name: str, *parts: str, **attributes: str) -> Html:
    """Return an element; what is no markup yet is escaped."""
    inside = "".join(part if isinstance(part, Html) else escape(part) for part in parts)
    given = "".join(
        f' {key.replace("_", "-")}="{escape(value)}"' for key, value in attributes.items()
    )
    return Html(f"<{name}{given}>{inside}</{name}>")
