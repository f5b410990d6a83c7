"""Which columns of a table make which field, and how people spell them.

Two kinds of table are understood: the raw IBM Telco table (as Kaggle has it, and IBM's own of 33
columns), and a table that holds the fields of ``churn_serving.schema.Customer``. Names count
without case, spaces and punctuation: ``Tenure Months`` is ``tenure_months``.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from churn_serving.errors import DataError
from churn_serving.fields import FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "EXTRAS",
    "FLAG",
    "LAYOUTS",
    "Choices",
    "Layout",
    "Plan",
    "Role",
    "plan_for",
    "printable",
    "quoted",
    "recognised",
    "some_of",
]

Role: TypeAlias = Literal["number", "category", "text", "time"]
"""What a column is read for: a category has few values, a text has many."""

_SHOWN_NAMES: Final = 40
_SOME: Final = 5


@dataclass(frozen=True, slots=True)
class Choices:
    """The values of a column, as a table is expected to spell them, and what each means here.

    Attributes:
        meanings: A flag means 0 or 1; a category is the place of its value in its field.
        synonyms: Further spellings, lower case, with the expected one.
    """

    meanings: Mapping[str, int]
    synonyms: Mapping[str, str]

    @property
    def expected(self) -> str:
        """What to say about any other value."""
        return f"one of {quoted(self.meanings)}"

    def places(self, texts: Iterable[str | None]) -> list[int]:
        """Return the place of each text among the expected spellings; -1 for any other."""
        places: dict[str, int] = {}
        for place, spelling in enumerate(self.meanings):
            places[spelling.casefold()] = places[_squeezed(spelling)] = place
        for other, spelling in self.synonyms.items():
            places[other] = places[spelling.casefold()]
        words = ("" if text is None else text.strip().casefold() for text in texts)
        return [places.get(word, places.get(_squeezed(word), -1)) for word in words]


@dataclass(frozen=True, slots=True)
class Layout:
    """One kind of table.

    Attributes:
        title: What to call it.
        fields: The columns that make each field. Several add up: a service is one product if it
            is there. ``int`` and ``float`` say what number a column holds.
        label: The column that says who left, and how.
    """

    title: str
    fields: Mapping[str, Mapping[str, type[int | float] | Choices]]
    label: tuple[str, Choices]

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that must be there, the label last."""
        names = (name for columns in self.fields.values() for name in columns)
        return (*dict.fromkeys(names), self.label[0])


@dataclass(frozen=True, slots=True)
class Plan:
    """What is read from the columns of one table.

    Attributes:
        layout: The kind of table that fits best.
        places: Where each column of the layout stands in the table; further columns likewise.
        roles: What each of these columns is read for.
        keys: How the table itself spells these columns, to find them by.
        names: The same for people.
        id: The column of the customer's id, if there is one.
        time: The column of the time, if one was asked for.
    """

    layout: Layout
    places: Mapping[str, int]
    roles: Mapping[str, Role]
    keys: Mapping[str, str]
    names: Mapping[str, str]
    id: str | None
    time: str | None


_YES_NO: Final = {"Yes": 1, "No": 0}
_SYNONYMS: Final = {
    **dict.fromkeys(("true", "1", "1.0", "y", "t"), "Yes"),
    **dict.fromkeys(("false", "0", "0.0", "n", "f"), "No"),
}
_CONTRACTS: Final = {
    "Month-to-month": "month-to-month",
    "One year": "one-year",
    "Two year": "two-year",
}
_PAYMENTS: Final = {
    "Electronic check": "electronic",
    "Mailed check": "mailed",
    "Bank transfer (automatic)": "bank",
    "Credit card (automatic)": "credit",
}


def _category(field: str, raw: Mapping[str, str], *, spelled_raw: bool) -> Choices:
    """Return the choices of a category; a table may use the other kind's spellings, too."""
    places = {value: place for place, value in enumerate(FIELDS[field].values)}
    if spelled_raw:
        others = {value.casefold(): spelling for spelling, value in raw.items()}
        return Choices({spelling: places[value] for spelling, value in raw.items()}, others)
    others = {_squeezed(spelling): value for spelling, value in raw.items()}
    return Choices(places, others | {spelling.casefold(): v for spelling, v in raw.items()})


def _squeezed(text: str) -> str:
    """Leave spaces and punctuation out of a word. A number stays as it is: -1 is not 1."""
    return re.sub(r"[\W_]+", "", text.casefold()) if re.search(r"[^\W\d_]", text) else text


_SERVICE: Final = Choices(_YES_NO, _SYNONYMS)
_LINES: Final = Choices({**_YES_NO, "No phone service": 0}, _SYNONYMS)
_ONLINE: Final = Choices({**_YES_NO, "No internet service": 0}, _SYNONYMS)
_INTERNET: Final = Choices({"DSL": 1, "Fiber optic": 1, "No": 0}, {"none": "No"})
FLAG: Final = Choices(
    {"true": 1, "false": 0, "1": 1, "0": 0, **_YES_NO},
    {"1.0": "1", "0.0": "0", "y": "Yes", "n": "No", "t": "true", "f": "false"},
)
"""Yes or no, as anybody writes it."""

RAW: Final = Layout(
    title="the raw Telco table",
    fields={
        "tenure_months": {"tenure": int},
        "monthly_charges": {"MonthlyCharges": float},
        "total_charges": {"TotalCharges": float},
        "num_products": {
            "PhoneService": _SERVICE,
            "InternetService": _INTERNET,
            "MultipleLines": _LINES,
            "OnlineSecurity": _ONLINE,
            "OnlineBackup": _ONLINE,
            "DeviceProtection": _ONLINE,
            "TechSupport": _ONLINE,
            "StreamingTV": _ONLINE,
            "StreamingMovies": _ONLINE,
        },
        "has_phone_service": {"PhoneService": _SERVICE},
        "has_internet": {"InternetService": _INTERNET},
        "contract_type": {"Contract": _category("contract_type", _CONTRACTS, spelled_raw=True)},
        "payment_method": {
            "PaymentMethod": _category("payment_method", _PAYMENTS, spelled_raw=True)
        },
    },
    label=("Churn", _SERVICE),
)

_OWN_CATEGORIES: Final = {"contract_type": _CONTRACTS, "payment_method": _PAYMENTS}


def _own_cells(name: str) -> type[int | float] | Choices:
    kind = FIELDS[name].kind
    if kind in {"whole", "number"}:
        return int if kind == "whole" else float
    if kind == "flag":
        return FLAG
    return _category(name, _OWN_CATEGORIES.get(name, {}), spelled_raw=False)


OWN: Final = Layout(
    title="a table of the customer's fields",
    fields={name: {name: _own_cells(name)} for name in FIELDS},
    label=("churn", FLAG),
)

LAYOUTS: Final = (RAW, OWN)

EXTRAS: Final = ("gender", "SeniorCitizen", "Partner", "Dependents", "PaperlessBilling")
"""What else the raw table knows: no field here, kept to say what the fields leave out."""

_ID: Final = "customer_id"
_TIME: Final = "time"

_SPELLINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "tenure": ("tenure", "tenuremonths"),
    # IBM's own table has the label twice, and its words are the labels of these numbers.
    "Churn": ("churn", "churnvalue", "churnlabel"),
    "churn": ("churn", "churnvalue", "churnlabel"),
}
"""Other names of a column, best first; only one of a label's may be chosen from many."""


def plan_for(names: Sequence[str], time: str | None = None, *, labelled: bool = True) -> Plan:
    """Say what each column of a table is, by the kind of table that fits best.

    Args:
        names: Those of the table's columns.
        time: The column that says when a row was true.
        labelled: Whether the table says who left, as training needs it. If not, neither the label
            nor anything else that only training looks at is planned.

    Raises:
        DataError: A column is missing, or stands there more than once.
    """
    layout, places = _best(names)
    if not labelled:
        places.pop(layout.label[0], None)
    missing = [column for column in _wanted(layout, labelled) if column not in places]
    if missing:
        raise DataError(_what_is_missing(layout, missing, names, labelled))
    _refuse_twice(names, layout, labelled)
    roles = _roles(layout)
    found = dict(places)
    words = _first_places(names)
    if labelled:
        roles[layout.label[0]] = "category"
        for extra in EXTRAS if layout is RAW else ():
            if (place := _place(extra, words)) is not None:
                found[extra], roles[extra] = place, "category"
    if (place := _place(_ID, words)) is not None:
        found[_ID], roles[_ID] = place, "text"
    if time is not None:
        place = _time_place(time, names)
        if place in found.values():
            raise DataError(
                f"Column '{_short(time)}' cannot be the time: it is a field, the label or the id."
            )
        found[_TIME], roles[_TIME] = place, "time"
    return Plan(
        layout=layout,
        places=found,
        roles=roles,
        keys={column: names[place] for column, place in found.items()},
        names={column: _short(names[place].strip()) for column, place in found.items()},
        id=_ID if _ID in found else None,
        time=None if time is None else _TIME,
    )


def _roles(layout: Layout) -> dict[str, Role]:
    """Return what the columns are read for that make the fields."""
    return {
        column: "category" if isinstance(cells, Choices) else "number"
        for columns in layout.fields.values()
        for column, cells in columns.items()
    }


def recognised(names: Sequence[str]) -> int:
    """Return how many of the names belong to the kind of table that fits best: is it a header?"""
    words = {_normal(name) for name in names}
    return max(
        sum(any(word in words for word in _words(column)) for column in layout.columns)
        for layout in LAYOUTS
    )


def quoted(names: Iterable[str]) -> str:
    """Return the names as a message lists them."""
    return ", ".join(f"'{name}'" for name in names)


def some_of(names: Sequence[str]) -> str:
    """Return the first names as a message lists them, and how many more there are."""
    more = f" and {len(names) - _SOME:,} more" if len(names) > _SOME else ""
    return f"{quoted(names[:_SOME])}{more}" if names else ""


def printable(text: str) -> str:
    """Return a text without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _best(names: Sequence[str]) -> tuple[Layout, dict[str, int]]:
    words = _first_places(names)
    found = [
        (layout, {c: place for c in layout.columns if (place := _place(c, words)) is not None})
        for layout in LAYOUTS
    ]
    return max(found, key=lambda fit: len(fit[1]) / len(fit[0].columns))


def _first_places(names: Sequence[str]) -> dict[str, int]:
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        places.setdefault(_normal(name), place)
    return places


def _place(column: str, words: Mapping[str, int]) -> int | None:
    return next((words[word] for word in _words(column) if word in words), None)


def _words(column: str) -> tuple[str, ...]:
    return _SPELLINGS.get(column, (_normal(column),))


def _normal(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _wanted(layout: Layout, labelled: bool) -> tuple[str, ...]:  # noqa: FBT001 - as plan_for has it
    return layout.columns if labelled else layout.columns[:-1]


def _what_is_missing(
    layout: Layout,
    missing: Sequence[str],
    names: Sequence[str],
    labelled: bool,  # noqa: FBT001 - as plan_for has it
) -> str:
    shown = [_short(name) for name in names[:_SHOWN_NAMES]]
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    found = f"found {quoted(shown)}{more}." if names else "found none."
    if len(missing) == len(_wanted(layout, labelled)):
        kinds = ", or ".join(
            f"{quoted(_wanted(kind, labelled))} ({kind.title})" for kind in LAYOUTS
        )
        return f"No column is known: expected the columns {kinds}, {found}"
    return (
        f"Missing column{'s' if len(missing) > 1 else ''} {quoted(missing)}: expected the columns "
        f"{quoted(_wanted(layout, labelled))} ({layout.title}), {found}"
    )


def _short(name: str) -> str:
    """Return a name for people: not endless."""
    text = printable(name)
    return text if len(text) <= _SHOWN_NAMES else f"{text[:_SHOWN_NAMES]}…"


def _refuse_twice(
    names: Sequence[str],
    layout: Layout,
    labelled: bool,  # noqa: FBT001 - as plan_for has it
) -> None:
    """Refuse a table in which a name could mean two columns."""
    exact = Counter(name.strip() for name in names)
    for name, number in exact.items():
        if name and number > 1:
            raise DataError(f"Column '{_short(name)}' is there more than once.")
    for column in (*_wanted(layout, labelled), _ID):
        words = _words(column)
        if column == layout.label[0]:  # the first of them is the label, the others say the same
            words = tuple(word for word in words if word in map(_normal, names))[:1]
        same = [name for name in names if _normal(name) in words]
        if len(same) > 1:
            raise DataError(
                f"Column '{column}' is there more than once: as {quoted(map(_short, same))}."
            )


def _time_place(time: str, names: Sequence[str]) -> int:
    exact = [place for place, name in enumerate(names) if name.strip() == time.strip()]
    alike = [place for place, name in enumerate(names) if _normal(name) == _normal(time)]
    for places in (exact, alike):
        if len(places) == 1:
            return places[0]
    raise DataError(
        f"Missing column '{_short(time)}' for the time: "
        f"found {quoted(_short(name) for name in names[:_SHOWN_NAMES])}."
    )
