"""Every body that must be refused, as the routes read it; about twenty of them go through HTTP."""

from __future__ import annotations

import json

import pytest

from churn_serving.errors import RequestError
from churn_serving.http.api import ENDPOINTS
from churn_serving.http.problems import STATUS_OF
from tests.bad_requests import BAD_BODIES, ECHO, OVER_HTTP, BadRequest


@pytest.mark.parametrize("bad", BAD_BODIES, ids=str)
def test_a_body_is_refused_with_its_status_and_the_name_of_the_field(bad: BadRequest) -> None:
    with pytest.raises(RequestError) as refused:
        ENDPOINTS[bad.path].parse(bad.body)
    error = refused.value
    assert STATUS_OF[type(error)] == bad.status
    assert all(set(failure) == {"loc", "msg", "type"} for failure in error.detail)
    if bad.loc is not None:
        assert list(bad.loc) in [failure["loc"] for failure in error.detail]
    assert ECHO not in f"{error} {json.dumps(error.detail)}"


def test_some_of_every_status_go_through_http() -> None:
    assert {bad.status for bad in OVER_HTTP} == {400, 415, 422}
    assert 20 <= len(OVER_HTTP) <= 30
