"""A probe makes one attempt in each of its loops, and nested calls of its region are part of it."""

import asyncio
import contextlib
import contextvars

import pytest
import tenacity
from tenacity import TryAgain, stop_after_attempt, stop_never, wait_none

from resilience import BreakerPolicy, CircuitBreaker, CircuitBreakerOpenError, CircuitState
from resilience.retry import gate, transient_retry
from tests.support.driving import ServerError
from tests.support.retrying import (
    AN_HOUR,
    Backend,
    around,
    ended,
    every_async_way,
    every_entry,
    every_plain_entry,
    every_plain_way,
    make_due,
    own_decorator,
    preset,
    result_of,
    settle,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


@every_async_way
@every_entry
async def test_each_loop_of_a_probe_makes_one_attempt_and_reports_it(breaker, clock, way, enter):
    backend = Backend()
    make_due(breaker, clock)
    with pytest.raises(ServerError) as caught:
        await enter(breaker, way(backend.send))()
    assert caught.value is backend.raised[0]
    assert backend.attempts == 1
    assert (breaker.state, breaker.retry_after) == (OPEN, 60.0)


@every_plain_way
@every_plain_entry
def test_each_plain_loop_of_a_probe_makes_one_attempt_and_reports_it(breaker, clock, way, enter):
    backend = Backend()
    make_due(breaker, clock)
    with pytest.raises(ServerError) as caught:
        enter(breaker, way(backend.send_plain))()
    assert caught.value is backend.raised[0]
    assert backend.attempts == 1
    assert (breaker.state, breaker.retry_after) == (OPEN, 60.0)


@every_async_way
async def test_a_probe_that_succeeds_closes(breaker, clock, way):
    make_due(breaker, clock)
    assert await breaker(way(Backend(default=None).send))() == "sent"
    assert breaker.state is CLOSED


async def test_a_probe_answered_429_makes_one_attempt_and_closes(breaker, clock):
    backend = Backend(ServerError(429), default=None)
    make_due(breaker, clock)
    send = breaker(preset(backend.send))
    with pytest.raises(ServerError):
        await send()
    assert (breaker.state, backend.attempts) == (CLOSED, 1)


async def test_an_ignored_probe_makes_one_attempt_and_gives_its_place_back(breaker, clock):
    backend = Backend(ServerError(407), default=None)
    make_due(breaker, clock)
    send = breaker(preset(backend.send))
    with pytest.raises(ServerError):
        await send()
    assert (breaker.state, backend.attempts) == (HALF_OPEN, 1)
    assert await send() == "sent"
    assert breaker.state is CLOSED


async def test_a_probe_with_two_loops_makes_one_attempt_in_each(breaker, clock):
    token, message = Backend(default=None), Backend(default=None)
    make_due(breaker, clock)

    @breaker
    @gate
    async def send():
        await preset(token.send)()
        return await preset(message.send)()

    assert await send() == "sent"
    assert (token.attempts, message.attempts) == (1, 1)
    assert breaker.state is CLOSED


async def test_a_probe_that_saves_itself_after_a_failed_loop_may_still_close(breaker, clock):
    failing, good = Backend(), Backend(default=None)
    make_due(breaker, clock)

    @breaker
    @gate
    async def send():
        try:
            return await preset(failing.send)()
        except ServerError:
            return await preset(good.send)()

    assert await send() == "sent"
    assert (failing.attempts, good.attempts, breaker.state) == (1, 1, CLOSED)


async def test_a_probe_whose_lease_ran_out_starts_no_attempt(breaker, clock):
    backend = Backend(default=None)
    make_due(breaker, clock)
    with breaker.acquire():
        clock.advance(60)
        breaker.acquire()  # takes its place
        with pytest.raises(CircuitBreakerOpenError):
            await preset(backend.send)()
    assert backend.attempts == 0


async def test_a_second_loop_of_a_probe_that_is_late_starts_no_attempt(breaker, clock):
    backend = Backend(default=None)
    make_due(breaker, clock)
    with breaker.acquire():
        breaker.force_open("maintenance")
        with pytest.raises(CircuitBreakerOpenError):
            await preset(backend.send)()
    assert backend.attempts == 0


async def test_without_reraise_a_probe_reports_its_one_attempt(breaker, clock):
    backend = Backend()
    make_due(breaker, clock)
    with pytest.raises(tenacity.RetryError) as caught:
        await breaker(own_decorator(backend.send, reraise=False))()
    assert caught.value.last_attempt.exception() is backend.raised[0]
    assert (backend.attempts, breaker.state) == (1, OPEN)


async def test_a_fallback_value_of_the_users_own_is_returned(due):
    backend = Backend()
    plain = tenacity.retry(wait=AN_HOUR, retry_error_callback=lambda _: "fallback")
    assert await due(gate(plain(backend.send)))() == "fallback"
    assert backend.attempts == 1


def test_a_probe_whose_stop_condition_was_taken_away_makes_one_attempt_all_the_same(due):
    backend = Backend()
    send = due(transient_retry(wait=AN_HOUR)(backend.send_plain))
    send.retry.stop = stop_never
    with pytest.raises(ServerError):
        send()
    assert backend.attempts == 1
    assert due.state is OPEN


def test_retry_with_is_gated_too(due):
    backend = Backend()
    send = due(transient_retry(wait=AN_HOUR)(backend.send_plain))
    with pytest.raises(ServerError):
        send.retry_with(stop=stop_never)()
    assert backend.attempts == 1
    assert due.state is OPEN


@pytest.mark.parametrize("make", [preset, own_decorator])
async def test_what_retry_with_makes_under_the_circuit_is_gated(breaker, clock, make):
    backend = Backend()
    make_due(breaker, clock)
    send = breaker(make(backend.send).retry_with(stop=stop_after_attempt(9), wait=wait_none()))
    with pytest.raises(ServerError):
        await send()
    assert backend.attempts == 1


@every_async_way
async def test_try_again_makes_a_probe_no_second_attempt(breaker, clock, way):
    backend = Backend(default=TryAgain)
    make_due(breaker, clock)
    with pytest.raises((TryAgain, tenacity.RetryError)):
        await breaker(way(backend.send, wait=wait_none()))()
    assert backend.attempts == 1


async def test_loops_of_the_users_own_in_one_another_are_both_gated(due):
    backend = Backend()
    twice = tenacity.retry(wait=AN_HOUR, reraise=True)
    send = due(gate(twice(tenacity.retry(wait=AN_HOUR, reraise=True)(backend.send))))
    assert type(await result_of(send())) is ServerError
    assert backend.attempts == 1


async def test_an_interrupt_out_of_a_listener_of_a_probe_reaches_the_caller(due):
    def interrupt(event):
        if event.new is CLOSED:
            raise KeyboardInterrupt

    due.listen(interrupt)

    @due
    async def send():
        return "sent"

    assert type(await result_of(send())) is KeyboardInterrupt
    assert due.state is CLOSED


# Nested calls of the same region


def nested(breaker, backend, mark=gate):
    inner = breaker(preset(backend.send))

    @breaker
    @mark
    async def outer(times=1):
        for _ in range(times):
            result = await inner()
        return result

    return outer


async def test_a_nested_call_of_a_probe_rides_along_and_it_can_close(breaker, clock):
    backend = Backend(default=None)
    make_due(breaker, clock)
    assert await nested(breaker, backend)(times=3) == "sent"
    snapshot = breaker.snapshot()
    assert (snapshot.state, snapshot.probes, snapshot.rejected) == (CLOSED, 1, 0)
    assert (backend.attempts, snapshot.successes) == (3, 1)


async def test_a_nested_call_that_fails_in_a_probe_is_one_failure(breaker, clock):
    backend = Backend()
    make_due(breaker, clock)
    with pytest.raises(ServerError):
        await nested(breaker, backend)()
    snapshot = breaker.snapshot()
    assert (snapshot.state, snapshot.failures, backend.attempts) == (OPEN, 3, 1)


async def test_a_nested_failure_that_the_probe_survives_is_none(breaker, clock):
    make_due(breaker, clock)
    inner = breaker(preset(Backend().send))

    @breaker
    @gate
    async def outer():
        with contextlib.suppress(ServerError):
            await inner()

    await outer()
    assert (breaker.state, breaker.snapshot().failures) == (CLOSED, 2)


async def test_a_nested_call_takes_no_place_of_another_probe(clock):
    policy = BreakerPolicy(failure_threshold=2, half_open_probes=2)
    breaker = CircuitBreaker("eu-west-1", policy, clock=clock)
    make_due(breaker, clock)

    @breaker
    @gate
    async def inner():
        contextvars.Context().run(breaker.acquire).ignore()  # the second place is free
        return breaker.snapshot().probes

    @breaker
    @gate
    async def outer():
        return await inner()

    assert await outer() == 2


@every_entry
async def test_every_way_into_a_nested_call_rides_along(breaker, clock, enter):
    make_due(breaker, clock)
    inner = enter(breaker, preset(Backend(default=None).send))
    assert await breaker(around(inner))() == "sent"
    assert (breaker.state, breaker.snapshot().probes) == (CLOSED, 1)


@every_plain_entry
def test_a_plain_nested_call_of_a_probe_rides_along(breaker, clock, enter):
    make_due(breaker, clock)
    inner = enter(breaker, preset(Backend(default=None).send_plain))

    @breaker
    @gate
    def outer():
        return inner()

    assert outer() == "sent"
    assert (breaker.state, breaker.snapshot().probes) == (CLOSED, 1)


async def test_a_nested_call_without_retries_rides_along_in_a_gated_probe(breaker, clock):
    make_due(breaker, clock)
    inner = breaker(Backend(default=None).send)
    assert await breaker(around(inner))() == "sent"
    assert breaker.state is CLOSED


async def test_a_nested_plain_function_that_returns_an_awaitable_rides_along(breaker, clock):
    make_due(breaker, clock)
    backend = Backend(default=None)

    @breaker
    def inner():
        return backend.send()

    @breaker
    @gate
    async def outer():
        return await inner()

    assert await outer() == "sent"
    assert (breaker.state, backend.attempts) == (CLOSED, 1)


async def test_a_nested_call_whose_probe_lost_its_place_is_rejected(breaker, clock):
    make_due(breaker, clock)
    backend = Backend(default=None)
    inner = breaker(preset(backend.send))

    @breaker
    @gate
    async def outer():
        clock.advance(60)
        contextvars.Context().run(breaker.acquire)  # somebody else's
        return await inner()

    with pytest.raises(CircuitBreakerOpenError):
        await outer()
    assert backend.attempts == 0


async def test_a_task_of_a_probe_rides_along_while_it_lives(breaker, clock):
    make_due(breaker, clock)
    inner = breaker(preset(Backend(default=None).send))

    @breaker
    @gate
    async def outer():
        return await asyncio.gather(inner(), asyncio.create_task(inner()))

    assert await outer() == ["sent", "sent"]
    assert (breaker.state, breaker.snapshot().probes) == (CLOSED, 1)


async def test_a_task_that_outlives_its_probe_rides_no_longer(breaker, clock):
    make_due(breaker, clock)
    go_on, tasks, backend = asyncio.Event(), [], Backend(default=None)
    inner = breaker(preset(backend.send))

    async def later():
        await go_on.wait()
        return await inner()

    @breaker
    @gate
    async def outer():
        tasks.append(asyncio.create_task(later()))
        await settle()
        raise ServerError

    with pytest.raises(ServerError):
        await outer()
    go_on.set()
    assert isinstance(await ended(tasks[0]), CircuitBreakerOpenError)
    assert backend.attempts == 0


async def test_a_nested_call_of_a_probe_can_be_cancelled(breaker, clock):
    make_due(breaker, clock)

    async def send():
        await asyncio.Event().wait()

    task = asyncio.create_task(breaker(around(breaker(preset(send))))())
    await settle()
    task.cancel()
    await settle()
    assert task.cancelled()
    assert (breaker.state, breaker.retry_after) == (HALF_OPEN, 0.0)


async def test_a_nested_call_in_a_closed_circuit_counts_for_itself(breaker):
    backend = Backend(default=None)
    await nested(breaker, backend)(times=3)
    assert breaker.snapshot().successes == 4


async def test_a_probe_that_is_nested_in_another_region_rides_on_its_own(breaker, other, clock):
    make_due(breaker, clock)
    inner = breaker(preset(Backend(default=None).send))
    middle = other(around(inner))
    assert await breaker(around(middle))() == "sent"
    assert (breaker.state, breaker.snapshot().probes) == (CLOSED, 1)
