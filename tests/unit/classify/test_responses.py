"""`classify_status`: answers that are returned, not raised."""

import httpx
import pytest
import requests
import urllib3

from resilience import classify_status
from tests.support.classifying import (
    ANSWERED,
    FAILURE,
    IGNORED,
    SUCCESS,
    BitingResponseError,
    Response,
)


@pytest.mark.parametrize("name", ["status", "status_code"])
@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0, FAILURE),
        (500, FAILURE),
        (503, FAILURE),
        (600, FAILURE),
        (400, ANSWERED),
        (404, ANSWERED),
        (429, ANSWERED),
        (407, IGNORED),
        (499, ANSWERED),
        (200, SUCCESS),
        (204, SUCCESS),
        (302, SUCCESS),
        (399, SUCCESS),
        (None, SUCCESS),
        ("200 OK", SUCCESS),
    ],
)
def test_a_response_is_judged_by_its_status(name, status, outcome):
    assert classify_status(Response(**{name: status})) is outcome


@pytest.mark.parametrize("value", [None, "503", 503, {"status": 503}, [], object(), Response()])
def test_what_has_no_status_is_a_success(value):
    assert classify_status(value) is SUCCESS


def test_a_response_whose_status_raises_is_a_success():
    assert classify_status(BitingResponseError.Response()) is SUCCESS


@pytest.mark.parametrize(("status", "outcome"), [(503, FAILURE), (404, ANSWERED), (200, SUCCESS)])
def test_real_responses_are_judged_by_their_status(status, outcome):
    ours = requests.Response()
    ours.status_code = status
    assert classify_status(ours) is outcome
    assert classify_status(httpx.Response(status)) is outcome
    assert classify_status(urllib3.HTTPResponse(status=status)) is outcome
