"""The failure rate, the slow call rate and the age of a streak, by their numbers."""

import asyncio
import math
import sys
import tracemalloc

import pytest

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
)
from resilience.testing import FakeClock

CLOSED, OPEN = CircuitState.CLOSED, CircuitState.OPEN
NEVER = 1_000_000  # no streak is as long


class ServerError(Exception):
    status = 503


class RefusedError(Exception):
    status = 404


def breaker_of(clock, **rules):
    return CircuitBreaker(
        "eu-west-1", BreakerPolicy(**{"failure_threshold": NEVER, **rules}), clock=clock
    )


def halves(clock, **rules):
    return breaker_of(clock, failure_rate_threshold=0.5, minimum_calls=10, window=60, **rules)


def call(breaker, error=None, *, lasting=0.0):
    """Make one call that takes some seconds and ends in an error, if one is given."""

    @breaker
    def function():
        clock_of(breaker).advance(lasting)
        if error is not None:
            raise error

    try:
        function()
    except (ServerError, RefusedError, ValueError, CircuitBreakerOpenError):
        return


def clock_of(breaker):
    return breaker._clock


def calls(breaker, pattern, **kwargs):
    """Make one call for each letter: good, failed, refused, or one that says nothing."""
    errors = {"F": ServerError, "R": RefusedError, "I": ValueError}
    for letter in pattern:
        call(breaker, errors[letter]() if letter in errors else None, **kwargs)


# The failure rate


@pytest.mark.parametrize(
    ("pattern", "state"),
    [
        ("FFFFFFFFF", CLOSED),
        ("FFFFFFFFFF", OPEN),
        ("SSSSSFFFF" + "F", OPEN),
        ("SSSSSSFFF" + "F", CLOSED),
        ("RRRRRFFFF" + "F", OPEN),
        ("IIIIIFFFFF", CLOSED),
        ("IIIII" + "SSSSSFFFF" + "F", OPEN),
    ],
)
def test_the_rate_trips_at_its_threshold_and_with_the_minimum_of_calls(clock, pattern, state):
    breaker = halves(clock)
    calls(breaker, pattern)
    assert breaker.state is state


def test_a_call_that_goes_well_trips_nothing(clock):
    breaker = halves(clock)
    calls(breaker, "FFFFFSSSSSSSS")
    assert breaker.state is CLOSED
    calls(breaker, "FFF")
    assert breaker.state is OPEN  # 8 of 16


def test_the_streak_trips_as_well(clock):
    breaker = halves(clock, failure_threshold=3)
    calls(breaker, "FFF")
    assert breaker.snapshot().reason == "ServerError 503"


def test_the_reason_is_everywhere_a_reason_is(clock, log):
    registry = CircuitBreakerRegistry(
        BreakerPolicy(failure_threshold=NEVER, failure_rate_threshold=0.5, minimum_calls=40),
        clock=clock,
    )
    breaker, events = registry.get("eu-west-1"), []
    breaker.listen(events.append)
    calls(breaker, 15 * "S" + 25 * "F")
    why = "failure rate 62 % of 40 calls in 60 s (threshold 50 %)"
    assert breaker.snapshot().reason == why
    assert (events[0].reason, events[0].rule, events[0].streak) == (why, "failure rate", 25)
    with pytest.raises(CircuitBreakerOpenError) as caught:
        breaker.acquire()
    assert caught.value.reason == why
    assert [record["message"] for record in log if record["level"].name == "ERROR"] == [
        f"Circuit breaker OPEN for region eu-west-1: {why}"
    ]
    assert list(registry.history)[-1].reason == why


def test_failures_leave_the_window(clock):
    breaker = halves(clock)
    calls(breaker, "FFFFFFFFF")
    clock.advance(60)
    calls(breaker, "FFFFFFFFF")
    assert breaker.state is CLOSED
    calls(breaker, "F")
    assert breaker.state is OPEN


def test_successes_leave_the_window_over_idle_hours(clock):
    breaker = halves(clock)
    calls(breaker, 1000 * "S")
    clock.advance(7200)
    calls(breaker, "FFFFFFFFFF")
    assert breaker.state is OPEN


def test_successes_of_the_last_seconds_do_not(clock):
    breaker = halves(clock)
    for _ in range(59):
        calls(breaker, "S")
        clock.advance(1)
    calls(breaker, 58 * "F")
    assert breaker.state is CLOSED
    calls(breaker, "F")
    assert breaker.state is OPEN


@pytest.mark.parametrize("step", [-500.0, -1.0, 1e9])
def test_a_clock_that_steps_is_harmless(clock, step):
    clock.advance(1000)
    breaker = halves(clock)
    calls(breaker, "SSSSSSS")
    clock.advance(step)
    calls(breaker, "SFFFFFFFFF")
    assert breaker.state is OPEN
    clock.advance(60)
    calls(breaker, "SSS")
    assert breaker.state is CLOSED
    calls(breaker, "SSSFFFFFFF")
    assert breaker.state is OPEN


def test_after_a_step_back_successes_still_leave_the_window(clock):
    clock.advance(100_000)
    breaker = halves(clock)
    calls(breaker, "S")
    clock.advance(-50_000)
    for _ in range(200):
        calls(breaker, "S")
        clock.advance(1)
    calls(breaker, 59 * "F")
    assert breaker.state is OPEN


def test_each_closed_state_begins_with_an_empty_window(clock):
    breaker = halves(clock, success_threshold=1)
    calls(breaker, "FFFFFFFFFF")
    clock.advance(60)
    calls(breaker, "S" + "FFFFFFFFF")
    assert breaker.state is CLOSED
    breaker.reset()
    calls(breaker, "FFFFFFFFF")
    assert breaker.state is CLOSED


def test_a_late_result_does_not_count(clock):
    breaker = halves(clock)
    late = breaker.acquire()
    breaker.reset()
    calls(breaker, "FFFFFFFFF")
    late.fail()
    assert breaker.state is CLOSED
    assert breaker.snapshot().failures == 9


# Slow calls


def slow(clock, **rules):
    return breaker_of(
        clock,
        **{
            "slow_call_duration": 2,
            "slow_call_rate_threshold": 0.5,
            "minimum_calls": 4,
            "window": 60,
            **rules,
        },
    )


@pytest.mark.parametrize("outcome", ["S", "R", "F"])
def test_slow_calls_trip_however_they_end(clock, outcome):
    breaker = slow(clock)
    calls(breaker, 3 * outcome, lasting=2.0)
    assert breaker.state is CLOSED
    calls(breaker, outcome, lasting=2.0)
    snapshot = breaker.snapshot()
    assert snapshot.state is OPEN
    assert snapshot.reason == (
        "slow call rate 100 % of 4 calls in 60 s (threshold 50 %, slow from 2 s)"
    )


def test_a_call_that_takes_less_is_not_slow(clock):
    breaker = slow(clock)
    calls(breaker, 20 * "S", lasting=1.875)
    assert breaker.state is CLOSED


def test_a_slow_call_that_says_nothing_does_not_count(clock):
    breaker = slow(clock)
    calls(breaker, 20 * "I", lasting=2.0)
    assert breaker.state is CLOSED


def test_the_share_of_slow_calls_decides(clock):
    breaker = slow(clock, minimum_calls=10)
    calls(breaker, "SSSSSS")
    calls(breaker, "SSSSS", lasting=2.0)
    assert breaker.state is CLOSED
    calls(breaker, "S", lasting=2.0)
    assert breaker.state is OPEN
    assert breaker.snapshot().successes == 12


def test_slow_calls_count_in_every_way_of_calling(clock):
    breaker = slow(clock, minimum_calls=5)

    async def work():
        clock.advance(2)

    def returns_awaitable():
        return work()

    async def main():
        await breaker.call(work)
        await breaker(work)()
        await breaker(returns_awaitable)()
        with breaker.acquire():
            clock.advance(2)
        assert breaker.state is CLOSED
        permit = breaker.acquire()
        clock.advance(2)
        permit.succeed()

    asyncio.run(main())
    assert breaker.state is OPEN


def test_a_success_ends_the_streak_with_rates_as_without(clock):
    breaker = halves(clock, failure_threshold=3)
    calls(breaker, "FFSFF")
    assert (breaker.state, breaker.snapshot().streak) == (CLOSED, 2)
    calls(breaker, "F")
    assert breaker.state is OPEN


def test_every_call_is_counted_once(clock):
    breaker = halves(clock)
    for _ in range(100):
        calls(breaker, "SSRI")
        clock.advance(0.3)
    calls(breaker, "F")
    snapshot = breaker.snapshot()
    assert (snapshot.successes, snapshot.answered) == (200, 100)
    assert (snapshot.failures, snapshot.ignored) == (1, 100)


# Clocks that do not work


def test_a_clock_that_raises_changes_no_result_and_is_logged(log):
    broken = False

    def clock():
        if broken:
            raise OSError
        return 1.0

    breaker = slow(clock)

    @breaker
    async def call():
        return "delivered"

    broken = True
    assert asyncio.run(call()) == "delivered"
    broken = False
    assert breaker.snapshot().successes == 1
    assert any("clock" in record["message"] for record in log)


def test_a_clock_that_gives_no_number_makes_no_call_slow():
    reading = 0.0
    breaker = slow(lambda: reading, minimum_calls=1)

    @breaker
    def call():
        nonlocal reading
        reading = 5.0

    reading = math.nan
    call()
    assert breaker.snapshot().state is CLOSED


# Changing the rules of a circuit that exists


def test_rates_can_be_switched_on_and_off(clock):
    registry = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=NEVER), clock=clock)
    breaker = registry.get("eu-west-1")
    calls(breaker, "SFFFF")
    rates = BreakerPolicy(failure_threshold=NEVER, failure_rate_threshold=0.5, minimum_calls=4)
    registry.configure(policy=rates)
    assert breaker.snapshot().streak == 4
    calls(breaker, "FFF")
    assert breaker.state is CLOSED
    registry.configure(policy=rates)  # nothing is new: the window keeps what it has
    calls(breaker, "F")
    assert breaker.state is OPEN
    breaker.reset()
    calls(breaker, "FFF")
    registry.configure(policy=BreakerPolicy(failure_threshold=NEVER))
    calls(breaker, 100 * "F")
    snapshot = breaker.snapshot()
    assert (snapshot.state, snapshot.streak, snapshot.failures) == (CLOSED, 103, 111)
    assert snapshot.successes == 1


def test_a_new_threshold_holds_for_what_is_in_the_window(clock):
    registry = CircuitBreakerRegistry(
        BreakerPolicy(failure_threshold=NEVER, failure_rate_threshold=0.9, minimum_calls=4),
        clock=clock,
    )
    breaker = registry.get("eu-west-1")
    calls(breaker, "SSFFFF")
    registry.configure(
        policy=BreakerPolicy(failure_threshold=NEVER, failure_rate_threshold=0.7, minimum_calls=4)
    )
    calls(breaker, "F")
    assert breaker.state is OPEN


# The age of a streak


@pytest.mark.parametrize(("apart", "state"), [(60, OPEN), (60.125, CLOSED)])
def test_failures_further_apart_than_the_streak_window_are_no_streak(clock, apart, state):
    breaker = breaker_of(clock, failure_threshold=10, streak_window=60)
    for _ in range(10):
        calls(breaker, "F")
        clock.advance(apart)
    assert breaker.state is not CLOSED if state is OPEN else breaker.state is CLOSED


def test_one_failure_a_week_never_opens(clock):
    breaker = breaker_of(clock, failure_threshold=10, streak_window=3600)
    for _ in range(100):
        calls(breaker, "F")
        assert breaker.snapshot().streak == 1
        clock.advance(7 * 86400)
    assert breaker.state is CLOSED


def test_a_step_back_of_the_clock_ends_no_streak(clock):
    clock.advance(10_000)
    breaker = breaker_of(clock, failure_threshold=3, streak_window=60)
    for _ in range(3):
        calls(breaker, "F")
        clock.advance(-1000)
    assert breaker.snapshot().trips == 1


# Memory


def test_a_region_with_rates_takes_4_kb_at_most_whatever_the_traffic():
    clock = FakeClock()
    registry = CircuitBreakerRegistry(
        BreakerPolicy(
            failure_threshold=NEVER,
            failure_rate_threshold=1.0,
            slow_call_duration=1,
            slow_call_rate_threshold=1.0,
        ),
        clock=clock,
    )
    calls(registry.get("warm"), "SFSR")
    regions = [f"region-{number}" for number in range(20)]
    plain = CircuitBreakerRegistry(clock=clock)
    without = memory_of(plain, regions, clock)
    assert memory_of(registry, regions, clock) - without < 4096


def memory_of(registry, regions, clock):
    """Return the bytes that a region takes, after traffic for many windows."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for region in regions:
        breaker = registry.get(region)
        for _ in range(20):
            calls(breaker, "SSF")
            clock.advance(7)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sys.getsizeof(registry) < after - before
    return (after - before) / len(regions)
