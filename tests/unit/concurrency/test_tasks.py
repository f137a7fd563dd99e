"""Many tasks at the same time, of asyncio and of trio."""

import asyncio

import trio
import trio.testing

from resilience import CircuitBreakerOpenError
from tests.support.driving import CLOSED, OPEN, ServerError, moves, record, trip

# Tasks


async def test_of_a_hundred_tasks_at_the_half_open_instant_one_reaches_the_function(breaker, clock):
    trip(breaker)
    clock.advance(60)
    reached, answered = [], asyncio.Event()

    async def send(number):
        reached.append(number)
        await answered.wait()

    tasks = [asyncio.create_task(breaker.call(send, number)) for number in range(100)]
    await asyncio.sleep(0)
    assert reached == [0]
    answered.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[0] is None
    assert sum(isinstance(result, CircuitBreakerOpenError) for result in results) == 99
    assert reached == [0]
    assert breaker.snapshot().probes == 1


async def test_fifty_calls_in_flight_that_all_fail_are_one_event(breaker):
    events, down = record(breaker), asyncio.Event()

    async def send():
        await down.wait()
        raise ServerError

    tasks = [asyncio.create_task(breaker.call(send)) for _ in range(50)]
    await asyncio.sleep(0)
    down.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, ServerError) for result in results)
    assert moves(events) == [(CLOSED, OPEN)]
    assert (breaker.snapshot().failures, breaker.snapshot().trips) == (10, 1)


async def test_tasks_that_each_hold_a_permit_by_hand_are_kept_apart(breaker):
    async def work(number):
        with breaker.acquire() as permit:
            await asyncio.sleep(0)
            if number % 2:
                permit.fail()

    await asyncio.gather(*(work(number) for number in range(8)))
    snapshot = breaker.snapshot()
    assert (snapshot.successes, snapshot.failures) == (4, 4)


# Trio


def test_of_a_hundred_trio_tasks_at_the_half_open_instant_one_reaches_the_function(breaker, clock):
    trip(breaker)
    clock.advance(60)
    reached, rejected = [], []

    async def main():
        answered = trio.Event()

        async def send():
            reached.append(True)
            await answered.wait()

        async def call():
            try:
                await breaker.call(send)
            except CircuitBreakerOpenError:
                rejected.append(True)

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(call)
            await trio.testing.wait_all_tasks_blocked()
            answered.set()

    trio.run(main)
    assert (len(reached), len(rejected)) == (1, 99)


def test_fifty_trio_calls_in_flight_that_all_fail_are_one_event(breaker):
    events, raised = record(breaker), []

    async def main():
        down = trio.Event()

        @breaker
        async def send():
            await down.wait()
            raise ServerError

        async def call():
            try:
                await send()
            except ServerError:
                raised.append(True)

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(call)
            await trio.testing.wait_all_tasks_blocked()
            down.set()

    trio.run(main)
    assert len(raised) == 50
    assert moves(events) == [(CLOSED, OPEN)]


def test_a_probe_cancelled_by_trio_gives_its_place_back(breaker, clock):
    trip(breaker)
    clock.advance(60)

    async def main():
        with trio.move_on_after(0):
            await breaker.call(trio.sleep_forever)
        for _ in range(3):
            await breaker.call(trio.lowlevel.checkpoint)

    trio.run(main)
    assert breaker.state is CLOSED
    assert breaker.snapshot().ignored == 1
