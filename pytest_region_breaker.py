"""The pytest plugin: fixtures for tests of code that uses `resilience`.

pytest loads this file in every run, also where nobody uses the fixtures. It therefore stands
outside of the package, and imports nothing of it before a test asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilience import CircuitBreaker, CircuitBreakerRegistry
    from resilience.testing import FakeClock, FakeGenesys


@pytest.fixture
def circuit_clock() -> FakeClock:
    """Return the clock of `circuits`, which moves only when the test moves it."""
    from resilience.testing import FakeClock

    return FakeClock()


@pytest.fixture
def circuits(circuit_clock: FakeClock) -> Iterator[CircuitBreakerRegistry]:
    """Empty the default registry, and give it a clock; what was there comes back after the test."""
    from resilience import default_registry

    with default_registry.isolated(clock=circuit_clock):
        yield default_registry


@pytest.fixture
def open_circuit(circuits: CircuitBreakerRegistry) -> Callable[[str], CircuitBreaker]:
    """Return a function that opens the circuit of a region of `circuits` by calls that fail."""
    from resilience.testing import open_circuit

    return partial(open_circuit, registry=circuits)


@pytest.fixture
def fake_genesys() -> Iterator[FakeGenesys]:
    """Serve a Genesys region from a thread of its own; it takes messages without a token."""
    from resilience.testing import FakeGenesys

    with FakeGenesys(require_token=False) as genesys:
        yield genesys
