from typing import Any, Literal

from typing_extensions import TypedDict

GROUPS = tuple(range(7))


class Reason(TypedDict):
    code: str
    fields: list[str]
    values: list[Any]
    reference: list[Any]
    impact: float
    direction: Literal["raises", "lowers", "leaves"]
    message: str


class Reasons: ...
