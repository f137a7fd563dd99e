"""The states of a circuit, and the tickets that they give to calls.

Each state holds its own data only; `circuit` decides which one is next. The object is also the
generation: the result of a call counts while the state that admitted the call is still the state of
the circuit.
"""

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, TypeAlias

from resilience.ramp import Ramp
from resilience.rules.in_flight import InFlight
from resilience.rules.window import SlidingWindow


class CircuitState(StrEnum):
    """The states of a circuit."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


@dataclass(slots=True, eq=False)
class Closed:
    """Every call is admitted. The state is the ticket of all its calls."""

    name: ClassVar[CircuitState] = CircuitState.CLOSED
    reason: ClassVar[None] = None
    #: Whether only some calls are admitted at a time, so that nested ones need no place.
    limits_calls: ClassVar[bool] = False
    since: float
    # Whether the state itself is the ticket of a call. An attribute of the object, since one of the
    # class takes as long to read as all the rest of `admits_without_asking`.
    is_plain: bool = field(kw_only=True, default=True)
    streak: int = 0
    last_activity: float = -math.inf
    failures: int = 0
    successes: int = 0  # counted without the lock
    answered: int = 0  # counted without the lock
    ignored: int = 0  # counted without the lock
    # Failures that do not trip are reported together. The next one that is looked at for that is
    # the one of this number: the first of them, and then the last.
    noted_from: int = 1
    # Of those failures: the longest streak, and when they began.
    longest_streak: int = 0
    first_failure: "tuple[int, float] | None" = None  # calls with an outcome until then, and when


@dataclass(slots=True, eq=False)
class TrackedClosed(Closed):
    """Each call is admitted with its own ticket, a `Call`, and looked at when it ends."""

    window: SlidingWindow | None = field(kw_only=True, default=None)
    ramp: Ramp | None = field(kw_only=True, default=None)
    in_flight: "InFlight[Call] | None" = field(kw_only=True, default=None)
    is_watched: bool = field(kw_only=True, default=False)  # while they run, by their permits
    slow_from: float = field(kw_only=True, default=math.inf)  # seconds; infinite: nothing is slow
    # A success that began and ended in this time, and was not slow, is counted without the lock.
    plain_from: float = field(kw_only=True, default=math.inf)
    plain_until: float = field(kw_only=True, default=-math.inf)
    # How many of those successes the window has.
    in_window: int = field(kw_only=True, default=0)

    def __post_init__(self) -> None:
        self.is_plain = self.window is None and self.ramp is None and not self.is_watched

    def end_ramp(self) -> None:
        """Admit all calls from now on."""
        self.ramp = None
        self.is_plain = self.window is None and not self.is_watched

    @property
    def limits_calls(self) -> bool:  # type: ignore[override]
        """Whether a ramp admits only some calls at a time."""
        return self.ramp is not None

    def slide(self, window: SlidingWindow, now: float) -> None:
        """Add the successes that were counted without the lock to the window, and let it slide."""
        successes = self.successes
        window.add(successes - self.in_window)
        self.in_window = successes
        window.slide(now)

    def allow_plain_successes(self, window: SlidingWindow) -> None:
        """Let successes in the present slice be counted without the lock, if none ends a streak."""
        self.plain_from = window.slice_begin
        self.plain_until = -math.inf if self.streak else window.slice_end


@dataclass(slots=True, eq=False)
class Call:
    """The ticket of one call in CLOSED where each has one."""

    state: TrackedClosed
    since: float  # not a number where the clock gave no time
    answers_before: int = 0  # what the region had answered when the call began
    is_counted: bool = False  # as a failure, before it has ended
    may_strand: bool = True  # False where it is known that a failure is not the region's


@dataclass(slots=True, eq=False)
class Open:
    """Every call is rejected until the recovery timeout has passed."""

    name: ClassVar[CircuitState] = CircuitState.OPEN
    limits_calls: ClassVar[bool] = False
    since: float
    until: float  # infinite while the circuit is forced open
    streak: int
    reason: str
    rejected: int = 0  # counted without the lock
    only_observed: int = 0  # calls that would have been rejected

    @property
    def is_forced(self) -> bool:
        """Whether only `reset` ends it."""
        return self.until == math.inf


@dataclass(slots=True, eq=False)
class HalfOpen:
    """A few calls are admitted as probes. `reason` still says why the circuit opened."""

    name: ClassVar[CircuitState] = CircuitState.HALF_OPEN
    limits_calls: ClassVar[bool] = True
    since: float
    streak: int
    reason: str
    last_activity: float
    successes: int = 0  # those that were ANSWERED are among them
    answered: int = 0
    rejected: int = 0
    only_observed: int = 0
    probes: "list[Probe]" = field(default_factory=list["Probe"])
    ignored_probes: int = 0  # in a row
    ignored_reasons: tuple[str, ...] = ()  # of those, without repetitions, the latest last
    reported_at: float = -math.inf  # when the last event about them was appended


@dataclass(slots=True, eq=False)
class Probe:
    """The ticket of one call in HALF_OPEN. From `until` on another call may take its place."""

    since: float
    until: float
    answers_before: int = 0  # what the region had answered when the probe began
    may_strand: bool = True


State: TypeAlias = Closed | Open | HalfOpen
Ticket: TypeAlias = Closed | Call | Probe
