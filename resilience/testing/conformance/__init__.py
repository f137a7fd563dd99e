"""A suite that any circuit breaker can be run through: what it does in fifteen situations.

Write a `BreakerAdapter` for the breaker, and pass its class to `check_breaker`, or each of `CHECKS`
to a test of its own. Nothing in it waits for a clock.
"""

from resilience.testing.conformance.adapter import (
    RECOVERY,
    SUCCESSES,
    THRESHOLD,
    BreakerAdapter,
)
from resilience.testing.conformance.clock import ManualClock
from resilience.testing.conformance.errors import HttpError, is_failure
from resilience.testing.conformance.suite import CHECKS, Check, Finding, check_breaker

__all__ = [
    "CHECKS",
    "RECOVERY",
    "SUCCESSES",
    "THRESHOLD",
    "BreakerAdapter",
    "Check",
    "Finding",
    "HttpError",
    "ManualClock",
    "check_breaker",
    "is_failure",
]
