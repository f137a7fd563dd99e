"""Timing in interleaved rounds: every case in turn, so that noise affects all of them alike."""

import gc
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.loops import Run


@dataclass(frozen=True)
class Rounds:
    """How long each case is timed.

    Args:
        number: The number of rounds.
        seconds: The length of a round of one case.
    """

    number: int
    seconds: float


FULL = Rounds(number=31, seconds=0.010)
QUICK = Rounds(number=2, seconds=0.0002)  # shows that everything works; the figures mean nothing


@dataclass
class Case:
    """One thing to time.

    Args:
        name: Its row in the table.
        run: Makes calls.
    """

    name: str
    run: Run
    calls: int = 50  # in a round
    times: list[float] = field(default_factory=list)  # ns per call, one for each round

    @property
    def best(self) -> float:
        """The least of all rounds."""
        return min(self.times)

    def round(self) -> float:
        """Time one round, free of garbage collection; return ns per call."""
        gc.collect()
        gc.disable()
        started = time.perf_counter_ns()
        self.run(self.calls)
        took = time.perf_counter_ns() - started
        gc.enable()
        return took / self.calls

    def calibrate(self, seconds: float) -> None:
        """Warm up, and find out how many calls make a round of this length."""
        per_call = min(self.round() for _ in range(3))
        self.calls = max(10, int(seconds * 1e9 / per_call))


def time_cases(cases: Sequence[Case], rounds: Rounds) -> None:
    """Time all cases in interleaved rounds, each of which starts with another case."""
    gc.collect()
    gc.freeze()  # what exists already is not garbage, and not looked at again in every round
    for case in cases:
        case.calibrate(rounds.seconds)
    for number in range(rounds.number):
        start = number % len(cases)
        for case in (*cases[start:], *cases[:start]):
            case.times.append(case.round())
    gc.unfreeze()


def extra(case: Case, base: Case) -> tuple[float, float]:
    """Return what a case costs over another: least over least, and the median over all rounds."""
    pairs = zip(case.times, base.times, strict=True)
    return case.best - base.best, statistics.median(one - other for one, other in pairs)
