"""What happens to a message after an attempt: decided here, and nowhere else."""

from enum import Enum, auto
from typing import Protocol

from resilience import scope
from resilience.breaker import CircuitBreaker
from resilience.errors import CircuitBreakerOpenError, TenantThrottledError
from resilience.outcome import Outcome
from resilience.retry import is_transient

_MAX_ERRORS = 64  # Causes may form a cycle.


class Disposition(Enum):
    """What happens to a message after the handler was called with it."""

    #: The handler returned: acknowledge the message.
    ACK = auto()
    #: A circuit rejected the call: attempt the message when that circuit admits calls again.
    REJECTED = auto()
    #: The region failed: hold the message until the region has recovered.
    REGION_FAILED = auto()
    #: A rate limit or the like: hold the message and attempt it again after a pause.
    RETRY_LATER = auto()
    #: Another attempt would not help: pass the message to `on_error`.
    ON_ERROR = auto()


class RecordedOutcomes(Protocol):
    """The outcomes that the breakers recorded while the handler was running."""

    def outcome_of(self, error: BaseException) -> Outcome | None:
        """Return what was recorded for an error, or None if nothing was."""


def disposition_of(
    breaker: CircuitBreaker, error: BaseException | None, recorded: RecordedOutcomes
) -> Disposition:
    """Decide what happens to a message.

    Args:
        breaker: The breaker of the message's region.
        error: What the handler raised; None if it returned.
        recorded: What the breakers made of the errors inside the handler.
    """
    if error is None:
        return Disposition.ACK
    if isinstance(error, CircuitBreakerOpenError):
        return Disposition.REJECTED
    if isinstance(error, TenantThrottledError) or not isinstance(error, Exception):
        # The tenant may call later; a cancellation that nobody asked for proves nothing.
        return Disposition.RETRY_LATER
    if _is_failure(breaker, error, recorded):
        return Disposition.REGION_FAILED
    if is_transient(error):
        return Disposition.RETRY_LATER
    return Disposition.ON_ERROR if rejection_in(error) is None else Disposition.REJECTED


def _is_failure(breaker: CircuitBreaker, error: BaseException, recorded: RecordedOutcomes) -> bool:
    """Whether an error is a failure of the region.

    What a breaker recorded for the error decides. Only if nothing was recorded, the classifier of
    the region's own breaker does: a decorator may have another one.
    """
    outcome = recorded.outcome_of(error)
    if outcome is None and isinstance(error, BaseExceptionGroup):
        return any(_is_failure(breaker, member, recorded) for member in error.exceptions)
    if outcome is None:
        outcome = breaker.classify(error)
    return outcome is Outcome.FAILURE


def rejection_in(error: BaseException | None) -> CircuitBreakerOpenError | None:
    """Return the rejection that an error is, wraps, or was raised from or beside."""
    chain = [] if error is None else scope.members_of(error)
    for one in chain:
        if isinstance(one, CircuitBreakerOpenError):
            return one
        cause = scope.cause_of(one)
        if cause is not None and cause not in chain and len(chain) < _MAX_ERRORS:
            chain += scope.members_of(cause)
    return None
