"""`CircuitBreaker.call` refuses what cannot be awaited before it runs, as far as that is known."""

import asyncio
import functools
import warnings
from collections.abc import Awaitable, Coroutine
from typing import Any, Optional, TypeVar

import pytest

from resilience import CircuitBreakerOpenError
from tests.support.driving import admits, answer, counters, half_open

T = TypeVar("T")
ran = []


@pytest.fixture(autouse=True)
def nothing_ran():
    ran.clear()


class Client:
    def send(self):
        ran.append("method")

    def __call__(self):
        ran.append("object")


class SentMessage:
    pass


def plain():
    ran.append("plain")


def annotated() -> SentMessage:
    ran.append("annotated")


def annotated_with_nothing() -> None:
    ran.append("nothing")


def annotated_in_quotes() -> "list[int]":
    ran.append("quotes")


def passed_on(fn):
    @functools.wraps(fn)
    def wrapper(*args):
        ran.append("wrapper")
        return fn(*args)

    return wrapper


REFUSED = {
    "def": plain,
    "method": Client().send,
    "object": Client(),
    "partial": functools.partial(plain),
    "wrapped": passed_on(plain),
    "annotated": annotated,
    "annotated with None": annotated_with_nothing,
    "annotated in quotes": annotated_in_quotes,
}


@pytest.mark.parametrize("wrong", REFUSED.values(), ids=REFUSED)
async def test_a_plain_function_is_refused_before_it_runs(breaker, clock, wrong):
    half_open(breaker, clock)
    for _ in range(2):
        with pytest.raises(TypeError, match=r"^breaker\.call takes an async def .*not called"):
            await breaker.call(wrong)
    assert ran == []
    assert admits(breaker)


async def test_the_error_names_the_function_and_shows_the_ways_out(breaker):
    with pytest.raises(TypeError) as caught:
        await breaker.call(plain)
    for part in ("plain function plain", "`with breaker.acquire():`", "`-> Awaitable[...]`"):
        assert part in str(caught.value)


async def test_a_plain_function_is_refused_by_an_open_circuit_as_well(breaker):
    breaker.force_open("maintenance")
    with pytest.raises(TypeError, match="not called"):
        await breaker.call(plain)
    with pytest.raises(CircuitBreakerOpenError):
        await breaker.call(answer)


@pytest.mark.parametrize("wrong", [None, 5, "send", SentMessage], ids=repr)
async def test_what_is_not_a_function_is_refused_and_named(breaker, wrong):
    kind = "the class SentMessage" if wrong is SentMessage else type(wrong).__name__
    with pytest.raises(TypeError, match=f"^breaker.call takes .*, got {kind}$"):
        await breaker.call(wrong)
    assert counters(breaker) == {}


async def test_a_call_in_place_of_its_function_is_refused_and_closed(breaker):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TypeError, match=r"got coroutine: pass the function, do not call it"):
            await breaker.call(answer())
        with pytest.raises(TypeError, match=r"got coroutine: decorate the function, do not call"):
            breaker(answer())


async def test_a_generator_is_refused(breaker):
    async def rows():
        yield 1

    with pytest.raises(TypeError, match=r"got the generator .*rows: write `with breaker\.acquire"):
        await breaker.call(rows)


def to_come() -> Awaitable[str]:
    return answer("late")


def a_coroutine() -> "Coroutine[Any, Any, str]":
    return answer("late")


def a_task() -> asyncio.Task[str]:
    return asyncio.ensure_future(answer("late"))


def anything() -> Any:
    return answer("late")


def an_object() -> object:
    return answer("late")


def perhaps() -> Optional[Awaitable[str]]:  # noqa: UP045 - as older code has it
    return answer("late")


def generic() -> T:
    return answer("late")


def for_checkers() -> "OnlyForCheckers":  # noqa: F821
    return answer("late")


async def coroutine_function():
    return "late"


class Stub:
    """As of gRPC: calling it returns an awaitable, and nothing is known before."""

    async def __call__(self):
        return "late"


ACCEPTED = {
    "async def": coroutine_function,
    "lambda": lambda: answer("late"),
    "partial of a lambda": functools.partial(lambda: answer("late")),
    "wrapped async def": passed_on(coroutine_function),
    "object": Stub(),
    "partial of an object": functools.partial(Stub()),
    "Awaitable": to_come,
    "Coroutine": a_coroutine,
    "Task": a_task,
    "Any": anything,
    "object type": an_object,
    "Optional": perhaps,
    "type variable": generic,
    "name for checkers": for_checkers,
}


@pytest.mark.parametrize("fn", ACCEPTED.values(), ids=ACCEPTED)
async def test_what_may_return_an_awaitable_is_called_and_tracked(breaker, fn):
    for _ in range(2):
        assert await breaker.call(fn) == "late"
    assert counters(breaker) == {"successes": 2}


async def test_a_function_that_is_not_written_in_python_is_called(breaker):
    future = asyncio.get_running_loop().create_future()
    queue = asyncio.Queue()
    queue.put_nowait("late")
    assert await breaker.call(queue.get) == "late"
    future.set_result("done")
    assert await breaker.call({"a": future}.get, "a") == "done"
    assert counters(breaker) == {"successes": 2}
