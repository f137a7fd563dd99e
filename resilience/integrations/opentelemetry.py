"""OpenTelemetry: observable instruments, read when they are exported, and events on spans.

Needs the API only: ``pip install "region-breaker[opentelemetry]"``. Which SDK exports where is up
to the application.
"""

from collections.abc import Callable, Iterable, Iterator

from opentelemetry import trace
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter
from opentelemetry.util.types import AttributeValue

from resilience._lock import lock
from resilience.circuit import CircuitState, Rejection
from resilience.events import StateChanged
from resilience.integrations.metrics import MOVES, Reading, read, shown
from resilience.registry import CircuitBreakerRegistry

_REGION, _STATE = "circuit_breaker.region", "circuit_breaker.state"
_REASON, _RETRY_AFTER = "circuit_breaker.reason", "circuit_breaker.retry_after"
_FROM, _TO = "circuit_breaker.transition.from", "circuit_breaker.transition.to"

_Attributes = dict[str, AttributeValue]
_Figures = Callable[[Reading], Iterable[tuple[float, _Attributes]]]


def observe(registry: CircuitBreakerRegistry, meter_provider: MeterProvider | None = None) -> None:
    """Show every circuit of a registry as observable instruments; call it once.

    Args:
        registry: The breakers to show.
        meter_provider: Where to; None means the global one.
    """
    meter = get_meter("resilience", meter_provider=meter_provider)
    kinds = {
        "status": meter.create_observable_up_down_counter,
        "calls": meter.create_observable_counter,
        "transitions": meter.create_observable_counter,
        "probes": meter.create_observable_counter,
        "trips": meter.create_observable_counter,
    }
    for name, unit, text, figures in _INSTRUMENTS:
        create = kinds.get(name, meter.create_observable_gauge)
        create(f"circuit_breaker.{name}", [_callback(registry, figures)], unit, text)


def trace_circuits(registry: CircuitBreakerRegistry) -> Callable[[], None]:
    """Add an event to the current span for each rejected call and for each change of state.

    Args:
        registry: The breakers to trace.

    Returns:
        A function that ends it; calling it again does nothing.
    """

    def on_rejection(region: str, rejection: Rejection) -> None:
        state, reason, wait = rejection
        _add_event("rejected", region, {_STATE: state.value}, reason, wait)

    _watch(registry, lambda watchers: (*watchers, on_rejection))
    stop_listening = registry.listen(_on_transition)

    def stop() -> None:
        stop_listening()
        _watch(registry, lambda watchers: tuple(one for one in watchers if one is not on_rejection))

    return stop


_Watchers = tuple[Callable[..., object], ...]


def _watch(registry: CircuitBreakerRegistry, change: Callable[[_Watchers], _Watchers]) -> None:
    with lock:
        registry._listeners.watchers = change(registry._listeners.watchers)
        for breaker in registry._alive():
            breaker._circuit.keep_quiet()


def _on_transition(event: StateChanged) -> None:
    moved: _Attributes = {_FROM: event.old.value, _TO: event.new.value}
    _add_event("transition", event.region, moved, event.reason, event.retry_after)


def _add_event(
    name: str, region: str, attributes: _Attributes, reason: str | None, wait: float | None
) -> None:
    span = trace.get_current_span()
    if not span.is_recording():
        return
    known = {_REASON: reason, _RETRY_AFTER: wait}  # no attribute can be None
    more = {key: value for key, value in known.items() if value is not None}
    span.add_event(f"circuit_breaker.{name}", {_REGION: shown(region), **attributes, **more})


def _callback(
    registry: CircuitBreakerRegistry, figures: _Figures
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def callback(_: CallbackOptions) -> Iterator[Observation]:
        for reading in read(registry):
            for value, attributes in figures(reading):
                yield Observation(value, {_REGION: reading.name, **attributes})

    return callback


def _status(reading: Reading) -> Iterator[tuple[float, _Attributes]]:
    for state in CircuitState:
        yield int(reading.snapshot.state is state), {_STATE: state.value}


def _calls(reading: Reading) -> Iterator[tuple[float, _Attributes]]:
    for outcome, count in reading.calls().items():
        yield count, {"circuit_breaker.outcome": outcome}


def _transitions(reading: Reading) -> Iterator[tuple[float, _Attributes]]:
    for (old, new), count in zip(MOVES, reading.moves, strict=True):
        yield count, {_FROM: old.value, _TO: new.value}


def _retry_after(reading: Reading) -> Iterator[tuple[float, _Attributes]]:
    # Forced open there is no such time, and OpenTelemetry has no infinity that all back ends know.
    if reading.snapshot.retry_after is not None:
        yield reading.snapshot.retry_after, {}


def _shared(reading: Reading) -> Iterator[tuple[float, _Attributes]]:
    if reading.snapshot.shared is not None:
        yield int(reading.snapshot.shared), {}


_INSTRUMENTS: tuple[tuple[str, str, str, _Figures], ...] = (
    ("status", "1", "1 for the state that the circuit is in, else 0.", _status),
    ("calls", "{call}", "Calls by outcome; a rejected one was not made.", _calls),
    ("transitions", "{transition}", "Changes of state.", _transitions),
    ("retry_after", "s", "Seconds until a call may be admitted.", _retry_after),
    ("time_in_state", "s", "Seconds in the present state.", lambda one: ((one.seconds, {}),)),
    ("streak", "{failure}", "Consecutive failures.", lambda one: ((one.snapshot.streak, {}),)),
    ("probes", "{call}", "Calls admitted in HALF_OPEN.", lambda one: ((one.snapshot.probes, {}),)),
    ("trips", "{trip}", "Openings by failures.", lambda one: ((one.snapshot.trips, {}),)),
    ("shared", "1", "1 while it is shared with other processes; 0: goes alone.", _shared),
)
