"""How long to wait for the next attempt: waits for tenacity."""

from tenacity import RetryCallState
from tenacity.wait import WaitBaseT, wait_base

from resilience import _validate
from resilience.classify import root_error
from resilience.errors import CircuitBreakerOpenError
from resilience.retry.conditions import error_of
from resilience.retry.retry_after import requested_delay


class wait_retry_after(wait_base):  # noqa: N801 - tenacity's way to name a wait
    """Wait as long as the server asked for in `Retry-After`, in seconds or by a date.

    Args:
        fallback: The tenacity wait where the server asked for nothing, or for nonsense.
        maximum: Seconds. Where the server asks for more the loop ends immediately, with the
            attempt's own error and a note on it that says so.

    Raises:
        TypeError: `fallback` cannot be called, or `maximum` is not a number.
        ValueError: `maximum` is not above 0.
    """

    def __init__(self, fallback: WaitBaseT, maximum: float = 60.0) -> None:
        _validate.check_callable("fallback", fallback, "a RetryCallState and returns seconds")
        _validate.check_seconds("maximum", maximum)
        self.fallback = fallback
        self.maximum = maximum

    def __call__(self, retry_state: RetryCallState) -> float:  # noqa: D102 - said above
        outcome = retry_state.outcome
        error = error_of(retry_state)
        answer: object = error
        if outcome is not None and error is None:
            answer = outcome.result()  # a result that the loop rejected
        delay = requested_delay(root_error(answer))
        if delay is None:
            return self.fallback(retry_state)
        if delay <= self.maximum:
            return delay
        if error is None and outcome is not None:
            error = retry_state.retry_object.retry_error_cls(outcome)
        if error is None:
            return self.fallback(retry_state)
        error.add_note(
            f"gave up: Retry-After asks for {delay:g} s, and the longest wait is {self.maximum:g} s"
        )
        raise error


class wait_until_ready(wait_base):  # noqa: N801 - tenacity's way to name a wait
    """Wait for the next probe after a rejection, for callers that would rather wait than fail.

    For a retry outside the breaker. It reserves nothing: of the calls that wait for one circuit one
    gets through, and the others are rejected again and wait on; ``+ wait_random(0, 1)`` spreads
    them.

    Args:
        fallback: The tenacity wait after any other error, and while a circuit is forced open.

    Raises:
        TypeError: `fallback` cannot be called.
    """

    def __init__(self, fallback: WaitBaseT) -> None:
        _validate.check_callable("fallback", fallback, "a RetryCallState and returns seconds")
        self.fallback = fallback

    def __call__(self, retry_state: RetryCallState) -> float:  # noqa: D102 - said above
        error = error_of(retry_state)
        if isinstance(error, CircuitBreakerOpenError) and error.retry_after is not None:
            return error.retry_after
        return self.fallback(retry_state)
