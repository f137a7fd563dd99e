"""The ramp: how many calls run at the same time after an outage."""

import asyncio

import pytest

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
)
from resilience.ramp import Ramp
from tests.support.driving import ServerError

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


def breaker_of(clock, ramp=(2, 2), **policy):
    rules = {"failure_threshold": 1, "success_threshold": 1, "recovery_timeout": 10, **policy}
    return CircuitBreaker("eu-west-1", BreakerPolicy(ramp=ramp, **rules), clock=clock)


def recover(breaker, clock):
    breaker.acquire().fail()
    clock.advance(10)
    breaker.acquire().succeed()
    assert breaker.state is CLOSED


def admitted(breaker):
    """Acquire as many permits as there are places; 2,000 is no limit."""
    permits = []
    for _ in range(2000):
        try:
            permits.append(breaker.acquire())
        except CircuitBreakerOpenError:
            break
    return permits


def test_before_an_outage_there_is_no_limit(clock):
    assert len(admitted(breaker_of(clock))) == 2000


def test_each_step_allows_more_calls_at_a_time(clock):
    breaker = breaker_of(clock)
    recover(breaker, clock)
    limits = []
    while len(limits) < 10:
        permits = admitted(breaker)
        limits.append(len(permits))
        for permit in permits:
            permit.succeed()
    assert limits == [2, 4, 8, 16, 32, 64, 128, 256, 512, 2000]


def test_a_rejection_says_why_and_comes_back_soon(clock):
    breaker = breaker_of(clock)
    recover(breaker, clock)
    first, _ = admitted(breaker)
    with pytest.raises(CircuitBreakerOpenError) as caught:
        breaker.acquire()
    error = caught.value
    assert error.state is CLOSED
    assert error.reason == "ramping up after an outage, at most 2 calls at a time"
    assert 0 < error.retry_after <= 1
    assert breaker.retry_after == error.retry_after
    rejected = breaker.snapshot().rejected
    first.succeed()
    assert breaker.retry_after == 0.0
    breaker.acquire()
    assert breaker.snapshot().rejected == rejected == 2


def test_one_call_is_one_call():
    assert "at most 1 call at a time" in Ramp(1, 2, 10).reason


def test_refusals_end_a_step_and_failures_do_not(clock):
    breaker = breaker_of(clock, failure_threshold=5)
    for _ in range(4):
        breaker.acquire().fail()
    recover(breaker, clock)
    for settle in ("fail", "ignore", "answered", "fail"):
        getattr(breaker.acquire(), settle)()
    permits = admitted(breaker)
    assert len(permits) == 2
    permits[0].answered()
    assert len(admitted(breaker)) == 3  # of four


def test_failures_trip_as_always_and_the_next_recovery_begins_a_new_ramp(clock):
    breaker = breaker_of(clock)
    recover(breaker, clock)
    for permit in admitted(breaker):
        permit.succeed()
    recover(breaker, clock)
    assert len(admitted(breaker)) == 2


def test_a_call_that_hangs_keeps_its_place_for_the_length_of_a_lease(clock):
    breaker = breaker_of(clock, probe_timeout=5)
    recover(breaker, clock)
    hanging = admitted(breaker)
    clock.advance(4.5)
    assert breaker.retry_after == 0.5
    assert admitted(breaker) == []
    clock.advance(0.5)
    assert len(admitted(breaker)) == 2
    for permit in hanging:  # their places are gone, and their results count nevertheless
        permit.succeed()
    assert admitted(breaker) == []
    assert breaker.snapshot().successes == 3


def test_a_clock_that_steps_back_holds_a_place_for_one_lease_at_most(clock):
    clock.advance(1000)
    breaker = breaker_of(clock, probe_timeout=5)
    recover(breaker, clock)
    admitted(breaker)
    clock.advance(-900)
    assert admitted(breaker) == []
    clock.advance(5)
    assert admitted(breaker)


def test_a_nested_call_is_part_of_the_outer_one(clock):
    breaker = breaker_of(clock, ramp=(1, 2))
    recover(breaker, clock)

    @breaker
    async def inner():
        return "done"

    @breaker
    async def outer():
        assert await breaker.wait_until_ready(0)
        with pytest.raises(CircuitBreakerOpenError):
            await asyncio.get_running_loop().run_in_executor(None, breaker.acquire)
        return await inner()

    assert asyncio.run(outer()) == "done"
    assert breaker.snapshot().successes == 2  # the probe, and one call


def test_a_failed_attempt_does_not_give_the_place_back(clock):
    breaker = breaker_of(clock, ramp=(1, 2), failure_threshold=5)
    for _ in range(4):
        breaker.acquire().fail()
    recover(breaker, clock)
    permit = breaker.acquire()
    permit.attempt_failed(ServerError())
    assert admitted(breaker) == []
    permit.succeed()
    assert len(admitted(breaker)) == 2


def test_a_reset_by_hand_begins_no_ramp(clock):
    breaker = breaker_of(clock)
    breaker.acquire().fail()
    breaker.reset()
    assert len(admitted(breaker)) == 2000


def test_a_ramp_that_is_taken_out_of_the_policy_ends(clock):
    registry = CircuitBreakerRegistry(
        BreakerPolicy(failure_threshold=1, success_threshold=1, recovery_timeout=10, ramp=(1, 2)),
        clock=clock,
    )
    breaker = registry.get("eu-west-1")
    recover(breaker, clock)
    assert len(admitted(breaker)) == 1
    registry.configure(policy=BreakerPolicy())
    assert len(admitted(breaker)) == 2000


def test_a_ramp_and_rates_work_together(clock):
    breaker = breaker_of(
        clock, ramp=(1, 2), failure_threshold=20, failure_rate_threshold=0.5, minimum_calls=4
    )
    for _ in range(3):
        breaker.acquire().fail()
    recover(breaker, clock)
    for settle in ("succeed", "succeed", "fail"):
        getattr(breaker.acquire(), settle)()
    assert breaker.state is CLOSED
    breaker.acquire().fail()
    assert breaker.snapshot().reason.startswith("failure rate 50 % of 4 calls")


def test_a_region_on_a_ramp_is_not_evicted_first(clock):
    breaker = breaker_of(clock)
    recover(breaker, clock)
    assert not breaker.circuit.is_blank()


async def test_waiting_callers_all_get_through(clock):
    breaker = breaker_of(clock, ramp=(1, 2))
    recover(breaker, clock)
    running, most, done = 0, [], 0

    async def caller():
        nonlocal running, done
        while True:
            assert await breaker.wait_until_ready()
            try:
                with breaker.acquire():
                    running += 1
                    most.append((done, running))
                    await asyncio.sleep(0)
                    running -= 1
                    done += 1
                return
            except CircuitBreakerOpenError:
                await asyncio.sleep(0)

    await asyncio.gather(*(caller() for _ in range(100)))
    assert done == 100
    for before, at_once in most:
        steps = [2**step for step in range(9) if 2**step - 1 <= before]
        assert at_once <= steps[-1]


def test_a_ramp_goes_on_when_a_recording_begins_and_when_it_ends(clock, tmp_path):
    rules = {"failure_threshold": 1, "success_threshold": 1, "recovery_timeout": 10}
    registry = CircuitBreakerRegistry(BreakerPolicy(ramp=(2, 2), **rules), clock=clock)
    breaker = registry.get("eu-west-1")
    recover(breaker, clock)
    first, second = admitted(breaker)
    recording = registry.record(tmp_path / "outcomes")
    assert admitted(breaker) == []
    second.attempt_failed(ServerError())
    assert admitted(breaker) == []
    first.succeed()
    (third,) = admitted(breaker)  # in the place of the first
    recording.close()
    assert admitted(breaker) == []
    for permit in (second, third):
        permit.succeed()
    fourth, fifth = admitted(breaker)  # what is late takes no part in the steps
    fourth.succeed()
    fifth.succeed()
    assert len(admitted(breaker)) == 4


def test_the_largest_factor_ends_a_ramp_with_its_first_step(clock):
    breaker = breaker_of(clock, ramp=(2, 1e308))
    recover(breaker, clock)
    for permit in admitted(breaker):
        permit.succeed()
    assert len(admitted(breaker)) == 2000
