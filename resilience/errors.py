"""What the package raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resilience.circuit import CircuitState


class ResilienceError(Exception):
    """The base of every error that this package raises on its own account."""

    __slots__ = ()


class CircuitBreakerOpenError(ResilienceError):
    """A call was rejected without being made, because its region's circuit does not admit it.

    T10: "All subsequent calls to that region fast-fail immediately." NACK the message and let it
    come back. The error never carries another caller's exception, so it is safe to log.

    Args:
        region: The region whose circuit rejected the call.
        state: What the circuit was at that moment: OPEN, or HALF_OPEN with its probes under way.
        reason: Why the circuit opened, in short: ``ClientResponseError 503``.
        retry_after: Seconds until a call may be admitted; None while the circuit is forced open.
    """

    # A dictionary for each rejected call would be a third of what it costs.
    __slots__ = ("reason", "region", "retry_after", "state")

    def __init__(
        self,
        region: str,
        state: CircuitState,
        reason: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.region, self.state, self.reason, self.retry_after = region, state, reason, retry_after

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.region, self.state, self.reason, self.retry_after), self.__dict__

    def __str__(self) -> str:
        why = "" if self.reason is None else f": {self.reason}"
        text = f"circuit breaker for region {self.region!r} is {self.state}{why}; "
        if self.retry_after is None:
            return f"{text}open until it is reset by hand"
        return f"{text}retry after {round(self.retry_after, 2):g} s"
