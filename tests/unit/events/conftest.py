"""A breaker with the default thresholds."""

import pytest

from resilience import CircuitBreaker


@pytest.fixture
def breaker(clock):
    return CircuitBreaker("eu-west-1", clock=clock)
