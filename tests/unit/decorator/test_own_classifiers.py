"""The classifiers of one decorated function."""

import asyncio
from types import SimpleNamespace

import pytest
from loguru import logger

from resilience import (
    BreakerPolicy,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
    Outcome,
    classify_status,
    failures,
    region_breaker,
)
from tests.support.decorated import (
    CLOSED,
    EU,
    HALF_OPEN,
    OPEN,
    Refused,
    answer,
    count,
    fail,
    raise_lookup_error,
)


async def test_a_function_may_have_a_classifier_of_its_own(protect, registry):
    @protect(classifier=failures(Refused))
    async def send(region, error):
        raise error

    @protect()
    async def ask(region, error):
        raise error

    for _ in range(3):
        with pytest.raises(Refused):
            await ask(EU, Refused())
    assert count(registry) == (0, 0, 3, 0)
    for _ in range(2):
        with pytest.raises(Refused):
            await send(EU, Refused())
    assert registry.get(EU).state is OPEN


async def test_a_function_without_a_classifier_has_the_registry_s(clock):
    registry = CircuitBreakerRegistry(
        BreakerPolicy(failure_threshold=1), classifier=failures(Refused), clock=clock
    )

    @region_breaker(region_from="region", registry=registry)
    async def send(region):
        raise Refused

    with pytest.raises(Refused):
        await send(EU)
    assert registry.get(EU).state is OPEN


async def test_the_classifier_is_asked_once_for_an_error_and_for_nothing_else(protect):
    asked = []

    def classify(error):
        asked.append(error)
        return Outcome.FAILURE

    @protect(classifier=classify)
    async def send(region, error=None):
        return answer(error)

    error = TimeoutError()
    await fail(send, EU, error, times=1)
    assert asked == [error]
    await send(EU)
    with pytest.raises(asyncio.CancelledError):
        await send(EU, asyncio.CancelledError())
    with pytest.raises(KeyboardInterrupt):
        await send(EU, KeyboardInterrupt())
    await fail(send, EU, error)
    with pytest.raises(CircuitBreakerOpenError):
        await send(EU)
    assert asked == [error] * 3


@pytest.mark.parametrize("kind", ["raises", "returns nothing", "returns a text"])
async def test_a_broken_classifier_harms_no_caller(protect, registry, log, kind):
    def classify(error):
        if kind == "raises":
            raise ZeroDivisionError("a-tenants-bearer-token")
        return None if kind == "returns nothing" else "FAILURE"

    @protect(classifier=classify)
    async def send(region, error):
        raise error

    written = []
    sink = logger.add(lambda message: written.append(str(message)), diagnose=True, backtrace=True)
    await fail(send, EU, TimeoutError("a-tenants-bearer-token"), times=5)
    logger.remove(sink)
    assert count(registry) == (0, 0, 5, 0)
    assert {record["level"].name for record in log} == {"ERROR"}
    assert "a-tenants-bearer-token" not in "".join(written)


async def test_a_probe_whose_classifier_raises_gives_its_place_back(protect, registry, clock):
    def classify(error):
        raise ZeroDivisionError

    @protect(classifier=classify)
    async def send(region, error=None):
        return answer(error)

    @protect()
    async def fail_really(region):
        raise TimeoutError

    await fail(fail_really, EU)
    clock.advance(60)
    await fail(send, EU, TimeoutError(), times=3)
    assert registry.get(EU).state is HALF_OPEN
    assert await send(EU) == "sent"
    assert registry.get(EU).state is CLOSED


async def test_a_result_classifier_counts_an_answer_that_is_a_failure(protect, registry):
    unavailable, missing = SimpleNamespace(status=503), SimpleNamespace(status=404)

    @protect(result_classifier=classify_status)
    async def send(region, response):
        return response

    @protect(result_classifier=classify_status)
    def send_now(region, response):
        return response

    assert await send(EU, unavailable) is unavailable
    assert await send(EU, missing) is missing
    assert count(registry) == (0, 1, 0, 0)
    assert registry.get(EU).snapshot().answered == 1
    assert send_now(EU, unavailable) is unavailable
    assert registry.get(EU).state is OPEN
    with pytest.raises(CircuitBreakerOpenError) as rejected:
        await send(EU, unavailable)
    assert rejected.value.reason == "SimpleNamespace 503"


async def test_an_answer_is_a_success_where_nobody_asks(protect, registry):
    @protect()
    async def send(region):
        return SimpleNamespace(status=503)

    for _ in range(5):
        await send(EU)
    assert count(registry) == (5, 0, 0, 0)


async def test_the_result_classifier_reads_what_an_awaitable_gave(protect, registry):
    unavailable = SimpleNamespace(status=503)

    async def respond():
        return unavailable

    @protect(result_classifier=classify_status)
    def send(region):
        return respond()

    assert await send(EU) is unavailable
    assert count(registry) == (0, 1, 0, 0)


async def test_a_broken_result_classifier_harms_no_caller(protect, registry):
    def classify(result):
        raise ZeroDivisionError

    @protect(result_classifier=classify)
    async def send(region):
        return "sent"

    assert await send(EU) == "sent"
    assert count(registry) == (0, 0, 1, 0)


async def test_a_registrys_result_classifier_holds_for_its_functions(clock):
    registry = CircuitBreakerRegistry(result_classifier=classify_status, clock=clock)

    @region_breaker(region_from="region", registry=registry)
    async def send(region):
        return SimpleNamespace(status=503)

    await send(EU)
    assert count(registry) == (0, 1, 0, 0)


def everything_fails(_):
    return Outcome.FAILURE


async def raise_later(region):
    raise LookupError


def return_awaitable(region):
    return raise_later(region)


@pytest.mark.parametrize("target", [raise_lookup_error, return_awaitable, raise_later])
async def test_a_functions_own_classifier_judges_its_calls_in_every_state(target, clock):
    registry = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=1), clock=clock)
    call = region_breaker(region_from="region", registry=registry, classifier=everything_fails)(
        target
    )
    for state in (CircuitState.OPEN, CircuitState.OPEN):  # from CLOSED, then from HALF_OPEN
        with pytest.raises(LookupError):
            result = call("eu-west-1")
            await result
        assert registry.get("eu-west-1").state is state
        clock.advance(60)
