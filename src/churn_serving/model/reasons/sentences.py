"""What a reason says: sentences about the estimate and the customers compared with.

They state what the model does and what the background is, and nothing of causes. All that does not
depend on a customer's numbers is put together once: a sentence is made for every request.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol, TypeAlias

from typing_extensions import TypedDict

from churn_serving.features.columns import CATEGORIES, FEATURE_NAMES
from churn_serving.model.reasons.players import CODES, GROUPS, OTHER
from churn_serving.schema import Customer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Direction", "Reason", "Sentences", "choices_of"]

Direction: TypeAlias = Literal["raises", "lowers", "leaves"]

_NOTHING: Final = 1e-9
"""An impact that is no larger is what is left of rounding."""

_THEM: Final = "the customers compared with"


class Reason(TypedDict):
    """By how much fields that are shown together move an estimate.

    Attributes:
        code: The stable name of the fields; ``other`` for all that are not shown.
        fields: Their names.
        values: What the customer has in them.
        reference: What the background has: the mean of a number, the most frequent other value.
        impact: In log-odds.
        direction: Whether that raises or lowers the estimate, or leaves it as it is.
        message: A sentence for people.
    """

    code: str
    fields: list[str]
    values: list[Any]
    reference: list[Any]
    impact: float
    direction: Direction
    message: str


def choices_of(name: str) -> tuple[Any, ...] | None:
    """Return the values of a flag or a category; None: the field is a number."""
    if Customer.model_fields[name].annotation is bool:
        return (False, True)
    return CATEGORIES.get(name)


class _Said(NamedTuple):
    """How one speaks of a number; ``{}`` stands for it.

    Attributes:
        subject: What moves the estimate.
        average: What the customers compared with have.
        format: Of the customer's number.
        format_of_mean: Of the background's.
        one: The subject if the number is 1; only of the first field of a group.
    """

    subject: str
    average: str
    format: str
    format_of_mean: str
    one: str | None = None


_NUMBERS: Final = {
    "tenure_months": _Said(
        *("a tenure of {} months", "a tenure of {} months", ",.0f", ",.1f", "a tenure of 1 month")
    ),
    # z: a charge of -0.0 is none.
    "monthly_charges": _Said("a monthly charge of ${}", "one of ${}", "z,.2f", ",.2f"),
    "total_charges": _Said("total charges of ${}", "total charges of ${}", "z,.2f", ",.2f"),
    "num_products": _Said("having {} products", "{}", ",.0f", ",.1f", "having 1 product"),
}
"""A field that is not here is spoken of by its name."""

_CHOICES: Final[dict[str, dict[Any, tuple[str, str]]]] = {
    "has_phone_service": {
        False: ("having no phone service", "have one"),
        True: ("having a phone service", "have none"),
    },
    "has_internet": {
        False: ("having no internet service", "have one"),
        True: ("having an internet service", "have none"),
    },
    "contract_type": {
        "month-to-month": ("a month-to-month contract", "have longer terms"),
        "one-year": ("a one-year contract", "have other terms"),
        "two-year": ("a two-year contract", "have shorter terms"),
    },
    "payment_method": {
        "electronic": ("paying by electronic check", "pay in another way"),
        "mailed": ("paying by mailed check", "pay in another way"),
        "bank": ("paying by bank transfer", "pay in another way"),
        "credit": ("paying by credit card", "pay in another way"),
    },
}
"""What moves the estimate, and what the customers with another value do. Likewise."""

_ALL: Final = range(len(GROUPS))
_first_of_each: Final = itemgetter(*(group[0] for group in GROUPS))
_MORE: Final = [(number, field) for number, group in enumerate(GROUPS) for field in group[1:]]
"""The fields that are added to a group's first one."""

_ONE: Final[dict[Direction, str]] = {
    "raises": "raises the estimate",
    "lowers": "lowers the estimate",
    "leaves": "leaves the estimate as it is",
}
_SEVERAL: Final[dict[Direction, str]] = {
    "raises": "raise the estimate",
    "lowers": "lower the estimate",
    "leaves": "leave the estimate as it is",
}


class _Told(Protocol):
    """What is said of a group of fields."""

    def reason(self, values: Mapping[str, Any], impact: float) -> Reason: ...


class _Numbers:
    """Fields that are numbers, spoken of together."""

    def __init__(self, code: str, fields: list[str], means: list[float]) -> None:
        said = [_said_of(name) for name in fields]
        averages = [
            each.average.format(format(mean, each.format_of_mean))
            for each, mean in zip(said, means, strict=True)
        ]
        compared = f"{_THEM} have {' and '.join(averages)} on average"
        verbs = _ONE if len(fields) == 1 else _SEVERAL
        places = [f"{{{place}:{each.format}}}" for place, each in enumerate(said)]
        subjects = [each.subject.format(place) for each, place in zip(said, places, strict=True)]
        singular = [said[0].one or subjects[0], *subjects[1:]]
        reference = [round(mean, 2) for mean in means]
        self._usual, self._singular = (
            _reasons_of(
                code, fields, reference, subject=" and ".join(those), verbs=verbs, about=compared
            )
            for those in (subjects, singular)
        )
        self._take = itemgetter(*fields, fields[0])  # of one name it would make no tuple

    def reason(self, values: Mapping[str, Any], impact: float) -> Reason:
        *its, first = self._take(values)
        prepared = self._singular if first == 1 else self._usual
        reason = prepared[_direction(impact)].copy()
        reason["values"] = its
        reason["impact"] = impact
        reason["message"] = reason["message"].format(*its)
        return reason


class _Choice:
    """A flag or a category, of which each sentence is known."""

    def __init__(self, code: str, field: str, shares: Sequence[float]) -> None:
        choices = choices_of(field) or ()
        reference = [choices[max(range(len(choices)), key=shares.__getitem__)]]
        said = _CHOICES.get(field, {})
        self._field = field
        self._reasons: dict[Any, dict[Direction, Reason]] = {}
        for value, share in zip(choices, shares, strict=True):
            subject, others = said.get(value) or _plainly_of(field, value)
            about = f"{_part(1 - share)} {_THEM} {others}"
            prepared = _reasons_of(
                code, [field], reference, subject=subject, verbs=_ONE, about=about
            )
            for each in prepared.values():
                each["values"] = [value]
            self._reasons[value] = prepared

    def reason(self, values: Mapping[str, Any], impact: float) -> Reason:
        reason = self._reasons[values[self._field]][_direction(impact)].copy()
        reason["impact"] = impact
        return reason


class _Rest(dict[tuple[int, ...], dict[Direction, Reason]]):
    """What is said of several groups together, put together when it is first needed."""

    def __missing__(self, groups: tuple[int, ...]) -> dict[Direction, Reason]:
        fields = [FEATURE_NAMES[field] for group in groups for field in GROUPS[group]]
        self[groups] = _reasons_of(
            OTHER, fields, [], subject="the other fields together", verbs=_SEVERAL
        )
        return self[groups]


class Sentences:
    """What is said of every group of fields, given what the background has.

    Args:
        means: Of the fields that are numbers.
        shares: Of each value of the others, in the order of ``choices_of``.
    """

    def __init__(self, means: Mapping[str, float], shares: Mapping[str, Sequence[float]]) -> None:
        self._told: list[_Told] = []
        for code, group in zip(CODES, GROUPS, strict=True):
            fields = [FEATURE_NAMES[field] for field in group]
            if fields[0] in shares:
                self._told.append(_Choice(code, fields[0], shares[fields[0]]))
            else:
                self._told.append(_Numbers(code, fields, [means[name] for name in fields]))
        self._rest = _Rest()

    def describe(
        self, values: Mapping[str, Any], impacts: Sequence[float], limit: int
    ) -> list[Reason]:
        """Return the reasons with the largest impacts, and the sum of the others as the last one.

        Args:
            values: A customer's fields by their names.
            impacts: Of each of ``FEATURE_NAMES``, in log-odds.
            limit: The most reasons; what is left is in a further one, ``other``.

        Returns:
            The largest impact first, equal ones in the order of the fields. They add up to the sum
            of the impacts. Their lists are shared with other answers: they are not to be changed.
        """
        sums = list(_first_of_each(impacts))
        for number, more in _MORE:
            sums[number] += impacts[more]
        order = sorted(_ALL, key=list(map(abs, sums)).__getitem__, reverse=True)
        told = self._told
        reasons = [told[group].reason(values, sums[group]) for group in order[:limit]]
        if rest := tuple(sorted(order[limit:])):
            impact = sum([sums[group] for group in rest])
            other = self._rest[rest][_direction(impact)].copy()
            other["impact"] = impact
            reasons.append(other)
        return reasons


def _reasons_of(
    code: str,
    fields: list[str],
    reference: list[Any],
    *,
    subject: str,
    verbs: Mapping[Direction, str],
    about: str = "",
) -> dict[Direction, Reason]:
    """Return a reason for each direction, to be filled in with a customer's values and impact."""
    return {
        direction: {
            "code": code,
            "fields": fields,
            "values": [],
            "reference": reference,
            "impact": 0.0,
            "direction": direction,
            "message": f"{_capital(subject)} {verb}{f'; {about}' if about else ''}.",
        }
        for direction, verb in verbs.items()
    }


def _direction(impact: float) -> Direction:
    if abs(impact) <= _NOTHING:
        return "leaves"
    return "raises" if impact > 0 else "lowers"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _said_of(name: str) -> _Said:
    if name in _NUMBERS:
        return _NUMBERS[name]
    whole = Customer.model_fields[name].annotation is int
    label = name.replace("_", " ")
    return _Said(f"the value {{}} of '{label}'", "{}", ",.0f" if whole else ",g", ",g")


def _plainly_of(name: str, value: object) -> tuple[str, str]:
    shown = str(value).lower() if isinstance(value, bool) else value  # as JSON has it
    return f"the value '{shown}' of '{name.replace('_', ' ')}'", "have another one"


def _part(share: float) -> str:
    """Return how many of them, such that neither some are called none, nor many all."""
    if share <= 0:
        return "none of"
    if share >= 1:
        return "all of"
    if share < 0.01:  # noqa: PLR2004 - one in a hundred
        return "fewer than 1% of"
    return "more than 99% of" if share > 0.99 else f"{share:.0%} of"  # noqa: PLR2004 - likewise
