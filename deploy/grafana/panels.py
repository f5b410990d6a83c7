"""What the dashboard asks, top to bottom, and what to do about each answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from churn_serving.http.api import ENDPOINTS

__all__ = [
    "ALLOWED_FAILURES",
    "BUSY_CPU",
    "EVENTS",
    "ROWS",
    "SLOW_SECONDS",
    "Panel",
    "Query",
    "Row",
]

Kind: TypeAlias = Literal["timeseries", "stat", "table", "heatmap"]

GREEN: Final = "green"
YELLOW: Final = "yellow"
ORANGE: Final = "orange"
RED: Final = "red"
GREY: Final = "#8e8e8e"
BLUE: Final = "blue"

# The limits that rules.yaml alerts at.
SLOW_SECONDS: Final = 0.1
ALLOWED_FAILURES: Final = 0.001
BUSY_CPU: Final = 0.9

# What most selectors begin with. Recorded series are of all instances of the job.
S: Final = 'job="$job", instance=~"$instance"'
J: Final = 'job="$job"'
ROUTES: Final = f'route=~"{"|".join(sorted(ENDPOINTS))}"'
# As in rules.yaml: valid requests, those of them that failed, and those that took their time.
VALID: Final = 'status=~"2..|429|5.."'
FAILED: Final = 'status=~"429|5.."'
TIMED: Final = 'status=~"2..|499|504"'
LEFT: Final = 'status="499"'
R: Final = "[$__rate_interval]"
# An instance serves one version: what it counts is that version's.
OF_ITS_VERSION: Final = f"* on (job, instance) group_left (model_version) ml_model_info{{{S}}}"


@dataclass(frozen=True, slots=True)
class Query:
    """What Prometheus is asked.

    Attributes:
        expr: PromQL.
        legend: How a series is called; in a table, how the column is, or none without a name.
        unit: Of a table's column.
        color: Of the series.
        dashed: Drawn as a limit, not as a figure.
    """

    expr: str
    legend: str
    unit: str = "short"
    color: str | None = None
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One figure of the dashboard.

    Attributes:
        title: What it shows, in plain words.
        text: What it means and what to do, for whoever is on call.
        queries: What it draws.
        unit: Grafana's name of the unit.
        kind: Grafana's name of the panel.
        width: Of 24 columns.
        height: About 30 pixels each.
        alerts: The alerts it explains; it links to their sections in the runbook.
        thresholds: From which value on which colour; the first value is None.
        values: What a figure is called instead of its number.
        colors: Of the series whose names match a regular expression.
        stacked: Series add up.
        empty: What is shown while there is nothing to show.
        top: The axis ends there at least.
    """

    title: str
    text: str
    queries: tuple[Query, ...]
    unit: str
    kind: Kind = "timeseries"
    width: int = 8
    height: int = 8
    alerts: tuple[str, ...] = ()
    thresholds: tuple[tuple[float | None, str], ...] = ()
    values: tuple[tuple[float, str, str], ...] = ()
    colors: tuple[tuple[str, str], ...] = ()
    stacked: bool = False
    empty: str = "no data"
    top: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A question, and the panels that answer it."""

    title: str
    panels: tuple[Panel, ...]


def ratio(part: str, whole: str, by: str) -> str:
    """Return a share that is 0 without a part, and absent without a whole."""
    part, whole = f"sum by ({by}) ({part})", f"sum by ({by}) ({whole})"
    return f"({part} or 0 * {whole}) / ({whole} > 0)"


def mean(histogram: str) -> str:
    """Return the mean of a histogram; 0 while nothing is observed."""
    total, count = (f"sum(rate({histogram}_{part}{{{S}}}{R}))" for part in ("sum", "count"))
    return f"{total} / ({count} > 0) or vector(0)"


def requests(*matchers: str) -> str:
    """Return the rate of the prediction requests."""
    return f"rate(http_request_duration_seconds_count{{{', '.join((S, ROUTES, *matchers))}}}{R})"


def latency(quantile: float, by: str = "", join: str = "") -> str:
    """Return a quantile of the time that prediction requests took."""
    buckets = f"rate(http_request_duration_seconds_bucket{{{S}, {ROUTES}, {TIMED}}}{R})"
    grouped = ", ".join(filter(None, (by, "le")))
    return f"histogram_quantile({quantile}, sum by ({grouped}) ({f'{buckets} {join}'.strip()}))"


_STATUS_COLORS: Final = (
    ("2..", GREEN),
    ("3..", GREY),
    ("4..", YELLOW),
    ("429", ORANGE),
    ("499", "purple"),
    ("5..", RED),
)

UP: Final = Row(
    "Are we up?",
    (
        Panel(
            "Instances that answer",
            "Share of the known instances that Prometheus can scrape. **Not 100 %**: ask the "
            "silent one for `/health`, and start it again. **0 %**: nobody is served, or only the "
            "scrape is broken; ask any instance for `/health/ready`.",
            (Query(f"avg(up{{{S}}})", "answer"),),
            "percentunit",
            kind="stat",
            width=4,
            height=5,
            alerts=("ChurnServingDown", "ChurnInstanceDown"),
            thresholds=((None, RED), (0.01, ORANGE), (1, GREEN)),
            empty="no instance known",
        ),
        Panel(
            "Workers that are ready",
            "Ready workers, as a share of those configured. **Not 100 % for minutes**: "
            "`/health/ready` says why (loading, failed, draining).",
            (Query(f"sum(ml_workers_ready{{{S}}}) / sum(ml_workers{{{S}}})", "ready"),),
            "percentunit",
            kind="stat",
            width=4,
            height=5,
            alerts=("ChurnNoReadyWorker", "ChurnWorkersNotReady"),
            thresholds=((None, RED), (0.01, ORANGE), (1, GREEN)),
            empty="no worker",
        ),
        Panel(
            "Valid requests answered",
            "Share of the valid prediction requests of the last 5 minutes, of all instances, that "
            "did not end in 5xx or 429. The objective is 99.9 % over 30 days. Below: look at the "
            "statuses beside, then at the errors under *What is the model saying?*",
            (Query(f"1 - job:prediction_failures_per_requests:ratio_rate5m{{{J}}}", "answered"),),
            "percentunit",
            kind="stat",
            width=4,
            height=5,
            alerts=("ChurnErrorBudgetBurn",),
            thresholds=(
                (None, RED),
                (1 - 14.4 * ALLOWED_FAILURES, ORANGE),
                (1 - ALLOWED_FAILURES, GREEN),
            ),
            empty="no requests",
        ),
        Panel(
            "Circuit breaker",
            "Of the worst worker. **Open**: at least half of the model's calls failed, and "
            "predictions are refused with 503. Read the exception in the log; if the model or the "
            "release is new, go back to the last good one.",
            (Query(f"max(ml_breaker_state{{{S}}}) or vector(0)", "state"),),
            "none",
            kind="stat",
            width=4,
            height=5,
            alerts=("ChurnBreakerOpen",),
            thresholds=((None, GREEN), (1, ORANGE), (2, RED)),
            values=((0, "closed", GREEN), (1, "half open", ORANGE), (2, "open", RED)),
        ),
        Panel(
            "Unwritten metrics",
            "How often, in the last 15 minutes, a worker could not write its figures. **Not 0**: "
            "believe nothing here about that instance; look for a full or read-only disk below "
            "`BENTOML_HOME`.",
            (Query(f"sum(increase(ml_metrics_write_errors_total{{{S}}}[15m]))", "failed writes"),),
            "short",
            kind="stat",
            width=4,
            height=5,
            alerts=("ChurnMetricsWriteErrors",),
            thresholds=((None, GREEN), (0.5, RED)),
        ),
        Panel(
            "Alerts firing",
            "Alerts of this job that fire now. **Not 0**: the table below names them, and the "
            "bottom of this page has the first step for each.",
            (Query(f'count(ALERTS{{{J}, alertstate="firing"}}) or vector(0)', "alerts"),),
            "short",
            kind="stat",
            width=4,
            height=5,
            thresholds=((None, GREEN), (1, RED)),
        ),
        Panel(
            "Prediction requests by status",
            "All prediction routes. 2xx: answered. 4xx: the client's mistake, does not count "
            "against us. 429: refused for overload. 499: the client left. 5xx: our failure. **Red "
            "or orange grows**: read `ml_errors_total` below by kind, then the log.",
            (Query(f"sum by (status) ({requests()})", "{{status}}"),),
            "reqps",
            alerts=("ChurnErrorBudgetBurn",),
            colors=_STATUS_COLORS,
            stacked=True,
            empty="no requests",
        ),
        Panel(
            "Error budget: how fast it is used",
            "1 uses exactly the failures allowed in 30 days (0.1 %). 14.4 over an hour pages: the "
            "budget is gone in 2 days. 6 over 6 hours pages, too. All instances of the job.",
            tuple(
                Query(
                    f"job:prediction_failures_per_requests:ratio_rate{window}{{{J}}} "
                    f"/ {ALLOWED_FAILURES}",
                    f"over {name}",
                )
                for window, name in (("5m", "5 minutes"), ("1h", "1 hour"), ("6h", "6 hours"))
            ),
            "short",
            alerts=("ChurnErrorBudgetBurn",),
            thresholds=((None, GREEN), (1, ORANGE), (14.4, RED)),
            empty="no requests",
            top=2,
        ),
        Panel(
            "Workers",
            "Configured, running and ready. **Fewer run than are configured**: one has died; in a "
            "container nobody replaces it, so start that instance again. **Fewer are ready than "
            "run**: they load, drain or have failed; `/health/ready` says which.",
            (
                Query(f"sum(ml_workers{{{S}}})", "configured", color=GREY, dashed=True),
                Query(f"sum(ml_workers_live{{{S}}})", "running", color=BLUE),
                Query(f"sum(ml_workers_ready{{{S}}})", "ready", color=GREEN),
            ),
            "short",
            alerts=("ChurnWorkersMissing", "ChurnWorkersNotReady", "ChurnInstanceDown"),
            empty="no worker",
        ),
        Panel(
            "Alerts, pending and firing",
            "`pending` has been true for less time than the rule asks for, `firing` has been "
            "reported. A *page* means customers are refused now or soon; a *ticket* can wait for "
            "the working day. The first step for each is at the bottom of this page.",
            (
                Query(
                    f"max by (alertname, alertstate, severity, instance) (ALERTS{{{J}}})",
                    "",
                ),
            ),
            "none",
            kind="table",
            width=24,
            height=5,
            empty="No alert is pending or firing.",
        ),
    ),
)

FAST: Final = Row(
    "Are we fast?",
    (
        Panel(
            "Time to answer a prediction",
            "From a request's header to its answer, all prediction routes. A few milliseconds "
            "are usual. **p99 above the line (100 ms)**: see in *Where the time goes* whether it "
            "is the queue, the model or neither.",
            (
                Query(latency(0.5), "p50", color=GREEN),
                Query(latency(0.95), "p95", color=YELLOW),
                Query(latency(0.99), "p99", color=ORANGE),
            ),
            "s",
            alerts=("ChurnLatencyHigh",),
            thresholds=((None, GREEN), (SLOW_SECONDS, RED)),
            empty="no requests",
        ),
        Panel(
            "p99 by route",
            "One request in a hundred takes longer. Batches take longer than single customers, and "
            "those of v2, up to 1,000 customers, the longest. **One route only is slow**: look at "
            "who calls it, and with what.",
            (Query(latency(0.99, by="route"), "{{route}}"),),
            "s",
            alerts=("ChurnLatencyHigh",),
            thresholds=((None, GREEN), (SLOW_SECONDS, RED)),
            empty="no requests",
        ),
        Panel(
            "Where the time goes",
            "Means. **The queue grows**: add instances. **The model grows**: go back if it is new, "
            "else look for other programs on the machine. **Only the whole grows**: the CPU is "
            "busy, or bodies arrive slowly. Nothing queues for a model that is fast enough to be "
            "called at once; its queue stays at 0.",
            (
                Query(mean("http_request_duration_seconds"), "whole request", color=BLUE),
                Query(mean("ml_queue_wait_seconds"), "in the queue", color=ORANGE),
                Query(mean("ml_inference_duration_seconds"), "one call of the model", color=GREEN),
            ),
            "s",
            alerts=("ChurnLatencyHigh", "ChurnDeadlinesMissed"),
        ),
        Panel(
            "All answers by their time",
            "Each column is a moment, darker cells are more answers. Two bands are usual when "
            "single customers and batches come together. **A band moves up**: something got slower "
            "for everybody. **A new band appears**: for some, by route, instance or version.",
            (
                Query(
                    f"sum by (le) (increase(http_request_duration_seconds_bucket{{"
                    f"{S}, {ROUTES}, {TIMED}}}{R}))",
                    "{{le}}",
                ),
            ),
            "s",
            kind="heatmap",
            width=16,
            alerts=("ChurnLatencyHigh",),
            empty="no requests",
        ),
        Panel(
            "One call of the model",
            "Whatever the size of its batch. **It steps up** with a new version: measure that "
            "version before it gets more traffic, or go back.",
            tuple(
                Query(
                    f"histogram_quantile({quantile}, sum by (le) ("
                    f"rate(ml_inference_duration_seconds_bucket{{{S}}}{R})))",
                    name,
                    color=color,
                )
                for quantile, name, color in ((0.5, "p50", GREEN), (0.99, "p99", ORANGE))
            ),
            "s",
            alerts=("ChurnLatencyHigh", "ChurnBreakerOpen"),
            empty="no calls",
        ),
    ),
)

OVERLOADED: Final = Row(
    "Are we overloaded?",
    (
        Panel(
            "CPU of a worker",
            "Of one CPU, which is all a worker can use. **Above 90 %**: the next increase of "
            "traffic makes requests wait; add instances, or workers while the machine has idle "
            "CPUs. Busy without traffic: start that instance again.",
            (
                Query(
                    f"sum by (instance) (rate(process_cpu_seconds_total{{{S}}}{R})) "
                    f"/ (sum by (instance) (ml_workers{{{S}}}) > 0)",
                    "{{instance}}",
                ),
            ),
            "percentunit",
            alerts=("ChurnCpuSaturated",),
            thresholds=((None, GREEN), (BUSY_CPU, RED)),
            top=1,
        ),
        Panel(
            "Customers waiting for the model",
            "Beside the places there are. **Above 80 % of them for minutes**: add instances; a "
            "larger `CHURN_QUEUE_SIZE` only lets them wait longer. Both are 0 for a model that is "
            "called at once.",
            (
                Query(f"sum by (instance) (ml_queue_depth{{{S}}})", "{{instance}}"),
                Query(f"sum(ml_queue_capacity{{{S}}})", "places", color=GREY, dashed=True),
            ),
            "short",
            alerts=("ChurnQueueNearlyFull",),
        ),
        Panel(
            "Requests refused, by reason",
            "Refused at once, so that what is accepted is answered in time. `queue_full`, "
            "`deadline`: add instances. `slow_bodies`: a broken proxy or an attack. "
            "`breaker_open`: the model fails.",
            (
                Query(
                    f"sum by (reason) (rate(ml_shed_total{{{S}}}{R}))",
                    "{{reason}}",
                ),
            ),
            "reqps",
            alerts=("ChurnShedding",),
            stacked=True,
        ),
        Panel(
            "Accepted, but too late or left",
            "504: accepted, and the answer was not ready in time; this should never happen for "
            "long. 499: the client did not wait. **Either grows**: compare the queue with the "
            "model in *Where the time goes*.",
            (
                Query(
                    f"sum(rate(ml_deadline_missed_total{{{S}}}{R}))", "too late (504)", color=RED
                ),
                Query(f"sum({requests(LEFT)}) or vector(0)", "left (499)", color="purple"),
            ),
            "reqps",
            alerts=("ChurnDeadlinesMissed",),
        ),
        Panel(
            "Requests being answered",
            "At the moment of the scrape, which is one itself. **It climbs and stays**: answers "
            "are slower than requests come. One instance has far more than the others: ask the "
            "load balancer why.",
            (Query(f"sum by (instance) (http_requests_in_flight{{{S}}})", "{{instance}}"),),
            "short",
            alerts=("ChurnQueueNearlyFull",),
        ),
        Panel(
            "Memory",
            "Of all workers of an instance; what they share counts in each. It should be flat "
            "after the start. **It grows for a day**: start that instance again before it meets "
            "its limit, and write down when the growth began.",
            (Query(f"sum by (instance) (process_resident_memory_bytes{{{S}}})", "{{instance}}"),),
            "bytes",
            alerts=("ChurnMemoryGrowing",),
        ),
    ),
)

MODEL: Final = Row(
    "What is the model saying?",
    (
        Panel(
            "Customers scored",
            "By predicted outcome; a batch counts as many customers as it has. **It drops while "
            "requests do not**: they fail or are refused. **It stops**: nobody asks, or nobody is "
            "let in.",
            (
                Query(
                    f"sum by (outcome) (rate(ml_predictions_total{{{S}}}{R}))",
                    "{{outcome}}",
                ),
            ),
            "cps",
            alerts=("ChurnRateUnusual",),
            colors=(("churn", ORANGE), ("no_churn", BLUE)),
            stacked=True,
        ),
        Panel(
            "Predicted to leave",
            "Share of the last 1,000 customers of each instance, by model version; dashed: the "
            "usual band of rules.yaml. **Outside**: find what changed at that time, the model, its "
            "threshold or the customers. If the customers really are like that, write your own "
            "band into rules.yaml.",
            (
                Query(
                    f"avg by (model_version) (ml_churn_rate_rolling{{{S}}})", "{{model_version}}"
                ),
                Query(f"job:churn_rate_usual:min{{{J}}}", "usual, least", color=GREY, dashed=True),
                Query(f"job:churn_rate_usual:max{{{J}}}", "usual, most", color=GREY, dashed=True),
            ),
            "percentunit",
            alerts=("ChurnRateUnusual",),
            empty="no predictions",
            top=1,
        ),
        Panel(
            "Errors by kind",
            "Every request that ended in an error. `ValidationFailedError`, `MalformedBodyError`: "
            "what the client sent. `QueueFullError`, `DeadlineUnreachableError`: the row above. "
            "`ScoringError`, or a name that errors.py does not explain: the model or we; find it "
            "in the log by that name.",
            (
                Query(
                    # There is no series of a kind that has never come.
                    f"sum by (error_type) (rate(ml_errors_total{{{S}}}{R})) "
                    'or on () label_replace(vector(0), "error_type", "no errors", "", "")',
                    "{{error_type}}",
                ),
            ),
            "reqps",
            alerts=("ChurnErrorBudgetBurn", "ChurnBreakerOpen"),
            stacked=True,
        ),
    ),
)

DECIDED: Final = "ml_decisions_total{" + S + "%s}"
CONTACT: Final = ', action="contact"'
CONTROL: Final = ', action="control"'
WORTH_IT: Final = ', action=~"contact|control"'

DECISIONS: Final = Row(
    "What do we decide? Whom to contact, and why (/api/v2)",
    (
        Panel(
            "Decisions",
            "Customers decided about, by action. `control` would be worth a contact, but is kept "
            "apart to measure what contacts bring; without a control share it stays at 0. **It "
            "stops while requests come**: somebody asks v0 and v1 only. Nothing here wakes anybody "
            "up: service and model have panels of their own above.",
            (Query(f"sum by (action) (rate({DECIDED % ''}{R}))", "{{action}}"),),
            "cps",
            width=6,
            colors=(("contact", ORANGE), ("leave_alone", BLUE), ("control", GREY)),
            stacked=True,
        ),
        Panel(
            "Worth a contact",
            "Share of the customers, and of those the share that is kept apart as control. **It "
            "steps**: the policy file has changed (`/api/v2/policy` shows the one in force), or "
            "the model. **It drifts**: so do the customers, see *Predicted to leave*.",
            (
                Query(
                    ratio(f"rate({DECIDED % WORTH_IT}{R})", f"rate({DECIDED % ''}{R})", "job"),
                    "worth a contact",
                    color=ORANGE,
                ),
                Query(
                    ratio(f"rate({DECIDED % CONTROL}{R})", f"rate({DECIDED % WORTH_IT}{R})", "job"),
                    "of them control",
                    color=GREY,
                ),
            ),
            "percentunit",
            width=6,
            empty="no decisions",
            top=1,
        ),
        Panel(
            "Expected profit",
            "What a contact is expected to gain, by the policy's figures and in its currency; and "
            "the same spread over all customers decided about. An estimate, not what came true. "
            "**It falls at once**: compare the policy in force with the one that was agreed on.",
            tuple(
                Query(
                    f"sum(rate(ml_expected_profit_total{{{S}}}{R})) "
                    f"/ (sum(rate({DECIDED % matcher}{R})) > 0)",
                    name,
                    color=color,
                )
                for matcher, name, color in (
                    (CONTACT, "of a contact", ORANGE),
                    ("", "of a customer", BLUE),
                )
            ),
            "short",
            width=6,
            empty="no decisions",
        ),
        Panel(
            "Strongest reasons",
            "Customers by the field that moves their estimate most, and whether it raises or "
            "lowers it. Reasons explain the model and are no causes. **One takes over**: look "
            "whether that field still comes as it used to, before you believe it of the customers.",
            (
                Query(
                    f"sum by (code, direction) (rate(ml_reasons_total{{{S}}}{R})) > 0",
                    "{{code}} {{direction}}",
                ),
            ),
            "cps",
            width=6,
            stacked=True,
            empty="no reasons told",
        ),
    ),
)

VERSIONS: Final = Row(
    "What is each version doing? The canary beside the stable one",
    (
        Panel(
            "Each version at a glance",
            "**Promote the canary** when, after at least an hour and a few thousand requests, it "
            "fails no more often and answers no slower than the stable version, and its share of "
            "predicted churn is one that you expect. **Else take its traffic away**: that is "
            "always safe. Rates are those of the last minutes.",
            (
                Query(
                    f"count by (model_version, model_name, estimator) (ml_model_info{{{S}}})",
                    "Instances",
                ),
                Query(
                    f"sum by (model_version) ({requests(VALID)} {OF_ITS_VERSION})",
                    "Requests",
                    "reqps",
                ),
                Query(
                    ratio(
                        f"{requests(FAILED)} {OF_ITS_VERSION}",
                        f"{requests(VALID)} {OF_ITS_VERSION}",
                        "model_version",
                    ),
                    "Failed",
                    "percentunit",
                ),
                Query(latency(0.99, "model_version", OF_ITS_VERSION), "p99", "s"),
                Query(
                    f"avg by (model_version) (ml_churn_rate_rolling{{{S}}})",
                    "Predicted to leave",
                    "percentunit",
                ),
                Query(
                    f"max by (model_version) (ml_model_memory_bytes{{{S}}})",
                    "Size of the model",
                    "bytes",
                ),
            ),
            "short",
            kind="table",
            width=24,
            height=5,
            alerts=("ChurnErrorBudgetBurn", "ChurnRateUnusual"),
            empty="no version serves",
        ),
        Panel(
            "Requests by version",
            "Valid prediction requests. **The canary's share is not the one you set**: look at the "
            "route's weights, and whether its instances are ready.",
            (
                Query(
                    f"sum by (model_version) ({requests(VALID)} {OF_ITS_VERSION})",
                    "{{model_version}}",
                ),
            ),
            "reqps",
            width=6,
            alerts=("ChurnErrorBudgetBurn",),
            stacked=True,
            empty="no requests",
        ),
        Panel(
            "Failed, by version",
            "Share of the valid requests that ended in 5xx or 429. **The canary's is higher for "
            "some minutes**: take its traffic away, then find out why.",
            (
                Query(
                    ratio(
                        f"{requests(FAILED)} {OF_ITS_VERSION}",
                        f"{requests(VALID)} {OF_ITS_VERSION}",
                        "model_version",
                    ),
                    "{{model_version}}",
                ),
            ),
            "percentunit",
            width=6,
            alerts=("ChurnErrorBudgetBurn",),
            thresholds=((None, GREEN), (14.4 * ALLOWED_FAILURES, RED)),
            empty="no requests",
        ),
        Panel(
            "p99 by version",
            "One request in a hundred takes longer. **The canary's is higher**: compare the "
            "estimators in the table above; another kind of model may be slower by nature. Decide "
            "whether that is worth it.",
            (Query(latency(0.99, "model_version", OF_ITS_VERSION), "{{model_version}}"),),
            "s",
            width=6,
            alerts=("ChurnLatencyHigh",),
            thresholds=((None, GREEN), (SLOW_SECONDS, RED)),
            empty="no requests",
        ),
        Panel(
            "Predicted to leave, by version",
            "Over the last minutes. With traffic divided at random, both versions see the same "
            "customers: **a difference is the model's**. Ask its maker whether it is meant.",
            (
                Query(
                    ratio(
                        f'rate(ml_predictions_total{{{S}, outcome="churn"}}{R})',
                        f"rate(ml_predictions_total{{{S}}}{R})",
                        "model_version",
                    ),
                    "{{model_version}}",
                ),
            ),
            "percentunit",
            width=6,
            alerts=("ChurnRateUnusual",),
            empty="no predictions",
            top=1,
        ),
        Panel(
            "What runs",
            "Instances by release and by what they run on. More than one line is usual while a "
            "release is rolled out, and only then: **else** finish it or go back.",
            (
                Query(
                    "count by (version, git_commit, python, bentoml, scikit_learn) "
                    f"(ml_build_info{{{S}}})",
                    "Instances",
                ),
            ),
            "short",
            kind="table",
            width=24,
            height=4,
            empty="nothing runs",
        ),
    ),
)

ROWS: Final = (UP, FAST, OVERLOADED, MODEL, DECISIONS, VERSIONS)

# Lines across all panels: what happened when.
EVENTS: Final = (
    Query(f'ALERTS{{{J}, alertstate="firing"}}', "{{alertname}} fires", color=RED),
    Query(f"changes(process_start_time_seconds{{{S}}}{R}) > 0", "{{instance}} started", color=BLUE),
    Query(
        f"count by (model_version) (ml_model_info{{{S}}}) "
        f"unless count by (model_version) (ml_model_info{{{S}}} offset 1m)",
        "model {{model_version}} came",
        color="purple",
    ),
)
