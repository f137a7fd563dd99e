"""What the exporters show of throttled tenants: their number, and their names only on request."""

import prometheus_client
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from resilience.integrations.opentelemetry import observe
from resilience.integrations.prometheus import CircuitCollector
from resilience.integrations.status_page.state import PageState
from tests.unit.tenants.conftest import REGION


@pytest.fixture(autouse=True)
def _throttled(breaker, clock):
    breaker.tenants.throttle("acme", 7)
    breaker.tenants.throttle("other", 20)
    clock.advance(2)


@pytest.mark.parametrize("show_tenants", [False, True])
def test_prometheus(registry, show_tenants):
    scraped = prometheus_client.CollectorRegistry()
    scraped.register(CircuitCollector(registry, show_tenants=show_tenants))

    def value(name, **labels):
        return scraped.get_sample_value(f"circuit_breaker_{name}", {"region": REGION, **labels})

    assert value("throttled_tenants") == 2
    assert value("throttled_tenants_longest_wait_seconds") == 18
    assert value("tenant_wait_seconds", tenant="acme") == (5 if show_tenants else None)


@pytest.mark.parametrize("show_tenants", [False, True])
def test_opentelemetry(registry, show_tenants):
    reader = InMemoryMetricReader()
    observe(registry, MeterProvider([reader]), show_tenants=show_tenants)
    (resource,) = reader.get_metrics_data().resource_metrics
    points = {
        metric.name: [(dict(point.attributes), point.value) for point in metric.data.data_points]
        for metric in resource.scope_metrics[0].metrics
    }
    here = {"circuit_breaker.region": REGION}
    assert points["circuit_breaker.throttled_tenants"] == [(here, 2)]
    assert points["circuit_breaker.throttled_tenants.longest_wait"] == [(here, 18)]
    named = [({**here, "circuit_breaker.tenant": name}, wait) for name, wait in WAITS.items()]
    assert points.get("circuit_breaker.tenant_wait", []) == (named if show_tenants else [])


WAITS = {"other": 18, "acme": 5}


@pytest.mark.parametrize("show_tenants", [False, True])
def test_the_status_page(registry, show_tenants):
    circuit = PageState(registry, show_tenants=show_tenants).circuits()[REGION]
    assert (circuit["throttled_tenants"], circuit["longest_wait"]) == (2, 18)
    assert circuit["tenant_waits"] == (WAITS if show_tenants else {})


def test_a_hundred_names_are_enough(registry, breaker):
    for number in range(150):
        breaker.tenants.throttle(f"tenant {number}", 100 + number)
    circuit = PageState(registry, show_tenants=True).circuits()[REGION]
    assert circuit["throttled_tenants"] == 152
    assert len(circuit["tenant_waits"]) == 100
    assert "tenant 149" in circuit["tenant_waits"]
    assert "tenant 0" not in circuit["tenant_waits"]
