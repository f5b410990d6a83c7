"""A policy: when a contact pays, for one customer and for many, and what a file may say of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from empulse.metrics import expected_cost_loss_churn, mpc_score
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from churn_serving.errors import PolicyError, SettingsError
from churn_serving.model.policy import ACTIONS, Policy, rank, read_policy

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# The example of empulse's own documentation, in all of its churn metrics.
Y = np.array([0, 1, 0, 1, 0, 1, 0, 1])
P = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.8, 0.9])

probabilities = st.floats(0, 1) | st.sampled_from([0.0, 1.0, 5e-324, 1 - 2**-53, 11 / 67])
money = st.floats(0, 1e12) | st.sampled_from([0.0, 1.0, 10.0, 200.0])
worth = st.floats(1e-6, 1e12) | st.sampled_from([5.0, 10.0, 200.0, 1e300, 5e-324])
shares = st.floats(0, 1) | st.sampled_from([0.0, 0.3, 1.0])
policies = st.builds(
    Policy,
    customer_value=worth,
    offer_cost=money,
    contact_cost=money,
    acceptance=shares,
    control_share=st.floats(0, 1, exclude_max=True),
    control_salt=st.text(max_size=5),
)
ids = st.none() | st.integers() | st.text(max_size=8)


def none_if_undefined(figure: float) -> float | None:
    return None if math.isnan(figure) else figure


def test_by_default_a_contact_pays_above_11_in_67() -> None:
    assert Policy().threshold == 11 / 67
    assert Policy().decide(11 / 67 + 1e-9).action == "contact"
    assert Policy().decide(11 / 67 - 1e-9).action == "leave_alone"


def test_a_decision_is_what_the_formulas_say() -> None:
    decision = Policy().decide(0.5)
    assert decision.action == "contact"
    assert decision.expected_profit == pytest.approx(0.5 * (0.3 * 190 - 1) - 0.5 * 11)
    assert decision.threshold == 11 / 67
    assert decision.break_even_acceptance == pytest.approx((1 + 11) / 190)


def test_a_customer_has_a_value_of_its_own() -> None:
    decision = Policy().decide(0.1, 1000)
    assert decision.action == "contact"
    assert decision.expected_profit == pytest.approx(0.1 * (0.3 * 990 - 1) - 0.9 * 11)
    assert decision.threshold == pytest.approx(11 / (0.3 * 990 + 10))
    assert Policy().decide(0.1).action == "leave_alone"


@pytest.mark.parametrize("accept_rate", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("contact_cost", [0.0, 1.0, 7.0])
def test_the_best_profit_on_known_customers_is_empulses(
    accept_rate: float, contact_cost: float
) -> None:
    policy = Policy(acceptance=accept_rate, contact_cost=contact_cost)
    gain, loss = policy.decide(1.0).expected_profit, policy.decide(0.0).expected_profit
    by_threshold = [np.where(Y == 1, gain, loss)[cut:].sum() / len(Y) for cut in range(len(Y) + 1)]
    best = mpc_score(
        Y, P, clv=200, incentive_cost=10, accept_rate=accept_rate, contact_cost=contact_cost
    )
    assert max(by_threshold) == pytest.approx(best)


@pytest.mark.parametrize("accept_rate", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("offer_cost", [0.0, 10.0, 150.0])
def test_threshold_and_expected_profit_are_empulses(accept_rate: float, offer_cost: float) -> None:
    policy = Policy(acceptance=accept_rate, offer_cost=offer_cost)
    figures: dict[str, Any] = {
        "accept_rate": accept_rate,
        "clv": 200,
        "incentive_fraction": offer_cost / 200,
        "contact_cost": 1,
    }
    threshold = expected_cost_loss_churn.optimal_threshold(Y, P, **figures)
    assert policy.threshold == pytest.approx(threshold)
    # Its expected cost contacts each customer as probably as he leaves.
    gain, loss = policy.decide(1.0).expected_profit, policy.decide(0.0).expected_profit
    cost = expected_cost_loss_churn(Y, P, **figures)
    assert -np.mean(P * np.where(Y == 1, gain, loss)) == pytest.approx(cost)


def test_with_a_value_each_the_threshold_is_empulses() -> None:
    values = np.array([20, 50, 100, 200, 400, 800, 1600, 3200.0])
    thresholds = expected_cost_loss_churn.optimal_threshold(
        Y, P, clv=values, incentive_fraction=10 / values, accept_rate=0.3, contact_cost=1
    )
    assert Policy().decide_many(P, values).threshold == pytest.approx(np.ravel(thresholds))


@given(policies, st.lists(st.tuples(probabilities, st.none() | worth, ids), max_size=6))
@example(Policy(200, 0, 0, 0.3), [(0.0, None, None), (1.0, None, None), (5e-324, None, None)])
@example(Policy(200, 0, 0, 0.0), [(0.5, None, None), (0.5, 1.0, None)])
@example(Policy(200, 10, 1, 1.0), [(1.0, 5.0, 1), (0.5, 10.0, "1"), (1.0, 1e300, None)])
@settings(max_examples=300, deadline=None)
def test_many_are_decided_exactly_as_one(
    policy: Policy, customers: list[tuple[float, float | None, str | int | None]]
) -> None:
    p = np.array([each[0] for each in customers])
    values = np.array([math.nan if each[1] is None else each[1] for each in customers])
    many = policy.decide_many(p, values, [each[2] for each in customers])
    for place, customer in enumerate(customers):
        one = policy.decide(*customer)
        assert one.action == ACTIONS[many.actions[place]]
        assert one.expected_profit == many.expected_profit[place]
        assert one.threshold == none_if_undefined(many.threshold[place])
        assert one.break_even_acceptance == none_if_undefined(many.break_even_acceptance[place])
    profits = policy.decide_many(p).expected_profit
    assert [policy.decide(each).expected_profit for each in p.tolist()] == profits.tolist()
    assert many.actions.dtype == np.int8


@given(policies, probabilities, st.none() | worth)
@settings(deadline=None)
def test_a_contact_is_made_if_and_only_if_it_is_expected_to_pay(
    policy: Policy, p: float, value: float | None
) -> None:
    decision = policy.decide(p, value)
    assert (decision.action == "contact") == (decision.expected_profit > 0)
    for figure in (decision.threshold, decision.break_even_acceptance):
        assert figure is None or 0 <= figure < math.inf
    # And the threshold says the same, apart from what a rounded figure can say.
    if decision.threshold is not None and abs(p - decision.threshold) > 1e-9:
        scale = policy.offer_cost + policy.contact_cost + (value or policy.customer_value)
        if abs(decision.expected_profit) > 1e-9 * scale:
            assert (p > decision.threshold) == (decision.expected_profit > 0)


@given(
    policies,
    st.floats(0.01, 1),
    st.floats(1, 1e6),
)
@settings(deadline=None)
def test_at_the_break_even_acceptance_a_contact_brings_nothing(
    policy: Policy, p: float, above: float
) -> None:
    value = policy.offer_cost + above
    assume(value > policy.offer_cost)
    needed = policy.decide(p, value).break_even_acceptance
    assert needed is not None
    there = dataclasses.replace(policy, acceptance=needed)
    scale = policy.offer_cost + policy.contact_cost + value * max(needed, 1)
    assert abs(there.decide(p, value).expected_profit) <= 1e-9 * scale


def test_who_surely_stays_is_left_alone_whatever_an_offer_does() -> None:
    decision = Policy(acceptance=1.0).decide(0.0)
    assert decision == ("leave_alone", -11.0, 11 / 200, None)


def test_who_surely_leaves_is_worth_the_accepted_offers() -> None:
    decision = Policy().decide(1.0)
    assert decision == ("contact", 0.3 * 190 - 1, 11 / 67, 1 / 190)


@pytest.mark.parametrize("value", [1e-9, 5.0, 10.0])
def test_who_is_worth_no_more_than_the_offer_is_never_contacted(value: float) -> None:
    decision = Policy().decide(1.0, value)
    assert decision.action == "leave_alone"
    assert decision.expected_profit < 0
    assert decision.threshold is not None
    assert decision.threshold > 1
    assert decision.break_even_acceptance is None


def test_what_costs_nothing_is_worth_any_chance_but_none() -> None:
    free = Policy(offer_cost=0, contact_cost=0)
    assert free.decide(1e-300).action == "contact"
    assert free.decide(0.0) == ("leave_alone", 0.0, 0.0, None)
    assert free.decide(0.5).break_even_acceptance == 0.0


def test_where_nobody_accepts_nobody_is_contacted() -> None:
    assert Policy(acceptance=0).decide(1.0) == ("leave_alone", -1.0, 1.1, 1 / 190)
    # Without an offer's cost either there is no threshold at all: any would be too low.
    assert Policy(acceptance=0, offer_cost=0).decide(1.0)[2] is None
    nothing = Policy(acceptance=0, offer_cost=0, contact_cost=0)
    assert nothing.decide(0.5) == ("leave_alone", 0.0, None, 0.0)


def test_a_contact_costs_itself_and_the_offer_if_that_is_taken() -> None:
    assert Policy().expected_cost(0.0) == 11
    assert Policy().expected_cost(1.0) == pytest.approx(1 + 10 * 0.3)
    costs = Policy().expected_cost(np.array([0.0, 1.0]))
    assert costs == pytest.approx([11, 4])


def test_no_one_is_kept_apart_by_default_nor_without_an_id() -> None:
    assert Policy().decide(0.9, None, "1").action == "contact"
    nearly_all = Policy(control_share=1 - 2**-53, control_salt="s")
    assert nearly_all.decide(0.9).action == "contact"
    assert nearly_all.decide(0.9, None, "1").action == "control"
    assert nearly_all.decide(0.01, None, "1").action == "leave_alone"


def test_text_and_number_of_an_id_fall_alike() -> None:
    policy = Policy(control_share=0.5, control_salt="2026")
    actions = {number: policy.decide(0.9, None, number).action for number in range(200)}
    assert set(actions.values()) == {"contact", "control"}
    assert all(policy.decide(0.9, None, str(id_)).action == each for id_, each in actions.items())


def test_the_control_group_is_the_hash_that_the_documentation_describes() -> None:
    policy = Policy(control_share=0.3, control_salt="spring")
    for number in range(100):
        hashed = hashlib.blake2b(f"spring\0{number}".encode(), digest_size=8).digest()
        apart = int.from_bytes(hashed, "big") / 2**64 < 0.3
        assert (policy.decide(0.9, None, number).action == "control") is apart


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_control_group_has_the_share_that_was_asked_for(share: float) -> None:
    policy = Policy(control_share=share, control_salt="salt")
    actions = policy.decide_many(np.full(20_000, 0.9), ids=range(20_000)).actions
    apart = np.mean(actions == ACTIONS.index("control"))
    assert abs(apart - share) < 4 * math.sqrt(share * (1 - share) / 20_000)


def test_another_salt_picks_others_and_a_larger_share_keeps_who_is_in_it() -> None:
    def apart(share: float, salt: str) -> set[int]:
        policy = Policy(control_share=share, control_salt=salt)
        return {i for i in range(2000) if policy.decide(0.9, None, i).action == "control"}

    assert apart(0.1, "a") < apart(0.2, "a")
    assert len(apart(0.5, "a") & apart(0.5, "b")) == pytest.approx(500, abs=80)


def test_an_id_of_half_a_character_is_an_id() -> None:
    policy = Policy(control_share=0.5, control_salt="\ud800")
    assert policy.decide(0.9, None, "\udfff").action in ACTIONS


def test_the_version_is_that_of_the_figures_as_canonical_json() -> None:
    canonical = (
        '{"acceptance":0.3,"contact_cost":1.0,"control_salt":"","control_share":0.0,'
        '"customer_value":200.0,"offer_cost":10.0}'
    )
    assert Policy().version == hashlib.sha256(canonical.encode()).hexdigest()[:16]
    assert Policy(200, 10, 1).version == Policy().version == Policy(200.0, 10.0).version
    assert Policy(contact_cost=-0.0).version == Policy(contact_cost=0).version


@pytest.mark.parametrize(
    "change",
    [
        {"customer_value": 201.0},
        {"offer_cost": 11.0},
        {"contact_cost": 1.5},
        {"acceptance": 0.31},
        {"control_share": 0.1},
        {"control_salt": "x"},
    ],
)
def test_each_figure_changes_the_version(change: dict[str, Any]) -> None:
    assert Policy(**change).version != Policy().version


def test_the_salt_is_not_among_the_figures_that_are_shown() -> None:
    policy = Policy(control_share=0.1, control_salt="pepper")
    assert "pepper" not in json.dumps(policy.figures)
    assert policy.figures["control_share"] == 0.1


def test_a_policy_goes_to_another_process_whole() -> None:
    policy = Policy(acceptance=0.4, control_share=0.5, control_salt="s")
    sent = pickle.loads(pickle.dumps(policy))  # noqa: S301 - made here
    assert sent == policy
    assert [sent.decide(0.9, None, i) for i in range(20)] == [
        policy.decide(0.9, None, i) for i in range(20)
    ]


def literally(
    profit: Sequence[float],
    cost: Sequence[float],
    eligible: Sequence[bool],
    capacity: int | None,
    budget: float | None,
) -> list[int]:
    """Rank as the sentence says it, step by step."""
    chosen: list[int] = []
    spent = 0.0
    left = [place for place in range(len(profit)) if eligible[place]]
    while left and (capacity is None or len(chosen) < capacity):
        best = max(left, key=lambda place: (profit[place], -place))
        left.remove(best)
        if budget is None or spent + cost[best] <= budget:
            chosen.append(best)
            spent += cost[best]
    return chosen


@given(
    st.lists(
        st.tuples(
            st.integers(-3, 3) | st.floats(-10, 10),
            st.integers(0, 3) | st.floats(0, 10),
            st.booleans(),
        ),
        max_size=12,
    ),
    st.none() | st.integers(0, 13),
    st.none() | st.integers(0, 20) | st.floats(0, 50),
)
@settings(max_examples=300, deadline=None)
def test_the_ranking_is_the_greedy_one(
    customers: list[tuple[float, float, bool]], capacity: int | None, budget: float | None
) -> None:
    profit, cost = [each[0] for each in customers], [each[1] for each in customers]
    eligible = [each[2] for each in customers]
    ranked = rank(
        np.array(profit, dtype=float),
        np.array(cost, dtype=float),
        np.array(eligible, dtype=bool),
        capacity=capacity,
        budget=budget,
    )
    assert ranked.tolist() == literally(profit, cost, eligible, capacity, budget)


def test_who_does_not_fit_the_rest_of_the_budget_is_skipped() -> None:
    ranked = rank(
        np.array([5.0, 4.0, 3.0]),
        np.array([6.0, 6.0, 4.0]),
        np.array([True, True, True]),
        capacity=None,
        budget=10.0,
    )
    assert ranked.tolist() == [0, 2]


def written(folder: Path, content: str | bytes, name: str = "policy.toml") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("policy.toml", "customer_value = 300\nacceptance = 0.2\n"),
        ("policy.toml", "# A comment.\nacceptance = 2e-1\ncustomer_value = 300.0\n"),
        ("policy.TOML", b"\xef\xbb\xbfcustomer_value = 3_00\r\nacceptance = 0.20"),
        ("policy.json", '{"customer_value": 300, "acceptance": 0.2}'),
        ("policy.json", '{"acceptance": 0.20,\n "offer_cost": 10.0, "customer_value": 3e2}'),
        ("policy", ' {"acceptance": 0.2, "customer_value": 300}'),
        ("policy.conf", "acceptance = 0.2\ncustomer_value = 300\ncontact_cost = 1"),
    ],
)
def test_a_policy_is_what_its_file_says_however_it_is_written(
    tmp_path: Path, name: str, content: str | bytes
) -> None:
    policy = read_policy(written(tmp_path, content, name))
    assert policy == Policy(customer_value=300, acceptance=0.2)
    assert policy.version == Policy(customer_value=300.0, acceptance=0.2).version
    assert all(type(figure) is float for figure in dataclasses.astuple(policy)[:5])


def test_a_file_behind_a_link_is_read_as_kubernetes_mounts_it(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    written(tmp_path / "..data", "acceptance = 0.2")
    (tmp_path / "policy.toml").symlink_to(tmp_path / "..data" / "policy.toml")
    assert read_policy(tmp_path / "policy.toml").acceptance == 0.2


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.toml", "", "is empty"),
        ("a.toml", " \n", "is empty"),
        ("a.toml", "# nothing", "has no figure in it; it may have customer_value, offer_cost,"),
        ("a.json", "{}", "has no figure in it"),
        ("a.json", "[1, 2]", 'must be a JSON object, like {"customer_value": 200}'),
        ("a.json", "200", "must be a JSON object"),
        ("a.json", '{"customer_value": 1', "is not JSON: Expecting ',' delimiter: line 1"),
        ("a.json", "customer_value = 1", "is not JSON: "),
        ("a.toml", '{"customer_value": 1}', "is not TOML: "),
        ("a.toml", "customer_value 1", "is not TOML: "),
        ("a.toml", b"\xff\xfea\x00", "is not UTF-8 text (at byte 0)"),
        ("a.toml", b"\x00", "is not TOML: "),
        ("a.toml", "acceptance = 1\nacceptance = 1", "is not TOML: Cannot overwrite"),
        ("a.json", '{"acceptance": 1, "acceptance": 1}', "'acceptance' stands there twice"),
        ("a.json", "[" * 15_000, "is nested too deeply"),
        ("a.toml", "a = " + "[" * 15_000, "is nested too deeply"),
        ("a.toml", "a" * (16 * 1024 + 1), "is larger than 16 KB"),
        ("a.toml", "[policy]\nacceptance = 1", "'policy' is a section"),
        ("a.toml", "ofer_cost = 1", "'ofer_cost' is no figure of a policy (did you mean offer_"),
        ("a.toml", "Customer-Value = 1", "(did you mean customer_value?)"),
        ("a.toml", "version = 1", "'version' is no figure of a policy (it may have customer_value"),
        ("a.toml", f"{'a' * 400} = 1", f"'{'a' * 40}' is no figure"),
        ("a.toml", "customer_value = 0", "customer_value must be a number above 0, up to 1e12"),
        ("a.toml", "customer_value = '200'", "customer_value must be a number above 0"),
        ("a.toml", "customer_value = inf", "customer_value must be a number above 0"),
        ("a.toml", "customer_value = 1979-05-27", "customer_value must be a number above 0"),
        ("a.toml", f"customer_value = {'9' * 400}", "customer_value must be a number above 0"),
        ("a.toml", f"customer_value = {'9' * 5000}", "is not TOML: Exceeds the limit"),
        ("a.json", f'{{"customer_value": {"9" * 5000}}}', "customer_value must be a number above"),
        ("a.json", '{"customer_value": NaN}', "customer_value must be a number above 0"),
        ("a.json", '{"customer_value": null}', "customer_value must be a number above 0"),
        ("a.toml", "offer_cost = -1", "offer_cost must be a number from 0 to 1e12"),
        ("a.toml", "contact_cost = true", "contact_cost must be a number from 0 to 1e12"),
        ("a.toml", "contact_cost = [1]", "contact_cost must be a number from 0 to 1e12"),
        ("a.toml", "acceptance = 30", "acceptance must be a number from 0 to 1"),
        ("a.toml", "acceptance = nan", "acceptance must be a number from 0 to 1"),
        ("a.toml", "control_share = 1", "control_share must be a number from 0 to below 1"),
        ("a.toml", "control_salt = 7", "control_salt must be printable text of up to 128"),
        ("a.toml", 'control_salt = "a\\nb"', "control_salt must be printable text"),
        ("a.toml", f"control_salt = '{'a' * 129}'", "control_salt must be printable text"),
        ("a.toml", "control_share = 0.1", "control_share needs a control_salt"),
        ("a.toml", "offer_cost = 200", "offer_cost must be below customer_value"),
        ("a.toml", "acceptance = 0", "acceptance times (customer_value - offer_cost) must be"),
        ("a.toml", "contact_cost = 57", "must be above contact_cost, or nobody would ever be"),
    ],
)
def test_a_file_that_says_nothing_sensible_is_refused_in_a_sentence(
    tmp_path: Path, name: str, content: str | bytes, sentence: str
) -> None:
    path = written(tmp_path, content, name)
    with pytest.raises(PolicyError) as refused:
        read_policy(path)
    message = str(refused.value)
    assert message.startswith(f"The policy file {path} ")
    assert sentence in message
    assert message.endswith(".")
    assert "\n" not in message
    assert len(message) < 500 + len(str(path))
    assert isinstance(refused.value, SettingsError)


def test_all_faults_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"acceptance must .*; contact_cost must .*; 'x' is no"):
        read_policy(written(tmp_path, "acceptance = 2\ncontact_cost = -1\nx = 1"))


def test_of_the_faults_of_a_file_that_is_something_else_only_some_are_told(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"'k7' is no .*; and more\.$") as refused:
        read_policy(written(tmp_path, "\n".join(f"k{number} = 1" for number in range(1000))))
    assert len(str(refused.value)) < 2000


def test_a_file_that_is_not_there_and_what_is_no_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="is not there"):
        read_policy(tmp_path / "none.toml")
    os.mkfifo(tmp_path / "pipe.toml")
    for path in (tmp_path, tmp_path / "pipe.toml"):
        with pytest.raises(PolicyError, match="is a folder, a pipe or a device, not a file"):
            read_policy(path)


def test_a_file_that_may_not_be_read_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> int:
        raise PermissionError

    path = written(tmp_path, "acceptance = 0.2")
    # Root may read anything, so that the permission has to be taken here.
    monkeypatch.setattr("churn_serving.model.portable.os.open", denied)
    with pytest.raises(PolicyError, match=r"cannot be read \(PermissionError\)"):
        read_policy(path)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@settings(max_examples=200, deadline=None)
def test_no_file_is_answered_by_anything_but_a_policy_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp()
    for name in ("fuzz.toml", "fuzz.json", "fuzz"):
        try:
            read_policy(written(folder, content, name))
        except PolicyError as error:
            assert "\n" not in str(error)  # noqa: PT017 - either is right
