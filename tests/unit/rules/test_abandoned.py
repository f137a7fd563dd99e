"""abandoned_threshold: calls that were cancelled from outside, with no answer between them."""

import asyncio

import pytest

from resilience import BreakerPolicy, CircuitBreaker, CircuitBreakerRegistry, CircuitState
from resilience.retry import transient_retry
from tests.support.driving import ServerError
from tests.support.odd_errors import Unrelated, made, raising

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


def breaker_of(clock, **policy):
    return CircuitBreaker(
        "eu-west-1", BreakerPolicy(**{"abandoned_threshold": 5, **policy}), clock=clock
    )


def abandon(breaker, times=1, error=asyncio.CancelledError):
    @breaker
    def call():
        raise error

    for _ in range(times):
        with pytest.raises(error):
            call()


def test_they_trip_after_exactly_the_threshold(clock, log):
    breaker = breaker_of(clock)
    events = []
    breaker.listen(events.append)
    abandon(breaker, 4)
    assert breaker.state is CLOSED
    abandon(breaker)
    assert breaker.state is OPEN
    why = "5 calls in a row were abandoned (threshold 5)"
    assert (events[0].reason, events[0].rule) == (why, "abandoned calls")
    assert log[-1]["message"] == f"Circuit breaker OPEN for region eu-west-1: {why}"
    snapshot = breaker.snapshot()
    assert (snapshot.ignored, snapshot.failures, snapshot.trips) == (5, 0, 1)


@pytest.mark.parametrize("settle", ["succeed", "answered", "fail"])
def test_an_answer_between_them_begins_a_new_row(clock, settle):
    breaker = breaker_of(clock)
    abandon(breaker, 4)
    getattr(breaker.acquire(), settle)()
    abandon(breaker, 4)
    assert breaker.state is CLOSED
    abandon(breaker)
    assert breaker.state is OPEN


def test_what_says_nothing_between_them_does_not(clock):
    breaker = breaker_of(clock)
    abandon(breaker, 4)
    breaker.acquire().ignore()
    abandon(breaker)
    assert breaker.state is OPEN


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_an_exit_and_an_error_are_no_abandonment(clock, error):
    breaker = breaker_of(clock)
    abandon(breaker, 20, error)
    assert breaker.state is CLOSED


def test_without_the_rule_they_are_not_counted(clock):
    breaker = breaker_of(clock, abandoned_threshold=None)
    abandon(breaker, 200)
    assert breaker.state is CLOSED


def test_an_abandoned_probe_of_the_same_row_opens_it_again(clock):
    breaker = breaker_of(clock)
    abandon(breaker, 5)
    clock.advance(60)
    abandon(breaker)
    assert (breaker.state, breaker.retry_after) == (OPEN, 60)
    assert breaker.snapshot().reason == "6 calls in a row were abandoned (threshold 5)"


def test_after_failures_so_many_abandoned_probes_open_it_again(clock):
    breaker = breaker_of(clock, failure_threshold=1)
    breaker.acquire().fail()
    clock.advance(60)
    abandon(breaker, 4)
    assert breaker.state is HALF_OPEN
    assert breaker.snapshot().ignored_reasons == ("cancelled",)
    abandon(breaker)
    assert breaker.state is OPEN


async def test_a_timeout_around_the_calls_trips(clock):
    breaker = breaker_of(clock)

    @breaker
    @transient_retry()
    async def call():
        await asyncio.Event().wait()

    for _ in range(5):
        assert breaker.state is CLOSED
        task = asyncio.ensure_future(call())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    assert breaker.state is OPEN


def test_it_can_be_switched_off(clock):
    registry = CircuitBreakerRegistry(BreakerPolicy(abandoned_threshold=5), clock=clock)
    breaker = registry.get("eu-west-1")
    abandon(breaker, 4)
    registry.configure(policy=BreakerPolicy())
    abandon(breaker, 4)
    registry.configure(policy=BreakerPolicy(abandoned_threshold=5))
    abandon(breaker, 4)
    assert breaker.state is CLOSED


def test_a_function_keeps_its_own_classifier(clock):
    breaker = breaker_of(clock, honor_retry_after=False)
    judge = breaker.judge.with_classifiers(lambda _: None, None)
    assert type(judge) is type(breaker.judge)
    breaker.acquire().fail(ServerError())
    assert breaker.snapshot().streak == 1


def test_what_an_odd_error_says_it_is_makes_no_difference(clock):
    breaker = breaker_of(clock)
    # Not within `pytest.raises`: pytest itself asks an error for its class, and comes to grief.
    odd = made(Unrelated, __class__=property(raising(ValueError)))

    @breaker
    def call():
        raise odd

    for number in range(5):
        assert breaker.state is CLOSED, number
        try:
            call()
        except Unrelated as error:
            was_raised = error is odd
        assert was_raised
    assert breaker.state is OPEN
