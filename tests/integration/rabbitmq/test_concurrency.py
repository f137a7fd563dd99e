"""How many calls of a region may run at the same time: slots, steps, probes. Needs no broker."""

import asyncio

import pytest

from resilience import BreakerPolicy, CircuitBreaker
from resilience.integrations.rabbitmq.concurrency import attach_to_limit
from resilience.testing import FakeClock
from tests.support.rabbitmq_support import settle_down, until


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def breaker(clock):
    policy = BreakerPolicy(
        failure_threshold=1, recovery_timeout=60, success_threshold=1, half_open_probes=2
    )
    return CircuitBreaker("eu", policy, clock=clock)


@pytest.fixture
async def limit(breaker):
    limit, detach = attach_to_limit(breaker, 4, lambda: None)
    yield limit
    detach()
    await asyncio.sleep(0)


def ask(limit, count):
    return [asyncio.create_task(limit.acquire()) for _ in range(count)]


def ask_at_full_rate(limit, count):
    return [asyncio.create_task(limit.acquire_at_full_rate()) for _ in range(count)]


async def granted(tasks):
    """Return the slots, or refusals, that were granted so far."""
    await settle_down()
    return [task.result() for task in tasks if task.done() and not task.cancelled()]


async def end(tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def open_and_reset(breaker):
    breaker.force_open("for a moment")
    breaker.reset()
    await settle_down()


async def test_a_healthy_region_gets_as_many_calls_as_the_largest_prefetch(limit, breaker):
    tasks = ask(limit, 6)
    assert len(await granted(tasks)) == 4
    again, detach = attach_to_limit(breaker, 5, lambda: None)
    assert again is limit
    tasks[0].result().release()
    assert len(await granted(tasks)) == 6
    detach()
    await end(tasks)


async def test_slots_are_granted_first_come_first_served(limit):
    running = await granted(ask(limit, 4))
    waiting = ask(limit, 3)
    for slot in running[:2]:
        slot.release()
    await settle_down()
    assert [task.done() for task in waiting] == [True, True, False]
    await end(waiting)


async def test_each_step_ends_after_as_many_successes_as_it_lets_calls_run(limit, breaker):
    await open_and_reset(breaker)
    limits = []
    for _ in range(4):
        limits.append(limit.max_calls)
        limit.record_success()
    assert limits == [1, 2, 2, 4]
    assert limit.at_full_rate
    limit.record_success()
    assert limit.max_calls == 4


async def test_no_more_calls_run_than_the_step_allows(limit, breaker):
    await open_and_reset(breaker)
    tasks = ask(limit, 3)
    assert len(await granted(tasks)) == 1
    limit.record_success()
    assert len(await granted(tasks)) == 2
    await end(tasks)


async def test_an_open_circuit_grants_no_slot_and_one_that_is_due_those_of_its_probes(
    limit, breaker, clock
):
    breaker.acquire().fail()
    tasks = ask(limit, 3)
    assert await granted(tasks) == []
    clock.advance(60)
    await until(lambda: sum(task.done() for task in tasks) == 2)
    await end(tasks)


async def test_while_other_code_has_the_probes_places_no_slot_is_granted(limit, breaker, clock):
    breaker.acquire().fail()
    clock.advance(60)
    permits = [breaker.acquire(), breaker.acquire()]
    tasks = ask(limit, 1)
    assert await granted(tasks) == []
    permits[0].ignore()
    await until(tasks[0].done)
    await end(tasks)


async def test_a_call_that_hangs_from_before_the_opening_takes_up_no_slot(limit, breaker):
    assert len(await granted(ask(limit, 4))) == 4
    await open_and_reset(breaker)
    assert len(await granted(ask(limit, 1))) == 1


async def test_a_region_below_its_full_rate_refuses_those_that_need_not_wait(limit, breaker):
    running = await granted(ask(limit, 4))
    tasks = ask_at_full_rate(limit, 1)
    assert await granted(tasks) == []
    breaker.acquire().fail()
    assert await granted(tasks) == [None]
    assert await granted(ask_at_full_rate(limit, 1)) == [None]
    assert len(running) == 4


async def test_a_cancellation_just_after_a_slot_was_granted_releases_it(limit):
    running = await granted(ask(limit, 4))
    [late, next_one] = ask(limit, 2)
    await settle_down()
    running[0].release()
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late
    assert (await next_one) is not None


async def test_a_request_that_is_cancelled_while_it_waits_blocks_no_other(limit):
    running = await granted(ask(limit, 4))
    [late, next_one] = ask(limit, 2)
    await settle_down()
    await end([late])
    running[0].release()
    assert (await next_one) is not None


async def test_a_limit_for_a_region_that_is_down_begins_with_the_first_step(breaker):
    breaker.acquire().fail()
    limit, detach = attach_to_limit(breaker, 4, lambda: None)
    assert (limit.max_calls, limit.at_full_rate) == (1, False)
    detach()


async def test_the_queues_are_woken_when_a_probe_is_due(breaker, clock):
    woken = []
    _, detach = attach_to_limit(breaker, 4, lambda: woken.append(breaker.state))
    breaker.acquire().fail()
    clock.advance(60)
    await until(lambda: "HALF_OPEN" in woken)
    detach()


async def test_nothing_is_left_of_a_limit_without_queues(breaker):
    before = asyncio.all_tasks()
    limit, detach = attach_to_limit(breaker, 4, lambda: None)
    detach()
    await settle_down()
    assert asyncio.all_tasks() == before
    again, detach = attach_to_limit(breaker, 4, lambda: None)
    assert again is not limit
    detach()
    await settle_down()


def test_an_event_after_the_end_of_its_loop_is_harmless(breaker):
    async def attach():
        attach_to_limit(breaker, 4, lambda: None)

    asyncio.run(attach())
    breaker.force_open("the loop is closed")


class CountingBreaker(CircuitBreaker):
    """Counts the waits: in a shared circuit, a wait reserves the place of all processes."""

    waited = 0

    async def wait_until_ready(self, timeout=None):
        type(self).waited += 1
        return await super().wait_until_ready(timeout)


async def test_a_place_for_a_probe_is_asked_for_only_when_there_is_a_message(clock):
    policy = BreakerPolicy(failure_threshold=1, recovery_timeout=60)
    breaker = CountingBreaker("eu", policy, clock=clock)
    woken = []
    limit, detach = attach_to_limit(breaker, 4, lambda: woken.append(breaker.state))
    breaker.acquire().fail()
    clock.advance(60)
    await until(lambda: "HALF_OPEN" in woken)
    assert breaker.waited == 0
    permit = breaker.acquire()
    [task] = ask(limit, 1)
    await until(lambda: breaker.waited)
    permit.ignore()
    await until(task.done)
    detach()
