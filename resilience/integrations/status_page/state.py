"""The data that the page shows, ready for JSON: the circuits, their history, and the process."""

import os
import socket
from datetime import UTC, datetime
from typing import TypedDict

from resilience._text import display_name, one_line
from resilience.events import StateChanged
from resilience.integrations.metrics import (
    Reading,
    Registries,
    are_named,
    check_registries,
    read_all,
)
from resilience.limits import DrainEstimate

# Seconds. Two readings of one clock are nearer to each other than this.
_SAME_CLOCK = 0.5


class DrainData(TypedDict):
    """How far the backlog of an outage is worked off; an `eta` of None: never, at this rate."""

    backlog: int
    rate: float
    arrivals: float
    eta: float | None


class CircuitData(TypedDict):
    """One circuit; times are seconds of the breakers' clock.

    `key` is its name among all circuits of the page. `registry` is empty where there is only one.
    """

    key: str
    registry: str
    region: str
    state: str
    since: float
    seconds_in_state: float
    retry_after: float | None
    recovery_timeout: float
    forced: bool
    streak: int
    failure_threshold: int
    reason: str | None
    successes: int
    failures: int
    answered: int
    ignored: int
    rejected: int
    probes: int
    trips: int
    shared: bool | None
    holds_lease: bool
    ignored_probes: int
    ignored_reasons: list[str]
    throttled_tenants: int
    longest_wait: float
    tenant_waits: dict[str, float]
    drain: DrainData | None
    mode: str


class TransitionData(TypedDict):
    """One state transition; `at` is seconds of the breakers' clock, `time` is the time of day."""

    key: str
    registry: str
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

    No transition from before `known_since` is in the history. `actions` says whether circuits can
    be changed over the page.
    """

    host: str
    process: int
    time: str
    clock: float
    known_since: float
    actions: bool
    regions: list[CircuitData]
    history: list[TransitionData]


class PageState:
    """Describes registries, the whole or the circuits alone.

    All times are those of the first registry's clock. The clocks of the others are expected to run
    as fast as that one.

    Args:
        registry: The registry that is described, or several of them.
        show_tenants: Whether throttled tenants are described by name.
        has_actions: Whether circuits can be changed over the page.
    """

    def __init__(
        self, registry: Registries, *, show_tenants: bool = False, has_actions: bool = False
    ) -> None:
        self.registries = check_registries(registry)
        self._has_names = are_named(self.registries)
        self._show_tenants = show_tenants
        self._has_actions = has_actions
        self._started_at = self.now()
        self._ahead_by = {one.name: _ahead_by(one.now(), self.now()) for one in self.registries}

    def now(self) -> float:
        """Return what the clock of the first registry's breakers shows."""
        return self.registries[0].now()

    def full(self) -> PageData:
        """Describe everything that the page shows."""
        events: list[TransitionData] = []
        known_since = self._started_at
        for registry in self.registries:
            changes = [self.transition(event) for event in registry.history]
            if registry.history.total > len(changes):
                known_since = max(known_since, changes[0]["at"])
            events += changes
        events.sort(key=lambda event: event["at"])
        return {
            "host": one_line(socket.gethostname()),
            "process": os.getpid(),
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "clock": self.now(),
            "known_since": known_since,
            "actions": self._has_actions,
            "regions": list(self.circuits().values()),
            "history": events,
        }

    def circuits(self) -> dict[str, CircuitData]:
        """Describe every circuit, by its key: the display name of its region, for one registry."""
        readings = read_all(self.registries, show_tenants=self._show_tenants)
        return {circuit["key"]: circuit for circuit in map(self._circuit, readings)}

    def transition(self, event: StateChanged) -> TransitionData:
        """Describe one state transition."""
        region, registry = display_name(event.region), self._shown(display_name(event.registry))
        return {
            "key": _key(registry, region),
            "registry": registry,
            "region": region,
            "old": event.old.value,
            "new": event.new.value,
            "reason": event.reason,
            "at": event.at - self._ahead_by[event.registry],
            "time": event.time.isoformat(),
            "streak": event.streak,
            "retry_after": event.retry_after,
            "by": event.by,
            "rule": None if event.rule is None else event.rule.value,
            "mode": event.mode.value,
        }

    def _circuit(self, reading: Reading) -> CircuitData:
        registry = self._shown(reading.registry)
        since = reading.snapshot.since - self._ahead_by[reading.snapshot.registry]
        key = _key(registry, reading.name)
        return describe_circuit(reading, key=key, registry=registry, since=since)

    def _shown(self, registry: str) -> str:
        return registry if self._has_names else ""


def _key(registry: str, region: str) -> str:
    # No display name has a line break, so that no two circuits have the same key.
    return f"{registry}\n{region}" if registry else region


def _ahead_by(clock: float, first_clock: float) -> float:
    """Return the seconds between two clocks; 0 for two readings of the same one."""
    seconds = clock - first_clock
    return 0.0 if abs(seconds) < _SAME_CLOCK else seconds


def describe_circuit(reading: Reading, *, key: str, registry: str, since: float) -> CircuitData:
    """Describe one circuit.

    Args:
        reading: Its figures.
        key: Its name among all circuits of the page.
        registry: The name of its registry; empty where there is only one.
        since: When its state began, by the clock of the page.
    """
    snapshot = reading.snapshot
    retry_after = snapshot.retry_after
    return {
        "key": key,
        "registry": registry,
        "region": reading.name,
        "state": snapshot.state.value,
        "since": since,
        "seconds_in_state": round(reading.seconds_in_state, 3),
        "retry_after": None if retry_after is None else round(retry_after, 3),
        "recovery_timeout": reading.recovery_timeout,
        "forced": retry_after is None,
        "streak": snapshot.streak,
        "failure_threshold": reading.failure_threshold,
        "reason": snapshot.reason,
        "successes": snapshot.successes,
        "failures": snapshot.failures,
        "answered": snapshot.answered,
        "ignored": snapshot.ignored,
        "rejected": snapshot.rejected,
        "probes": snapshot.probes,
        "trips": snapshot.trips,
        "shared": snapshot.shared,
        "holds_lease": reading.holds_lease,
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
