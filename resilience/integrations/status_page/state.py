"""The data that the page shows, ready for JSON: the circuits, their history, and the process."""

import os
import socket
from datetime import UTC, datetime
from typing import TypedDict

from resilience._text import display_name, one_line
from resilience.events import StateChanged
from resilience.integrations.metrics import Reading, read_circuits
from resilience.limits import DrainEstimate
from resilience.registry import CircuitBreakerRegistry


class DrainData(TypedDict):
    """How far the backlog of an outage is worked off; an `eta` of None: never, at this rate."""

    backlog: int
    rate: float
    arrivals: float
    eta: float | None


class CircuitData(TypedDict):
    """One circuit; times are seconds of the breakers' clock."""

    region: str
    state: str
    since: float
    seconds_in_state: float
    retry_after: float | None
    recovery_timeout: float
    forced: bool
    streak: int
    reason: str | None
    successes: int
    failures: int
    answered: int
    ignored: int
    rejected: int
    probes: int
    trips: int
    shared: bool | None
    ignored_probes: int
    ignored_reasons: list[str]
    throttled_tenants: int
    longest_wait: float
    tenant_waits: dict[str, float]
    drain: DrainData | None
    mode: str


class TransitionData(TypedDict):
    """One state transition; `at` is seconds of the breakers' clock, `time` is the time of day."""

    region: str
    old: str
    new: str
    reason: str
    at: float
    time: str
    streak: int
    retry_after: float | None
    by: str | None
    rule: str | None
    mode: str


class PageData(TypedDict):
    """All that the page shows; `clock` is what the breakers' clock shows.

    No transition from before `known_since` is in the history.
    """

    host: str
    process: int
    time: str
    clock: float
    known_since: float
    regions: list[CircuitData]
    history: list[TransitionData]


class PageState:
    """Describes a registry, the whole or the circuits alone.

    Args:
        registry: The registry that is described.
        show_tenants: Whether throttled tenants are described by name.
    """

    def __init__(self, registry: CircuitBreakerRegistry, *, show_tenants: bool = False) -> None:
        self._registry = registry
        self._show_tenants = show_tenants
        self._started_at = registry.now()

    def now(self) -> float:
        """Return what the clock of the registry's breakers shows."""
        return self._registry.now()

    def full(self) -> PageData:
        """Describe everything that the page shows."""
        history = self._registry.history
        events = list(history)
        has_forgotten = history.total > len(events)
        return {
            "host": one_line(socket.gethostname()),
            "process": os.getpid(),
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "clock": self.now(),
            "known_since": events[0].at if has_forgotten else self._started_at,
            "regions": list(self.circuits().values()),
            "history": [describe_transition(event) for event in events],
        }

    def circuits(self) -> dict[str, CircuitData]:
        """Describe every circuit, by the display name of its region."""
        readings = read_circuits(self._registry, show_tenants=self._show_tenants)
        return {reading.name: describe_circuit(reading) for reading in readings}


def describe_circuit(reading: Reading) -> CircuitData:
    """Describe one circuit."""
    snapshot = reading.snapshot
    retry_after = snapshot.retry_after
    return {
        "region": reading.name,
        "state": snapshot.state.value,
        "since": snapshot.since,
        "seconds_in_state": round(reading.seconds_in_state, 3),
        "retry_after": None if retry_after is None else round(retry_after, 3),
        "recovery_timeout": reading.recovery_timeout,
        "forced": retry_after is None,
        "streak": snapshot.streak,
        "reason": snapshot.reason,
        "successes": snapshot.successes,
        "failures": snapshot.failures,
        "answered": snapshot.answered,
        "ignored": snapshot.ignored,
        "rejected": snapshot.rejected,
        "probes": snapshot.probes,
        "trips": snapshot.trips,
        "shared": snapshot.shared,
        "ignored_probes": snapshot.ignored_probes,
        "ignored_reasons": list(snapshot.ignored_reasons),
        "throttled_tenants": snapshot.throttled_tenants,
        "longest_wait": round(snapshot.longest_wait, 3),
        "tenant_waits": {name: round(wait, 3) for name, wait in reading.tenant_waits.items()},
        "drain": None if snapshot.drain is None else describe_drain(snapshot.drain),
        "mode": snapshot.mode.value,
    }


def describe_drain(drain: DrainEstimate) -> DrainData:
    """Describe how far a drain is."""
    return {
        "backlog": drain.backlog,
        "rate": round(drain.rate, 3),
        "arrivals": round(drain.arrivals, 3),
        "eta": None if drain.eta is None else round(drain.eta, 3),
    }


def describe_transition(event: StateChanged) -> TransitionData:
    """Describe one state transition."""
    return {
        "region": display_name(event.region),
        "old": event.old.value,
        "new": event.new.value,
        "reason": event.reason,
        "at": event.at,
        "time": event.time.isoformat(),
        "streak": event.streak,
        "retry_after": event.retry_after,
        "by": event.by,
        "rule": None if event.rule is None else event.rule.value,
        "mode": event.mode.value,
    }
