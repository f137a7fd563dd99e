"""Timing in interleaved rounds: every case in turn, so that noise hits all alike."""

import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

ROUNDS = 31
ROUND_SECONDS = 0.010  # of each case in each round


@dataclass
class Case:
    """One thing to time.

    Args:
        name: Its row in the table.
        run: Makes that many calls; what it returns is awaited, if it can be.
        before: Made before each round, outside the time.
        calls: How many calls a round has; found out when it is 0.
    """

    name: str
    run: Callable[[int], Awaitable[None] | None]
    before: Callable[[], None] = lambda: None
    calls: int = 0
    times: list[float] = field(default_factory=list)  # ns per call, one for each round

    @property
    def best(self) -> float:
        """The least of all rounds."""
        return min(self.times)

    async def round(self) -> float:
        """Make one round; gives ns per call. No garbage collection falls into it."""
        self.before()
        gc.collect()
        gc.disable()
        started = time.perf_counter_ns()
        pending = self.run(self.calls)
        if pending is not None:
            await pending
        took = time.perf_counter_ns() - started
        gc.enable()
        return took / self.calls

    async def calibrate(self) -> None:
        """Warm up, and find how many calls make a round of the length that is wanted."""
        found = self.calls == 0
        self.calls = self.calls or 50
        per_call = min([await self.round() for _ in range(3)])
        if found:
            self.calls = max(10, int(ROUND_SECONDS * 1e9 / per_call))


async def time_cases(cases: Sequence[Case]) -> None:
    """Time all cases in interleaved rounds; each round starts with another one."""
    gc.collect()
    gc.freeze()  # what is there already is no garbage, and need not be looked at in every round
    for case in cases:
        await case.calibrate()
    for number in range(ROUNDS):
        start = number % len(cases)
        for case in (*cases[start:], *cases[:start]):
            case.times.append(await case.round())
    gc.unfreeze()


def extra(case: Case, base: Case) -> tuple[float, float]:
    """Say what a case costs over another: least over least, and the median of all rounds."""
    pairs = zip(case.times, base.times, strict=True)
    return case.best - base.best, statistics.median(one - other for one, other in pairs)
