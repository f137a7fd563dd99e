"""The errors that the package raises."""

from typing import cast

from resilience.circuit_states import CircuitState


class ResilienceError(Exception):
    """The base of every error that this package raises on its own account."""

    __slots__ = ()


class CallRejectedError(ResilienceError):
    """The base of the errors of calls that were not made; they say nothing about the region."""

    __slots__ = ()


class CircuitBreakerOpenError(CallRejectedError):
    """A call was rejected, or its retries were ended, because its region's circuit admits no call.

    Let the message wait: returning it to its queue immediately makes a redelivery loop. Without a
    `__cause__` nothing was sent; otherwise that is the error of the last attempt, or the
    cancellation of a call that was in flight when the circuit opened. The error never carries
    another caller's exception, so it is safe to log.

    Args:
        region: The region whose circuit rejected the call.
        state: The state of the circuit: OPEN, HALF_OPEN while its probes are running, or CLOSED
            while a ramp limits the calls.
        reason: Why the circuit opened, in short: ``ClientResponseError 503``; or how many calls the
            ramp allows.
        retry_after: Seconds until a call may be admitted; None while the circuit is forced open.
    """

    # What it knows is in `args`, which every exception has room for. A dictionary for each rejected
    # call would be a third of what it costs, and a class with slots could not be an `OSError` as
    # well, which the errors of some client libraries are.
    __slots__ = ()

    def __init__(
        self,
        region: str,
        state: CircuitState,
        reason: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.args = (region, state, reason, retry_after)

    @property
    def region(self) -> str:
        """The region whose circuit rejected the call."""
        return cast("str", self.args[0])

    @property
    def state(self) -> CircuitState:
        """The state of the circuit."""
        return cast("CircuitState", self.args[1])

    @property
    def reason(self) -> str | None:
        """Why the circuit opened, in short."""
        return cast("str | None", self.args[2])

    @property
    def retry_after(self) -> float | None:
        """Seconds until a call may be admitted; None while the circuit is forced open."""
        return cast("float | None", self.args[3])

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.region, self.state, self.reason, self.retry_after), self.__dict__

    def __str__(self) -> str:
        why = "" if self.reason is None else f": {self.reason}"
        text = f"circuit breaker for region {self.region!r} is {self.state}{why}; "
        if self.retry_after is None:
            return f"{text}open until it is reset by hand"
        return f"{text}retry after {_in_short(self.retry_after)}"


class TenantThrottledError(CallRejectedError):
    """A call was rejected because its tenant is throttled: the region accepts none of it now.

    Nothing was sent, unless the error has a `__cause__`: then a retry loop was ended, and that is
    the error of its last attempt. Calls of other tenants go on.

    Args:
        region: The region that throttles the tenant.
        tenant: The tenant.
        retry_after: Seconds until a call may be made. While one call finds out whether the tenant
            may go on, the others should come back after a second at most.
    """

    __slots__ = ("region", "retry_after", "tenant")

    def __init__(self, region: str, tenant: str, retry_after: float) -> None:
        self.region = region
        self.tenant = tenant
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.region, self.tenant, self.retry_after), self.__dict__

    def __str__(self) -> str:
        return (
            f"tenant {self.tenant!r} is throttled by region {self.region!r}; "
            f"retry after {_in_short(self.retry_after)}"
        )


def _in_short(seconds: float) -> str:
    """Return a number of seconds as a message shows it, a long one with fewer decimals."""
    is_long = seconds >= 10  # noqa: PLR2004
    return f"{round(seconds, 1 if is_long else 2):g} s"
