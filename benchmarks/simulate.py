"""Fleets of 10 to 10,000 processes and an outage, with and without shared circuits.

    make simulate

It runs the code of the package on virtual time; see `benchmarks.simulation`. Nothing depends on how
fast this machine is, and the same seed gives the same figures.
"""

import gc
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Final

from loguru import logger

from benchmarks import report
from benchmarks.simulation.store import Costs
from benchmarks.simulation.world import REGIONS, Figures, Plan, play

SIZES: Final = (10, 100, 1_000, 3_000, 10_000)
RATES: Final = (0.1, 1.0, 4.0, 16.0)
SIZE_FOR_RATES: Final = 1_000
SIZES_FOR_ALL_REGIONS: Final = (1_000, 10_000)
RESTART_AT: Final = 30.0
PLAN: Final = Plan(processes=0, shares=True)
COSTS: Final = Costs()

INTRODUCTION = f"""\
# A fleet and an outage, simulated

How do [shared circuits](explanation/sharing.md) behave with more processes than a test machine
can hold? One of {len(REGIONS)} regions is down for {PLAN.outage:g} s. Each process calls it
{PLAN.rate:g} times a second, at random times; the region answers after {PLAN.answer * 1000:g} ms,
well or with a 503. All settings are the defaults: 10 failures open a circuit, 60 s, 3 probes
close it.

The circuit breakers, the shared circuits, the protocol and the script of the store, in its Python
twin, are those of the package. Simulated are the clock, the network, the server of the store, the
calls, and the synchronizer:

- The store is one server that does one thing at a time: {COSTS.ping * 1e6:g} µs for a PING,
  {COSTS.change * 1e6:g} µs for a change, {COSTS.read * 1e6:g} µs for a read,
  {COSTS.record * 1e6:g} µs more for each record of it and {COSTS.found * 1e6:g} µs more if there is
  one, and {COSTS.connect * 1e6:g} µs for the connections of a process. Like a real server it does
  all commands that have arrived, and then sends each subscriber the notifications that have come
  meanwhile: {COSTS.write * 1e6:g} µs for each subscriber, and {COSTS.notification * 1e6:g} µs for
  each notification. That is about what Valkey 9.1 and Redis 7.0 took for 1,000 and 5,000
  subscribers.
- The network takes {COSTS.network * 1000:g} ms one way, and a thread {COSTS.wake * 1000:g} ms to
  wake up, in the median; both vary log-normally (sigma {COSTS.spread:g}). Each process has its own
  processor.
- An answer that takes longer than the socket timeout of 0.5 s means to a process that the store
  is gone.
- Calls to the other regions succeed, which changes nothing: they are left out. Their records are
  polled."""

READING = f"""\
- **Requests** are those from processes whose circuit had not closed again yet, from the first
  trip on: those that were made before every process knew, and the probes. A single process needs
  4 probes: {PLAN.outage // 60:g} that fails, and 3 that succeed. Until the first trip both fleets
  do the same.
- **At a time** is the largest number of probes that were under way at the same time, and **in a
  second** the largest number of requests within one second, once the region was up again.
- **All open** counts from the first trip. **First closed** counts from the end of the outage;
  about half a minute of it is the rest of the recovery timeout. **All closed** counts from when
  the first circuit was closed."""

READING_THE_STORE = """\
- **Commands a second** are those before the outage: each process polls about every 5 s, and
  checks its subscription.
- **In the busiest second**, processes that have tripped report it, and those that take part in the
  probing request the lease. Nobody has to read a record, since the notification contains it.
  **Busy** is the largest share of a second during which the server worked. Where it is nearly all
  of a second, answers take longer than the 250 ms that a due call waits for one, and some processes
  probe alone, as all of them would without sharing. **Lost** is how often a process had no answer
  within the socket timeout and went on alone for a moment."""

ALL_REGIONS = f"""\
## All regions, and a restart of the store

All {len(REGIONS)} regions go down at the same moment, and each process calls each of them
{PLAN.rate:g} times a second. {RESTART_AT:g} s later, while all circuits are OPEN, the store is
restarted: it is away for {PLAN.restart:g} s and has forgotten everything, so that the processes
report {len(REGIONS)} openings again."""

READING_ALL_REGIONS = f"""\
- **Probes at a time**, **all open** and **all closed** are those of the worst region. **Requests**
  are those to all regions.
- **Alone** counts from the moment at which the store stopped until the last process shared again,
  and includes the time for which the store was away. **Lost** counts each failed attempt to connect
  as well.
- {SIZES_FOR_ALL_REGIONS[-1]:,} processes that find all regions down at the same moment are more
  than one store can serve: the notifications of {len(REGIONS)} openings alone take it longer than
  the socket timeout. Processes lose it, connect again, and go on alone meanwhile. Give a fleet of
  this size several stores."""

OTHER_RATES = f"""\
## Fewer calls, and more

{SIZE_FOR_RATES:,} processes that share. If each of them calls rarely, the first trip comes later,
and the process that gets the lease for a probe may not call as long as it keeps it. For this
reason a process whose calls come too late twice in a row probes without the lease, next to
others."""


def sizes(*, shares: bool) -> list[Plan]:
    """Return the plans that differ in size."""
    return [replace(PLAN, processes=size, shares=shares) for size in SIZES]


def rates() -> list[Plan]:
    """Return the plans that differ in the rate of calls."""
    return [replace(PLAN, processes=SIZE_FOR_RATES, rate=rate) for rate in RATES]


def all_regions() -> list[Plan]:
    """Return the plans in which all regions go down, and the store is restarted."""
    plan = replace(PLAN, regions=len(REGIONS), restart_at=RESTART_AT)
    return [replace(plan, processes=size) for size in SIZES_FOR_ALL_REGIONS]


def play_in_a_process(plan: Plan) -> Figures:
    """Play one plan in a process of its own."""
    logger.remove()
    gc.disable()  # nearly all objects live until the end
    return play(plan)


def play_all(plans: Iterable[Plan]) -> dict[Plan, Figures]:
    """Play plans, the longest first, as many at a time as there are processors."""
    wanted = sorted(set(plans), key=work_of, reverse=True)
    played = {}
    with ProcessPoolExecutor(os.cpu_count(), max_tasks_per_child=1) as pool:
        for plan, figures in zip(wanted, pool.map(play_in_a_process, wanted), strict=True):
            played[plan] = figures
            regions = f"{plan.regions} of {len(REGIONS)} regions"
            shared = f"shared: {plan.shares}"
            print(f"simulate: {plan.processes:6,} processes, {regions}, {shared}", flush=True)
    return played


def work_of(plan: Plan) -> float:
    """Estimate how long it takes to play a plan, compared to others."""
    return plan.processes * plan.rate * plan.regions


def seconds(value: float) -> str:
    """Write a time."""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def at_the_region(rows: Iterable[tuple[str, Figures]]) -> str:
    """Lay out what came to the region."""
    head = ("", "requests", "probes", "at a time", "in a second", "all open", "first closed")
    return report.table(
        (*head, "all closed"),
        (
            (
                name,
                f"{figures.requests:,}",
                f"{figures.probes:,}",
                f"{figures.probes_at_a_time:,}",
                f"{figures.crowd:,}",
                seconds(figures.all_open),
                seconds(figures.first_closed),
                seconds(figures.all_closed),
            )
            for name, figures in rows
        ),
    )


def at_the_store(rows: Iterable[tuple[str, Figures]]) -> str:
    """Lay out what came to the store."""
    return report.table(
        ("processes", "commands a second", "in the busiest second", "busy", "lost"),
        (
            (
                name,
                f"{figures.idle:,.0f}",
                f"{figures.peak:,}",
                f"{figures.load:.0%}",
                f"{figures.lost:,}",
            )
            for name, figures in rows
        ),
    )


def with_all_regions(rows: Iterable[tuple[str, Figures]]) -> str:
    """Lay out what came of an outage of all regions and a restart of the store."""
    head = ("processes", "requests", "probes", "at a time", "all open", "all closed")
    return report.table(
        (*head, "in the busiest second", "busy", "lost", "alone"),
        (
            (
                name,
                f"{figures.requests:,}",
                f"{figures.probes:,}",
                f"{figures.probes_at_a_time:,}",
                seconds(figures.all_open),
                seconds(figures.all_closed),
                f"{figures.peak:,}",
                f"{figures.load:.0%}",
                f"{figures.lost:,}",
                seconds(figures.alone),
            )
            for name, figures in rows
        ),
    )


def main() -> None:
    """Play everything, and write the page."""
    alone, shared = sizes(shares=False), sizes(shares=True)
    played = play_all((*alone, *shared, *rates(), *all_regions()))
    by_size = [
        (f"{plan.processes:,}, {'shared' if plan.shares else 'on their own'}", played[plan])
        for pair in zip(alone, shared, strict=True)
        for plan in pair
    ]
    where = report.origin("make simulate", "redis", how="Simulated")
    report.write(
        "sharing-simulation.md",
        INTRODUCTION,
        f"{where} Seed {PLAN.seed}.",
        "## At the region",
        at_the_region(by_size),
        READING,
        "## At the store",
        at_the_store((f"{plan.processes:,}", played[plan]) for plan in shared),
        READING_THE_STORE,
        ALL_REGIONS,
        with_all_regions((f"{plan.processes:,}", played[plan]) for plan in all_regions()),
        READING_ALL_REGIONS,
        OTHER_RATES,
        at_the_region((f"{plan.rate:g} calls a second each", played[plan]) for plan in rates()),
    )


if __name__ == "__main__":
    main()
