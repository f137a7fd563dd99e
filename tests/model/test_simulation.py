"""A fleet and an outage on virtual time: what sharing promises, at a size that a test can hold."""

from dataclasses import replace

import pytest
from loguru import logger

from benchmarks import simulate
from benchmarks.simulation.agenda import Agenda
from benchmarks.simulation.store import Costs
from benchmarks.simulation.world import Plan, play

FLEET = Plan(processes=100, shares=True)


@pytest.fixture(scope="module", autouse=True)
def no_log():
    """Keep thousands of lines out of the reports."""
    logger.disable("resilience")
    yield
    logger.enable("resilience")


@pytest.fixture(scope="module")
def shared():
    return play(FLEET)


@pytest.fixture(scope="module")
def alone():
    return play(replace(FLEET, shares=False))


def test_a_fleet_that_shares_sends_a_small_part_of_the_requests(shared, alone):
    assert shared.requests * 20 < alone.requests


def test_a_fleet_that_shares_probes_as_one_process_does(shared, alone):
    # One that fails, since the region is still down, and three that close the circuit.
    assert shared.probes == 4
    assert alone.probes == 4 * FLEET.processes


def test_a_fleet_never_makes_two_probes_at_a_time(shared, alone):
    assert shared.probes_at_a_time == 1
    assert alone.probes_at_a_time > 1


def test_all_open_and_close_as_soon_as_a_notification_takes(shared, alone):
    assert shared.all_open < 0.05 < alone.all_open
    assert shared.all_closed < 0.05 < alone.all_closed


def test_all_that_opened_close_again(shared, alone):
    closed = [figures.first_closed + figures.all_closed for figures in (shared, alone)]
    assert max(closed) < FLEET.most


def test_a_process_sends_two_commands_in_five_seconds(shared, alone):
    assert shared.idle <= 0.5 * FLEET.processes
    assert alone.peak == 0


def test_the_same_seed_gives_the_same_figures_and_another_gives_others(shared):
    assert play(FLEET) == shared
    assert play(replace(FLEET, seed=2)) != shared


@pytest.mark.parametrize("seed", [1, 2])
def test_rare_calls_recover_with_few_probes_at_a_time(seed):
    # Each process calls less often than an unused lease is kept, all of them together much more
    # often, and notifications take a while: processes that call before they arrive probe too.
    rare = replace(FLEET, processes=60, rate=0.8, seed=seed)
    figures = play(rare, Costs(network=0.03))
    assert figures.probes_at_a_time <= 4
    assert figures.probes < rare.processes / 3
    assert figures.first_closed + figures.all_closed < rare.most


def test_a_store_that_is_too_slow_is_as_good_as_none():
    costs = Costs(network=1.0)
    slow = play(replace(FLEET, processes=20), costs)
    assert slow.lost > 100
    assert slow.probes_at_a_time > 1
    assert slow.first_closed + slow.all_closed < FLEET.most


@pytest.fixture(scope="module")
def restarted():
    return play(replace(FLEET, processes=30, regions=18, restart_at=30.0))


def test_all_regions_open_and_close_with_three_probes_each_across_a_restart(restarted):
    assert restarted.probes_at_a_time == 1
    assert restarted.probes == 18 * 4
    assert max(restarted.all_open, restarted.all_closed) < 0.05


def test_no_process_is_alone_for_long_after_a_restart(restarted):
    assert restarted.lost >= 30
    assert 1.0 < restarted.alone < 5.0 + 2.0


def test_a_notification_spares_the_read_in_the_common_case(shared):
    # Polls and pings, which are far apart, and what a few processes have to say.
    assert shared.peak < 2 * FLEET.processes


def test_actions_of_one_moment_happen_in_the_order_of_their_entry():
    agenda, happened = Agenda(), []
    agenda.after(1.0, lambda: happened.append("second"))
    agenda.at(0.5, lambda: agenda.at(0.0, lambda: happened.append(f"first, at {agenda.now}")))
    agenda.at(1.0, lambda: happened.append("third"))
    agenda.run(until=1.0)
    assert happened == ["first, at 0.5", "second", "third"]


def test_the_page_has_a_row_for_each_fleet(shared, alone):
    table = simulate.at_the_region([("alone", alone), ("shared", shared)]).splitlines()
    assert len({row.count("|") for row in table}) == 1
    assert f"| alone | {alone.requests:,} | {alone.probes:,} |" in table[2]
    assert f"| shared | {shared.requests:,} | {shared.probes:,} |" in table[3]
    assert f"| shared | {shared.idle:,.0f} |" in simulate.at_the_store([("shared", shared)])
    table = simulate.with_all_regions([("1,000", shared)]).splitlines()
    assert len({row.count("|") for row in table}) == 1
    plans = {simulate.work_of(plan) for plan in simulate.all_regions()}
    assert max(plans) == 18 * 10_000 * simulate.PLAN.rate
