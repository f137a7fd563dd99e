"""Failures whose cause is known not to be the region break no rule either."""

import asyncio

import pytest

from resilience import BreakerPolicy, CircuitBreaker, CircuitState
from resilience.scope import watch_outcomes
from resilience.testing import FakeClock, run_in_virtual_time
from tests.support.driving import ServerError

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


def loop_time():
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return 0.0


def breaker_of(clock=loop_time, **policy):
    return CircuitBreaker(
        "eu-west-1", BreakerPolicy(**{"failure_threshold": 1, **policy}), clock=clock
    )


async def hang():
    await asyncio.Event().wait()


def recover(breaker, clock):
    breaker.acquire().fail()
    clock.advance(60)
    breaker.acquire().succeed()


# In the window


@pytest.mark.parametrize("ignores", [True, False])
def test_they_are_not_in_the_window(clock, ignores):
    breaker = breaker_of(clock, failure_threshold=100, failure_rate_threshold=0.5, minimum_calls=4)

    @breaker
    def fail():
        raise ServerError

    with watch_outcomes(ignore_failures=ignores):
        for _ in range(10):
            with pytest.raises(ServerError):
                if breaker.state is OPEN:
                    raise ServerError
                fail()
    assert breaker.state is (CLOSED if ignores else OPEN)


# Calls without an answer


@pytest.mark.parametrize("ignores", [True, False])
def test_a_call_that_its_timeout_ends(ignores):
    breaker = breaker_of(call_timeout=5)

    async def story():
        with watch_outcomes(ignore_failures=ignores) as outcomes:
            with pytest.raises(TimeoutError) as caught:
                await breaker.call(hang)
            assert outcomes.outcome_of(caught.value) == "FAILURE"

    run_in_virtual_time(story(), FakeClock())
    assert breaker.state is (CLOSED if ignores else OPEN)
    assert breaker.snapshot().ignored == ignores


@pytest.mark.parametrize("ignores", [True, False])
def test_abandoned_calls(clock, ignores):
    breaker = breaker_of(clock, abandoned_threshold=3)
    with watch_outcomes(ignore_failures=ignores):
        for _ in range(3):
            with pytest.raises(asyncio.CancelledError), breaker.acquire():
                raise asyncio.CancelledError
    assert breaker.state is (CLOSED if ignores else OPEN)
    assert breaker.snapshot().ignored == 3


@pytest.mark.parametrize("ignores", [True, False])
def test_a_call_that_is_in_flight_for_too_long(clock, ignores):
    breaker = breaker_of(clock, stranded_after=5)
    with watch_outcomes(ignore_failures=ignores):
        permit = breaker.acquire()
    clock.advance(5)
    breaker.count_stranded()
    assert breaker.state is (CLOSED if ignores else OPEN)
    permit.succeed()
    assert breaker.snapshot().successes == ignores


@pytest.mark.parametrize("ignores", [True, False])
def test_a_probe_that_is_in_flight_for_too_long(clock, ignores):
    breaker = breaker_of(clock, stranded_after=5)
    breaker.acquire().fail()
    clock.advance(60)
    with watch_outcomes(ignore_failures=ignores):
        breaker.acquire()
    clock.advance(5)
    breaker.count_stranded()
    assert breaker.state is (HALF_OPEN if ignores else OPEN)


# Attempts


@pytest.mark.parametrize("ignores", [True, False])
def test_a_failed_attempt_leaves_a_probe_its_place(clock, ignores):
    breaker = breaker_of(clock)
    breaker.acquire().fail()
    clock.advance(60)
    with watch_outcomes(ignore_failures=ignores):
        permit = breaker.acquire()
        permit.attempt_failed(ServerError())
        state = breaker.state
        retry_after = breaker.retry_after
        permit.fail(ServerError())
    assert (state, retry_after) == ((HALF_OPEN, 1) if ignores else (OPEN, 60))
    assert breaker.retry_after == (0 if ignores else 60)
    assert breaker.snapshot().ignored == ignores


@pytest.mark.parametrize("ignores", [True, False])
@pytest.mark.parametrize("end", ["fail", "raised"])
def test_the_end_of_a_call_whose_attempt_was_counted_gives_its_place_back(clock, ignores, end):
    breaker = breaker_of(clock, failure_threshold=5, success_threshold=1, ramp=(1, 2))
    for _ in range(4):
        breaker.acquire().fail()
    recover(breaker, clock)
    error = ServerError()
    with watch_outcomes(ignore_failures=ignores):
        permit = breaker.acquire()
        permit.attempt_failed(error)
        assert breaker.retry_after == 1
        getattr(permit, end)(error)
    assert breaker.retry_after == 0
    snapshot = breaker.snapshot()
    assert (snapshot.failures, snapshot.ignored) == ((5, 1) if ignores else (6, 0))


def test_a_call_whose_attempt_was_counted_is_not_stranded_after_its_end(clock):
    breaker = breaker_of(clock, failure_threshold=2, stranded_after=5)
    permit = breaker.acquire()
    permit.attempt_failed(ServerError())
    permit.fail(ServerError())
    clock.advance(5)
    breaker.count_stranded()
    assert (breaker.state, breaker.snapshot().failures) == (CLOSED, 1)
