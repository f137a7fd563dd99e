"""Circuits that a measurement makes itself, put under a registry as sharing does it."""

from collections.abc import Callable
from itertools import repeat
from typing import cast

from benchmarks.calls import REGION, Function, send
from benchmarks.loops import Run, awaiting, drive
from resilience import BreakerPolicy, CircuitBreaker, CircuitBreakerRegistry, region_breaker
from resilience.circuit import Circuit
from resilience.circuit_states import Closed
from resilience.shared_circuit import SharedCircuit


class HandMade:
    """Sharing with nobody: it only makes the circuits of a registry.

    Args:
        make: Makes a circuit for a policy, from this second on.
    """

    def __init__(self, make: Callable[[BreakerPolicy, float], Circuit]) -> None:
        self._make = make
        self.circuits: dict[str, Circuit] = {}

    def bind(self, owner: object) -> None:
        """Belong to any registry."""

    def make_circuit(self, region: str, policy: BreakerPolicy, now: float) -> Circuit:
        """Make the circuit of a region."""
        self.circuits[region] = self._make(policy, now)
        return self.circuits[region]

    @property
    def is_closed(self) -> bool:
        """Whether it has stopped."""
        return False

    def join(self, breaker: CircuitBreaker) -> None:
        """Share nothing."""

    def adopt(self, breaker: CircuitBreaker) -> None:
        """Share nothing."""

    def close(self) -> None:
        """End nothing."""


def shared(fn: Function) -> Function:
    """Protect a function with a circuit that other processes share."""

    def make(policy: BreakerPolicy, now: float) -> Circuit:
        return SharedCircuit(policy, now, lease=5.0, notify=bool)

    registry = CircuitBreakerRegistry(sharing=HandMade(make))
    return cast("Function", region_breaker(region_from="region", registry=registry)(fn))


def ending_streaks() -> Run:
    """Make a loop of successes that each end a streak.

    The streak is set by hand: a failure would be most of what is measured.
    """
    sharing = HandMade(Circuit)
    registry = CircuitBreakerRegistry(sharing=sharing)
    fn = region_breaker(region_from="region", registry=registry)(send)
    awaiting(fn)(1)
    state = sharing.circuits[REGION].state
    assert isinstance(state, Closed)

    async def run(calls: int) -> None:
        for _ in repeat(None, calls):
            state.streak = 1
            await fn(REGION)

    return lambda calls: drive(run(calls))
