"""The figures that every exporter shows; they are read when the exporter asks, never earlier."""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from resilience._text import display_name
from resilience._validate import kind_of, shown
from resilience.breaker import CircuitBreaker
from resilience.circuit_name import UNMENTIONED
from resilience.circuit_states import CircuitState
from resilience.registry import CircuitBreakerRegistry
from resilience.rules.trip import TripRule
from resilience.shared_circuit import SharedCircuit
from resilience.snapshot import CircuitSnapshot

#: What an exporter takes: one registry, or several with different names.
Registries: TypeAlias = CircuitBreakerRegistry | Iterable[CircuitBreakerRegistry]

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

_MOST_TENANTS = 100  # that are shown by name, for each region


@dataclass(frozen=True, slots=True)
class Reading:
    """The figures of one circuit at one moment.

    Args:
        name: The display name of the region.
        registry: The display name of its registry; empty if it has none.
        snapshot: What the breaker knows.
        seconds_in_state: Seconds since the circuit entered this state.
        recovery_timeout: The recovery timeout of its policy, in seconds; with a `Backoff` the
            longest one.
        tenant_waits: Seconds that each throttled tenant still waits, by its display name; empty
            unless it was asked for, since tenants are customers.
        failure_threshold: The failure threshold of its policy.
        holds_lease: Whether this process is the one of a fleet that probes now.
    """

    name: str
    registry: str
    snapshot: CircuitSnapshot
    seconds_in_state: float
    recovery_timeout: float
    tenant_waits: Mapping[str, float]
    failure_threshold: int
    holds_lease: bool

    def calls(self) -> dict[str, int]:
        """Return the number of calls since the start, by outcome."""
        return {
            "success": self.snapshot.successes,
            "failure": self.snapshot.failures,
            "answered": self.snapshot.answered,
            "ignored": self.snapshot.ignored,
            "rejected": self.snapshot.rejected,
        }

    def trips_by_rule(self) -> dict[TripRule, int]:
        """Return how often each rule opened the CLOSED circuit since the start."""
        return {**dict.fromkeys(TripRule, 0), **dict(self.snapshot.trips_by_rule)}

    def transitions(self) -> dict[StatePair, int]:
        """Return the number of transitions since the start, by the states before and after."""
        counts = dict.fromkeys(TRANSITIONS, 0)
        for old, new, count in self.snapshot.transitions:
            counts[old, new] = count
        return counts


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The figures of one queue of a message consumer at one moment.

    Args:
        queue: The queue's name.
        region: The region of its messages; empty if they are of several regions.
        unacked: Messages that were delivered and are not settled yet, those that are being
            attempted included.
        failed: Of those, the messages that have failed and wait for another attempt.
        deliveries: Messages that were delivered since the consumer was started.
        redeliveries: Of those, the messages that were delivered before, to anyone.
        parked: Messages that were moved to wait queues since the consumer was started.
        oldest_unacked_age: Seconds since the oldest unacked message was delivered; 0 without any.
        last_delivery_age: Seconds since the last delivery; None before the first one.
    """

    queue: str
    region: str
    unacked: int
    failed: int
    deliveries: int
    redeliveries: int
    parked: int
    oldest_unacked_age: float
    last_delivery_age: float | None


class HasStats(Protocol):
    """What the exporters need to know of a message consumer."""

    def stats(self) -> Iterable[QueueStats]:
        """Return the figures of each of its queues."""
        ...


def check_consumers(consumers: Sequence[HasStats]) -> None:
    """Reject what has no figures of queues.

    Raises:
        TypeError: One of them is not a message consumer.
    """
    for consumer in consumers:
        if isinstance(consumer, type) or not callable(getattr(consumer, "stats", None)):
            expected = "message consumers, or have stats() as these do"
            raise TypeError(f"consumers must be {expected}, got {kind_of(consumer)}")


def check_registries(registries: Registries) -> tuple[CircuitBreakerRegistry, ...]:
    """Return the registries that an exporter was given.

    Raises:
        TypeError: They are not one registry, or several.
        ValueError: There is none, or two of them have the same name.
    """
    if isinstance(registries, CircuitBreakerRegistry):
        return (registries,)
    expected = "registry must be a CircuitBreakerRegistry, or several of them"
    try:
        several = tuple(registries)
    except TypeError:
        raise TypeError(f"{expected}, got {kind_of(registries)}") from None
    for one in several:
        if not isinstance(one, CircuitBreakerRegistry):
            raise TypeError(f"{expected}, got {kind_of(one)} among them")
    if not several:
        raise ValueError(f"{expected}, got none")
    names = [one.name for one in several]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"registries must have different names, two are called {shown(name)}")
    return several


def are_named(registries: Iterable[CircuitBreakerRegistry]) -> bool:
    """Whether the figures of these registries say which registry they are from."""
    names = [one.name for one in registries]
    return len(names) > 1 or names[0] not in UNMENTIONED


def read_all(
    registries: Iterable[CircuitBreakerRegistry], *, show_tenants: bool = False
) -> Iterator[Reading]:
    """Read each circuit of several registries, as `read_circuits` does."""
    for registry in registries:
        yield from read_circuits(registry, show_tenants=show_tenants)


def read_circuits(
    registry: CircuitBreakerRegistry, *, show_tenants: bool = False
) -> Iterator[Reading]:
    """Read each circuit of a registry, without those that the registry has evicted.

    They are never more than `max_regions`, even where more must stay in the registry: then those
    that hold no information are left out first.

    Args:
        registry: The registry.
        show_tenants: Whether the names of throttled tenants are read.
    """
    breakers = list(registry)
    if len(breakers) > registry.max_regions:
        breakers.sort(key=lambda breaker: breaker.circuit.is_blank())
        del breakers[registry.max_regions :]
    for breaker in breakers:
        yield read_circuit(breaker, show_tenants=show_tenants)


def read_circuit(breaker: CircuitBreaker, *, show_tenants: bool = False) -> Reading:
    """Read one circuit, all of it at the same moment.

    Args:
        breaker: Its breaker.
        show_tenants: Whether the names of throttled tenants are read.
    """
    name = display_name(breaker.region)

    def query(now: float) -> Reading:
        snapshot = breaker.describe(now)
        seconds_in_state = max(0.0, now - snapshot.since)
        waits = breaker.tenant_waits(now) if show_tenants and snapshot.throttled_tenants else {}
        return Reading(
            name,
            display_name(breaker.name.registry),
            snapshot,
            seconds_in_state,
            breaker.policy.longest_recovery,
            {display_name(tenant): wait for tenant, wait in _longest(waits)},
            breaker.policy.failure_threshold,
            isinstance(breaker.circuit, SharedCircuit) and breaker.circuit.holds_lease,
        )

    return breaker.read(query)


def _longest(waits: Mapping[str, float]) -> list[tuple[str, float]]:
    """Return the tenants that wait longest: no page and no time series for ten thousand."""
    return heapq.nlargest(_MOST_TENANTS, waits.items(), key=lambda item: item[1])
