"""Retries by plain tenacity, inside and outside."""

import pytest
import tenacity

from resilience import CircuitBreakerOpenError, region_breaker
from tests.support.decorated import EU, attempts, count, fail


async def test_with_the_retry_inside_a_call_is_one_outcome(protect, registry):
    made = []

    @protect()
    @attempts(5)
    async def send(region):
        made.append(region)
        raise TimeoutError

    await fail(send, EU, times=1)
    assert len(made) == 5
    assert count(registry) == (0, 1, 0, 0)


async def test_with_the_retry_inside_a_late_success_is_a_success(protect, registry):
    made = []

    @protect()
    @attempts(5)
    async def send(region):
        made.append(region)
        if len(made) < 5:
            raise TimeoutError
        return "sent"

    assert await send(EU) == "sent"
    assert count(registry) == (1, 0, 0, 0)


async def test_with_the_retry_inside_a_retry_error_is_read(protect, registry, http_error):
    @protect()
    @tenacity.retry(stop=tenacity.stop_after_attempt(2), wait=tenacity.wait_none())
    async def send(region, status):
        raise http_error(status)

    with pytest.raises(tenacity.RetryError):
        await send(EU, 404)
    assert count(registry) == (0, 0, 0, 0)
    assert registry.get(EU).snapshot().answered == 1
    for _ in range(2):
        with pytest.raises(tenacity.RetryError):
            await send(EU, 503)
    with pytest.raises(CircuitBreakerOpenError) as rejected:
        await send(EU, 503)
    assert "Bearer" not in repr(vars(rejected.value))


def test_with_the_retry_inside_a_synchronous_call_is_one_outcome_too(protect, registry):
    made = []

    @protect()
    @attempts(5)
    def send(region):
        made.append(region)
        raise TimeoutError

    for _ in range(2):
        with pytest.raises(TimeoutError):
            send(EU)
    with pytest.raises(CircuitBreakerOpenError):
        send(EU)
    assert count(registry) == (0, 2, 0, 1)


async def test_with_the_retry_outside_every_attempt_is_an_outcome(protect, registry):
    made = []

    @attempts(5)
    @protect()
    async def send(region):
        made.append(region)
        raise TimeoutError

    with pytest.raises(CircuitBreakerOpenError):
        await send(EU)
    assert len(made) == 2
    assert count(registry) == (0, 2, 0, 1)


async def test_a_retry_is_rejected_before_its_first_attempt(protect, registry):
    made = []

    @protect()
    @attempts(5)
    async def send(region):
        made.append(region)

    registry.get(EU).force_open("by a test")
    with pytest.raises(CircuitBreakerOpenError):
        await send(EU)
    assert made == []


async def test_what_retry_with_makes_does_not_get_around_the_circuit(registry):
    asked = []

    @region_breaker(region_from="region", registry=registry)
    @tenacity.retry(stop=tenacity.stop_after_attempt(2), reraise=True)
    async def send(region):
        asked.append(region)
        raise TimeoutError

    once = send.retry_with(stop=tenacity.stop_after_attempt(1))
    with pytest.raises(TimeoutError):
        await once("eu-west-1")
    assert len(asked) == 1
    registry.get("eu-west-1").force_open("maintenance")
    with pytest.raises(CircuitBreakerOpenError):
        await once("eu-west-1")
    assert len(asked) == 1
