"""Half of a fleet is cut off from the store and the others; needs root and iproute2."""

import os

import conftest
import namespace_scenarios
import namespaces
import pytest
from campaign import HalvesCampaign
from stores import binaries

SCENARIOS = [
    namespace_scenarios.halves_go_on_and_agree_again,
    namespace_scenarios.a_holder_that_is_cut_off_closes_nobody,
]


@pytest.fixture(scope="module")
def campaign(request):
    if not namespaces.available():
        assert not os.environ.get("CI"), "CI is root and installs iproute2"
        conftest.MISSING.add("a right to make network namespaces, or iproute2,")
        pytest.skip("no network namespaces can be made here")
    campaign = HalvesCampaign.of(request)
    yield campaign
    campaign.close()


@pytest.mark.parametrize("server", binaries())
@pytest.mark.parametrize("way", namespace_scenarios.CUTS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_halves_that_are_cut_off_go_on(campaign, scenario, server, way):
    campaign.result(scenario, server, way)
