"""wait_until_ready: a wait for a retry outside of the breaker."""

from tenacity import RetryCallState
from tenacity.wait import WaitBaseT, wait_base

from resilience import _validate
from resilience.errors import CircuitBreakerOpenError
from resilience.retry.conditions import error_of
from resilience.retry.settings import check_strategy


class wait_until_ready(wait_base):  # noqa: N801 - tenacity's way to name a wait
    """Wait for the next probe after a rejection, for callers that would rather wait than fail.

    For a retry outside the breaker. It reserves nothing: of the calls that wait for one circuit one
    gets through, and the others are rejected again and wait on; ``+ wait_random(0, 1)`` spreads
    them.

    Args:
        fallback: The tenacity wait after any other error, and while a circuit is forced open.

    Raises:
        TypeError: `fallback` cannot be called with a RetryCallState.
    """

    def __init__(self, fallback: WaitBaseT) -> None:
        _validate.check_callable("fallback", fallback, "a RetryCallState and returns seconds")
        check_strategy("fallback", fallback)
        self.fallback = fallback

    def __call__(self, retry_state: RetryCallState) -> float:  # noqa: D102 - documented on the class
        error = error_of(retry_state)
        if isinstance(error, CircuitBreakerOpenError) and error.retry_after is not None:
            return error.retry_after
        return self.fallback(retry_state)
