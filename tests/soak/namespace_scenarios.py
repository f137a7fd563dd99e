"""What a fleet promises while half of it is cut off; run by the tests and `make soak`.

Each gives what it has measured: name -> seconds.
"""

import time

from tests.soak.fleet_scenarios import LEASE, POLICY, UNLESS_HUNG, trip
from tests.support.stores import until

# Ten times the figure.
AGREED = 20.0
NEAR, FAR = (0, 1), (2, 3)
CUTS = {"cable": ("cut", "heal"), "swallowed": ("swallow", "stop_swallowing")}


def halves_go_on_and_agree_again(hosts, way):
    """Each half goes on alone, and when they are healed they agree."""
    cut, heal = (getattr(hosts, name) for name in CUTS[way])
    regions = ["both", "far", "forced", "back", "well"]
    fleet = hosts.fleet(
        2,
        regions=regions,
        policy=POLICY,
        policies={"both": POLICY | {"recovery_timeout": 60.0}},
        sharing={"poll_interval": 1.0, "probe_lease": LEASE},
    )
    for region in regions:
        fleet.tell("traffic", region=region, tasks=2, every=0.05)
    _, backwards = trip(fleet, "back", then=fleet.hang)
    cut(2)
    mark = fleet.mark()
    lost = fleet.until(mark, "log", 2, text="sharing is lost")
    assert [entry["who"] for entry in lost] in ([2, 3], [3, 2])
    fleet.workers[0].tell("by_hand", region="forced", reason="maintenance")
    for who in FAR:
        fleet.down("far", who=who)
    fleet.down("both")
    fleet.up("back")
    fleet.until(mark, "OPEN", 4, region="both")
    fleet.until(mark, "OPEN", 2, region="far")
    fleet.until(mark, "OPEN", 2, region="forced")
    fleet.until(backwards, "CLOSED", 4, region="back")
    assert {entry["who"] for entry in fleet.since(mark, "OPEN", region="far")} == set(FAR)
    assert {entry["who"] for entry in fleet.since(mark, "OPEN", region="forced")} == set(NEAR)
    fleet.up("far")
    began, healed = time.monotonic(), fleet.mark()
    heal(2)
    back = fleet.until(healed, "log", 2, text="sharing is back")
    until(lambda: agree(fleet, regions), "the halves agree", AGREED)
    took = time.monotonic() - began
    for seen in fleet.tell("look"):
        states = {region: one["state"] for region, one in seen.items()}
        assert states["both"] == "OPEN"
        assert states["well"] == states["back"] == "CLOSED"
        assert seen["forced"]["reason"] == "forced open: maintenance"
    fleet.workers[3].tell("by_hand", region="forced")
    fleet.workers[0].tell("by_hand", region="both")
    fleet.up("both")
    until(lambda: all(set(said) == {"CLOSED"} for said in states_of(fleet).values()), "all close")
    assert fleet.since(0, "OPEN", region="well") == []
    return {"halves: back": back[-1]["t"] - began, "halves: agreed": took}


def of_the_near(fleet, mark, what):
    return [entry for entry in fleet.since(mark, what) if entry["who"] in NEAR]


def states_of(fleet):
    looks = fleet.tell("look")
    return {region: [seen[region]["state"] for seen in looks] for region in looks[0]}


def agree(fleet, regions):
    """Tell whether all say the same; who probes sees HALF_OPEN where the others see OPEN."""
    said = states_of(fleet)
    return fleet.all_shared() and all(
        len(set(said[region]) - {"HALF_OPEN"}) <= 1 for region in regions
    )


def a_holder_that_is_cut_off_closes_nobody(hosts, way):
    """Its lease goes to the other half, and what its probe reports is no more than its own."""
    cut, heal = (getattr(hosts, name) for name in CUTS[way])
    fleet = hosts.fleet(
        2,
        policy=UNLESS_HUNG | {"success_threshold": 1},
        sharing={"poll_interval": 1.0, "probe_lease": LEASE},
    )
    mark = fleet.mark()
    fleet.down()
    fleet.workers[2].tell("call", region="region", times=3)
    fleet.until(mark, "OPEN", 4)
    fleet.hang()
    mark = fleet.mark()
    fleet.workers[2].tell("traffic", region="region", tasks=2, every=0.05)
    (held,) = fleet.until(mark, "request")
    assert held["who"] == 2
    fleet.tell("traffic", region="region", tasks=2, every=0.05)
    cut(2)
    until(
        lambda: fleet.since(mark, "request", who=0) + fleet.since(mark, "request", who=1),
        "taken over",
        30,
    )
    fleet.up(who=2)
    fleet.until(mark, "answer", who=2)
    fleet.hang(who=2)
    healed = fleet.mark()
    heal(2)
    until(fleet.all_shared, "all share again", AGREED)
    until(lambda: "CLOSED" not in fleet.states(), "the holder's half believes the other", AGREED)
    assert of_the_near(fleet, mark, "CLOSED") == []
    fleet.up()
    fleet.until(healed, "CLOSED", 4)
    return {}


SCENARIOS = [halves_go_on_and_agree_again, a_holder_that_is_cut_off_closes_nobody]
