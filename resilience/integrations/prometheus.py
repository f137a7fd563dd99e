"""Prometheus: a collector that reads the circuits when it is scraped; no call pays for it.

Needs prometheus-client: ``pip install "region-breaker[prometheus]"``.
"""

import math
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from resilience.circuit import CircuitState
from resilience.integrations.metrics import MOVES, Reading, read
from resilience.registry import CircuitBreakerRegistry


class CircuitCollector(Collector):
    """Shows every circuit of a registry to Prometheus; register it with a `CollectorRegistry`.

    Args:
        registry: The breakers to show.
    """

    def __init__(self, registry: CircuitBreakerRegistry) -> None:
        self._registry = registry

    def describe(self) -> Iterator[Metric]:
        """Give the metrics without figures: prometheus-client refuses a name that it has twice."""
        yield from _Families().all()

    def collect(self) -> Iterator[Metric]:
        """Read all circuits now."""
        families = _Families()
        for reading in read(self._registry):
            families.add(reading)
        yield from families.all()


class _Families:
    """The metrics of one scrape, and how a circuit is put into them."""

    def __init__(self) -> None:
        self.state = _gauge("state", "1 for the state that the circuit is in, else 0.", "state")
        self.retry_after = _gauge(
            "retry_after_seconds",
            "Seconds until a call may be admitted: 0 is now, +Inf is not before a reset by hand.",
        )
        self.time_in_state = _gauge("time_in_state_seconds", "Seconds in the present state.")
        self.streak = _gauge("streak", "Consecutive failures.")
        self.calls = _counter("calls", "Calls by outcome; a rejected one was not made.", "outcome")
        self.moves = _counter("transitions", "Changes of state.", "from", "to")
        self.probes = _counter("probes", "Calls admitted in HALF_OPEN.")
        self.trips = _counter("trips", "How often failures opened the CLOSED circuit.")
        self.shared = _gauge("shared", "1 while it is shared with other processes; 0: goes alone.")

    def all(self) -> tuple[Metric, ...]:
        return (
            self.state, self.retry_after, self.time_in_state, self.streak,
            self.calls, self.moves, self.probes, self.trips, self.shared,
        )  # fmt: skip

    def add(self, reading: Reading) -> None:
        region, seen = reading.name, reading.snapshot
        for state in CircuitState:
            self.state.add_metric([region, state.value], seen.state is state)
        wait = math.inf if seen.retry_after is None else seen.retry_after
        self.retry_after.add_metric([region], wait)
        self.time_in_state.add_metric([region], reading.seconds)
        self.streak.add_metric([region], seen.streak)
        for outcome, count in reading.calls().items():
            self.calls.add_metric([region, outcome], count)
        for (old, new), count in zip(MOVES, reading.moves, strict=True):
            self.moves.add_metric([region, old.value, new.value], count)
        self.probes.add_metric([region], seen.probes)
        self.trips.add_metric([region], seen.trips)
        if seen.shared is not None:
            self.shared.add_metric([region], seen.shared)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"circuit_breaker_{name}", text, labels=["region", *labels])


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"circuit_breaker_{name}", text, labels=["region", *labels])
