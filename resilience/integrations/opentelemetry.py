"""OpenTelemetry: observable instruments, which are read when they are exported, and span events.

Needs the API only: ``pip install "region-breaker[opentelemetry]"``. The application chooses the
SDK and where it exports to.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Literal

from resilience._extras import needs_extra

with needs_extra(__name__, "opentelemetry"):
    from opentelemetry import trace
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter
    from opentelemetry.util.types import AttributeValue

from resilience._text import display_name
from resilience.circuit_name import UNMENTIONED
from resilience.circuit_states import CircuitState
from resilience.errors import CircuitBreakerOpenError
from resilience.events import StateChanged
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
from resilience.mode import Mode
from resilience.registry import CircuitBreakerRegistry

_REGION, _STATE = "circuit_breaker.region", "circuit_breaker.state"
_REGISTRY = "circuit_breaker.registry"
_TENANT = "circuit_breaker.tenant"
_OUTCOME = "circuit_breaker.outcome"
_REASON, _RETRY_AFTER = "circuit_breaker.reason", "circuit_breaker.retry_after"
_MODE, _RULE = "circuit_breaker.mode", "circuit_breaker.rule"
_QUEUE = "circuit_breaker.queue"
_FROM, _TO = "circuit_breaker.transition.from", "circuit_breaker.transition.to"

_Attributes = dict[str, AttributeValue]
_Values = Iterable[tuple[float, _Attributes]]


def observe(
    registry: Registries,
    meter_provider: MeterProvider | None = None,
    *,
    show_tenants: bool = False,
) -> None:
    """Export every circuit of a registry, or of several, as instruments; call it once.

    Args:
        registry: The registry whose circuits are exported, or several of them with different names.
            The figures of several, and of one that has a name, have an attribute
            `circuit_breaker.registry`.
        meter_provider: The meter provider to export to; None means the global one.
        show_tenants: Whether throttled tenants are exported by name, the hundred of each region
            that wait longest: they may be customers.

    Raises:
        TypeError: It is neither a registry nor several.
        ValueError: Two of several have the same name.
    """
    registries = check_registries(registry)
    meter = get_meter("resilience", meter_provider=meter_provider)
    create = {
        "counter": meter.create_observable_counter,
        "up_down_counter": meter.create_observable_up_down_counter,
        "gauge": meter.create_observable_gauge,
    }
    for instrument in _INSTRUMENTS:
        create[instrument.kind](
            f"circuit_breaker.{instrument.name}",
            [_callback(registries, instrument.values, show_tenants=show_tenants)],
            instrument.unit,
            instrument.text,
        )


def observe_consumers(*consumers: HasStats, meter_provider: MeterProvider | None = None) -> None:
    """Export the queues of message consumers as observable instruments; call it once.

    Args:
        consumers: The consumers, such as a `RegionConsumer`.
        meter_provider: The meter provider to export to; None means the global one.

    Raises:
        TypeError: One of them is not a message consumer.
    """
    check_consumers(consumers)
    meter = get_meter("resilience", meter_provider=meter_provider)
    create = {
        "counter": meter.create_observable_counter,
        "gauge": meter.create_observable_gauge,
    }
    for instrument in _QUEUE_INSTRUMENTS:
        create[instrument.kind](
            f"circuit_breaker.consumer.{instrument.name}",
            [_queue_callback(consumers, instrument.value)],
            instrument.unit,
            instrument.text,
        )


def trace_circuits(registry: Registries) -> Callable[[], None]:
    """Add an event to the current span for each rejected call and for each state transition.

    Args:
        registry: The registry whose circuits are traced, or several of them.

    Returns:
        A function that stops it; calling that function again does nothing.

    Raises:
        TypeError: It is neither a registry nor several.
        ValueError: Two of several have the same name.
    """
    stops: list[Callable[[], None]] = []
    for one in check_registries(registry):
        of_registry = {}
        if one.name not in UNMENTIONED:
            of_registry[_REGISTRY] = display_name(one.name)
        stops += [
            one.on_rejection(partial(_on_rejection, of_registry)),
            one.listen(partial(_on_transition, of_registry)),
        ]

    def stop() -> None:
        for stop_one in stops:
            stop_one()

    return stop


# Span events


def _on_rejection(of_registry: Mapping[str, str], error: CircuitBreakerOpenError) -> None:
    attributes: _Attributes = {**of_registry, _STATE: error.state.value}
    _add_event("rejected", error.region, attributes, error.reason, error.retry_after)


def _on_transition(of_registry: Mapping[str, str], event: StateChanged) -> None:
    attributes: _Attributes = {
        **of_registry,
        _FROM: event.old.value,
        _TO: event.new.value,
        _MODE: event.mode.value,
    }
    if event.rule is not None:
        attributes[_RULE] = event.rule.value
    _add_event("transition", event.region, attributes, event.reason, event.retry_after)


def _add_event(
    name: str, region: str, attributes: _Attributes, reason: str | None, retry_after: float | None
) -> None:
    span = trace.get_current_span()
    if not span.is_recording():
        return
    optional = {_REASON: reason, _RETRY_AFTER: retry_after}
    known = {key: value for key, value in optional.items() if value is not None}
    span.add_event(
        f"circuit_breaker.{name}", {_REGION: display_name(region), **attributes, **known}
    )


# Instruments


def _callback(
    registries: Sequence[CircuitBreakerRegistry],
    values: Callable[[Reading], _Values],
    *,
    show_tenants: bool,
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    has_names = are_named(registries)

    def callback(_: CallbackOptions) -> Iterator[Observation]:
        for reading in read_all(registries, show_tenants=show_tenants):
            circuit: _Attributes = {_REGION: reading.name}
            if has_names:
                circuit[_REGISTRY] = reading.registry
            for value, attributes in values(reading):
                yield Observation(value, {**circuit, **attributes})

    return callback


def _status(reading: Reading) -> _Values:
    for state in CircuitState:
        yield int(reading.snapshot.state is state), {_STATE: state.value}


def _calls(reading: Reading) -> _Values:
    for outcome, count in reading.calls().items():
        yield count, {_OUTCOME: outcome}


def _transitions(reading: Reading) -> _Values:
    for (old, new), count in reading.transitions().items():
        yield count, {_FROM: old.value, _TO: new.value}


def _retry_after(reading: Reading) -> _Values:
    # While the circuit is forced open there is no such time. Not every back end knows infinity.
    if reading.snapshot.retry_after is not None:
        yield reading.snapshot.retry_after, {}


def _forced_open(reading: Reading) -> _Values:
    yield int(reading.snapshot.retry_after is None), {}


def _time_in_state(reading: Reading) -> _Values:
    yield reading.seconds_in_state, {}


def _streak(reading: Reading) -> _Values:
    yield reading.snapshot.streak, {}


def _probes(reading: Reading) -> _Values:
    yield reading.snapshot.probes, {}


def _ignored_probes(reading: Reading) -> _Values:
    yield reading.snapshot.ignored_probes, {}


def _trips(reading: Reading) -> _Values:
    yield reading.snapshot.trips, {}


def _trips_by_rule(reading: Reading) -> _Values:
    for rule, count in reading.trips_by_rule().items():
        yield count, {_RULE: rule.value}


def _mode(reading: Reading) -> _Values:
    for mode in Mode:
        yield int(reading.snapshot.mode is mode), {_MODE: mode.value}


def _shared(reading: Reading) -> _Values:
    if reading.snapshot.shared is not None:  # None: this registry shares nothing
        yield int(reading.snapshot.shared), {}


def _throttled_tenants(reading: Reading) -> _Values:
    yield reading.snapshot.throttled_tenants, {}


def _longest_wait(reading: Reading) -> _Values:
    yield reading.snapshot.longest_wait, {}


def _tenant_wait(reading: Reading) -> _Values:
    for tenant, wait in reading.tenant_waits.items():
        yield wait, {_TENANT: tenant}


def _drain_backlog(reading: Reading) -> _Values:
    if reading.snapshot.drain is not None:
        yield reading.snapshot.drain.backlog, {}


def _drain_rate(reading: Reading) -> _Values:
    if reading.snapshot.drain is not None:
        yield reading.snapshot.drain.rate, {}


def _drain_eta(reading: Reading) -> _Values:
    drain = reading.snapshot.drain
    if drain is not None and drain.eta is not None:  # None: never, at this rate
        yield drain.eta, {}


@dataclass(frozen=True, slots=True)
class _Instrument:
    name: str
    kind: Literal["counter", "up_down_counter", "gauge"]
    unit: str
    text: str
    values: Callable[[Reading], _Values]


_INSTRUMENTS = (
    _Instrument(
        name="status",
        kind="up_down_counter",
        unit="1",
        text="1 for the current state of the circuit, 0 for the others.",
        values=_status,
    ),
    _Instrument(
        name="calls",
        kind="counter",
        unit="{call}",
        text="Calls by outcome; rejected calls were not made.",
        values=_calls,
    ),
    _Instrument(
        name="transitions",
        kind="counter",
        unit="{transition}",
        text="State transitions.",
        values=_transitions,
    ),
    _Instrument(
        name="retry_after",
        kind="gauge",
        unit="s",
        text="Seconds until a call may be admitted.",
        values=_retry_after,
    ),
    _Instrument(
        name="forced_open",
        kind="gauge",
        unit="1",
        text="1 while the circuit is held open manually, until a reset; otherwise 0.",
        values=_forced_open,
    ),
    _Instrument(
        name="time_in_state",
        kind="gauge",
        unit="s",
        text="Seconds since the circuit entered its current state.",
        values=_time_in_state,
    ),
    _Instrument(
        name="streak",
        kind="gauge",
        unit="{failure}",
        text="Consecutive failures.",
        values=_streak,
    ),
    _Instrument(
        name="probes",
        kind="counter",
        unit="{call}",
        text="Calls that were admitted in HALF_OPEN.",
        values=_probes,
    ),
    _Instrument(
        name="ignored_probes",
        kind="gauge",
        unit="{call}",
        text="Probes in a row, until now, that were ignored; 0 unless the circuit is HALF_OPEN.",
        values=_ignored_probes,
    ),
    _Instrument(
        name="trips",
        kind="counter",
        unit="{trip}",
        text="How many times failures opened the CLOSED circuit.",
        values=_trips,
    ),
    _Instrument(
        name="trips_by_rule",
        kind="counter",
        unit="{trip}",
        text="How many times each rule opened the CLOSED circuit.",
        values=_trips_by_rule,
    ),
    _Instrument(
        name="mode",
        kind="up_down_counter",
        unit="1",
        text="1 for the mode of the circuit, 0 for the others.",
        values=_mode,
    ),
    _Instrument(
        name="shared",
        kind="gauge",
        unit="1",
        text="1 while the circuit is shared with other processes, 0 while it is not.",
        values=_shared,
    ),
    _Instrument(
        name="throttled_tenants",
        kind="gauge",
        unit="{tenant}",
        text="Tenants that wait, because the region throttles them.",
        values=_throttled_tenants,
    ),
    _Instrument(
        name="throttled_tenants.longest_wait",
        kind="gauge",
        unit="s",
        text="Seconds that the last of the throttled tenants still waits.",
        values=_longest_wait,
    ),
    _Instrument(
        name="tenant_wait",
        kind="gauge",
        unit="s",
        text="Seconds that a throttled tenant still waits.",
        values=_tenant_wait,
    ),
    _Instrument(
        name="drain.backlog",
        kind="gauge",
        unit="{message}",
        text="Messages of an outage that wait, while they are worked off.",
        values=_drain_backlog,
    ),
    _Instrument(
        name="drain.rate",
        kind="gauge",
        unit="{request}/s",
        text="Requests a second at which the messages of an outage are worked off.",
        values=_drain_rate,
    ),
    _Instrument(
        name="drain.eta",
        kind="gauge",
        unit="s",
        text="Seconds until the messages of an outage are done.",
        values=_drain_eta,
    ),
)


# Message consumers


def _queue_callback(
    consumers: Iterable[HasStats], value_of: Callable[[QueueStats], float | None]
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def callback(_: CallbackOptions) -> Iterator[Observation]:
        for consumer in consumers:
            for stats in consumer.stats():
                value = value_of(stats)
                if value is not None:  # None: nothing was delivered until now
                    queue, region = display_name(stats.queue), display_name(stats.region)
                    yield Observation(value, {_QUEUE: queue, _REGION: region})

    return callback


@dataclass(frozen=True, slots=True)
class _QueueInstrument:
    name: str
    kind: Literal["counter", "gauge"]
    unit: str
    text: str
    value: Callable[[QueueStats], float | None]


_QUEUE_INSTRUMENTS = (
    _QueueInstrument(
        name="unacked",
        kind="gauge",
        unit="{message}",
        text="Messages that are delivered and not settled yet.",
        value=attrgetter("unacked"),
    ),
    _QueueInstrument(
        name="failed",
        kind="gauge",
        unit="{message}",
        text="Unacked messages that have failed and wait for another attempt.",
        value=attrgetter("failed"),
    ),
    _QueueInstrument(
        name="oldest_unacked_age",
        kind="gauge",
        unit="s",
        text="Seconds since the oldest unacked message was delivered.",
        value=attrgetter("oldest_unacked_age"),
    ),
    _QueueInstrument(
        name="last_delivery_age",
        kind="gauge",
        unit="s",
        text="Seconds since the last delivery.",
        value=attrgetter("last_delivery_age"),
    ),
    _QueueInstrument(
        name="deliveries",
        kind="counter",
        unit="{message}",
        text="Messages that were delivered.",
        value=attrgetter("deliveries"),
    ),
    _QueueInstrument(
        name="redeliveries",
        kind="counter",
        unit="{message}",
        text="Messages that were delivered, and had been delivered before.",
        value=attrgetter("redeliveries"),
    ),
    _QueueInstrument(
        name="parked",
        kind="counter",
        unit="{message}",
        text="Messages that were moved to wait queues.",
        value=attrgetter("parked"),
    ),
)
