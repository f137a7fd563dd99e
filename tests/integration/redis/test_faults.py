"""The store fails, lies and is late under fleets of real processes, with a circuit in each state.

The scenarios run side by side, for most of their time is waiting.
"""

import pytest

from tests.soak import fault_scenarios
from tests.soak.campaign import Campaign
from tests.support.needs import needs_store
from tests.support.stores import SERVERS

SCENARIOS = [*fault_scenarios.STORE_FAILS, *fault_scenarios.THE_STORE_LIES]


@pytest.fixture(scope="module")
def campaign(request):
    campaign = Campaign.of(request)
    yield campaign
    campaign.close()


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_fleet_goes_on_whatever_the_store_does(campaign, scenario, server):
    needs_store(server)
    campaign.result(scenario, server)
