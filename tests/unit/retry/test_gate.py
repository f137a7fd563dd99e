"""`gate`: what it takes, and that a loop under it stays what tenacity made it."""

import asyncio
import functools
from types import SimpleNamespace

import pytest
import tenacity
from tenacity import (
    AsyncRetrying,
    Retrying,
    retry_always,
    stop_after_attempt,
    wait_fixed,
    wait_none,
)

from resilience import CircuitBreaker, CircuitBreakerOpenError, CircuitState, classify_status
from resilience.retry import gate, stop_unless_closed, transient_retry
from resilience.testing import FakeClock, run_in_virtual_time
from tests.support.driving import ServerError
from tests.support.retrying import (
    AN_HOUR,
    Backend,
    asleep,
    ended,
    every_async_way,
    every_entry,
    every_plain_entry,
    every_plain_way,
    make_due,
    own_decorator,
    preset,
    result_of,
    settings,
    settle,
    trip,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


# In a CLOSED circuit, and outside any


@every_async_way
@every_entry
async def test_in_a_closed_circuit_all_attempts_are_made(breaker, way, enter):
    backend = Backend()
    with pytest.raises(ServerError) as caught:
        await enter(breaker, way(backend.send, wait=wait_none()))()
    assert backend.attempts == 5
    assert caught.value is backend.raised[-1]
    assert breaker.snapshot().failures == 1


@every_plain_way
@every_plain_entry
def test_in_a_closed_circuit_all_plain_attempts_are_made(breaker, way, enter):
    backend = Backend()
    with pytest.raises(ServerError) as caught:
        enter(breaker, way(backend.send_plain, wait=wait_none()))()
    assert backend.attempts == 5
    assert caught.value is backend.raised[-1]
    assert breaker.snapshot().failures == 1


@every_async_way
async def test_a_late_success_is_a_success(breaker, way):
    backend = Backend(ServerError(), ServerError(), default=None)
    assert await breaker(way(backend.send, wait=wait_none()))() == "sent"
    assert (backend.attempts, breaker.snapshot().successes, breaker.snapshot().failures) == (
        3,
        1,
        0,
    )


@every_async_way
async def test_outside_any_breaker_it_is_plain_tenacity(breaker, way):
    breaker.force_open("maintenance")
    backend = Backend()
    with pytest.raises(ServerError):
        await way(backend.send, wait=wait_none())()
    assert backend.attempts == 5


@every_plain_way
def test_outside_any_breaker_it_is_plain_tenacity_in_plain_code_too(breaker, way):
    breaker.force_open("maintenance")
    backend = Backend()
    with pytest.raises(ServerError):
        way(backend.send_plain, wait=wait_none())()
    assert backend.attempts == 5


async def test_outside_any_breaker_tenacitys_own_sleep_is_used(monkeypatch):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(ServerError):
        await preset(Backend().send, wait=wait_fixed(7))()
    assert slept == [7] * 4


def test_outside_any_breaker_a_plain_loop_sleeps_as_tenacity_does(monkeypatch):
    slept = []
    monkeypatch.setattr(tenacity.nap.time, "sleep", slept.append)
    with pytest.raises(ServerError):
        preset(Backend().send_plain, wait=wait_fixed(7))()
    assert slept == [7] * 4


def test_a_backoff_in_a_protected_call_takes_its_time(clock):
    backend = Backend()

    async def main():
        loop = asyncio.get_running_loop()
        with pytest.raises(ServerError):
            await CircuitBreaker("eu-west-1", clock=clock)(preset(backend.send))()
        return loop.time()

    assert run_in_virtual_time(main(), FakeClock()) == 4 * 3600
    assert backend.attempts == 5


def test_a_backoff_of_a_plain_loop_in_a_protected_call_ends_by_itself(breaker):
    backend = Backend()
    with pytest.raises(ServerError):
        breaker(preset(backend.send_plain, wait=wait_fixed(1e-9)))()
    assert backend.attempts == 5


# What the user has set stays


async def test_async_hooks_are_awaited_as_ever(breaker):
    backend, seen = Backend(ServerError(), default=None), []

    def hook(name):
        async def call(_):
            await asyncio.sleep(0)
            seen.append(name)

        return call

    names = ("before", "after", "before_sleep")
    send = own_decorator(backend.send, wait=wait_none(), **{name: hook(name) for name in names})
    assert await breaker(send)() == "sent"
    assert seen == ["before", "after", "before_sleep", "before"]


async def test_an_async_retry_condition_is_awaited_as_ever(breaker):
    backend = Backend()

    async def retry(state):
        await asyncio.sleep(0)
        return state.outcome.failed

    with pytest.raises(ServerError):
        await breaker(own_decorator(backend.send, retry=retry, wait=wait_none()))()
    assert backend.attempts == 5


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
    send = breaker(gate(tenacity.retry(wait=wait_none(), **hooks)(backend.send)))
    assert type(await result_of(send())) is tenacity.RetryError
    assert called == [
        ("before", 1), ("after", 1), ("stop", 1), ("before_sleep", 1),
        ("before", 2), ("after", 2), ("stop", 2),
    ]  # fmt: skip


async def test_an_async_stop_condition_of_the_users_own_does_not_hide_the_circuit(due):
    async def never(_):
        return False

    backend = Backend()
    send = due(gate(tenacity.retry(stop=never, wait=AN_HOUR, reraise=True)(backend.send)))
    assert type(await result_of(send())) is ServerError
    assert backend.attempts == 1


def test_what_the_user_sets_on_a_loop_afterwards_is_used(breaker):
    backend, slept = Backend(), []
    send = breaker(transient_retry(wait=AN_HOUR)(backend.send_plain))
    send.retry.sleep = slept.append
    send.retry.wait = wait_fixed(1)
    with pytest.raises(ServerError):
        send()
    assert slept == [1] * 4
    assert send.statistics["attempt_number"] == 5


async def test_a_sleep_of_the_users_own_wins_and_is_not_woken(breaker):
    backend, go_on, asked = Backend(), asyncio.Event(), []

    async def sleep(seconds):
        asked.append(seconds)
        await go_on.wait()

    task = await asleep(backend, breaker(preset(backend.send, sleep=sleep)))
    trip(breaker)
    await settle()
    assert not task.done()
    go_on.set()
    error = await ended(task)
    assert (type(error), error.__cause__) == (CircuitBreakerOpenError, backend.raised[0])
    assert (backend.attempts, asked) == (1, [3600])


def test_a_plain_sleep_of_the_users_own_wins(breaker):
    backend, asked = Backend(), []

    def sleep(seconds):
        asked.append(seconds)
        trip(breaker)

    with pytest.raises(CircuitBreakerOpenError) as caught:
        breaker(preset(backend.send_plain, sleep=sleep))()
    assert caught.value.__cause__ is backend.raised[0]
    assert (backend.attempts, asked) == (1, [3600])


async def test_retry_with_of_a_gated_function_keeps_what_was_given(breaker):
    backend = Backend()
    send = own_decorator(backend.send, wait=wait_none()).retry_with(stop=stop_after_attempt(3))
    with pytest.raises(ServerError):
        await breaker(send)()
    assert backend.attempts == 3


@every_async_way
async def test_a_loop_that_is_not_enabled_calls_once(breaker, way):
    backend = Backend()
    with pytest.raises(ServerError):
        await breaker(way(backend.send, enabled=False))()
    assert backend.attempts == 1


async def test_retry_always_retries_no_rejection_of_its_own_circuit(breaker):
    backend = Backend()
    loop = own_decorator(backend.send, retry=retry_always, wait=AN_HOUR)
    task = await asleep(backend, breaker(loop))
    trip(breaker)
    assert isinstance(await ended(task), CircuitBreakerOpenError)


async def test_methods_can_be_gated(breaker):
    class Client:
        attempts = 0

        @breaker
        @transient_retry(wait=wait_none(), attempts=3)
        async def send(self):
            self.attempts += 1
            raise ServerError

    client = Client()
    with pytest.raises(ServerError):
        await client.send()
    assert client.attempts == 3


async def test_a_result_classifier_is_asked_about_a_retried_function(clock):
    breaker = CircuitBreaker("eu-west-1", result_classifier=classify_status, clock=clock)

    @breaker
    @transient_retry()
    async def send():
        return SimpleNamespace(status=503)

    await send()
    assert breaker.snapshot().failures == 1


# Only the stop condition


async def test_stop_unless_closed_alone_ends_a_loop_after_its_attempt(breaker):
    backend = Backend()

    @breaker
    @gate
    @tenacity.retry(stop=stop_after_attempt(5) | stop_unless_closed, reraise=True)
    async def send():
        trip(breaker)
        return backend.answer()

    with pytest.raises(ServerError):
        await send()
    assert backend.attempts == 1


async def test_stop_unless_closed_needs_no_gate(breaker, clock):
    backend = Backend()
    make_due(breaker, clock)
    stop = stop_after_attempt(5) | stop_unless_closed
    with pytest.raises(ServerError):
        await breaker(tenacity.retry(stop=stop, reraise=True)(backend.send))()
    assert (backend.attempts, breaker.state) == (1, OPEN)


@pytest.mark.parametrize(
    "stop",
    [
        stop_unless_closed,
        stop_unless_closed | stop_after_attempt(5),
        stop_after_attempt(1) & stop_unless_closed,
    ],
    ids=["alone", "first", "and"],
)
def test_stop_unless_closed_is_a_stop_condition_like_any(breaker, clock, stop):
    make_due(breaker, clock)
    backend = Backend()
    with pytest.raises(ServerError):
        breaker(tenacity.retry(stop=stop, reraise=True)(backend.send_plain))()
    assert backend.attempts == 1


def test_stop_unless_closed_outside_any_breaker_never_stops(breaker):
    breaker.force_open("maintenance")
    backend = Backend()
    stop = stop_after_attempt(5) | stop_unless_closed
    with pytest.raises(ServerError):
        tenacity.retry(stop=stop, reraise=True)(backend.send_plain)()
    assert backend.attempts == 5


def test_a_gated_loop_whose_stop_condition_is_replaced_makes_one_attempt_in_a_probe(due):
    backend, loop = Backend(), gate(Retrying(**settings(wait=wait_none())))
    loop.stop = stop_after_attempt(5)
    with pytest.raises(ServerError) as caught, due.acquire():
        loop(backend.send_plain)
    assert caught.value is backend.raised[0]
    assert backend.attempts == 1


# What gate takes and returns


def test_gate_of_a_loop_leaves_the_loop_it_was_given_alone(breaker):
    plain = Retrying(**settings(wait=wait_none()))
    gated, backend = gate(plain), Backend()
    assert isinstance(gated, Retrying)
    with breaker.acquire() as permit:
        trip(breaker)
        with pytest.raises(ServerError):
            plain(backend.send_plain)
        permit.ignore()
    assert backend.attempts == 5


def test_the_loop_that_is_given_stays_as_it_is():
    plain = Retrying(stop=stop_after_attempt(1))
    gated = gate(plain)
    assert type(gated) is Retrying
    assert plain.before is tenacity.before_nothing
    assert gated.copy().stop is gated.stop


def test_gate_of_an_asyncretrying_is_one():
    assert isinstance(gate(AsyncRetrying()), AsyncRetrying)


def test_gate_leaves_a_plain_function_what_it_is():
    def send(text, *, urgent=False):
        """Send it."""
        return (text, urgent)

    marked = gate(send)
    assert marked("hello", urgent=True) == ("hello", True)
    assert (marked.__name__, marked.__doc__) == ("send", "Send it.")


def test_gate_returns_the_marked_function_itself():
    def send():
        return None

    assert gate(send) is send


def test_a_gated_plain_loop_can_be_used_again(breaker):
    loop, backend = gate(Retrying(**settings(wait=wait_none()))), Backend()
    for _ in range(2):
        with pytest.raises(ServerError), breaker.acquire():
            loop(backend.send_plain)
    assert backend.attempts == 10
    assert breaker.state is OPEN


def test_gating_twice_is_gating_once():
    loop = gate(Retrying())
    assert gate(loop) is loop
    send = gate(transient_retry()(Backend().send_plain))
    assert gate(send).retry is send.retry


def test_gate_over_another_decorator_says_where_it_goes():
    @functools.wraps(retried := transient_retry()(Backend().send_plain))
    def logged():
        return retried()

    with pytest.raises(
        TypeError, match=r"gate goes directly over the retry decorator of .*send_plain"
    ):
        gate(logged)


@pytest.mark.parametrize("wrong", [7, None, int])
def test_gate_refuses_what_is_neither_a_function_nor_a_loop(wrong):
    with pytest.raises(TypeError, match=r"gate decorates a function, got"):
        gate(wrong)


def test_gate_refuses_a_function_that_cannot_be_marked():
    with pytest.raises(TypeError, match=r"gate cannot mark len: give it a function of your own"):
        gate(len)


def test_gate_refuses_a_loop_of_another_kind():
    class Other(tenacity.BaseRetrying):
        def __call__(self, fn):
            return fn()

    with pytest.raises(TypeError, match=r"takes a Retrying or an AsyncRetrying, got Other"):
        gate(Other())


class EqualToAnything:
    def __init__(self):
        self.calls = 0

    def __eq__(self, other):
        return True

    __hash__ = None

    def __call__(self, _):
        self.calls += 1


class EqualToNothing(EqualToAnything):
    def __eq__(self, other):
        raise RuntimeError("must not be compared")

    __hash__ = None


@pytest.mark.parametrize("kind", [EqualToAnything, EqualToNothing])
@pytest.mark.parametrize(("name", "calls"), [("before", 3), ("after", 2), ("sleep", 2)])
def test_a_setting_is_compared_with_nothing(breaker, kind, name, calls):
    backend, setting = Backend(ServerError(), ServerError(), default=None), kind()
    more = {"sleep": lambda _: None, name: setting}
    send = breaker(tenacity.retry(**settings(**more))(backend.send_plain))
    assert send() == "sent"
    assert setting.calls == calls
