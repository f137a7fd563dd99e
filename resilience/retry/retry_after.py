"""`Retry-After`: a wait that keeps the delay that a server asks for (RFC 9110, 10.2.3)."""

import random

from tenacity import RetryCallState
from tenacity.wait import WaitBaseT, wait_base

from resilience import _validate
from resilience.requested_delay import longest_request

# The share of the requested delay over which loops with the same request are spread.
_SPREAD = 0.2


class wait_retry_after(wait_base):  # noqa: N801 - tenacity's way to name a wait
    """Wait as long as another wait does, and at least as long as the server asks for.

    The server asks in `Retry-After`, in seconds or by a date, or, where there is none, by a rate
    limit that is exhausted. Up to a fifth of what it asks for is added at random: otherwise all
    callers that received the same answer would come back at the same moment.

    Args:
        fallback: The tenacity wait of the loop itself: no wait is shorter than this one.
        maximum: Seconds. Where the server asks for more the loop ends immediately, with the
            attempt's own error and a note on it that says so. What is added at random may exceed
            it.

    Raises:
        TypeError: `fallback` cannot be called, or `maximum` is not a number.
        ValueError: `maximum` is not above 0.
    """

    def __init__(self, fallback: WaitBaseT, maximum: float = 60.0) -> None:
        _validate.check_callable("fallback", fallback, "a RetryCallState and returns seconds")
        _validate.check_seconds("maximum", maximum)
        self.fallback = fallback
        self.maximum = maximum

    def __call__(self, retry_state: RetryCallState) -> float:  # noqa: D102 - documented on the class
        own = self.fallback(retry_state)
        outcome = retry_state.outcome
        if outcome is None:
            return own
        error = outcome.exception()
        # Without an error it is a result that the loop rejected.
        asked = longest_request(outcome.result() if error is None else error)
        if asked is None:
            return own
        delay, header = asked
        if delay <= self.maximum:
            spread = random.uniform(0, _SPREAD * delay)  # noqa: S311 - not a secret
            return max(own, delay) + spread
        if error is None:
            error = retry_state.retry_object.retry_error_cls(outcome)
        error.add_note(
            f"gave up: {header} asks for {delay:g} s, and the longest wait is {self.maximum:g} s"
        )
        raise error
