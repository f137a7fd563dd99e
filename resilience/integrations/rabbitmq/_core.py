"""Temporary: what the core is going to offer, until the branch has it."""

from collections.abc import Generator
from contextlib import contextmanager

from resilience.breaker import CircuitBreaker
from resilience.classify import Outcome, speaker
from resilience.policy import BreakerPolicy
from resilience.retry.retry_after import asked_for


class NothingRecorded:
    """As if no breaker had recorded anything."""

    def outcome_of(self, error: BaseException) -> Outcome | None:
        """Return None."""


@contextmanager
def watch_outcomes() -> Generator[NothingRecorded]:
    """Watch nothing."""
    yield NothingRecorded()


def classify(breaker: CircuitBreaker, error: BaseException) -> Outcome:
    """As breaker.classify."""
    return breaker._ask("classifier", breaker._classifier, error)[0]


def probe_lease(policy: BreakerPolicy) -> float:
    """As policy.probe_lease."""
    return policy.probe_timeout or policy.recovery_timeout


def root_error(error: BaseException | None) -> object:
    """As classify.root_error."""
    return speaker(error)


def requested_delay(answer: object) -> float | None:
    """As retry_after.requested_delay."""
    return asked_for(answer)
