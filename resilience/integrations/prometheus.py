"""Prometheus: a collector that reads the circuits when it is scraped, at no cost to any call.

Needs prometheus-client: ``pip install "region-breaker[prometheus]"``.
"""

from collections.abc import Iterator, Sequence

from resilience._extras import needs_extra

with needs_extra(__name__, "prometheus"):
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector

from resilience._text import display_name
from resilience.circuit_states import CircuitState
from resilience.integrations.metrics import (
    HasStats,
    QueueStats,
    Reading,
    Registries,
    are_named,
    check_consumers,
    check_registries,
    read_all,
)
from resilience.limits import DrainEstimate
from resilience.mode import Mode


class CircuitCollector(Collector):
    """Exports every circuit of a registry, or of several, to Prometheus.

    Register it with a `CollectorRegistry` of prometheus-client.

    Args:
        registry: The registry whose circuits are exported, or several of them with different names.
            The series of several, and of one that has a name, have a label `registry`.
        show_tenants: Whether throttled tenants are exported by name, the hundred of each region
            that wait longest: they may be customers.

    Raises:
        TypeError: It is neither a registry nor several.
        ValueError: Two of several have the same name.
    """

    def __init__(self, registry: Registries, *, show_tenants: bool = False) -> None:
        self._registries = check_registries(registry)
        self._label_names = ("registry", "region") if are_named(self._registries) else ("region",)
        self._show_tenants = show_tenants

    def describe(self) -> Iterator[Metric]:
        """Return the metrics without samples.

        prometheus-client compares their names with those of the other collectors, and refuses
        duplicates.
        """
        yield from _Families(self._label_names).all()

    def collect(self) -> Iterator[Metric]:
        """Read all circuits and return their metrics."""
        families = _Families(self._label_names)
        for reading in read_all(self._registries, show_tenants=self._show_tenants):
            families.add(reading)
        yield from families.all()


class ConsumerCollector(Collector):
    """Exports the queues of message consumers to Prometheus.

    Register it with a `CollectorRegistry` of prometheus-client.

    Args:
        consumers: The consumers, such as a `RegionConsumer`; each queue has series of its own.

    Raises:
        TypeError: One of them is not a message consumer.
    """

    def __init__(self, *consumers: HasStats) -> None:
        check_consumers(consumers)
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
    """The metric families of one scrape.

    Args:
        circuit_labels: The names of the labels that say which circuit it is.
    """

    def __init__(self, circuit_labels: Sequence[str]) -> None:
        self._circuit_labels = circuit_labels
        define = _Definitions(circuit_labels)
        self.state = define.gauge(
            "state", "1 for the current state of the circuit, 0 for the others.", "state"
        )
        self.retry_after = define.gauge(
            "retry_after_seconds",
            "Seconds until a call may be admitted: 0 means now, absent means after a manual reset.",
        )
        self.forced_open = define.gauge(
            "forced_open", "1 while the circuit is held open manually, until a reset; otherwise 0."
        )
        self.time_in_state = define.gauge(
            "time_in_state_seconds", "Seconds since the circuit entered its current state."
        )
        self.streak = define.gauge("streak", "Consecutive failures.")
        self.calls = define.counter(
            "calls", "Calls by outcome; rejected calls were not made.", "outcome"
        )
        self.transitions = define.counter(
            "transitions", "State transitions of the circuit.", "from", "to"
        )
        self.probes = define.counter("probes", "Calls that were admitted in HALF_OPEN.")
        self.ignored_probes = define.gauge(
            "ignored_probes",
            "Probes in a row, until now, that were ignored; 0 unless the circuit is HALF_OPEN.",
        )
        self.trips = define.counter("trips", "How many times failures opened the CLOSED circuit.")
        self.trips_by_rule = define.counter(
            "trips_by_rule", "How many times each rule opened the CLOSED circuit.", "rule"
        )
        self.mode = define.gauge("mode", "1 for the mode of the circuit, 0 for the others.", "mode")
        self.shared = define.gauge(
            "shared", "1 while the circuit is shared with other processes, 0 while it is not."
        )
        self.tenants = _TenantFamilies(define)
        self.drain = _DrainFamilies(define)

    def all(self) -> tuple[Metric, ...]:
        """Return all families, in the order in which they are exported."""
        return (
            self.state,
            self.retry_after,
            self.forced_open,
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
            *self.tenants.all(),
            *self.drain.all(),
        )

    def add(self, reading: Reading) -> None:
        """Add the samples of one circuit."""
        snapshot = reading.snapshot
        circuit = self._labels_of(reading)
        for state in CircuitState:
            self.state.add_metric([*circuit, state.value], snapshot.state is state)
        if snapshot.retry_after is not None:
            self.retry_after.add_metric(circuit, snapshot.retry_after)
        self.forced_open.add_metric(circuit, snapshot.retry_after is None)
        self.time_in_state.add_metric(circuit, reading.seconds_in_state)
        self.streak.add_metric(circuit, snapshot.streak)
        for outcome, count in reading.calls().items():
            self.calls.add_metric([*circuit, outcome], count)
        for (old, new), count in reading.transitions().items():
            self.transitions.add_metric([*circuit, old.value, new.value], count)
        self.probes.add_metric(circuit, snapshot.probes)
        self.ignored_probes.add_metric(circuit, snapshot.ignored_probes)
        self.trips.add_metric(circuit, snapshot.trips)
        for rule, count in reading.trips_by_rule().items():
            self.trips_by_rule.add_metric([*circuit, rule.value], count)
        for mode in Mode:
            self.mode.add_metric([*circuit, mode.value], snapshot.mode is mode)
        if snapshot.shared is not None:  # None: this registry shares nothing
            self.shared.add_metric(circuit, snapshot.shared)
        self.tenants.add(circuit, reading)
        if snapshot.drain is not None:
            self.drain.add(circuit, snapshot.drain)

    def _labels_of(self, reading: Reading) -> list[str]:
        has_registry = len(self._circuit_labels) > 1
        return [reading.registry, reading.name] if has_registry else [reading.name]


class _TenantFamilies:
    """The metric families of the tenants that are throttled."""

    def __init__(self, define: "_Definitions") -> None:
        self.throttled = define.gauge(
            "throttled_tenants", "Tenants that wait, because the region throttles them."
        )
        self.longest_wait = define.gauge(
            "throttled_tenants_longest_wait_seconds",
            "Seconds that the last of the throttled tenants still waits.",
        )
        self.wait = define.gauge(
            "tenant_wait_seconds", "Seconds that a throttled tenant still waits.", "tenant"
        )

    def all(self) -> tuple[Metric, ...]:
        """Return all of them, in the order in which they are exported."""
        return self.throttled, self.longest_wait, self.wait

    def add(self, circuit: Sequence[str], reading: Reading) -> None:
        """Add the samples of one circuit."""
        self.throttled.add_metric(circuit, reading.snapshot.throttled_tenants)
        self.longest_wait.add_metric(circuit, reading.snapshot.longest_wait)
        for tenant, wait in reading.tenant_waits.items():
            self.wait.add_metric([*circuit, tenant], wait)


class _DrainFamilies:
    """The metric families of the backlogs that are worked off."""

    def __init__(self, define: "_Definitions") -> None:
        self.backlog = define.gauge(
            "drain_backlog", "Messages of an outage that wait, while they are worked off."
        )
        self.rate = define.gauge(
            "drain_rate", "Requests a second at which the messages of an outage are worked off."
        )
        self.eta = define.gauge(
            "drain_eta_seconds",
            "Seconds until the messages of an outage are done: absent means never, at this rate.",
        )

    def all(self) -> tuple[Metric, ...]:
        """Return all of them, in the order in which they are exported."""
        return self.backlog, self.rate, self.eta

    def add(self, circuit: Sequence[str], drain: DrainEstimate) -> None:
        """Add the samples of one drain."""
        self.backlog.add_metric(circuit, drain.backlog)
        self.rate.add_metric(circuit, drain.rate)
        if drain.eta is not None:
            self.eta.add_metric(circuit, drain.eta)


class _Definitions:
    """Makes metric families.

    Args:
        circuit_labels: The labels that all of them have.
    """

    def __init__(self, circuit_labels: Sequence[str]) -> None:
        self._circuit_labels = circuit_labels

    def gauge(self, name: str, text: str, *labels: str) -> GaugeMetricFamily:
        """Make a gauge with further labels."""
        names = [*self._circuit_labels, *labels]
        return GaugeMetricFamily(f"circuit_breaker_{name}", text, labels=names)

    def counter(self, name: str, text: str, *labels: str) -> CounterMetricFamily:
        """Make a counter with further labels."""
        names = [*self._circuit_labels, *labels]
        return CounterMetricFamily(f"circuit_breaker_{name}", text, labels=names)


def _queue_gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"circuit_breaker_consumer_{name}", text, labels=["queue", "region"])


def _queue_counter(name: str, text: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"circuit_breaker_consumer_{name}", text, labels=["queue", "region"])
