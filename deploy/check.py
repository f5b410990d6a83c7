"""Drive the HTTP contract of a running service: ``python deploy/check.py http://localhost:3000``.

Needs nothing but Python, so that it can be run against a Bento, a container or a cluster from
wherever one happens to be. Ends with 1 if the service breaks the contract anywhere.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

LOOPBACK = {"localhost", "127.0.0.1", "::1"}
SHAPE = {"error", "detail"}

Call: TypeAlias = "Callable[[str, object], tuple[int, Mapping[str, str], Any]]"


def checks(call: Call) -> Iterator[tuple[str, bool]]:
    """Yield what is checked and whether it holds."""
    status, headers, body = call("/health", None)
    yield "GET /health is alive", status == 200 and body["status"] == "alive"
    yield "answers carry a request id", bool(headers.get("x-request-id"))
    yield "answers do not name their server", "server" not in headers
    status, _, body = call("/health/ready", None)
    yield "GET /health/ready is ready", status == 200 and body["model_loaded"] is True
    version = body["model_version"]
    status, _, body = call("/openapi.json", None)
    customer = body["components"]["schemas"]["Customer"]["example"]
    yield "GET /openapi.json has an example", status == 200
    status, _, body = call("/predict", customer)
    yield "POST /predict answers", status == 200 and body["model_tag"].endswith(f":{version}")
    churn = body["churn_probability"]
    yield "with a probability", 0 <= churn <= 1 and body["churn_prediction"] in {0, 1}
    status, _, body = call("/api/v1/predict", customer)
    yield "POST /api/v1/predict agrees", status == 200 and body["probability"]["churn"] == churn
    status, _, body = call("/api/v1/predict/batch", {"items": [customer] * 100})
    same = {result["probability"]["churn"] for result in body.get("results", [])}
    yield (
        "POST /api/v1/predict/batch agrees for 100",
        status == 200 and body["batch_size"] == 100 and all(abs(p - churn) < 1e-9 for p in same),
    )
    status, _, body = call("/predict", customer | {"tenure_months": "do-not-repeat-me"})
    named = [failure["loc"] for failure in body.get("detail", [])]
    yield (
        "a text for a number gets 422, with the field",
        (status, named) == (422, [["tenure_months"]]),
    )
    yield "and is not repeated", "do-not-repeat-me" not in json.dumps(body)
    status, _, body = call("/no/such/path", None)
    yield "an unknown path gets 404 in the same shape", status == 404 and set(body) == SHAPE
    status, _, text = call("/metrics", None)
    yield "GET /metrics counts predictions", status == 200 and "ml_predictions_total{" in text
    status, _, body = call("/metrics/model", None)
    yield (
        "GET /metrics/model describes the model",
        status == 200 and body["model_version"] == version,
    )
    status, _, text = call("/docs", None)
    yield "GET /docs is a page", status == 200 and "swagger-ui" in text
    status, _, text = call("/", None)
    yield "GET / is the page for people", status == 200 and "web/main.js" in text
    status, _, text = call("/web/main.js", None)
    yield "its files are there", status == 200 and "import" in text


def client(origin: str, key: str | None) -> Call:
    """Return a function that calls a path, with a JSON body if there is one."""
    # No proxy leads to this machine itself, whatever the environment says.
    here = urlsplit(origin).hostname in LOOPBACK
    open_url = build_opener(*([ProxyHandler({})] if here else [])).open

    def call(path: str, body: object) -> tuple[int, Mapping[str, str], Any]:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        data = json.dumps(body).encode() if body is not None else None
        try:
            answer = open_url(Request(origin + path, data, headers), timeout=10)  # noqa: S310 - the caller's
        except HTTPError as error:
            answer = error
        with answer:
            text = answer.read().decode()
            is_json = "application/json" in answer.headers.get("content-type", "")
            lower = {name.lower(): value for name, value in answer.headers.items()}
            return answer.status, lower, json.loads(text) if is_json else text

    return call


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("origin", help="for example http://localhost:3000")
    parser.add_argument(
        "--api-key", default=os.environ.get("API_KEY"), help="default: the variable API_KEY"
    )
    options = parser.parse_args()
    failed = 0
    try:
        for name, holds in checks(client(options.origin.rstrip("/"), options.api_key)):
            print("ok  " if holds else "FAIL", name)
            failed += not holds
    except (URLError, OSError) as error:
        print(f"error: nothing answers at {options.origin}: {error}", file=sys.stderr)
        return 1
    except (KeyError, TypeError, AttributeError) as error:
        print(f"FAIL the answer has another shape than the contract's: {error!r}")
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
