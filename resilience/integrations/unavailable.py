"""What the integrations of web servers answer when a region that they need is not called."""

import math

from resilience.errors import CallRejectedError, CircuitBreakerOpenError, TenantThrottledError

STATUS = 503
#: Neither the region nor the reason: they are nobody's business outside.
BODY = {"detail": "upstream is unavailable"}


def headers_for(error: CallRejectedError) -> dict[str, str]:
    """Return the headers of the answer to a request whose call was rejected.

    Args:
        error: The rejection.

    Returns:
        `Retry-After` in whole seconds, rounded up: a client that comes back too early is rejected
        again. Nothing while the circuit is forced open.
    """
    retry_after = None
    if isinstance(error, CircuitBreakerOpenError | TenantThrottledError):
        retry_after = error.retry_after
    return {} if retry_after is None else {"Retry-After": str(max(1, math.ceil(retry_after)))}
