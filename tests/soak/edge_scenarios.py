"""What breaks at the edges: dropped connections, a huge key, a flood, a clock that was ahead.

Each asserts order and counts, and returns what it has measured: name -> seconds, or a number.
"""

import socket
import threading
import time
from contextlib import contextmanager

from resilience.integrations.redis.protocol import SCRIPT
from tests.soak.fleet_scenarios import POLICY, check_probes, probes, requests, spread, trip
from tests.support.stores import until

RARELY = {"poll_interval": 60.0}  # nothing is found out by a poll


def dropped_commands_cost_no_probes(site, workers=8):
    """The store drops all idle command connections: 3 probes, and an order by hand arrives."""
    policy = POLICY | {"recovery_timeout": 2.0}
    fleet = site.fleet(workers, policy=policy, sharing=RARELY)
    fleet.tell("traffic", region="region", tasks=3, every=0.05)
    _, mark = trip(fleet, then=fleet.up)
    site.admin.client_kill_filter(_type="normal", skipme=True)
    fleet.until(mark, "CLOSED", workers)
    seen = requests(probes(fleet, mark))
    check_probes(fleet, mark)
    mark = fleet.mark()
    site.admin.client_kill_filter(_type="normal", skipme=True)
    fleet.workers[0].tell("by_hand", region="region", reason="maintenance")
    forced = fleet.until(mark, "OPEN", workers)
    assert fleet.since(0, "log", text="sharing is lost") == [] or not fleet.calm(0)
    return {"dropped: probes": seen, "dropped: forced": spread(forced)}


def a_huge_key_blocks_nobody(site, fields=1_000_000):
    """In the place of a record stands a hash with many fields: others use the store as before."""
    key, step = "{region-breaker}:1:region", 50_000
    for first in range(0, fields, step):
        site.admin.hset(key, mapping={f"field {n}": n for n in range(first, first + step)})
    fleet = site.fleet(3, policy=POLICY, sharing={"poll_interval": 0.5})
    longest, end = 0.0, time.monotonic() + 5.0
    while time.monotonic() < end:
        began = time.monotonic()
        site.admin.ping()
        longest = max(longest, time.monotonic() - began)
    told = fleet.since(0, "log", level="WARNING", text="malformed record")
    assert sorted(entry["who"] for entry in told) == [0, 1, 2]
    return {"huge key: longest wait of others": longest}


@contextmanager
def flood(site, at_a_time=1_500, pause=0.005):
    """Publish about 70,000 times a second about records that hardly anybody has."""
    (channel,) = site.admin.pubsub_channels("*hints*")
    contents = [
        f"{n} {{region-breaker}}:1:{n % 100 or 'region'}".encode() for n in range(at_a_time)
    ]
    head = b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%s\r\n" % (len(channel), channel)
    commands = b"".join(head + b"$%d\r\n%s\r\n" % (len(one), one) for one in contents)
    ended = threading.Event()

    def publish():
        with socket.create_connection(("127.0.0.1", site.store.port)) as connection:
            while not ended.is_set():
                connection.sendall(commands)
                answered = 0
                while answered < at_a_time:
                    answered += connection.recv(65536).count(b"\n")
                ended.wait(pause)

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(60)


def a_flood_keeps_nobody_from_anything(site, rounds=5):
    """Orders by hand arrive while notifications come faster than anybody needs them."""
    fleet = site.fleet(2, policy=POLICY, sharing=RARELY)
    took = []
    with flood(site):
        for _ in range(rounds):
            mark = fleet.mark()
            fleet.workers[0].tell("by_hand", region="region", reason="maintenance")
            took.append(spread(fleet.until(mark, "OPEN", 2)))
            fleet.workers[1].tell("by_hand", region="region")
            took.append(spread(fleet.until(mark, "CLOSED", 2)))
    return {"flood: forced and reset": took}


def a_clock_that_was_ahead_is_forgotten(site, hours=1):
    """A new process, whose versions are lower, is followed by those that know higher ones."""
    policy = POLICY | {"recovery_timeout": 600.0}
    fleet = site.fleet(3, policy=policy, sharing={"poll_interval": 1.0})
    seconds, _ = site.admin.time()
    ahead = (seconds + hours * 3_600) * 1000
    keys = ["{region-breaker}:1:region", "{region-breaker}:secret"]
    order = [
        "force",
        "0" * 16,
        5_000,
        "{region-breaker}:hints",
        ahead,
        60_000,
        1,
        0,
        "admin",
        "test",
    ]
    site.admin.eval(SCRIPT, 2, *keys, *order, 10**14)
    fleet.until(0, "OPEN", 3)
    fleet.workers[0].tell("by_hand", region="region")
    fleet.until(0, "CLOSED", 3)
    site.store.kill()
    site.store.start()
    until(fleet.all_shared, "all share again")
    mark = fleet.mark()
    new = site.fleet(1, policy=policy)
    new.down()
    new.workers[0].tell("call", region="region", times=3)
    (opened,) = new.until(0, "OPEN")
    followed = fleet.until(mark, "OPEN", 3)
    return {"clock was ahead: all open": followed[-1]["t"] - opened["t"]}


EDGES = [
    dropped_commands_cost_no_probes,
    a_huge_key_blocks_nobody,
    a_flood_keeps_nobody_from_anything,
    a_clock_that_was_ahead_is_forgotten,
]
