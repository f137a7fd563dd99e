"""What becomes of a message after a call of the handler: decided here and nowhere else."""

from collections.abc import Iterator
from enum import Enum, auto

from resilience.breaker import CircuitBreaker
from resilience.classify import Outcome
from resilience.errors import CircuitBreakerOpenError
from resilience.retry import is_transient

_MAX_DEPTH = 16  # wrapped errors may form a circle


class Verdict(Enum):
    """Whose matter the outcome of a call is."""

    DONE = auto()  # ack
    REJECTED = auto()  # a circuit let nothing through: it was not attempted, or not again
    REGION = auto()  # the region failed: try it again when the region can
    TENANT = auto()  # a 429 or the like: try it again later
    USER = auto()  # nothing that waiting can cure: on_error


def judge(breaker: CircuitBreaker, error: BaseException | None) -> Verdict:
    """Decide by what the handler raised; None is that it returned."""
    if error is None:
        return Verdict.DONE
    if isinstance(error, CircuitBreakerOpenError):
        return Verdict.REJECTED
    if not isinstance(error, Exception):
        return Verdict.TENANT  # a cancellation that nobody asked for says nothing
    report = breaker._ask("classifier", breaker._classifier, error)
    if report[0] is Outcome.FAILURE:
        return Verdict.REGION
    if is_transient(error):
        return Verdict.TENANT
    return Verdict.USER if rejection_in(error) is None else Verdict.REJECTED


def rejection_in(error: BaseException | None) -> CircuitBreakerOpenError | None:
    """Find the rejection that an error is, or wraps: in a group, or as its cause."""
    return next(_rejections(error), None)


def _rejections(error: BaseException | None, depth: int = 0) -> Iterator[CircuitBreakerOpenError]:
    if isinstance(error, CircuitBreakerOpenError):
        yield error
    elif error is not None and depth < _MAX_DEPTH:
        inner = error.exceptions if isinstance(error, BaseExceptionGroup) else (error.__cause__,)
        for one in inner:
            yield from _rejections(one, depth + 1)
