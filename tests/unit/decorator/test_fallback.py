"""What a call returns while its circuit rejects it, where the decorator has a fallback."""

import functools

import pytest

from resilience import (
    BreakerPolicy,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
    region_breaker,
)
from resilience.retry import transient_retry


class ServerError(Exception):
    status = 503


@pytest.fixture
def registry(clock):
    return CircuitBreakerRegistry(BreakerPolicy(failure_threshold=2), clock=clock)


@pytest.fixture
def protect(registry):
    return functools.partial(region_breaker, region_from="region", registry=registry)


async def test_an_async_call_that_is_rejected_returns_what_the_fallback_returns(protect, registry):
    async def fallback(rejection, region, *, page):
        return rejection, region, page

    @protect(fallback=fallback)
    async def fetch(region, *, page):
        return page

    assert await fetch("a", page=1) == 1
    registry.get("a").force_open("maintenance")
    rejection, *arguments = await fetch("a", page=2)
    assert arguments == ["a", 2]
    assert type(rejection) is CircuitBreakerOpenError
    assert rejection.reason == "forced open: maintenance"
    snapshot = registry.get("a").snapshot()
    assert (snapshot.successes, snapshot.rejected) == (1, 1)


def test_a_plain_call_does_so_too(protect, registry):
    @protect(fallback=lambda rejection, region, page: (rejection.region, region, page))
    def fetch(region, page):
        return page

    assert fetch("a", 1) == 1
    assert fetch(page=1, region="a") == 1
    registry.get("a").force_open("maintenance")
    assert fetch("a", 2) == ("a", "a", 2)
    assert fetch(region="a", page=2) == ("a", "a", 2)


def test_the_region_may_be_anywhere(registry):
    class Holder:
        region = "a"

    options = {"registry": registry, "fallback": lambda *_: "fallback"}

    @region_breaker(region_from="holder.region", **options)
    def by_path(holder):
        return "called"

    @region_breaker(region_from=lambda *_: "a", **options)
    def by_function(number):
        return "called"

    @region_breaker(region_from="region", **options)
    def by_default(region="a"):
        return "called"

    assert (by_path(Holder()), by_function(1), by_default()) == ("called",) * 3
    registry.get("a").force_open("maintenance")
    assert (by_path(Holder()), by_function(1), by_default()) == ("fallback",) * 3


def test_the_errors_of_the_function_are_its_own(protect, registry):
    called = []

    @protect(fallback=lambda *_: called.append(1))
    def fetch(region):
        raise ServerError

    for _ in range(2):
        with pytest.raises(ServerError):
            fetch("a")
    assert registry.get("a").state is CircuitState.OPEN
    assert not called
    assert fetch("a") is None
    assert called == [1]


async def test_a_rejection_by_another_circuit_is_an_error_of_the_function(protect, registry):
    async def fallback(*_):
        raise AssertionError

    @protect()
    async def inner(region):
        raise AssertionError

    @protect(fallback=fallback)
    async def outer(region):
        return await inner("b")

    registry.get("b").force_open("maintenance")
    with pytest.raises(CircuitBreakerOpenError) as caught:
        await outer("a")
    assert caught.value.region == "b"


async def test_retries_that_are_stopped_are_no_rejection_of_the_call(protect, registry):
    async def fallback(*_):
        return "fallback"

    async def open_circuit(_):
        registry.get("a").force_open("maintenance")

    attempts = []

    @protect(fallback=fallback)
    @transient_retry(sleep=open_circuit)
    async def fetch(region):
        attempts.append(region)
        raise ServerError

    with pytest.raises(CircuitBreakerOpenError) as caught:
        await fetch("a")
    assert isinstance(caught.value.__cause__, ServerError)
    assert attempts == ["a"]
    assert await fetch("a") == "fallback"


async def test_what_the_fallback_raises_is_raised(protect, registry):
    async def fallback(rejection, region):
        raise KeyError(region)

    @protect(fallback=fallback)
    async def fetch(region):
        raise AssertionError

    registry.get("a").force_open("maintenance")
    with pytest.raises(KeyError):
        await fetch("a")


async def test_a_probe_goes_to_the_function(protect, registry, clock):
    async def fallback(*_):
        return "fallback"

    @protect(fallback=fallback)
    async def fetch(region):
        return "called"

    for _ in range(2):
        registry.get("a").acquire().fail()
    assert await fetch("a") == "fallback"
    clock.advance(60)
    assert await fetch("a") == "called"


async def test_an_async_generator_is_refused_as_always(protect):
    async def numbers():
        yield 1

    @protect(fallback=lambda *_: None)
    def fetch(region):
        return numbers()

    with pytest.raises(TypeError, match="async generator"):
        fetch("a")


async def nothing(*_):
    return None


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"fallback": 7}, "fallback must be a callable that takes the rejection and a call's"),
        ({"fallback": len, "tenant_from": "tenant"}, "fallback does not go with tenant_from"),
    ],
)
def test_wrong_options_are_refused(protect, options, text):
    with pytest.raises(TypeError, match=text):
        protect(**options)


def test_a_fallback_of_the_other_colour_is_refused(protect):
    with pytest.raises(TypeError, match=r"must be an async def, as .*fetch is one, got len"):

        @protect(fallback=len)
        async def fetch(region): ...

    with pytest.raises(TypeError, match=r"must be a plain function, as .* got the async nothing"):

        @protect(fallback=nothing)
        def fetch_now(region): ...
