"""A fleet of processes, an outage of one of their regions, and the figures."""

import random
from collections import Counter
from dataclasses import dataclass
from typing import Final

from benchmarks.simulation.agenda import Agenda
from benchmarks.simulation.store import Costs, SimulatedStore
from benchmarks.simulation.synchronizer import LEASE, POLICY, SimulatedSynchronizer
from benchmarks.simulation.traffic import BEFORE, PROBE, Caller, Region
from resilience import CircuitBreaker
from resilience.integrations.redis.protocol import RecordProtocol

REGIONS: Final = [f"region-{number}" for number in range(18)]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is simulated; times in seconds.

    Args:
        processes: The number of processes.
        shares: Whether they share their circuits.
        seed: The seed of all that is random.
        rate: Calls a second to the region that goes down, in each process, at random times.
        answer: How long that region takes to answer, well or not.
        calm: How long all is well before it goes down.
        outage: How long it is down.
        most: How long after that the simulation goes on, at most.
        regions: How many of the regions go down, all at the same time.
        restart_at: When the store is restarted, and forgets everything, after the regions have gone
            down; None: never.
        restart: How long the store is away then.
    """

    processes: int
    shares: bool
    seed: int = 1
    rate: float = 4.0
    answer: float = 0.1
    calm: float = 10.0
    outage: float = 90.0
    most: float = 150.0
    regions: int = 1
    restart_at: float | None = None
    restart: float = 1.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of it; times in seconds.

    Args:
        requests: Requests to the region from the first trip on, from processes whose circuit had
            not closed again yet.
        probes: Those of them that were probes.
        probes_at_a_time: The most probes of one region that were under way at the same time.
        crowd: The most of the requests within one second, once the region was up again.
        all_open: From the first trip until every circuit had opened; of the slowest region.
        first_closed: From the end of the outage until the first circuit was closed for good; of
            the first region.
        all_closed: From the first circuit that was closed until the last; of the slowest region.
        idle: Commands a second at the store before the outage.
        peak: Commands in the busiest second of the store.
        load: The largest share of a second during which the store worked.
        lost: How often a process lost the store.
        alone: From the restart of the store until the last process shared again.
    """

    requests: int
    probes: int
    probes_at_a_time: int
    crowd: int
    all_open: float
    first_closed: float
    all_closed: float
    idle: float
    peak: int
    load: float
    lost: int
    alone: float


def play(plan: Plan, costs: Costs = Costs()) -> Figures:  # noqa: B008 - immutable
    """Simulate an outage.

    Args:
        plan: What is simulated.
        costs: How long the network and the store take.
    """
    return World(plan, costs).play()


class World:
    """All that there is."""

    def __init__(self, plan: Plan, costs: Costs) -> None:
        self.plan, self.agenda = plan, Agenda()
        self.chance = random.Random(plan.seed)  # noqa: S311 - not a secret
        random.seed(plan.seed)  # the waits before processes connect again
        self.up_again = plan.calm + plan.outage
        self.store = SimulatedStore(self.agenda, self.chance, costs)
        self.regions = [
            Region(self.agenda, down_from=plan.calm, down_until=self.up_again, answer=plan.answer)
            for _ in range(plan.regions)
        ]
        self.synchronizers: list[SimulatedSynchronizer] = []
        make = self._sharing_breakers if plan.shares else self._breakers
        # For each region, those that call it.
        self.callers: list[list[Caller]] = [[] for _ in self.regions]
        for number in range(plan.processes):
            breakers = make(number)
            for region, callers, breaker in zip(self.regions, self.callers, breakers, strict=True):
                callers.append(Caller(self.agenda, self.chance, plan.rate, region, breaker))

    def _breakers(self, _number: int) -> list[CircuitBreaker]:
        names = REGIONS[: self.plan.regions]
        return [CircuitBreaker(name, POLICY, clock=self.agenda.clock) for name in names]

    def _sharing_breakers(self, number: int) -> list[CircuitBreaker]:
        protocol = RecordProtocol(
            prefix="simulated",
            client_id=f"{number:016x}",
            client_name=f"host/{number}",
            lease=LEASE,
            quorum=1,
        )
        synchronizer = SimulatedSynchronizer(
            self.agenda,
            self.chance,
            self.store,
            protocol,
            regions=REGIONS,
            breakers=self.plan.regions,
        )
        self.synchronizers.append(synchronizer)
        self.agenda.after(self.chance.uniform(0.0, self.plan.calm / 2), synchronizer.start)
        return [member.breaker for member in synchronizer.members.values()]

    def _stop_the_store(self) -> None:
        self.store.stop()
        for synchronizer in self.synchronizers:
            self.agenda.after(self.store.lag(), synchronizer.on_store_gone)
        self.agenda.after(self.plan.restart, self.store.start)

    def play(self) -> Figures:
        """Let it happen, and count."""
        plan, agenda = self.plan, self.agenda
        everybody = [caller for callers in self.callers for caller in callers]
        agenda.run(plan.calm)
        for caller in everybody:
            caller.plan()
        if plan.restart_at is not None:
            agenda.at(plan.calm + plan.restart_at, self._stop_the_store)
        agenda.run(self.up_again)
        end = self.up_again + plan.most
        while agenda.now < end and not all(caller.closed_at for caller in everybody):
            agenda.run(agenda.now + 1.0)
        return self._figures(end)

    def _figures(self, end: float) -> Figures:
        plan, store, half = self.plan, self.store, int(self.plan.calm / 2)
        opened = [[caller.opened_at or end for caller in callers] for callers in self.callers]
        closed = [[caller.closed_at or end for caller in callers] for callers in self.callers]
        probes = sum(region.requests[PROBE] for region in self.regions)
        before = sum(region.requests[BEFORE] for region in self.regions)
        before -= sum(region.before_the_trip or 0 for region in self.regions)
        by_second = sum((region.by_second for region in self.regions), start=Counter[int]())
        stopped_at = plan.calm + (plan.restart_at or 0.0)
        return Figures(
            requests=probes + before,
            probes=probes,
            probes_at_a_time=max(region.probes_at_a_time for region in self.regions),
            crowd=max(by_second[second] for second in range(int(self.up_again), int(end))),
            all_open=max(max(times) - min(times) for times in opened),
            first_closed=min(min(times) for times in closed) - self.up_again,
            all_closed=max(max(times) - min(times) for times in closed),
            idle=sum(store.commands[second] for second in range(half, int(plan.calm))) / half,
            peak=max(store.commands.values(), default=0),
            load=max(store.busy.values(), default=0.0),
            lost=sum(synchronizer.lost for synchronizer in self.synchronizers),
            alone=max((one.alone_until for one in self.synchronizers), default=0.0) - stopped_at,
        )
