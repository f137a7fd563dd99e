"""wait_until_ready: who waits for a circuit, who is woken, and that nobody is forgotten."""

import asyncio
import gc
import math
import threading
import weakref
from datetime import timedelta

import pytest
import trio

from resilience import BreakerPolicy, CircuitBreaker, CircuitBreakerOpenError, CircuitState

# Below a recovery timeout: who was not woken must not pass by sleeping it out in real time.
pytestmark = pytest.mark.timeout(45)


@pytest.fixture
def breaker(clock):
    return CircuitBreaker("eu-west-1", BreakerPolicy(success_threshold=1), clock=clock)


def trip(breaker):
    for _ in range(breaker.policy.failure_threshold):
        breaker.acquire().fail()


def half_open(breaker, clock):
    trip(breaker)
    clock.advance(60)
    return breaker.acquire()


async def settle():
    """Let every task run until it waits for something."""
    for _ in range(20):
        await asyncio.sleep(0)


async def waiting(breaker, count=1):
    """Start tasks that wait for the breaker, in order, and let them get there."""
    tasks = [asyncio.create_task(breaker.wait_until_ready()) for _ in range(count)]
    await settle()
    assert not any(task.done() for task in tasks)
    return tasks


class Probers:
    """Tasks that wait for the breaker and then take a permit, which they keep."""

    def __init__(self, breaker, count):
        self.breaker = breaker
        self.permits = []
        self.order = []
        self.arrived = asyncio.Semaphore(0)
        self.tasks = [asyncio.create_task(self.probe(number)) for number in range(count)]

    async def probe(self, number):
        while True:
            assert await self.breaker.wait_until_ready() is True
            try:
                self.permits.append(self.breaker.acquire())
            except CircuitBreakerOpenError:
                continue
            self.order.append(number)
            self.arrived.release()
            return


def live_futures():
    gc.collect()
    # Odd objects of other tests may be in memory: only plain classes are asked.
    kinds = [type(thing) for thing in gc.get_objects()]
    return sum(type(kind) is type and issubclass(kind, asyncio.Future) for kind in kinds)


# Nobody has to wait


async def test_a_closed_circuit_is_ready_immediately(breaker):
    assert await breaker.wait_until_ready() is True


@pytest.mark.parametrize("seconds", [0, 0.0, 5, None])
async def test_a_closed_circuit_is_ready_whatever_the_timeout(breaker, seconds):
    assert await breaker.wait_until_ready(timeout=seconds) is True


async def test_a_circuit_that_is_due_is_ready_immediately(breaker, clock):
    trip(breaker)
    clock.advance(60)
    assert await breaker.wait_until_ready(timeout=0) is True


async def test_a_half_open_circuit_with_a_free_place_is_ready_immediately(breaker, clock):
    half_open(breaker, clock).ignore()
    assert await breaker.wait_until_ready(timeout=0) is True


async def test_waiting_reserves_nothing_and_changes_nothing(breaker, clock):
    events = []
    trip(breaker)
    breaker.listen(events.append)
    clock.advance(60)
    assert await breaker.wait_until_ready() is True
    assert await breaker.wait_until_ready() is True
    assert events == []
    assert breaker.snapshot().probes == 0


# Time-outs


async def test_a_timeout_of_zero_only_looks(breaker, clock):
    trip(breaker)
    assert await breaker.wait_until_ready(timeout=0) is False
    breaker.reset()
    half_open(breaker, clock)
    assert await breaker.wait_until_ready(0) is False


async def test_a_wait_that_times_out_is_false():
    breaker = CircuitBreaker("eu-west-1")
    trip(breaker)
    assert await breaker.wait_until_ready(timeout=0.01) is False


async def test_a_wait_for_a_forced_circuit_times_out_too():
    breaker = CircuitBreaker("eu-west-1")
    breaker.force_open("maintenance")
    assert await breaker.wait_until_ready(timeout=0.01) is False


async def test_the_real_clock_ends_a_wait():
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(recovery_timeout=0.01))
    trip(breaker)
    assert await breaker.wait_until_ready() is True
    breaker.acquire()


async def test_a_long_timeout_does_not_outlast_the_circuit():
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(recovery_timeout=0.01))
    trip(breaker)
    assert await breaker.wait_until_ready(timeout=1e6) is True


@pytest.mark.parametrize("seconds", ["1", True, b"1", timedelta(seconds=1), [1]], ids=repr)
async def test_a_timeout_of_the_wrong_type_is_a_type_error(breaker, seconds):
    trip(breaker)
    with pytest.raises(TypeError, match="timeout"):
        await breaker.wait_until_ready(timeout=seconds)


@pytest.mark.parametrize("seconds", [-1, -0.5, math.nan], ids=repr)
async def test_a_timeout_of_a_wrong_value_is_a_value_error(breaker, seconds):
    trip(breaker)
    with pytest.raises(ValueError, match="timeout"):
        await breaker.wait_until_ready(timeout=seconds)


async def test_a_bad_timeout_is_refused_in_a_closed_circuit_too(breaker):
    with pytest.raises(TypeError, match="timeout"):
        await breaker.wait_until_ready(timeout="1")


# The due moment


async def test_advancing_the_fake_clock_wakes_waiting_tasks(breaker, clock):
    trip(breaker)
    (task,) = await waiting(breaker)
    clock.advance(59.5)
    await settle()
    assert not task.done()
    clock.advance(0.5)
    assert await task is True
    assert breaker.state is CircuitState.HALF_OPEN


async def test_advancing_the_fake_clock_in_another_thread_wakes_waiting_tasks(breaker, clock):
    trip(breaker)
    (task,) = await waiting(breaker)
    thread = threading.Thread(target=clock.advance, args=(60,))
    thread.start()
    assert await task is True
    thread.join()


async def test_of_a_hundred_waiting_tasks_one_is_woken_at_the_due_moment(breaker, clock):
    trip(breaker)
    probers = Probers(breaker, 100)
    await settle()
    clock.advance(60)
    await settle()
    assert probers.order == [0]
    assert sum(task.done() for task in probers.tasks) == 1
    assert breaker.snapshot().rejected == 0
    breaker.reset()
    await asyncio.gather(*probers.tasks)


async def test_a_freed_place_wakes_one(breaker, clock):
    trip(breaker)
    probers = Probers(breaker, 100)
    await settle()
    clock.advance(60)
    await settle()
    for expected in ([0, 1], [0, 1, 2], [0, 1, 2, 3]):
        probers.permits[-1].ignore()
        await settle()
        assert probers.order == expected
    assert breaker.snapshot().rejected == 0
    breaker.reset()
    await asyncio.gather(*probers.tasks)


async def test_as_many_places_as_there_are_get_filled(clock):
    policy = BreakerPolicy(half_open_probes=3)
    breaker = CircuitBreaker("eu-west-1", policy, clock=clock)
    trip(breaker)
    probers = Probers(breaker, 10)
    await settle()
    clock.advance(60)
    for _ in range(3):
        await probers.arrived.acquire()
    await settle()
    assert sorted(probers.order) == [0, 1, 2]
    breaker.reset()
    await asyncio.gather(*probers.tasks)


async def test_the_end_of_a_lease_wakes_one(breaker, clock):
    half_open(breaker, clock)
    probers = Probers(breaker, 10)
    await settle()
    assert probers.order == []
    clock.advance(60)
    await settle()
    assert probers.order == [0]
    breaker.reset()
    await asyncio.gather(*probers.tasks)


async def test_a_reopened_circuit_wakes_nobody_before_it_is_due_again(breaker, clock):
    probe = half_open(breaker, clock)
    (task,) = await waiting(breaker)
    probe.fail()
    await settle()
    assert not task.done()
    clock.advance(59.5)
    await settle()
    assert not task.done()
    clock.advance(0.5)
    assert await task is True


async def test_a_circuit_that_opens_again_before_the_woken_one_looks_keeps_it_waiting(
    breaker, clock
):
    trip(breaker)
    (task,) = await waiting(breaker)
    clock.advance(60)
    breaker.acquire().fail()
    await settle()
    assert not task.done()
    clock.advance(60)
    assert await task is True


# Everybody


async def test_closing_wakes_all(breaker, clock):
    probe = half_open(breaker, clock)
    tasks = await waiting(breaker, 100)
    probe.succeed()
    await settle()
    assert all(task.done() for task in tasks)
    assert set(await asyncio.gather(*tasks)) == {True}


async def test_reset_wakes_all(breaker):
    trip(breaker)
    tasks = await waiting(breaker, 100)
    breaker.reset()
    await settle()
    assert all(task.done() for task in tasks)
    assert set(await asyncio.gather(*tasks)) == {True}


async def test_a_forced_circuit_is_waited_for_until_reset(breaker, clock):
    breaker.force_open("maintenance")
    tasks = await waiting(breaker, 10)
    for _ in range(3):
        clock.advance(1_000_000)
        await settle()
        assert not any(task.done() for task in tasks)
    breaker.reset()
    assert set(await asyncio.gather(*tasks)) == {True}


async def test_forcing_a_circuit_that_is_waited_for_takes_the_due_moment_away(breaker, clock):
    trip(breaker)
    (task,) = await waiting(breaker)
    breaker.force_open("maintenance")
    clock.advance(60)
    await settle()
    assert not task.done()
    breaker.reset()
    assert await task is True


# Cancelled, or gone


async def test_a_waiter_cancelled_as_it_is_woken_hands_its_wake_on(breaker, clock):
    trip(breaker)
    first, second = await waiting(breaker, 2)
    clock.advance(60)
    first.cancel()
    assert await second is True
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_waiter_cancelled_after_a_place_was_freed_hands_its_wake_on(breaker, clock):
    probe = half_open(breaker, clock)
    first, second = await waiting(breaker, 2)
    probe.ignore()
    first.cancel()
    assert await second is True
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_cancelled_waiter_in_the_middle_is_forgotten(breaker, clock):
    trip(breaker)
    tasks = await waiting(breaker, 3)
    tasks[0].cancel()
    tasks[1].cancel()
    await settle()
    clock.advance(60)
    assert await tasks[2] is True
    assert all(task.cancelled() for task in tasks[:2])


async def test_woken_waiters_that_never_call_strand_nobody(breaker, clock):
    trip(breaker)
    tasks = await waiting(breaker, 4)
    clock.advance(60)
    assert await asyncio.gather(*tasks) == [True] * 4
    assert breaker.snapshot().probes == 0


async def test_a_loop_that_ended_while_it_waited_strands_nobody(breaker, clock):
    trip(breaker)

    def leave_a_waiter_behind():
        loop = asyncio.new_event_loop()
        task = loop.create_task(breaker.wait_until_ready())
        loop.run_until_complete(asyncio.sleep(0))
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.close()

    thread = threading.Thread(target=leave_a_waiter_behind)
    thread.start()
    thread.join()
    (task,) = await waiting(breaker)
    clock.advance(60)
    assert await task is True


async def test_a_loop_closed_with_its_waiters_strands_nobody(breaker, clock):
    trip(breaker)
    left = []

    def close_the_loop_under_a_waiter():
        loop = asyncio.new_event_loop()
        left.append(breaker.wait_until_ready())
        left.append(loop.create_task(left[0]))
        left[1]._log_destroy_pending = False
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    thread = threading.Thread(target=close_the_loop_under_a_waiter)
    thread.start()
    thread.join()
    tasks = await waiting(breaker, 2)
    clock.advance(60)
    assert await asyncio.gather(*tasks) == [True, True]
    breaker.reset()
    left[0].close()


async def test_a_clock_that_steps_back_strands_no_waiter(breaker, clock):
    clock.advance(10_000)
    trip(breaker)
    (task,) = await waiting(breaker)
    clock.advance(-5000)
    await settle()
    assert not task.done()
    clock.advance(60)
    await settle()
    clock.advance(60)
    assert await task is True


async def test_a_waiter_that_is_cancelled_by_a_timeout_around_it_is_forgotten(breaker):
    trip(breaker)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await breaker.wait_until_ready()
    (task,) = await waiting(breaker)
    breaker.reset()
    assert await task is True


def test_waiting_outside_asyncio_is_an_error_and_no_hang(breaker):
    trip(breaker)
    with pytest.raises(RuntimeError):
        trio.run(breaker.wait_until_ready)


# Several loops


def test_two_event_loops_in_two_threads_wait_for_the_same_breaker(breaker, clock):
    trip(breaker)
    results, ready = [], [threading.Semaphore(0), threading.Semaphore(0)]

    async def wait(number):
        asyncio.get_running_loop().call_soon(ready[number].release)
        results.append((number, await breaker.wait_until_ready()))
        breaker.acquire().succeed()

    async def main(number):
        await asyncio.gather(*(wait(number) for _ in range(20)))

    threads = [threading.Thread(target=asyncio.run, args=(main(number),)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for semaphore in ready:
        for _ in range(20):
            semaphore.acquire()
    clock.advance(60)
    for thread in threads:
        thread.join()
    assert sorted(results) == [(0, True)] * 20 + [(1, True)] * 20
    assert breaker.state is CircuitState.CLOSED


def test_a_probe_of_one_loop_wakes_the_waiters_of_another(breaker, clock):
    probe = half_open(breaker, clock)
    ready, results = threading.Event(), []

    async def wait():
        asyncio.get_running_loop().call_soon(ready.set)
        results.append(await breaker.wait_until_ready())

    thread = threading.Thread(target=asyncio.run, args=(wait(),))
    thread.start()
    ready.wait()

    async def succeed():
        probe.succeed()

    asyncio.run(succeed())
    thread.join()
    assert results == [True]


# Nothing stays behind


def pending_timers():
    scheduled = asyncio.get_running_loop()._scheduled
    return [handle for handle in scheduled if not handle.cancelled()]


async def test_waits_leave_no_task_no_timer_and_no_future_behind():
    breaker = CircuitBreaker("eu-west-1")

    async def waits():
        trip(breaker)
        assert await breaker.wait_until_ready(timeout=0) is False
        assert await breaker.wait_until_ready(timeout=0.001) is False
        tasks = await waiting(breaker, 10)
        for task in tasks[:5]:
            task.cancel()
        await asyncio.gather(*tasks[:5], return_exceptions=True)
        breaker.reset()
        assert await asyncio.gather(*tasks[5:]) == [True] * 5

    await waits()
    timers, futures, tasks = len(pending_timers()), live_futures(), len(asyncio.all_tasks())
    for _ in range(5):
        await waits()
    assert len(pending_timers()) <= timers
    assert live_futures() <= futures
    assert len(asyncio.all_tasks()) == tasks


async def test_an_ended_wait_holds_the_breaker_no_longer(clock):
    breaker = CircuitBreaker("eu-west-1", clock=clock)
    trip(breaker)
    (task,) = await waiting(breaker)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await settle()  # the loop lets go of the cancelled task
    gone = weakref.ref(breaker)
    del breaker, task
    gc.collect()
    assert gone() is None


async def test_the_timer_of_the_due_moment_ends_with_the_last_waiter():
    breaker = CircuitBreaker("eu-west-1")
    trip(breaker)
    before = len(pending_timers())
    (task,) = await waiting(breaker)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(pending_timers()) == before


async def test_a_task_that_waited_in_the_parent_of_a_fork_does_not_block_the_child(
    clock, monkeypatch
):
    breaker = CircuitBreaker("eu-west-1", clock=clock)
    trip(breaker)
    (parents,) = await waiting(breaker)
    monkeypatch.setattr("os.getpid", lambda: -1)  # what a child sees; the forks are real elsewhere
    (childs,) = await waiting(breaker)
    clock.advance(60)
    assert await childs is True
    assert not parents.done()
    parents.cancel()
    await asyncio.gather(parents, return_exceptions=True)


async def test_a_task_that_gives_up_in_the_middle_of_the_queue_wakes_nobody(clock):
    breaker = CircuitBreaker("eu-west-1", clock=clock)
    trip(breaker)
    first, second, third = await waiting(breaker, 3)
    second.cancel()
    await settle()
    assert second.cancelled()
    assert not first.done()
    assert not third.done()
    breaker.reset()
    assert await first is True
    assert await third is True


@pytest.mark.parametrize("fate", ["stopped", "closed"])
async def test_a_loop_that_runs_no_more_holds_up_nobody_behind_it(fate):
    now = 0.0  # it stands still until both wait, and wakes nobody
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(recovery_timeout=0.05), clock=lambda: now)
    trip(breaker)
    dead = asyncio.new_event_loop()
    ahead = dead.create_task(breaker.wait_until_ready())

    def run_until_it_waits():
        dead.call_later(0.01, dead.stop)
        dead.run_forever()
        if fate == "closed":
            dead.close()

    await asyncio.to_thread(run_until_it_waits)
    (behind,) = await waiting(breaker)
    now = 60.0
    assert await behind is True
    if fate == "stopped":
        ahead.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.to_thread(dead.run_until_complete, ahead)
        dead.close()
    else:
        ahead.get_coro().close()
        ahead._log_destroy_pending = False


async def test_a_timeout_that_ends_at_the_due_moment_returns_true():
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(recovery_timeout=0.05))
    trip(breaker)
    assert await breaker.wait_until_ready(timeout=breaker.retry_after) is True
