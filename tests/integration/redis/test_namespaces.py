"""Half of a fleet is cut off from the store and the others; needs root and iproute2."""

import itertools

import pytest

from tests.soak import namespace_scenarios
from tests.soak.campaign import HalvesCampaign
from tests.support.needs import needs, needs_store
from tests.support.stores import SERVERS


@pytest.fixture(scope="module")
def campaign(request):
    needs("network namespaces")
    campaign = HalvesCampaign.of(request)
    yield campaign
    campaign.close()


# `make soak-redis` cuts each way on each server.
CUTS = list(zip(namespace_scenarios.CUTS, itertools.cycle(SERVERS), strict=False))


@pytest.mark.parametrize(("way", "server"), CUTS)
@pytest.mark.parametrize(
    "scenario", namespace_scenarios.SCENARIOS, ids=lambda scenario: scenario.__name__
)
def test_halves_that_are_cut_off_go_on(campaign, scenario, server, way):
    needs_store(server)
    campaign.result(scenario, server, way)
