"""A breaker with the default thresholds, and one with two probes."""

import pytest

from resilience import BreakerPolicy, CircuitBreaker


@pytest.fixture
def breaker(clock):
    return CircuitBreaker("eu-west-1", clock=clock)


@pytest.fixture
def two_probes(clock):
    return CircuitBreaker("eu-west-1", BreakerPolicy(half_open_probes=2), clock=clock)
