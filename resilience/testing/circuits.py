"""open_circuit: a circuit that failures have opened."""

from resilience._validate import check_type
from resilience.breaker import CircuitBreaker
from resilience.circuit_states import CircuitState
from resilience.mode import Mode
from resilience.registry import CircuitBreakerRegistry, default_registry

# More failures than any policy needs.
_MOST_FAILURES = 100_000


def open_circuit(region: str, registry: CircuitBreakerRegistry | None = None) -> CircuitBreaker:
    """Open the circuit of a region as an outage does: by calls that fail.

    Args:
        region: The region.
        registry: Its registry; None means `default_registry`.

    Returns:
        Its breaker, which is OPEN for a whole recovery timeout from now on.

    Raises:
        TypeError: The region is not a string, or the registry is not one.
        ValueError: The region is empty.
        RuntimeError: Failures do not open the circuit.
    """
    regions = default_registry if registry is None else registry
    check_type("registry", regions, CircuitBreakerRegistry)
    breaker = regions.get(region)
    breaker.reset()
    for _ in range(_MOST_FAILURES):
        if breaker.state is CircuitState.OPEN:
            return breaker
        breaker.acquire().fail(ConnectionError())
    mode = breaker.snapshot().mode
    why = "" if mode is Mode.ENFORCE else f": its mode is {mode}, in which it rejects nobody"
    text = f"{_MOST_FAILURES:,} failures have not opened the circuit of {region!r}"
    raise RuntimeError(f"{text}{why}")
