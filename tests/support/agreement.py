"""Random policies run for real, next to what `explain` and `simulate` say of them.

For real means: a CircuitBreaker on a FakeClock, around `transient_retry` around an `async def`, and
an event loop in which no time passes but that of the clock. Nothing of it is shared with the
simulation. Each policy and each run has its seed, so that every figure can be had again.

    python -m tests.support.agreement 1000
"""

import asyncio
import math
import random
import sys
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from statistics import median

from loguru import logger

from resilience import (
    Backoff,
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitState,
)
from resilience.explain import Phase, Scenario, simulate
from resilience.retry import transient_retry
from resilience.testing import FakeClock
from tests.support.virtual_time import VirtualTimeLoop

SITUATIONS = {
    "full_outage": Phase(seconds=1e6, failure_rate=1.0),
    "black_hole": Phase(seconds=1e6, hang_rate=1.0),
    "errors_90": Phase(seconds=1e6, failure_rate=0.9),
    "errors_50": Phase(seconds=1e6, failure_rate=0.5),
}
HEALTHY = Phase(seconds=1e6)
RUNS = 3
# What takes more calls than this is not run for real.
MOST_CALLS = 1_000


@dataclass(frozen=True)
class Case:
    """A policy, and how it is used."""

    seed: int
    policy: BreakerPolicy
    traffic: dict[str, float]


def make_case(seed):
    chance = random.Random(seed)
    attempts = chance.choice([1, 1, 2, 3, 5])
    traffic = {
        "attempts": attempts,
        "call_timeout": round(chance.uniform(1, 10), 1),
        "calls_per_second": round(math.exp(chance.uniform(math.log(0.5), math.log(50))), 2),
        "concurrency": chance.choice([5, 20, 100, 200]),
    }
    fields = {
        "failure_threshold": chance.randint(1, 15),
        "recovery_timeout": round(chance.uniform(1, 60), 1),
        "success_threshold": chance.randint(1, 5),
        "half_open_probes": chance.randint(1, 3),
        "recovery_jitter": chance.choice([0.0, 0.2]),
    }
    if chance.random() < 0.2:
        fields["recovery_timeout"] = Backoff(fields["recovery_timeout"], maximum=300)
        del fields["recovery_jitter"]
    if chance.random() < 0.3 and fields["failure_threshold"] > 1:
        fields["streak_window"] = round(chance.uniform(1, 60), 1)
    if chance.random() < 0.5:
        fields["failure_rate_threshold"] = round(chance.uniform(0.1, 1), 2)
        fields["minimum_calls"] = chance.randint(5, 50)
        fields["window"] = round(chance.uniform(10, 120))
    if chance.random() < 0.2:
        fields["stranded_after"] = round(chance.uniform(0.5, 5), 1)
        fields["cancel_stranded"] = chance.random() < 0.5
    if chance.random() < 0.2:
        fields["call_timeout"] = round(chance.uniform(6, 30), 1)
    if chance.random() < 0.2:
        fields["ramp"] = (chance.randint(1, 5), 2)
    return Case(seed, BreakerPolicy(**fields), traffic)


class ClockLoop(VirtualTimeLoop):
    """An event loop whose time is that of a FakeClock."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock
        skip = self._selector.select

        def advance(timeout):
            clock.advance(timeout)
            return skip(timeout)

        self._selector.select = advance

    def time(self):
        return self.clock()


class RealRun:
    """One policy and one region until its circuit is open, or until it is closed again."""

    def __init__(self, case, phase, seed, clock):
        self.case, self.phase, self.clock = case, phase, clock
        self.chance = random.Random(f"real {case.seed} {seed}")
        random.seed(self.chance.random())  # the waits of tenacity
        self.breaker = CircuitBreaker("real", case.policy, clock=clock, rng=self.chance)
        attempts = case.traffic["attempts"]
        request = transient_retry(attempts=attempts)(self.request) if attempts > 1 else self.request
        self.send = self.breaker(request)
        self.requests = self.calls = 0
        self.tasks = set()
        self.opened_at = self.requests_until_open = self.closed_at = math.inf
        self.breaker.listen(self.follow)

    def follow(self, event):
        if event.new is CircuitState.OPEN and self.opened_at == math.inf:
            self.opened_at, self.requests_until_open = event.at, self.requests
            self.phase = HEALTHY
        elif event.new is CircuitState.CLOSED:
            self.closed_at = event.at

    async def request(self):
        self.requests += 1
        phase, chance = self.phase, self.chance.random()
        timeout = self.case.traffic["call_timeout"]
        if chance < phase.hang_rate:
            await asyncio.sleep(timeout)
            raise TimeoutError
        await asyncio.sleep(phase.latency)
        if chance < phase.hang_rate + phase.failure_rate:
            raise ConnectionResetError

    async def call(self):
        with suppress(ConnectionError, TimeoutError, CircuitBreakerOpenError):
            await self.send()

    async def play(self, *, until_closed):
        traffic = self.case.traffic
        while self.calls < MOST_CALLS * 3 or self.opened_at < math.inf:
            await asyncio.sleep(self.chance.expovariate(traffic["calls_per_second"]))
            if (self.closed_at if until_closed else self.opened_at) < math.inf:
                break
            if len(self.tasks) < traffic["concurrency"]:
                self.calls += 1
                task = asyncio.create_task(self.call())
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
            elif not any(self.alive()):
                break
        for task in list(self.tasks):
            task.cancel()
        return self

    def alive(self):
        return (not task.done() for task in self.tasks)


def run_for_real(case, phase, seed, *, until_closed=False):
    clock = FakeClock()
    with asyncio.Runner(loop_factory=lambda: ClockLoop(clock)) as runner:
        return runner.run(RealRun(case, phase, seed, clock).play(until_closed=until_closed))


def compare(case):
    """Give the ratios of what is real to what was explained and simulated, by what they are of."""
    explanation = case.policy.explain(**case.traffic)
    ratios = defaultdict(list)
    for name, phase in SITUATIONS.items():
        expected = getattr(explanation, name)
        if expected.after * case.traffic["calls_per_second"] > MOST_CALLS:
            continue
        scenario = Scenario(
            phases=(Phase(seconds=20 * expected.after, **rates(phase)),),
            calls_per_second=case.traffic["calls_per_second"],
            concurrency=case.traffic["concurrency"],
            attempts=case.traffic["attempts"],
            request_timeout=case.traffic["call_timeout"],
        )
        for seed in range(RUNS):
            real = run_for_real(case, phase, seed)
            simulated = simulate(case.policy, scenario, seed=seed)
            ratios[f"explain {name}"].append(real.opened_at / expected.after)
            ratios[f"explain {name}, requests"].append(real.requests_until_open / expected.requests)
            ratios[f"simulate {name}"].append(real.opened_at / simulated.opens_after)
    real = run_for_real(case, SITUATIONS["full_outage"], 0, until_closed=True)
    ratios["explain closes_after"].append(
        (real.closed_at - real.opened_at) / explanation.closes_after
    )
    return ratios


def rates(phase):
    return {"failure_rate": phase.failure_rate, "hang_rate": phase.hang_rate}


def compare_all(seeds):
    ratios = defaultdict(list)
    logger.disable("resilience")
    try:
        for seed in seeds:
            for name, values in compare(make_case(seed)).items():
                ratios[name] += values
    finally:
        logger.enable("resilience")
    return {name: (median(values), len(values)) for name, values in ratios.items()}


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    worst = 0.0
    for name, (ratio, size) in sorted(compare_all(range(count)).items()):
        print(f"{name:32} {ratio:.3f}  ({size} runs)")
        worst = max(worst, abs(ratio - 1))
    print(f"{count} policies, medians within {100 * worst:.1f} %")
    sys.exit(worst > 0.05)
