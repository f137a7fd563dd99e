"""What the commands speak to: the circuits of one process, or of a fleet."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class TargetError(Exception):
    """The target cannot be reached, or refuses; the text is for the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitLine:
    """One circuit, as `status` prints it.

    Args:
        registry: The name of its registry; empty if there is only one.
        region: The region.
        state: The state.
        seconds_in_state: Seconds since it came into this state.
        note: Why it is not CLOSED, and what happens next; empty while it is CLOSED.
    """

    registry: str
    region: str
    state: str
    seconds_in_state: float
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeLine:
    """One change of state, as `history` and `watch` print it.

    Args:
        time: The time of day, with its time zone.
        registry: The name of the registry; empty if there is only one.
        region: The region.
        old: The state before; empty: unknown.
        new: The state after.
        reason: Why.
    """

    time: str
    registry: str
    region: str
    old: str
    new: str
    reason: str


class Target(Protocol):
    """Running circuits; every method may raise a `TargetError`."""

    #: What `history` leaves out, for the operator; empty: nothing.
    missing_history: str

    def circuits(self) -> Sequence[CircuitLine]:
        """Return all circuits."""
        ...

    def history(self) -> Sequence[ChangeLine]:
        """Return the most recent changes, oldest first."""
        ...

    def force_open(self, region: str, registry: str, reason: str) -> str:
        """Hold a circuit open; return what was done."""
        ...

    def reset(self, region: str, registry: str) -> str:
        """Close a circuit; return what was done."""
        ...
