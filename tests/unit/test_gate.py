"""The gate: which attempts a circuit lets a retry loop make, and how a sleeping loop ends."""

import asyncio
import contextvars
import functools
import gc
import os
import threading
import warnings
from types import SimpleNamespace

import pytest
import resilience.gate
import tenacity
import trio
import trio.testing
from tenacity import (
    AsyncRetrying,
    Retrying,
    TryAgain,
    retry_always,
    retry_if_not_exception_type,
    stop_after_attempt,
    stop_never,
    wait_fixed,
    wait_none,
)

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
    classify_status,
    region_breaker,
)
from resilience.retry import gate, stop_unless_closed, transient_retry

CLOSED, OPEN, HALF_OPEN = CircuitState
EU = "eu-west-1"
NEVER = wait_fixed(3600)  # a backoff that must not be waited for


@pytest.fixture
def breaker(clock):
    return CircuitBreaker(EU, BreakerPolicy(failure_threshold=2, success_threshold=1), clock=clock)


@pytest.fixture
def due(breaker, clock):
    """The breaker, open, and due for its first probe."""
    trip(breaker)
    clock.advance(60)
    return breaker


def trip(breaker):
    for _ in range(2):
        breaker.acquire().fail()
    assert breaker.state is OPEN


class Backend:
    """Counts the attempts; each one fails."""

    def __init__(self, error=TimeoutError):
        self.attempts = 0
        self.error = error

    async def call(self):
        self.now()

    def now(self):
        self.attempts += 1
        raise self.error


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


async def outcome(awaitable):
    try:
        return await awaitable
    except BaseException as error:
        return error


def nobody_sleeps():
    return not resilience.gate._sleepers


# While the circuit is CLOSED, and outside


async def test_outside_a_protected_call_it_is_plain_tenacity():
    backend = Backend()
    send = transient_retry(wait=wait_none())(backend.call)
    with pytest.raises(TimeoutError):
        await send()
    assert backend.attempts == 5
    assert send.statistics["attempt_number"] == 5


async def test_outside_a_protected_call_tenacitys_own_sleep_is_used(monkeypatch):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(TimeoutError):
        await transient_retry(wait=wait_fixed(7))(Backend().call)()
    assert slept == [7] * 4


def test_outside_a_protected_call_a_sync_loop_sleeps_as_tenacity_does(monkeypatch):
    slept = []
    monkeypatch.setattr(tenacity.nap.time, "sleep", slept.append)
    with pytest.raises(TimeoutError):
        transient_retry(wait=wait_fixed(7))(Backend().now)()
    assert slept == [7] * 4


async def test_a_closed_circuit_lets_every_attempt_through(breaker):
    backend = Backend()
    send = breaker(transient_retry(wait=wait_none())(backend.call))
    with pytest.raises(TimeoutError):
        await send()
    assert backend.attempts == 5
    assert breaker.snapshot().failures == 1


async def test_a_loop_in_a_protected_call_sleeps_its_time(breaker):
    backend = Backend()
    send = breaker(transient_retry(attempts=2, wait=wait_fixed(0.001))(backend.call))
    with pytest.raises(TimeoutError):
        await send()
    assert backend.attempts == 2
    assert nobody_sleeps()


def test_a_sync_loop_in_a_protected_call_sleeps_its_time(breaker):
    backend = Backend()
    send = breaker(transient_retry(attempts=2, wait=wait_fixed(0.001))(backend.now))
    with pytest.raises(TimeoutError):
        send()
    assert backend.attempts == 2
    assert nobody_sleeps()


# A sleeping loop is woken


async def sleeping(breaker, send, backend, attempts=1):
    task = asyncio.create_task(outcome(send()))
    await settle()
    assert backend.attempts == attempts
    assert not task.done()
    return task


def check_ended_by_gate(error, breaker):
    assert type(error) is CircuitBreakerOpenError
    assert (error.region, error.state) == (breaker.region, OPEN)
    assert error.retry_after == breaker.retry_after
    assert error.reason == breaker.snapshot().reason
    assert type(error.__cause__) is TimeoutError, "its own last error"


async def test_a_loop_that_sleeps_when_the_circuit_opens_is_woken_and_ends(breaker):
    backend = Backend()
    task = await sleeping(breaker, breaker(transient_retry(wait=NEVER)(backend.call)), backend)
    trip(breaker)
    check_ended_by_gate(await task, breaker)
    assert backend.attempts == 1
    assert breaker.snapshot().failures == 2, "which is no new failure"
    assert nobody_sleeps()


async def test_breaker_call_gates_the_loops_in_its_function(breaker):
    backend = Backend()
    fn = transient_retry(wait=NEVER)(backend.call)
    task = await sleeping(breaker, lambda: breaker.call(fn), backend)
    trip(breaker)
    check_ended_by_gate(await task, breaker)


async def test_a_permit_gates_the_loops_in_its_block(breaker):
    backend = Backend()

    async def send():
        with breaker.acquire():
            await transient_retry(wait=NEVER)(backend.call)()

    task = await sleeping(breaker, send, backend)
    trip(breaker)
    check_ended_by_gate(await task, breaker)


async def test_a_marked_function_gates_the_loops_written_inside_it(breaker):
    backend = Backend()

    @breaker
    @gate
    async def send():
        async for attempt in gate(AsyncRetrying(wait=NEVER)):
            with attempt:
                await backend.call()

    task = await sleeping(breaker, send, backend)
    trip(breaker)
    check_ended_by_gate(await task, breaker)


async def test_a_loop_called_with_a_function_is_gated(breaker):
    backend = Backend()
    loop = gate(AsyncRetrying(wait=NEVER))
    task = await sleeping(breaker, lambda: breaker.call(loop, backend.call), backend)
    trip(breaker)
    check_ended_by_gate(await task, breaker)


async def test_an_unmarked_function_is_not_gated_and_pays_nothing(breaker, monkeypatch):
    def refuse(permit):
        raise AssertionError(permit)

    monkeypatch.setattr(resilience.gate, "enter", refuse)

    @breaker
    async def send(*, ok=True):
        if not ok:
            raise TimeoutError

    @breaker
    def send_sync():
        return None

    for _ in range(2):
        await send()
        send_sync()
        await outcome(send(ok=False))
    send_sync()  # with a streak
    trip(breaker)
    with pytest.raises(CircuitBreakerOpenError):
        await send()


async def test_an_unmarked_function_pays_nothing_as_a_probe(due, monkeypatch):
    monkeypatch.setattr(resilience.gate, "enter", None)

    @due
    async def send():
        return 1

    assert await send() == 1
    assert due.state is CLOSED


async def test_a_decorator_in_between_does_not_hide_the_loop(breaker):
    backend = Backend()

    def plain_wrapper(fn):
        @functools.wraps(fn)
        def wrapper():
            return fn()

        return wrapper

    send = breaker(plain_wrapper(transient_retry(wait=NEVER)(backend.call)))
    task = await sleeping(breaker, send, backend)
    trip(breaker)
    check_ended_by_gate(await task, breaker)


async def test_an_awaitable_of_a_plain_function_is_gated(breaker):
    backend = Backend()
    fn = transient_retry(wait=NEVER)(backend.call)
    plain = lambda: fn()  # noqa: E731, PLW0108 - no `async def`, and nothing to see of tenacity
    task = await sleeping(breaker, breaker(plain), backend)
    trip(breaker)
    check_ended_by_gate(await task, breaker)


def test_100_threads_that_sleep_in_sync_loops_are_released(breaker):
    started = threading.Barrier(101)
    ended = []

    @breaker
    @transient_retry(wait=NEVER)
    def send():
        started.wait()
        raise TimeoutError

    def run():
        try:
            send()
        except CircuitBreakerOpenError as error:
            ended.append(type(error.__cause__))
        except TimeoutError:  # it had not fallen asleep yet
            ended.append(TimeoutError)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(100)]
    for thread in threads:
        thread.start()
    started.wait()
    trip(breaker)
    for thread in threads:
        thread.join(60)
    assert ended == [TimeoutError] * 100
    assert nobody_sleeps()


def test_a_sync_loop_is_woken_from_another_thread(breaker):
    asleep = threading.Event()
    ended = []

    @breaker
    @transient_retry(wait=NEVER, before_sleep=lambda _: asleep.set())
    def send():
        raise TimeoutError

    def run():
        with pytest.raises(CircuitBreakerOpenError) as caught:
            send()
        ended.append(caught.value)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert asleep.wait(60)
    trip(breaker)
    thread.join(60)
    check_ended_by_gate(ended[0], breaker)


def test_loops_of_several_event_loops_are_woken(breaker):
    asleep = threading.Barrier(3)
    ended = []

    @breaker
    @transient_retry(wait=NEVER)
    async def send():
        raise TimeoutError

    async def main():
        task = asyncio.create_task(outcome(send()))
        await settle()
        asleep.wait()
        ended.append(await task)

    threads = [threading.Thread(target=asyncio.run, args=(main(),), daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    asleep.wait()
    trip(breaker)
    for thread in threads:
        thread.join(60)
    for error in ended:
        check_ended_by_gate(error, breaker)
    assert len(ended) == 2


async def test_a_circuit_that_opened_before_the_loop_fell_asleep_ends_it(breaker):
    def open_now(_):
        trip(breaker)  # after the stop condition was asked

    backend = Backend()
    send = breaker(transient_retry(wait=NEVER, before_sleep=open_now)(backend.call))
    check_ended_by_gate(await outcome(send()), breaker)


async def test_an_attempt_on_the_wire_as_the_circuit_opens_raises_its_own_error(breaker):
    @breaker
    @transient_retry(wait=NEVER)
    async def send():
        trip(breaker)
        raise ConnectionResetError

    assert type(await outcome(send())) is ConnectionResetError


async def test_a_loop_whose_circuit_is_closed_again_before_it_looks_sleeps_on(breaker):
    backend = Backend()
    task = await sleeping(breaker, breaker(transient_retry(wait=NEVER)(backend.call)), backend)
    trip(breaker)
    breaker.reset()
    await settle()
    assert backend.attempts == 1
    trip(breaker)
    check_ended_by_gate(await task, breaker)


def test_a_thread_whose_circuit_is_closed_again_before_it_looks_sleeps_on(breaker, monkeypatch):
    looked, may_look = threading.Semaphore(0), threading.RLock()
    backend, ended = Backend(), []
    keeps_out = resilience.gate.keeps_out

    def look(permit, *, retry):
        with may_look:
            looked.release()
            return keeps_out(permit, retry=retry)

    monkeypatch.setattr(resilience.gate, "keeps_out", look)
    send = breaker(transient_retry(wait=NEVER)(backend.now))

    def run():
        with pytest.raises(CircuitBreakerOpenError):
            send()
        ended.append(backend.attempts)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    for _ in range(4):  # before the attempt, after it, as it falls asleep, and once asleep
        assert looked.acquire(timeout=60)
    with may_look:
        trip(breaker)
        breaker.reset()
    assert looked.acquire(timeout=60)
    trip(breaker)
    thread.join(60)
    assert ended == [1]


async def test_a_loop_whose_event_loop_is_closed_harms_nobody(breaker):
    backend = Backend()

    def abandon():
        loop = asyncio.new_event_loop()
        task = loop.create_task(breaker(transient_retry(wait=NEVER)(backend.call))())
        loop.run_until_complete(settle())
        loop.close()
        return task

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        task = await asyncio.to_thread(abandon)
        trip(breaker)
        task.get_coro().close()
        del task
        gc.collect()
    assert nobody_sleeps()


# No attempt starts


async def test_no_loop_starts_once_the_circuit_is_open(breaker):
    backend = Backend()
    fn = transient_retry(wait=NEVER)(backend.call)

    @breaker
    @gate
    async def send():
        trip(breaker)
        await fn()

    error = await outcome(send())
    assert type(error) is CircuitBreakerOpenError
    assert error.__cause__ is None
    assert backend.attempts == 0


async def test_a_call_from_before_is_no_probe_of_the_half_open_circuit(breaker, clock):
    backend = Backend()
    fn = transient_retry(wait=NEVER)(backend.call)

    @breaker
    @gate
    async def send():
        trip(breaker)
        clock.advance(60)
        probe = breaker.acquire()
        error = await outcome(fn())
        probe.succeed()
        return error

    error = await send()
    assert error.state is HALF_OPEN
    assert backend.attempts == 0


async def test_a_probe_that_lost_its_place_makes_no_attempt(due, clock):
    backend = Backend()
    fn = transient_retry(wait=NEVER)(backend.call)

    @due
    @gate
    async def send():
        clock.advance(60)
        other = contextvars.Context().run(due.acquire)
        error = await outcome(fn())
        other.ignore()
        return error

    assert type(await send()) is CircuitBreakerOpenError
    assert backend.attempts == 0


# A probe


@pytest.mark.parametrize("reraise", [True, False])
async def test_a_probe_makes_one_attempt_and_reports_what_it_raised(due, reraise):
    backend = Backend()
    send = due(transient_retry(wait=NEVER, reraise=reraise)(backend.call))
    error = await outcome(send())
    assert type(error) is (TimeoutError if reraise else tenacity.RetryError)
    assert backend.attempts == 1
    assert due.state is OPEN
    assert due.snapshot().reason == "TimeoutError"


async def test_each_loop_of_a_probe_makes_one_attempt(due):
    first, second = Backend(), Backend()

    @due
    @gate
    async def send():
        for backend in (first, second):
            await outcome(transient_retry(wait=NEVER)(backend.call)())
        return "sent"

    assert await send() == "sent"
    assert (first.attempts, second.attempts) == (1, 1)
    assert due.state is CLOSED


def test_a_probe_of_a_sync_function_makes_one_attempt(due):
    backend = Backend()
    with pytest.raises(TimeoutError):
        due(transient_retry(wait=NEVER)(backend.now))()
    assert backend.attempts == 1
    assert due.state is OPEN


def test_a_probe_with_a_for_loop_makes_one_attempt(due):
    backend = Backend()

    @due
    @gate
    def send():
        for attempt in gate(Retrying(wait=NEVER, reraise=True)):
            with attempt:
                backend.now()

    with pytest.raises(TimeoutError):
        send()
    assert backend.attempts == 1


async def test_stop_unless_closed_alone_makes_a_probe_one_attempt(due):
    backend = Backend()
    plain = tenacity.retry(stop=stop_after_attempt(5) | stop_unless_closed, wait=NEVER)
    error = await outcome(due(plain(backend.call))())
    assert type(error) is tenacity.RetryError
    assert backend.attempts == 1
    assert due.state is OPEN


async def test_stop_unless_closed_stops_nothing_outside():
    backend = Backend()
    plain = tenacity.retry(stop=stop_after_attempt(3) | stop_unless_closed, wait=wait_none())
    await outcome(plain(backend.call)())
    assert backend.attempts == 3


# Circuits inside circuits


@pytest.mark.parametrize("opens", ["inner", "outer"])
async def test_a_loop_ends_when_any_circuit_around_it_opens(breaker, clock, opens):
    inner = CircuitBreaker("login", BreakerPolicy(failure_threshold=2), clock=clock)
    backend = Backend()
    fetch = inner(transient_retry(wait=NEVER)(backend.call))

    @breaker
    @gate
    async def send():
        await fetch()

    task = await sleeping(breaker, send, backend)
    which = {"inner": inner, "outer": breaker}[opens]
    trip(which)
    check_ended_by_gate(await task, which)
    assert inner.snapshot().failures == (2 if opens == "inner" else 0)


async def test_a_loop_inside_another_circuits_probe_makes_one_attempt(due, clock):
    inner = CircuitBreaker("login", clock=clock)
    backend = Backend()
    fetch = inner(transient_retry(wait=NEVER)(backend.call))
    error = await outcome(due.call(fetch))
    assert type(error) is TimeoutError
    assert backend.attempts == 1
    assert due.state is OPEN


# Settled permits, tasks and contexts


async def test_a_settled_permit_gates_nothing(breaker):
    backend = Backend()
    with breaker.acquire() as permit:
        permit.succeed()
        trip(breaker)
        await outcome(transient_retry(wait=wait_none())(backend.call)())
    assert backend.attempts == 5


async def test_a_task_that_outlives_its_call_is_not_gated(breaker):
    backend = Backend()
    tasks = []

    @breaker
    @gate
    async def send():
        fn = transient_retry(wait=wait_none())(backend.call)
        tasks.append(asyncio.create_task(outcome(fn())))

    await send()
    trip(breaker)
    await asyncio.gather(*tasks)
    assert backend.attempts == 5


async def test_a_task_of_a_running_call_is_gated(breaker):
    backend = Backend()

    @breaker
    @gate
    async def send():
        fn = transient_retry(wait=NEVER)(backend.call)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(outcome(fn()))
        return task.result()

    task = await sleeping(breaker, send, backend)
    trip(breaker)
    check_ended_by_gate(await task, breaker)


async def test_a_permit_left_in_another_context_is_given_back(breaker):
    backend = Backend()
    permit = breaker.acquire()
    contextvars.copy_context().run(permit.__enter__)
    permit.__exit__(None, None, None)
    assert breaker.snapshot().successes == 1
    permit = breaker.acquire()
    with permit:
        pass
    await outcome(transient_retry(wait=wait_none())(backend.call)())
    assert backend.attempts == 5


async def test_permits_left_elsewhere_do_not_pile_up(breaker):
    for _ in range(3):
        permit = breaker.acquire()
        permit.__enter__()
        contextvars.copy_context().run(permit.__exit__, None, None, None)
        assert permit._outer is None, "the one before is settled, and nobody's outer one"


async def test_a_call_in_a_thread_knows_its_circuit(breaker):
    backend = Backend()

    @breaker
    @gate
    async def send():
        trip(breaker)
        await asyncio.to_thread(transient_retry(wait=NEVER)(backend.now))

    assert type(await outcome(send())) is CircuitBreakerOpenError
    assert backend.attempts == 0


# Cancelling


async def test_cancelling_a_sleeping_task_cancels_it_at_once(breaker):
    backend = Backend()
    send = breaker(transient_retry(wait=NEVER)(backend.call))
    task = asyncio.create_task(send())
    await settle()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert backend.attempts == 1
    assert breaker.snapshot().ignored == 1
    assert nobody_sleeps()


@pytest.mark.parametrize("swallows", [retry_always, retry_if_not_exception_type(ValueError)])
@pytest.mark.parametrize("inside", [True, False])
async def test_no_condition_swallows_a_cancellation(breaker, swallows, inside):
    async def hang():
        await asyncio.Event().wait()

    fn = gate(tenacity.retry(retry=swallows, wait=wait_none())(hang))
    task = asyncio.create_task((breaker(fn) if inside else fn)())
    await settle()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


def test_an_interrupt_ends_a_loop_that_would_retry_anything(breaker):
    backend = Backend(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        breaker(transient_retry(retry=retry_always, wait=wait_none())(backend.now))()
    assert backend.attempts == 1


# The user's own tenacity


async def test_a_sleep_of_the_users_own_wins_and_no_attempt_follows(breaker):
    backend, slept = Backend(), []

    async def sleep(seconds):
        slept.append(seconds)
        trip(breaker)

    send = breaker(transient_retry(wait=wait_fixed(7), sleep=sleep)(backend.call))
    check_ended_by_gate(await outcome(send()), breaker)
    assert slept == [7]
    assert backend.attempts == 1


def test_what_the_user_sets_on_a_loop_afterwards_is_used(breaker):
    backend, slept = Backend(), []
    send = breaker(transient_retry(wait=NEVER)(backend.now))
    send.retry.sleep = slept.append
    send.retry.wait = wait_fixed(1)
    with pytest.raises(TimeoutError):
        send()
    assert slept == [1] * 4
    assert send.statistics["attempt_number"] == 5


def test_retry_with_is_gated_too(due):
    backend = Backend()
    send = due(transient_retry(wait=NEVER)(backend.now))
    with pytest.raises(TimeoutError):
        send.retry_with(stop=stop_never)()
    assert backend.attempts == 1
    assert due.state is OPEN


def test_a_probe_whose_stop_condition_was_taken_away_makes_one_attempt_all_the_same(due):
    backend = Backend()
    send = due(transient_retry(wait=NEVER)(backend.now))
    send.retry.stop = stop_never
    with pytest.raises(TimeoutError):
        send()
    assert backend.attempts == 1
    assert due.state is OPEN


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_hooks_of_the_users_own_are_called(breaker, kind):
    called = []

    def hook(name):
        def note(state):
            called.append((name, state.attempt_number))
            return name == "stop" and state.attempt_number == 2

        async def note_async(state):
            return note(state)

        return note_async if kind == "async" else note

    hooks = {name: hook(name) for name in ("before", "after", "before_sleep", "stop")}
    backend = Backend()
    send = breaker(gate(tenacity.retry(wait=wait_none(), **hooks)(backend.call)))
    assert type(await outcome(send())) is tenacity.RetryError
    assert called == [
        ("before", 1), ("after", 1), ("stop", 1), ("before_sleep", 1),
        ("before", 2), ("after", 2), ("stop", 2),
    ]  # fmt: skip


async def test_an_async_stop_condition_of_the_users_own_does_not_hide_the_circuit(due):
    async def never(_):
        return False

    backend = Backend()
    send = due(gate(tenacity.retry(stop=never, wait=NEVER, reraise=True)(backend.call)))
    assert type(await outcome(send())) is TimeoutError
    assert backend.attempts == 1


async def test_a_fallback_value_of_the_users_own_is_returned(due):
    backend = Backend()
    plain = tenacity.retry(wait=NEVER, retry_error_callback=lambda _: "fallback")
    assert await due(gate(plain(backend.call)))() == "fallback"
    assert backend.attempts == 1


async def test_try_again_is_gated(breaker):
    backend = Backend(TryAgain)
    task = await sleeping(breaker, breaker(transient_retry(wait=NEVER)(backend.call)), backend)
    trip(breaker)
    assert type(await task) is CircuitBreakerOpenError


async def test_an_unwanted_result_is_gated(breaker):
    retries = tenacity.retry(retry=tenacity.retry_if_result(lambda _: True), wait=NEVER)

    @breaker
    @gate
    @retries
    async def send():
        return "unwanted"

    task = asyncio.create_task(outcome(send()))
    await settle()
    trip(breaker)
    error = await task
    assert type(error) is CircuitBreakerOpenError
    assert error.__cause__ is None


async def test_a_disabled_loop_is_left_alone(breaker):
    backend = Backend()
    send = breaker(transient_retry(wait=NEVER, enabled=False)(backend.call))
    assert type(await outcome(send())) is TimeoutError
    assert backend.attempts == 1


async def test_loops_of_the_users_own_in_one_another_are_both_gated(due):
    backend = Backend()
    twice = tenacity.retry(wait=NEVER, reraise=True)
    send = due(gate(twice(tenacity.retry(wait=NEVER, reraise=True)(backend.call))))
    assert type(await outcome(send())) is TimeoutError
    assert backend.attempts == 1


def test_gating_twice_is_gating_once():
    loop = gate(Retrying())
    assert gate(loop) is loop
    send = gate(transient_retry()(Backend().now))
    assert gate(send).retry is send.retry


def test_the_loop_that_is_given_stays_as_it_is():
    plain = Retrying(stop=stop_after_attempt(1))
    gated = gate(plain)
    assert type(gated) is Retrying
    assert plain.before is tenacity.before_nothing
    assert gated.copy().stop is gated.stop


def test_gate_over_another_decorator_says_where_it_goes():
    @functools.wraps(retried := transient_retry()(Backend().now))
    def logged():
        return retried()

    with pytest.raises(TypeError, match=r"gate goes directly over the retry decorator of .*now"):
        gate(logged)


@pytest.mark.parametrize("wrong", [7, None, int])
def test_gate_refuses_what_is_no_function_and_no_loop(wrong):
    with pytest.raises(TypeError, match=r"gate decorates a function, got"):
        gate(wrong)


def test_gate_refuses_a_function_that_cannot_be_marked():
    with pytest.raises(TypeError, match=r"gate cannot mark len: give it a function of your own"):
        gate(len)


def test_gate_refuses_a_loop_of_another_kind():
    class Other(tenacity.BaseRetrying):
        def __call__(self, fn):
            return fn()

    with pytest.raises(TypeError, match=r"takes a Retrying or an AsyncRetrying, got a Other"):
        gate(Other())


def test_gate_returns_the_marked_function_itself():
    def send():
        return None

    assert gate(send) is send


# Elsewhere than asyncio


def test_a_trio_task_that_slept_makes_no_attempt_after_the_circuit_opened(breaker):
    backend = Backend()
    send = breaker(transient_retry(wait=wait_fixed(5))(backend.call))

    async def main():
        ended = []

        async def run():
            ended.append(await outcome(send()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await trio.testing.wait_all_tasks_blocked()
            trip(breaker)
        return ended[0]

    check_ended_by_gate(trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0)), breaker)
    assert backend.attempts == 1


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_the_child_of_a_fork_wakes_nobody_of_its_parent(breaker):
    backend = Backend()
    task = await sleeping(breaker, breaker(transient_retry(wait=NEVER)(backend.call)), backend)
    child = os.fork()
    if child == 0:
        os._exit(0 if nobody_sleeps() else 1)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    trip(breaker)
    check_ended_by_gate(await task, breaker)


async def test_an_interrupt_out_of_a_listener_of_a_probe_reaches_the_caller(due):
    def interrupt(event):
        if event.new is CLOSED:
            raise KeyboardInterrupt

    due.listen(interrupt)

    @due
    async def send():
        return "sent"

    assert type(await outcome(send())) is KeyboardInterrupt
    assert due.state is CLOSED


async def test_two_regions_do_not_meet(clock):
    registry = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=2), clock=clock)
    backend = Backend()

    @region_breaker(region_from="region", registry=registry)
    @transient_retry(wait=NEVER)
    async def send(region):
        await backend.call()

    here = asyncio.create_task(outcome(send(EU)))
    there = asyncio.create_task(outcome(send("us-east-1")))
    await settle()
    trip(registry.get(EU))
    check_ended_by_gate(await here, registry.get(EU))
    await settle()
    assert not there.done()
    there.cancel()
    await there


async def test_a_success_in_a_closed_circuit_takes_no_lock(breaker, monkeypatch):
    @breaker
    @transient_retry()
    async def send():
        return 1

    @breaker
    @transient_retry()
    def send_sync():
        return 1

    for name in ("permit", "breaker", "gate"):
        monkeypatch.setattr(f"resilience.{name}.lock", None)
    assert (await send(), send_sync()) == (1, 1)
    monkeypatch.undo()
    assert breaker.snapshot().successes == 2


async def test_a_result_classifier_is_asked_about_a_retried_function(clock):
    breaker = CircuitBreaker(EU, result_classifier=classify_status, clock=clock)

    @breaker
    @transient_retry()
    async def send():
        return SimpleNamespace(status=503)

    await send()
    assert breaker.snapshot().failures == 1


async def test_10_000_calls_whose_loops_were_woken_leave_nothing_behind(clock):
    breaker = CircuitBreaker(EU, clock=clock)
    backend = Backend()
    send = breaker(transient_retry(wait=NEVER)(backend.call))

    async def storm(calls):
        tasks = [asyncio.create_task(outcome(send())) for _ in range(calls)]
        await settle()
        breaker.force_open("the test says so")
        await asyncio.gather(*tasks)
        breaker.reset()

    await storm(10)
    gc.collect()
    before = len(gc.get_objects())
    await storm(10_000)
    await settle()  # asyncio forgets cancelled timers in its next round
    gc.collect()
    assert len(gc.get_objects()) - before < 1_000
    assert backend.attempts == 10_010
    assert nobody_sleeps()
    assert [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()] == []
