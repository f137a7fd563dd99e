"""Fleets of real processes on real stores: what all know, who probes, and what it costs the store.

The scenarios run side by side, for most of their time is waiting.
"""

import pytest

from tests.soak import edge_scenarios, fleet_scenarios
from tests.soak.campaign import Campaign
from tests.support.needs import needs_store
from tests.support.stores import SERVERS

SCENARIOS = [
    fleet_scenarios.all_open_and_all_close,
    fleet_scenarios.rare_calls_recover,
    fleet_scenarios.waiters_alone_recover,
    fleet_scenarios.one_sick_process_is_alone,
    fleet_scenarios.an_order_by_hand_is_the_fleets,
    fleet_scenarios.a_killed_holder_loses_its_lease,
    fleet_scenarios.a_stopped_holder_wakes_up_as_nobody,
    fleet_scenarios.a_hung_probe_loses_its_lease,
    fleet_scenarios.a_cancelled_probe_gives_its_place_back,
    *edge_scenarios.EDGES,
]


@pytest.fixture(scope="module")
def campaign(request):
    campaign = Campaign.of(request)
    yield campaign
    campaign.close()


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_fleet_keeps_its_promise(campaign, scenario, server):
    needs_store(server)
    campaign.result(scenario, server)
