"""Calls of tenants with regions and results whose classes do not work: as without a tenant."""

import pytest

from resilience import CircuitBreakerRegistry, classify_status, region_breaker
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


class Liar:
    """A proxy that stands for nothing."""

    @property
    def __class__(self):
        raise RuntimeError("working outside of the application context")

    def __aiter__(self):
        return self


async def test_a_proxy_of_nothing_comes_back(registry):
    odd = Liar()
    options = {"region_from": "region", "tenant_from": "tenant", "registry": registry}

    @region_breaker(result_classifier=classify_status, **options)
    async def send(region, tenant):
        return odd

    @region_breaker(**options)
    def send_now(region, tenant):
        return odd

    assert await send("a", "acme") is odd
    assert send_now("a", "acme") is odd
    assert registry.get("a").snapshot().successes == 2


class NoEndError(Exception):
    status = 429

    def __init__(self):
        self.headers = {"inin-ratelimit-allowed": "9" * 400, "Retry-After": "9" * 400}


async def test_a_limit_without_end_throttles_its_tenant_all_the_same(registry, log):
    @region_breaker(region_from="region", tenant_from="tenant", registry=registry)
    async def send(region, tenant):
        raise NoEndError

    with pytest.raises(NoEndError):
        await send("a", "acme")
    assert registry.get("a").snapshot().throttled_tenants == 1
    assert log == []
