"""What a quorum costs and what it saves: fleets on virtual time, with processes that are sick."""

import heapq
import random
from dataclasses import dataclass

from resilience import BreakerPolicy
from tests.support.fleet import FAILURE, SUCCESS, World


@dataclass(frozen=True)
class Figures:
    """What happened in a fleet.

    Args:
        rejected: The share of the calls of healthy processes that were rejected.
        failed: How many calls failed until the circuits of all processes were open.
        all_open: After how many seconds they were; None: they never were.
    """

    rejected: float
    failed: int
    all_open: float | None


def play(*, quorum, processes=5, sick=0, is_down=False, rate=4.0, seconds=600.0, seed=1):
    """Let each process call at random times; every change reaches the others immediately.

    Args:
        quorum: The quorum of all processes.
        processes: How many there are.
        sick: How many of them fail although the region is well, as with a broken resolver.
        is_down: Whether the region is down for everybody, from the first call on.
        rate: Calls a second in each process.
        seconds: How long it goes on.
        seed: The seed of the times.
    """
    world = World(processes, quorum=quorum, policy=BreakerPolicy())
    chance, began = random.Random(seed), world.now
    calls = [(began + chance.expovariate(rate), number) for number in range(processes)]
    heapq.heapify(calls)
    made, rejected, failed, all_open = 0, 0, 0, None
    while calls[0][0] < began + seconds and not (is_down and all_open):
        world.now, number = heapq.heappop(calls)
        is_sick = number < sick
        answer = world.processes[number].call(FAILURE if is_sick or is_down else SUCCESS)
        world.settle()
        failed += answer == "called" and (is_sick or is_down)
        if not is_sick:
            made += 1
            rejected += answer != "called"
        if all_open is None and "CLOSED" not in world.states():
            all_open = world.now - began
        heapq.heappush(calls, (world.now + chance.expovariate(rate), number))
    return Figures(rejected / max(made, 1), failed, all_open)
