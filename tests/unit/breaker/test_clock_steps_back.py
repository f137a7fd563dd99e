"""A clock that steps back: state, retry_after, waiting tasks and calls always agree."""

import asyncio

import pytest

from resilience import BreakerPolicy, CircuitBreaker, CircuitBreakerOpenError, CircuitState
from resilience.testing import FakeClock

RECOVERY = 60.0


def open_breaker(*, rejections, at=1000.0):
    clock = FakeClock(at)
    policy = BreakerPolicy(failure_threshold=1, recovery_timeout=RECOVERY)
    breaker = CircuitBreaker("eu-west-1", policy, clock=clock)
    breaker.acquire().fail()
    clock.advance(30)
    for _ in range(rejections):
        with pytest.raises(CircuitBreakerOpenError):
            breaker.acquire()
    return breaker, clock


def look_at_snapshot(breaker):
    breaker.snapshot()


def look_at_state(breaker):
    assert breaker.state is CircuitState.OPEN


def call_in_vain(breaker):
    with pytest.raises(CircuitBreakerOpenError):
        breaker.acquire()


@pytest.mark.parametrize("rejections", [0, 1, 3])
@pytest.mark.parametrize("step_back", [31, 35, 40, 500, 1000])
@pytest.mark.parametrize("look", [look_at_snapshot, look_at_state, call_in_vain])
def test_the_recovery_timeout_starts_again_for_the_first_reader(rejections, step_back, look):
    breaker, clock = open_breaker(rejections=rejections)
    clock.advance(-step_back)
    look(breaker)
    clock.advance(RECOVERY - 0.5)
    assert (breaker.state, breaker.retry_after) == (CircuitState.OPEN, 0.5)
    with pytest.raises(CircuitBreakerOpenError) as rejection:
        breaker.acquire()
    assert rejection.value.retry_after == 0.5
    clock.advance(0.5)
    assert (breaker.state, breaker.retry_after) == (CircuitState.HALF_OPEN, 0.0)
    breaker.acquire().succeed()


def test_a_step_back_that_does_not_reach_the_opening_changes_nothing():
    breaker, clock = open_breaker(rejections=2)
    clock.advance(-30)
    assert breaker.retry_after == RECOVERY
    clock.advance(RECOVERY)
    assert breaker.state is CircuitState.HALF_OPEN


def test_many_steps_back_leave_it_open_for_one_recovery_timeout_from_the_last():
    breaker, clock = open_breaker(rejections=2)
    for _ in range(5):
        clock.advance(-200)
        call_in_vain(breaker)
        clock.advance(RECOVERY / 2)
        call_in_vain(breaker)
    clock.advance(RECOVERY / 2)
    breaker.acquire().succeed()


async def test_wait_then_call_is_admitted_and_lets_other_tasks_run():
    breaker, clock = open_breaker(rejections=1)
    clock.advance(-40)
    breaker.snapshot()
    waiting = asyncio.create_task(breaker.wait_until_ready())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    clock.advance(RECOVERY)
    assert await waiting
    breaker.acquire().succeed()


def test_a_probes_lease_starts_again():
    breaker, clock = open_breaker(rejections=1)
    clock.advance(30)
    probe = breaker.acquire()
    clock.advance(-500)
    assert breaker.retry_after == 1.0
    clock.advance(RECOVERY)
    breaker.acquire().succeed()  # takes the place
    successes = breaker.snapshot().successes
    probe.succeed()
    assert breaker.snapshot().successes == successes
