"""Readiness: whether a process should take traffic, by the circuits that it needs."""

from collections.abc import Iterable

from resilience import registry as registries
from resilience._validate import check_text, check_type
from resilience.circuit_states import CircuitState
from resilience.registry import CircuitBreakerRegistry


def is_ready(
    registry: CircuitBreakerRegistry | None = None, *, required: Iterable[str] = ()
) -> bool:
    """Return whether this process should take traffic.

    A process is ready unless a region that it cannot do without is OPEN, or every region that it
    has called is. HALF_OPEN is ready: without traffic there is no probe, and the circuit would
    never close.

    Args:
        registry: Whose circuits to look at; None means `default_registry`.
        required: The regions without which the process is of no use. All processes that share such
            a region turn unready at the same time.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A region is empty.
    """
    return Readiness(registry, required).is_ready()


class Readiness:
    """Whether a process should take traffic; see `is_ready`.

    Args:
        registry: Whose circuits to look at; None means `default_registry`.
        required: The regions without which the process is of no use.
    """

    def __init__(self, registry: CircuitBreakerRegistry | None, required: Iterable[str]) -> None:
        self._registry = registries.default_registry if registry is None else registry
        check_type("registry", self._registry, CircuitBreakerRegistry)
        if isinstance(required, str):
            raise TypeError("required must be a collection of regions, got a str")
        self._required = tuple(check_text("a required region", region) for region in required)

    def is_ready(self) -> bool:
        """Return whether it should."""
        states = [self._registry.get(region).state for region in self._required]
        if CircuitState.OPEN in states:
            return False
        seen = [breaker.state for breaker in self._registry]
        return not seen or any(state is not CircuitState.OPEN for state in seen)
