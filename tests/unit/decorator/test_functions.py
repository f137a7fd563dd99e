"""What can be decorated, and what is kept of it."""

import asyncio
import functools
import inspect

import aiohttp
import pytest
import tenacity

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    region_breaker,
)
from tests.support.decorated import (
    CLOSED,
    EU,
    HALF_OPEN,
    OPEN,
    Client,
    answer,
    attempts,
    count,
    fail,
    function,
    raise_lookup_error,
    send_message,
)


def test_the_function_is_described_as_before(protect):
    async def send(region: str, text: str = "hello", *, copies: int = 1) -> list[str]:
        """Send a text."""

    send.owner = "messaging"
    protected = protect()(send)

    for name in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__"):
        assert getattr(protected, name) == getattr(send, name)
    assert protected.__wrapped__ is send
    assert protected.owner == "messaging"
    assert inspect.signature(protected) == inspect.signature(send)


def test_a_coroutine_function_stays_one_and_a_function_too(protect):
    @protect()
    async def send(region):
        pass

    @protect()
    def count(region):
        pass

    assert inspect.iscoroutinefunction(send)
    assert not inspect.iscoroutinefunction(count)


def test_tenacity_s_attributes_are_kept(protect):
    @protect()
    @attempts(3)
    async def send(region):
        pass

    assert isinstance(send.retry, tenacity.AsyncRetrying)
    assert send.retry.stop.max_attempt_number == 3
    assert callable(send.retry_with)


def test_the_original_function_is_left_alone(protect):
    async def send(region):
        pass

    before = dict(vars(send))
    assert protect()(send) is not send
    assert vars(send) == before


def test_decorating_makes_no_breaker(protect, registry):
    protect()(send_message)
    assert len(registry) == 0


async def test_arguments_and_results_are_passed_on_as_they_are(protect):
    received = []
    result = object()

    @protect()
    async def send(region, *args, **kwargs):
        received.append((args, kwargs))
        return result

    argument = object()
    assert await send(EU, argument, self=argument, permit=2, fn=3) is result
    assert received == [((argument,), {"self": argument, "permit": 2, "fn": 3})]
    assert received[0][0][0] is argument


async def test_the_caller_gets_the_very_error_that_was_raised(protect, http_error):
    error = http_error(503)

    @protect()
    async def send(region):
        raise error

    with pytest.raises(aiohttp.ClientResponseError) as caught:
        await send(EU)
    assert caught.value is error
    assert error.__cause__ is None
    assert error.__context__ is None


class CustomAwaitable:
    def __init__(self, coroutine):
        self.coroutine = coroutine

    def __await__(self):
        return self.coroutine.__await__()


class CallableObject:
    async def __call__(self, region, error=None):
        return answer(error)


class SyncCallableObject:
    def __call__(self, region, error=None):
        return answer(error)


async def coroutine_function(region, error=None):
    return answer(error)


async def with_prefix(prefix, region, error=None):
    return answer(error)


def returning_a_coroutine(region, error=None):
    return coroutine_function(region, error)


def returning_a_task(region, error=None):
    return asyncio.ensure_future(coroutine_function(region, error))


def returning_an_awaitable(region, error=None):
    return CustomAwaitable(coroutine_function(region, error))


ASYNC_TARGETS = {
    "async def": coroutine_function,
    "partial": functools.partial(coroutine_function),
    "partial with an argument": functools.partial(with_prefix, "prefix"),
    "partial of a partial": functools.partial(functools.partial(with_prefix, "prefix"), error=None),
    "callable object": CallableObject(),
    "bound method": Client().send,
    "lambda": lambda region, error=None: coroutine_function(region, error),
    "def that returns a coroutine": returning_a_coroutine,
    "def that returns a task": returning_a_task,
    "def that returns an awaitable": returning_an_awaitable,
    "partial of such a def": functools.partial(returning_a_coroutine),
}


SYNC_TARGETS = {
    "def": function,
    "partial": functools.partial(function),
    "callable object": SyncCallableObject(),
    "lambda": lambda region, error=None: function(region, error),
}


def keyword(targets):
    return pytest.mark.parametrize("target", targets.values(), ids=targets)


@keyword(ASYNC_TARGETS)
class TestWhateverIsAwaited:
    async def test_returns_its_result_and_counts_it(self, protect, registry, target):
        protected = protect()(target)
        assert await protected(EU) == "sent"
        assert await protected(region=EU) == "sent"
        assert count(registry) == (2, 0, 0, 0)

    async def test_is_a_failure_when_what_it_returned_fails(self, protect, registry, target):
        protected = protect()(target)
        await fail(protected, EU, error=TimeoutError())
        assert count(registry) == (0, 2, 0, 0)
        assert registry.get(EU).state is OPEN
        with pytest.raises(CircuitBreakerOpenError):
            await protected(EU)

    async def test_needs_no_region_as_a_parameter_with_a_callable(self, registry, target):
        protected = region_breaker(region_from=lambda *_, **__: EU, registry=registry)(target)
        assert await protected("anything") == "sent"
        assert count(registry) == (1, 0, 0, 0)

    async def test_works_with_one_breaker(self, target, clock):
        breaker = CircuitBreaker(EU, BreakerPolicy(failure_threshold=2), clock=clock)
        protected = breaker(target)
        assert await protected(EU) == "sent"
        await fail(protected, EU, error=TimeoutError())
        assert breaker.state is OPEN

    async def test_is_not_a_success_before_it_has_ended(self, protect, registry, target):
        protected = protect()(target)
        waiting = protected(EU)
        assert count(registry) == (0, 0, 0, 0)
        await waiting
        assert count(registry) == (1, 0, 0, 0)


@keyword(SYNC_TARGETS)
class TestWhateverIsSynchronous:
    def test_returns_its_result_and_counts_it(self, protect, registry, target):
        protected = protect()(target)
        assert protected(EU) == "sent"
        assert protected(region=EU) == "sent"
        assert count(registry) == (2, 0, 0, 0)

    def test_is_a_failure_when_it_fails(self, protect, registry, target):
        protected = protect()(target)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                protected(EU, error=TimeoutError())
        assert registry.get(EU).state is OPEN
        with pytest.raises(CircuitBreakerOpenError):
            protected(EU)
        assert count(registry) == (0, 2, 0, 1)

    def test_works_with_one_breaker(self, target, clock):
        breaker = CircuitBreaker(EU, BreakerPolicy(failure_threshold=1), clock=clock)
        protected = breaker(target)
        assert protected(EU) == "sent"
        with pytest.raises(TimeoutError):
            protected(EU, error=TimeoutError())
        assert breaker.state is OPEN


async def test_a_partial_and_an_object_without_a_name_are_named_in_errors_all_the_same(protect):
    with pytest.raises(TypeError, match="with_prefix"):
        await protect()(functools.partial(with_prefix, "prefix"))(7)
    with pytest.raises(TypeError, match="SyncCallableObject"):
        protect()(SyncCallableObject())(7)


async def test_a_coroutine_that_was_never_started_takes_no_place(protect, registry, clock):
    @protect()
    async def send(region, error=None):
        return answer(error)

    await fail(send, EU, TimeoutError())
    clock.advance(60)
    send(EU).close()
    assert registry.get(EU).state is HALF_OPEN
    assert await send(EU) == "sent"
    assert registry.get(EU).state is CLOSED


async def test_a_call_that_is_cancelled_is_ignored_and_gives_its_place_back(
    protect, registry, clock
):
    @protect()
    async def send(region, error=None, hang=False):
        if hang:
            await asyncio.Event().wait()
        return answer(error)

    await fail(send, EU, TimeoutError())
    clock.advance(60)
    probe = asyncio.create_task(send(EU, hang=True))
    await asyncio.sleep(0)
    with pytest.raises(CircuitBreakerOpenError):
        await send(EU)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert registry.get(EU).state is HALF_OPEN
    assert await send(EU) == "sent"
    assert registry.get(EU).state is CLOSED


def test_an_object_whose_every_attribute_exists_is_a_plain_result(registry):
    class Anything:
        def __getattr__(self, name):
            return self

    @region_breaker(region_from="region", registry=registry)
    def fetch(region):
        return Anything()

    assert type(fetch("eu-west-1")) is Anything


def test_a_probe_of_a_plain_function_gets_its_keywords(clock):
    registry = CircuitBreakerRegistry(clock=clock)
    call = region_breaker(region_from="region", registry=registry)(raise_lookup_error)
    for _ in range(10):
        registry.get("eu-west-1").acquire().fail()
    clock.advance(60)
    with pytest.raises(LookupError, match=r"^the hint$"):
        call("eu-west-1", hint="the hint")


def test_a_success_of_a_plain_function_ends_the_streak(registry):
    echo = region_breaker(region_from="region", registry=registry)(lambda region: region)
    registry.get("eu-west-1").acquire().fail()
    assert echo("eu-west-1") == "eu-west-1"
    assert registry.get("eu-west-1").snapshot().streak == 0
    assert registry.get("eu-west-1").snapshot().successes == 1
