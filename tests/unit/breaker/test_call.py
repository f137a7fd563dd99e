"""`CircuitBreaker.call`, and the breaker as a decorator of one function."""

import asyncio
import contextlib
import functools
import gc
import inspect
from collections.abc import Awaitable

import pytest

from resilience import CircuitBreaker, CircuitBreakerOpenError, Outcome
from tests.support.driving import (
    CLOSED,
    HALF_OPEN,
    OPEN,
    ServerError,
    admits,
    answer,
    counters,
    give_way,
    half_open,
    raise_,
    trip,
)


async def test_call_passes_arguments_and_result(breaker):
    async def add(first, second, *, third):
        return first + second + third

    assert await breaker.call(add, 1, 2, third=3) == 6
    assert counters(breaker) == {"successes": 1}


async def test_call_tracks_a_function_that_returns_an_awaitable(breaker):
    assert await breaker.call(lambda: answer("late")) == "late"
    with pytest.raises(ServerError):
        await breaker.call(lambda: raise_(ServerError()))
    assert counters(breaker) == {"successes": 1, "failures": 1}


async def test_call_tracks_a_function_that_raises_before_it_returns_an_awaitable(breaker):
    def refuse() -> Awaitable[None]:
        raise ConnectionRefusedError

    with pytest.raises(ConnectionRefusedError):
        await breaker.call(refuse)
    assert counters(breaker) == {"failures": 1}


async def test_the_call_that_trips_the_circuit_raises_its_own_error(breaker):
    raised = []
    for _ in range(10):
        error = ServerError()
        with pytest.raises(ServerError) as caught:
            await breaker.call(raise_, error)
        raised.append(caught.value is error)
    assert raised == [True] * 10
    assert breaker.state is OPEN
    with pytest.raises(CircuitBreakerOpenError):
        await breaker.call(answer)


async def test_a_rejected_call_does_not_run_the_function(breaker):
    trip(breaker)
    ran = []
    with pytest.raises(CircuitBreakerOpenError):
        await breaker.call(ran.append, 1)
    assert ran == []
    assert counters(breaker) == {"failures": 10, "rejected": 1, "trips": 1}


async def test_a_probe_that_fails_raises_its_own_error(breaker, clock):
    half_open(breaker, clock)
    error = ServerError()
    with pytest.raises(ServerError) as caught:
        await breaker.call(raise_, error)
    assert caught.value is error
    assert breaker.state is OPEN


async def test_a_cancelled_probe_gives_its_place_back(breaker, clock):
    half_open(breaker, clock)
    task = asyncio.create_task(breaker.call(asyncio.Event().wait))
    await give_way()
    assert not admits(breaker)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert breaker.state is HALF_OPEN
    for _ in range(3):
        await breaker.call(answer)
    assert breaker.state is CLOSED


async def test_a_probe_cancelled_before_it_started_gives_its_place_back(breaker, clock):
    half_open(breaker, clock)
    task = asyncio.create_task(breaker.call(answer))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert admits(breaker)


async def test_a_call_that_is_never_awaited_takes_no_place(breaker, clock):
    half_open(breaker, clock)
    breaker.call(answer).close()
    assert admits(breaker)


async def test_an_awaitable_that_is_dropped_unawaited_gives_its_place_back(breaker, clock):
    class Answer:
        def __await__(self):
            yield

    half_open(breaker, clock)
    dropped = breaker(lambda *_: Answer())()
    if inspect.iscoroutine(dropped):
        dropped.close()
    del dropped
    gc.collect()
    assert admits(breaker)


@pytest.mark.parametrize("wrong", [5, None, lambda: 5], ids=["number", "none", "no-awaitable"])
async def test_a_call_of_what_cannot_be_awaited_holds_no_place(breaker, clock, wrong):
    half_open(breaker, clock)
    with contextlib.suppress(TypeError):
        await breaker.call(wrong)
    assert admits(breaker)


async def test_a_future_that_a_plain_function_returns_is_tracked(breaker):
    future = asyncio.get_running_loop().create_future()
    future.set_exception(ServerError())
    with pytest.raises(ServerError):
        await breaker(lambda: future)()
    assert counters(breaker) == {"failures": 1}


async def test_a_timeout_around_the_call_is_a_cancellation_and_ignored(breaker):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await breaker.call(asyncio.Event().wait)
    assert counters(breaker) == {"ignored": 1}


async def test_a_timeout_inside_the_call_is_a_failure(breaker):
    async def impatient():
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await breaker.call(impatient)
    assert counters(breaker) == {"failures": 1}


async def test_a_hung_probe_is_replaced_when_its_lease_ends(breaker, clock):
    half_open(breaker, clock)
    hung = asyncio.create_task(breaker.call(asyncio.Event().wait))
    await give_way()
    clock.advance(60)
    for _ in range(3):
        await breaker.call(answer)
    assert breaker.state is CLOSED
    hung.cancel()
    await asyncio.gather(hung, return_exceptions=True)
    assert breaker.snapshot().ignored == 0


async def test_a_rejection_by_an_inner_breaker_is_ignored_by_the_outer(breaker, clock):
    inner = CircuitBreaker("inner", clock=clock)
    trip(inner)
    with pytest.raises(CircuitBreakerOpenError) as caught:
        await breaker.call(inner.call, answer)
    assert caught.value.region == "inner"
    assert counters(breaker) == {"ignored": 1}


async def test_a_rejection_never_reaches_the_classifier(clock):
    asked = []

    def judge(error):
        asked.append(error)
        return Outcome.FAILURE

    inner = CircuitBreaker("inner", clock=clock)
    inner.force_open("by hand")
    breaker = CircuitBreaker("outer", classifier=judge, clock=clock)
    with pytest.raises(CircuitBreakerOpenError):
        await breaker.call(inner.call, answer)
    with pytest.raises(KeyboardInterrupt), breaker.acquire():
        raise KeyboardInterrupt
    assert asked == []
    assert counters(breaker) == {"ignored": 2}


async def test_the_breaker_decorates_a_coroutine_function(breaker):
    @breaker
    async def send(message, *, to="x"):
        """Send it."""
        return (message, to)

    assert inspect.iscoroutinefunction(send)
    assert (send.__name__, send.__doc__) == ("send", "Send it.")
    assert list(inspect.signature(send).parameters) == ["message", "to"]
    assert await send("hello", to="y") == ("hello", "y")
    breaker.force_open("by hand")
    with pytest.raises(CircuitBreakerOpenError):
        await send("hello")
    assert counters(breaker) == {"successes": 1, "rejected": 1}


def test_the_breaker_decorates_a_plain_function(breaker):
    @breaker
    def send(error=None):
        if error:
            raise error
        return "sent"

    assert not inspect.iscoroutinefunction(send)
    assert send() == "sent"
    for error in (ServerError(), ServerError(404), ServerError(407)):
        with pytest.raises(ServerError) as caught:
            send(error)
        assert caught.value is error
    assert counters(breaker) == {"successes": 1, "failures": 1, "answered": 1, "ignored": 1}


async def test_the_breaker_tracks_a_plain_function_that_returns_an_awaitable(breaker):
    @breaker
    def send(error):
        return raise_(error)

    with pytest.raises(ServerError):
        await send(ServerError())
    assert counters(breaker) == {"failures": 1}


async def test_the_breaker_decorates_a_method(breaker):
    class Client:
        @breaker
        async def send(self, message):
            return self, message

    client = Client()
    assert await client.send("hello") == (client, "hello")


async def test_the_breaker_decorates_a_partial(breaker):
    send = breaker(functools.partial(answer, "bound"))
    assert await send() == "bound"
    assert counters(breaker) == {"successes": 1}


@pytest.mark.parametrize("wrong", [5, None, "send", int])
def test_the_breaker_decorates_functions_only(breaker, wrong):
    with pytest.raises(TypeError):
        breaker(wrong)


def test_the_breaker_refuses_generators(breaker):
    async def stream():
        yield 1

    def rows():
        yield 1

    for generator in (stream, rows):
        with pytest.raises(TypeError, match="acquire"):
            breaker(generator)


def test_the_error_for_a_decorated_generator_names_the_way_out(breaker):
    def numbers():
        yield 1

    with pytest.raises(TypeError, match=r"^a circuit breaker cannot decorate the generator .*numb"):
        breaker(numbers)
