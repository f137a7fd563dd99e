"""Calls without an answer: stranded ones, and what happens to them when the circuit opens."""

import asyncio
import random

import pytest

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitState,
)
from resilience.testing import FakeClock, run_in_virtual_time
from tests.support.driving import ServerError

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


def breaker_of(clock, **policy):
    rules = {"failure_threshold": 3, "stranded_after": 5, **policy}
    return CircuitBreaker("eu-west-1", BreakerPolicy(**rules), clock=clock)


def loop_time():
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return 0.0


async def hang():
    await asyncio.Event().wait()


# Stranded calls, as the next call sees them


def test_calls_without_an_answer_trip_within_the_next_call(clock):
    breaker = breaker_of(clock)
    for _ in range(3):
        breaker.acquire()
    clock.advance(4.875)
    breaker.acquire()
    clock.advance(0.125)
    with pytest.raises(CircuitBreakerOpenError) as caught:
        breaker.acquire()
    assert caught.value.reason == "no answer for 5 s (stranded)"
    snapshot = breaker.snapshot()
    assert (snapshot.failures, snapshot.streak, snapshot.trips) == (3, 3, 1)


def test_a_call_counts_only_once(clock):
    breaker = breaker_of(clock)
    permits = [breaker.acquire() for _ in range(2)]
    clock.advance(5)
    breaker.acquire().ignore()
    clock.advance(5)
    breaker.acquire().ignore()
    assert breaker.snapshot().streak == 2
    permits[0].fail()  # it is counted already
    assert breaker.snapshot().streak == 2
    permits[1].succeed()
    assert (breaker.snapshot().streak, breaker.snapshot().successes) == (0, 1)


@pytest.mark.parametrize("settle", ["succeed", "answered"])
def test_an_answer_since_the_call_began_shows_that_the_region_is_there(clock, settle):
    breaker = breaker_of(clock, failure_threshold=1)
    breaker.acquire()
    getattr(breaker.acquire(), settle)()
    clock.advance(100)
    breaker.acquire().ignore()
    assert breaker.state is CLOSED


def test_an_answer_before_the_call_began_shows_nothing(clock):
    breaker = breaker_of(clock, failure_threshold=1)
    breaker.acquire().succeed()
    breaker.acquire()
    clock.advance(5)
    breaker.count_stranded()
    assert breaker.state is OPEN


def test_a_call_that_has_ended_is_not_stranded(clock):
    breaker = breaker_of(clock, failure_threshold=1)
    breaker.acquire().ignore()
    clock.advance(100)
    breaker.count_stranded()
    assert breaker.state is CLOSED


def test_a_stranded_probe_opens_the_circuit_again(clock):
    breaker = breaker_of(clock, failure_threshold=1, recovery_timeout=60, success_threshold=1)
    breaker.acquire().fail()
    clock.advance(60)
    breaker.acquire()
    clock.advance(4)
    breaker.count_stranded()
    assert breaker.state is HALF_OPEN
    clock.advance(1)
    breaker.count_stranded()
    assert (breaker.state, breaker.retry_after) == (OPEN, 60)


def test_a_probe_beside_one_that_was_answered_is_not_stranded(clock):
    breaker = breaker_of(clock, failure_threshold=1, half_open_probes=2)
    breaker.acquire().fail()
    clock.advance(60)
    breaker.acquire()
    breaker.acquire().succeed()
    clock.advance(5)
    breaker.count_stranded()
    assert breaker.state is HALF_OPEN


def test_several_stranded_probes_open_it_once(clock):
    breaker = breaker_of(clock, failure_threshold=1, half_open_probes=2)
    breaker.acquire().fail()
    clock.advance(60)
    permits = [breaker.acquire() for _ in range(2)]
    clock.advance(5)
    breaker.count_stranded()
    assert breaker.snapshot().failures == 2
    assert len(permits) == 2


@pytest.mark.parametrize("step", [-1000, -1])
def test_a_clock_that_steps_back_starts_the_time_again(clock, step):
    clock.advance(2000)
    breaker = breaker_of(clock, failure_threshold=1)
    breaker.acquire()
    clock.advance(step)
    assert breaker.state is CLOSED
    clock.advance(5)
    breaker.count_stranded()
    assert breaker.state is OPEN


def test_stranded_calls_count_in_the_window(clock):
    breaker = breaker_of(clock, failure_threshold=99, failure_rate_threshold=0.5, minimum_calls=4)
    permits = [breaker.acquire() for _ in range(3)]
    clock.advance(5)
    breaker.count_stranded()
    permits[0].fail()
    assert breaker.state is CLOSED
    breaker.acquire().fail()
    assert breaker.snapshot().reason == "failure rate 100 % of 4 calls in 60 s (threshold 50 %)"


# By a timer, where nobody calls


def test_a_black_hole_is_noticed_without_another_call():
    breaker = breaker_of(loop_time)

    async def main():
        calls = [asyncio.ensure_future(breaker.call(hang)) for _ in range(3)]
        await asyncio.sleep(5)
        await asyncio.sleep(0)
        assert breaker.state is OPEN
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)

    run_in_virtual_time(main(), FakeClock())


@pytest.mark.parametrize("call_timeout", [None, 60])
def test_a_body_that_does_not_come_is_noticed_without_another_call(call_timeout):
    breaker = breaker_of(loop_time, failure_threshold=1, call_timeout=call_timeout)

    async def main():
        permit = breaker.acquire()

        async def receive_headers():
            await asyncio.sleep(2)
            return permit.hand_over()

        body = await permit.call_async(receive_headers, (), {})
        assert await body.go_on(asyncio.sleep(1, "a part")) == "a part"
        reading = asyncio.ensure_future(body.go_on(hang()))
        await asyncio.sleep(1.5)
        assert breaker.state is CLOSED
        await asyncio.sleep(0.5)
        await asyncio.sleep(0)
        assert breaker.state is OPEN
        assert await body.go_on(asyncio.sleep(0, "late")) == "late"
        reading.cancel()
        await asyncio.wait([reading])

    run_in_virtual_time(main(), FakeClock())


async def test_the_rest_of_a_block_that_began_elsewhere_has_no_timer():
    breaker = breaker_of(loop_time)
    with breaker.acquire() as permit:
        body = permit.hand_over()
    assert await body.go_on(asyncio.sleep(0, "a part")) == "a part"
    body.succeed()
    assert breaker.snapshot().successes == 1


# Cancelling what is in flight


def cancelling(clock=loop_time, **policy):
    rules = {"failure_threshold": 1, "cancel_stranded": True, **policy}
    return CircuitBreaker("eu-west-1", BreakerPolicy(**rules), clock=clock)


@pytest.mark.parametrize("opens", ["fails", "forced", "in a thread", "rejects"])
def test_200_calls_in_flight_end_within_one_turn_of_the_loop(opens):
    breaker, clock = cancelling(stranded_after=50), FakeClock()

    async def fail():
        raise ServerError

    async def main():
        calls = [asyncio.ensure_future(breaker.call(hang)) for _ in range(200)]
        await asyncio.sleep(0)
        if opens == "fails":
            with pytest.raises(ServerError):
                await breaker.call(fail)
        elif opens == "forced":
            breaker.force_open("maintenance")
        elif opens == "rejects":
            clock.advance(50)
            with pytest.raises(CircuitBreakerOpenError):
                breaker.acquire()
        else:
            await asyncio.to_thread(breaker.force_open, "maintenance")
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert all(call.done() for call in calls)
        errors = [call.exception() for call in calls]
        assert {type(error) for error in errors} == {CircuitBreakerOpenError}
        assert {type(error.__cause__) for error in errors} == {asyncio.CancelledError}
        assert errors[0].state is OPEN
        assert len(asyncio.all_tasks()) == 1
        assert not breaker.running_calls

    if opens == "in a thread":
        asyncio.run(main())
    else:
        run_in_virtual_time(main(), clock)


async def test_calls_in_flight_end_where_another_thread_delivers_the_event():
    breaker, left = cancelling(), []
    calls = [asyncio.ensure_future(breaker.call(hang)) for _ in range(3)]
    await asyncio.sleep(0)
    breaker.apply(lambda now: breaker.circuit.force_open("by another process", now), left.append)
    await asyncio.wait(calls)
    assert {type(call.exception()) for call in calls} == {CircuitBreakerOpenError}
    assert len(left) == 1
    left[0]()


def test_a_cancellation_by_the_user_and_one_by_the_breaker_are_told_apart():
    breaker = cancelling()

    async def main():
        by_user, by_both, by_breaker = (asyncio.ensure_future(breaker.call(hang)) for _ in range(3))
        await asyncio.sleep(0)
        by_user.cancel()
        by_both.cancel()
        breaker.force_open("maintenance")
        by_both.cancel()
        await asyncio.wait([by_user, by_both, by_breaker])
        assert by_user.cancelled()
        assert by_both.cancelled()
        assert isinstance(by_breaker.exception(), CircuitBreakerOpenError)

    run_in_virtual_time(main(), FakeClock())


def test_the_call_that_trips_has_its_own_error_and_is_not_cancelled():
    breaker = cancelling()

    async def main():
        with breaker.acquire() as permit:
            permit.attempt_failed(ServerError())
        async with asyncio.TaskGroup() as group:
            breaker.reset()

            async def call():
                (running,) = breaker.running_calls
                assert running.task is asyncio.current_task()
                breaker.force_open("by the call itself")
                await asyncio.sleep(0)
                return "delivered"

            task = group.create_task(breaker.call(call))
        assert task.result() == "delivered"

    run_in_virtual_time(main(), FakeClock())


def test_without_it_calls_in_flight_go_on():
    breaker = cancelling(cancel_stranded=False, call_timeout=100)

    async def main():
        call = asyncio.ensure_future(breaker.call(asyncio.sleep, 5, "delivered"))
        await asyncio.sleep(1)
        breaker.force_open("maintenance")
        assert await call == "delivered"

    run_in_virtual_time(main(), FakeClock())


def test_a_loop_that_is_closed_is_passed_over():
    breaker = cancelling(clock=None)
    loop = asyncio.new_event_loop()
    call = breaker.call(hang)
    task = loop.create_task(call)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    breaker.force_open("maintenance")
    assert breaker.state is OPEN
    task._log_destroy_pending = False


def test_whatever_happens_no_call_is_left_running():
    chance = random.Random(5)
    breaker = cancelling(stranded_after=3, call_timeout=9, recovery_timeout=2, failure_threshold=3)

    async def work():
        if chance.random() < 0.3:
            raise ServerError
        await asyncio.sleep(chance.choice([0, 1, 5, 20]))

    async def worker():
        for _ in range(50):
            try:
                await breaker.call(work)
            except (ServerError, TimeoutError, CircuitBreakerOpenError):
                await asyncio.sleep(chance.choice([0, 1, 3]))

    async def main():
        workers = [asyncio.ensure_future(worker()) for _ in range(20)]
        for one in chance.sample(workers, 5):
            asyncio.get_running_loop().call_later(chance.randrange(40), one.cancel)
        await asyncio.wait(workers)
        assert len(asyncio.all_tasks()) == 1
        assert not breaker.running_calls
        openings = [count for _, new, count in breaker.snapshot().transitions if new is OPEN]
        assert sum(openings) > 3

    run_in_virtual_time(main(), FakeClock())
