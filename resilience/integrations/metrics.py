"""The figures that every exporter shows; they are read when the exporter asks, never earlier."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from resilience._text import one_line
from resilience.breaker import CircuitBreaker, CircuitSnapshot
from resilience.circuit import CircuitState
from resilience.registry import CircuitBreakerRegistry

#: The state before a transition and the state after it.
StatePair = tuple[CircuitState, CircuitState]

#: Every transition that exporters show, also while its count is 0. OPEN to OPEN happens when a
#: circuit that is OPEN is forced open.
TRANSITIONS: tuple[StatePair, ...] = (
    (CircuitState.CLOSED, CircuitState.OPEN),
    (CircuitState.OPEN, CircuitState.HALF_OPEN),
    (CircuitState.HALF_OPEN, CircuitState.CLOSED),
    (CircuitState.HALF_OPEN, CircuitState.OPEN),
    (CircuitState.OPEN, CircuitState.CLOSED),
    (CircuitState.OPEN, CircuitState.OPEN),
)

_MAX_NAME = 180


@dataclass(frozen=True, slots=True)
class Reading:
    """The figures of one circuit at one moment.

    Args:
        name: The display name of the region.
        snapshot: What the breaker knows.
        seconds_in_state: Seconds since the circuit entered this state.
        recovery_timeout: The recovery timeout of its policy, in seconds; with a `Backoff` the
            longest one.
    """

    name: str
    snapshot: CircuitSnapshot
    seconds_in_state: float
    recovery_timeout: float

    def calls(self) -> dict[str, int]:
        """Return the number of calls since the start, by outcome."""
        return {
            "success": self.snapshot.successes,
            "failure": self.snapshot.failures,
            "answered": self.snapshot.answered,
            "ignored": self.snapshot.ignored,
            "rejected": self.snapshot.rejected,
        }

    def transitions(self) -> dict[StatePair, int]:
        """Return the number of transitions since the start, by the states before and after."""
        counts = dict.fromkeys(TRANSITIONS, 0)
        for old, new, count in self.snapshot.transitions:
            counts[old, new] = count
        return counts


def read_circuits(registry: CircuitBreakerRegistry) -> Iterator[Reading]:
    """Read each circuit of a registry; those that the registry has evicted are not included."""
    for breaker in registry:
        yield read_circuit(breaker)


def read_circuit(breaker: CircuitBreaker) -> Reading:
    """Read one circuit, all of it at the same moment."""
    name = display_name(breaker.region)

    def query(now: float) -> Reading:
        snapshot = breaker.describe(now)
        seconds_in_state = max(0.0, now - snapshot.since)
        return Reading(name, snapshot, seconds_in_state, breaker.policy.longest_recovery)

    return breaker.read(query)


def display_name(region: str) -> str:
    """Return a region's name in a form that can be displayed, different for every region.

    The name comes from outside: it may hold characters that no encoding can write, or be a megabyte
    long. Such a name is escaped, shortened and given a checksum.
    """
    line = one_line(region)
    if line == region:
        return region
    checksum = zlib.crc32(region.encode("utf-8", "backslashreplace"))
    return f"{line[:_MAX_NAME]}~{checksum:08x}"
