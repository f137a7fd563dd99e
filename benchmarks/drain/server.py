"""A server that allows a number of requests in each window, as Genesys Cloud does."""

from resilience.limits import LimitReading, RateLimit


class Server:
    """Counts the requests of the running window, and refuses those beyond the limit.

    Args:
        limit: What it allows.
        offset: When a window begins, in seconds.
    """

    def __init__(self, limit: RateLimit, offset: float) -> None:
        self._limit = limit
        self._offset = offset
        self._window = -1
        self._count = 0
        self.requests = 0
        self.refused = 0

    def request(self, now: float) -> LimitReading:
        """Answer a request, as its headers say it."""
        passed = now + self._offset
        window = int(passed // self._limit.window)
        if window != self._window:
            self._window, self._count = window, 0
        self._count += 1
        self.requests += 1
        is_refused = self._count > self._limit.allowed
        self.refused += is_refused
        resets_in = (window + 1) * self._limit.window - passed
        return LimitReading(
            is_throttled=is_refused,
            wait=resets_in if is_refused else None,
            limit=self._limit,
            remaining=max(0.0, self._limit.allowed - self._count),
            resets_in=resets_in,
        )
