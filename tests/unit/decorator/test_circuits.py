"""Whose circuit it is, also for calls within calls."""

import inspect
import subprocess
import sys
import textwrap

import aiohttp
import pytest

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    failures,
    region_breaker,
)
from tests.support.decorated import CLOSED, EU, OPEN, Refused, answer, count, fail

# Whose circuit it is


async def test_functions_of_a_region_share_its_circuit(protect, registry):
    @protect()
    async def send(region):
        raise TimeoutError

    @protect()
    def count_messages(region):
        return 7

    assert count_messages(EU) == 7
    await fail(send, EU)
    with pytest.raises(CircuitBreakerOpenError):
        count_messages(EU)
    assert count_messages("us-east-1") == 7
    assert registry.get(EU).state is OPEN


async def test_registries_are_kept_apart(registry, clock):
    other = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=1), clock=clock)

    @region_breaker(region_from="region", registry=registry)
    @region_breaker(region_from="region", registry=other)
    async def send(region, error=None):
        return answer(error)

    await fail(send, EU, TimeoutError(), times=1)
    assert other.get(EU).state is OPEN
    assert registry.get(EU).state is CLOSED
    for _ in range(5):
        with pytest.raises(CircuitBreakerOpenError):
            await send(EU)
    assert count(registry) == (0, 1, 5, 0)


def test_without_a_registry_it_is_the_module_level_one_that_knows_all_spellings():
    script = """
    import asyncio
    from loguru import logger
    from resilience import CircuitBreakerOpenError, default_registry, region_breaker

    logger.remove()

    @region_breaker(region_from="region")
    async def send(region):
        raise TimeoutError

    async def main():
        for spelling in ["mypurecloud.ie", "https://api.mypurecloud.ie/api/v2", "eu_west_1"] * 4:
            try:
                await send(spelling)
            except TimeoutError:
                print("called")
            except CircuitBreakerOpenError as error:
                print(error.region)

    asyncio.run(main())
    print([snapshot.region for snapshot in default_registry.snapshots()])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["called"] * 10 + [EU] * 2 + [f"['{EU}']"]


async def test_one_breaker_decorates_one_function(clock):
    breaker = CircuitBreaker(
        "tokens", BreakerPolicy(failure_threshold=2), classifier=failures(Refused), clock=clock
    )

    @breaker
    async def fetch_token(client, *, error=None):
        """Fetch it."""
        return answer(error)

    assert await fetch_token("client") == "sent"
    assert fetch_token.__name__ == "fetch_token"
    assert fetch_token.__doc__ == "Fetch it."
    assert inspect.iscoroutinefunction(fetch_token)
    for _ in range(2):
        with pytest.raises(Refused):
            await fetch_token("client", error=Refused())
    with pytest.raises(CircuitBreakerOpenError) as rejected:
        await fetch_token("client")
    assert rejected.value.region == "tokens"


async def test_one_breaker_decorates_methods(clock):
    breaker = CircuitBreaker("tokens", clock=clock)

    class Tokens:
        @breaker
        async def fetch(self, client):
            return (self, client)

    tokens = Tokens()
    assert await tokens.fetch("client") == (tokens, "client")


# Calls within calls


async def test_a_call_within_a_call_of_the_same_region_counts_for_itself(protect, registry):
    @protect()
    async def inner(region, error=None):
        return answer(error)

    @protect()
    async def outer(region, error=None):
        return await inner(region, error)

    assert await outer(EU) == "sent"
    assert count(registry) == (2, 0, 0, 0)
    await fail(outer, EU, TimeoutError(), times=1)
    assert registry.get(EU).state is OPEN
    assert registry.get(EU).snapshot().trips == 1


async def test_a_call_within_a_probe_is_part_of_it(protect, registry, clock):
    @protect()
    async def inner(region, error=None):
        return answer(error)

    @protect()
    async def outer(region):
        return await inner(region)

    await fail(inner, EU, TimeoutError())
    clock.advance(60)
    assert await outer(EU) == "sent"
    snapshot = registry.get(EU).snapshot()
    assert (snapshot.state, snapshot.probes, snapshot.rejected) == (CLOSED, 1, 0)


def test_a_function_that_calls_itself_ends(protect, registry):
    @protect()
    def countdown(region, number):
        return 0 if number == 0 else countdown(region, number - 1)

    assert countdown(EU, 50) == 0
    assert count(registry) == (51, 0, 0, 0)


async def test_a_call_within_a_call_of_another_region_is_apart(protect, registry):
    @protect()
    async def inner(region):
        raise TimeoutError

    @protect()
    async def outer(region):
        try:
            await inner("us-east-1")
        except TimeoutError:
            return "saved"

    assert await outer(EU) == "saved"
    assert count(registry) == (1, 0, 0, 0)
    assert count(registry, "us-east-1") == (0, 1, 0, 0)


async def test_the_call_that_trips_raises_its_own_error(protect, registry, http_error):
    @protect()
    async def send(region, status):
        raise http_error(status)

    for status in (503, 504):
        with pytest.raises(aiohttp.ClientResponseError) as caught:
            await send(EU, status)
        assert caught.value.status == status
    assert registry.get(EU).state is OPEN
