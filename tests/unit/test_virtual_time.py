"""run_in_virtual_time: no time passes for sleeping, and the circuits live in the same time."""

import asyncio
import threading

import pytest

from resilience import BreakerPolicy, CircuitBreakerRegistry
from resilience.testing import FakeClock, run_in_virtual_time


def test_an_hour_of_sleep_moves_the_clock_by_an_hour():
    clock = FakeClock(5.0)

    async def story():
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(story(), clock) == clock() == 3605.0


def test_sleepers_wake_in_the_order_of_their_times():
    woken = []

    async def sleeper(seconds):
        await asyncio.sleep(seconds)
        woken.append(seconds)

    async def story():
        await asyncio.gather(*(sleeper(seconds) for seconds in (30, 10, 86_000, 20)))

    run_in_virtual_time(story(), FakeClock())
    assert woken == [10, 20, 30, 86_000]


def test_a_clock_that_the_test_moves_ends_a_sleep():
    clock = FakeClock()

    async def story():
        sleeping = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        clock.advance(60)
        await sleeping

    run_in_virtual_time(story(), clock)
    assert clock() == 60.0


def test_circuits_live_in_the_same_time():
    clock = FakeClock()
    breaker = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=1), clock=clock).get("here")

    async def story():
        breaker.acquire().fail()
        return await breaker.wait_until_ready(1000)

    assert run_in_virtual_time(story(), clock)
    assert clock() == 60.0


def test_what_another_thread_does_is_waited_for_at_the_end():
    working, may_end, went = threading.Event(), threading.Event(), threading.Event()

    def work():
        working.set()
        assert may_end.wait(30)
        went.set()

    async def story():
        asyncio.get_running_loop().run_in_executor(None, work)
        assert working.wait(30)
        threading.Timer(0.01, may_end.set).start()

    run_in_virtual_time(story(), FakeClock())
    assert went.is_set()


def test_a_call_from_another_thread_comes_before_time_passes():
    clock, seen = FakeClock(), []

    async def story():
        loop = asyncio.get_running_loop()
        thread = threading.Thread(
            target=loop.call_soon_threadsafe, args=(lambda: seen.append(clock()),)
        )
        thread.start()
        thread.join()
        await asyncio.sleep(10)

    run_in_virtual_time(story(), clock)
    assert seen == [0.0]


def test_a_story_that_never_ends_is_cancelled_at_the_limit():
    clock = FakeClock()
    with pytest.raises(TimeoutError, match="not ended within 100 s of virtual time"):
        run_in_virtual_time(asyncio.Event().wait(), clock, limit=100)
    assert clock() == 100.0


def test_a_timeout_of_the_story_itself_is_not_the_limit():
    async def story():
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        run_in_virtual_time(story(), FakeClock())


def test_wrong_arguments_say_what_was_expected():
    async def story(): ...

    with pytest.raises(TypeError, match=r"coroutine must be a coroutine.*got a function"):
        run_in_virtual_time(story, FakeClock())
    with pytest.raises(TypeError, match="clock must be a FakeClock, got float"):
        run_in_virtual_time(story(), 0.0)
    with pytest.raises(ValueError, match="limit must be"):
        run_in_virtual_time(story(), FakeClock(), limit=0)
