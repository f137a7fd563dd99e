"""What it costs to be seen or shared: not one instruction of Python for a call that goes well.

`make bench-count` and `make soak-redis` count those of the machine, which takes minutes.
"""

import sys

import prometheus_client
import pytest
from opentelemetry.sdk.metrics import MeterProvider

from resilience import BreakerPolicy, CircuitBreakerOpenError, CircuitBreakerRegistry
from resilience.integrations.opentelemetry import observe, trace_circuits
from resilience.integrations.prometheus import CircuitCollector
from resilience.integrations.redis import RedisSharing
from resilience.integrations.status_page import status_page
from resilience.integrations.status_page.state import PageState
from resilience.integrations.status_page.stream import Stream
from tests.support.stores import serving, until


@pytest.fixture
def registry():
    return CircuitBreakerRegistry(BreakerPolicy(failure_threshold=1))


def attach(registry):
    prometheus_client.CollectorRegistry().register(CircuitCollector(registry))
    observe(registry, MeterProvider())
    trace_circuits(registry)
    status_page(registry)
    registry.listen(Stream(PageState(registry), max_listeners=1).publish)


def instructions(call):
    """Count the instructions of the interpreter that a call executes."""
    count_once(call)  # Python 3.12.1 counts none the first time that a program counts
    # The garbage of other tests may be collected in the middle of a call, and runs their code.
    return min(count_once(call) for _ in range(5))


def count_once(call):
    counted = 0

    def trace(frame, event, _):
        nonlocal counted
        frame.f_trace_opcodes = True
        counted += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return counted


def test_a_call_costs_the_same_with_every_exporter_attached(registry):
    guarded = registry.get("a")(lambda: None)
    guarded()
    alone = instructions(guarded)
    attach(registry)
    assert instructions(guarded) == alone
    assert 0 < alone < 200


def test_a_rejection_that_nobody_traces_costs_the_same_too(registry):
    breaker = registry.get("a")
    breaker.acquire().fail()

    def reject():
        with pytest.raises(CircuitBreakerOpenError):
            breaker.acquire()

    reject()  # the one that is logged
    alone = instructions(reject)
    prometheus_client.CollectorRegistry().register(CircuitCollector(registry))
    observe(registry, MeterProvider())
    status_page(registry)
    assert instructions(reject) == alone


@pytest.fixture
def store(tmp_path):
    with serving("valkey", tmp_path) as store:
        yield store


def test_a_call_costs_the_same_when_its_circuit_is_shared(registry, store):
    guarded = registry.get("a")(lambda: None)
    guarded()
    shared = CircuitBreakerRegistry(sharing=RedisSharing(store.url))
    until(lambda: shared.get("a").snapshot().shared, "it is shared")
    guarded_and_shared = shared.get("a")(lambda: None)
    guarded_and_shared()
    assert instructions(guarded_and_shared) == instructions(guarded)
    shared.close()
