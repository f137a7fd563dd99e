"""When to try again, and when to stop: conditions for tenacity's `retry` and `stop`."""

from tenacity import RetryCallState
from tenacity.retry import retry_base
from tenacity.stop import stop_base

from resilience import scope
from resilience._introspection import is_a
from resilience.classify import REQUEST_TIMEOUT, examine, is_throttled
from resilience.outcome import Outcome


class _IsTransient(retry_base):
    """Whether an error is worth another attempt; a tenacity condition for `retry`.

    Args:
        what: What tenacity passes to its conditions, or simply an exception.

    Returns:
        True for what `classify_error` calls a failure, for the status 408, and for throttling: the
        status 429, and what a client has in its place. False for any other 4xx, a rejection by a
        circuit, a cancellation or a bug, and for an attempt without an error.
    """

    def __call__(self, what: RetryCallState | BaseException) -> bool:
        error = error_of(what) if is_a(what, RetryCallState) else what
        if not is_a(error, Exception):
            return False
        outcome, root, status = examine(error)
        if outcome is Outcome.ANSWERED:
            # A request that took too long may be in time at the next attempt.
            return status == REQUEST_TIMEOUT or is_throttled(root, status)
        return outcome is Outcome.FAILURE


is_transient = _IsTransient()


class _StopUnlessClosed(stop_base):
    """Stop when a circuit that the call goes through is not CLOSED; a tenacity `stop`.

    A probe makes a single attempt this way. On its own, as in ``stop_after_attempt(5) |
    stop_unless_closed``, it is asked after an attempt only: `gate` also ends loops that sleep.
    """

    def __call__(self, retry_state: RetryCallState) -> bool:  # noqa: ARG002 - tenacity passes it
        return scope.blocking_call(first=False) is not None


stop_unless_closed = _StopUnlessClosed()


def error_of(state: RetryCallState) -> BaseException | None:
    """Return the error of the last attempt; None if there was none."""
    return None if state.outcome is None else state.outcome.exception()
