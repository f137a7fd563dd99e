"""Errors that carry an HTTP status."""

from enum import Enum
from http import HTTPStatus
from types import SimpleNamespace

import pytest
import requests

from resilience import classify_error
from resilience.classify import describe
from tests.support.classifying import ANSWERED, FAILURE, IGNORED, StatusError, caused

CARRIERS = {
    "status": lambda status: StatusError(status=status),
    "status_code": lambda status: StatusError(status_code=status),
    "response.status_code": lambda status: StatusError(
        response=SimpleNamespace(status_code=status)
    ),
}


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("status", [500, 501, 502, 503, 504, 529, 599, 600, 999])
def test_a_status_of_500_and_up_is_a_failure(carrier, status):
    assert classify_error(CARRIERS[carrier](status)) is FAILURE


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 413, 422, 429, 499])
def test_a_status_of_4xx_is_answered(carrier, status):
    assert classify_error(CARRIERS[carrier](status)) is ANSWERED


@pytest.mark.parametrize("carrier", CARRIERS)
def test_the_407_of_a_proxy_is_ignored(carrier):
    assert classify_error(CARRIERS[carrier](407)) is IGNORED


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("status", [100, 200, 204, 302])
def test_any_other_status_of_an_error_is_ignored(carrier, status):
    assert classify_error(CARRIERS[carrier](status)) is IGNORED


def test_a_status_may_be_an_http_status():
    assert classify_error(StatusError(status=HTTPStatus.BAD_GATEWAY)) is FAILURE
    assert classify_error(StatusError(status=HTTPStatus.NOT_FOUND)) is ANSWERED


class Number:
    """Like an integer of NumPy's: a number that is not an `int`."""

    def __init__(self, number):
        self.number = number

    def __index__(self):
        return self.number


class Text(str):
    __slots__ = ()


def member(value):
    """A member of a user's enumeration."""
    return Enum("Status", {"MEMBER": value}).MEMBER


SPELLINGS = {
    "a text": str,
    "a subclass of str": Text,
    "a member of an enumeration": member,
    "a text in an enumeration": lambda status: member(str(status)),
    "a number that is not an int": Number,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize(
    ("status", "outcome"), [(503, FAILURE), (404, ANSWERED), (407, IGNORED), (204, IGNORED)]
)
def test_a_status_may_be_spelled_in_another_way(carrier, spelling, status, outcome):
    error = CARRIERS[carrier](SPELLINGS[spelling](status))
    assert classify_error(error) is outcome
    assert describe(error).endswith(f" {status}")


class Biting:
    def __index__(self):
        raise RuntimeError("not a number yet")


@pytest.mark.parametrize(
    "nothing",
    [
        *(None, "UNAVAILABLE", "503 Service Unavailable", object(), []),
        *("", "5", "053", "50 3", "5033", "\u0665\u0660\u0663", b"503", 503.0),
        *(member("UNAVAILABLE"), member((503, "unavailable")), member(True), Biting()),
    ],
    ids=lambda nothing: repr(nothing).partition(" object at ")[0],
)
def test_a_status_that_is_not_a_number_says_nothing(nothing):
    assert classify_error(StatusError(status=nothing)) is IGNORED
    assert classify_error(StatusError(status=nothing, status_code=503)) is FAILURE
    assert classify_error(caused(StatusError(status=nothing), TimeoutError())) is FAILURE


@pytest.mark.parametrize(("status", "outcome"), [(503, FAILURE), (404, ANSWERED)])
def test_a_requests_response_counts_although_it_is_falsy(status, outcome):
    response = requests.Response()
    response.status_code = status
    assert not response
    assert classify_error(requests.HTTPError(response=response)) is outcome


class ApiException(Exception):  # noqa: N818 - as the Genesys SDK calls it
    """The error of the Genesys SDK, which knows no other."""

    def __init__(self, status=None, reason=None, http_resp=None):
        super().__init__(reason)
        self.status = http_resp.status if http_resp else status
        self.reason = http_resp.reason if http_resp else reason
        self.body = http_resp.data if http_resp else None
        self.headers = http_resp.getheaders() if http_resp else None


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ApiException(status=503, reason="Service Unavailable"), FAILURE),
        (ApiException(status=504, reason="request.timeout"), FAILURE),
        (ApiException(status=429, reason="Too Many Requests"), ANSWERED),
        (ApiException(status=0, reason="SSLError\nEOF occurred"), FAILURE),
        (ApiException(), IGNORED),
        (caused(ApiException(), ConnectionResetError()), FAILURE),
    ],
    ids=["503", "504", "429", "no answer", "no status", "no status but a cause"],
)
def test_the_genesys_sdk_is_judged_by_its_status(error, outcome):
    assert classify_error(error) is outcome


def test_a_status_weighs_more_than_the_cause():
    assert classify_error(caused(StatusError(status=404), TimeoutError())) is ANSWERED
    assert classify_error(caused(StatusError(status=503), ValueError())) is FAILURE
