"""RateLimit: so many requests in so many seconds; and what one answer says about one."""

from dataclasses import dataclass
from functools import lru_cache

from resilience import _validate


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What a server allows.

    Args:
        allowed: Requests.
        window: Seconds in which this many are allowed.

    Raises:
        TypeError: An argument is not a number.
        ValueError: An argument, or the rate that they make, is not above 0, or is infinite.
    """

    allowed: float
    window: float

    def __post_init__(self) -> None:
        _validate.check_seconds("window", self.window)
        _validate.check_above_zero("allowed", self.allowed)
        _validate.check_above_zero("allowed / window", self.per_second)

    @property
    def per_second(self) -> float:
        """Requests a second, on average."""
        return self.allowed / self.window


@lru_cache(maxsize=256, typed=True)  # 300 and 300.0 are shown differently
def shared_limit(allowed: float, window: float) -> RateLimit:
    """Return a limit; ten thousand tenants with the same one share the object."""
    return RateLimit(allowed, window)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitReading:
    """What one answer says about a rate limit.

    Args:
        is_throttled: Whether the request was refused because there were too many.
        wait: Seconds that the server asks its client to wait; None: it asks for nothing.
        limit: What it allows; None: it does not say.
        remaining: Requests that remain until the reset; None: it does not say.
        resets_in: Seconds until the limit resets; None: it does not say.
    """

    is_throttled: bool = False
    wait: float | None = None
    limit: RateLimit | None = None
    remaining: float | None = None
    resets_in: float | None = None
