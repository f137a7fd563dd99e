"""`registry.isolated`: what is set aside, what goes on, and what comes back."""

import pytest

from resilience import CircuitBreakerRegistry, region_breaker
from resilience.genesys import canonical_region
from tests.support.recorded_traffic import read_regions


@pytest.fixture
def registry(clock):
    registry = CircuitBreakerRegistry(clock=clock)
    yield registry
    registry.clear()


def test_a_recording_has_nothing_of_what_happens_in_the_block(registry, tmp_path):
    recording = registry.record(tmp_path / "outcomes")
    registry.get("eu-west-1").acquire().succeed()
    with registry.isolated():
        registry.get("eu-west-1").acquire().fail()
        registry.get("us-east-1").acquire().fail()
    registry.get("eu-west-1").acquire().succeed()
    recording.close()
    regions = read_regions(tmp_path / "outcomes")
    assert {region: len(one.words) for region, one in regions.items()} == {"eu-west-1": 2}


def test_a_recording_of_the_block_ends_with_it(registry, tmp_path):
    with registry.isolated():
        recording = registry.record(tmp_path / "inside")
        registry.get("eu-west-1").acquire().succeed()
    assert not recording.is_open
    assert len(read_regions(tmp_path / "inside")["eu-west-1"].words) == 1
    registry.record(tmp_path / "outside").close()


def test_a_recording_that_is_closed_in_the_block_is_over_afterwards(registry, tmp_path):
    recording = registry.record(tmp_path / "outcomes")
    breaker = registry.get("eu-west-1")
    with registry.isolated():
        recording.close()
    assert breaker.closed is not None
    registry.record(tmp_path / "next").close()


def test_functions_with_tenants_use_them_in_the_block_as_well(registry):
    @region_breaker(region_from="region", tenant_from="tenant", registry=registry)
    def send(region, tenant):
        return region, tenant

    with registry.isolated():
        assert send("eu-west-1", "acme") == ("eu-west-1", "acme")
        assert registry.get("eu-west-1").uses_tenants


def test_each_block_logs_what_is_logged_once_by_itself(log):
    registry = CircuitBreakerRegistry(normalize=canonical_region, max_regions=1)
    for _ in range(2):
        with registry.isolated():
            registry.get("eu-west-99")
            registry.get("eu-west-1")
    registry.get("eu-west-99")
    lines = [record["message"] for record in log]
    assert len([line for line in lines if "is it misspelled?" in line]) == 3
    assert len([line for line in lines if "has evicted one" in line]) == 2
