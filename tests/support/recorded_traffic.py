"""Random traffic on a registry that records, with everything that can happen to a circuit."""

import random

from resilience import Backoff, BreakerPolicy, CircuitBreakerOpenError, CircuitBreakerRegistry
from resilience.recording import read_recording

REGIONS = ("eu-west-1", "us-east-1")


def random_policy(chance):
    """Draw a policy with any of the rules that work without a task."""
    given = {
        "failure_threshold": chance.choice([2, 3, 5]),
        "success_threshold": chance.choice([1, 3]),
        "half_open_probes": chance.choice([1, 2, 3]),
        "probe_timeout": chance.choice([None, 2]),
    }
    if chance.random() < 0.4:
        given.update(failure_rate_threshold=chance.choice([0.3, 0.8]), minimum_calls=3, window=5)
    if chance.random() < 0.3:
        given.update(slow_call_duration=chance.choice([1, 2.5]), slow_call_rate_threshold=0.3)
    if chance.random() < 0.3:
        given["streak_window"] = 3
    if chance.random() < 0.3:
        given["recovery_timeout"] = Backoff(5.5, jitter=chance.choice([0, 0.3]))
    elif chance.random() < 0.5:
        given.update(recovery_timeout=chance.choice([0.1, 10]), recovery_jitter=0.5)
    if chance.random() < 0.3:
        given["ramp"] = (chance.choice([1, 2]), 2)
    if chance.random() < 0.3:
        given["abandoned_threshold"] = 3
    if chance.random() < 0.3:
        given["stranded_after"] = chance.choice([0.5, 2])
    return BreakerPolicy(**given)


class Traffic:
    """Calls that overlap, in two regions that go down and come back, and a user who steps in.

    Args:
        seed: Of all chance.
        clock: A `FakeClock`.
        policy: The policy of both regions; None: a random one.
    """

    def __init__(self, seed, clock, policy=None):
        self.chance = random.Random(seed)
        self.clock = clock
        self.policy = policy or random_policy(self.chance)
        self.registry = CircuitBreakerRegistry(
            self.policy, clock=clock, rng=random.Random(seed + 1)
        )
        self.has_attempts = True
        self.changes = []
        self.registry.listen(self.changes.append)
        self._running = []
        self._down = dict.fromkeys(REGIONS, 0.3)

    def run(self, steps):
        """Take this many random steps."""
        for _ in range(steps):
            if self.chance.random() < 0.02:
                self._down[self.chance.choice(REGIONS)] = self.chance.choice([0, 0.1, 0.9, 1])
            kind = self.chance.random()
            if kind < 0.35:
                self.clock.advance(self.chance.randint(1, 3000) / 1000)
            elif kind < 0.7:
                self._begin(self.chance.choice(REGIONS))
            elif self._running:
                self._end(*self._running.pop(self.chance.randrange(len(self._running))))
            self._step_in()

    def _begin(self, region):
        try:
            self._running.append((region, self.registry.get(region).acquire()))
        except CircuitBreakerOpenError as error:
            if error.retry_after and self.chance.random() < 0.3:
                self.clock.advance(error.retry_after)

    def _end(self, region, permit):
        how = self.chance.random()
        if how < 0.1:
            permit.ignore()
        elif how < 0.15:
            permit.answered()
        elif how < 0.2 and self.has_attempts:
            permit.attempt_failed(TimeoutError())
            permit.succeed()
        elif how < 0.25 and self.has_attempts:
            permit.attempt_failed(TimeoutError())
            permit.fail()
        elif self.chance.random() < self._down[region]:
            permit.fail()
        else:
            permit.succeed()

    def _step_in(self):
        what = self.chance.random()
        breaker = self.registry.get(self.chance.choice(REGIONS))
        if what < 0.003:
            breaker.reset()
        elif what < 0.006:
            breaker.force_open("maintenance")
        elif what < 0.009:
            breaker.reset()


def read_regions(path):
    """Return what was recorded, by the names of the regions."""
    return {recorded.region: recorded for recorded in read_recording(path).regions}
