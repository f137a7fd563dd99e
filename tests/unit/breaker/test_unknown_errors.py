"""A breaker that counts nothing is noticed: a hundred unknown errors in a row."""

import asyncio

import pytest

from resilience import CircuitBreaker
from tests.support.driving import ServerError, raise_in, rejection, trip


def warnings(log):
    return [entry["message"] for entry in log if entry["level"].name == "WARNING"]


def test_a_hundred_errors_that_say_nothing_are_warned_about_once(breaker, log):
    raise_in(breaker, LookupError("hunter2"), 99)
    assert warnings(log) == []
    raise_in(breaker, LookupError("hunter2"), 1)
    (message,) = warnings(log)
    assert "LookupError" in message
    assert "failures(" in message
    assert "eu-west-1" in message
    assert "hunter2" not in message
    raise_in(breaker, LookupError("hunter2"), 99)
    assert len(warnings(log)) == 1


def test_a_success_between_them_starts_the_hundred_again(breaker, log):
    raise_in(breaker, LookupError(), 99)
    breaker.acquire().succeed()
    raise_in(breaker, LookupError(), 99)
    assert warnings(log) == []
    raise_in(breaker, LookupError(), 1)
    assert len(warnings(log)) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 429])
def test_client_errors_are_no_reason_to_warn(breaker, log, status):
    raise_in(breaker, ServerError(status), 250)
    assert warnings(log) == []


def test_cancellations_and_rejections_are_no_reason_to_warn(breaker, clock, log):
    raise_in(breaker, asyncio.CancelledError(), 250)
    inner = CircuitBreaker("inner", clock=clock)
    trip(inner)
    raise_in(breaker, rejection(inner), 250)
    assert warnings(log) == []


def test_the_warning_about_unknown_errors_counts_and_names_them(breaker, log):
    for _ in range(100):
        with pytest.raises(LookupError), breaker.acquire():
            raise LookupError
    assert log[-1]["message"] == (
        "Circuit breaker ignored 100 errors in a row for region eu-west-1, a LookupError: if the"
        " region causes them, count them with classifier=failures(LookupError)"
    )


def test_a_success_and_a_failure_between_unknown_errors_start_the_count_again(breaker, log):
    for number in range(198):
        if number == 99:
            breaker.acquire().succeed()
            breaker.acquire().fail()
        with pytest.raises(LookupError), breaker.acquire():
            raise LookupError
    assert log == []


def test_a_hundred_unknown_errors_after_a_success_and_a_failure_are_warned_about(breaker, log):
    breaker.acquire().succeed()
    breaker.acquire().fail()
    for _ in range(100):
        with pytest.raises(LookupError), breaker.acquire():
            raise LookupError
    (record,) = log
    assert record["level"].name == "WARNING"
