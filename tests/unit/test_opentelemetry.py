"""OpenTelemetry: the same figures as observable instruments, and events on the current span."""

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from resilience import BreakerPolicy, CircuitBreakerOpenError, CircuitBreakerRegistry
from resilience.integrations.opentelemetry import observe, observe_consumers, trace_circuits
from resilience.integrations.prometheus import ConsumerCollector
from resilience.rules.trip import TripRule


class ServerError(Exception):
    status = 503


@pytest.fixture
def registry(clock):
    return CircuitBreakerRegistry(BreakerPolicy(failure_threshold=1), clock=clock)


@pytest.fixture
def export(registry):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    observe(registry, provider)

    def read():
        data = reader.get_metrics_data()
        if data is None:
            return {}
        (scope,) = data.resource_metrics[0].scope_metrics
        return {metric.name: metric for metric in scope.metrics}

    yield read
    provider.shutdown()


def points(metric):
    return {
        tuple(value for key, value in sorted(point.attributes.items())): point.value
        for point in metric.data.data_points
    }


def down(registry, name="a"):
    registry.get(name).acquire().fail(ServerError("Bearer hunter2"))


def reject(registry, name="a"):
    with pytest.raises(CircuitBreakerOpenError):
        registry.get(name).acquire()


def test_the_figures_equal_the_snapshots(registry, clock, export):
    for _ in range(5):
        registry.get("b").acquire().succeed()
    registry.get("b").acquire().answered()
    registry.get("b").acquire().ignore()
    down(registry)
    reject(registry)
    clock.advance(20)
    seen = {name: points(metric) for name, metric in export().items()}
    a, b = (registry.get(name).snapshot() for name in "ab")
    assert seen.pop("circuit_breaker.status") == {
        (name, state): int(one.state == state)
        for name, one in (("a", a), ("b", b))
        for state in ("CLOSED", "OPEN", "HALF_OPEN")
    }
    calls = seen.pop("circuit_breaker.calls")
    assert {key[::-1]: value for key, value in calls.items()} == {
        (name, outcome): value
        for name, one in (("a", a), ("b", b))
        for outcome, value in (
            ("success", one.successes),
            ("failure", one.failures),
            ("answered", one.answered),
            ("ignored", one.ignored),
            ("rejected", one.rejected),
        )
    }
    moves = seen.pop("circuit_breaker.transitions")
    assert {key: value for key, value in moves.items() if value} == {("a", "CLOSED", "OPEN"): 1}
    assert seen == {
        "circuit_breaker.retry_after": {("a",): 40.0, ("b",): 0.0},
        "circuit_breaker.forced_open": {("a",): 0, ("b",): 0},
        "circuit_breaker.time_in_state": {("a",): 20.0, ("b",): 20.0},
        "circuit_breaker.streak": {("a",): 1, ("b",): 0},
        "circuit_breaker.probes": {("a",): 0, ("b",): 0},
        "circuit_breaker.ignored_probes": {("a",): 0, ("b",): 0},
        "circuit_breaker.trips": {("a",): 1, ("b",): 0},
        "circuit_breaker.trips_by_rule": {
            (name, rule.value): int((name, rule) == ("a", TripRule.STREAK))
            for name in "ab"
            for rule in TripRule
        },
        "circuit_breaker.mode": {
            (mode, name): int(mode == "enforce")
            for name in "ab"
            for mode in ("enforce", "observe", "off")
        },
        "circuit_breaker.throttled_tenants": {("a",): 0, ("b",): 0},
        "circuit_breaker.throttled_tenants.longest_wait": {("a",): 0.0, ("b",): 0.0},
    }


def test_kinds_and_units_are_as_opentelemetry_wants_them(registry, export):
    registry.get("a")
    kinds = {
        name.removeprefix("circuit_breaker."): (
            metric.unit,
            getattr(metric.data, "is_monotonic", None),
        )
        for name, metric in export().items()
    }
    assert kinds == {
        "status": ("1", False),
        "calls": ("{call}", True),
        "transitions": ("{transition}", True),
        "probes": ("{call}", True),
        "ignored_probes": ("{call}", None),
        "trips": ("{trip}", True),
        "trips_by_rule": ("{trip}", True),
        "mode": ("1", False),
        "streak": ("{failure}", None),
        "retry_after": ("s", None),
        "forced_open": ("1", None),
        "time_in_state": ("s", None),
        "throttled_tenants": ("{tenant}", None),
        "throttled_tenants.longest_wait": ("s", None),
    }


def test_probes_that_say_nothing_are_shown_while_it_is_half_open(registry, clock, export):
    down(registry)
    clock.advance(60)
    for number in range(12):
        assert points(export()["circuit_breaker.ignored_probes"]) == {("a",): number}
        registry.get("a").acquire().ignore()


def test_a_forced_opening_has_no_retry_after(registry, export):
    registry.get("a").force_open("a test")
    assert "circuit_breaker.retry_after" not in export()
    assert points(export()["circuit_breaker.forced_open"]) == {("a",): 1}


def test_a_region_that_is_evicted_disappears(registry, export):
    registry.configure(max_regions=1)
    registry.get("a")
    assert points(export()["circuit_breaker.streak"]) == {("a",): 0}
    registry.get("b")
    assert points(export()["circuit_breaker.streak"]) == {("b",): 0}


# Spans


@pytest.fixture
def tracer():
    provider = TracerProvider()
    yield provider.get_tracer("test")
    provider.shutdown()


def told(span):
    return [(event.name, dict(event.attributes)) for event in span.events]


REJECTED = (
    "circuit_breaker.rejected",
    {
        "circuit_breaker.region": "a",
        "circuit_breaker.state": "OPEN",
        "circuit_breaker.reason": "ServerError 503",
        "circuit_breaker.retry_after": 60.0,
    },
)


def test_the_span_of_a_call_shows_what_its_circuit_did(registry, tracer):
    trace_circuits(registry)
    with tracer.start_as_current_span("call") as span:
        down(registry)
        reject(registry)
        reject(registry)
    assert told(span) == [
        (
            "circuit_breaker.transition",
            {
                "circuit_breaker.region": "a",
                "circuit_breaker.transition.from": "CLOSED",
                "circuit_breaker.transition.to": "OPEN",
                "circuit_breaker.mode": "enforce",
                "circuit_breaker.rule": "streak",
                "circuit_breaker.reason": "ServerError 503",
                "circuit_breaker.retry_after": 60.0,
            },
        ),
        REJECTED,
        REJECTED,
    ]


def test_rejections_are_seen_from_the_moment_somebody_traces(registry, tracer):
    down(registry)
    reject(registry)
    trace_circuits(registry)
    with tracer.start_as_current_span("call") as span:
        reject(registry)
    assert told(span) == [REJECTED]


def test_a_forced_opening_says_no_time(registry, tracer):
    trace_circuits(registry)
    with tracer.start_as_current_span("operator") as span:
        registry.get("a").force_open("a test")
    ((_, attributes),) = told(span)
    assert "circuit_breaker.rule" not in attributes
    with tracer.start_as_current_span("call") as span:
        reject(registry)
    ((_, attributes),) = told(span)
    assert "circuit_breaker.retry_after" not in attributes


def test_stopping_ends_it_and_leaves_the_others(registry, tracer):
    stop, _ = trace_circuits(registry), trace_circuits(registry)
    stop()
    stop()
    with tracer.start_as_current_span("call") as span:
        down(registry)
        reject(registry)
    assert [name for name, _ in told(span)] == [
        "circuit_breaker.transition",
        "circuit_breaker.rejected",
    ]


def test_without_a_span_nothing_happens(registry):
    trace_circuits(registry)
    down(registry)
    reject(registry)


# Several registries


def test_several_registries_are_told_apart_by_an_attribute():
    tokens, messages = (CircuitBreakerRegistry(name=name) for name in ("tokens", "messages"))
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    observe([tokens, messages], provider)
    tokens.get("a")
    messages.get("a")
    (scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
    (streak,) = (one for one in scope.metrics if one.name == "circuit_breaker.streak")
    assert {tuple(sorted(point.attributes.items())) for point in streak.data.data_points} == {
        (("circuit_breaker.region", "a"), ("circuit_breaker.registry", "messages")),
        (("circuit_breaker.region", "a"), ("circuit_breaker.registry", "tokens")),
    }
    provider.shutdown()


def test_a_span_names_a_registry_that_has_a_name(tracer, clock):
    policy = BreakerPolicy(failure_threshold=1)
    tokens = CircuitBreakerRegistry(policy, clock=clock, name="tokens")
    default = CircuitBreakerRegistry(policy, clock=clock, name="default")
    stop = trace_circuits([tokens, default])
    with tracer.start_as_current_span("call") as span:
        for registry in (tokens, default):
            down(registry)
            reject(registry)
        stop()
        reject(tokens)
    assert [attributes.get("circuit_breaker.registry") for _, attributes in told(span)] == [
        "tokens",
        "tokens",
        None,
        None,
    ]


def test_what_is_not_a_registry_or_several_is_an_error():
    with pytest.raises(TypeError, match="or several of them"):
        observe("tokens")
    with pytest.raises(ValueError, match="different names"):
        trace_circuits([CircuitBreakerRegistry(), CircuitBreakerRegistry()])


@pytest.mark.parametrize("export_from", [observe_consumers, ConsumerCollector])
def test_what_has_no_figures_of_queues_is_refused_before_it_is_read(registry, export_from):
    class Consumer:
        def stats(self):
            return ()

    export_from(Consumer())
    for wrong, kind in ((registry, "CircuitBreakerRegistry"), (Consumer, "the class .*Consumer")):
        with pytest.raises(TypeError, match=f"consumers must be message consumers.*got {kind}"):
            export_from(Consumer(), wrong)
