"""The gate: retry loops inside a protected call stop when its circuit does not let them go on.

Whoever must be woken sleeps for an hour: a test that waits for a timer ends by its watchdog.
"""

import asyncio
import contextlib
import contextvars
import gc
import os
import signal
import sys
import threading
import time
import traceback
import weakref

import pytest
import tenacity
import trio
import trio.testing
from tenacity import (
    AsyncRetrying,
    Retrying,
    TryAgain,
    retry_if_exception_type,
    retry_if_not_exception_type,
    retry_if_result,
    stop_after_attempt,
    wait_fixed,
    wait_none,
)
from tenacity.retry import retry_always

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
    failures,
    region_breaker,
)
from resilience.retry import gate, is_transient, stop_unless_closed, transient_retry

pytestmark = pytest.mark.timeout(45)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
POLICY = BreakerPolicy(failure_threshold=2, success_threshold=1)
AN_HOUR = wait_fixed(3600)


class ServerError(Exception):
    def __init__(self, status=503):
        super().__init__(status)
        self.status = status


@pytest.fixture
def breaker(clock):
    return CircuitBreaker("eu-west-1", POLICY, clock=clock)


@pytest.fixture
def other(clock):
    return CircuitBreaker("tokens", POLICY, clock=clock)


def trip(breaker):
    for _ in range(breaker.policy.failure_threshold):
        breaker.acquire().fail()


def make_due(breaker, clock):
    trip(breaker)
    clock.advance(60)
    assert breaker.state is HALF_OPEN


async def settle():
    """Let every task run until it waits for something."""
    for _ in range(30):
        await asyncio.sleep(0)


def long_timers():
    loop = asyncio.get_running_loop()
    timers = [handle for handle in loop._scheduled if not handle.cancelled()]
    return [handle for handle in timers if handle.when() - loop.time() > 1000]


class Backend:
    """What is called: counts the attempts and fails as long as it has errors to raise."""

    def __init__(self, *errors, default=ServerError):
        self.errors, self.default = list(errors), default
        self.attempts, self.raised = 0, []

    def answer(self):
        self.attempts += 1
        if self.errors:
            error = self.errors.pop(0)
        elif self.default is not None:
            error = self.default()
        else:
            error = None
        if error is not None:
            self.raised.append(error)
            raise error
        return "sent"

    async def send(self):
        return self.answer()

    def send_plain(self):
        return self.answer()


def settings(wait=AN_HOUR, attempts=5, **more):
    return {
        "wait": wait,
        "stop": stop_after_attempt(attempts),
        "retry": is_transient,
        "reraise": True,
        **more,
    }


# The ways to have a loop


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


ASYNC_WAYS = [preset, own_decorator, async_for, async_call, async_wraps]
PLAIN_WAYS = [preset, own_decorator, plain_for, plain_call, plain_wraps]

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


ENTRIES = [by_decorator, by_call, by_permit]
PLAIN_ENTRIES = [by_decorator, by_plain_permit]

every_async_way = pytest.mark.parametrize("way", ASYNC_WAYS)
every_plain_way = pytest.mark.parametrize("way", PLAIN_WAYS)
every_entry = pytest.mark.parametrize("enter", ENTRIES)
every_plain_entry = pytest.mark.parametrize("enter", PLAIN_ENTRIES)


async def asleep(breaker, backend, protected):
    """Start a call that sleeps after its first attempt."""
    task = asyncio.create_task(protected())
    await settle()
    assert backend.attempts == 1
    assert not task.done()
    return task


async def ended(task):
    """Give what a task raised."""
    await settle()
    assert task.done(), "it still sleeps"
    return task.exception()


# A CLOSED circuit: plain tenacity


@every_async_way
@every_entry
async def test_in_a_closed_circuit_all_attempts_are_made(breaker, way, enter):
    backend = Backend()
    with pytest.raises(ServerError) as caught:
        await enter(breaker, way(backend.send, wait=wait_none()))()
    assert backend.attempts == 5
    assert caught.value is backend.raised[-1]
    assert breaker.snapshot().failures == 1


@every_plain_way
@every_plain_entry
def test_in_a_closed_circuit_all_plain_attempts_are_made(breaker, way, enter):
    backend = Backend()
    with pytest.raises(ServerError) as caught:
        enter(breaker, way(backend.send_plain, wait=wait_none()))()
    assert backend.attempts == 5
    assert caught.value is backend.raised[-1]
    assert breaker.snapshot().failures == 1


@every_async_way
async def test_a_late_success_is_a_success(breaker, way):
    backend = Backend(ServerError(), ServerError(), default=None)
    assert await breaker(way(backend.send, wait=wait_none()))() == "sent"
    assert (backend.attempts, breaker.snapshot().successes, breaker.snapshot().failures) == (
        3,
        1,
        0,
    )


@every_async_way
async def test_outside_any_breaker_it_is_plain_tenacity(breaker, way):
    breaker.force_open("maintenance")
    backend = Backend()
    with pytest.raises(ServerError):
        await way(backend.send, wait=wait_none())()
    assert backend.attempts == 5


@every_plain_way
def test_outside_any_breaker_it_is_plain_tenacity_in_plain_code_too(breaker, way):
    breaker.force_open("maintenance")
    backend = Backend()
    with pytest.raises(ServerError):
        way(backend.send_plain, wait=wait_none())()
    assert backend.attempts == 5


# It opens while a loop sleeps


@every_async_way
@every_entry
async def test_a_loop_that_sleeps_is_woken_when_the_circuit_opens(breaker, way, enter):
    backend = Backend()
    task = await asleep(breaker, backend, enter(breaker, way(backend.send)))
    trip(breaker)
    error = await ended(task)
    assert type(error) is CircuitBreakerOpenError
    assert error.__cause__ is backend.raised[0]
    assert (error.region, error.state, error.retry_after) == ("eu-west-1", OPEN, 60.0)
    assert backend.attempts == 1
    assert long_timers() == []


@every_async_way
async def test_what_a_woken_loop_raises_is_no_new_failure(breaker, way):
    backend = Backend()
    task = await asleep(breaker, backend, breaker(way(backend.send)))
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
    task = await asleep(breaker, backend, breaker(preset(backend.send)))
    breaker.force_open("maintenance")
    error = await ended(task)
    assert (type(error), error.retry_after) == (CircuitBreakerOpenError, None)


async def test_an_opening_by_another_call_s_failure_wakes(clock):
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=1), clock=clock)
    backend = Backend()
    task = await asleep(breaker, backend, breaker(preset(backend.send)))
    with pytest.raises(ServerError):
        await breaker.call(Backend().send)
    assert isinstance(await ended(task), CircuitBreakerOpenError)


async def test_an_opening_in_another_thread_wakes(breaker):
    backend = Backend()
    task = await asleep(breaker, backend, breaker(preset(backend.send)))
    thread = threading.Thread(target=trip, args=(breaker,))
    thread.start()
    with pytest.raises(CircuitBreakerOpenError):
        await task
    thread.join()


async def test_a_circuit_that_is_half_open_before_the_woken_one_looks_admits_it_not(breaker, clock):
    backend = Backend()
    task = await asleep(breaker, backend, breaker(preset(backend.send)))
    make_due(breaker, clock)
    assert isinstance(await ended(task), CircuitBreakerOpenError)
    assert (backend.attempts, breaker.snapshot().probes) == (1, 0)


async def test_a_circuit_that_is_closed_again_cuts_no_backoff_short(breaker, clock):
    backend = Backend()
    task = await asleep(breaker, backend, breaker(preset(backend.send)))
    make_due(breaker, clock)
    breaker.acquire().succeed()
    assert breaker.state is CLOSED
    await settle()
    assert backend.attempts == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_reset_of_a_closed_circuit_wakes_no_loop(breaker):
    backend = Backend()
    task = await asleep(breaker, backend, breaker(preset(backend.send)))
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

    task = await asleep(breaker, backend, breaker(preset(backend.send, sleep=sleep)))
    trip(breaker)
    breaker.reset()
    go_on.set()
    assert await task == "sent"
    assert backend.attempts == 2


async def test_a_loop_woken_by_its_circuit_and_cancelled_at_once_ends_cancelled(breaker):
    backend = Backend()
    task = await asleep(breaker, backend, breaker(preset(backend.send)))
    trip(breaker)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() or isinstance(task.exception(), CircuitBreakerOpenError)
    assert backend.attempts == 1


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


# It opens while an attempt is on the wire


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


async def test_an_attempt_of_before_the_outage_is_no_probe_when_it_is_due(breaker, clock):
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


# Probes


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


async def test_a_probe_told_429_makes_one_attempt_and_gives_its_place_back(breaker, clock):
    backend = Backend(ServerError(429), default=None)
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


# A protected call of the same region inside a probe


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


@pytest.mark.parametrize("enter", ENTRIES)
async def test_every_way_into_a_nested_call_rides_along(breaker, clock, enter):
    make_due(breaker, clock)
    inner = enter(breaker, preset(Backend(default=None).send))
    assert await breaker(gate(inner_of(inner)))() == "sent"
    assert (breaker.state, breaker.snapshot().probes) == (CLOSED, 1)


def inner_of(inner):
    async def outer():
        return await inner()

    return outer


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
    assert await breaker(gate(inner_of(inner)))() == "sent"
    assert breaker.state is CLOSED


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


async def test_a_nested_call_in_a_closed_circuit_counts_for_itself(breaker):
    backend = Backend(default=None)
    await nested(breaker, backend)(times=3)
    assert breaker.snapshot().successes == 4


async def test_a_probe_that_is_nested_in_another_region_rides_on_its_own(breaker, other, clock):
    make_due(breaker, clock)
    inner = breaker(preset(Backend(default=None).send))
    middle = other(gate(inner_of(inner)))
    assert await breaker(gate(inner_of(middle)))() == "sent"
    assert (breaker.state, breaker.snapshot().probes) == (CLOSED, 1)


# Circuits in circuits


async def test_an_outer_circuit_that_opens_wakes_a_loop_of_the_inner(breaker, other):
    backend = Backend()
    task = await asleep(other, backend, breaker(gate(inner_of(other(preset(backend.send))))))
    trip(breaker)
    error = await ended(task)
    assert (type(error), error.region) == (CircuitBreakerOpenError, "eu-west-1")
    assert other.snapshot().failures == 0


async def test_an_inner_circuit_that_opens_wakes_its_loop(breaker, other):
    backend = Backend()
    task = await asleep(other, backend, breaker(gate(inner_of(other(preset(backend.send))))))
    trip(other)
    error = await ended(task)
    assert (type(error), error.region) == (CircuitBreakerOpenError, "tokens")
    assert breaker.snapshot().failures == 0


async def test_a_loop_between_two_circuits_is_not_the_inner_ones(breaker, other):
    backend = Backend()

    async def send():
        await other.call(Backend(default=None).send)
        return backend.answer()

    task = await asleep(breaker, backend, breaker(preset(send)))
    trip(other)
    await settle()
    assert not task.done()
    trip(breaker)
    assert isinstance(await ended(task), CircuitBreakerOpenError)


async def test_a_probe_of_an_outer_circuit_makes_one_attempt_in_the_inner(breaker, other, clock):
    backend = Backend()
    make_due(breaker, clock)
    with pytest.raises(ServerError):
        await breaker(gate(inner_of(other(preset(backend.send)))))()
    assert (backend.attempts, breaker.state, other.snapshot().failures) == (1, OPEN, 1)


async def test_a_rejection_of_an_inner_circuit_is_not_retried(breaker, other):
    backend = Backend()
    other.force_open("maintenance")
    with pytest.raises(CircuitBreakerOpenError):
        await breaker(preset(other(backend.send)))()
    assert (backend.attempts, other.snapshot().rejected) == (0, 1)
    assert breaker.snapshot().ignored == 1


# Cancelling


@every_async_way
@every_entry
async def test_cancelling_in_a_backoff_sleep_cancels_at_once(breaker, way, enter):
    backend = Backend()
    task = await asleep(breaker, backend, enter(breaker, way(backend.send)))
    task.cancel()
    await settle()
    assert task.cancelled()
    assert backend.attempts == 1
    assert (breaker.snapshot().ignored, breaker.snapshot().failures) == (1, 0)
    assert long_timers() == []


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
        async with asyncio.timeout(0.001):
            await breaker(preset(backend.send))()
    assert backend.attempts == 1
    assert long_timers() == []


# Settled permits, and what outlives its call


async def test_a_settled_permit_gates_nothing(breaker):
    backend = Backend()
    with breaker.acquire() as permit:
        permit.succeed()
        trip(breaker)
        with pytest.raises(ServerError):
            await preset(backend.send, wait=wait_none())()
    assert backend.attempts == 5


async def test_a_permit_without_a_with_block_gates_nothing(breaker):
    backend, permit = Backend(), breaker.acquire()
    trip(breaker)
    with pytest.raises(ServerError):
        await preset(backend.send, wait=wait_none())()
    assert backend.attempts == 5
    permit.ignore()


@pytest.mark.parametrize("enter", ENTRIES)
async def test_after_a_protected_call_nothing_is_gated(breaker, enter):
    await enter(breaker, preset(Backend(default=None).send))()
    breaker.force_open("maintenance")
    backend = Backend()
    with pytest.raises(ServerError):
        await preset(backend.send, wait=wait_none())()
    assert backend.attempts == 5


@pytest.mark.parametrize("enter", PLAIN_ENTRIES)
def test_after_a_plain_call_that_failed_nothing_is_gated(breaker, enter):
    with pytest.raises(ServerError):
        enter(breaker, preset(Backend().send_plain, wait=wait_none()))()
    breaker.force_open("maintenance")
    backend = Backend()
    with pytest.raises(ServerError):
        preset(backend.send_plain, wait=wait_none())()
    assert backend.attempts == 5


async def test_a_background_task_that_outlives_its_call_is_plain_tenacity(breaker):
    backend, go_on, tasks = Backend(), asyncio.Event(), []

    async def later():
        await go_on.wait()
        await preset(backend.send, wait=wait_none())()

    @breaker
    @gate
    async def call():
        tasks.append(asyncio.create_task(later()))

    await call()
    trip(breaker)
    go_on.set()
    assert isinstance(await ended(tasks[0]), ServerError)
    assert backend.attempts == 5


async def test_a_background_task_within_its_call_is_gated(breaker):
    backend, tasks = Backend(), []

    @breaker
    @gate
    async def call():
        tasks.append(asyncio.create_task(preset(backend.send)()))
        await settle()
        trip(breaker)
        await settle()
        return tasks[0].done()

    assert await call() is True
    assert isinstance(tasks[0].exception(), CircuitBreakerOpenError)


async def test_a_sleeping_background_task_whose_call_is_over_sleeps_on(breaker):
    backend, tasks = Backend(), []

    @breaker
    @gate
    async def call():
        tasks.append(asyncio.create_task(preset(backend.send)()))
        await settle()

    await call()
    trip(breaker)
    await settle()
    assert (tasks[0].done(), backend.attempts) == (False, 1)
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_loop_that_begins_after_its_call_is_over_is_not_woken(breaker):
    backend, go_on, tasks = Backend(), asyncio.Event(), []

    async def later():
        await go_on.wait()
        await preset(backend.send)()

    @breaker
    @gate
    async def call():
        tasks.append(asyncio.create_task(later()))

    await call()
    go_on.set()
    await settle()
    assert backend.attempts == 1
    trip(breaker)
    await settle()
    assert (tasks[0].done(), backend.attempts) == (False, 1)
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# Contexts


def test_a_block_entered_in_one_context_may_end_in_another(breaker):
    permit = breaker.acquire()
    contextvars.copy_context().run(permit.__enter__)
    permit.__exit__(None, None, None)
    assert breaker.snapshot().successes == 1


def test_blocks_that_end_in_the_order_of_their_start_leave_nothing_behind(breaker, other):
    first, second = breaker.acquire(), other.acquire()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    breaker.force_open("maintenance")
    other.force_open("maintenance")
    backend = Backend()
    with pytest.raises(ServerError):
        preset(backend.send_plain, wait=wait_none())()
    assert backend.attempts == 5


def test_a_block_that_outlasts_the_one_around_it_still_gates_its_loops(breaker, other):
    first, second = other.acquire(), breaker.acquire()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    trip(breaker)
    backend = Backend()
    try:
        with pytest.raises(CircuitBreakerOpenError):
            preset(backend.send_plain, wait=wait_none())()
    finally:
        second.__exit__(None, None, None)
    assert backend.attempts == 0


async def test_an_async_generator_that_holds_a_permit_gates_its_loops(breaker):
    backend = Backend()

    async def protected():
        with breaker.acquire():
            yield
            await preset(backend.send)()

    generator = protected()
    await anext(generator)
    trip(breaker)
    with pytest.raises(CircuitBreakerOpenError):
        await anext(generator)
    assert backend.attempts == 0


async def test_concurrent_calls_of_two_circuits_are_kept_apart(breaker, other):
    here, there = Backend(), Backend()
    tasks = [
        asyncio.create_task(breaker(preset(here.send))()),
        asyncio.create_task(other(preset(there.send))()),
    ]
    await settle()
    trip(breaker)
    assert isinstance(await ended(tasks[0]), CircuitBreakerOpenError)
    assert not tasks[1].done()
    trip(other)
    assert (await ended(tasks[1])).region == "tokens"


async def test_a_coroutine_awaited_in_another_task_is_gated(breaker):
    backend = Backend()
    coroutine = breaker(preset(backend.send))()
    task = await asleep(breaker, backend, lambda: coroutine)
    trip(breaker)
    assert isinstance(await ended(task), CircuitBreakerOpenError)


# The user's own tenacity


async def test_without_reraise_a_probe_reports_its_one_attempt(breaker, clock):
    backend = Backend()
    make_due(breaker, clock)
    with pytest.raises(tenacity.RetryError) as caught:
        await breaker(own_decorator(backend.send, reraise=False))()
    assert caught.value.last_attempt.exception() is backend.raised[0]
    assert (backend.attempts, breaker.state) == (1, OPEN)


@every_async_way
async def test_without_reraise_a_woken_loop_raises_the_rejection(breaker, way):
    backend = Backend()
    task = await asleep(breaker, backend, breaker(way(backend.send, reraise=False)))
    trip(breaker)
    error = await ended(task)
    assert (type(error), error.__cause__) == (CircuitBreakerOpenError, backend.raised[0])


async def test_a_retry_error_callback_gets_no_further_attempt(breaker, clock):
    backend = Backend()
    make_due(breaker, clock)
    send = own_decorator(backend.send, retry_error_callback=lambda _: "saved")
    with contextlib.suppress(ServerError):
        assert await breaker(send)() == "saved"
    assert backend.attempts == 1


async def test_a_loop_with_a_retry_error_callback_is_woken(breaker):
    backend = Backend()
    send = own_decorator(backend.send, retry_error_callback=lambda _: "saved")
    task = await asleep(breaker, backend, breaker(send))
    trip(breaker)
    await settle()
    assert task.done()
    assert isinstance(task.exception(), CircuitBreakerOpenError) or task.result() == "saved"
    assert backend.attempts == 1


async def test_async_hooks_are_awaited_as_ever(breaker):
    backend, seen = Backend(ServerError(), default=None), []

    def hook(name):
        async def call(_):
            await asyncio.sleep(0)
            seen.append(name)

        return call

    names = ("before", "after", "before_sleep")
    send = own_decorator(backend.send, wait=wait_none(), **{name: hook(name) for name in names})
    assert await breaker(send)() == "sent"
    assert seen == ["before", "after", "before_sleep", "before"]


async def test_an_async_retry_condition_is_awaited_as_ever(breaker):
    backend = Backend()

    async def retry(state):
        await asyncio.sleep(0)
        return state.outcome.failed

    with pytest.raises(ServerError):
        await breaker(own_decorator(backend.send, retry=retry, wait=wait_none()))()
    assert backend.attempts == 5


@pytest.mark.parametrize("make", [preset, own_decorator])
async def test_what_retry_with_makes_is_gated_inside_the_circuit(breaker, make):
    backend = Backend()
    send = breaker(make(backend.send)).retry_with(stop=stop_after_attempt(9))
    task = await asleep(breaker, backend, send)
    trip(breaker)
    assert isinstance(await ended(task), CircuitBreakerOpenError)


@pytest.mark.parametrize("make", [preset, own_decorator])
async def test_what_retry_with_makes_under_the_circuit_is_gated(breaker, clock, make):
    backend = Backend()
    make_due(breaker, clock)
    send = breaker(make(backend.send).retry_with(stop=stop_after_attempt(9), wait=wait_none()))
    with pytest.raises(ServerError):
        await send()
    assert backend.attempts == 1


async def test_retry_with_of_a_gated_function_keeps_what_was_given(breaker):
    backend = Backend()
    send = own_decorator(backend.send, wait=wait_none()).retry_with(stop=stop_after_attempt(3))
    with pytest.raises(ServerError):
        await breaker(send)()
    assert backend.attempts == 3


@every_async_way
async def test_a_loop_that_is_not_enabled_calls_once(breaker, way):
    backend = Backend()
    with pytest.raises(ServerError):
        await breaker(way(backend.send, enabled=False))()
    assert backend.attempts == 1


@every_async_way
async def test_try_again_makes_a_probe_no_second_attempt(breaker, clock, way):
    backend = Backend(default=TryAgain)
    make_due(breaker, clock)
    with pytest.raises((TryAgain, tenacity.RetryError)):
        await breaker(way(backend.send, wait=wait_none()))()
    assert backend.attempts == 1


@every_async_way
async def test_try_again_sleeps_no_outage_through(breaker, way):
    backend = Backend(default=TryAgain)
    task = await asleep(breaker, backend, breaker(way(backend.send)))
    trip(breaker)
    assert isinstance(await ended(task), CircuitBreakerOpenError)


@pytest.mark.parametrize("make", [preset, own_decorator])
async def test_a_result_that_is_not_wanted_is_gated_alike(breaker, clock, make):
    backend = Backend(default=None)
    loop = make(backend.send, retry=retry_if_result(lambda result: result == "sent"))
    task = await asleep(breaker, backend, breaker(loop))
    trip(breaker)
    error = await ended(task)
    assert (type(error), error.__cause__) == (CircuitBreakerOpenError, None)
    clock.advance(60)
    with pytest.raises(tenacity.RetryError):
        await breaker(loop)()
    assert backend.attempts == 2


async def test_retry_always_retries_no_rejection_of_its_own_circuit(breaker):
    backend = Backend()
    loop = own_decorator(backend.send, retry=retry_always, wait=AN_HOUR)
    task = await asleep(breaker, backend, breaker(loop))
    trip(breaker)
    assert isinstance(await ended(task), CircuitBreakerOpenError)


async def test_a_sleep_of_the_user_s_own_wins_and_is_not_woken(breaker):
    backend, go_on, asked = Backend(), asyncio.Event(), []

    async def sleep(seconds):
        asked.append(seconds)
        await go_on.wait()

    task = await asleep(breaker, backend, breaker(preset(backend.send, sleep=sleep)))
    trip(breaker)
    await settle()
    assert not task.done()
    go_on.set()
    error = await ended(task)
    assert (type(error), error.__cause__) == (CircuitBreakerOpenError, backend.raised[0])
    assert (backend.attempts, asked) == (1, [3600])


def test_a_plain_sleep_of_the_user_s_own_wins(breaker):
    backend, asked = Backend(), []

    def sleep(seconds):
        asked.append(seconds)
        trip(breaker)

    with pytest.raises(CircuitBreakerOpenError) as caught:
        breaker(preset(backend.send_plain, sleep=sleep))()
    assert caught.value.__cause__ is backend.raised[0]
    assert (backend.attempts, asked) == (1, [3600])


def test_gate_of_a_loop_leaves_the_loop_it_was_given_alone(breaker):
    plain = Retrying(**settings(wait=wait_none()))
    gated, backend = gate(plain), Backend()
    assert isinstance(gated, Retrying)
    with breaker.acquire() as permit:
        trip(breaker)
        with pytest.raises(ServerError):
            plain(backend.send_plain)
        permit.ignore()
    assert backend.attempts == 5


def test_gate_of_an_asyncretrying_is_one():
    assert isinstance(gate(AsyncRetrying()), AsyncRetrying)


def test_gate_leaves_a_plain_function_what_it_is():
    def send(text, *, urgent=False):
        """Send it."""
        return (text, urgent)

    marked = gate(send)
    assert marked("hello", urgent=True) == ("hello", True)
    assert (marked.__name__, marked.__doc__) == ("send", "Send it.")


def test_a_gated_plain_loop_can_be_used_again(breaker):
    loop, backend = gate(Retrying(**settings(wait=wait_none()))), Backend()
    for _ in range(2):
        with pytest.raises(ServerError), breaker.acquire():
            loop(backend.send_plain)
    assert backend.attempts == 10
    assert breaker.state is OPEN


async def test_methods_can_be_gated(breaker):
    class Client:
        attempts = 0

        @breaker
        @transient_retry(wait=wait_none(), attempts=3)
        async def send(self):
            self.attempts += 1
            raise ServerError

    client = Client()
    with pytest.raises(ServerError):
        await client.send()
    assert client.attempts == 3


async def test_a_region_breaker_gates_what_it_decorates(clock):
    registry = CircuitBreakerRegistry(POLICY, clock=clock)
    backend = Backend()

    @region_breaker(region_from="region", registry=registry)
    @transient_retry(wait=AN_HOUR)
    async def send(region):
        return backend.answer()

    task = await asleep(None, backend, lambda: send("eu-west-1"))
    trip(registry.get("us-east-1"))
    await settle()
    assert not task.done()
    trip(registry.get("eu-west-1"))
    assert isinstance(await ended(task), CircuitBreakerOpenError)


# Only the stop condition


async def test_stop_unless_closed_alone_ends_a_loop_after_its_attempt(breaker):
    backend = Backend()

    @breaker
    @gate
    @tenacity.retry(stop=stop_after_attempt(5) | stop_unless_closed, reraise=True)
    async def send():
        trip(breaker)
        return backend.answer()

    with pytest.raises(ServerError):
        await send()
    assert backend.attempts == 1


async def test_stop_unless_closed_needs_no_gate(breaker, clock):
    backend = Backend()
    make_due(breaker, clock)
    stop = stop_after_attempt(5) | stop_unless_closed
    with pytest.raises(ServerError):
        await breaker(tenacity.retry(stop=stop, reraise=True)(backend.send))()
    assert (backend.attempts, breaker.state) == (1, OPEN)


@pytest.mark.parametrize(
    "stop",
    [
        stop_unless_closed,
        stop_unless_closed | stop_after_attempt(5),
        stop_after_attempt(1) & stop_unless_closed,
    ],
    ids=["alone", "first", "and"],
)
def test_stop_unless_closed_is_a_stop_condition_like_any(breaker, clock, stop):
    make_due(breaker, clock)
    backend = Backend()
    with pytest.raises(ServerError):
        breaker(tenacity.retry(stop=stop, reraise=True)(backend.send_plain))()
    assert backend.attempts == 1


def test_stop_unless_closed_outside_any_breaker_never_stops(breaker):
    breaker.force_open("maintenance")
    backend = Backend()
    stop = stop_after_attempt(5) | stop_unless_closed
    with pytest.raises(ServerError):
        tenacity.retry(stop=stop, reraise=True)(backend.send_plain)()
    assert backend.attempts == 5


# Threads


def run_all(threads):
    for thread in threads:
        thread.start()
    return threads


def join_all(threads):
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads), "a thread still sleeps"


def test_a_hundred_threads_that_sleep_in_plain_loops_are_all_released(breaker):
    asleep_, raised, backend = threading.Semaphore(0), [], Backend()
    send = breaker(preset(backend.send_plain, before_sleep=lambda _: asleep_.release()))

    def work():
        try:
            send()
        except BaseException as error:
            raised.append(error)

    threads = run_all([threading.Thread(target=work, daemon=True) for _ in range(100)])
    for _ in range(100):
        assert asleep_.acquire(timeout=30)
    trip(breaker)
    join_all(threads)
    assert {type(error) for error in raised} == {CircuitBreakerOpenError}
    assert {error.__cause__ for error in raised} == set(backend.raised)
    assert backend.attempts == 100


@every_plain_way
@every_plain_entry
def test_every_plain_loop_is_released(breaker, way, enter):
    asleep_, raised, backend = threading.Event(), [], Backend()
    send = enter(breaker, way(backend.send_plain, before_sleep=lambda _: asleep_.set()))

    def work():
        try:
            send()
        except BaseException as error:
            raised.append(error)

    threads = run_all([threading.Thread(target=work, daemon=True)])
    assert asleep_.wait(30)
    trip(breaker)
    join_all(threads)
    assert type(raised[0]) is CircuitBreakerOpenError
    assert raised[0].__cause__ is backend.raised[0]
    assert backend.attempts == 1


async def test_a_plain_loop_in_to_thread_is_released_by_the_circuit_of_its_call(breaker):
    asleep_, backend = asyncio.Event(), Backend()
    ring, loop = asleep_.set, asyncio.get_running_loop()
    sleeping = preset(backend.send_plain, before_sleep=lambda _: loop.call_soon_threadsafe(ring))

    @breaker
    @gate
    async def send():
        return await asyncio.to_thread(sleeping)

    task = asyncio.create_task(send())
    await asleep_.wait()
    trip(breaker)
    with pytest.raises(CircuitBreakerOpenError):
        await task
    assert backend.attempts == 1


def test_loops_of_several_event_loops_are_all_woken(breaker):
    asleep_, raised, backend = threading.Semaphore(0), [], Backend()
    send = breaker(preset(backend.send, before_sleep=lambda _: asleep_.release()))

    async def main():
        raised.extend(await asyncio.gather(*(send() for _ in range(20)), return_exceptions=True))

    threads = run_all(
        [threading.Thread(target=lambda: asyncio.run(main()), daemon=True) for _ in range(3)]
    )
    for _ in range(60):
        assert asleep_.acquire(timeout=30)
    trip(breaker)
    join_all(threads)
    assert [type(error) for error in raised] == [CircuitBreakerOpenError] * 60
    assert backend.attempts == 60


async def test_an_event_loop_closed_under_a_sleeping_loop_strands_nobody(breaker):
    backend, left = Backend(), []

    def close_it():
        loop = asyncio.new_event_loop()
        left.append(breaker(preset(backend.send))())
        left.append(loop.create_task(left[0]))
        left[1]._log_destroy_pending = False
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    thread = threading.Thread(target=close_it)
    thread.start()
    thread.join()
    here = Backend()
    task = await asleep(breaker, here, breaker(preset(here.send)))
    trip(breaker)
    assert isinstance(await ended(task), CircuitBreakerOpenError)
    with contextlib.suppress(RuntimeError):
        left[0].close()


# Forks


def in_child(work):
    child = os.fork()
    if child == 0:
        sys.settrace(None)
        threading.settrace(None)
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "a hang"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_wakes_its_own_loops_and_none_of_the_parent(breaker):
    asleep_, raised, backend = threading.Semaphore(0), [], Backend()
    send = breaker(preset(backend.send_plain, before_sleep=lambda _: asleep_.release()))

    def work():
        try:
            send()
        except BaseException as error:
            raised.append(error)

    threads = run_all([threading.Thread(target=work, daemon=True)])
    assert asleep_.acquire(timeout=30)

    def child():
        own = run_all([threading.Thread(target=work, daemon=True)])
        assert asleep_.acquire(timeout=20)
        trip(breaker)
        join_all(own)
        assert type(raised[0]) is CircuitBreakerOpenError

    assert in_child(child) == 0
    assert (raised, threads[0].is_alive()) == ([], True)
    trip(breaker)
    join_all(threads)
    assert type(raised[0]) is CircuitBreakerOpenError


# Trio


def test_in_trio_no_attempt_starts_after_the_circuit_opened(breaker):
    backend = Backend()

    async def main():
        caught = []

        async def call():
            try:
                await breaker(preset(backend.send))()
            except CircuitBreakerOpenError as error:
                caught.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            while not backend.attempts:
                await trio.lowlevel.checkpoint()
            trip(breaker)
        return caught

    (error,) = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert error.__cause__ is backend.raised[0]
    assert backend.attempts == 1


def test_in_trio_a_probe_makes_one_attempt(breaker, clock):
    backend = Backend()
    make_due(breaker, clock)
    with pytest.raises(ServerError):
        trio.run(breaker(preset(backend.send)))
    assert (backend.attempts, breaker.state) == (1, OPEN)


def test_in_trio_a_closed_circuit_sleeps_and_makes_all_attempts(breaker):
    backend = Backend()
    with pytest.raises(ServerError):
        trio.run(breaker(preset(backend.send)), clock=trio.testing.MockClock(autojump_threshold=0))
    assert backend.attempts == 5


def test_in_trio_a_sleeping_loop_can_be_cancelled(breaker):
    backend = Backend()

    async def main():
        with trio.move_on_after(1):
            await breaker(preset(backend.send))()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert (backend.attempts, breaker.snapshot().ignored) == (1, 1)


# Nothing stays behind


async def test_loops_that_ended_leave_no_task_no_timer_behind(breaker):
    backend = Backend()
    send = breaker(preset(backend.send))
    tasks_before = len(asyncio.all_tasks())
    for _ in range(20):
        breaker.reset()
        tasks = [asyncio.create_task(send()) for _ in range(10)]
        await settle()
        for task in tasks[:5]:
            task.cancel()
        await settle()
        trip(breaker)
        await asyncio.gather(*tasks, return_exceptions=True)
    assert len(asyncio.all_tasks()) == tasks_before
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
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    del task, message
    await settle()
    gc.collect()
    assert gone() is None


async def test_a_call_that_ended_holds_nothing_in_a_task_it_left_behind(breaker):
    class Message:
        pass

    message, never, tasks = Message(), asyncio.Event(), []

    async def send(message):
        tasks.append(asyncio.create_task(never.wait()))

    await breaker(transient_retry()(send))(message)
    gone = weakref.ref(message)
    del message
    gc.collect()
    assert gone() is None
    never.set()
    await asyncio.gather(*tasks)


# count_per="attempt"


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
async def test_count_per_attempt_does_not_count_what_is_no_failure(breaker, status):
    backend = Backend(default=lambda: ServerError(status))
    with pytest.raises(ServerError):
        await breaker(per_attempt(backend.send))()
    assert (backend.attempts, breaker.snapshot().failures) == (5, 0)


async def test_count_per_attempt_asks_the_breaker_s_own_classifier(clock):
    breaker = CircuitBreaker("eu-west-1", POLICY, classifier=failures(KeyError), clock=clock)
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


async def test_a_nested_attempt_that_counts_and_fails_opens_it_once(breaker, clock):
    make_due(breaker, clock)
    inner = breaker(per_attempt(Backend().send))
    with pytest.raises(ServerError):
        await breaker(gate(inner_of(inner)))()
    assert (breaker.state, breaker.snapshot().failures) == (OPEN, 3)


async def test_a_task_of_a_probe_rides_along_while_it_lives(breaker, clock):
    make_due(breaker, clock)
    inner = breaker(preset(Backend(default=None).send))

    @breaker
    @gate
    async def outer():
        return await asyncio.gather(inner(), asyncio.create_task(inner()))

    assert await outer() == ["sent", "sent"]
    assert (breaker.state, breaker.snapshot().probes) == (CLOSED, 1)


async def test_a_nested_call_of_a_probe_can_be_cancelled(breaker, clock):
    make_due(breaker, clock)

    async def send():
        await asyncio.Event().wait()

    task = asyncio.create_task(breaker(gate(inner_of(breaker(preset(send)))))())
    await settle()
    task.cancel()
    await settle()
    assert task.cancelled()
    assert (breaker.state, breaker.retry_after) == (HALF_OPEN, 0.0)


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
