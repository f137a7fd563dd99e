"""The first attempt, which is made outside tenacity: nobody can tell, but for the time it takes."""

import asyncio
import contextvars
import gc
import sys
import threading
import weakref
from pathlib import Path

import pytest
import tenacity
from tenacity import (
    AsyncRetrying,
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
    wait_none,
)
from tenacity.asyncio import retry as async_conditions

from resilience import BreakerPolicy, CircuitBreaker, CircuitBreakerOpenError, Permit
from resilience.retry import RetryBudget, gate, is_transient, transient_retry
from resilience.retry.first_attempt import looks_at_errors_only
from tests.support.driving import ServerError
from tests.support.retry_scripts import ASYNC_SETTINGS, SETTINGS, observe
from tests.support.retrying import Backend, Sleeps, result_of, trip

SCRIPTS = 10_000
KINDS = [(name, is_async) for name in SETTINGS for is_async in (True, False)]
KINDS += [(name, True) for name in ASYNC_SETTINGS]


def gated(**settings):
    return lambda fn: gate(tenacity.retry(**settings)(fn))


def preset(**settings):
    given = {"retry": retry_if_exception_type(), "wait": wait_none(), "reraise": False}
    return transient_retry(**{**given, **settings})


# Outside any circuit it is tenacity


@pytest.mark.parametrize(("name", "is_async"), KINDS)
@pytest.mark.parametrize("ours", [gated, preset])
def test_random_scripts_are_run_as_tenacity_runs_them(name, is_async, ours):
    for seed in range(-(-SCRIPTS // len(KINDS) // 2)):
        expected = observe(tenacity.retry, name, seed, is_async=is_async)
        got = observe(ours, name, seed, is_async=is_async)
        assert got == expected, f"settings {name!r}, seed {seed}, async {is_async}"


@pytest.mark.parametrize("is_async", [True, False])
def test_a_difference_would_be_found(is_async):
    def one_more(**settings):
        return tenacity.retry(**{**settings, "stop": stop_after_attempt(5)})

    expected = observe(tenacity.retry, "defaults", 3, is_async=is_async)
    assert observe(one_more, "defaults", 3, is_async=is_async) != expected


# A success enters none of tenacity

TENACITY = Path(tenacity.__file__).parent


def entered(call):
    """Return the functions of tenacity that a call enters."""
    names = []

    def note(frame, event, _):
        if event == "call" and TENACITY in Path(frame.f_code.co_filename).parents:
            names.append(frame.f_code.co_name)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(before)
    return names


def drive(coroutine):
    """Run a coroutine that never waits to its end."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    pytest.fail("the call waited for something")


def alone(_, send):
    return send


def in_a_circuit(breaker, send):
    return breaker(send)


def in_a_nested_call(breaker, send):
    inner = CircuitBreaker("inner")(send)
    if asyncio.iscoroutinefunction(send):

        @breaker
        @gate
        async def outer_async():
            return await inner()

        return outer_async

    @breaker
    @gate
    def outer():
        return inner()

    return outer


every_place = pytest.mark.parametrize("place", [alone, in_a_circuit, in_a_nested_call])


@every_place
@pytest.mark.parametrize(
    "decorate", [transient_retry(), lambda fn: gate(tenacity.retry(fn))], ids=["preset", "gate"]
)
def test_a_success_enters_no_function_of_tenacity(breaker, place, decorate):
    backend = Backend(default=None)
    send = place(breaker, decorate(backend.send))
    send_plain = place(breaker, decorate(backend.send_plain))
    assert entered(lambda: drive(send())) == []
    assert entered(send_plain) == []
    assert backend.attempts == 2


@every_place
def test_a_success_leaves_no_garbage(breaker, place):
    send = place(breaker, transient_retry()(Backend(default=None).send))
    send_plain = place(breaker, transient_retry()(Backend(default=None).send_plain))
    drive(send())
    send_plain()
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            drive(send())
            send_plain()
        assert gc.collect() == 0
    finally:
        gc.enable()


@every_place
@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("failures", [1, 3])
@pytest.mark.parametrize("count_per", ["call", "attempt"])
def test_the_errors_of_attempts_are_free_after_a_success(place, is_async, failures, count_per):
    breaker, errors = CircuitBreaker("eu-west-1"), []

    def remembered(error):
        errors.append(weakref.ref(error))
        return error

    def fail_first():
        if len(errors) < failures:
            raise remembered(ServerError())
        return "sent"

    async def fail_first_async():
        return fail_first()

    sleep = Sleeps()
    settings = {"wait": wait_none(), "sleep": sleep if is_async else sleep.plain}
    decorate = transient_retry(count_per=count_per, **settings)
    send = decorate(fail_first_async if is_async else fail_first)
    call = place(breaker, send)
    gc.disable()
    try:
        assert (drive(call()) if is_async else call()) in ("sent", None)
        assert [error() for error in errors] == [None] * failures
    finally:
        gc.enable()


# A settled permit stays where the next call finds it


class Message:
    """What is sent, and what is returned."""


@pytest.mark.parametrize("is_async", [True, False])
def test_what_stays_after_a_success_is_one_permit_and_nothing_of_the_call(breaker, is_async):
    async def send_async(_):
        return Message()

    def send_plain(_):
        return Message()

    send = breaker(transient_retry()(send_async if is_async else send_plain))
    call = (lambda message: drive(send(message))) if is_async else send
    permits = alive(Permit)
    gc.disable()
    try:
        for _ in range(10):
            call(Message())
        assert alive(Message) == 0
        assert alive(Permit) <= permits + 1
    finally:
        gc.enable()


def alive(kind):
    return sum(type(thing) is kind for thing in gc.get_objects())


@pytest.mark.parametrize("is_async", [True, False])
def test_after_a_success_the_circuit_stops_no_loop_outside(breaker, is_async):
    backend = Backend(default=None)
    send = breaker(transient_retry()(backend.send if is_async else backend.send_plain))
    assert (drive(send()) if is_async else send()) == "sent"
    trip(breaker)
    assert transient_retry()(backend.send_plain)() == "sent"
    assert drive(transient_retry()(backend.send)()) == "sent"


def test_after_an_inner_call_loops_belong_to_the_outer_call_again(breaker, other):
    backend = Backend(default=None)
    inner = other(transient_retry()(backend.send_plain))
    loop = transient_retry()(backend.send_plain)

    @breaker
    @transient_retry()
    def outer():
        inner()
        trip(breaker)
        return loop()

    inner()  # whose permit stays
    with pytest.raises(CircuitBreakerOpenError) as caught:
        outer()
    assert caught.value.region == breaker.region
    assert backend.attempts == 2


async def test_after_an_inner_async_call_loops_belong_to_the_outer_call_again(breaker, other):
    backend = Backend(default=None)
    inner = other(transient_retry()(backend.send))
    loop = transient_retry()(backend.send)

    @breaker
    @transient_retry()
    async def outer():
        await inner()
        trip(breaker)
        return await loop()

    await inner()
    error = await result_of(outer())
    assert (type(error), error.region) == (CircuitBreakerOpenError, breaker.region)
    assert backend.attempts == 2


async def test_a_task_that_a_success_has_started_is_not_stopped(breaker):
    """It has the settled permit in its context, and the calls that it makes have their own."""
    backend, go_on, tasks = Backend(default=None), asyncio.Event(), []
    protected = breaker(transient_retry()(backend.send))

    async def later():
        await go_on.wait()
        return await protected(), await transient_retry()(backend.send)()

    @breaker
    @transient_retry()
    async def send():
        tasks.append(asyncio.create_task(later()))

    await send()
    go_on.set()
    assert await tasks[0] == ("sent", "sent")
    trip(breaker)
    assert await transient_retry()(backend.send)() == "sent"


# What is set afterwards is seen


@pytest.mark.parametrize("is_protected", [True, False])
def test_what_a_user_sets_on_the_loop_afterwards_is_seen(breaker, is_protected):
    backend, seen = Backend(default=None), []
    send = transient_retry(wait=wait_none())(backend.send_plain)
    send = breaker(send) if is_protected else send
    send.retry.before = lambda state: seen.append(state.attempt_number)
    assert send() == "sent"
    assert seen == [1]
    send.retry.retry = retry_if_result(lambda result: result == "sent")
    send.retry.stop = stop_after_attempt(2)
    with pytest.raises(tenacity.RetryError):
        send()
    assert seen == [1, 1, 2]
    send.retry.enabled = False
    assert send() == "sent"
    assert seen == [1, 1, 2]


@pytest.mark.parametrize("is_protected", [True, False])
async def test_what_a_user_sets_on_an_async_loop_afterwards_is_seen(breaker, is_protected):
    backend, seen = Backend(default=None), []
    send = transient_retry(wait=wait_none())(backend.send)
    send = breaker(send) if is_protected else send
    send.retry.before = lambda state: seen.append(state.attempt_number)
    assert await send() == "sent"
    send.retry.retry = retry_if_result(lambda result: result == "sent")
    send.retry.stop = stop_after_attempt(2)
    with pytest.raises(tenacity.RetryError):
        await send()
    assert seen == [1, 1, 2]
    send.retry.enabled = False
    assert await send() == "sent"
    assert seen == [1, 1, 2]


@pytest.mark.parametrize("is_protected", [True, False])
@pytest.mark.parametrize("budget", [None, RetryBudget()])
def test_a_condition_that_is_set_afterwards_is_the_only_one(breaker, is_protected, budget):
    backend = Backend()
    send = transient_retry(attempts=3, wait=wait_none(), budget=budget)(backend.send_plain)
    send = breaker(send) if is_protected else send
    with pytest.raises(ServerError):
        send()
    assert backend.attempts == 3
    send.retry.retry = tenacity.retry_never
    with pytest.raises(ServerError):
        send()
    assert backend.attempts == 4


def test_a_loop_whose_hooks_were_replaced_is_still_stopped(breaker):
    backend = Backend()
    send = breaker(transient_retry(wait=wait_none())(backend.send_plain))
    send.retry.stop = stop_after_attempt(9)
    send.retry.after = lambda _: trip(breaker)
    send.retry.before = lambda _: None
    with pytest.raises(ServerError):
        send()
    assert backend.attempts == 1


# Statistics

RIGHT = {"attempt_number": 1, "idle_for": 0, "delay_since_first_attempt": 0}


def shown(statistics):
    return {name: value for name, value in statistics.items() if name != "start_time"}


@every_place
def test_statistics_are_right_after_each_call(breaker, place):
    backend = Backend(default=None)
    retried = transient_retry(wait=wait_none(), sleep=lambda _: None)(backend.send_plain)
    send = place(breaker, retried)
    for _ in range(2):
        backend.errors += [ServerError(), ServerError()]
        send()
        assert retried.statistics["attempt_number"] == 3
        send()
        assert shown(retried.statistics) == RIGHT
        assert retried.retry.statistics is retried.statistics


def test_statistics_are_right_through_the_wrapper_of_the_circuit(breaker):
    send = breaker(transient_retry()(Backend(default=None).send_plain))
    assert send.statistics == {}
    send()
    assert shown(send.statistics) == RIGHT
    first = send.statistics["start_time"]
    send()
    assert send.statistics["start_time"] >= first


async def test_a_success_beside_a_running_loop_shows_its_own_statistics(breaker):
    backend, go_on = Backend(ServerError(), default=None), asyncio.Event()

    async def sleep(_):
        await go_on.wait()

    send = breaker(transient_retry(sleep=sleep)(backend.send))
    slow = asyncio.create_task(send())
    await asyncio.sleep(0)
    for _ in range(2):
        await send()
        assert shown(send.statistics) == RIGHT
        # as the loop that still runs may do
        send.statistics.update(attempt_number=7, delay_since_first_attempt=9.0)
    go_on.set()
    await slow
    await send()
    assert shown(send.statistics) == RIGHT


@pytest.mark.parametrize(
    "condition", [is_transient, is_transient | retry_if_result(lambda result: result != "sent")]
)
def test_a_call_that_begins_in_another_thread_disturbs_no_loop(breaker, condition):
    backend, slept, seen = Backend(ServerError(), ServerError(), default=None), [], []

    def sleep(seconds):
        slept.append(seconds)
        send.statistics.clear()  # as tenacity does at the start of a call, in several steps

    def look(state):
        seen.append(shown(state.retry_object.statistics))

    retried = transient_retry(wait=wait_none(), sleep=sleep, retry=condition, before_sleep=look)
    send = breaker(retried(backend.send_plain))
    send()
    assert slept == [0, 0]
    assert [one["attempt_number"] for one in seen] == [2, 3]


@every_place
def test_another_function_of_the_same_loop_leaves_no_trace_in_the_statistics(breaker, place):
    loop = Retrying(stop=stop_after_attempt(3))
    retried = gate(loop.wraps(Backend(default=None).send_plain))
    send = place(breaker, retried)
    send()
    for _ in range(2):
        with pytest.raises(tenacity.RetryError):
            loop(Backend().send_plain)
        assert retried.statistics["attempt_number"] == 3, "as in tenacity"
        send()
        assert shown(retried.statistics) == RIGHT


@pytest.mark.parametrize("is_frozen", [True, False])
def test_calls_outside_the_circuit_leave_no_trace_in_the_statistics(
    breaker, monkeypatch, is_frozen
):
    backend = Backend(default=None)
    retried = tenacity.retry(stop=stop_after_attempt(2))(backend.send_plain)
    send = breaker(retried)
    if is_frozen:
        monkeypatch.setattr("time.monotonic", lambda: 7.0)
    for _ in range(2):
        send()
        backend.errors += [ServerError(), ServerError()]
        with pytest.raises(tenacity.RetryError):
            retried()
        assert send.statistics["attempt_number"] == 2
        send()
        assert shown(send.statistics) == RIGHT


async def test_a_retry_after_a_success_of_another_call_leaves_no_trace(breaker):
    """The loop counts on where the success has begun anew, after it has looked at the time."""
    backend = Backend(ServerError(), default=None)
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def never(_):
        reached.set()
        await go_on.wait()
        return False

    send = breaker(gate(tenacity.retry(stop=never, sleep=Sleeps())(backend.send)))
    slow = asyncio.create_task(send())
    await reached.wait()
    await send()
    go_on.set()
    await slow
    assert send.statistics["attempt_number"] == 2, "as in tenacity"
    await send()
    assert shown(send.statistics) == RIGHT


@every_place
def test_statistics_that_were_cleared_are_complete_again(breaker, place):
    retried = transient_retry()(Backend(default=None).send_plain)
    send = place(breaker, retried)
    for _ in range(2):
        send()
        assert list(retried.statistics) == ["start_time", *RIGHT]
        retried.statistics.clear()


def test_what_a_hook_adds_to_the_statistics_is_gone_at_the_next_call(breaker):
    backend = Backend(ServerError(), default=None)

    def add(state):
        state.retry_object.statistics["region"] = "eu-west-1"

    send = breaker(transient_retry(before_sleep=add, sleep=lambda _: None)(backend.send_plain))
    send()
    assert send.statistics["region"] == "eu-west-1"
    send()
    assert shown(send.statistics) == RIGHT


def test_calls_in_many_threads_disturb_no_statistics_of_each_other():
    """A key that another call took away for a moment would be the error of this one."""
    outcomes = iter(range(10**9))

    def send():
        if next(outcomes) % 2:
            raise ServerError

    send = transient_retry(wait=wait_none(), sleep=lambda _: None, attempts=9)(send)
    errors = []

    def run():
        for _ in range(100):
            try:
                send()
            except Exception as error:
                if not isinstance(error, ServerError):
                    errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert errors == []


def test_the_loop_shows_the_statistics_in_every_thread(breaker):
    send, found = breaker(transient_retry()(Backend(default=None).send_plain)), []

    def run():
        send()
        found.append(shown(send.retry.statistics))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [RIGHT]


# What passes, and who is asked


@every_place
@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
async def test_what_is_not_an_exception_passes_untouched(breaker, place, error):
    backend, raised = Backend(default=None), error()
    send = place(breaker, transient_retry(retry=is_transient)(backend.send))
    send_plain = place(breaker, transient_retry(retry=is_transient)(backend.send_plain))
    backend.errors.append(raised)
    with pytest.raises(error) as caught:
        await send()
    assert caught.value is raised
    backend.errors.append(raised)
    with pytest.raises(error) as caught:
        send_plain()
    assert caught.value is raised
    assert backend.attempts == 2


def test_a_first_attempt_asks_the_circuits_around_it(breaker):
    """The innermost circuit has admitted the call; one around it has opened since."""
    backend = Backend(default=None)
    inner = CircuitBreaker("inner")
    send = inner(transient_retry()(backend.send_plain))
    retried = transient_retry()(backend.send_plain)
    with breaker.acquire() as permit:
        trip(breaker)
        for call in (send, retried):
            with pytest.raises(CircuitBreakerOpenError) as caught:
                call()
            assert caught.value.region == breaker.region
        permit.ignore()
    assert backend.attempts == 0


async def test_an_async_first_attempt_asks_the_circuits_around_it(breaker):
    backend = Backend(default=None)
    inner = CircuitBreaker("inner")
    send = inner(transient_retry()(backend.send))
    retried = transient_retry()(backend.send)
    with breaker.acquire() as permit:
        trip(breaker)
        for call in (send, retried):
            assert type(await result_of(call())) is CircuitBreakerOpenError
        permit.ignore()
    assert backend.attempts == 0


@pytest.mark.parametrize("is_nested", [True, False])
def test_each_call_pays_into_the_budget_once(breaker, is_nested):
    budget = RetryBudget(ratio=1.0, minimum_per_second=0.0)
    backend = Backend(default=None)
    send = transient_retry(budget=budget, wait=wait_none())(backend.send_plain)
    protected = breaker(send)

    @CircuitBreaker("around")
    @gate
    def around():
        protected()

    call = around if is_nested else protected
    for _ in range(3):
        call()
    assert [budget.allows_retry(breaker) for _ in range(4)] == [True, True, True, False]


async def test_each_async_call_pays_into_the_budget_once(breaker):
    budget = RetryBudget(ratio=1.0, minimum_per_second=0.0)
    send = breaker(transient_retry(budget=budget)(Backend(default=None).send))
    await send()
    assert [budget.allows_retry(breaker) for _ in range(2)] == [True, False]


def test_a_plain_function_whose_result_is_awaited_later_is_tracked(breaker):
    async def answer():
        raise ServerError

    @breaker
    @transient_retry()
    def send():
        return answer()

    pending = send()
    assert breaker.snapshot().failures == 0
    with pytest.raises(ServerError):
        pending.send(None)
    assert breaker.snapshot().failures == 1


def test_a_success_after_a_failure_ends_the_streak(breaker):
    backend = Backend(default=None)
    send = breaker(transient_retry(attempts=1)(backend.send))
    send_plain = breaker(transient_retry(attempts=1)(backend.send_plain))
    for successes, call in enumerate((lambda: drive(send()), send_plain), start=1):
        backend.errors.append(ServerError())
        with pytest.raises(ServerError):
            call()
        assert breaker.snapshot().streak == 1
        assert call() == "sent"
        assert (breaker.snapshot().streak, breaker.snapshot().successes) == (0, successes)


@pytest.mark.parametrize("is_async", [True, False])
def test_a_permit_that_the_function_leaves_open_stays_open(breaker, other, is_async):
    """As without retries: loops up to the end of its block belong to it."""
    left = other.acquire()

    async def leave_open_async():
        left.__enter__()

    def leave_open():
        call = breaker(transient_retry()(leave_open_async if is_async else left.__enter__))
        if is_async:
            drive(call())
        else:
            call()
        trip(other)
        with pytest.raises(CircuitBreakerOpenError):
            transient_retry()(Backend(default=None).send_plain)()
        left.__exit__(None, None, None)

    contextvars.copy_context().run(leave_open)
    assert breaker.snapshot().successes == 1


def test_after_its_end_a_call_has_no_budget(breaker):
    budget = RetryBudget(ratio=1.0, minimum_per_second=0.0)
    send = transient_retry(budget=budget)(Backend(default=None).send_plain)
    with breaker.acquire() as permit:
        permit.succeed()
        assert send() == "sent"
    assert not budget.allows_retry(breaker)


def test_after_their_end_nested_calls_have_no_budget(breaker, other):
    budget = RetryBudget(ratio=1.0, minimum_per_second=0.0)
    send = transient_retry(budget=budget)(Backend(default=None).send_plain)
    with other.acquire() as around, breaker.acquire() as permit:
        around.succeed()
        permit.succeed()
        assert send() == "sent"
    assert not budget.allows_retry(breaker)
    assert not budget.allows_retry(other)


# Which loops need tenacity from the start


class Louder(retry_if_exception_type):
    def __call__(self, retry_state):
        return super().__call__(retry_state)


def anything(_):
    return False


async def is_it(_):
    return False


ASYNC = async_conditions.retry_if_exception(is_it)


@pytest.mark.parametrize(
    ("condition", "sync", "in_async"),
    [
        (is_transient, True, True),
        (retry_if_exception_type(), True, True),
        (tenacity.retry_if_not_exception_type(KeyError), True, True),
        (tenacity.retry_if_exception_message("x"), True, True),
        (tenacity.retry_if_exception_cause_type(KeyError), True, True),
        (tenacity.retry_never, True, True),
        (is_transient | retry_if_exception_type(KeyError), True, True),
        (is_transient & (is_transient | retry_if_exception_type(KeyError)), True, True),
        (ASYNC, False, True),
        (ASYNC | is_transient, False, True),
        (ASYNC & is_transient, False, True),
        (tenacity.retry_any(is_transient, ASYNC), False, False),
        (tenacity.retry_always, False, False),
        (retry_if_result(bool), False, False),
        (is_transient | retry_if_result(bool), False, False),
        (tenacity.retry_unless_exception_type(KeyError), False, False),
        (tenacity.retry_if_not_exception_message("x"), False, False),
        (Louder(), False, False),
        (anything, False, False),
        (is_it, False, False),
        (None, False, False),
    ],
)
def test_a_condition_that_may_look_at_results_is_known(condition, sync, in_async):
    assert looks_at_errors_only(condition, may_be_async=False) is sync
    assert looks_at_errors_only(condition, may_be_async=True) is in_async


def test_a_loop_of_a_class_of_the_users_own_runs_from_the_start():
    runs = []

    class Own(Retrying):
        def __call__(self, fn, *args, **kwargs):
            runs.append(fn)
            return super().__call__(fn, *args, **kwargs)

    send = gate(Own(stop=stop_after_attempt(2)).wraps(Backend(default=None).send_plain))
    assert send() == "sent"
    assert len(runs) == 1


async def test_a_plain_function_in_an_async_loop_stays_what_tenacity_makes_of_it(breaker):
    sleeps = Sleeps()
    backend = Backend(ServerError(), default=None)
    send = gate(tenacity.retry(sleep=sleeps, reraise=True)(backend.send_plain))
    assert isinstance(send.retry, AsyncRetrying)
    assert await breaker(send)() == "sent"
    assert (backend.attempts, list(sleeps)) == (2, [0])


def test_keywords_reach_the_function(clock):
    breaker = CircuitBreaker("eu", BreakerPolicy(failure_threshold=1), clock=clock)

    @breaker
    @transient_retry()
    def send(*args, **kwargs):
        return args, kwargs

    assert send(1, two=2) == ((1,), {"two": 2})
    assert send.__wrapped__.__wrapped__(1) == ((1,), {})


def test_a_result_whose_class_cannot_be_hashed_comes_back():
    class Unhashable(type):
        __hash__ = None

    odd = Unhashable("Odd", (), {})()
    breaker = CircuitBreaker("here")

    @breaker
    @transient_retry()
    def send():
        return odd

    assert send() is odd
    assert breaker.snapshot().successes == 1
