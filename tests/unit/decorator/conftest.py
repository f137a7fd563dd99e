"""A registry whose circuits open after two failures."""

import functools

import pytest

from resilience import BreakerPolicy, CircuitBreakerRegistry, region_breaker


@pytest.fixture
def registry(clock):
    """Breakers that open after two failures and close after one success."""
    return CircuitBreakerRegistry(
        BreakerPolicy(failure_threshold=2, success_threshold=1), clock=clock
    )


@pytest.fixture
def protect(registry):
    """The decorator, with the test's registry, for functions whose region is their `region`."""
    return functools.partial(region_breaker, region_from="region", registry=registry)
