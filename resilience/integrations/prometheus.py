"""Prometheus: a collector that reads the circuits when it is scraped, at no cost to any call.

Needs prometheus-client: ``pip install "region-breaker[prometheus]"``.
"""

import math
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from resilience._text import display_name
from resilience.circuit import CircuitState
from resilience.integrations.metrics import HasStats, QueueStats, Reading, read_circuits
from resilience.limits import DrainEstimate
from resilience.mode import Mode
from resilience.registry import CircuitBreakerRegistry


class CircuitCollector(Collector):
    """Exports every circuit of a registry to Prometheus.

    Register it with a `CollectorRegistry` of prometheus-client.

    Args:
        registry: The registry whose circuits are exported.
        show_tenants: Whether throttled tenants are exported by name, the hundred of each region
            that wait longest: they may be customers.
    """

    def __init__(self, registry: CircuitBreakerRegistry, *, show_tenants: bool = False) -> None:
        self._registry = registry
        self._show_tenants = show_tenants

    def describe(self) -> Iterator[Metric]:
        """Return the metrics without samples.

        prometheus-client compares their names with those of the other collectors, and refuses
        duplicates.
        """
        yield from _Families().all()

    def collect(self) -> Iterator[Metric]:
        """Read all circuits and return their metrics."""
        families = _Families()
        for reading in read_circuits(self._registry, show_tenants=self._show_tenants):
            families.add(reading)
        yield from families.all()


class ConsumerCollector(Collector):
    """Exports the queues of message consumers to Prometheus.

    Register it with a `CollectorRegistry` of prometheus-client.

    Args:
        consumers: The consumers, such as a `RegionConsumer`; each queue has series of its own.
    """

    def __init__(self, *consumers: HasStats) -> None:
        self._consumers = consumers

    def describe(self) -> Iterator[Metric]:
        """Return the metrics without samples."""
        yield from _ConsumerFamilies().all()

    def collect(self) -> Iterator[Metric]:
        """Read all consumers and return their metrics."""
        families = _ConsumerFamilies()
        for consumer in self._consumers:
            for stats in consumer.stats():
                families.add(stats)
        yield from families.all()


class _ConsumerFamilies:
    """The metric families of the consumers in one scrape."""

    def __init__(self) -> None:
        self.unacked = _queue_gauge("unacked", "Messages that are delivered and not settled yet.")
        self.failed = _queue_gauge(
            "failed", "Unacked messages that have failed and wait for another attempt."
        )
        self.oldest = _queue_gauge(
            "oldest_unacked_age_seconds", "Seconds since the oldest unacked message was delivered."
        )
        self.last = _queue_gauge("last_delivery_age_seconds", "Seconds since the last delivery.")
        self.deliveries = _queue_counter("deliveries", "Messages that were delivered.")
        self.redeliveries = _queue_counter(
            "redeliveries", "Messages that were delivered, and had been delivered before."
        )
        self.parked = _queue_counter("parked", "Messages that were moved to wait queues.")

    def all(self) -> tuple[Metric, ...]:
        """Return all families, in the order in which they are exported."""
        return (
            self.unacked,
            self.failed,
            self.oldest,
            self.last,
            self.deliveries,
            self.redeliveries,
            self.parked,
        )

    def add(self, stats: QueueStats) -> None:
        """Add the samples of one queue."""
        labels = [display_name(stats.queue), display_name(stats.region)]
        self.unacked.add_metric(labels, stats.unacked)
        self.failed.add_metric(labels, stats.failed)
        self.oldest.add_metric(labels, stats.oldest_unacked_age)
        if stats.last_delivery_age is not None:  # None: there was none
            self.last.add_metric(labels, stats.last_delivery_age)
        self.deliveries.add_metric(labels, stats.deliveries)
        self.redeliveries.add_metric(labels, stats.redeliveries)
        self.parked.add_metric(labels, stats.parked)


class _Families:
    """The metric families of one scrape."""

    def __init__(self) -> None:
        self.state = _gauge(
            "state", "1 for the current state of the circuit, 0 for the others.", "state"
        )
        self.retry_after = _gauge(
            "retry_after_seconds",
            "Seconds until a call may be admitted: 0 means now, +Inf means after a manual reset.",
        )
        self.time_in_state = _gauge(
            "time_in_state_seconds", "Seconds since the circuit entered its current state."
        )
        self.streak = _gauge("streak", "Consecutive failures.")
        self.calls = _counter("calls", "Calls by outcome; rejected calls were not made.", "outcome")
        self.transitions = _counter(
            "transitions", "State transitions of the circuit.", "from", "to"
        )
        self.probes = _counter("probes", "Calls that were admitted in HALF_OPEN.")
        self.ignored_probes = _gauge(
            "ignored_probes",
            "Probes in a row, until now, that were ignored; 0 unless the circuit is HALF_OPEN.",
        )
        self.trips = _counter("trips", "How many times failures opened the CLOSED circuit.")
        self.trips_by_rule = _counter(
            "trips_by_rule", "How many times each rule opened the CLOSED circuit.", "rule"
        )
        self.mode = _gauge("mode", "1 for the mode of the circuit, 0 for the others.", "mode")
        self.shared = _gauge(
            "shared", "1 while the circuit is shared with other processes, 0 while it is not."
        )

        self.throttled_tenants = _gauge(
            "throttled_tenants", "Tenants that wait, because the region throttles them."
        )
        self.longest_wait = _gauge(
            "throttled_tenants_longest_wait_seconds",
            "Seconds that the last of the throttled tenants still waits.",
        )
        self.tenant_wait = _gauge(
            "tenant_wait_seconds", "Seconds that a throttled tenant still waits.", "tenant"
        )
        self.drain = _DrainFamilies()

    def all(self) -> tuple[Metric, ...]:
        """Return all families, in the order in which they are exported."""
        return (
            self.state,
            self.retry_after,
            self.time_in_state,
            self.streak,
            self.calls,
            self.transitions,
            self.probes,
            self.ignored_probes,
            self.trips,
            self.trips_by_rule,
            self.mode,
            self.shared,
            self.throttled_tenants,
            self.longest_wait,
            self.tenant_wait,
            *self.drain.all(),
        )

    def add(self, reading: Reading) -> None:
        """Add the samples of one circuit."""
        region, snapshot = reading.name, reading.snapshot
        for state in CircuitState:
            self.state.add_metric([region, state.value], snapshot.state is state)
        retry_after = math.inf if snapshot.retry_after is None else snapshot.retry_after
        self.retry_after.add_metric([region], retry_after)
        self.time_in_state.add_metric([region], reading.seconds_in_state)
        self.streak.add_metric([region], snapshot.streak)
        for outcome, count in reading.calls().items():
            self.calls.add_metric([region, outcome], count)
        for (old, new), count in reading.transitions().items():
            self.transitions.add_metric([region, old.value, new.value], count)
        self.probes.add_metric([region], snapshot.probes)
        self.ignored_probes.add_metric([region], snapshot.ignored_probes)
        self.trips.add_metric([region], snapshot.trips)
        for rule, count in reading.trips_by_rule().items():
            self.trips_by_rule.add_metric([region, rule.value], count)
        for mode in Mode:
            self.mode.add_metric([region, mode.value], snapshot.mode is mode)
        if snapshot.shared is not None:  # None: this registry shares nothing
            self.shared.add_metric([region], snapshot.shared)
        self.throttled_tenants.add_metric([region], snapshot.throttled_tenants)
        self.longest_wait.add_metric([region], snapshot.longest_wait)
        for tenant, wait in reading.tenant_waits.items():
            self.tenant_wait.add_metric([region, tenant], wait)
        if snapshot.drain is not None:
            self.drain.add(region, snapshot.drain)


class _DrainFamilies:
    """The metric families of the backlogs that are worked off."""

    def __init__(self) -> None:
        self.backlog = _gauge(
            "drain_backlog", "Messages of an outage that wait, while they are worked off."
        )
        self.rate = _gauge(
            "drain_rate", "Requests a second at which the messages of an outage are worked off."
        )
        self.eta = _gauge(
            "drain_eta_seconds",
            "Seconds until the messages of an outage are done: +Inf means never, at this rate.",
        )

    def all(self) -> tuple[Metric, ...]:
        """Return all of them, in the order in which they are exported."""
        return self.backlog, self.rate, self.eta

    def add(self, region: str, drain: DrainEstimate) -> None:
        """Add the samples of one drain."""
        self.backlog.add_metric([region], drain.backlog)
        self.rate.add_metric([region], drain.rate)
        self.eta.add_metric([region], math.inf if drain.eta is None else drain.eta)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"circuit_breaker_{name}", text, labels=["region", *labels])


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"circuit_breaker_{name}", text, labels=["region", *labels])


def _queue_gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"circuit_breaker_consumer_{name}", text, labels=["queue", "region"])


def _queue_counter(name: str, text: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"circuit_breaker_consumer_{name}", text, labels=["queue", "region"])
