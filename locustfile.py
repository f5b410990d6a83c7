"""Load-test the churn service: ``locust -f locustfile.py --host https://churn.example.com``.

Users ask about customers, one at a time and in batches, for the policy, and whether the service is
ready. Every
answer is checked; a wrong one counts as failed, under the name of what is wrong with it. Needs
Locust (``pip install locust``) and the file of customers; docs/load-testing.md is the guide.

In order: the options, the checks, the user, the limits, and the search for the capacity.
"""

from __future__ import annotations

import json
import logging
import random
import socket
import ssl
import sys
from functools import partial
from http.client import responses
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import gevent
import locust.stats
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError
from locust import FastHttpUser, LoadTestShape, events, task
from locust.exception import CatchResponseError
from locust.runners import MasterRunner, WorkerRunner

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Mapping

    from locust.argument_parser import LocustArgumentParser
    from locust.env import Environment
    from locust.runners import Runner

JSON: TypeAlias = Any

logger = logging.getLogger("churn.load")
draw = random.Random()  # noqa: S311 - customers, no secrets

FILE: Final = Path(__file__).parent / "bench" / "load" / "customers.jsonl"
try:
    CUSTOMERS: Final = [json.loads(line) for line in FILE.read_text("utf-8").splitlines()]
except OSError:
    sys.exit(f"{FILE} is missing: run Locust in a checkout, each of its workers, too.")

# What v2 knows, and customers whom it refuses.
ACTIONS: Final = ("contact", "leave_alone", "control")
DEFAULT_REASONS: Final = 3
NEARLY_0: Final = 1e-6
BAD_CUSTOMERS: Final = ({**CUSTOMERS[0], "num_products": 0}, {"tenure_months": 1}, None)

# Locust counts in whole milliseconds, which is coarse where an answer takes two: keep two digits.
locust.stats.bucket_response_time = lambda milliseconds: float(f"{milliseconds:.2g}")


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Add our own options; an environment variable may set each."""

    def add(name: str, default: float | str, text: str, *, in_web_ui: bool = True) -> None:
        variable = "CHURN_LOAD_" + name.upper().replace("-", "_")
        parser.add_argument(
            f"--{name}",
            type=type(default),
            default=default,
            env_var=variable,
            include_in_web_ui=in_web_ui,
            help=f"{text}. {variable}={default}",
        )

    add("wait-min-ms", 100.0, "A user's shortest pause between two requests")
    add("wait-max-ms", 500.0, "The longest")
    add("max-fail-ratio", 0.0, "Limit: as many requests may fail; 0.01 is one in a hundred")
    add("max-p99-ms", 500.0, "Limit: 99 of 100 answers must come within this")
    # The web page would show the key to everybody; the others count when Locust starts.
    add("api-key", "", "Sent as X-API-Key; the variable keeps it secret", in_web_ui=False)
    add("step-users", 0, "Search the capacity: so many more users each step", in_web_ui=False)
    add("step-seconds", 15.0, "How long a step lasts; its last ten seconds count", in_web_ui=False)


class AnswerError(CatchResponseError):
    """What is wrong with an answer. Locust counts by this text, so there must be few of them."""

    def __repr__(self) -> str:
        return str(self)


STATUSES: Final = responses | {
    **dict.fromkeys((301, 302, 303, 307, 308), "redirected"),
    401: "no valid API key",
    422: "refused",
    429: "overloaded",
    503: "not ready",
    504: "too late",
}
NO_ANSWER: Final[dict[type[BaseException], str]] = {
    gevent.Timeout: "timeout",
    TimeoutError: "timeout",
    ConnectionRefusedError: "connection refused",
    ConnectionError: "connection lost",
    HTTPConnectionClosed: "connection lost",
    HTTPParseError: "answer cut off, or not HTTP",
    socket.gaierror: "unknown host",
    ssl.SSLError: "TLS failed",
}


def why_no_answer(error: BaseException) -> AnswerError:
    """Name the reason why nothing came, or not all of it."""
    error = getattr(error, "original", error)  # the client wraps what it could have tried again
    names = (name for kind, name in NO_ANSWER.items() if isinstance(error, kind))
    return AnswerError(next(names, "connection failed"))


def read(status: int, headers: Mapping[str, str], body: bytes) -> JSON:
    """Return the content of a good answer, or raise ``AnswerError``."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if status != 200:  # noqa: PLR2004 - OK
        name = f"{status} {STATUSES.get(status, 'unknown')}"
        # The service gives its reason in JSON; a proxy in between has pages of its own.
        if not isinstance(answer, dict) or not answer.keys() & {"error", "status"}:
            name += ", not from the service"
        elif status in {429, 503} and "retry-after" not in headers:
            name += ", no Retry-After"
        raise AnswerError(name)
    check("application/json" in headers.get("content-type", ""), "Content-Type is not JSON")
    check(answer is not None, "not JSON")
    return answer


def check(condition: bool, name: str) -> None:  # noqa: FBT001 - reads like an assertion
    """Raise ``AnswerError`` with this name unless the condition holds."""
    if not condition:
        raise AnswerError(name)


def field(answer: JSON, name: str, *kinds: type) -> JSON:
    """Return a field whose type is exactly one of these: ``true`` is no number here."""
    check(isinstance(answer, dict) and name in answer, f"{name} is missing")
    check(type(answer[name]) in kinds, f"{name} has a wrong type")
    return answer[name]


def check_outcome(answer: JSON, prediction: str, probabilities: JSON, *names: str) -> None:
    """Check a prediction, and probabilities; two of them must sum to 1."""
    check(field(answer, prediction, int) in {0, 1}, "prediction is not 0 or 1")
    shares = [field(probabilities, name, float, int) for name in names]
    check(all(0 <= share <= 1 for share in shares), "probability out of range")
    check(len(shares) == 1 or abs(sum(shares) - 1) < 1e-6, "probabilities do not sum to 1")  # noqa: PLR2004 - rounding


def check_prediction(answer: JSON) -> None:
    """Check what ``/predict`` answers."""
    check_outcome(answer, "churn_prediction", answer, "churn_probability")
    check(field(answer, "model_tag", str) != "", "model_tag is empty")


def check_v1(answer: JSON) -> None:
    """Check what each route below ``/api/v1`` says of a customer."""
    check_outcome(answer, "prediction", field(answer, "probability", dict), "no_churn", "churn")


def check_prediction_v1(answer: JSON) -> None:
    """Check what ``/api/v1/predict`` answers."""
    check_v1(answer)
    check(field(answer, "inference_time_ms", float, int) >= 0, "inference time is negative")
    check(field(answer, "model_version", str) != "", "model_version is empty")


def check_batch(answer: JSON, *, size: int) -> None:
    """Check what ``/api/v1/predict/batch`` answers: one result for each customer, in order."""
    results = field(answer, "results", list)
    check(len(results) == field(answer, "batch_size", int) == size, "batch has a wrong size")
    for index, result in enumerate(results):
        check(field(result, "batch_index", int) == index, "batch is not in order")
        check_v1(result)
    check(field(answer, "total_inference_time_ms", float, int) >= 0, "inference time is negative")


def check_v2(answer: JSON, *, asked: JSON) -> None:
    """Check what each route below ``/api/v2`` says of a customer, who was asked about like this."""
    known = field(answer, "customer_id", str, int, type(None))
    wanted = asked.get("customer_id")
    # A bool and an integer are equal, and so are 1 and 1.0.
    check((type(known), known) == (type(wanted), wanted), "customer_id is another one")
    churn = field(answer, "churn_probability", float, int)
    check(0 <= churn <= 1, "probability out of range")
    decision = field(answer, "decision", dict)
    action = field(decision, "action", str)
    check(action in ACTIONS, "action is unknown")
    pays = field(decision, "expected_profit", float, int) > 0
    check(pays == (action != "leave_alone"), "action and expected profit disagree")
    for name in ("threshold", "break_even_acceptance"):
        field(decision, name, float, int, type(None))
    check_reasons(answer, churn, asked.get("max_reasons", DEFAULT_REASONS))
    check_versions(answer)


def check_reasons(answer: JSON, churn: float, most: int) -> None:
    """Check that the reasons are as many as were wanted, and add up to the probability."""
    baseline = field(answer, "baseline", float, int, type(None))
    reasons = field(answer, "reasons", list, type(None))
    check((baseline is None) == (reasons is None), "reasons and baseline disagree")
    if reasons is None:  # the model may know none
        return
    told = [reason for reason in reasons if field(reason, "code", str) != "other"]
    check(len(told) <= most and len(reasons) - len(told) <= 1, "reasons are too many")
    check(told == reasons[: len(told)], "other reasons are not the last")
    impacts = [field(reason, "impact", float, int) for reason in reasons]
    for reason, impact in zip(reasons, impacts, strict=True):
        wanted = "raises" if impact > 0 else "lowers" if impact < 0 else "leaves"
        check(field(reason, "direction", str) == wanted, "direction is wrong")
        check(field(reason, "message", str) != "", "message is empty")
    sizes = [abs(impact) for impact in impacts[: len(told)]]
    check(sizes == sorted(sizes, reverse=True), "reasons are not in order")
    odds = exp(-baseline - sum(impacts))
    # Where an estimate of exactly 0 or 1 has no log-odds, the reasons are of one just inside.
    inside = min(max(churn, NEARLY_0), 1 - NEARLY_0)
    missed = min(abs(1 / (1 + odds) - share) for share in (churn, inside))
    check(missed <= 1e-9, "reasons do not add up")  # noqa: PLR2004 - what the service promises


def check_batch_v2(answer: JSON, *, asked: JSON) -> None:
    """Check what ``/api/v2/predict/batch`` answers: errors in their places, and the ranking."""
    items, results = asked["items"], field(answer, "results", list)
    check(len(results) == len(items), "batch has a wrong size")
    good = []
    for place, (item, result) in enumerate(zip(items, results, strict=True)):
        if item["customer"] in BAD_CUSTOMERS:
            check(field(result, "error", str) != "", "error is empty")
            check(field(result, "detail", list) != [], "detail is empty")
        else:
            check_v2(result, asked=item)
            good.append(place)
    ranking = field(answer, "ranking", list)
    decisions = {place: results[place]["decision"] for place in good}
    profits = {
        place: decision["expected_profit"]
        for place, decision in decisions.items()
        if decision["action"] == "contact"
    }
    best = sorted(profits, key=lambda place: (-profits[place], place))
    check(ranking == best[: asked["capacity"]], "ranking is wrong")
    totals = field(answer, "totals", dict)
    counted = {
        "customers": len(good),
        "refused": len(items) - len(good),
        "contacts": len(ranking),
        "control": sum(decision["action"] == "control" for decision in decisions.values()),
    }
    check(all(field(totals, name, int) == n for name, n in counted.items()), "totals are wrong")
    profit = sum(profits[place] for place in ranking)
    found = field(totals, "expected_profit", float, int)
    check(abs(found - profit) <= 1e-6 * max(1, profit), "totals are wrong")
    check(field(totals, "expected_cost", float, int) >= 0, "totals are wrong")
    check_versions(answer)


def check_policy(answer: JSON) -> None:
    """Check what ``/api/v2/policy`` answers."""
    figures = field(answer, "policy", dict)
    for name in ("customer_value", "offer_cost", "contact_cost", "acceptance", "control_share"):
        check(field(figures, name, float, int) >= 0, f"{name} is negative")
    check(field(answer, "policy_version", str) != "", "policy_version is empty")
    field(answer, "threshold", float, int, type(None))


def check_versions(answer: JSON) -> None:
    """Check that an answer says who gave it, and by which policy."""
    for name in ("model_version", "policy_version"):
        check(field(answer, name, str) != "", f"{name} is empty")


def check_readiness(answer: JSON) -> None:
    """Check what ``/health/ready`` answers."""
    check(field(answer, "status", str) == "ready", "status is not ready")
    check(field(answer, "model_version", str) != "", "model_version is empty")


def case(number: int) -> dict[str, JSON]:
    """Return a customer as v2 takes one: with an id of text, a number or none, and options."""
    body = {"customer": draw.choice(CUSTOMERS)}
    if draw.randrange(10):  # most have an id
        body["customer_id"] = draw.choice([f"C-{number}", number])
    if draw.getrandbits(1):
        body["customer_value"] = round(draw.uniform(20, 1000), 2)
    if draw.getrandbits(1):
        body["max_reasons"] = draw.randint(0, 7)
    return body


def batch_of_cases() -> dict[str, JSON]:
    """Return some of them, a few of them bad, and how many can be contacted."""
    items = [case(number) for number in draw.sample(range(10**6), k=draw.randint(20, 100))]
    for item in draw.sample(items, k=draw.randint(0, 3)):
        item["customer"] = draw.choice(BAD_CUSTOMERS)
    return {"items": items, "capacity": draw.randint(1, len(items))}


class ChurnUser(FastHttpUser):
    """Asks about single customers (weight 12), batches (3), the policy (1) and readiness (1)."""

    connection_timeout = 5.0
    network_timeout = 10.0  # the service's own deadline is half of that
    # The API key is for this host only, and only with a good certificate.
    max_redirects = 0
    insecure = False

    def on_start(self) -> None:
        """Prepare what all requests have in common."""
        key = self.environment.parsed_options.api_key
        self.headers = {"Accept-Encoding": "identity", **({"X-API-Key": key} if key else {})}
        self.client.base_url = self.client.base_url.rstrip("/")

    def wait_time(self) -> float:
        """Return the seconds until the next request."""
        options = self.environment.parsed_options
        return draw.uniform(options.wait_min_ms, options.wait_max_ms) / 1000

    @task(4)
    def predict(self) -> None:
        """Ask about one customer."""
        self.ask("POST", "/predict", check_prediction, draw.choice(CUSTOMERS))

    @task(4)
    def predict_v1(self) -> None:
        """Ask about one customer, on the versioned route."""
        self.ask("POST", "/api/v1/predict", check_prediction_v1, draw.choice(CUSTOMERS))

    @task(2)
    def predict_batch(self) -> None:
        """Ask about some customers at once."""
        items = draw.choices(CUSTOMERS, k=draw.randint(5, 20))
        self.ask(
            *("POST", "/api/v1/predict/batch"),
            partial(check_batch, size=len(items)),
            {"items": items},
        )

    @task(4)
    def predict_v2(self) -> None:
        """Ask what to do about one customer, and why; now and then only to try something."""
        body = case(draw.randrange(10**6)) | {"what_if": not draw.randrange(5)}
        self.ask("POST", "/api/v2/predict", partial(check_v2, asked=body), body)

    @task(1)
    def predict_batch_v2(self) -> None:
        """Ask whom of some customers to contact; a few items are bad."""
        body = batch_of_cases()
        self.ask("POST", "/api/v2/predict/batch", partial(check_batch_v2, asked=body), body)

    @task(1)
    def policy(self) -> None:
        """Ask by which policy is decided."""
        self.ask("GET", "/api/v2/policy", check_policy)

    @task(1)
    def ready(self) -> None:
        """Ask what a load balancer asks."""
        self.ask("GET", "/health/ready", check_readiness)

    def ask(
        self, method: str, path: str, checked: Callable[[JSON], None], body: JSON = None
    ) -> None:
        """Send a request; it has failed unless its answer passes the check."""
        with self.client.request(
            method,
            path,
            json=body,
            headers=self.headers,
            catch_response=True,
        ) as response:
            broken_off = response.request_meta["exception"]
            try:
                if broken_off and response.status_code in {0, 200}:
                    raise why_no_answer(broken_off)
                checked(read(response.status_code, response.headers, response.content))
            except AnswerError as error:
                response.failure(error)


class Figures(NamedTuple):
    """What was measured in a test, or lately."""

    rate: float
    fail_ratio: float
    p99_ms: float

    def __str__(self) -> str:
        failed = f"{100 * self.fail_ratio:.3g}% failed"
        return f"{self.rate:,.0f} requests/s, {failed}, p99 {self.p99_ms:g} ms"

    def broken_limit(self, limits: Namespace) -> str:
        """Return which limit was broken, and by what; nothing, if all of them held."""
        if not self.rate:
            return "nothing was answered"
        if self.fail_ratio > limits.max_fail_ratio:
            allowed = f"{100 * limits.max_fail_ratio:.3g}%"
            return f"{100 * self.fail_ratio:.3g}% of the requests failed (limit: {allowed})"
        if self.p99_ms > limits.max_p99_ms:
            return f"p99 was {self.p99_ms:g} ms (limit: {limits.max_p99_ms:g} ms)"
        return ""


@events.quitting.add_listener
def judge(environment: Environment, **_: object) -> None:
    """Hold the test against its limits: they decide Locust's exit code, and one sentence."""
    runner, total = environment.runner, environment.stats.total
    if isinstance(runner, WorkerRunner):
        return
    if isinstance(environment.shape_class, StepSearch):
        passed, sentence = environment.shape_class.result()
    else:
        p99 = total.get_response_time_percentile(0.99)
        figures = Figures(total.total_rps, total.fail_ratio, p99)
        broken = figures.broken_limit(environment.parsed_options)
        passed, sentence = not broken, f"Failed: {broken}." if broken else f"Passed: {figures}."
    if errors := environment.stats.errors.values():
        most = max(errors, key=lambda error: error.occurrences)
        sentence += f" Most frequent failure: {most.error}."
    if runner.exceptions:
        passed, sentence = False, "Failed: the load test itself has errors; they are above."
    if runner.cpu_warning_emitted or runner.worker_cpu_warning_emitted:
        sentence += " But Locust itself lacked CPU time: use --processes, or other machines."
    environment.process_exit_code = 0 if passed else 1
    level = logging.INFO if passed else logging.ERROR
    # Below Locust's own tables.
    environment.events.quit.add_listener(lambda **_: logger.log(level, sentence))


@events.init.add_listener
def search_if_asked(environment: Environment, runner: Runner, **_: object) -> None:
    """Let --step-users put the search below in the place of a constant load."""
    options = environment.parsed_options
    if options.step_users and not isinstance(runner, WorkerRunner):
        environment.shape_class = StepSearch(environment)
        if isinstance(runner, MasterRunner):  # its workers report late
            options.step_seconds = max(options.step_seconds, 15.0)


class StepSearch(LoadTestShape):
    """Adds users, step by step, until a limit is broken; --run-time may end it before that."""

    abstract = True  # without this, Locust would use it in every test
    use_common_options = True

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.reset_time()

    def reset_time(self) -> None:
        """Begin; Locust calls this when a test starts."""
        super().reset_time()
        self.steps = 1
        self.held = self.broken = ""

    def tick(self) -> tuple[int, float] | None:
        """Return how many users there shall be, and how many may come in a second."""
        options, now = self.environment.parsed_options, self.get_run_time()
        users = self.steps * options.step_users
        if now >= self.steps * options.step_seconds:
            figures = self.lately()
            self.broken = figures.broken_limit(options)
            logger.info("%d users: %s%s", users, figures, "; too much" * bool(self.broken))
            if self.broken:
                self.broken = f"at {users} users, {self.broken}"
                return None
            self.held = f"{users} users held: {figures}"
            self.steps += 1
            users += options.step_users
        if options.run_time and now >= options.run_time:
            return None
        return users, options.step_users

    def lately(self) -> Figures:
        """Return what was measured in the last ten seconds, which Locust keeps apart."""
        total = self.environment.stats.total
        rate = total.current_rps
        fail_ratio = total.current_fail_per_sec / rate if rate else 0.0
        return Figures(rate, fail_ratio, total.get_current_response_time_percentile(0.99) or 0.0)

    def result(self) -> tuple[bool, str]:
        """Return whether a step held, and a sentence about the last ones."""
        ended = self.broken or "then the test was ended"
        return bool(self.held), f"{self.held or 'No step held'}; {ended}."
