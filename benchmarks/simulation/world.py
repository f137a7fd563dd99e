"""A fleet of processes, 18 regions, an outage of one of them, and what is counted."""

import random
from dataclasses import dataclass
from typing import Final

from benchmarks.simulation.agenda import Agenda
from benchmarks.simulation.sharing import SimulatedSharing
from benchmarks.simulation.store import Costs, SimulatedStore
from benchmarks.simulation.traffic import OTHER, PROBE, Caller, Region
from resilience import CircuitBreakerRegistry

REGIONS: Final = 18


@dataclass(frozen=True, slots=True)
class Plan:
    """What is played; times in seconds.

    Args:
        processes: How many.
        shares: Whether they share their circuits.
        quorum: So many have to trip before all open.
        seed: Of all that is random.
        rate: Calls a second to the sick region, in each process, at random times.
        answer: How long that region takes to answer, whether well or with a failure.
        calm: How long all is well before it gets sick.
        outage: How long it is sick.
        most: So long after that nobody watches any more.
    """

    processes: int
    shares: bool
    quorum: int = 1
    seed: int = 1
    rate: float = 4.0
    answer: float = 0.1
    calm: float = 10.0
    outage: float = 90.0
    most: float = 150.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of it; times in seconds.

    Args:
        requests: So many reached the sick region from the first trip on, from processes whose
            circuit was not closed again yet.
        probes: So many of them were probes.
        probes_at_once: So many probes were under way at a time, at most.
        crowd: So many of the requests came within one second, at most, from when the region was
            well again.
        all_open: From the first trip until every circuit had opened.
        first_closed: From when the region was well until the first circuit was closed for good.
        all_closed: The same for the last circuit.
        idle: Commands a second at the store while all is well.
        peak: Commands in the store's busiest second.
        load: The share of a second that the store worked, in the second in which it worked most.
        lost: How often a process lost the store.
    """

    requests: int
    probes: int
    probes_at_once: int
    crowd: int
    all_open: float
    first_closed: float
    all_closed: float
    idle: float
    peak: int
    load: float
    lost: int


def play(plan: Plan, costs: Costs = Costs()) -> Figures:  # noqa: B008 - immutable
    """Play an outage.

    Args:
        plan: What is played.
        costs: How long the network and the store take.
    """
    return World(plan, costs).play()


class World:
    """All that there is."""

    def __init__(self, plan: Plan, costs: Costs) -> None:
        random.seed(plan.seed)  # a lane draws from the common source
        self.plan, self.agenda, self.chance = plan, Agenda(), random.Random(plan.seed)  # noqa: S311 - no secret
        self.well_again = plan.calm + plan.outage
        self.store = SimulatedStore(self.agenda, self.chance, costs)
        self.region = Region(
            self.agenda, sick_from=plan.calm, sick_until=self.well_again, answer=plan.answer
        )
        self.registries = [self._registry() for _ in range(plan.processes)]
        names = [f"region-{number}" for number in range(REGIONS)]
        fleet = [[registry.get(name) for name in names] for registry in self.registries]
        sick = [breakers[0] for breakers in fleet]
        self.callers = [
            Caller(self.agenda, self.chance, plan.rate, self.region, breaker) for breaker in sick
        ]

    def _registry(self) -> CircuitBreakerRegistry:
        clock = self.agenda.clock
        if not self.plan.shares:
            return CircuitBreakerRegistry(clock=clock)
        sharing = SimulatedSharing(self.agenda, self.store, self.plan.quorum)
        self.agenda.after(self.chance.uniform(0.0, self.plan.calm / 4), sharing.start)
        return CircuitBreakerRegistry(clock=clock, sharing=sharing)

    def play(self) -> Figures:
        """Let it happen, and count."""
        plan, agenda, callers = self.plan, self.agenda, self.callers
        agenda.run(plan.calm)
        for caller in callers:
            caller.plan()
        agenda.run(self.well_again)
        end = self.well_again + plan.most
        while agenda.now < end and not all(caller.closed_at for caller in callers):
            agenda.run(agenda.now + 1.0)
        opened = [caller.opened_at or end for caller in callers]
        closed = [caller.closed_at or end for caller in callers]
        requests, commands = self.region.requests, self.store.commands
        half = int(plan.calm / 2)
        return Figures(
            requests=requests[PROBE] + requests[OTHER] - (self.region.before_the_trip or 0),
            probes=requests[PROBE],
            probes_at_once=self.region.probes_at_once,
            crowd=max(
                many for second, many in self.region.by_second.items() if second >= self.well_again
            ),
            all_open=max(opened) - min(opened),
            first_closed=min(closed) - self.well_again,
            all_closed=max(closed) - self.well_again,
            idle=sum(commands[second] for second in range(half, int(plan.calm))) / half,
            peak=max(commands.values(), default=0),
            load=max(self.store.busy.values(), default=0.0),
            lost=self.store.lost,
        )
