"""What a circuit appends to its events, and its owner delivers."""

from dataclasses import dataclass
from typing import TypeAlias

from resilience.circuit_states import CircuitState
from resilience.mode import Mode
from resilience.rules.trip import TripRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """The circuit changed its state."""

    old: CircuitState
    new: CircuitState
    reason: str
    at: float
    streak: int
    retry_after: float | None
    rejected: int  # calls that were rejected in the old state
    duration: float  # seconds that the old state lasted
    by: str | None = None  # the process that caused it, where that was another one
    rule: TripRule | None = None  # what tripped the circuit, where it was tripped here
    mode: Mode = Mode.ENFORCE  # in which it happened


@dataclass(frozen=True, slots=True)
class ProbeExpired:
    """A probe gave no result within its lease, and another call took its place."""

    after: float


@dataclass(frozen=True, slots=True)
class RejectionsBegan:
    """The first call of an outage was rejected. An outage lasts until the circuit is CLOSED."""

    state: CircuitState
    reason: str
    mode: Mode = Mode.ENFORCE  # in all others, they are only counted


@dataclass(frozen=True, slots=True)
class ProbesIgnored:
    """Probe after probe was IGNORED: the circuit can neither close nor open."""

    count: int  # in a row
    reasons: tuple[str, ...]  # what they reported, without repetitions


@dataclass(frozen=True, slots=True)
class StaysClosed:
    """Failure after failure has not tripped the circuit."""

    failures: int
    calls: int  # with an outcome, from the first of the failures to the last
    seconds: float  # in which they came
    longest_streak: int


Event: TypeAlias = Transition | ProbeExpired | RejectionsBegan | ProbesIgnored | StaysClosed
