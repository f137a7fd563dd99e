"""The child of a fork: what it inherits, and that no lock is held over it."""

import asyncio
import os
import threading

import pytest

from resilience import CircuitBreakerOpenError, CircuitBreakerRegistry
from tests.support.callers import locks_inside
from tests.support.driving import CLOSED, HALF_OPEN, OPEN, close, moves, record, trip
from tests.support.forks import forking, in_child


def live_a_whole_life(breaker, clock):
    """Drive the breaker through everything a process does with it, from any state."""
    breaker.reset()
    events = record(breaker)
    trip(breaker)
    with pytest.raises(CircuitBreakerOpenError):
        breaker.acquire()

    async def wait():
        task = asyncio.create_task(breaker.wait_until_ready())
        await asyncio.sleep(0)
        clock.advance(breaker.policy.recovery_timeout)
        assert await task is True

    asyncio.run(wait())
    close(breaker)
    breaker.force_open("in the child")
    breaker.reset()
    assert moves(events) == [
        (CLOSED, OPEN),
        (OPEN, HALF_OPEN),
        (HALF_OPEN, CLOSED),
        (CLOSED, OPEN),
        (OPEN, CLOSED),
    ]
    done = []
    thread = threading.Thread(target=lambda: done.append(breaker.acquire().succeed()))
    thread.start()
    thread.join()
    assert done == [None]


@forking
def test_a_child_opens_recovers_and_waits_by_itself(breaker, clock):
    trip(breaker)
    in_child(lambda: live_a_whole_life(breaker, clock))
    assert breaker.state is OPEN
    assert breaker.snapshot().trips == 1
    clock.advance(60)
    close(breaker)
    assert breaker.state is CLOSED


@forking
def test_a_child_inherits_what_the_parent_knew(breaker, clock):
    trip(breaker)
    clock.advance(20)

    def look():
        assert breaker.retry_after == 40.0
        with pytest.raises(CircuitBreakerOpenError):
            breaker.acquire()

    in_child(look)
    assert breaker.snapshot().rejected == 0


@forking
def test_a_probe_out_at_the_fork_belongs_to_both(breaker, clock):
    trip(breaker)
    clock.advance(60)
    probe = breaker.acquire()

    def finish():
        probe.succeed()
        breaker.acquire().succeed()
        breaker.acquire().succeed()
        assert breaker.state is CLOSED

    in_child(finish)
    assert breaker.state is HALF_OPEN
    probe.fail()
    assert breaker.state is OPEN


@forking
def test_a_lock_held_by_another_thread_at_the_fork_locks_no_child(clock):
    registry = CircuitBreakerRegistry(clock=clock)
    breaker = registry.get("eu-west-1")
    locks = locks_inside(registry)
    assert locks, "nothing guards it, or this test looks in the wrong place"
    held, release = threading.Event(), threading.Event()

    def hold():
        for lock in locks:
            lock.acquire()
        held.set()
        release.wait(0.5)
        for lock in locks:
            lock.release()

    def live():
        live_a_whole_life(breaker, clock)
        live_a_whole_life(registry.get("made-in-the-child"), clock)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    in_child(live)
    release.set()
    thread.join()
    live()


@forking
@pytest.mark.usefixtures("nervous_threads")
def test_forks_amid_busy_threads_lock_no_child(clock):
    registry = CircuitBreakerRegistry(clock=clock)
    breaker = registry.get("eu-west-1")
    stop = threading.Event()

    def hammer():
        number = 0
        while not stop.is_set():
            number += 1
            breaker.acquire().fail() if breaker.state is CLOSED else breaker.reset()
            breaker.snapshot()
            registry.get(f"region-{number % 50}")

    def busy():
        while not stop.is_set():
            try:
                hammer()
            except CircuitBreakerOpenError:
                continue

    threads = [threading.Thread(target=busy) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            in_child(lambda: live_a_whole_life(breaker, clock))
            in_child(lambda: registry.get("made-in-the-child").acquire().succeed())
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@forking
def test_a_delivery_of_another_thread_at_the_fork_stops_no_delivery_in_the_child(breaker):
    parent, inside, go_on, heard = os.getpid(), threading.Event(), threading.Event(), []

    def listener(event):
        heard.append((os.getpid(), event.new))
        if os.getpid() == parent:
            inside.set()
            go_on.wait(90)

    breaker.listen(listener)
    thread = threading.Thread(target=breaker.force_open, args=("maintenance",))
    thread.start()
    inside.wait()

    def child():
        breaker.reset()
        assert heard[-1] == (os.getpid(), CLOSED)
        trip(breaker)
        assert heard[-1] == (os.getpid(), OPEN)

    try:
        in_child(child)
    finally:
        go_on.set()
        thread.join()
    breaker.reset()
    assert [new for _, new in heard] == [OPEN, CLOSED]


@forking
def test_waiters_of_the_parent_are_neither_woken_nor_lost_by_the_child(breaker, clock):
    trip(breaker)
    ready, results = threading.Event(), []

    async def wait():
        asyncio.get_running_loop().call_soon(ready.set)
        results.append(await breaker.wait_until_ready())

    thread = threading.Thread(target=asyncio.run, args=(wait(),))
    thread.start()
    ready.wait()
    in_child(lambda: live_a_whole_life(breaker, clock))
    assert results == []
    assert thread.is_alive()
    breaker.reset()
    thread.join()
    assert results == [True]
