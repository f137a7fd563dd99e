"""What a breaker shows: reasons, and snapshots that do not change."""

import dataclasses
import json

import pytest

from resilience import BreakerPolicy, CircuitBreaker, Outcome
from tests.support.driving import (
    CLOSED,
    HALF_OPEN,
    OPEN,
    ServerError,
    close,
    counters,
    half_open,
    rejection,
    trip,
)

# The reason


def test_a_reason_is_type_and_status_and_never_the_text(clock):
    for error, reason in (
        (ServerError(503), "ServerError 503"),
        (TimeoutError("hunter2"), "TimeoutError"),
        (ConnectionResetError(104, "hunter2"), "ConnectionResetError"),
    ):
        breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=1), clock=clock)
        breaker.acquire().fail(error)
        assert breaker.snapshot().reason == reason


def test_a_reason_is_one_short_line_whatever_the_type_is_called(clock):
    strange = type("Bad\n\x1b[31m" + "x" * 500, (Exception,), {})
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=1), clock=clock)
    breaker.acquire().fail(strange())
    reason = breaker.snapshot().reason
    assert reason.isprintable()
    assert len(reason) <= 200


def test_a_reason_survives_a_status_that_is_not_a_number(clock):
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=1), clock=clock)
    breaker.acquire().fail(ServerError("503\nBearer hunter2"))
    assert "hunter2" not in breaker.snapshot().reason
    assert breaker.snapshot().reason.isprintable()


# Snapshots


def test_a_snapshot_of_each_state_is_plain_data(breaker, clock):
    seen = []
    for step in (lambda: None, lambda: trip(breaker), lambda: clock.advance(60), breaker.acquire):
        step()
        seen.append(json.loads(json.dumps(dataclasses.asdict(breaker.snapshot()))))
    breaker.force_open("maintenance")
    seen.append(json.loads(json.dumps(dataclasses.asdict(breaker.snapshot()))))
    assert [entry["state"] for entry in seen] == [
        "CLOSED",
        "OPEN",
        "HALF_OPEN",
        "HALF_OPEN",
        "OPEN",
    ]
    assert [entry["retry_after"] for entry in seen] == [0.0, 60.0, 0.0, 1.0, None]
    assert {entry["region"] for entry in seen} == {"eu-west-1"}


def test_a_snapshot_is_frozen(breaker):
    snapshot = breaker.snapshot()
    with pytest.raises(dataclasses.FrozenInstanceError):
        snapshot.streak = 5


def test_a_snapshot_does_not_follow_the_breaker(breaker):
    before = breaker.snapshot()
    trip(breaker)
    assert (before.state, before.streak, before.failures) == (CLOSED, 0, 0)


def test_the_streak_goes_on_while_the_first_probe_fails(breaker, clock):
    half_open(breaker, clock)
    breaker.acquire().fail()
    assert breaker.snapshot().streak == 11


def test_a_successful_probe_ends_the_streak(breaker, clock):
    half_open(breaker, clock)
    breaker.acquire().succeed()
    breaker.acquire().fail()
    assert (breaker.state, breaker.snapshot().streak) == (OPEN, 1)


def test_a_snapshot_shows_since_when(breaker, clock):
    clock.advance(5)
    assert breaker.snapshot().since == 0.0
    trip(breaker)
    clock.advance(30)
    assert breaker.snapshot().since == 5.0
    clock.advance(40)
    assert (breaker.snapshot().state, breaker.snapshot().since) == (HALF_OPEN, 65.0)
    close(breaker)
    clock.advance(1)
    assert breaker.snapshot().since == 75.0


def test_the_counters_tell_a_whole_outage(breaker, clock):
    breaker.acquire().succeed()
    breaker.acquire().answered()
    breaker.acquire().answered()
    breaker.acquire().ignore()
    trip(breaker)
    rejection(breaker)
    clock.advance(60)
    breaker.acquire().fail()
    rejection(breaker)
    clock.advance(60)
    close(breaker)
    assert counters(breaker) == {
        "successes": 4,
        "failures": 11,
        "answered": 2,
        "ignored": 1,
        "rejected": 2,
        "probes": 4,
        "trips": 1,
    }


def test_a_permit_in_flight_is_not_counted_yet(breaker):
    breaker.acquire()
    assert counters(breaker) == {}


def test_a_status_that_cannot_be_written_down_hides_no_error(clock):
    class HugeError(Exception):
        status = 10**5000

    breaker = CircuitBreaker("eu-west-1", clock=clock)
    with pytest.raises(HugeError), breaker.acquire():
        raise HugeError


def test_the_reason_is_the_error_that_another_one_was_raised_from(breaker):
    for _ in range(10):
        with pytest.raises(RuntimeError), breaker.acquire():
            raise RuntimeError("Bearer hunter2") from ServerError(502)
    assert breaker.snapshot().reason == "ServerError 502"


def test_an_error_that_only_the_users_classifier_counts_is_the_reason_itself(clock):
    breaker = CircuitBreaker("eu-west-1", classifier=lambda _: Outcome.FAILURE, clock=clock)
    for _ in range(10):
        with pytest.raises(RuntimeError), breaker.acquire():
            raise RuntimeError from LookupError()
    assert breaker.snapshot().reason == "RuntimeError"
