"""Which circuits a loop belongs to: those of the calls that it runs in, and no others."""

import asyncio
import contextvars
import gc

import pytest
from tenacity import wait_none

from resilience import CircuitBreakerOpenError, CircuitState, Permit
from resilience.retry import gate
from tests.support.driving import ServerError
from tests.support.retrying import (
    Backend,
    around,
    asleep,
    by_permit,
    cancel,
    check_ended_by,
    ended,
    every_entry,
    every_plain_entry,
    make_due,
    preset,
    settle,
    trip,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


# Circuits in circuits


async def test_an_outer_circuit_that_opens_wakes_a_loop_of_the_inner(breaker, other):
    backend = Backend()
    task = await asleep(backend, breaker(around(other(preset(backend.send)))))
    trip(breaker)
    error = await ended(task)
    assert (type(error), error.region) == (CircuitBreakerOpenError, "eu-west-1")
    assert other.snapshot().failures == 0


async def test_an_inner_circuit_that_opens_wakes_its_loop(breaker, other):
    backend = Backend()
    task = await asleep(backend, breaker(around(other(preset(backend.send)))))
    trip(other)
    error = await ended(task)
    assert (type(error), error.region) == (CircuitBreakerOpenError, "tokens")
    assert breaker.snapshot().failures == 0


async def test_a_loop_between_two_circuits_is_not_the_inner_ones(breaker, other):
    backend = Backend()

    async def send():
        await other.call(Backend(default=None).send)
        return backend.answer()

    task = await asleep(backend, breaker(preset(send)))
    trip(other)
    await settle()
    assert not task.done()
    trip(breaker)
    assert isinstance(await ended(task), CircuitBreakerOpenError)


async def test_a_probe_of_an_outer_circuit_makes_one_attempt_in_the_inner(breaker, other, clock):
    backend = Backend()
    make_due(breaker, clock)
    with pytest.raises(ServerError):
        await breaker(around(other(preset(backend.send))))()
    assert (backend.attempts, breaker.state, other.snapshot().failures) == (1, OPEN, 1)


async def test_a_rejection_of_an_inner_circuit_is_not_retried(breaker, other):
    backend = Backend()
    other.force_open("maintenance")
    with pytest.raises(CircuitBreakerOpenError):
        await breaker(preset(other(backend.send)))()
    assert (backend.attempts, other.snapshot().rejected) == (0, 1)
    assert breaker.snapshot().ignored == 1


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


@every_entry
async def test_after_a_protected_call_nothing_is_gated(breaker, enter):
    await enter(breaker, preset(Backend(default=None).send))()
    breaker.force_open("maintenance")
    backend = Backend()
    with pytest.raises(ServerError):
        await preset(backend.send, wait=wait_none())()
    assert backend.attempts == 5


@every_plain_entry
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
    await cancel(*tasks)


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
    await cancel(*tasks)


# Contexts


def test_a_block_entered_in_one_context_may_end_in_another(breaker):
    permit = breaker.acquire()
    contextvars.copy_context().run(permit.__enter__)
    permit.__exit__(None, None, None)
    assert breaker.snapshot().successes == 1


def test_a_permit_left_in_another_context_gates_nothing(breaker):
    permit = breaker.acquire()
    contextvars.copy_context().run(permit.__enter__)
    permit.__exit__(None, None, None)
    breaker.force_open("maintenance")
    backend = Backend()
    with pytest.raises(ServerError):
        preset(backend.send_plain, wait=wait_none())()
    assert backend.attempts == 5


def test_permits_left_in_other_contexts_do_not_pile_up(breaker):
    before = permits_alive()
    for _ in range(3):
        permit = breaker.acquire()
        permit.__enter__()
        contextvars.copy_context().run(permit.__exit__, None, None, None)
    del permit
    assert permits_alive() <= before + 1, "the context holds the latest one, which holds no other"


async def test_calls_that_start_each_other_do_not_pile_up(breaker):
    """Each call starts the task that makes the next one, and ends when that has begun."""
    before, tasks, most = permits_alive(), [], 0
    began = [asyncio.Event() for _ in range(11)]

    @breaker
    @gate
    async def send(number):
        nonlocal most
        began[number].set()
        most = max(most, permits_alive() - before)
        if number < 10:
            tasks.append(asyncio.create_task(send(number + 1)))
            await began[number + 1].wait()

    await send(0)
    await asyncio.gather(*tasks)
    assert most <= 3, "the call, the one that started it, and the one before that"


def permits_alive():
    gc.collect()
    return sum(type(thing) is Permit for thing in gc.get_objects())


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


async def test_a_loop_that_sleeps_in_an_async_generator_is_woken(breaker):
    """While the task sleeps, the generator is suspended as well."""
    backend = Backend()

    async def in_the_generator():
        with breaker.acquire():
            yield await preset(backend.send)()

    async def in_what_it_calls():
        yield await by_permit(breaker, preset(backend.send))()

    for generator in (in_the_generator, in_what_it_calls):
        backend.attempts = 0
        task = await asleep(backend, lambda made=generator: anext(made()))
        trip(breaker)
        check_ended_by(breaker, await ended(task))
        breaker.reset()


async def test_a_coroutine_awaited_in_another_task_is_gated(breaker):
    backend = Backend()
    coroutine = breaker(preset(backend.send))()
    task = await asleep(backend, lambda: coroutine)
    trip(breaker)
    assert isinstance(await ended(task), CircuitBreakerOpenError)
