"""What a fleet promises when the store fails, lies or is late; run by the tests and `make soak`.

Each asserts order and counts, and returns what it has measured: name -> seconds. Only the soak
compares that with what is promised. The storms and the costs at the end pass time: they are for the
soak alone.
"""

import random
import time
from dataclasses import dataclass
from functools import partial

from tests.soak.fleet_scenarios import (
    LEASE,
    POLICY,
    check_probes,
    nothing_on_its_way,
    probes,
    requests,
    spread,
    trip,
    wait_for_rejections,
)
from tests.support.stores import until

WORKERS = 3
POLL = 1.0
NEVER = {"recovery_timeout": 600.0}  # until it is made due
SOON = POLICY | {"recovery_timeout": 0.1}
REGIONS = ("closed", "open", "half", "forced")


class Fault:
    """Something that goes wrong with a store; `begin`, and `end` some time later."""

    direct = True  # the fleet talks to the store itself, not to the proxy
    lost = True  # sharing is lost
    brief = False  # it ends as soon as it has begun

    def begin(self, site):
        """Break it."""

    def end(self, site):
        """Repair it."""


class Killed(Fault):
    def begin(self, site):
        site.store.kill()

    def end(self, site):
        site.store.start()


class RestartedEmpty(Fault):
    brief = True

    def begin(self, site):
        site.store.kill()
        site.store.start()


class Stopped(Fault):
    def begin(self, site):
        site.store.pause()

    def end(self, site):
        site.store.resume()


class Full(Fault):
    def begin(self, site):
        site.admin.config_set("maxmemory", 1)

    def end(self, site):
        site.admin.config_set("maxmemory", 0)


class ReadOnly(Fault):
    def begin(self, site):
        site.admin.replicaof("127.0.0.1", 1)

    def end(self, site):
        site.admin.replicaof("no", "one")


class WithoutReplicas(Fault):
    def begin(self, site):
        site.admin.config_set("min-replicas-to-write", 1)

    def end(self, site):
        site.admin.config_set("min-replicas-to-write", 0)


class WrongPassword(Fault):
    def begin(self, site):
        site.admin.config_set("requirepass", "another")
        for kind in ("normal", "pubsub"):
            site.admin.client_kill_filter(_type=kind, skipme=True)

    def end(self, site):
        site.admin.config_set("requirepass", "")


class WithoutHset(Fault):
    def begin(self, site):
        site.admin.execute_command("ACL", "SETUSER", "default", "-hset")

    def end(self, site):
        site.admin.execute_command("ACL", "SETUSER", "default", "+hset")


class WithoutHmget(Fault):
    def begin(self, site):
        site.admin.execute_command("ACL", "SETUSER", "default", "-hmget")

    def end(self, site):
        site.admin.execute_command("ACL", "SETUSER", "default", "+hmget")


class WithoutPublish(Fault):
    def begin(self, site):
        site.admin.execute_command("ACL", "SETUSER", "default", "-publish")

    def end(self, site):
        site.admin.execute_command("ACL", "SETUSER", "default", "+publish")


class CommandsDropped(Fault):
    lost, brief = False, True

    def begin(self, site):
        site.admin.client_kill_filter(_type="normal", skipme=True)


class BlackHole(Fault):
    direct = False

    def begin(self, site):
        site.proxy.black_hole = True

    def end(self, site):
        site.proxy.black_hole = False
        site.proxy.reset()  # what was swallowed would be missing in the middle


class Garbage(Fault):
    direct = False

    def begin(self, site):
        site.proxy.says = b"HTTP/1.1 400 Bad Request\r\n\r\n"

    def end(self, site):
        site.proxy.says = b""


class TooLarge(Fault):
    direct = False

    def begin(self, site):
        site.proxy.says = b"$999999999999\r\n"

    def end(self, site):
        site.proxy.says = b""


class TooSlow(Fault):
    direct = False

    def begin(self, site):
        site.proxy.delay = 0.4

    def end(self, site):
        site.proxy.delay = 0.0


class Slow(Fault):
    direct, lost = False, False

    def begin(self, site):
        site.proxy.delay = 0.05

    def end(self, site):
        site.proxy.delay = 0.0


class Reset(Fault):
    direct, brief = False, True

    def begin(self, site):
        site.proxy.reset()


FAULTS = (
    Killed, Stopped, BlackHole, RestartedEmpty, Full, ReadOnly, WithoutReplicas, WrongPassword,
    WithoutHset, WithoutHmget, WithoutPublish, CommandsDropped, Reset, Garbage, TooLarge, TooSlow,
    Slow,
)  # fmt: skip


@dataclass
class Scene:
    """A fleet with a circuit in each state, before, in and after a fault."""

    site: object
    fault: Fault
    poll: float
    beside: bool = False

    def run(self):
        """Let the store fail and come back; gives the figures."""
        self.set_up()
        control = self.control() if self.beside else None
        mark = self.fleet.mark()
        self.fleet.counts()
        self.fault.begin(self.site)
        if not self.fault.brief:
            until(self.all_know, "all know whether they share")
            for worker in self.fleet.workers:
                wait_for_rejections(self.fleet, worker.who, 100, region="forced")
        ended = time.monotonic()
        self.fault.end(self.site)
        back = max(0.0, self.comes_back(mark) - ended)
        self.goes_on(mark)
        beside = {"lag of the control": lags_of(control.counts())} if control else {}
        return {"back": back} | self.calls_went_well() | beside

    def control(self):
        """Start the same processes without sharing, to measure the machine meanwhile."""
        fleet = self.site.fleet(WORKERS, "", regions=REGIONS, policy=POLICY)
        for region in REGIONS:
            if region != "closed":
                fleet.tell("by_hand", region=region, reason="maintenance")
            fleet.tell("traffic", region=region, tasks=3, every=0.05)
        fleet.counts()
        return fleet

    def set_up(self):
        policies = {
            "open": POLICY | NEVER,
            "half": POLICY | {"recovery_timeout": 0.5, "probe_timeout": 60.0},
        }
        url = self.site.store.url if self.fault.direct else self.site.proxy.url
        sharing = {"poll_interval": self.poll, "probe_lease": LEASE}
        self.fleet = fleet = self.site.fleet(
            WORKERS,
            url,
            regions=REGIONS,
            policy=POLICY | {"recovery_timeout": 60.0},
            policies=policies,
            sharing=sharing,
        )
        for region in REGIONS:
            fleet.tell("traffic", region=region, tasks=3, every=0.05)
        _, self.halved = trip(fleet, "half", then=fleet.hang)
        fleet.until(self.halved, "request", region="half")
        _, self.tripped = trip(fleet, "open", then=fleet.up)
        fleet.workers[0].tell("by_hand", region="forced", reason="maintenance")
        fleet.until(0, "OPEN", WORKERS, region="forced")
        until(lambda: nothing_on_its_way(fleet, "forced"), "all calls have ended")
        until(fleet.all_shared, "all share")

    def all_know(self):
        looks = self.fleet.tell("look")
        return {one["shared"] for seen in looks for one in seen.values()} == {not self.fault.lost}

    def comes_back(self, mark):
        """Wait until all share again, and see that each has said so once."""
        fleet, many = self.fleet, WORKERS if self.fault.lost else 0
        backs = fleet.until(mark, "log", many, text="Circuit breaker sharing is back")
        until(fleet.all_shared, "all share again")
        for level in ("WARNING", "INFO"):
            told = [
                one for one in fleet.since(mark, "log", level=level) if "sharing" in one["text"]
            ]
            who = sorted(one["who"] for one in told)
            # On a busy machine a time-out of its own may follow.
            assert who == list(range(many)) or not fleet.calm(mark), told
        return backs[-1]["t"] if backs else 0.0

    def goes_on(self, mark):
        """See that no circuit is stuck and none has let through what it must not."""
        fleet = self.fleet
        assert fleet.since(mark, "OPEN", "CLOSED", region="closed") == []
        assert fleet.since(mark, "request", "CLOSED", region="forced") == []
        fleet.up("half")
        fleet.until(mark, "CLOSED", WORKERS, region="half")
        usual = 3 if self.fault.brief or not self.fault.lost else 3 * WORKERS
        most = usual + 1 if fleet.calm(self.halved) else 3 * WORKERS + 1
        assert requests(probes(fleet, self.halved, "half")) <= most
        assert fleet.since(self.tripped, "request", region="open") == [], "admitted while OPEN"
        fleet.tell("configure", regions=["open"], **SOON)
        fleet.until(mark, "CLOSED", WORKERS, region="open")
        check_probes(fleet, self.tripped, "open")
        fleet.workers[-1].tell("by_hand", region="forced")
        fleet.until(mark, "CLOSED", WORKERS, region="forced")
        for region in REGIONS:
            until(lambda region=region: set(fleet.states(region)) == {"CLOSED"}, f"{region} closes")

    def calls_went_well(self):
        counts = self.fleet.counts()
        raised = [name for each in counts for name in each if name.startswith("raised")]
        assert raised == []
        return {"longest call": max(each["longest"] for each in counts), "lag": lags_of(counts)}


def lags_of(counts):
    return [lag for each in counts for lag in each["lags"]]


def scenario_of(fault):
    def scenario(site, poll=POLL, *, beside=False):
        return Scene(site, fault(), poll, beside).run()

    scenario.__name__ = f"store_{fault.__name__}"
    return scenario


STORE_FAILS = [scenario_of(fault) for fault in FAULTS]


# The store lies


def a_trip_that_comes_late_opens_nobody(site, late=2.0):
    """A trip that timed out and is delivered 2 s later finds the others as they were."""
    urls = [site.proxy.url, site.store.url, site.store.url]
    # Over when the trip has timed out: there is nothing then that the process could say again.
    policy = POLICY | {"recovery_timeout": 0.2}
    fleet = site.fleet(3, urls, policy=policy, sharing={"poll_interval": 60.0})
    fleet.tell("traffic", region="region", tasks=2, every=0.05)
    site.proxy.delay = late
    fleet.down(who=0)
    fleet.until(0, "OPEN", who=0)
    fleet.up()
    fleet.until(0, "log", who=0, text="sharing is lost")
    held = site.proxy.on_their_way
    site.proxy.delay = 0.0
    fleet.until(0, "CLOSED", who=0)
    until(fleet.all_shared, "it shares again")
    until(lambda: not site.proxy.on_their_way, "the trip has arrived")
    assert held
    mark = fleet.mark()
    fleet.tell("by_hand", region="region")
    fleet.tell("call", region="region")
    assert {entry["who"] for entry in fleet.since(0, "OPEN")} == {0}
    assert fleet.since(mark, "OPEN") == []
    return {}


FIELDS = ("f", "v", "s", "at", "own", "beat", "n", "by", "who", "why", "votes", "sum", "new")
LIES = {"9" * 14: "9", "x" * 100_000: "X", "": "E"}


def a_corrupted_field_is_logged_once_and_forgotten(site):
    """At most one warning a process for each record; all recover when they are due.

    The process that reads it first asserts what it knows, which may keep the others from seeing it.
    """
    spoilt = {f"{field}{short}": (field, lie) for field in FIELDS for lie, short in LIES.items()}
    for empty in ("own", "votes"):  # they are so already
        del spoilt[f"{empty}E"]
    regions = ["healthy", "string", *spoilt]
    fleet = site.fleet(2, regions=regions, policy=POLICY | NEVER, sharing={"poll_interval": 1.0})
    for region in regions[1:]:
        fleet.down(region)
        fleet.workers[0].tell("call", region=region, times=3)
    for region in regions[1:]:
        fleet.until(0, "OPEN", 2, region=region)
        fleet.up(region)
    mark, admin = fleet.mark(), site.admin
    keys = {key.decode().rpartition(":")[2]: key for key in admin.scan_iter("*:1:*", count=1000)}
    admin.set(keys["string"], "?" * 1_000_000)
    for region, (field, lie) in spoilt.items():
        admin.hset(keys[region], field, lie)

    def warnings():
        entries = fleet.since(mark, "log", level="WARNING", text="malformed record")
        return [(entry["who"], entry["region"]) for entry in entries]

    until(lambda: {region for _, region in warnings()} == set(regions[1:]), "a poll reads them")
    began = time.monotonic()
    fleet.tell("configure", regions=regions, **SOON)
    for region in regions:
        fleet.tell("traffic", region=region, tasks=1, every=0.1)
    for region in regions[1:]:
        fleet.until(mark, "CLOSED", 2, region=region)
    took = time.monotonic() - began
    assert len(set(warnings())) == len(warnings()), "logged twice"
    assert fleet.since(0, "OPEN", "HALF_OPEN", region="healthy") == []
    return {"corrupted: all closed when due": took}


def hints_are_no_more_than_hints(site):
    """Whatever is told on the channel, circuits believe the record."""
    fleet = site.fleet(2, policy=POLICY, sharing={"poll_interval": 60.0})
    fleet.tell("traffic", region="region", tasks=1, every=0.05)
    admin = site.admin
    (channel,) = admin.pubsub_channels("*hints*")
    fleet.workers[0].tell("by_hand", region="region", reason="maintenance")
    fleet.until(0, "OPEN", 2)
    (key,) = admin.scan_iter("*:1:region")
    mark = fleet.mark()
    for hint in (b"", b" ", key, b"9" * 30 + b" " + key, b"1 " + key, b"\xff\xfe\x00 " + key):
        for _ in range(100):
            admin.publish(channel, hint)
    admin.publish(channel, b"x" * 1_000_000)
    fleet.workers[1].tell("by_hand", region="region")
    fleet.until(mark, "CLOSED", 2)
    assert [one for one in fleet.since(mark, "log") if one["level"] == "WARNING"] == []
    return {}


def a_lost_hint_is_caught_up_by_the_poll(site, poll=2.0):
    """Who hears no hints learns from its poll, and shares all the time."""
    urls = [site.store.url, site.proxy.url]
    policy = POLICY | {"recovery_timeout": 60.0}
    fleet = site.fleet(2, urls, policy=policy, sharing={"poll_interval": poll})
    fleet.tell("traffic", region="region", tasks=2, every=0.05)
    site.proxy.mute = True
    fleet.down(who=0)
    opened = fleet.until(0, "OPEN", 2)
    site.proxy.mute = False
    assert [entry["who"] for entry in opened] == [0, 1]
    assert opened[1]["by"]
    assert not (fleet.calm(0) and fleet.since(0, "log", text="sharing is lost"))
    return {"hint lost: open": spread(opened)}


# Everything at once


class Weather:
    """Faults of all kinds, one upon the other, and an end to them."""

    def __init__(self, site, fleet, seed, *, orders):
        self.site, self.fleet, self.random, self.orders = site, fleet, random.Random(seed), orders
        self.stopped, self.down, self.paused = set(), False, False

    def strike(self):
        """Let something happen."""
        self.random.choice([
            self.kill_store, self.pause_store, self.flush, self.fill, self.delay, self.swallow,
            self.reset, self.stop_worker, self.cancel, *[self.region] * 5, *[self.better] * 5,
            *[self.order] * self.orders,
        ])()  # fmt: skip

    def better(self):
        """Repair the store and the way to it, and let all processes run."""
        if self.down:
            self.site.store.start()
        if self.paused:
            self.site.store.resume()
        self.down = self.paused = False
        self.site.client().config_set("maxmemory", 0)
        self.site.proxy.delay, self.site.proxy.black_hole = 0.0, False
        for who in self.stopped:
            self.fleet.workers[who].wake()
        self.stopped.clear()

    def kill_store(self):
        self.site.store.kill()
        self.down, self.paused = True, False

    def pause_store(self):
        if not self.down:
            self.site.store.pause()
            self.paused = True

    def flush(self):
        if not (self.down or self.paused):
            self.site.client().flushall()
            self.site.client().script_flush()

    def fill(self):
        if not (self.down or self.paused):
            self.site.client().config_set("maxmemory", 1)

    def delay(self):
        self.site.proxy.delay = self.random.choice([0.02, 0.1, 0.3, 1.0])

    def swallow(self):
        self.site.proxy.black_hole = True

    def reset(self):
        self.site.proxy.reset()

    def stop_worker(self):
        who = self.random.randrange(len(self.fleet.workers))
        self.fleet.workers[who].stop()
        self.stopped.add(who)

    def awake(self):
        return [worker for worker in self.fleet.workers if worker.who not in self.stopped]

    def cancel(self):
        for worker in self.awake():
            worker.tell("cancel", region="region")

    def order(self):
        for worker in self.awake()[:1]:
            worker.tell("by_hand", region="region", reason=self.random.choice([None, "storm"]))

    def region(self):
        who = self.random.choice([None, None, 0, 1, 2, 3])
        self.random.choice([self.fleet.up, self.fleet.down, self.fleet.hang])(who=who)


def after_any_storm_all_agree(site, seed=0, lasts=8.0, *, orders=False):
    """Whatever has happened: when it is over all share, and what one knows all know."""
    urls = [site.store.url, site.store.url, site.proxy.url, site.proxy.url]
    policy = POLICY | {"recovery_timeout": 0.5, "probe_timeout": 1.0}
    sharing = {"poll_interval": 1.0, "probe_lease": LEASE}
    fleet = site.fleet(4, urls, policy=policy, sharing=sharing)
    fleet.tell("traffic", region="region", tasks=10, every=0.05)
    fleet.tell("waiters", region="region", tasks=2)
    weather = Weather(site, fleet, seed, orders=orders)
    end = time.monotonic() + lasts
    while time.monotonic() < end:
        weather.strike()
        time.sleep(weather.random.uniform(0.0, 0.3))
    weather.better()
    fleet.up()
    calm = fleet.mark()
    began = time.monotonic()
    if orders:  # nothing else ends a forced opening
        fleet.workers[0].tell("by_hand", region="region")
    until(lambda: fleet.all_shared() and set(fleet.states()) == {"CLOSED"}, "all close")
    took = time.monotonic() - began
    mark = fleet.mark()
    fleet.down()
    fleet.until(mark, "OPEN", 4)
    fleet.up()
    fleet.until(mark, "CLOSED", 4)
    until(lambda: set(fleet.states()) == {"CLOSED"}, "all close again")
    assert [name for each in fleet.counts() for name in each if name.startswith("raised")] == []
    assert fleet.since(calm, "log", level="ERROR", text="raised") == []
    return {"storm: all closed": took}


def after_any_storm_with_orders_all_agree(site, seed=1, lasts=8.0):
    """The same when operators force circuits open and reset them meanwhile."""
    return after_any_storm_all_agree(site, seed, lasts, orders=True)


# What it costs the store


def calls_cost_the_store_nothing(site):
    """10,000 successes and 10,000 rejections cost 0 commands; 18 regions at most 0.5 a second."""
    admin = site.admin
    # Its next poll is far away. Whatever is counted therefore comes from the calls.
    alone = site.fleet(1, regions=["up", "down"], policy=POLICY, sharing={"poll_interval": 120.0})
    alone.workers[0].tell("by_hand", region="down", reason="maintenance")
    alone.until(0, "OPEN", region="down")
    until(partial(quiet, admin), "it has said so")
    idle = commands(admin)
    for region in ("up", "down"):
        alone.workers[0].tell("rush", region=region, times=10_000)
    assert commands(admin) == idle
    alone.close()
    regions = [f"region-{number}" for number in range(18)]
    site.fleet(4, regions=regions)
    began, before = time.monotonic(), commands(admin)
    time.sleep(20.0)
    rate = (commands(admin) - before) / (time.monotonic() - began) / 4
    assert 0.0 < rate <= 0.5
    return {"commands a second a process": rate}


def commands(admin):
    stats = admin.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "ping"))


def quiet(admin):
    before = commands(admin)
    time.sleep(0.2)
    return commands(admin) == before


THE_STORE_LIES = [
    a_trip_that_comes_late_opens_nobody,
    a_corrupted_field_is_logged_once_and_forgotten,
    hints_are_no_more_than_hints,
    a_lost_hint_is_caught_up_by_the_poll,
]
# For the soak alone.
STORMS = [after_any_storm_all_agree, after_any_storm_with_orders_all_agree]
COSTS = [calls_cost_the_store_nothing]
