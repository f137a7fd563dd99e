"""No message lost, none spinning: every promise to message workers, on a real broker.

The scenarios are played by workers in their own processes (tests/soak/rabbitmq_scenarios.py). Most
of them wait most of the time, and are therefore played at the same time, before the first test. The
soak plays the same ones longer and more often, and writes down the figures.
"""

import asyncio

import pytest

from tests.soak import rabbitmq_scenarios as scenarios
from tests.support import rabbitmq_broker
from tests.support.needs import needs

pytestmark = pytest.mark.timeout(300)  # a watchdog: the first test waits for all scenarios

KINDS, LAYOUTS = ("quorum", "classic"), ("region", "shared")
# How many probes fail before the region comes back.
OUTAGES = {
    "quorum, prefetch 10": {"prefetch": 10, "probes": 6},
    "quorum, prefetch 50": {"prefetch": 50, "probes": 6},
    "quorum, prefetch 1, long": {"prefetch": 1, "probes": 12, "count": 100},
    "classic": {"kind": "classic", "probes": 6},
    "the literal way, long": {"layout": "literal", "prefetch": 50, "probes": 12},
}
MOST_DELIVERIES = dict(zip(OUTAGES, (4, 4, 6, 4, 5), strict=True))
KILLS = {
    "first requests, region": {"layout": "region", "moment": "first requests"},
    "probing, region": {"layout": "region", "moment": "probing"},
    "growing, region": {"layout": "region", "moment": "growing"},
    "moving, shared": {"layout": "shared", "moment": "moving"},
    "waiting, shared": {"layout": "shared", "moment": "waiting"},
    "draining, shared": {"layout": "shared", "moment": "draining"},
}
SHARED = {
    f"{kind}, prefetch {prefetch}, {circuit} at the start": {
        "kind": kind,
        "prefetch": prefetch,
        "circuit": circuit,
        "probes": 2,
    }
    for kind in KINDS
    for prefetch in (1, 10, 50)
    for circuit in ("OPEN", "CLOSED")
}
KILLED_AGAIN = {f"killed ten times, prefetch {n}": {"prefetch": n, "down": None} for n in (1, 50)}
WAITING_PROBES = 5
BROKER_KILLED = [{"layout": layout, "kind": kind} for layout in LAYOUTS for kind in KINDS]
ABOUT_KILLS = [*KILLS, *KILLED_AGAIN]


def plays(url):
    """Name all that is played at once."""
    plays = {name: scenarios.outage(url, **how) for name, how in OUTAGES.items()}
    plays |= {f"poison, {kind}": scenarios.poison(url, kind=kind, probes=3) for kind in KINDS}
    more = {"count": 100, "poisoned": 15, "probes": 3}
    plays |= {f"15 poison, {at}": scenarios.poison(url, layout=at, **more) for at in LAYOUTS}
    plays |= {name: scenarios.killed(url, **how) for name, how in KILLS.items()}
    plays |= {name: scenarios.shared(url, **how) for name, how in SHARED.items()}
    again = scenarios.killed_again_and_again
    plays |= {name: again(url, **how) for name, how in KILLED_AGAIN.items()}
    for at in LAYOUTS:
        plays[f"growth, {at}"] = scenarios.growth(url, layout=at, probes=3)
    return plays | {"waiting": scenarios.waiting(url, probes=WAITING_PROBES)}


async def play_at_once(plays):
    results = await asyncio.gather(*plays.values(), return_exceptions=True)
    return dict(zip(plays, results, strict=True))


@pytest.fixture(scope="module")
def url(request):
    needs("rabbitmq-server")
    return request.getfixturevalue("shared_broker").url


@pytest.fixture(scope="module")
def played(url):
    """Play everything at once, and give what became of it by name."""
    results = asyncio.run(play_at_once(plays(url)))

    def give(name):
        result = results[name]
        if isinstance(result, BaseException):
            raise result
        print(f"\n{name}: {result}")
        return result

    return give


def nothing_is_lost(report):
    return (report.lost, report.dead_lettered, report.left) == (0, 0, 0)


# One region, one queue


@pytest.mark.parametrize("name", OUTAGES)
def test_in_an_outage_no_message_is_lost_or_dead_lettered_and_few_come_twice(played, name):
    report = played(name)
    assert nothing_is_lost(report)
    assert (report.delivered, report.duplicates) == (OUTAGES[name].get("count", 500), 0)
    assert report.most_deliveries <= MOST_DELIVERIES[name]


@pytest.mark.parametrize("name", OUTAGES)
def test_after_the_trip_there_is_one_request_for_each_probe_and_for_calls_under_way(played, name):
    report = played(name)
    under_way = OUTAGES[name].get("prefetch", 10) - 1
    assert report.probes >= OUTAGES[name]["probes"]
    # The last probe may come when the region is back already.
    assert report.probes - 1 <= report.after_the_trip <= report.probes + under_way


@pytest.mark.parametrize("kind", KINDS)
def test_a_poison_message_at_the_head_does_not_keep_the_circuit_from_closing(played, kind):
    report = played(f"poison, {kind}")
    assert report.failed_before <= 2, "three recovery timeouts"
    assert (report.delivered, report.left, report.lost, report.dead_lettered) == (499, 1, 0, 0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_more_poison_messages_than_are_held_do_not_either(played, layout):
    report = played(f"15 poison, {layout}")
    assert (report.delivered, report.left, report.lost, report.dead_lettered) == (85, 15, 0, 0)


# Several regions, one queue


@pytest.mark.parametrize("name", ["waiting", *SHARED])
def test_no_moved_message_is_acked_before_the_broker_has_its_copy(played, name):
    assert played(name).acked_too_early == 0


def test_messages_in_a_wait_queue_cost_nothing(played):
    report = played("waiting")
    assert nothing_is_lost(report)
    assert report.moved == report.delivered == 2000
    assert report.deliveries_while_waiting <= 2 * (WAITING_PROBES + 1)


@pytest.mark.parametrize("name", SHARED)
def test_healthy_messages_behind_dead_ones_do_not_wait_for_them(played, name):
    report = played(name)
    # How long they take is measured by the soak. Here it is that nothing goes round in front of
    # them, and that until they were through the dead ones were attempted only to open the circuit.
    assert report.from_the_shared_queue == 100
    assert report.attempts < 10 + SHARED[name]["prefetch"]
    assert nothing_is_lost(report)
    assert (report.delivered, report.duplicates) == (100, 0)
    assert report.most_deliveries <= 5


# Kills


@pytest.mark.parametrize("name", ABOUT_KILLS)
def test_a_killed_worker_loses_no_message(played, name):
    report = played(name)
    assert nothing_is_lost(report)
    assert report.delivered == report.messages


@pytest.mark.parametrize("name", ABOUT_KILLS)
def test_a_killed_worker_leaves_no_more_duplicates_than_it_had_calls(played, name):
    kills, prefetch = (1, 10) if name in KILLS else (10, KILLED_AGAIN[name]["prefetch"])
    assert played(name).duplicates <= kills * prefetch


@pytest.fixture(scope="module")
def survived():
    """Kill and start one broker under workers of both layouts, with both kinds of queues."""
    needs("rabbitmq-server of its own")
    broker = rabbitmq_broker.started_broker()
    try:
        return asyncio.run(scenarios.broker_killed_under(broker, BROKER_KILLED))
    finally:
        broker.close()


@pytest.mark.parametrize("at", range(len(BROKER_KILLED)), ids=[str(c) for c in BROKER_KILLED])
def test_a_killed_broker_loses_no_message_and_workers_go_on_by_themselves(survived, at):
    report = survived[at]
    print(f"\n{BROKER_KILLED[at]}: {report}")
    assert nothing_is_lost(report)
    assert report.delivered == report.messages


# After the recovery


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_region_that_has_recovered_gets_no_more_concurrent_calls_than_its_step(played, layout):
    report = played(f"growth, {layout}")
    assert report.too_many == 0
    assert nothing_is_lost(report)
    assert report.delivered == report.messages
    assert report.trips == 0


@pytest.mark.parametrize(
    ("successes", "allowed"), [(0, 1), (1, 2), (2, 2), (3, 4), (6, 4), (7, 8), (15, 10)]
)
def test_the_steps_are_earned_by_as_many_successes(successes, allowed):
    assert scenarios.step(successes, prefetch=10) == allowed


# The naive loop, for comparison


def test_the_naive_loop_loses_what_the_scenarios_would_see(url):
    report = asyncio.run(scenarios.naive(url, down=None, count=100))
    print(f"\nnaive: {report}")
    assert report.dead_lettered > 0
    assert report.most_deliveries > scenarios.LIMIT
