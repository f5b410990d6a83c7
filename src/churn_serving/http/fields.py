"""The fields of a JSON document, read from its schema: one line each, nested ones by their path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic_core import to_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Field", "fields"]

Schema = dict[str, Any]

_REF: Final = "#/components/schemas/"
_EITHER: Final = ("anyOf", "oneOf")
_NULL: Final = {"type": "null"}
# The schema's keywords for a lower and an upper bound, and what is bounded.
_BOUNDS: Final = (
    ("minimum", "maximum", ""),
    ("minLength", "maxLength", "characters"),
    ("minItems", "maxItems", "items"),
)


class Field(NamedTuple):
    """What a reader wants to know of one field.

    Attributes:
        path: Where it stands, like ``results[].probability.churn``.
        kind: What it may be, in words.
        limits: Its bounds, in words; empty if it has none.
        description: What it means.
        required: Whether it must be there.
    """

    path: str
    kind: str
    limits: str
    description: str
    required: bool


def fields(schema: Schema, definitions: Mapping[str, Schema]) -> list[Field]:
    """Return the fields of a document, in their order.

    Args:
        schema: Of the document.
        definitions: What it refers to, by name.
    """
    return list(_inside(schema, "", definitions, ()))


def _inside(
    schema: Schema, path: str, definitions: Mapping[str, Schema], above: tuple[str, ...]
) -> Iterator[Field]:
    """Yield the fields below a place; ``above`` names what it is part of, so that it ends."""
    name = schema.get("$ref", "").removeprefix(_REF)
    if name in above:
        return
    above = (*above, name) if name else above
    schema = _resolved(schema, definitions)
    for either in _EITHER:
        for choice in schema.get(either, ()):
            yield from _inside(choice, path, definitions, above)
    if "items" in schema:
        yield from _inside(schema["items"], f"{path}[]", definitions, above)
    required = schema.get("required", ())
    for each, inner in schema.get("properties", {}).items():
        place = f"{path}.{each}" if path else each
        whole = _resolved(inner, definitions)
        yield Field(
            place,
            _kind(inner, definitions),
            _limits(whole),
            inner.get("description") or whole.get("description", ""),
            each in required,
        )
        yield from _inside(inner, place, definitions, above)


def _resolved(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    name = schema.get("$ref", "").removeprefix(_REF)
    return definitions[name] | schema if name else schema


def _kind(schema: Schema, definitions: Mapping[str, Schema]) -> str:
    whole = _resolved(schema, definitions)
    for either in _EITHER:
        if either in whole:
            kinds = (_kind(choice, definitions) for choice in whole[either])
            return " or ".join(dict.fromkeys(kinds))
    if "enum" in whole or "const" in whole:
        values = whole.get("enum") or [whole["const"]]
        return " or ".join(f"`{to_json(value).decode()}`" for value in values)
    if "items" in whole:
        return f"array of {_kind(whole['items'], definitions)}"
    return str(whole.get("type", "any"))


def _limits(schema: Schema) -> str:
    if "anyOf" in schema:  # those of a field that may also be null are within
        (schema, *others) = [each for each in schema["anyOf"] if each != _NULL] or [{}]
        if others:
            return ""
    found = [f"above {_number(schema['exclusiveMinimum'])}"] if "exclusiveMinimum" in schema else []
    for low, high, unit in _BOUNDS:
        least, most = (_number(schema.get(key)) for key in (low, high))
        if least and most:
            found.append(f"{least} to {most} {unit}".strip())
        elif least or most:
            found.append(f"{'at least' if least else 'at most'} {least or most} {unit}".strip())
    return ", ".join(found)


def _number(bound: float | None) -> str:
    """Return a bound as people write it; nothing if there is none."""
    return "" if bound is None else f"{int(bound) if bound == int(bound) else bound:,}"
