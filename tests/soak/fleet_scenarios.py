"""What a fleet promises while the store is there; each is run by the tests and by `make soak`.

Each asserts order and counts, and returns what it has measured: name -> seconds. Only the soak
compares that with what is promised.
"""

import time

from tests.support.stores import until
from tests.support.workers import at_a_time

LEASE, POLICY = 2.0, {"failure_threshold": 3, "recovery_timeout": 1.0}
UNLESS_HUNG = POLICY | {"probe_timeout": 60.0}


def trip(fleet, region="region", *, then):
    """Let a region go down until all have opened and nothing is on its way; then do `then`.

    Gives the openings, and the place in the journal from where there are only probes.
    """
    mark = fleet.mark()
    fleet.down(region)
    opened = fleet.until(mark, "OPEN", len(fleet.workers), region=region)
    until(lambda: nothing_on_its_way(fleet, region), "all calls have ended")
    then(region)
    return opened, fleet.mark()


def nothing_on_its_way(fleet, region="region"):
    return len(fleet.since(0, "request", region=region)) == len(
        fleet.since(0, "answer", region=region)
    )


def spread(entries):
    """Give the time from the first to the last."""
    return entries[-1]["t"] - entries[0]["t"]


def probes(fleet, mark, region="region"):
    """Give what reached the region from there until the first circuit closed."""
    seen = fleet.since(mark, "request", "answer", "CLOSED", region=region)
    first = next(place for place, entry in enumerate(seen) if entry["what"] == "CLOSED")
    return seen[:first]


def check_probes(fleet, mark, region="region"):
    """See that there were three, one at a time; where no answer comes in time, three of each."""
    seen = probes(fleet, mark, region)
    alone = 1 if fleet.calm(mark) else len(fleet.workers)
    story = [(round(entry["t"] - seen[0]["t"], 3), entry["who"], entry["what"]) for entry in seen]
    assert 3 <= requests(seen) <= 3 * alone, story
    assert at_a_time(seen) <= alone, story


def requests(entries):
    return sum(entry["what"] == "request" for entry in entries)


# All know what one knows


def all_open_and_all_close(site):
    """8 processes of 50 tasks: all open with the first, 3 probes, all close with the first."""
    fleet = site.fleet(8, policy={"failure_threshold": 10, "recovery_timeout": 1.0})
    fleet.tell("traffic", region="region", tasks=50, every=0.5)
    opened, mark = trip(fleet, then=fleet.up)
    closed = fleet.until(mark, "CLOSED", 8)
    check_probes(fleet, mark)
    assert any(entry["by"] is None for entry in opened)
    closers = sum(entry["by"] is None for entry in closed)
    assert closers == 1 or not fleet.calm(mark)
    return {"all open": spread(opened), "all closed": spread(closed)}


def rare_calls_recover(site, every=2.0):
    """A rare call in each of 8 processes: closed within two intervals, at most 6 requests."""
    fleet = site.fleet(8, policy=POLICY)
    fleet.down()
    fleet.workers[0].tell("call", region="region", times=3)
    fleet.until(0, "OPEN", 8)
    fleet.up()
    mark, began = fleet.mark(), time.monotonic()
    for place, worker in enumerate(fleet.workers):
        phase = 1.0 + every * place / len(fleet.workers)
        worker.tell("traffic", region="region", tasks=1, every=every, phase=phase)
    closed = fleet.until(mark, "CLOSED", 8)
    assert requests(probes(fleet, mark)) <= 6
    return {"rare calls: closed": closed[0]["t"] - began}


def waiters_alone_recover(site):
    """Nobody calls, all wait: the circuit closes."""
    fleet = site.fleet(4, policy=POLICY)
    fleet.down()
    fleet.workers[0].tell("call", region="region", times=3)
    fleet.until(0, "OPEN", 4)
    fleet.up()
    mark = fleet.mark()
    fleet.tell("waiters", region="region", tasks=5)
    closed = fleet.until(mark, "CLOSED", 4)
    check_probes(fleet, mark)
    return {"waiters: closed": closed[0]["t"] - fleet.since(0, "OPEN")[0]["t"] - 1.0}


def one_sick_process_is_alone(site):
    """With quorum=2 one sick process opens nobody but itself; a second one opens all."""
    fleet = site.fleet(4, policy=POLICY | {"recovery_timeout": 0.5}, sharing={"quorum": 2})
    fleet.tell("traffic", region="region", tasks=4, every=0.05)
    fleet.down(who=0)
    until(lambda: len(fleet.since(0, "OPEN", who=0)) >= 3, "it fails its probes, alone")
    fleet.up()
    fleet.until(fleet.mark(), "CLOSED", who=0)
    assert {entry["who"] for entry in fleet.since(0, "OPEN", "HALF_OPEN", "CLOSED")} == {0}
    mark = fleet.mark()
    fleet.down(who=1)
    fleet.until(mark, "OPEN", who=1)
    fleet.down(who=2)
    opened = fleet.until(mark, "OPEN", 4)
    fleet.up()
    fleet.until(fleet.journal().index(opened[-1]), "CLOSED", 4)
    return {}


def an_order_by_hand_is_the_fleets(site):
    """What one forces open or resets, all force open or reset."""
    fleet = site.fleet(4, policy=POLICY)
    fleet.tell("traffic", region="region", tasks=2, every=0.02)
    fleet.workers[1].tell("by_hand", region="region", reason="maintenance")
    opened = fleet.until(0, "OPEN", 4)
    assert sum(entry["by"] is None for entry in opened) == 1
    looks = fleet.tell("look")
    assert [seen["region"]["retry_after"] for seen in looks] == [None] * 4
    mark = fleet.mark()
    for worker in fleet.workers:
        wait_for_rejections(fleet, worker.who, 100)
    assert fleet.since(mark, "request") == []
    fleet.workers[2].tell("by_hand", region="region")
    closed = fleet.until(mark, "CLOSED", 4)
    assert len(closed) == 4
    return {"forced": spread(opened), "reset": spread(closed)}


# Who probes goes away


def next_probe(fleet, mark):
    """Wait for the next probe; None where no answer came in time, so that several probe."""
    probe, *others = fleet.until(mark, "request")
    if not others:
        return probe
    assert not fleet.calm(mark)
    return None


def a_killed_holder_loses_its_lease(site, rounds=3, lease=LEASE):
    """Another process probes within the lease plus 1 s."""
    fleet = site.fleet(rounds + 2, policy=UNLESS_HUNG, sharing={"probe_lease": lease})
    fleet.tell("traffic", region="region", tasks=3, every=0.05)
    _, mark = trip(fleet, then=fleet.hang)
    took, left = [], rounds + 2
    probe = next_probe(fleet, mark)
    end = beat_of(site) + 1500 * lease
    until(lambda: beat_of(site) > end, "the lease is renewed, and nobody else probes")
    assert len(fleet.since(mark, "request")) == 1 or not fleet.calm(mark)
    while probe and left > 2:
        mark, killed = fleet.mark(), time.monotonic()
        fleet.workers[probe["who"]].kill()
        left -= 1
        probe = next_probe(fleet, mark)
        took += [probe["t"] - killed] if probe else []
    fleet.up()
    fleet.until(mark, "CLOSED", left)
    return {"holder killed": took}


def a_stopped_holder_wakes_up_as_nobody(site, rounds=3, lease=LEASE):
    """Another process probes within the lease plus 1 s; the old one closes and opens nothing."""
    policy = UNLESS_HUNG | {"success_threshold": 1}
    fleet = site.fleet(3, policy=policy, sharing={"probe_lease": lease})
    fleet.tell("traffic", region="region", tasks=3, every=0.05)
    _, mark = trip(fleet, then=fleet.hang)
    took, probe = [], next_probe(fleet, mark)
    for number in range(rounds):
        if not probe:
            break
        old, mark, stopped = probe["who"], fleet.mark(), time.monotonic()
        fleet.workers[old].stop()
        probe = next_probe(fleet, mark)
        took += [probe["t"] - stopped] if probe else []
        version, calm = version_of(site), fleet.calm(mark)
        (fleet.down if number % 2 else fleet.up)(who=old)
        woken = fleet.mark()
        fleet.workers[old].wake()
        fleet.until(woken, "answer", who=old)
        wait_for_rejections(fleet, old)
        if calm:
            assert fleet.since(woken, "OPEN", "CLOSED", "request") == []
            assert version_of(site) == version
        fleet.hang(who=old)
    fleet.up()
    until(lambda: set(fleet.states()) == {"CLOSED"}, "all close")
    return {"holder stopped": took}


def version_of(site, region="region"):
    return field_of(site, "v", region)


def beat_of(site, region="region"):
    """Return when the lease was renewed last, in the store's milliseconds."""
    return int(field_of(site, "beat", region))


def field_of(site, field, region):
    (key,) = (key for key in site.admin.scan_iter(f"*:1:{region}"))
    return site.admin.hget(key, field)


def wait_for_rejections(fleet, who, many=20, region=None):
    fleet.workers[who].tell("counts")
    seen = [0]

    def enough():
        name = "rejected" if region is None else f"rejected by {region}"
        seen[0] += fleet.workers[who].tell("counts").get(name, 0)
        return seen[0] >= many

    until(enough, "calls are rejected")


def a_hung_probe_loses_its_lease(site, rounds=3, lease=LEASE, probe_timeout=1.0):
    """Another process probes within `probe_timeout` plus lease plus 1 s."""
    policy = POLICY | {"probe_timeout": probe_timeout, "success_threshold": 1}
    fleet = site.fleet(3, policy=policy, sharing={"probe_lease": lease})
    fleet.tell("traffic", region="region", tasks=5, every=0.05)
    took = []
    for _ in range(rounds):
        _, mark = trip(fleet, then=fleet.hang)
        hung = next_probe(fleet, mark)
        for who in range(3):
            if hung and who != hung["who"]:
                fleet.up(who=who)
        if hung:
            fleet.until(mark, "CLOSED", 3)
            seen = [entry for entry in probes(fleet, mark) if entry["what"] == "request"]
            other = next(entry for entry in seen if entry["who"] != hung["who"])
            assert other["t"] - hung["t"] >= probe_timeout or not fleet.calm(mark)
            assert len(seen) == 2 or not fleet.calm(mark)
            took.append(other["t"] - hung["t"])
        fleet.up()
        until(lambda: nothing_on_its_way(fleet), "what hung has ended")
        until(lambda: set(fleet.states()) == {"CLOSED"}, "all close")
    return {"probe hung": took}


def a_cancelled_probe_gives_its_place_back(site, rounds=3, lease=30.0):
    """Cancelled three times in a row under rejected traffic: another call probes immediately."""
    fleet = site.fleet(3, policy=UNLESS_HUNG, sharing={"probe_lease": lease})
    fleet.tell("traffic", region="region", tasks=5, every=0.02)
    _, mark = trip(fleet, then=fleet.hang)
    fleet.until(mark, "request")
    took = []
    for _ in range(rounds):
        mark, cancelled = fleet.mark(), time.monotonic()
        fleet.tell("cancel", region="region")
        probe, *_ = fleet.until(mark, "request")
        took.append(probe["t"] - cancelled)
    fleet.up()
    fleet.until(mark, "CLOSED", 3)
    return {"probe cancelled": took}
