"""A region that looks like one of Genesys Cloud, and is none of the 18, is logged once."""

import pytest

from resilience import CircuitBreakerRegistry
from resilience.genesys import KNOWN_REGIONS, GenesysRegion, canonical_region, looks_like_region

MISSPELLED = (
    "us-east-3",
    "us-esat-1",
    "EU_WEST_3",
    "api.mypurecloud.con",
    "https://api.mypurecloud.co.uk/api/v2",
    "api.euw4.pure.cloud",
    "use3.us-gov-pure.cloud",
    "login.usw9.pure.cloud",
)
OTHERS = (
    "somewhere",
    "eu",
    "shard-1",
    "us-east-1:tokens",
    "api.example.com",
    "purecloud",
    "orders-eu-west-9",
)


@pytest.fixture
def genesys(clock):
    return CircuitBreakerRegistry(normalize=canonical_region, clock=clock)


def warnings(log):
    return [entry["message"] for entry in log if entry["level"].name == "WARNING"]


@pytest.mark.parametrize("region", MISSPELLED)
def test_a_region_that_looks_misspelled_is_logged_once(genesys, log, region):
    for _ in range(3):
        genesys.get(region)
    (warning,) = warnings(log)
    assert region in warning
    assert "none of the 18" in warning


@pytest.mark.parametrize("region", OTHERS)
def test_a_region_of_another_kind_is_not(genesys, log, region):
    genesys.get(region)
    assert warnings(log) == []


def test_no_region_of_genesys_is(genesys, log):
    for region in GenesysRegion:
        for text in (region.value, region.api_url, region.login_url, region.domain, region.name):
            genesys.get(text)
    assert warnings(log) == []
    assert not any(map(looks_like_region, KNOWN_REGIONS))


def test_a_registry_for_something_else_knows_no_genesys(clock, log):
    CircuitBreakerRegistry(clock=clock).get("eu-north-1")
    assert warnings(log) == []


def test_names_without_end_are_logged_ten_times_at_most(genesys, log):
    for number in range(100):
        genesys.get(f"us-east-{number + 3}")
    assert len(warnings(log)) == 10


def test_a_region_that_was_evicted_is_not_logged_again(clock, log):
    registry = CircuitBreakerRegistry(normalize=canonical_region, max_regions=1, clock=clock)
    for _ in range(3):
        registry.get("us-east-3")
        registry.get("somewhere")
    assert len([text for text in warnings(log) if "none of the 18" in text]) == 1
