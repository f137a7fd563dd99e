"""A timeout in the wrong place is noticed: a hundred calls in a row are ended from outside."""

import asyncio
import functools
from contextlib import suppress

import anyio
import pytest
import trio

from resilience import BreakerPolicy, CircuitBreaker
from resilience.testing import FakeClock, run_in_virtual_time
from tests.support.driving import (
    ServerError,
    close,
    half_open,
    raise_in,
    rejection,
    trip,
)


@pytest.fixture
def breaker(clock):
    """One that no failure of these tests opens."""
    return CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=300), clock=clock)


def warnings(log):
    return [entry["message"] for entry in log if "ended from outside" in entry["message"]]


async def hang():
    await asyncio.Event().wait()


# What ends a call from outside


async def timeout(send):
    with suppress(TimeoutError):
        async with asyncio.timeout(5):
            await send()


async def wait_for(send):
    with suppress(TimeoutError):
        await asyncio.wait_for(send(), 5)


async def cancel(send):
    task = asyncio.create_task(send())
    await asyncio.sleep(5)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def failing_task_group(send):
    with suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            await asyncio.sleep(5)
            raise LookupError


async def move_on_after(send):
    with anyio.move_on_after(5):
        await send()


async def close_coroutine(send):
    call = send()
    call.send(None)
    call.close()
    await asyncio.sleep(5)


FROM_OUTSIDE = [timeout, wait_for, cancel, failing_task_group, move_on_after, close_coroutine]


@pytest.mark.parametrize("end", FROM_OUTSIDE)
def test_a_hundred_calls_in_a_row_are_warned_about_once(breaker, log, end):
    async def main(times):
        for _ in range(times):
            await end(breaker(hang))

    run_in_virtual_time(main(99), FakeClock())
    assert warnings(log) == []
    run_in_virtual_time(main(1), FakeClock())
    assert len(warnings(log)) == 1
    run_in_virtual_time(main(300), FakeClock())
    assert len(warnings(log)) == 1
    assert breaker.snapshot().ignored == 400


def test_a_hundred_calls_in_trio_are_warned_about(breaker, log):
    async def main():
        for _ in range(100):
            with trio.move_on_after(0):
                await breaker(trio.sleep_forever)()

    trio.run(main)
    (message,) = warnings(log)
    assert "(Cancelled)" in message


async def protected_awaitable(breaker):
    @breaker
    def send():
        return hang()

    await send()


async def with_block(breaker):
    with breaker.acquire():
        await hang()


async def call(breaker):
    await breaker.call(hang)


@pytest.mark.parametrize("way", [protected_awaitable, with_block, call])
def test_they_are_noticed_whichever_way_they_are_protected(breaker, log, way):
    async def main():
        for _ in range(100):
            await timeout(functools.partial(way, breaker))

    run_in_virtual_time(main(), FakeClock())
    assert len(warnings(log)) == 1


def test_the_warning_names_the_place_of_the_timeout(breaker, log):
    raise_in(breaker, asyncio.CancelledError("hunter2"), 100)
    assert log[-1]["level"].name == "WARNING"
    (message,) = warnings(log)
    assert message == (
        "Circuit breaker ignored 100 calls in a row for region eu-west-1: they were ended from"
        " outside (CancelledError); if a timeout around the protected function ends them, the"
        " circuit cannot open; set the timeout inside the function, best as the timeout of its"
        " client"
    )


ANSWERS = {
    "success": lambda breaker: breaker.acquire().succeed(),
    "success of a function": lambda breaker: breaker(lambda: "sent")(),
    "failure": lambda breaker: breaker.acquire().fail(),
    "answered": lambda breaker: raise_in(breaker, ServerError(404), 1),
}


class TestInARow:
    @pytest.mark.parametrize("answer", ANSWERS)
    def test_an_answer_starts_the_count_again(self, breaker, log, answer):
        raise_in(breaker, asyncio.CancelledError(), 99)
        ANSWERS[answer](breaker)
        raise_in(breaker, asyncio.CancelledError(), 99)
        assert warnings(log) == []
        raise_in(breaker, asyncio.CancelledError(), 1)
        assert len(warnings(log)) == 1

    @pytest.mark.parametrize("error", [LookupError(), OSError(24, "Too many open files")])
    def test_an_error_that_says_nothing_is_no_answer(self, breaker, log, error):
        raise_in(breaker, asyncio.CancelledError(), 99)
        raise_in(breaker, error, 1)
        raise_in(breaker, asyncio.CancelledError(), 1)
        assert len(warnings(log)) == 1

    def test_the_warning_comes_again_after_a_hundred_answers(self, breaker, log):
        raise_in(breaker, asyncio.CancelledError(), 100)
        for _ in range(99):
            breaker.acquire().succeed()
        raise_in(breaker, asyncio.CancelledError(), 100)
        assert len(warnings(log)) == 1
        breaker.acquire().succeed()
        raise_in(breaker, asyncio.CancelledError(), 99)
        assert len(warnings(log)) == 1
        raise_in(breaker, asyncio.CancelledError(), 1)
        assert len(warnings(log)) == 2


class TestWhatDoesNotCount:
    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
    def test_the_end_of_the_process(self, breaker, log, kind):
        raise_in(breaker, kind(), 250)
        assert warnings(log) == []

    def test_a_rejection(self, breaker, clock, log):
        inner = CircuitBreaker("inner", clock=clock)
        trip(inner)
        raise_in(breaker, rejection(inner), 250)
        assert warnings(log) == []

    def test_a_probe(self, clock, log):
        breaker = CircuitBreaker("eu-west-1", clock=clock)
        half_open(breaker, clock)
        raise_in(breaker, asyncio.CancelledError(), 250)
        assert warnings(log) == []
        close(breaker)
        raise_in(breaker, asyncio.CancelledError(), 99)
        assert warnings(log) == []

    def test_a_call_that_is_still_under_way_when_the_circuit_opens(self, clock, log):
        breaker = CircuitBreaker("eu-west-1", clock=clock)

        async def main():
            calls = [asyncio.create_task(breaker(hang)()) for _ in range(200)]
            await asyncio.sleep(1)
            trip(breaker)
            for one in calls:
                one.cancel()
                await asyncio.wait([one])

        run_in_virtual_time(main(), FakeClock())
        assert warnings(log) == []

    def test_an_error_that_somebody_asks_about(self, breaker, log):
        for _ in range(250):
            breaker.classify(asyncio.CancelledError())
        assert warnings(log) == []


class TestAShutdown:
    """It cancels all the calls that are under way, at the same moment."""

    @staticmethod
    async def start_500_calls(breaker):
        calls = [asyncio.create_task(breaker(hang)()) for _ in range(500)]
        await asyncio.sleep(1)
        return calls

    def test_the_end_of_a_loop_is_no_reason_to_warn(self, breaker, log):
        run_in_virtual_time(self.start_500_calls(breaker), FakeClock())
        assert breaker.snapshot().ignored == 500
        assert warnings(log) == []

    def test_neither_are_the_ends_of_a_few_loops(self, breaker, log):
        for _ in range(9):
            run_in_virtual_time(self.start_500_calls(breaker), FakeClock())
        assert warnings(log) == []
        run_in_virtual_time(self.start_500_calls(breaker), FakeClock())
        assert len(warnings(log)) == 1  # after so many, it is no shutdown

    def test_neither_is_the_end_of_a_task_group(self, breaker, log):
        async def main():
            with suppress(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    for _ in range(500):
                        group.create_task(breaker(hang)())
                    await asyncio.sleep(1)
                    raise LookupError

        run_in_virtual_time(main(), FakeClock())
        assert breaker.snapshot().ignored == 500
        assert warnings(log) == []

    def test_a_loop_that_ends_within_the_moment_does_not_make_it_last(self, breaker, log):
        def abandon_ten_calls():
            raise_in(breaker, asyncio.CancelledError(), 10)

        for _ in range(10):
            assert warnings(log) == []
            loop = asyncio.new_event_loop()
            loop.call_soon(abandon_ten_calls)
            loop.call_soon(loop.stop)
            loop.run_forever()
            loop.close()
        assert len(warnings(log)) == 1


def test_callers_that_give_up_together_are_noticed_the_tenth_time(breaker, log):
    async def main(times):
        for _ in range(times):
            await asyncio.gather(*(timeout(breaker(hang)) for _ in range(20)))

    run_in_virtual_time(main(9), FakeClock())
    assert breaker.snapshot().ignored == 180
    assert warnings(log) == []
    run_in_virtual_time(main(1), FakeClock())
    assert len(warnings(log)) == 1


class LoopWithoutWeakReferences:
    """An event loop of another kind."""

    __slots__ = ()


def test_a_call_in_an_event_loop_of_another_kind_is_a_moment_of_its_own(clock, log):
    breaker = CircuitBreaker("eu-west-1", clock=clock)
    asyncio._set_running_loop(LoopWithoutWeakReferences())
    try:
        for _ in range(100):
            with pytest.raises(asyncio.CancelledError), breaker.acquire():
                raise asyncio.CancelledError
    finally:
        asyncio._set_running_loop(None)
    assert [entry["level"].name for entry in log] == ["WARNING"]
