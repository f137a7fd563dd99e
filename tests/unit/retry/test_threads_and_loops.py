"""Loops in threads, in several event loops, in the child of a fork and in trio."""

import asyncio
import contextlib
import gc
import threading
import weakref

import pytest
import trio
import trio.testing

from resilience import CircuitBreaker, CircuitBreakerOpenError, CircuitState
from resilience.retry import gate, transient_retry
from tests.support.driving import ServerError
from tests.support.forks import forking, in_child
from tests.support.retrying import (
    AN_HOUR,
    Backend,
    asleep,
    check_ended_by,
    ended,
    every_plain_entry,
    every_plain_way,
    long_timers,
    make_due,
    preset,
    result_of,
    settle,
    trip,
)
from tests.support.threads import join_all, run_all, without_the_lock

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


# Threads


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


def test_a_reset_of_a_closed_circuit_wakes_no_thread(breaker):
    asleep_, raised, backend = threading.Event(), [], Backend()
    send = breaker(preset(backend.send_plain, before_sleep=lambda _: asleep_.set()))

    def work():
        try:
            send()
        except BaseException as error:
            raised.append(error)

    threads = run_all([threading.Thread(target=work, daemon=True)])
    assert asleep_.wait(30)
    breaker.reset()
    trip(breaker)
    join_all(threads)
    check_ended_by(breaker, raised[0])
    assert backend.attempts == 1


# Event loops


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
    task = await asleep(here, breaker(preset(here.send)))
    trip(breaker)
    assert isinstance(await ended(task), CircuitBreakerOpenError)
    with contextlib.suppress(RuntimeError):
        left[0].close()


# Forks


@forking
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

    in_child(child)
    assert (raised, threads[0].is_alive()) == ([], True)
    trip(breaker)
    join_all(threads)
    assert type(raised[0]) is CircuitBreakerOpenError


@forking
async def test_a_circuit_that_opens_in_a_child_wakes_no_task_of_the_parent(breaker):
    backend = Backend()
    task = await asleep(backend, breaker(preset(backend.send)))
    in_child(lambda: trip(breaker))
    await settle()
    assert not task.done()
    trip(breaker)
    assert isinstance(await ended(task), CircuitBreakerOpenError)


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


async def test_a_thousand_calls_whose_loops_were_woken_leave_nothing_behind(clock):
    breaker = CircuitBreaker("eu-west-1", clock=clock)

    @breaker
    @transient_retry(wait=AN_HOUR)
    async def send():
        raise ServerError

    async def storm(calls):
        tasks = [asyncio.create_task(result_of(send())) for _ in range(calls)]
        await settle()
        breaker.force_open("the test says so")
        await asyncio.gather(*tasks)
        breaker.reset()

    await storm(10)
    gc.collect()
    before = len(gc.get_objects())
    await storm(1_000)
    await settle()  # asyncio forgets cancelled timers in its next round
    gc.collect()
    assert len(gc.get_objects()) - before < 500
    assert long_timers() == []


def test_a_success_in_a_closed_circuit_takes_no_lock(breaker):
    send = breaker(transient_retry()(Backend(default=None).send))
    send_plain = breaker(transient_retry()(Backend(default=None).send_plain))
    sent = without_the_lock(lambda: (asyncio.run(send()), send_plain()))
    assert sent == ("sent", "sent")
    assert breaker.snapshot().successes == 2
