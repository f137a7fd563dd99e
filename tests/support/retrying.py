"""What the tests of the retries share: a backend, loops of every kind, and ways to protect them.

A loop that must be woken sleeps for an hour, so that a test in which nobody wakes it ends by its
watchdog.
"""

import asyncio

import pytest
import tenacity
from tenacity import AsyncRetrying, Retrying, stop_after_attempt, wait_fixed

from resilience import CircuitBreakerOpenError, CircuitState
from resilience.retry import gate, is_transient, transient_retry
from tests.support.driving import ServerError

AN_HOUR = wait_fixed(3600)


class Backend:
    """Counts the attempts. Raises the errors that it was given, then what `default` makes."""

    def __init__(self, *errors, default=ServerError):
        self.errors, self.default = list(errors), default
        self.attempts, self.raised = 0, []

    def answer(self):
        self.attempts += 1
        error = self.errors.pop(0) if self.errors else self.default and self.default()
        if error is not None:
            self.raised.append(error)
            raise error
        return "sent"

    async def send(self):
        return self.answer()

    def send_plain(self):
        return self.answer()


class Sleeps(list):
    """Stands in for the sleep of a loop: records how long, and returns."""

    async def __call__(self, seconds):
        self.append(seconds)

    def plain(self, seconds):
        self.append(seconds)


def state_after(error=None, result=None, attempt=1):
    """Return what tenacity's conditions see after an attempt."""
    state = tenacity.RetryCallState(Retrying(), None, (), {})
    state.attempt_number = attempt
    if error is None:
        state.set_result(result)
    else:
        state.set_exception((type(error), error, None))
    return state


def trip(breaker):
    for _ in range(breaker.policy.failure_threshold):
        breaker.acquire().fail()
    assert breaker.state is CircuitState.OPEN


def make_due(breaker, clock):
    trip(breaker)
    clock.advance(60)
    assert breaker.state is CircuitState.HALF_OPEN


# Tasks


async def settle():
    """Let every task run until it waits for something."""
    for _ in range(30):
        await asyncio.sleep(0)


async def asleep(backend, protected):
    """Start a call that sleeps after its first attempt."""
    task = asyncio.create_task(protected())
    await settle()
    assert backend.attempts == 1
    assert not task.done()
    return task


async def ended(task):
    """Return what a task raised."""
    await settle()
    assert task.done(), "it still sleeps"
    return task.exception()


async def result_of(awaitable):
    """Return what an awaitable returns or raises."""
    try:
        return await awaitable
    except BaseException as error:
        return error


def check_ended_by(breaker, error):
    """Check that a loop was ended by its OPEN circuit."""
    assert type(error) is CircuitBreakerOpenError
    assert (error.region, error.state) == (breaker.region, CircuitState.OPEN)
    assert error.retry_after == breaker.retry_after
    assert error.reason == breaker.snapshot().reason
    assert type(error.__cause__) is ServerError, "its own last error"


async def cancel(*tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def long_timers():
    """Return the timers of an hour that the running loop still has."""
    loop = asyncio.get_running_loop()
    timers = [handle for handle in loop._scheduled if not handle.cancelled()]
    return [handle for handle in timers if handle.when() - loop.time() > 1000]


# The ways to write a loop


def settings(wait=AN_HOUR, attempts=5, **more):
    return {
        "wait": wait,
        "stop": stop_after_attempt(attempts),
        "retry": is_transient,
        "reraise": True,
        **more,
    }


def preset(send, **more):
    return transient_retry(**settings(**more))(send)


def own_decorator(send, **more):
    return gate(tenacity.retry(**settings(**more))(send))


def async_for(send, **more):
    @gate
    async def send_in_a_loop():
        async for attempt in gate(AsyncRetrying(**settings(**more))):
            with attempt:
                result = await send()
        return result

    return send_in_a_loop


def async_call(send, **more):
    @gate
    async def send_in_a_loop():
        return await gate(AsyncRetrying(**settings(**more)))(send)

    return send_in_a_loop


def async_wraps(send, **more):
    @gate
    async def send_in_a_loop():
        return await gate(AsyncRetrying(**settings(**more))).wraps(send)()

    return send_in_a_loop


def plain_for(send, **more):
    @gate
    def send_in_a_loop():
        for attempt in gate(Retrying(**settings(**more))):
            with attempt:
                result = send()
        return result

    return send_in_a_loop


def plain_call(send, **more):
    @gate
    def send_in_a_loop():
        return gate(Retrying(**settings(**more)))(send)

    return send_in_a_loop


def plain_wraps(send, **more):
    @gate
    def send_in_a_loop():
        return gate(Retrying(**settings(**more))).wraps(send)()

    return send_in_a_loop


PLAIN_WAYS = [preset, own_decorator, plain_for, plain_call, plain_wraps]
every_async_way = pytest.mark.parametrize(
    "way", [preset, own_decorator, async_for, async_call, async_wraps]
)
every_plain_way = pytest.mark.parametrize("way", PLAIN_WAYS)

# The ways into a protected call


def by_decorator(breaker, loop):
    return breaker(loop)


def by_call(breaker, loop):
    return lambda: breaker.call(loop)


def by_permit(breaker, loop):
    async def protected():
        with breaker.acquire():
            return await loop()

    return protected


def by_plain_permit(breaker, loop):
    def protected():
        with breaker.acquire():
            return loop()

    return protected


every_entry = pytest.mark.parametrize("enter", [by_decorator, by_call, by_permit])
every_plain_entry = pytest.mark.parametrize("enter", [by_decorator, by_plain_permit])


def around(inner):
    """Return a function that awaits an inner one, and that retries can be marked in."""

    @gate
    async def outer():
        return await inner()

    return outer
