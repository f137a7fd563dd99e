"""Random policies run for real, next to what `explain` and `simulate` say of them.

For real means: a CircuitBreaker on a FakeClock, around `transient_retry` around an `async def`, and
an event loop in which no time passes but that of the clock. Each policy and each run has its seed,
so that every figure can be had again. With the same seed, a simulation gives the same as a real
run, request for request.

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
from resilience.testing import FakeClock, run_in_virtual_time

SITUATIONS = {
    "full_outage": Phase(seconds=1e6, failure_rate=1.0),
    "black_hole": Phase(seconds=1e6, hang_rate=1.0),
    "errors_90": Phase(seconds=1e6, failure_rate=0.9),
    "errors_50": Phase(seconds=1e6, failure_rate=0.5),
}
HEALTHY = Phase(seconds=1e6)
RUNS = 4
# What takes more calls than this is not run for real.
MOST_CALLS = 1_000
LONGEST_RUN = 1e9  # seconds of virtual time


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


class RealRun:
    """One policy and one region until its circuit is open, or until it is closed again."""

    def __init__(self, case, phase, seed, clock):
        self.case, self.phase, self.clock = case, phase, clock
        # It asks chance for the same things in the same order as a simulation does.
        self.chance = random.Random(seed)
        self.breaker = CircuitBreaker("real", case.policy, clock=clock, rng=self.chance)
        retry = transient_retry(attempts=case.traffic["attempts"], wait=self.wait)
        self.send = self.breaker(retry(self.request))
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

    def wait(self, state):
        if state.attempt_number == self.case.traffic["attempts"]:
            return 0  # tenacity asks before it stops
        return min(2 ** (state.attempt_number - 1), 32) + self.chance.random()

    async def request(self):
        self.requests += 1
        phase, chance = self.phase, self.chance.random()
        if chance < phase.hang_rate:
            await asyncio.sleep(self.case.traffic["call_timeout"])
            raise TimeoutError
        await asyncio.sleep(phase.latency)
        if chance < phase.hang_rate + phase.failure_rate:
            raise ConnectionResetError

    async def call(self):
        with suppress(ConnectionError, TimeoutError, CircuitBreakerOpenError):
            await self.send()

    async def play(self, *, until_closed):
        traffic = self.case.traffic
        while (self.closed_at if until_closed else self.opened_at) == math.inf:
            if len(self.tasks) == traffic["concurrency"]:
                await asyncio.wait(self.tasks, return_when=asyncio.FIRST_COMPLETED)
            if self.calls > 3 * MOST_CALLS and self.opened_at == math.inf:
                break
            await asyncio.sleep(self.chance.expovariate(traffic["calls_per_second"]))
            self.calls += 1
            task = asyncio.create_task(self.call())
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
            await asyncio.sleep(0)  # the call begins before chance is asked for the next one
        for task in list(self.tasks):
            task.cancel()
        return self


def run_for_real(case, phase, seed, *, until_closed=False):
    clock = FakeClock()
    run = RealRun(case, phase, seed, clock)
    return run_in_virtual_time(run.play(until_closed=until_closed), clock, limit=LONGEST_RUN)


def compare(case):
    """Give the ratios of what is real to what was explained and simulated, by what they are of."""
    explanation = case.policy.explain(**case.traffic)
    ratios = defaultdict(list)
    for name, phase in SITUATIONS.items():
        expected = getattr(explanation, name)
        if expected.after * case.traffic["calls_per_second"] > MOST_CALLS:
            continue
        for run in range(RUNS):
            seed = f"{case.seed} {run}"
            real = run_for_real(case, phase, seed)
            ratios[f"explain {name}"].append(real.opened_at / expected.after)
            ratios[f"explain {name}, requests"].append(real.requests_until_open / expected.requests)
            if run == 0 and real.opened_at < math.inf:
                simulated = simulate(case.policy, scenario(case, phase, real), seed=seed)
                ratios[f"simulate {name}"].append(real.opened_at / simulated.opens_after)
                sent = real.requests_until_open / simulated.requests_until_open
                ratios[f"simulate {name}, requests"].append(sent)
    real = run_for_real(case, SITUATIONS["full_outage"], "closing", until_closed=True)
    ratios["explain closes_after"].append(
        (real.closed_at - real.opened_at) / explanation.closes_after
    )
    return ratios


def scenario(case, phase, real):
    """Give the scenario of a real run, until a little after its circuit has opened."""
    return Scenario(
        phases=(Phase(seconds=real.opened_at + 1, **rates(phase)),),
        calls_per_second=case.traffic["calls_per_second"],
        concurrency=case.traffic["concurrency"],
        attempts=case.traffic["attempts"],
        request_timeout=case.traffic["call_timeout"],
    )


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
