"""Cancellations, timeouts and exits go through every loop, and no condition swallows them."""

import asyncio
import gc
import weakref

import pytest
from tenacity import retry_always, retry_if_not_exception_type, wait_none

from resilience import CircuitBreakerOpenError, CircuitState
from resilience.retry import transient_retry
from tests.support.driving import ServerError
from tests.support.retrying import (
    AN_HOUR,
    Backend,
    asleep,
    cancel,
    every_async_way,
    every_entry,
    every_plain_way,
    long_timers,
    make_due,
    own_decorator,
    preset,
    settle,
    trip,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


@every_async_way
@every_entry
async def test_cancelling_in_a_backoff_sleep_cancels_immediately(breaker, way, enter):
    backend = Backend()
    task = await asleep(backend, enter(breaker, way(backend.send)))
    task.cancel()
    await settle()
    assert task.cancelled()
    assert backend.attempts == 1
    assert (breaker.snapshot().ignored, breaker.snapshot().failures) == (1, 0)
    assert long_timers() == []


async def test_a_loop_woken_by_its_circuit_and_cancelled_immediately_ends_cancelled(breaker):
    backend = Backend()
    task = await asleep(backend, breaker(preset(backend.send)))
    trip(breaker)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() or isinstance(task.exception(), CircuitBreakerOpenError)
    assert backend.attempts == 1


@every_async_way
@pytest.mark.parametrize(
    "retry", [retry_always, retry_if_not_exception_type(KeyError)], ids=["always", "not_type"]
)
async def test_no_loop_swallows_a_cancellation_on_the_wire(breaker, way, retry):
    started = []

    async def send():
        started.append(True)
        await asyncio.Event().wait()

    task = asyncio.create_task(breaker(way(send, retry=retry, wait=wait_none()))())
    await settle()
    task.cancel()
    await settle()
    assert task.cancelled()
    assert len(started) == 1
    assert breaker.snapshot().ignored == 1


@every_async_way
async def test_no_loop_swallows_a_cancellation_in_a_probe(breaker, clock, way):
    make_due(breaker, clock)

    async def send():
        await asyncio.Event().wait()

    loop = way(send, retry=retry_always, wait=wait_none())
    task = asyncio.create_task(breaker(loop)())
    await settle()
    task.cancel()
    await settle()
    assert task.cancelled()
    assert (breaker.state, breaker.retry_after) == (HALF_OPEN, 0.0)


@pytest.mark.parametrize(
    "retry", [retry_always, retry_if_not_exception_type(KeyError)], ids=["always", "not_type"]
)
async def test_no_loop_outside_any_breaker_swallows_a_cancellation(retry):
    async def send():
        await asyncio.Event().wait()

    task = asyncio.create_task(own_decorator(send, retry=retry, wait=wait_none())())
    await settle()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


@every_plain_way
@pytest.mark.parametrize("exit_", [KeyboardInterrupt, SystemExit])
def test_no_plain_loop_swallows_an_exit(breaker, way, exit_):
    backend = Backend(default=exit_)
    with pytest.raises(exit_):
        breaker(way(backend.send_plain, retry=retry_always, wait=wait_none()))()
    assert backend.attempts == 1


async def test_a_timeout_around_a_sleeping_loop_ends_it(breaker):
    backend = Backend()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await breaker(preset(backend.send))()
    assert backend.attempts == 1
    assert long_timers() == []


async def test_a_cancelled_loop_is_held_by_nobody(breaker):
    class Message:
        pass

    message = Message()

    async def send(message):
        raise ServerError

    protected = breaker(transient_retry(wait=AN_HOUR)(send))
    task = asyncio.create_task(protected(message))
    await settle()
    gone = weakref.ref(message)
    await cancel(task)
    del task, message
    await settle()
    gc.collect()
    assert gone() is None
