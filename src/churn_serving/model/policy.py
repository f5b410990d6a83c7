"""When it pays to contact a customer: a few figures, and one rule for one customer or a table.

A contact costs ``f``. A customer who is about to leave accepts the offer with probability ``g`` and
stays, which is worth ``CLV - d``; one who would have stayed anyway takes the offer, ``d``, too. So
with a probability ``p`` of leaving, a contact is expected to bring, over doing nothing::

    p (g (CLV - d) - f) - (1 - p) (d + f)

This is the profit of Verbraken, Verbeke and Baesens (2013), "A novel profit maximizing metric for
measuring classification performance of customer churn prediction models", for one customer; the
default figures are theirs. A probability is a risk: it does not say whom an offer persuades.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np

from churn_serving.errors import PolicyError
from churn_serving.features.columns import FloatArray

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "ACTIONS",
    "Action",
    "CustomerId",
    "Decision",
    "Decisions",
    "Policy",
    "rank",
    "read_policy",
]

Action: TypeAlias = Literal["contact", "leave_alone", "control"]
CustomerId: TypeAlias = str | int
ACTIONS: Final[tuple[Action, ...]] = ("contact", "leave_alone", "control")
"""A code in ``Decisions.actions`` is a position in here."""

_CONTACT, _LEAVE_ALONE, _CONTROL = range(3)
_HASH_BYTES: Final = 8
_VERSION_DIGITS: Final = 16
_MAX_BYTES: Final = 16 * 1024
"""Six figures and their comments. The reader of TOML takes quadratic time for long dotted names."""
_MAX_FIGURE: Final = 1e12
_MAX_SALT: Final = 128
_SHOWN: Final = 40
_FAULTS_TOLD: Final = 8
_ALLOWED: Final = {
    "customer_value": "a number above 0, up to 1e12",
    "offer_cost": "a number from 0 to 1e12",
    "contact_cost": "a number from 0 to 1e12",
    "acceptance": "a number from 0 to 1",
    "control_share": "a number from 0 to below 1",
}
_KNOWN: Final = (*_ALLOWED, "control_salt")
_Probability = TypeVar("_Probability", float, FloatArray)


class Decision(NamedTuple):
    """What to do about one customer.

    Attributes:
        action: ``contact`` if that is expected to pay, else ``leave_alone``; ``control``: it would
            pay, but this customer is kept apart, to measure what contacts bring.
        expected_profit: Of a contact, over doing nothing; in the policy's currency.
        threshold: The probability above which a contact of this customer pays; above 1: it never
            does. None: infinite or undefined.
        break_even_acceptance: The acceptance above which it pays at this probability; above 1: it
            never does. None: infinite or undefined, as no acceptance makes it pay.
    """

    action: Action
    expected_profit: float
    threshold: float | None
    break_even_acceptance: float | None


class Decisions(NamedTuple):
    """What to do about many customers; each array has the shape ``(n,)``.

    Attributes:
        actions: Positions in ``ACTIONS``.
        expected_profit: As of one decision.
        threshold: As of one decision; NaN where that is None.
        break_even_acceptance: As of one decision; NaN where that is None.
    """

    actions: NDArray[np.int8]
    expected_profit: FloatArray
    threshold: FloatArray
    break_even_acceptance: FloatArray


@dataclass(frozen=True, slots=True)
class Policy:
    """What a customer is worth, what a contact costs, and what follows for each customer.

    Figures are taken as they are: ``read_policy`` is where they are checked.

    Attributes:
        customer_value: CLV, what a customer who stays is worth; for whom no own value is given.
        offer_cost: d, what the offer costs if it is taken.
        contact_cost: f, what it costs to contact one customer.
        acceptance: g, the probability that a customer who is about to leave accepts, and stays.
        control_share: The share of those worth a contact who are not contacted, 0 to below 1.
        control_salt: Mixed into the hash that picks them: another salt picks others.
    """

    customer_value: float = 200.0
    offer_cost: float = 10.0
    contact_cost: float = 1.0
    acceptance: float = 0.3
    control_share: float = 0.0
    control_salt: str = ""

    # Worked out once, for a decision has about a microsecond.
    _cost: float = field(init=False, repr=False, compare=False)
    _margin: float = field(init=False, repr=False, compare=False)
    _threshold: float | None = field(init=False, repr=False, compare=False)
    _prefix: bytes = field(init=False, repr=False, compare=False)
    _below: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        below = int(self.control_share * 2 ** (8 * _HASH_BYTES))
        prepared = {
            "_cost": self.offer_cost + self.contact_cost,
            "_margin": self.customer_value - self.offer_cost,
            "_threshold": self._threshold_of(self.customer_value),
            "_prefix": _bytes(self.control_salt) + b"\0",
            "_below": below.to_bytes(_HASH_BYTES, "big") if below else b"",
        }
        for name, value in prepared.items():
            object.__setattr__(self, name, value)

    @property
    def figures(self) -> dict[str, float]:
        """The figures by name, for everybody to see: without the salt."""
        return {name: float(getattr(self, name)) + 0.0 for name in _ALLOWED}  # no -0.0

    @property
    def version(self) -> str:
        """Say which policy this is: the first 16 hexadecimal digits of a SHA-256.

        Hashed is the canonical JSON of all six figures: numbers as floats, names sorted, no space.
        """
        parsed = {**self.figures, "control_salt": self.control_salt}
        canonical = json.dumps(parsed, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:_VERSION_DIGITS]

    @property
    def threshold(self) -> float | None:
        """The probability above which a contact pays, by default; None: infinite or undefined."""
        return self._threshold

    def decide(
        self, p: float, value: float | None = None, customer_id: CustomerId | None = None
    ) -> Decision:
        """Decide about one customer.

        Args:
            p: The probability that the customer leaves, 0 to 1; Python's float, not NumPy's.
            value: What the customer is worth, above 0 and finite. None: the policy's.
            customer_id: Without one, the customer is never kept apart as control.
        """
        stays = 1.0 - p
        if value is None:
            margin, threshold = self._margin, self._threshold
        else:
            margin, threshold = value - self.offer_cost, self._threshold_of(value)
        lost = stays * self._cost
        profit = p * (self.acceptance * margin - self.contact_cost) - lost
        at_stake = p * margin
        break_even: float | None = None
        if at_stake > 0.0:
            break_even = (p * self.contact_cost + lost) / at_stake
            if break_even == inf:
                break_even = None
        action: Action = "leave_alone"
        if profit > 0.0:
            action = (
                "control"
                if self._below and customer_id is not None and self._is_apart(customer_id)
                else "contact"
            )
        return Decision(action, profit, threshold, break_even)

    def decide_many(
        self,
        p: FloatArray,
        values: FloatArray | None = None,
        ids: Sequence[CustomerId | None] | None = None,
    ) -> Decisions:
        """Decide about many customers, each exactly as ``decide`` does.

        Args:
            p: The probabilities that they leave, shape ``(n,)``.
            values: What each is worth, shape ``(n,)``; NaN: the policy's. None: so is everybody's.
            ids: One for each, or None.
        """
        actions, profit = self.act_many(p, values, ids)
        margin = self._margins(values)
        # What has no answer is NaN; that is said below, not in warnings.
        with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
            at_stake = p * margin
            break_even = (p * self.contact_cost + (1.0 - p) * self._cost) / at_stake
            stake = np.broadcast_to(self.acceptance * margin + self.offer_cost, p.shape)
            threshold = self._cost / stake
        return Decisions(
            actions, profit, _defined(threshold, stake), _defined(break_even, at_stake)
        )

    def act_many(
        self,
        p: FloatArray,
        values: FloatArray | None = None,
        ids: Sequence[CustomerId | None] | None = None,
    ) -> tuple[NDArray[np.int8], FloatArray]:
        """Return the actions and the expected profits of ``decide_many`` alone."""
        margin = self._margins(values)
        with np.errstate(over="ignore", under="ignore"):
            gain = self.acceptance * margin - self.contact_cost
            profit = p * gain - (1.0 - p) * self._cost
        actions = np.where(profit > 0.0, np.int8(_CONTACT), np.int8(_LEAVE_ALONE))
        if ids is not None and self._below:
            for place in np.flatnonzero(actions == _CONTACT).tolist():
                if (customer_id := ids[place]) is not None and self._is_apart(customer_id):
                    actions[place] = _CONTROL
        return actions, profit

    def _margins(self, values: FloatArray | None) -> FloatArray | float:
        if values is None:
            return self._margin
        return np.where(np.isnan(values), self.customer_value, values) - self.offer_cost

    def expected_cost(self, p: _Probability) -> _Probability:
        """Return what a contact is expected to cost: itself, and the offer if that is taken."""
        return self.contact_cost + self.offer_cost * (p * self.acceptance + (1.0 - p))

    def _threshold_of(self, value: float) -> float | None:
        stake = self.acceptance * (value - self.offer_cost) + self.offer_cost
        if not stake > 0.0:
            return None
        threshold = (self.offer_cost + self.contact_cost) / stake
        return None if threshold == inf else threshold

    def _is_apart(self, customer_id: CustomerId) -> bool:
        """Tell whether the hash of an id falls into the control share; 12 is the same as "12"."""
        hashed = hashlib.blake2b(self._prefix + _bytes(str(customer_id)), digest_size=_HASH_BYTES)
        return hashed.digest() < self._below


def rank(
    expected_profit: FloatArray,
    cost: FloatArray,
    eligible: NDArray[np.bool_],
    *,
    capacity: int | None,
    budget: float | None,
) -> NDArray[np.intp]:
    """Return the positions of those to be contacted, the highest expected profit first.

    Whoever does not fit into the rest of the budget is skipped, and a cheaper one may follow.

    Args:
        expected_profit: Of each, shape ``(n,)``; of two alike, the first goes first.
        cost: The expected cost of contacting each, not negative, shape ``(n,)``.
        eligible: Who may be contacted, shape ``(n,)``.
        capacity: How many can be contacted; None: all.
        budget: What may be spent in all, in expectation; None: any sum.
    """
    places = np.flatnonzero(eligible)
    places = places[np.argsort(-expected_profit[places], kind="stable")]
    if budget is None:
        return places[:capacity]
    costs = cost[places]
    cheapest = float(costs.min(initial=inf))
    most = len(places) if capacity is None else capacity
    spent = 0.0
    chosen: list[int] = []
    # One by one, as each choice depends on those before: 60 ns a customer.
    for place, each in zip(places.tolist(), costs.tolist(), strict=True):
        if len(chosen) == most or spent + cheapest > budget:
            break
        if spent + each <= budget:
            spent += each
            chosen.append(place)
    return np.array(chosen, dtype=np.intp)


def read_policy(path: Path) -> Policy:
    """Read a policy from a file, TOML or JSON.

    A file that ends in ``.json`` or ``.toml`` is that; any other is JSON if it begins with ``{``.
    A figure that the file leaves out has its default.

    Raises:
        PolicyError: The file cannot be read, is no policy, or one that contradicts itself.
    """
    try:
        return Policy(**_checked(_parsed(path)))
    except ValueError as error:
        raise PolicyError(f"The policy file {path} {error}.") from None


def _parsed(path: Path) -> dict[str, Any]:
    """Return what a file says.

    Raises:
        ValueError: It says nothing; the message goes on from the file's name.
    """
    # Imported late: an executor of Spark is given its policy, and has no pydantic.
    from churn_serving.model.portable import read_file  # noqa: PLC0415 - see above

    try:
        # An editor may put a byte order mark before the first name.
        text = read_file(path, _MAX_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        kind = "is a folder, a pipe or a device, not a file" if path.exists() else "is not there"
        raise ValueError(kind) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text (at byte {error.start})") from None
    except OSError as error:
        raise ValueError(f"cannot be read ({type(error).__name__})") from None
    except ValueError:
        raise ValueError(f"is larger than {_MAX_BYTES // 1024} KB") from None
    if not text.strip():
        raise ValueError("is empty")
    suffix = path.suffix.lower()
    is_json = suffix == ".json" or (suffix != ".toml" and text.lstrip().startswith("{"))
    try:
        if is_json:
            parsed = json.loads(text, object_pairs_hook=_once, parse_int=float)
        else:
            import tomllib  # noqa: PLC0415 - 9 ms of a start that mostly has no file to read

            parsed = tomllib.loads(text)
    except RecursionError:
        raise ValueError("is nested too deeply; its figures stand at the top") from None
    except ValueError as error:
        kind = "JSON" if is_json else "TOML"
        reason = str(error).partition(";")[0][:200].rstrip(".")
        raise ValueError(f"is not {kind}: {reason}") from None
    if not isinstance(parsed, dict):
        raise ValueError('must be a JSON object, like {"customer_value": 200}')  # noqa: TRY004 - the file's fault
    return parsed


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, whose last of two equal names would win in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"{twice[:_SHOWN]!r} stands there twice")
    return found


def _checked(parsed: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a file, all of them sound.

    Raises:
        ValueError: They are not; the message goes on from the file's name.
    """
    if not parsed:
        raise ValueError(f"has no figure in it; it may have {_listed(_KNOWN)}")
    # A file that is something else altogether may have thousands.
    faults = list(islice(_faults(parsed), _FAULTS_TOLD + 1))
    if faults:
        more = "; and more" if len(faults) > _FAULTS_TOLD else ""
        raise ValueError(f"cannot be used: {'; '.join(faults[:_FAULTS_TOLD])}{more}")
    # 200 and 200.0 are the same figure, and so are 0 and -0.0.
    return {k: v if isinstance(v, str) else float(v) + 0.0 for k, v in parsed.items()}


def _faults(parsed: dict[str, Any]) -> Iterable[str]:
    """Say what is wrong with the figures of a file, each in half a sentence."""
    sound = True
    for name, value in parsed.items():
        if fault := _fault(name, value):
            sound = False
            yield fault
    if not sound:
        return
    policy = Policy(**parsed)
    if policy.offer_cost >= policy.customer_value:
        yield (
            "offer_cost must be below customer_value, or the offer costs what it saves and nobody "
            "would ever be contacted"
        )
    elif policy.decide(1.0).action == "leave_alone":
        yield (
            "acceptance times (customer_value - offer_cost) must be above contact_cost, or nobody "
            "would ever be contacted, however sure to leave"
        )
    if policy.control_share and not policy.control_salt:
        yield "control_share needs a control_salt, any text that is kept for as long as it counts"


def _fault(name: str, value: object) -> str | None:
    """Say what is wrong with one figure; None: nothing."""
    if name not in _KNOWN:
        shown = repr(name[:_SHOWN])
        if isinstance(value, dict):
            return f"{shown} is a section, and the figures stand at the top, outside any"
        meant = get_close_matches(name.lower().replace("-", "_"), _KNOWN, n=1)
        known = f"did you mean {meant[0]}?" if meant else f"it may have {_listed(_KNOWN)}"
        return f"{shown} is no figure of a policy ({known})"
    if name == "control_salt":
        sound = isinstance(value, str) and len(value) <= _MAX_SALT and value.isprintable()
        return None if sound else f"{name} must be printable text of up to {_MAX_SALT} characters"
    # A bool is an int to Python, and to nobody else; NaN is between no two numbers.
    if isinstance(value, int | float) and not isinstance(value, bool):
        above = value > 0 if name == "customer_value" else value >= 0
        below = {"acceptance": value <= 1, "control_share": value < 1}
        if above and below.get(name, value <= _MAX_FIGURE):
            return None
    return f"{name} must be {_ALLOWED[name]}"


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _defined(figures: FloatArray, divisor: FloatArray) -> FloatArray:
    """Return figures, NaN in place of those that are infinite or have no positive divisor."""
    defined: FloatArray = np.where((divisor > 0.0) & (figures < inf), figures, np.nan)
    return defined


def _bytes(text: str) -> bytes:
    # A lone surrogate, half a character, is no text, but must not end a request either.
    return text.encode("utf-8", "surrogatepass")
