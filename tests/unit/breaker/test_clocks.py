"""Clocks that jump, step back, are frozen, or take locks of their own."""

import asyncio
import threading

import pytest
from freezegun import freeze_time

from resilience import BreakerPolicy, CircuitBreaker, CircuitBreakerOpenError
from tests.support.driving import CLOSED, HOUR, OPEN, admits, close, half_open, rejection, trip


def calls_until_admitted(breaker, clock, limit):
    """Wait as every rejection says until a call gets in; give the seconds that took."""
    waited = 0.0
    while waited <= limit:
        try:
            breaker.acquire()
        except CircuitBreakerOpenError as error:
            pause = error.retry_after
        else:
            return waited
        assert pause > 0
        clock.advance(pause)
        waited += pause
    return pytest.fail(f"still wedged after {waited} s")


def test_a_clock_that_steps_back_in_open_starts_the_recovery_timeout_again(breaker, clock):
    clock.advance(2 * HOUR)
    trip(breaker)
    clock.advance(30 - HOUR)
    assert breaker.retry_after <= 60.0
    assert rejection(breaker).retry_after == 60.0
    assert calls_until_admitted(breaker, clock, limit=60) == 60.0


def test_a_clock_that_steps_back_a_little_in_open_is_harmless(breaker, clock):
    trip(breaker)
    clock.advance(40)
    clock.advance(-5)
    assert rejection(breaker).retry_after == 25.0


def test_a_clock_that_steps_back_with_a_hung_probe_wedges_nothing(breaker, clock):
    clock.advance(2 * HOUR)
    half_open(breaker, clock)
    breaker.acquire()
    clock.advance(-HOUR)
    calls_until_admitted(breaker, clock, limit=61)


def test_a_clock_that_steps_back_again_and_again_wedges_nothing(breaker, clock):
    clock.advance(10 * HOUR)
    half_open(breaker, clock)
    for _ in range(5):
        breaker.acquire()
        clock.advance(-HOUR)
        calls_until_admitted(breaker, clock, limit=61)
        clock.advance(60)
    close(breaker)
    assert breaker.state is CLOSED


def test_a_clock_that_steps_back_in_closed_keeps_the_streak(breaker, clock):
    for _ in range(9):
        breaker.acquire().fail()
    clock.advance(-HOUR)
    breaker.acquire().fail()
    assert (breaker.state, breaker.retry_after) == (OPEN, 60.0)


def test_freezegun_moves_a_breaker_that_was_made_before():
    breaker = CircuitBreaker("eu-west-1")
    with freeze_time("2026-11-01") as frozen:
        trip(breaker)
        frozen.tick(59.5)
        assert not admits(breaker)
        frozen.tick(0.5)
        close(breaker)
    assert breaker.state is CLOSED


def test_a_jump_of_the_wall_clock_changes_nothing(monkeypatch):
    breaker = CircuitBreaker("eu-west-1")
    trip(breaker)
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert not admits(breaker)


def test_a_clock_may_return_whole_numbers():
    seconds = [0]
    breaker = CircuitBreaker("eu-west-1", clock=lambda: seconds[0])
    trip(breaker)
    seconds[0] = 60
    assert admits(breaker)


def test_a_clock_that_takes_a_lock_of_its_own_cannot_deadlock_two_breakers():
    inside, go_on = threading.Event(), threading.Event()
    own = threading.Lock()

    def slow_clock():
        with own:
            inside.set()
            go_on.wait(60)
            return 0.0

    go_on.set()
    slow, other = CircuitBreaker("slow", clock=slow_clock), CircuitBreaker("other")
    go_on.clear()
    inside.clear()
    thread = threading.Thread(target=lambda: slow.state)
    thread.start()
    assert inside.wait(60)
    assert other.state is CLOSED  # while the clock of the other one takes its time
    other.acquire().succeed()
    go_on.set()
    thread.join()


@pytest.mark.parametrize("reading", [None, "noon", 10**400])
def test_a_clock_that_gives_no_number_during_a_call_replaces_neither_result_nor_error(reading):
    readings = [0.0]
    policy = BreakerPolicy(failure_rate_threshold=0.5)  # each call is timed
    breaker = CircuitBreaker("eu-west-1", policy, clock=lambda: readings[-1])

    @breaker
    async def send(error=None):
        readings.append(reading)
        if error is not None:
            raise error
        return "sent"

    assert asyncio.run(send()) == "sent"
    readings.append(1.0)
    with pytest.raises(TimeoutError):
        asyncio.run(send(TimeoutError()))
    readings.append(2.0)
    snapshot = breaker.snapshot()
    assert (snapshot.successes, snapshot.failures) == (1, 1)
