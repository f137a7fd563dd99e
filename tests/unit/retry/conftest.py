"""Two circuits that open after two failures and close after one success."""

import pytest

from resilience import BreakerPolicy, CircuitBreaker
from tests.support.retrying import make_due

POLICY = BreakerPolicy(failure_threshold=2, success_threshold=1)


@pytest.fixture
def breaker(clock):
    return CircuitBreaker("eu-west-1", POLICY, clock=clock)


@pytest.fixture
def other(clock):
    return CircuitBreaker("tokens", POLICY, clock=clock)


@pytest.fixture
def due(breaker, clock):
    """The first of them, OPEN for as long as its recovery timeout."""
    make_due(breaker, clock)
    return breaker
