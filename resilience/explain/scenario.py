"""Scenario: what a region does as time goes on, and how it is called meanwhile."""

import math
from dataclasses import dataclass

from resilience._validate import check_amount, check_count, check_seconds, kind_of

# As those of `transient_retry`: 1 s, 2 s, 4 s and so on, each plus up to 1 s at random.
_LONGEST_WAIT = 32.0
_JITTER = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What a region does for some time.

    Args:
        seconds: How long.
        failure_rate: The share of the requests that are answered with an error.
        hang_rate: The share of the requests that are never answered.
        latency: Seconds that an answer takes.
        slow_rate: The share of the good answers that are slow.
        slow_latency: Seconds that a slow answer takes.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: A field has a wrong value, or failures and hanging requests exceed all of them.
    """

    seconds: float
    failure_rate: float = 0.0
    hang_rate: float = 0.0
    latency: float = 0.1
    slow_rate: float = 0.0
    slow_latency: float = 5.0

    def __post_init__(self) -> None:
        for name in ("seconds", "latency", "slow_latency"):
            check_seconds(name, getattr(self, name))
        for name in ("failure_rate", "hang_rate", "slow_rate"):
            share = getattr(self, name)
            check_amount(name, share)
            if share > 1:
                raise ValueError(f"{name} must be a share from 0 to 1, got {share!r}")
        if self.failure_rate + self.hang_rate > 1:
            raise ValueError(
                "failure_rate and hang_rate must not be more than 1 together, got"
                f" {self.failure_rate!r} and {self.hang_rate!r}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """The phases of a region, one after the other, and the calls of one process.

    Calls come at random moments. One that comes while `concurrency` calls are running is not made.
    A failed request is repeated as `transient_retry` does it.

    Args:
        phases: What the region does. The scenario ends with the last one.
        calls_per_second: How many calls come in a second, on average.
        concurrency: How many calls run at the same time at most.
        attempts: How many requests a call makes at most.
        request_timeout: Seconds after which the client ends a request, which then has failed; None:
            it waits without end.
        gives_up_after: Seconds after which a call is cancelled from outside; None: none is.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: A field has a wrong value.
    """

    phases: tuple[Phase, ...]
    calls_per_second: float = 10.0
    concurrency: int = 100
    attempts: int = 5
    request_timeout: float | None = 10.0
    gives_up_after: float | None = None

    def __post_init__(self) -> None:
        given: object = self.phases
        is_tuple = isinstance(given, tuple) and len(self.phases) > 0
        if not is_tuple or not all(isinstance(phase, Phase) for phase in self.phases):
            got = "()" if isinstance(given, tuple) and not given else kind_of(given)
            raise TypeError(f"phases must be a tuple of at least one Phase, got {got}")
        check_seconds("calls_per_second", self.calls_per_second)
        check_count("concurrency", self.concurrency)
        check_count("attempts", self.attempts)
        for name in ("request_timeout", "gives_up_after"):
            if getattr(self, name) is not None:
                check_seconds(name, getattr(self, name))

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return sum(phase.seconds for phase in self.phases)

    def phase_at(self, now: float) -> Phase:
        """Return the phase at a time in seconds; after the end, it is the last one."""
        for phase in self.phases:
            now -= phase.seconds
            if now < 0:
                return phase
        return self.phases[-1]


def wait_after(failed_attempts: int, chance: float) -> float:
    """Return the seconds until the next attempt of a call.

    Args:
        failed_attempts: How many have failed.
        chance: A random number from 0 up to 1.
    """
    return float(min(2.0 ** min(failed_attempts - 1, 10), _LONGEST_WAIT)) + _JITTER * chance


def time_to_fail(attempts: int, seconds: float) -> float:
    """Return how long a call takes that fails in the end, on average.

    Args:
        attempts: How many it makes.
        seconds: How long each of them takes.
    """
    waits = math.fsum(wait_after(failed, 1 / 2) for failed in range(1, attempts))
    return attempts * seconds + waits
