"""Calls of tenants with regions and results whose classes do not work: as without a tenant."""

import pytest

from resilience import CircuitBreakerRegistry, region_breaker
from resilience.retry import transient_retry


class UnhashableClass(type):
    __hash__ = None


class Unhashable:
    def __hash__(self):
        raise ValueError("a stranger's hash")


def plain(function):
    return function


@pytest.fixture
def registry():
    return CircuitBreakerRegistry()


@pytest.mark.parametrize("retries", [plain, transient_retry()])
def test_a_result_whose_class_cannot_be_hashed_comes_back(registry, retries):
    odd = UnhashableClass("Odd", (), {})()

    @region_breaker(region_from="region", tenant_from="tenant", registry=registry)
    @retries
    def send(region, tenant):
        return odd

    assert send("a", "acme") is odd
    assert registry.get("a").snapshot().successes == 1


def test_a_region_that_cannot_be_hashed_is_refused_as_one_that_is_no_string(registry):
    @region_breaker(region_from="region", tenant_from="tenant", registry=registry)
    def send(region, tenant): ...

    with pytest.raises(TypeError, match="region must be"):
        send(Unhashable(), "acme")


async def test_it_is_refused_by_an_async_function_too(registry):
    @region_breaker(region_from="region", tenant_from="tenant", registry=registry)
    async def send(region, tenant): ...

    with pytest.raises(TypeError, match="region must be"):
        await send(Unhashable(), "acme")
