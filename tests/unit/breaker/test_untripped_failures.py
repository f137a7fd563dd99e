"""A policy that does not fit the failures of its region is noticed, with the number that would."""

import re

import pytest

from resilience import (
    Backoff,
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
)
from tests.support.driving import ServerError, raise_in

CLOSED, OPEN = CircuitState.CLOSED, CircuitState.OPEN


def warnings(log):
    return [entry["message"] for entry in log if "would have opened it" in entry["message"]]


def play(breaker, pattern, clock, *, times, apart=1.0):
    """Make calls that fail where there is an F, each of them some seconds after the last."""
    for outcome in pattern * times:
        clock.advance(apart)
        permit = breaker.acquire()
        if outcome == "F":
            permit.fail()
        elif outcome == "A":
            permit.answered()
        else:
            permit.succeed()


CASES = {
    "half of the calls": ({}, "FS", 1.0, "failure_rate_threshold=0.5"),
    "refused between them": ({"failure_threshold": 2000}, "FA", 1.0, "failure_rate_threshold=0.5"),
    "short streaks": ({}, "FFFS", 1.0, "failure_threshold=3 or failure_rate_threshold=0.75"),
    "a threshold out of reach": (
        {"failure_threshold": 5000},
        "F",
        1.0,
        "failure_threshold=1000 or failure_rate_threshold=1",
    ),
    "rare calls": ({}, "FS", 30.0, "failure_rate_threshold=0.5 with window=1200"),
    "a streak too young": (
        {"streak_window": 10},
        "F",
        30.0,
        "failure_rate_threshold=1 with window=1199",
    ),
    "a rate too high": (
        {"failure_rate_threshold": 0.9},
        "FSS",
        1.0,
        "failure_rate_threshold=0.33",
    ),
    "a window too small": ({"failure_rate_threshold": 0.5}, "FS", 6.0, "minimum_calls=10"),
    "a window without calls": ({"failure_rate_threshold": 0.5}, "FS", 90.0, "minimum_calls=1"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_number_that_would_have_opened_it_is_named_and_does(case, clock, log):
    fields, pattern, apart, numbers = CASES[case]
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(**fields), clock=clock)
    failing = pattern.count("F")
    play(breaker, pattern, clock, times=1000 // failing + 1, apart=apart)
    (message,) = warnings(log)
    assert f"{numbers} would have opened it" in message
    assert "stays CLOSED for region eu-west-1, although 1,000 of the last" in message
    assert log[-1]["level"].name == "WARNING"
    for number in numbers.split(" or "):
        better = {name: float(value) for name, value in re.findall(r"(\w+)=([\d.]+)", number)}
        for name in ("failure_threshold", "minimum_calls"):
            if name in better:
                better[name] = int(better[name])
        better = {**fields, **better, "recovery_timeout": 1e6}
        other = CircuitBreaker("other", BreakerPolicy(**better), clock=clock)
        with pytest.raises(CircuitBreakerOpenError):
            play(other, pattern, clock, times=1000 // failing + 1, apart=apart)


def test_nothing_is_said_before_a_thousand_failures(clock, log):
    breaker = CircuitBreaker("eu-west-1", clock=clock)
    play(breaker, "FS", clock, times=999)
    assert warnings(log) == []
    raise_in(breaker, ServerError(), 1)
    assert len(warnings(log)) == 1


def test_it_is_said_once_for_each_policy(clock, log):
    registry = CircuitBreakerRegistry(clock=clock)
    breaker = registry.get("eu-west-1")
    play(breaker, "FS", clock, times=3000)
    assert len(warnings(log)) == 1
    registry.configure(policy=BreakerPolicy(recovery_timeout=Backoff(5)))
    play(breaker, "FS", clock, times=3000)
    assert len(warnings(log)) == 2


@pytest.mark.parametrize(("successes", "expected"), [(9, 1), (10, 0)])
def test_a_region_of_whose_calls_few_fail_is_up(successes, expected, clock, log):
    breaker = CircuitBreaker("eu-west-1", clock=clock)
    play(breaker, "F" + successes * "S", clock, times=1000)
    assert len(warnings(log)) == expected


def test_what_was_well_before_the_failures_does_not_hide_them(clock, log):
    breaker = CircuitBreaker("eu-west-1", clock=clock)
    play(breaker, "S", clock, times=20_000)
    play(breaker, "FS", clock, times=1000)
    (message,) = warnings(log)
    assert "1,000 of the last 1,999 calls failed" in message


def test_a_circuit_that_opens_at_its_thousandth_failure_says_nothing(clock, log):
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=1000), clock=clock)
    play(breaker, "F", clock, times=1000)
    assert breaker.state is OPEN
    assert warnings(log) == []


def test_after_a_change_of_what_is_counted_the_failures_are_counted_from_the_start(clock, log):
    registry = CircuitBreakerRegistry(clock=clock)
    breaker = registry.get("eu-west-1")
    play(breaker, "FS", clock, times=999)
    registry.configure(policy=BreakerPolicy(failure_rate_threshold=0.9))
    play(breaker, "FS", clock, times=1)
    assert warnings(log) == []
    play(breaker, "FS", clock, times=1000)
    assert breaker.state is CLOSED
    assert len(warnings(log)) == 1


def test_failures_without_time_between_them_are_no_reason_for_a_longer_window(clock, log):
    breaker = CircuitBreaker("eu-west-1", clock=clock)
    play(breaker, "FS", clock, times=1000, apart=0)
    (message,) = warnings(log)
    assert "failure_rate_threshold=0.5 would" in message


def test_failures_that_no_window_holds_enough_calls_with_need_a_longer_one(clock, log):
    policy = BreakerPolicy(
        failure_rate_threshold=0.1, minimum_calls=15, window=60, streak_window=10
    )
    breaker = CircuitBreaker("eu-west-1", policy, clock=clock)
    play(breaker, "F", clock, times=500, apart=30)
    play(breaker, "S", clock, times=8900, apart=0)
    play(breaker, "F", clock, times=500, apart=30)
    (message,) = warnings(log)
    assert "never more than 1 failed in a row; window=29970 would have opened it" in message
