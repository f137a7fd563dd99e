"""A circuit opens while loops of its calls sleep, send or are about to begin."""

import asyncio
import functools
import threading

import pytest
import tenacity
from tenacity import AsyncRetrying, TryAgain, retry_if_result, stop_after_attempt, wait_none

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
    region_breaker,
)
from resilience.retry import gate, transient_retry
from tests.support.driving import ServerError
from tests.support.retrying import (
    AN_HOUR,
    PLAIN_WAYS,
    Backend,
    asleep,
    cancel,
    check_ended_by,
    ended,
    every_async_way,
    every_entry,
    every_plain_way,
    long_timers,
    make_due,
    own_decorator,
    preset,
    result_of,
    settle,
    trip,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


# While a loop sleeps


@every_async_way
@every_entry
async def test_a_loop_that_sleeps_is_woken_when_the_circuit_opens(breaker, way, enter):
    backend = Backend()
    task = await asleep(backend, enter(breaker, way(backend.send)))
    trip(breaker)
    error = await ended(task)
    assert type(error) is CircuitBreakerOpenError
    assert error.__cause__ is backend.raised[0]
    assert (error.region, error.state, error.retry_after) == ("eu-west-1", OPEN, 60.0)
    assert backend.attempts == 1
    assert long_timers() == []


@every_async_way
async def test_what_a_woken_loop_raises_is_not_a_new_failure(breaker, way):
    backend = Backend()
    task = await asleep(backend, breaker(way(backend.send)))
    trip(breaker)
    before = breaker.snapshot()
    await ended(task)
    assert breaker.snapshot() == before


async def test_a_hundred_sleeping_loops_are_all_woken(breaker):
    backend = Backend()
    send = breaker(preset(backend.send))
    tasks = [asyncio.create_task(send()) for _ in range(100)]
    await settle()
    assert backend.attempts == 100
    trip(breaker)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {CircuitBreakerOpenError}
    assert {result.__cause__ for result in results} == set(backend.raised)
    assert backend.attempts == 100


async def test_a_forced_opening_wakes_too(breaker):
    backend = Backend()
    task = await asleep(backend, breaker(preset(backend.send)))
    breaker.force_open("maintenance")
    error = await ended(task)
    assert (type(error), error.retry_after) == (CircuitBreakerOpenError, None)


async def test_an_opening_by_another_calls_failure_wakes(clock):
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=1), clock=clock)
    backend = Backend()
    task = await asleep(backend, breaker(preset(backend.send)))
    with pytest.raises(ServerError):
        await breaker.call(Backend().send)
    assert isinstance(await ended(task), CircuitBreakerOpenError)


async def test_an_opening_in_another_thread_wakes(breaker):
    backend = Backend()
    task = await asleep(backend, breaker(preset(backend.send)))
    thread = threading.Thread(target=trip, args=(breaker,))
    thread.start()
    with pytest.raises(CircuitBreakerOpenError):
        await task
    thread.join()


async def test_a_loop_called_with_a_function_is_gated(breaker):
    backend = Backend()
    loop = gate(AsyncRetrying(wait=AN_HOUR))
    task = await asleep(backend, lambda: breaker.call(loop, backend.send))
    trip(breaker)
    check_ended_by(breaker, await ended(task))


async def test_a_decorator_in_between_does_not_hide_the_loop(breaker):
    backend = Backend()

    def plain_wrapper(fn):
        @functools.wraps(fn)
        def wrapper():
            return fn()

        return wrapper

    send = breaker(plain_wrapper(transient_retry(wait=AN_HOUR)(backend.send)))
    task = await asleep(backend, send)
    trip(breaker)
    check_ended_by(breaker, await ended(task))


async def test_an_awaitable_of_a_plain_function_is_gated(breaker):
    backend = Backend()
    fn = transient_retry(wait=AN_HOUR)(backend.send)
    plain = lambda: fn()  # noqa: E731, PLW0108 - no `async def`, and nothing to see of tenacity
    task = await asleep(backend, breaker(plain))
    trip(breaker)
    check_ended_by(breaker, await ended(task))


async def test_a_region_breaker_gates_what_it_decorates(clock):
    registry = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=2), clock=clock)
    backend = Backend()

    @region_breaker(region_from="region", registry=registry)
    @transient_retry(wait=AN_HOUR)
    async def send(region):
        return backend.answer()

    task = await asleep(backend, lambda: send("eu-west-1"))
    trip(registry.get("us-east-1"))
    await settle()
    assert not task.done()
    trip(registry.get("eu-west-1"))
    assert isinstance(await ended(task), CircuitBreakerOpenError)


@every_async_way
async def test_without_reraise_a_woken_loop_raises_the_rejection(breaker, way):
    backend = Backend()
    task = await asleep(backend, breaker(way(backend.send, reraise=False)))
    trip(breaker)
    error = await ended(task)
    assert (type(error), error.__cause__) == (CircuitBreakerOpenError, backend.raised[0])


async def test_a_loop_with_a_retry_error_callback_is_woken(breaker):
    backend = Backend()
    send = own_decorator(backend.send, retry_error_callback=lambda _: "saved")
    task = await asleep(backend, breaker(send))
    trip(breaker)
    await settle()
    assert task.done()
    assert isinstance(task.exception(), CircuitBreakerOpenError) or task.result() == "saved"
    assert backend.attempts == 1


@pytest.mark.parametrize("make", [preset, own_decorator])
async def test_what_retry_with_makes_is_gated_inside_the_circuit(breaker, make):
    backend = Backend()
    send = breaker(make(backend.send)).retry_with(stop=stop_after_attempt(9))
    task = await asleep(backend, send)
    trip(breaker)
    assert isinstance(await ended(task), CircuitBreakerOpenError)


@every_async_way
async def test_try_again_sleeps_no_outage_through(breaker, way):
    backend = Backend(default=TryAgain)
    task = await asleep(backend, breaker(way(backend.send)))
    trip(breaker)
    assert isinstance(await ended(task), CircuitBreakerOpenError)


@pytest.mark.parametrize("make", [preset, own_decorator])
async def test_a_result_that_is_not_wanted_is_gated_alike(breaker, clock, make):
    backend = Backend(default=None)
    loop = make(backend.send, retry=retry_if_result(lambda result: result == "sent"))
    task = await asleep(backend, breaker(loop))
    trip(breaker)
    error = await ended(task)
    assert (type(error), error.__cause__) == (CircuitBreakerOpenError, None)
    clock.advance(60)
    with pytest.raises(tenacity.RetryError):
        await breaker(loop)()
    assert backend.attempts == 2


# It is no longer OPEN when the loop looks


async def test_a_circuit_that_is_half_open_before_the_woken_one_looks_admits_it_not(breaker, clock):
    backend = Backend()
    task = await asleep(backend, breaker(preset(backend.send)))
    make_due(breaker, clock)
    assert isinstance(await ended(task), CircuitBreakerOpenError)
    assert (backend.attempts, breaker.snapshot().probes) == (1, 0)


async def test_a_circuit_that_is_closed_again_cuts_no_backoff_short(breaker, clock):
    backend = Backend()
    task = await asleep(backend, breaker(preset(backend.send)))
    make_due(breaker, clock)
    breaker.acquire().succeed()
    assert breaker.state is CLOSED
    await settle()
    assert backend.attempts == 1
    await cancel(task)


async def test_a_loop_whose_circuit_is_closed_again_before_it_looks_sleeps_on(breaker):
    backend = Backend()
    task = await asleep(backend, breaker(transient_retry(wait=AN_HOUR)(backend.send)))
    trip(breaker)
    breaker.reset()
    await settle()
    assert backend.attempts == 1
    trip(breaker)
    check_ended_by(breaker, await ended(task))


async def test_a_reset_of_a_closed_circuit_wakes_no_loop(breaker):
    backend = Backend()
    task = await asleep(backend, breaker(preset(backend.send)))
    breaker.reset()
    await settle()
    assert (task.done(), backend.attempts) == (False, 1)
    trip(breaker)
    assert isinstance(await ended(task), CircuitBreakerOpenError)


async def test_a_loop_that_slept_through_a_reset_goes_on(breaker):
    backend = Backend(ServerError(), default=None)
    go_on = asyncio.Event()

    async def sleep(_):
        await go_on.wait()

    task = await asleep(backend, breaker(preset(backend.send, sleep=sleep)))
    trip(breaker)
    breaker.reset()
    go_on.set()
    assert await task == "sent"
    assert backend.attempts == 2


# Before an attempt


async def test_a_circuit_that_opens_before_the_first_attempt_lets_none_start(breaker):
    backend = Backend()
    with breaker.acquire():
        trip(breaker)
        with pytest.raises(CircuitBreakerOpenError) as caught:
            await preset(backend.send)()
    assert backend.attempts == 0
    assert caught.value.__cause__ is None


def test_a_circuit_that_opens_before_the_first_plain_attempt_lets_none_start(breaker):
    for way in PLAIN_WAYS:
        breaker.reset()
        backend = Backend()
        with breaker.acquire():
            trip(breaker)
            with pytest.raises(CircuitBreakerOpenError):
                way(backend.send_plain)()
        assert backend.attempts == 0, way


async def test_a_call_from_before_is_not_a_probe_of_the_half_open_circuit(breaker, clock):
    backend = Backend()
    fn = transient_retry(wait=AN_HOUR)(backend.send)

    @breaker
    @gate
    async def send():
        trip(breaker)
        clock.advance(60)
        probe = breaker.acquire()
        error = await result_of(fn())
        probe.succeed()
        return error

    error = await send()
    assert error.state is HALF_OPEN
    assert backend.attempts == 0


async def test_a_call_in_a_thread_knows_its_circuit(breaker):
    backend = Backend()

    @breaker
    @gate
    async def send():
        trip(breaker)
        await asyncio.to_thread(transient_retry(wait=AN_HOUR)(backend.send_plain))

    assert type(await result_of(send())) is CircuitBreakerOpenError
    assert backend.attempts == 0


@every_async_way
async def test_a_circuit_that_opens_during_an_async_hook_lets_no_attempt_start(breaker, way):
    backend = Backend()

    async def before(state):
        if state.attempt_number == 2:
            await asyncio.sleep(0)
            trip(breaker)

    with pytest.raises(CircuitBreakerOpenError) as caught:
        await breaker(way(backend.send, wait=wait_none(), before=before))()
    assert backend.attempts == 1
    assert caught.value.__cause__ is backend.raised[0]


@every_plain_way
def test_a_circuit_that_opens_during_a_plain_hook_lets_no_attempt_start(breaker, way):
    backend = Backend()

    def before(state):
        if state.attempt_number == 2:
            trip(breaker)

    with pytest.raises(CircuitBreakerOpenError):
        breaker(way(backend.send_plain, wait=wait_none(), before=before))()
    assert backend.attempts == 1


@pytest.mark.parametrize("hook", ["before_sleep", "after"])
async def test_a_circuit_that_opens_in_a_hook_of_the_sleep_ends_the_loop(breaker, hook):
    backend = Backend()

    async def open_it(_):
        trip(breaker)

    with pytest.raises((CircuitBreakerOpenError, ServerError)):
        await breaker(preset(backend.send, **{hook: open_it}))()
    assert backend.attempts == 1
    assert long_timers() == []


# While an attempt is on the wire


@every_async_way
@every_entry
async def test_an_attempt_on_the_wire_when_the_circuit_opens_raises_its_own_error(
    breaker, way, enter
):
    backend, answered = Backend(), asyncio.Event()

    async def send():
        await answered.wait()
        return backend.answer()

    task = asyncio.create_task(enter(breaker, way(send))())
    await settle()
    trip(breaker)
    await settle()
    assert not task.done()
    answered.set()
    assert await ended(task) is backend.raised[0]
    assert backend.attempts == 1
    assert breaker.snapshot().failures == 2


async def test_an_attempt_on_the_wire_when_the_circuit_opens_may_still_succeed(breaker):
    answered = asyncio.Event()

    async def send():
        await answered.wait()
        return "sent"

    task = asyncio.create_task(breaker(preset(send))())
    await settle()
    trip(breaker)
    answered.set()
    assert await task == "sent"
    assert (breaker.state, breaker.snapshot().successes) == (OPEN, 0)


async def test_an_attempt_from_before_the_outage_is_not_a_probe_when_it_is_due(breaker, clock):
    backend, answered = Backend(), asyncio.Event()

    async def send():
        await answered.wait()
        return backend.answer()

    task = asyncio.create_task(breaker(preset(send, wait=wait_none()))())
    await settle()
    make_due(breaker, clock)
    answered.set()
    assert await ended(task) is backend.raised[0]
    assert (backend.attempts, breaker.snapshot().probes) == (1, 0)


@every_plain_way
def test_a_plain_attempt_on_the_wire_when_the_circuit_opens_raises_its_own_error(breaker, way):
    backend = Backend()

    def send():
        trip(breaker)
        return backend.answer()

    with pytest.raises(ServerError) as caught:
        breaker(way(send))()
    assert caught.value is backend.raised[0]
    assert backend.attempts == 1


def test_a_circuit_that_closes_while_a_loop_is_ended_leaves_it_its_own_error():
    backend, is_closing = Backend(), []

    def clock():
        while is_closing:
            is_closing.pop()
            breaker.reset()
        return 0.0

    breaker = CircuitBreaker("eu-west-1", clock=clock)

    def sleep(_):
        breaker.force_open("maintenance")
        is_closing.append(True)

    with pytest.raises(ServerError) as caught:
        breaker(preset(backend.send_plain, sleep=sleep))()
    assert caught.value is backend.raised[0]
    assert (backend.attempts, breaker.state) == (1, CircuitState.CLOSED)
