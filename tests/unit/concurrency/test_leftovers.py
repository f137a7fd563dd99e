"""What thousands of calls leave behind: nothing."""

import asyncio
import contextlib
import contextvars
import gc
import tracemalloc

import pytest

from resilience import BreakerPolicy, CircuitBreaker, CircuitBreakerOpenError
from resilience.testing import FakeClock
from tests.support.callers import NEVER_TRIPS, send
from tests.support.driving import CLOSED, ServerError, close, trip

MAKE_ERROR = {
    "success": None,
    "failure": ServerError,
    "answered": lambda: ServerError(404),
    "ignored": lambda: ServerError(407),
    "rejected": None,
}


def send_plain(make_error):
    if make_error:
        raise make_error()


def by_call(breaker):
    return lambda make_error: breaker.call(send, make_error)


def by_decorator(breaker):
    return breaker(send)


def by_plain_decorator(breaker):
    protected = breaker(send_plain)

    async def call(make_error):
        protected(make_error)

    return call


def by_permit(breaker):
    async def call(make_error):
        with breaker.acquire():
            await send(make_error)

    return call


WAYS = [by_call, by_decorator, by_plain_decorator, by_permit]


def breaker_for(kind):
    breaker = CircuitBreaker("eu-west-1", NEVER_TRIPS, clock=FakeClock())
    if kind == "rejected":
        breaker.force_open("maintenance")
    return breaker


def depth_of(traceback_):
    depth = 0
    while traceback_:
        depth, traceback_ = depth + 1, traceback_.tb_next
    return depth


async def make_calls(call, kind, count):
    """Make the calls, and give the traceback depths and contexts of what they raised."""
    seen, make_error = set(), MAKE_ERROR[kind]
    for _ in range(count):
        try:
            await call(make_error)
        except (ServerError, CircuitBreakerOpenError) as error:
            seen.add((depth_of(error.__traceback__), error.__context__))
    return seen


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", MAKE_ERROR)
async def test_thousands_of_calls_leave_no_task_no_timer_no_cycle_behind(kind, way):
    breaker = breaker_for(kind)
    call = way(breaker)
    await make_calls(call, kind, 150)
    tasks, timers = len(asyncio.all_tasks()), len(asyncio.get_running_loop()._scheduled)
    gc.collect()
    gc.disable()
    try:
        seen = await make_calls(call, kind, 2_000)
        assert gc.collect() == 0
    finally:
        gc.enable()
    assert len(asyncio.all_tasks()) == tasks
    assert len(asyncio.get_running_loop()._scheduled) == timers
    assert len(seen) == (0 if kind == "success" else 1)
    assert all(context is None for _, context in seen)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", MAKE_ERROR)
async def test_thousands_of_calls_leave_no_memory_behind(kind, way):
    breaker = breaker_for(kind)
    call = way(breaker)
    await make_calls(call, kind, 500)
    gc.collect()
    tracemalloc.start()
    try:
        await make_calls(call, kind, 500)
        before, _ = tracemalloc.get_traced_memory()
        await make_calls(call, kind, 2_000)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 10_000
    finally:
        tracemalloc.stop()
    snapshot = breaker.snapshot()
    counts = (
        *(snapshot.successes, snapshot.failures),
        *(snapshot.answered, snapshot.ignored, snapshot.rejected),
    )
    assert counts == tuple(3_000 * (name == kind) for name in MAKE_ERROR)


async def test_thousands_of_cancelled_calls_leave_nothing_behind(clock):
    breaker = CircuitBreaker("eu-west-1", clock=clock)

    async def cancelled():
        raise asyncio.CancelledError

    async def work(count):
        for _ in range(count):
            with contextlib.suppress(asyncio.CancelledError):
                await breaker.call(cancelled)

    await work(150)
    gc.collect()
    gc.disable()
    try:
        await work(2_000)
        assert gc.collect() == 0
    finally:
        gc.enable()
    assert breaker.snapshot().ignored == 2_150


def test_hundreds_of_outages_leave_nothing_behind(log):
    clock = FakeClock()
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=1), clock=clock)

    def outages(count):
        for _ in range(count):
            breaker.acquire().fail()
            clock.advance(60)
            breaker.acquire()  # a probe that hangs
            clock.advance(60)
            close(breaker)
            log.clear()

    outages(50)
    gc.collect()
    tracemalloc.start()
    try:
        outages(50)
        before, _ = tracemalloc.get_traced_memory()
        outages(500)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 10_000
    finally:
        tracemalloc.stop()
    assert breaker.snapshot().trips == 600


def probing(breaker):
    with breaker.acquire():
        yield


async def probing_async(breaker):
    with breaker.acquire():
        yield


def test_a_generator_that_is_collected_gives_its_place_back(breaker, clock):
    trip(breaker)
    clock.advance(60)
    generator = probing(breaker)
    next(generator)
    with pytest.raises(CircuitBreakerOpenError):
        contextvars.Context().run(breaker.acquire)
    del generator
    gc.collect()
    close(breaker)
    assert breaker.state is CLOSED


def test_a_generator_in_a_cycle_that_is_collected_gives_its_place_back(breaker, clock):
    trip(breaker)
    clock.advance(60)
    box = [probing(breaker)]
    next(box[0])
    box.append(box)
    del box
    gc.collect()
    close(breaker)
    assert breaker.state is CLOSED


async def test_an_async_generator_that_is_collected_gives_its_place_back(breaker, clock):
    trip(breaker)
    clock.advance(60)
    generator = probing_async(breaker)
    await anext(generator)
    del generator
    gc.collect()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    close(breaker)
    assert breaker.state is CLOSED


def test_a_permit_collected_amid_the_breakers_own_work_locks_nothing(clock):
    """The collector may run a generator's last lines at any allocation, under any lock."""
    breaker = CircuitBreaker("eu-west-1", NEVER_TRIPS, clock=clock)
    thresholds = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(300):
            box = [probing(breaker)]
            next(box[0])
            box.append(box)
            del box
            breaker.acquire().fail()
            breaker.snapshot()
            breaker.force_open("maintenance")
            breaker.reset()
    finally:
        gc.set_threshold(*thresholds)
    assert breaker.state is CLOSED
