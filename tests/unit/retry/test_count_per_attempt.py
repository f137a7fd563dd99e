"""`count_per="attempt"`: each failed attempt counts, not each call."""

import contextlib

import pytest
from tenacity import retry_if_exception_type, retry_if_result, wait_none

from resilience import BreakerPolicy, CircuitBreaker, CircuitState, failures
from resilience.retry import gate, transient_retry
from tests.support.driving import ServerError
from tests.support.retrying import Backend, around, make_due

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


def per_attempt(send, **more):
    return transient_retry(**{"wait": wait_none(), **more}, count_per="attempt")(send)


async def test_count_per_attempt_reports_each_failed_attempt_as_it_happens(clock):
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=10), clock=clock)
    streaks = []

    async def send():
        streaks.append(breaker.snapshot().streak)
        raise ServerError

    with pytest.raises(ServerError):
        await breaker(per_attempt(send))()
    assert streaks == [0, 1, 2, 3, 4]
    assert breaker.snapshot().failures == 5


async def test_count_per_attempt_opens_in_the_midst_of_a_call(breaker):
    backend = Backend()
    with pytest.raises(ServerError) as caught:
        await breaker(per_attempt(backend.send))()
    assert caught.value is backend.raised[-1]
    assert (backend.attempts, breaker.state, breaker.snapshot().failures) == (2, OPEN, 2)


def test_count_per_attempt_opens_in_the_midst_of_a_plain_call(breaker):
    backend = Backend()
    with pytest.raises(ServerError):
        breaker(per_attempt(backend.send_plain))()
    assert (backend.attempts, breaker.snapshot().failures) == (2, 2)


async def test_count_per_attempt_ends_the_streak_with_a_success(breaker):
    for _ in range(3):
        backend = Backend(ServerError(), default=None)
        assert await breaker(per_attempt(backend.send))() == "sent"
    snapshot = breaker.snapshot()
    assert (snapshot.state, snapshot.streak, snapshot.failures) == (CLOSED, 0, 3)


@pytest.mark.parametrize("status", [408, 429])
async def test_count_per_attempt_does_not_count_what_is_not_a_failure(breaker, status):
    backend = Backend(default=lambda: ServerError(status))
    with pytest.raises(ServerError):
        await breaker(per_attempt(backend.send))()
    assert (backend.attempts, breaker.snapshot().failures) == (5, 0)


async def test_count_per_attempt_asks_the_breakers_own_classifier(clock):
    breaker = CircuitBreaker(
        "eu-west-1",
        BreakerPolicy(failure_threshold=2),
        classifier=failures(KeyError),
        clock=clock,
    )
    backend = Backend(default=KeyError)
    with pytest.raises(KeyError):
        await breaker(per_attempt(backend.send, retry=retry_if_exception_type(KeyError)))()
    assert (backend.attempts, breaker.state) == (2, OPEN)


async def test_count_per_attempt_reopens_once_with_a_failed_probe(breaker, clock):
    backend = Backend()
    make_due(breaker, clock)
    with pytest.raises(ServerError):
        await breaker(per_attempt(backend.send))()
    assert (backend.attempts, breaker.state, breaker.snapshot().failures) == (1, OPEN, 3)


async def test_count_per_attempt_outside_any_breaker_is_plain_tenacity():
    backend = Backend()
    with pytest.raises(ServerError):
        await per_attempt(backend.send)()
    assert backend.attempts == 5


async def test_a_nested_attempt_that_counts_and_fails_opens_it_once(breaker, clock):
    make_due(breaker, clock)
    inner = breaker(per_attempt(Backend().send))
    with pytest.raises(ServerError):
        await breaker(around(inner))()
    assert (breaker.state, breaker.snapshot().failures) == (OPEN, 3)


async def test_count_per_attempt_counts_what_fails_after_a_loop_that_was_survived(clock):
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=10), clock=clock)
    failing = per_attempt(Backend().send)

    @breaker
    @gate
    async def send():
        with contextlib.suppress(ServerError):
            await failing()
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await send()
    assert breaker.snapshot().failures == 6


@pytest.mark.parametrize(
    ("errors", "per_call", "per_attempt_"),
    [
        ([TimeoutError()] * 5, 1, 5),
        ([TimeoutError()] * 2, 0, 0),
        ([ServerError(429)] * 5, 0, 0),
        ([TimeoutError(), ServerError(429), TimeoutError(), KeyError()], 0, 2),
        ([TimeoutError(), ServerError(404)], 0, 1),
    ],
)
async def test_one_outcome_per_call_or_one_per_failed_attempt(
    clock, errors, per_call, per_attempt_
):
    for count_per, streak in (("call", per_call), ("attempt", per_attempt_)):
        breaker = CircuitBreaker("eu-west-1", clock=clock)
        send = Backend(*errors, default=None).send
        with contextlib.suppress(TimeoutError, ServerError, KeyError):
            await breaker(transient_retry(wait=wait_none(), count_per=count_per)(send))()
        assert breaker.snapshot().streak == streak


async def test_a_final_failure_that_is_not_retried_counts_once(clock):
    breaker = CircuitBreaker("eu-west-1", clock=clock)
    backend = Backend(TimeoutError(), ConnectionResetError())
    with pytest.raises(ConnectionResetError):
        await breaker(per_attempt(backend.send, retry=retry_if_exception_type(TimeoutError)))()
    assert breaker.snapshot().streak == 2


async def test_a_result_that_is_not_wanted_is_not_a_failed_attempt(breaker):
    send = per_attempt(
        Backend(default=None).send,
        retry=retry_if_result(lambda _: True),
        retry_error_callback=lambda _: "given up",
    )
    assert await breaker(send)() == "given up"
    assert breaker.snapshot().streak == 0
