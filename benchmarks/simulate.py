"""Fleets of 10 to 10,000 processes and an outage, with and without shared circuits.

    make simulate

What is run is the code of the package, on virtual time; see `benchmarks.simulation`. Nothing of it
depends on how fast this machine is, and the same seed gives the same figures.
"""

import gc
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any, Final

import matplotlib as mpl
from loguru import logger
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from benchmarks import report
from benchmarks.simulation.store import Costs
from benchmarks.simulation.world import REGIONS, Figures, Plan, play

SIZES: Final = (10, 100, 1_000, 3_000, 10_000)
RATES: Final = (0.1, 1.0, 4.0, 16.0)
SIZE_FOR_RATES: Final = 1_000
QUORUMS: Final = (1, 2, 3, 5, 10)
SIZE_FOR_QUORUMS: Final = 100
PLAN: Final = Plan(processes=0, shares=True)
COSTS: Final = Costs()
PICTURE: Final = "_static/sharing-simulation.svg"

Played = dict[Plan, Figures]

INTRODUCTION = f"""\
# A fleet and an outage, simulated

How do [shared circuits](explanation/sharing.md) fare with more processes than a test machine can
hold? One of {REGIONS} regions is down for {PLAN.outage:g} s. Each process calls it
{PLAN.rate:g} times a second, at random times; the region answers after
{PLAN.answer * 1000:g} ms, well or with a 503. All settings are the defaults: 10 failures open a
circuit, 60 s, 3 probes close it.

The breakers, the shared circuits, what the lanes do and when, and the store's script, in its Python
twin, are those of the package. The clock, the network, the store's server and the calls are
pretended:"""

MODEL = f"""\
- The store is one server that does one thing at a time: {COSTS.ping * 1e6:g} µs for a PING,
  {COSTS.change * 1e6:g} µs for a change, {COSTS.read * 1e6:g} µs for a read and
  {COSTS.record * 1e6:g} µs more for each record of it, {COSTS.hint * 1e6:g} µs for each hint to
  each subscriber. That is about what `python -m benchmarks.store_costs` measures with Valkey on
  the machine named below.
- The network takes {COSTS.network * 1000:g} ms one way and a thread {COSTS.wake * 1000:g} ms to
  wake up, in the median; both vary log-normally (sigma {COSTS.spread:g}). Each process has a
  processor for itself.
- An answer that takes longer than the socket time-out of 0.5 s means to a process that the store
  is gone, as it does in life.
- Calls to the other regions go well, which changes nothing; they are not played. Their records are
  polled."""

AT_THE_REGION = """\
## At the region

![Six plots over the number of processes](_static/sharing-simulation.svg)"""

READING = f"""\
- **Requests** are those of processes whose circuit was not closed again yet, from the first trip
  on: those that were made before everybody knew, and the probes. A single process needs 4 probes:
  {PLAN.outage // 60:g} that fails, and 3 that succeed. Until the first trip both fleets do the
  same.
- **At a time** is how many probes were under way at once, at most, and **in a second** how many
  requests came within one second, at most, once the region was well again.
- **All open** counts from the first trip. **First closed** counts from when the region was well
  again; about half a minute of it is what was left of the recovery timeout. **All closed** counts
  from when the first was."""

AT_THE_STORE = "## At the store"

READING_THE_STORE = """\
- **When all is well** each process polls about every 5 s and sees whether its subscription lives.
- **In the busiest second** everybody hears of a change and reads it; **busy** is how much of a
  second the server worked, at most. When that is nearly all of it, answers take longer than the
  250 ms that a due call waits for one, and some processes probe alone, which is what they would
  all do without sharing. **Lost** is how often a process had no answer within the socket time-out
  and went on alone for a moment."""

AT_OTHER_RATES = f"""\
## With fewer calls, and with more

{SIZE_FOR_RATES:,} processes that share. Where each calls rarely, the first trip comes later, and
whoever gets the one place for a probe may not call as long as it is kept. So that even then
somebody probes, a process whose calls come too late again and again does so without the place,
beside others."""

WITH_A_QUORUM = f"""\
## With a quorum

{SIZE_FOR_QUORUMS} processes that share. Until so many of them have tripped, each has to find out
for itself. All of them meet the same outage here, so the quorum is soon reached; what it is for is
[explained elsewhere](explanation/sharing.md)."""


def plans() -> list[Plan]:
    """Say what is played, the longest first."""
    both = [
        replace(PLAN, processes=size, shares=shares)
        for size in reversed(SIZES)
        for shares in (True, False)
    ]
    return list(dict.fromkeys(both[:1] + rates() + both[1:] + quorums()))


def rates() -> list[Plan]:
    """Say what is played to see what the rate of calls does."""
    return [replace(PLAN, processes=SIZE_FOR_RATES, rate=rate) for rate in RATES]


def quorums() -> list[Plan]:
    """Say what is played to see what a quorum costs."""
    return [replace(PLAN, processes=SIZE_FOR_QUORUMS, quorum=quorum) for quorum in QUORUMS]


def play_alone(plan: Plan) -> Figures:
    """Play one plan in a process of its own."""
    logger.remove()
    gc.disable()  # nearly all that is made lives until the end
    return play(plan)


def play_all() -> Played:
    """Play all plans, as many at a time as there are processors."""
    wanted, played = plans(), {}
    with ProcessPoolExecutor(os.cpu_count(), max_tasks_per_child=1) as pool:
        for plan, figures in zip(wanted, pool.map(play_alone, wanted), strict=True):
            played[plan] = figures
            print(f"simulate: {plan.processes:6,} processes, shared: {plan.shares}", flush=True)
    return played


def seconds(value: float) -> str:
    """Write a time."""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def at_the_region(rows: Iterable[tuple[str, Figures]]) -> str:
    """Lay out what came to the region."""
    head = (
        "", "requests", "of them probes", "at a time", "in a second", "all open",
        "first closed", "all closed",
    )  # fmt: skip
    return report.table(
        head,
        (
            (
                name, f"{f.requests:,}", f"{f.probes:,}", f"{f.probes_at_once:,}", f"{f.crowd:,}",
                seconds(f.all_open), seconds(f.first_closed),
                seconds(f.all_closed - f.first_closed),
            )
            for name, f in rows
        ),
    )  # fmt: skip


def at_the_store(rows: Iterable[tuple[str, Figures]]) -> str:
    """Lay out what came to the store."""
    head = ("processes", "commands a second", "in the busiest second", "busy", "lost")
    return report.table(
        head,
        (
            (name, f"{f.idle:,.0f}", f"{f.peak:,}", f"{f.load:.0%}", f"{f.lost:,}")
            for name, f in rows
        ),
    )


def draw(played: Played) -> None:
    """Draw the plots."""
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["svg.hashsalt"] = "the same for the same figures"
    figure = Figure(figsize=(9, 9), layout="constrained")
    FigureCanvasSVG(figure)
    both = (("on their own", False, "#b4491f", "o"), ("shared", True, "#1f6fb4", "s"))
    panels: list[tuple[str, str, Any]] = [
        ("Requests after the first trip", "", lambda f: f.requests),
        ("Probes under way at a time", "", lambda f: f.probes_at_once),
        ("Store: while all is well", "commands a second", lambda f: f.idle),
        ("Store: in the busiest second", "commands", lambda f: f.peak),
        ("Until all are open", "seconds", lambda f: f.all_open),
        ("From the first closed until all are", "seconds", lambda f: f.all_closed - f.first_closed),
    ]
    for axes, (title, unit, of) in zip(figure.subplots(3, 2).flat, panels, strict=True):
        for label, shares, colour, marker in both:
            figures = [played[replace(PLAN, processes=n, shares=shares)] for n in SIZES]
            values = [of(f) for f in figures]
            if any(values):  # nothing is at the store of those on their own
                axes.plot(SIZES, values, marker=marker, color=colour, label=label)
        axes.set(title=title, xlabel="processes", ylabel=unit, xscale="log", yscale="log")
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
    figure.savefig(report.ROOT / "docs" / PICTURE, format="svg", metadata={"Date": None})


def main() -> None:
    """Play everything, and write the page."""
    played = play_all()
    draw(played)
    by_size = [
        (
            f"{n:,}, {'shared' if shares else 'on their own'}",
            played[replace(PLAN, processes=n, shares=shares)],
        )
        for n in SIZES
        for shares in (False, True)
    ]
    by_rate = [(f"{plan.rate:g} calls a second each", played[plan]) for plan in rates()]
    by_quorum = [(f"`quorum={plan.quorum}`", played[plan]) for plan in quorums()]
    where = report.origin("make simulate", "redis", "matplotlib", how="Simulated")
    report.write(
        "sharing-simulation.md", INTRODUCTION, MODEL, f"{where} Seed {PLAN.seed}.", AT_THE_REGION,
        at_the_region(by_size), READING, AT_THE_STORE,
        at_the_store(row for row in by_size if "shared" in row[0]), READING_THE_STORE,
        AT_OTHER_RATES, at_the_region(by_rate), WITH_A_QUORUM, at_the_region(by_quorum),
    )  # fmt: skip


if __name__ == "__main__":
    main()
