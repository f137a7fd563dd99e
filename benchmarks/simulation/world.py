"""A fleet of processes, an outage of one of their regions, and the figures."""

import random
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
    """

    processes: int
    shares: bool
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
        requests: Requests to the region from the first trip on, from processes whose circuit had
            not closed again yet.
        probes: Those of them that were probes.
        probes_at_a_time: The most probes that were under way at the same time.
        crowd: The most of the requests within one second, once the region was up again.
        all_open: From the first trip until every circuit had opened.
        first_closed: From the end of the outage until the first circuit was closed for good.
        all_closed: The same for the last circuit.
        idle: Commands a second at the store before the outage.
        peak: Commands in the busiest second of the store.
        load: The largest share of a second during which the store worked.
        lost: How often a process lost the store.
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
        self.up_again = plan.calm + plan.outage
        self.store = SimulatedStore(self.agenda, self.chance, costs)
        self.region = Region(
            self.agenda, down_from=plan.calm, down_until=self.up_again, answer=plan.answer
        )
        self.synchronizers: list[SimulatedSynchronizer] = []
        make = self._sharing_breaker if plan.shares else self._breaker
        self.callers = [
            Caller(self.agenda, self.chance, plan.rate, self.region, make(number))
            for number in range(plan.processes)
        ]

    def _breaker(self, _number: int) -> CircuitBreaker:
        return CircuitBreaker(REGIONS[0], POLICY, clock=self.agenda.clock)

    def _sharing_breaker(self, number: int) -> CircuitBreaker:
        protocol = RecordProtocol(
            prefix="simulated",
            client_id=f"{number:016x}",
            client_name=f"host/{number}",
            lease=LEASE,
            quorum=1,
        )
        synchronizer = SimulatedSynchronizer(
            self.agenda, self.chance, self.store, protocol, REGIONS
        )
        self.synchronizers.append(synchronizer)
        self.agenda.after(self.chance.uniform(0.0, self.plan.calm / 4), synchronizer.start)
        return synchronizer.breaker

    def play(self) -> Figures:
        """Let it happen, and count."""
        plan, agenda, callers = self.plan, self.agenda, self.callers
        agenda.run(plan.calm)
        for caller in callers:
            caller.plan()
        agenda.run(self.up_again)
        end = self.up_again + plan.most
        while agenda.now < end and not all(caller.closed_at for caller in callers):
            agenda.run(agenda.now + 1.0)
        opened = [caller.opened_at or end for caller in callers]
        closed = [caller.closed_at or end for caller in callers]
        region, store, half = self.region, self.store, int(plan.calm / 2)
        before_opening = region.requests[BEFORE] - (region.before_the_trip or 0)
        return Figures(
            requests=region.requests[PROBE] + before_opening,
            probes=region.requests[PROBE],
            probes_at_a_time=region.probes_at_a_time,
            crowd=max(region.by_second[second] for second in range(int(self.up_again), int(end))),
            all_open=max(opened) - min(opened),
            first_closed=min(closed) - self.up_again,
            all_closed=max(closed) - self.up_again,
            idle=sum(store.commands[second] for second in range(half, int(plan.calm))) / half,
            peak=max(store.commands.values(), default=0),
            load=max(store.busy.values(), default=0.0),
            lost=sum(synchronizer.lost for synchronizer in self.synchronizers),
        )
