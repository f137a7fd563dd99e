"""The states of a breaker: what CLOSED, OPEN and HALF_OPEN admit, and what changes them."""

import random

import pytest

from resilience import BreakerPolicy, CircuitBreaker, CircuitState, Outcome, Permit
from resilience.testing import FakeClock
from tests.support.driving import (
    CLOSED,
    HALF_OPEN,
    OPEN,
    ServerError,
    admits,
    counters,
    half_open,
    record,
    rejection,
    trip,
)

# A new breaker


def test_a_new_breaker_is_closed_and_free_to_call(breaker):
    assert (breaker.region, breaker.state, breaker.retry_after) == ("eu-west-1", CLOSED, 0.0)
    assert breaker.policy == BreakerPolicy()


def test_the_states_are_strings():
    assert [str(state) for state in CircuitState] == ["CLOSED", "OPEN", "HALF_OPEN"]
    assert CircuitState("OPEN") == "OPEN"


@pytest.mark.parametrize("region", [None, 5, b"eu-west-1", ["eu-west-1"]])
def test_a_region_that_is_not_a_string_is_a_type_error(region):
    with pytest.raises(TypeError, match="region"):
        CircuitBreaker(region)


@pytest.mark.parametrize("region", ["", "   ", "\t\n"])
def test_a_region_without_a_name_is_a_value_error(region):
    with pytest.raises(ValueError, match="region"):
        CircuitBreaker(region)


@pytest.mark.parametrize("name", ["classifier", "result_classifier", "clock"])
def test_what_must_be_callable_is_checked_when_given(name):
    with pytest.raises(TypeError, match=name):
        CircuitBreaker("eu-west-1", **{name: 5})


@pytest.mark.parametrize("name", ["classifier", "result_classifier"])
def test_an_async_classifier_is_a_type_error(name):
    async def judge(_):
        return Outcome.FAILURE

    with pytest.raises(TypeError, match=name):
        CircuitBreaker("eu-west-1", **{name: judge})


# CLOSED


def test_nine_failures_leave_the_circuit_closed_and_the_tenth_trips_it(breaker):
    for _ in range(9):
        breaker.acquire().fail(ServerError())
    assert breaker.state is CLOSED
    breaker.acquire().fail(ServerError())
    assert breaker.state is OPEN


def test_a_success_ends_the_streak(breaker):
    for _ in range(9):
        breaker.acquire().fail()
    breaker.acquire().succeed()
    assert breaker.snapshot().streak == 0
    for _ in range(9):
        breaker.acquire().fail()
    assert breaker.state is CLOSED
    assert breaker.snapshot().streak == 9


def test_an_ignored_call_neither_counts_nor_ends_the_streak(breaker):
    for _ in range(9):
        breaker.acquire().fail()
    breaker.acquire().ignore()
    assert (breaker.state, breaker.snapshot().streak) == (CLOSED, 9)
    breaker.acquire().fail()
    assert breaker.state is OPEN


def test_any_number_of_calls_may_run_in_a_closed_circuit(breaker):
    permits = [breaker.acquire() for _ in range(200)]
    for permit in permits:
        permit.succeed()
    assert counters(breaker) == {"successes": 200}


def test_permits_of_a_quiet_closed_circuit_are_settled_one_by_one(breaker):
    first, second = breaker.acquire(), breaker.acquire()
    first.succeed()
    first.succeed()
    second.fail()
    assert counters(breaker) == {"successes": 1, "failures": 1}


# OPEN


def test_an_open_circuit_rejects_until_exactly_the_recovery_timeout(breaker, clock):
    trip(breaker)
    clock.advance(59.75)
    assert rejection(breaker).retry_after == 0.25
    clock.advance(0.25)
    assert isinstance(breaker.acquire(), Permit)


def test_reading_the_state_changes_nothing(breaker, clock):
    trip(breaker)
    events = record(breaker)
    clock.advance(60)
    for _ in range(3):
        assert breaker.state is HALF_OPEN
        assert breaker.retry_after == 0.0
        assert breaker.snapshot().state is HALF_OPEN
    assert events == []
    breaker.acquire()
    assert [(event.old, event.new) for event in events] == [(OPEN, HALF_OPEN)]


def test_retry_after_is_what_is_left_of_the_recovery_timeout(breaker, clock):
    trip(breaker)
    assert breaker.retry_after == 60.0
    clock.advance(45)
    assert breaker.retry_after == 15.0


def test_a_rejection_in_open_says_why_and_for_how_long(breaker, clock):
    trip(breaker)
    clock.advance(20)
    error = rejection(breaker)
    assert (error.region, error.state) == ("eu-west-1", OPEN)
    assert (error.reason, error.retry_after) == ("ServerError 503", 40.0)


def test_each_rejection_is_a_fresh_error_without_a_past(breaker):
    trip(breaker)
    errors = [rejection(breaker) for _ in range(3)]
    assert len({id(error) for error in errors}) == 3
    assert all(error.__cause__ is None for error in errors)
    assert all(error.__context__ is None for error in errors)


def test_rejections_do_not_extend_an_open_circuit(breaker, clock):
    trip(breaker)
    for _ in range(120):
        assert not admits(breaker)
        clock.advance(0.5)
    assert admits(breaker)


@pytest.mark.parametrize(
    "start", [0.0, 0.1, 1 / 3, 1234567.891, 1e9 / 3, 2.0**31 + 0.7, 1.7e9 + 0.1, -5.3, 86399.999999]
)
@pytest.mark.parametrize("timeout", [0.1, 1 / 3, 59.99999999, 60.0])
def test_waiting_for_retry_after_is_always_enough(start, timeout):
    moments = random.Random(17)
    for _ in range(100):
        clock = FakeClock(start + moments.random())
        policy = BreakerPolicy(failure_threshold=1, recovery_timeout=timeout)
        breaker = CircuitBreaker("eu-west-1", policy, clock=clock)
        breaker.acquire().fail()
        clock.advance(moments.random() * timeout * 0.9)
        error = rejection(breaker)
        assert 0 < error.retry_after <= timeout * (1 + 1e-6)
        clock.advance(error.retry_after)
        assert breaker.state is HALF_OPEN
        breaker.acquire()


@pytest.mark.parametrize("start", [0.0, 0.1, 1234567.891, 1e9 / 3, -5.3])
def test_waiting_for_the_rest_of_a_lease_is_always_enough(start):
    moments = random.Random(18)
    for _ in range(100):
        clock = FakeClock(start + moments.random())
        policy = BreakerPolicy(failure_threshold=1, recovery_timeout=1.0, probe_timeout=0.7)
        breaker = CircuitBreaker("eu-west-1", policy, clock=clock)
        breaker.acquire().fail()
        clock.advance(1.5)
        breaker.acquire()
        clock.advance(moments.random() * 0.6)
        clock.advance(rejection(breaker).retry_after)
        breaker.acquire()


# HALF_OPEN


def test_one_probe_at_a_time(breaker, clock):
    half_open(breaker, clock)
    probe = breaker.acquire()
    assert not admits(breaker)
    probe.succeed()
    assert admits(breaker)


def test_three_consecutive_successes_close_the_circuit(breaker, clock):
    half_open(breaker, clock)
    for expected in (HALF_OPEN, HALF_OPEN, CLOSED):
        breaker.acquire().succeed()
        assert breaker.state is expected
    assert (breaker.retry_after, breaker.snapshot().streak) == (0.0, 0)


def test_an_ignored_probe_gives_its_place_back_and_keeps_the_successes(breaker, clock):
    half_open(breaker, clock)
    breaker.acquire().succeed()
    breaker.acquire().succeed()
    breaker.acquire().ignore()
    assert breaker.state is HALF_OPEN
    breaker.acquire().succeed()
    assert breaker.state is CLOSED


def test_one_failure_reopens_for_a_full_fresh_recovery_timeout(breaker, clock):
    half_open(breaker, clock)
    clock.advance(7)
    breaker.acquire().succeed()
    breaker.acquire().succeed()
    clock.advance(5)
    breaker.acquire().fail(ServerError(500))
    assert (breaker.state, breaker.retry_after) == (OPEN, 60.0)
    assert rejection(breaker).reason == "ServerError 500"


def test_successes_before_a_reopening_do_not_count_afterwards(breaker, clock):
    half_open(breaker, clock)
    breaker.acquire().succeed()
    breaker.acquire().succeed()
    breaker.acquire().fail()
    clock.advance(60)
    breaker.acquire().succeed()
    assert breaker.state is HALF_OPEN


def test_as_many_probes_as_the_policy_allows_and_no_more(two_probes, clock):
    half_open(two_probes, clock)
    first = two_probes.acquire()
    two_probes.acquire()
    assert not admits(two_probes)
    first.ignore()
    two_probes.acquire()
    assert not admits(two_probes)


def test_retry_after_with_the_places_taken_is_one_second_at_most(breaker, clock):
    half_open(breaker, clock)
    breaker.acquire()
    error = rejection(breaker)
    assert (error.state, error.retry_after, error.reason) == (HALF_OPEN, 1.0, "ServerError 503")
    assert breaker.retry_after == 1.0
    clock.advance(59.75)
    assert (rejection(breaker).retry_after, breaker.retry_after) == (0.25, 0.25)


def test_retry_after_follows_the_lease_that_ends_first(two_probes, clock):
    half_open(two_probes, clock)
    two_probes.acquire()
    clock.advance(30)
    two_probes.acquire()
    clock.advance(29.75)
    assert (two_probes.retry_after, rejection(two_probes).retry_after) == (0.25, 0.25)
    clock.advance(0.25)
    assert two_probes.retry_after == 0.0


def test_probes_still_out_when_the_circuit_closes_have_nothing_more_to_say(clock):
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(half_open_probes=5), clock=clock)
    half_open(breaker, clock)
    probes = [breaker.acquire() for _ in range(5)]
    for probe in probes[:3]:
        probe.succeed()
    assert breaker.state is CLOSED
    probes[3].fail()
    probes[4].succeed()
    assert counters(breaker) == {"successes": 3, "failures": 10, "probes": 5, "trips": 1}
    assert breaker.snapshot().streak == 0


def test_retry_after_with_a_free_place_is_zero(breaker, clock):
    half_open(breaker, clock)
    breaker.acquire().succeed()
    assert (breaker.state, breaker.retry_after) == (HALF_OPEN, 0.0)


def test_every_trip_is_counted(breaker):
    for trips in (1, 2, 3):
        trip(breaker)
        assert breaker.snapshot().trips == trips
        breaker.reset()
