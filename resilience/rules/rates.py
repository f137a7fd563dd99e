"""The rules about shares of the recent calls: the failure rate, and the slow call rate."""

from resilience.policy import BreakerPolicy
from resilience.rules.trip import Trip, TripRule
from resilience.rules.window import SlidingWindow


def why_rates_trip(policy: BreakerPolicy, window: SlidingWindow) -> Trip | None:
    """Return why the calls in a window trip the circuit; None: they do not."""
    if window.calls < policy.minimum_calls:
        return None
    threshold = policy.failure_rate_threshold
    if threshold is not None and window.failures / window.calls >= threshold:
        reason = _describe("failure rate", window.failures, threshold, window)
        return Trip(TripRule.FAILURE_RATE, f"{reason})")
    threshold = policy.slow_call_rate_threshold
    if threshold is not None and window.slow / window.calls >= threshold:
        reason = _describe("slow call rate", window.slow, threshold, window)
        slow_from = f"slow from {policy.slow_call_duration:g} s"
        return Trip(TripRule.SLOW_CALL_RATE, f"{reason}, {slow_from})")
    return None


def _describe(what: str, count: int, threshold: float, window: SlidingWindow) -> str:
    share, limit = 100 * count / window.calls, 100 * threshold
    calls = f"{window.calls} calls in {window.seconds:g} s"
    return f"{what} {share:.0f} % of {calls} (threshold {limit:g} %"
