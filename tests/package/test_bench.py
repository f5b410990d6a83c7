from __future__ import annotations

import json
import re
from dataclasses import replace
from importlib.metadata import distributions, version
from pathlib import Path

import pytest
from pydantic_core import to_json

from bench.errors import BenchmarkError
from bench.harness import chart
from bench.harness.comparison import Absence, Comparison
from bench.harness.environment import Environment, install
from bench.harness.report import document, introduction, tables
from bench.harness.stand import Bench
from bench.harness.targets import Outcome, outcomes
from bench.harness.visit import MANY, ONE, Plan, Told, Visit
from bench.harness.workload import Model, Workload, customers
from bench.kinds import (
    BOOSTERS,
    CALIBRATED,
    FOREST,
    GRADIENT_BOOSTING,
    LOGISTIC,
    MODELS,
    TREE,
)
from bench.load.overload import Overload
from bench.load.pacer import Paced
from bench.load.stop import Stop
from bench.load.wrk import Sample
from bench.process import ROOT
from bench.servers.ours import OURS, of_commit
from bench.servers.registry import ALL, SERVERS, chosen
from bench.servers.rows import CONTRACT_TYPES, PAYMENT_METHODS, row
from bench.servers.server import BATCH, BATCH_V2, PREDICT, PREDICT_V2, Server
from bench.tables import markdown
from churn_serving.features import columns
from churn_serving.features.rows import customer_row

CUSTOMERS = customers()
APART = [server for server in SERVERS.values() if server.lock]


@pytest.mark.parametrize("server", APART, ids=lambda server: server.name)
def test_each_environment_has_a_lock_with_hashes_and_without_addresses(server: Server) -> None:
    assert server.lock is not None
    lock = server.lock.read_text()
    pins = re.findall(r"^[\w.\-\[\]]+==\S+", lock, re.MULTILINE)
    assert any(pin.partition("==")[0].partition("[")[0] == server.needs[0] for pin in pins)
    assert lock.count("--hash=sha256:") >= len(pins)
    assert "://" not in "".join(line for line in lock.splitlines() if not line.startswith("    #"))


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
def test_a_request_is_one_line_of_json(server: Server) -> None:
    for route in server.routes:
        body = to_json(route.encode(CUSTOMERS[: route.size]))
        assert json.loads(body)
        # wrk and the pacer read one request a line.
        assert b"\n" not in body


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
def test_what_is_no_prediction_is_told_from_one(server: Server) -> None:
    for route in server.routes:
        for answer in ({"error": "no"}, {}, 0, "text"):
            with pytest.raises((KeyError, IndexError, TypeError, ValueError)):
                list(map(float, route.decode(answer)))


def test_names_and_titles_are_unique_and_ours_is_first() -> None:
    assert next(iter(SERVERS.values())) is OURS
    assert len({server.title for server in SERVERS.values()}) == len(SERVERS)


def test_servers_are_chosen_by_name_and_the_usual_ones_are_those_without_a_lock() -> None:
    assert chosen(["triton", "ours"]) == [OURS, SERVERS["triton"]]
    assert chosen([ALL]) == list(SERVERS.values())
    usual = chosen([])
    assert OURS in usual
    assert not any((server.folder / "requirements.txt").exists() for server in usual)
    with pytest.raises(BenchmarkError, match="no server tritn; there are: ours,"):
        chosen(["tritn"])


def test_a_batch_asks_all_customers_each_time_in_another_order(tmp_path: Path) -> None:
    churn = tuple(index / 100 for index in range(len(CUSTOMERS)))
    model = Model("churn:v1", tmp_path, tmp_path, churn)
    workload = Workload(tmp_path, CUSTOMERS, {LOGISTIC: model})
    batches = workload.requests(BATCH, LOGISTIC)
    assert len({batch.body for batch in batches}) == len(batches) == 20
    assert all(sorted(batch.churn) == list(churn) for batch in batches)
    singles = workload.requests(PREDICT, LOGISTIC)
    assert [single.churn for single in singles] == [(value,) for value in churn]


def test_a_row_without_this_project_is_the_row_with_it() -> None:
    assert CONTRACT_TYPES == columns.CONTRACT_TYPES
    assert PAYMENT_METHODS == columns.PAYMENT_METHODS
    for customer in CUSTOMERS:
        assert tuple(row(json.loads(customer.model_dump_json()))) == customer_row(customer)


def test_what_a_server_needs_of_the_bench_is_counted() -> None:
    starlette, limit = (install(SERVERS[name]) for name in ("starlette", "limit"))
    assert starlette.version == version("starlette")
    # numpy beside uvicorn; pytest is installed, and needed by neither.
    assert 3 <= limit.packages < starlette.packages < len(list(distributions()))
    assert 0 < limit.size_mb < starlette.size_mb


def sample(rate: float, *, cpu_us: float = 50, p50_ms: float = 1) -> Sample:
    return Sample(
        requests=round(rate),
        seconds=1.0,
        errors=0,
        cpu_us=cpu_us,
        p50_ms=p50_ms,
        p99_ms=2 * p50_ms,
        max_ms=3 * p50_ms,
    )


def paced(p99_ms: float) -> Paced:
    latency = {"p50_ms": p99_ms / 2, "p99_ms": p99_ms}
    return Paced(100, 1, 100, 0, latency, {}, 0, 0, 0, 0, 0.0)


def visit(
    server: str | Server,
    *,
    rate: float,
    cpu_us: float = 50,
    one_ms: float = 1,
    paced_ms: float = 2,
    model: str = LOGISTIC,
    number: int = 1,
) -> Visit:
    return Visit(
        server=server if isinstance(server, str) else server.name,
        model=model,
        round=number,
        ready_seconds=1.5,
        processes=2,
        idle_mb=100,
        used_mb=110,
        largest_difference=0.0,
        samples=(
            Told(PREDICT.name, ONE, sample(1000, p50_ms=one_ms)),
            Told(PREDICT.name, MANY, sample(rate, cpu_us=cpu_us)),
        ),
        paced=paced(paced_ms),
        overload=Overload(
            offered=2 * rate,
            answered=1.5 * rate,
            statuses={"200": 900, "503": 100},
            accepted=rate,
            p50_ms=40,
            p99_ms=80,
        ),
        recovers=True,
        stop=Stop(in_flight=32, lost=0, seconds=1.5, exit_code=0),
    )


def comparison(
    *visits: Visit, absences: tuple[Absence, ...] = (), more: tuple[Server, ...] = ()
) -> Comparison:
    environment = Environment(Path("python"), "1.2.3", packages=10, size_mb=200)
    environments = {one.server: environment for one in visits}
    workload = Workload(Path(), (), {})
    servers = [*SERVERS.values(), *more]
    return Comparison(
        Bench(servers, MODELS, environments, workload, Path(), Path()), visits, absences
    )


def met(found: list[Outcome]) -> dict[str, bool]:
    return {outcome.title.partition(": ")[2]: outcome.met for outcome in found}


PLAN = Plan(1, 3, 100)
RANKS = (
    "req/s with 32 connections",
    "CPU/request with 32 connections",
    "p99 at the fixed rate",
    "p50 on one connection, sooner than batching by a timer",
)


@pytest.mark.parametrize("model", [LOGISTIC, TREE])
def test_ranks_are_met_by_who_is_first(model: str) -> None:
    ours = visit(OURS, rate=200, cpu_us=10, one_ms=0.1, paced_ms=2, model=model)
    timed = visit("mlserver", rate=100, cpu_us=20, one_ms=0.5, paced_ms=3, model=model)
    plain = visit("mlflow", rate=50, cpu_us=30, one_ms=0.1, paced_ms=1, model=model)
    assert met(outcomes(comparison(ours, timed, plain))) == dict.fromkeys(RANKS, True)


def test_ranks_are_missed_by_who_is_not() -> None:
    ours = visit(OURS, rate=200, cpu_us=10, one_ms=0.1, paced_ms=4)
    timed = visit("mlserver", rate=201, cpu_us=9, one_ms=0.49, paced_ms=3)
    plain = visit("mlflow", rate=50, cpu_us=30, one_ms=0.1, paced_ms=1)
    found = outcomes(comparison(ours, timed, plain))
    assert met(found) == dict.fromkeys(RANKS, False)
    assert "MLServer, 201" in found[0].measured
    assert "4.9x" in found[3].measured


def test_ratios_are_held_against_their_bounds() -> None:
    ours = visit(OURS, rate=200, cpu_us=23, one_ms=0.2)
    limit = visit("limit", rate=900, cpu_us=10)
    textbook = visit("fastapi-textbook", rate=5, one_ms=1)
    tuned = visit("fastapi-tuned", rate=101, one_ms=0.19)
    found = met(outcomes(comparison(ours, limit, textbook, tuned)))
    assert {title: found[title] for title in found if title not in RANKS} == {
        "req/s over textbook FastAPI": True,
        "req/s over hand-tuned FastAPI with our scorer": False,
        "CPU/request over the raw ASGI limit": True,
        "p50 on one connection over textbook FastAPI": True,
        "p50 on one connection over hand-tuned FastAPI": False,
    }
    # Who answers a constant is no rival.
    assert found["req/s with 32 connections"]


def test_another_commit_is_a_bound_for_our_cpu_time(tmp_path: Path) -> None:
    before = of_commit("abc1234", tmp_path, tmp_path)
    peer = visit(before, rate=200, cpu_us=100)
    for cpu_us, kept in ((104, True), (106, False)):
        both = comparison(visit(OURS, rate=200, cpu_us=cpu_us), peer, more=(before,))
        assert met(outcomes(both)) == {"CPU/request over commit abc1234": kept}


@pytest.mark.parametrize(("rate", "kept"), [(1000, True), (900, False)])
def test_a_forest_is_promised_ten_times_the_requests_of_another_commit(
    rate: float,
    kept: bool,  # noqa: FBT001 - a parameter of the test
    tmp_path: Path,
) -> None:
    before = of_commit("abc1234", tmp_path, tmp_path, (FOREST,))
    ours = visit(OURS, rate=rate, model=FOREST)
    peer = visit(before, rate=100, model=FOREST)
    found = met(outcomes(comparison(ours, peer, more=(before,))))
    assert found["req/s over commit abc1234"] is kept


@pytest.mark.parametrize("model", [GRADIENT_BOOSTING, CALIBRATED, *BOOSTERS])
def test_a_lone_caller_of_trees_is_promised_milliseconds(model: str) -> None:
    for one_ms, kept in ((0.3, True), (0.31, False)):
        found = outcomes(comparison(visit(OURS, rate=200, one_ms=one_ms, model=model)))
        assert met(found) == {"p50 on one connection": kept}


def test_nothing_is_promised_beside_others_where_the_model_takes_the_time() -> None:
    ours, tuned = (visit(server, rate=200, model=FOREST) for server in (OURS, "fastapi-tuned"))
    assert set(met(outcomes(comparison(ours, tuned)))) <= set(RANKS)


@pytest.mark.parametrize(
    ("model", "ratio", "each_us"), [(LOGISTIC, 1.5, 20), (TREE, 1.7, 35)], ids=MODELS
)
def test_decisions_and_reasons_are_held_against_their_bounds(
    model: str, ratio: float, each_us: float
) -> None:
    for factor, kept in ((1.0, True), (1.01, False)):
        ours = visit(OURS, rate=200, cpu_us=40, model=model)
        told = (
            Told(PREDICT_V2.name, MANY, sample(150, cpu_us=40 * ratio * factor)),
            Told(BATCH_V2.name, ONE, sample(20, cpu_us=1000 * each_us * factor)),
        )
        ours = replace(ours, samples=(*ours.samples, *told), beside=paced(10 * factor))
        assert met(outcomes(comparison(ours))) == {
            "CPU/request of v2, with reasons, over /predict": kept,
            "CPU/customer in batches of 1,000, with reasons and ranking": kept,
            "p99 of single callers beside a stream of such batches": kept,
        }
    titles = [table.title for table in tables(comparison(ours), PLAN)]
    assert titles[:4] == [
        f"{model}: predict",
        f"{model}: predict v2",
        f"{model}: batch of 1,000 v2",
        f"{model}: 100 requests a second of v2 beside batches of 1,000",
    ]


def test_a_commit_without_v2_is_not_asked_for_it(tmp_path: Path) -> None:
    assert PREDICT_V2 not in of_commit("abc1234", tmp_path, tmp_path).routes
    assert of_commit("abc1234", ROOT, tmp_path).routes == OURS.routes


def test_a_stream_of_batches_is_one_connection_and_a_quick_run_has_the_targets_loads() -> None:
    assert (BATCH_V2, MANY) not in PLAN.loads(OURS)
    quick = [(route.name, number) for route, number in replace(PLAN, quick=True).loads(OURS)]
    assert quick == [
        *((PREDICT.name, ONE), (PREDICT.name, MANY), (BATCH.name, MANY)),
        *((PREDICT_V2.name, MANY), (BATCH_V2.name, ONE)),
    ]


def test_alone_there_are_no_targets() -> None:
    assert outcomes(comparison(visit(OURS, rate=200))) == []
    assert outcomes(comparison(visit("mlflow", rate=50))) == []


def test_the_rounds_count_by_their_median() -> None:
    rounds = [visit(OURS, rate=rate, number=number) for number, rate in enumerate((300, 9, 120))]
    (seen,) = comparison(*rounds).of(LOGISTIC)
    assert seen.sample(lambda one: one.rate) == 120


def test_everything_is_written_down() -> None:
    ours = visit(OURS, rate=20_000, one_ms=0.1, paced_ms=2)
    slow = replace(
        visit("mlflow", rate=300, cpu_us=3000, one_ms=2, paced_ms=9),
        recovers=False,
        stop=Stop(in_flight=30, lost=12, seconds=None, exit_code=None),
        paced=replace(paced(9), answers=50),
    )
    absent = Absence("Triton", None, None, "It cannot be installed:\nno wheel | for this machine")
    both = comparison(slow, ours, absences=(absent,))
    facts = {"date": "2026-01-01T00:00", "cpu": "c", "cores": 2, "python": "3", "packages": {}}
    facts |= {"wrk": "wrk 4", "h2load": "h2load 1"}
    text = markdown(tables(both, PLAN))
    # Fastest first; every line of a table has as many cells as its head.
    assert text.index(f"| {OURS.title} | 50 | 20,000") < text.index("| MLflow | 3000 | 300")
    assert "| MLflow | 4.50 | 9.00 | 0 | NO |" in text
    assert "200: 90.0%, 503: 10.0%" in text
    assert "DOES NOT ANSWER" in text
    assert "| 0 of 32 | 1.5 | 0 |" in text
    assert "| 12 of 30 | more than 40 |  |" in text
    assert "It cannot be installed: no wheel" in text
    width = 0
    for line in text.splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line))
        assert not (width and cells) or cells == width, line
        width = cells
    assert "medians of 1 alternating rounds of 3 s" in introduction(both, PLAN, facts=facts)[1]
    made = json.loads(json.dumps(document(both, PLAN, facts=facts), default=str))
    assert made["absences"][0]["reason"] == absent.reason
    assert made["visits"][0]["samples"][1]["sample"]["rate"] == 300


def test_a_quick_run_has_fewer_tables() -> None:
    quick = replace(visit(OURS, rate=200), paced=None, overload=None, recovers=None, stop=None)
    titles = [table.title for table in tables(comparison(quick), PLAN)]
    assert titles == [f"{LOGISTIC}: {PREDICT.name}", "What it takes"]


def test_the_chart_has_a_row_for_each_model_that_was_measured() -> None:
    both = comparison(visit(OURS, rate=200), visit("mlflow", rate=50), visit("limit", rate=900))
    ((rate, cpu, lone),) = chart.panels(both)
    assert rate.figures == {OURS.title: 200, "MLflow": 50, "raw ASGI, constant answer": 900}
    assert rate.more_is_better
    assert len(cpu.figures) == len(lone.figures) == 3
