"""Calls that are over before their work begins: refused, or logged once for each function."""

import asyncio
import contextlib
import functools
import types
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from resilience import BreakerPolicy, CircuitBreaker, CircuitBreakerRegistry, region_breaker
from tests.support.decorated import CLOSED, EU, HALF_OPEN, OPEN, count

eu = CircuitBreaker(EU)
tenants = CircuitBreakerRegistry()


async def rows(region):
    yield region


def lines(region):
    yield region


class Pages:
    async def __call__(self, region):
        yield region

    async def of(self, region):
        yield region


class Lines:
    def __call__(self, region):
        yield region


class ByPartial:
    __call__ = functools.partialmethod(Lines.__call__)


class Static:
    @staticmethod
    def __call__(region):
        yield region


def passed_on(fn):
    @functools.wraps(fn)
    def wrapper(*args, **kwargs):
        return fn(*args, **kwargs)

    return wrapper


def annotated_generator(region) -> AsyncGenerator[str]:
    return rows(region)


def annotated_iterator(region) -> "AsyncIterator[str]":
    return rows(region)


def annotated_for_checkers(region: "OnlyForCheckers") -> "AsyncIterator[str]":  # noqa: F821
    return rows(region)


REFUSED = {
    "async generator": rows,
    "generator": lines,
    "asynccontextmanager": contextlib.asynccontextmanager(rows),
    "contextmanager": contextlib.contextmanager(lines),
    "wrapped context manager": passed_on(contextlib.contextmanager(lines)),
    "wrapped twice": passed_on(passed_on(contextlib.asynccontextmanager(rows))),
    "wrapped async generator": passed_on(rows),
    "partial of a context manager": functools.partial(contextlib.contextmanager(lines)),
    "context manager of a partial": contextlib.asynccontextmanager(functools.partial(rows)),
    "bound method": Pages().of,
    "context manager of a bound method": contextlib.asynccontextmanager(Pages().of),
    "partial of a bound method": functools.partial(Pages().of),
    "object": Pages(),
    "sync object": Lines(),
    "object of a partial": ByPartial(),
    "object of a static method": Static(),
    "partial of an object": functools.partial(Pages()),
    "annotated": annotated_generator,
    "annotated in quotes": annotated_iterator,
    "annotated beside a name for checkers": annotated_for_checkers,
}


@pytest.mark.parametrize("target", REFUSED.values(), ids=REFUSED)
def test_a_call_that_is_over_before_its_work_begins_is_refused_when_decorating(target, registry):
    for decorate in (
        region_breaker(region_from="region", registry=registry),
        region_breaker(region_from=lambda region: region, registry=registry),
        eu,
    ):
        with pytest.raises(TypeError, match=r"cannot decorate the generator .*`with .*acquire\(\)"):
            decorate(target)


@pytest.mark.parametrize(
    ("region_from", "registry", "line"),
    [
        ("region", tenants, "with tenants.get(region).acquire():"),
        ("job.tenant.region", tenants, "with tenants.get(job.tenant.region).acquire():"),
        (lambda job: job, tenants, "with tenants.get(region).acquire():"),
        ("region", CircuitBreakerRegistry(), "with registry.get(region).acquire():"),
        ("region", None, "with default_registry.get(region).acquire():"),
    ],
)
def test_the_error_shows_the_line_to_write_instead(region_from, registry, line):
    with pytest.raises(TypeError) as caught:
        region_breaker(region_from=region_from, registry=registry)(rows)
    assert f"`{line}`" in str(caught.value)


def test_the_line_has_the_name_that_the_breaker_has_in_the_module():
    with pytest.raises(TypeError, match=r"`with eu\.acquire\(\):`"):
        eu(contextlib.asynccontextmanager(rows))
    with pytest.raises(TypeError, match=r"`with breaker\.acquire\(\):`"):
        CircuitBreaker(EU)(rows)


# What uses up a generator itself is no generator


def listed(fn):
    @functools.wraps(fn)
    def wrapper(*args):
        return list(fn(*args))

    return wrapper


def gathered(fn):
    @functools.wraps(fn)
    async def wrapper(*args):
        return [one async for one in fn(*args)]

    return wrapper


async def primed(region) -> AsyncIterator[str]:
    return await asyncio.sleep(0, [region])


async def test_a_decorator_that_uses_up_the_generator_below_it_stays_possible(protect, registry):
    assert protect()(listed(lines))(EU) == [EU]
    assert await protect()(gathered(rows))(EU) == [EU]
    assert await protect()(primed)(EU) == [EU]
    assert await protect()(passed_on(primed))(EU) == [EU]
    assert count(registry) == (4, 0, 0, 0)


def test_decorators_that_go_round_in_a_circle_are_survived():
    def call(region):
        return region

    call.__wrapped__ = call
    assert CircuitBreaker(EU)(call)(EU) == EU


class Endless:
    """Calling it would never reach a function."""


Endless.__call__ = Endless()


def test_an_object_whose_call_leads_to_no_function_is_survived(protect):
    assert callable(CircuitBreaker(EU)(Endless()))


# What only the result shows


def returning(result):
    def fetch(region):
        return result

    return fetch


def test_an_async_generator_that_a_def_returns_is_refused_at_the_call(protect, registry, clock):
    begun = []

    async def stream(region):
        begun.append(region)
        yield region

    def streamed(region):
        return stream(region)

    fetch = protect()(streamed)
    for _ in range(3):
        with pytest.raises(TypeError, match=r"streamed\(\) returned an async generator.*registry"):
            fetch(EU)
    assert count(registry) == (0, 0, 3, 0)
    registry.get(EU).force_open("an outage")
    registry.get(EU).reset()
    for _ in range(2):
        registry.get(EU).acquire().fail()
    clock.advance(60)
    with pytest.raises(TypeError, match="async generator"):
        fetch(EU)
    assert registry.get(EU).state is HALF_OPEN
    registry.get(EU).acquire().succeed()  # the place of the probe is free
    assert begun == []


class Session:
    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass


class Feed:
    def __aiter__(self):
        return self


@types.coroutine
def old_style():
    yield from asyncio.sleep(0).__await__()
    return "sent"


LAZY = {
    "generator": lines(EU),
    "context manager": contextlib.contextmanager(lines)(EU),
    "async context manager": contextlib.asynccontextmanager(rows)(EU),
    "object with __aenter__": Session(),
    "object with __aiter__": Feed(),
    "future of a thread": Future(),
}


@pytest.mark.parametrize("result", LAZY.values(), ids=LAZY)
def test_a_lazy_result_of_a_def_is_logged_once_for_each_function(result, protect, registry, log):
    fetch, other = protect()(returning(result)), protect()(returning(result))
    for _ in range(3):
        assert fetch(EU) is result
    other(EU)
    kind = type(result).__name__
    line = (
        f"Circuit breaker protects {returning(None).__qualname__} only until it returns, and the"
        f" {kind} that it returns works later: do the work inside the function, or in a block of"
        " `with registry.get(region).acquire():`"
    )
    assert [record["message"] for record in log] == [line, line]
    assert {record["level"].name for record in log} == {"WARNING"}
    assert count(registry) == (4, 0, 0, 0)


def test_a_lazy_result_of_a_probe_is_logged_too(protect, registry, clock, log):
    for _ in range(2):
        registry.get(EU).acquire().fail()
    clock.advance(60)
    protect()(returning(Session()))(EU)
    assert any("the Session that it returns" in record["message"] for record in log)
    assert registry.get(EU).state is CLOSED


def test_the_warning_comes_once_from_many_threads(protect, log):
    fetch = protect()(returning(Session()))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fetch, [EU] * 200))
    assert [record["level"].name for record in log] == ["WARNING"]


class Response:
    """As of requests: it can be entered and iterated over, and has done its work."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __iter__(self):
        return iter(())


@pytest.mark.parametrize(
    "result",
    [Response(), [1], None, "text", map(str, [1]), (one for one in [1])],
    ids=lambda result: type(result).__name__,
)
def test_a_result_that_has_done_its_work_is_not_logged(result, protect, log):
    assert protect()(returning(result))(EU) is result
    assert log == []


async def test_a_generator_that_can_be_awaited_is_awaited(protect, registry, log):
    fetch = protect()(lambda region: old_style())
    waiting = fetch(EU)
    assert count(registry) == (0, 0, 0, 0)
    assert await waiting == "sent"
    assert count(registry) == (1, 0, 0, 0)
    assert log == []


# An async def


async def test_a_first_call_that_raises_hides_no_lazy_result(protect, log):
    answers = [ValueError("unreadable"), rows(EU), rows(EU)]

    @protect()
    async def fetch(region):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(ValueError, match="unreadable"):
        await fetch(EU)
    await fetch(EU)
    await fetch(EU)
    assert [record["level"].name for record in log] == ["WARNING"]


async def test_after_ten_calls_that_raise_no_more_are_watched(protect, log):
    answers = [ValueError("unreadable")] * 10

    @protect()
    async def fetch(region):
        if answers:
            raise answers.pop()
        return rows(EU)

    for _ in range(10):
        with pytest.raises(ValueError, match="unreadable"):
            await fetch(EU)
    await fetch(EU)
    assert log == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: rows(EU),
        lambda: contextlib.contextmanager(lines)(EU),
        lambda: contextlib.asynccontextmanager(rows)(EU),
        lambda: asyncio.get_running_loop().create_future(),
        Future,
    ],
    ids=["async generator", "context manager", "async context manager", "future", "of a thread"],
)
async def test_a_lazy_result_of_an_async_def_is_logged_once_a_function(make, protect, log):
    results = [make(), make()]

    @protect()
    async def fetch(region):
        return results[0]

    @protect()
    async def fetch_more(region):
        return results[1]

    for _ in range(3):
        assert await fetch(EU) is results[0]
    assert await fetch_more(EU) is results[1]
    assert [record["level"].name for record in log] == ["WARNING"] * 2
    assert type(results[0]).__name__ in log[0]["message"]
    assert "fetch_more" in log[1]["message"]


async def test_a_coroutine_that_an_async_def_forgot_to_await_is_logged(protect, log):
    @protect()
    async def fetch(region):
        return asyncio.sleep(0)

    await (await fetch(EU))
    assert "the coroutine that it returns" in log[0]["message"]


class Pool(Session):
    """As of asyncpg: it could be awaited and entered, but `await` has done its work already."""

    def __await__(self):
        yield
        return self


@pytest.mark.parametrize("result", [Session(), Feed(), Pool(), Response(), lines(EU), None])
async def test_what_an_async_def_returns_may_be_a_response_or_a_pool(result, protect, log):
    @protect()
    async def fetch(region):
        return result

    assert await fetch(EU) is result
    assert log == []


async def test_only_the_first_call_of_an_async_def_is_watched(protect, registry, log):
    results = [None, rows(EU), rows(EU)]

    @protect()
    async def fetch(region):
        return results.pop(0)

    for _ in range(3):
        await fetch(EU)
    assert log == []
    assert count(registry) == (3, 0, 0, 0)


async def test_a_first_call_that_fails_is_judged_as_any_other(log):
    registry = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=2))

    @region_breaker(region_from="region", registry=registry)
    async def fetch(region, *, error):
        raise error

    for _ in range(2):
        with pytest.raises(TimeoutError):
            await fetch(EU, error=TimeoutError())
    assert registry.get(EU).state is OPEN


def annotated_plain(region) -> Generator[str]:
    return (region for _ in range(2))


def test_a_def_that_is_annotated_to_return_a_plain_generator_may_have_done_its_work(protect, log):
    assert list(protect()(annotated_plain)(EU)) == [EU, EU]
    assert log == []
