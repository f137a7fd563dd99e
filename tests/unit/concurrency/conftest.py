"""A breaker with the default thresholds."""

import sys

import pytest

from resilience import CircuitBreaker


@pytest.fixture
def breaker(clock):
    return CircuitBreaker("eu-west-1", clock=clock)


@pytest.fixture
def nervous_threads():
    """Make the interpreter change threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
