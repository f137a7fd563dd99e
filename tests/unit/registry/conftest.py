"""A registry with the default thresholds."""

import pytest

from resilience import CircuitBreakerRegistry


@pytest.fixture
def registry(clock):
    return CircuitBreakerRegistry(clock=clock)
