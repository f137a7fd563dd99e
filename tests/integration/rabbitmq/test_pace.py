"""How many calls of a region may run at once: turns, steps, probes. No broker is needed."""

import asyncio

import pytest
from resilience.integrations.rabbitmq.pace import join_pace

from resilience import BreakerPolicy, CircuitBreaker
from tests.support.rabbitmq_support import make_registry, until


@pytest.fixture
def breaker():
    return make_registry(threshold=1, recovery=0.1, half_open_probes=2).get("eu")


@pytest.fixture
async def pace(breaker):
    pace, leave = join_pace(breaker, 4, lambda: None)
    yield pace
    leave()
    await asyncio.sleep(0)


async def settle_down():
    for _ in range(5):
        await asyncio.sleep(0)


def ask(pace, count, **settings):
    return [asyncio.create_task(pace.turn(**settings)) for _ in range(count)]


async def given(tasks):
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


async def test_a_region_that_is_well_gets_as_many_calls_as_the_largest_prefetch(pace, breaker):
    tasks = ask(pace, 6)
    assert len(await given(tasks)) == 4
    again, leave = join_pace(breaker, 5, lambda: None)
    assert again is pace
    tasks[0].result().give_back()
    assert len(await given(tasks)) == 6
    leave()
    await end(tasks)


async def test_who_asks_first_is_served_first(pace):
    running = await given(ask(pace, 4))
    waiting = ask(pace, 3)
    for turn in running[:2]:
        turn.give_back()
    await settle_down()
    assert [task.done() for task in waiting] == [True, True, False]
    await end(waiting)


async def test_each_step_is_earned_by_as_many_calls_as_it_lets_run(pace, breaker):
    await open_and_reset(breaker)
    limits = []
    for _ in range(4):
        limits.append(pace.limit)
        pace.earn()
    assert limits == [1, 2, 2, 4]
    assert pace.grown
    pace.earn()
    assert pace.limit == 4


async def test_no_more_calls_than_the_step_run(pace, breaker):
    await open_and_reset(breaker)
    tasks = ask(pace, 3)
    assert len(await given(tasks)) == 1
    pace.earn()
    assert len(await given(tasks)) == 2
    await end(tasks)


async def test_an_open_circuit_lets_nobody_in_and_a_due_one_its_probes(pace, breaker):
    breaker.acquire().fail()
    tasks = ask(pace, 3)
    assert await given(tasks) == []
    await until(lambda: sum(task.done() for task in tasks) == 2)
    await end(tasks)


async def test_while_others_have_the_probes_places_nobody_is_let_in(pace, breaker):
    breaker.acquire().fail()
    await breaker.wait_until_ready()
    permits = [breaker.acquire(), breaker.acquire()]
    tasks = ask(pace, 1)
    assert await given(tasks) == []
    permits[0].ignore()
    await until(tasks[0].done)
    await end(tasks)


async def test_what_hangs_from_before_the_opening_takes_no_turn_away(pace, breaker):
    assert len(await given(ask(pace, 4))) == 4
    await open_and_reset(breaker)
    assert len(await given(ask(pace, 1))) == 1


async def test_a_region_that_is_not_grown_turns_those_away_who_can_do_without(pace, breaker):
    running = await given(ask(pace, 4))
    tasks = ask(pace, 1, only_grown=True)
    assert await given(tasks) == []
    breaker.acquire().fail()
    assert await given(tasks) == [None]
    assert await given(ask(pace, 1, only_grown=True)) == [None]
    assert len(running) == 4


async def test_who_is_cancelled_just_when_his_turn_comes_gives_it_back(pace):
    running = await given(ask(pace, 4))
    [late, next_one] = ask(pace, 2)
    await settle_down()
    running[0].give_back()
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late
    assert (await next_one) is not None


async def test_who_is_cancelled_while_he_waits_stands_in_nobodys_way(pace):
    running = await given(ask(pace, 4))
    [late, next_one] = ask(pace, 2)
    await settle_down()
    await end([late])
    running[0].give_back()
    assert (await next_one) is not None


async def test_who_joins_a_region_that_is_down_begins_with_the_first_step():
    breaker = make_registry(threshold=1, recovery=0.05).get("eu")
    breaker.acquire().fail()
    pace, leave = join_pace(breaker, 4, lambda: None)
    assert (pace.limit, pace.grown) == (1, False)
    leave()


async def test_the_users_are_woken_when_a_probe_is_due(breaker):
    woken = []
    _, leave = join_pace(breaker, 4, lambda: woken.append(breaker.state))
    breaker.acquire().fail()
    await until(lambda: "HALF_OPEN" in woken)
    leave()


async def test_nothing_is_left_of_a_pace_that_nobody_uses(breaker):
    before = asyncio.all_tasks()
    pace, leave = join_pace(breaker, 4, lambda: None)
    leave()
    await settle_down()
    assert asyncio.all_tasks() == before
    again, leave = join_pace(breaker, 4, lambda: None)
    assert again is not pace
    leave()
    await settle_down()


def test_an_event_after_the_end_of_its_loop_harms_nobody(breaker):
    async def join():
        join_pace(breaker, 4, lambda: None)

    asyncio.run(join())
    breaker.force_open("nobody is there")


class CountingBreaker(CircuitBreaker):
    """Counts who waits for it: in a shared circuit that asks for the place of all processes."""

    waited = 0

    async def wait_until_ready(self, timeout=None):
        type(self).waited += 1
        return await super().wait_until_ready(timeout)


async def test_only_who_has_a_message_asks_for_a_probes_place():
    breaker = CountingBreaker("eu", BreakerPolicy(failure_threshold=1, recovery_timeout=0.05))
    woken = []
    pace, leave = join_pace(breaker, 4, lambda: woken.append(breaker.state))
    breaker.acquire().fail()
    await until(lambda: "HALF_OPEN" in woken)
    assert breaker.waited == 0
    permit = breaker.acquire()
    [task] = ask(pace, 1)
    await until(lambda: breaker.waited)
    permit.ignore()
    await until(task.done)
    leave()
