"""Reading a registry: what every exporter shows, taken when it is asked and never before."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from resilience._lock import lock
from resilience._text import one_line
from resilience.breaker import CircuitBreaker, CircuitSnapshot
from resilience.circuit import CircuitState
from resilience.registry import CircuitBreakerRegistry

_CLOSED, _OPEN, _HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN

#: Every change of state that there can be; OPEN to OPEN is a forcing while it is open.
MOVES = (
    (_CLOSED, _OPEN), (_OPEN, _HALF_OPEN), (_HALF_OPEN, _CLOSED), (_HALF_OPEN, _OPEN),
    (_OPEN, _CLOSED), (_OPEN, _OPEN),
)  # fmt: skip

_LONGEST_NAME = 180


@dataclass(frozen=True, slots=True)
class Reading:
    """One circuit at one moment.

    Args:
        name: The region, fit to be shown.
        snapshot: What the breaker knows.
        seconds: How long it has been in this state.
        recovery_timeout: Of its policy, in seconds.
        moves: How often it went from one state to another, in the order of `MOVES`.
    """

    name: str
    snapshot: CircuitSnapshot
    seconds: float
    recovery_timeout: float
    moves: tuple[int, ...]

    def calls(self) -> dict[str, int]:
        """Give how many calls there were since the start, by their outcome."""
        seen = self.snapshot
        return {
            "success": seen.successes, "failure": seen.failures, "ignored": seen.ignored,
            "rejected": seen.rejected,
        }  # fmt: skip


def read(registry: CircuitBreakerRegistry) -> Iterator[Reading]:
    """Read each circuit of a registry; regions that it has let go of are no longer there."""
    for breaker in registry:
        yield read_one(breaker)


def read_one(breaker: CircuitBreaker) -> Reading:
    """Read one circuit, all of it at the same moment."""
    with lock:
        snapshot, now = breaker.snapshot(), breaker._now()
        made = breaker._outbox.moves
        moves = tuple(made[move] for move in MOVES)
        timeout = breaker.policy.recovery_timeout
    return Reading(shown(breaker.region), snapshot, max(0.0, now - snapshot.since), timeout, moves)


def shown(region: str) -> str:
    """Make a region's name fit to be shown, and keep it apart from all others.

    It comes from outside: it may hold what no encoding can write, or be a megabyte long.
    """
    line = one_line(region)
    if line == region:
        return region
    return f"{line[:_LONGEST_NAME]}~{zlib.crc32(region.encode('utf-8', 'backslashreplace')):08x}"
