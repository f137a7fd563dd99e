"""Half of a fleet is cut off from the store and the others; needs root and iproute2."""

import itertools
import os

import pytest

from tests import conftest
from tests.soak import namespace_scenarios
from tests.soak.campaign import HalvesCampaign
from tests.support import namespaces
from tests.support.stores import binaries


@pytest.fixture(scope="module")
def campaign(request):
    if not namespaces.available():
        assert not os.environ.get("CI"), "CI is root and installs iproute2"
        conftest.MISSING.add("a right to make network namespaces, or iproute2,")
        pytest.skip("no network namespaces can be made here")
    campaign = HalvesCampaign.of(request)
    yield campaign
    campaign.close()


# `make soak-redis` cuts each way on each server.
CUTS = list(zip(namespace_scenarios.CUTS, itertools.cycle(binaries()), strict=False))


@pytest.mark.parametrize(("way", "server"), CUTS)
@pytest.mark.parametrize(
    "scenario", namespace_scenarios.SCENARIOS, ids=lambda scenario: scenario.__name__
)
def test_halves_that_are_cut_off_go_on(campaign, scenario, server, way):
    campaign.result(scenario, server, way)
