"""Pace: when the next request of a backlog may start, so that none is refused.

The rules:

1.  A known limit is used to a share, 95 % unless it is set otherwise. The backlog's requests are
    spaced evenly at that rate, and never catch up on time that has passed.
2.  The rest of the limit is room for what arrives live. A live request starts immediately as long
    as there is room, and takes its place from the backlog, which waits that much longer. In any
    window the two together stay within the limit, whatever arrives.
3.  Where no limit is known, the rate is found out: see `AdaptiveRate`.
4.  An answer may say how much remains until the limit resets. When others use up the same limit,
    the pace slows down to what is left for it.
5.  After a refusal nothing starts until the wait that the server asks for is over, which is at most
    an hour.
6.  A clock that steps back moves all times back with it: nothing waits longer for that.

One number holds all of it: the time at which the requests that have started are paid for, each by
the time between two requests (the virtual scheduling algorithm of the generic cell rate algorithm).
"""

from resilience import _validate
from resilience.limits.adaptive_rate import AdaptiveRate
from resilience.limits.rate_limit import LimitReading, RateLimit
from resilience.limits.throttle import LONGEST_WAIT

SHARE = 0.95
# Without a known limit, seconds by which a live request may be ahead of the rate.
_ROOM_WITHOUT_LIMIT = 1.0
_LOWEST_RATE = 0.01  # requests a second: nothing waits without end


class Pace:
    """The pace of one tenant's requests, or of a region's.

    Args:
        now: The time, in seconds.
        limit: What the server allows; None: it is found out.
        share: The share of a known limit that is used, above 0 and at most 1.

    Raises:
        TypeError: `share` is not a number.
        ValueError: `share` is not above 0, or is above 1.
    """

    __slots__ = ("_limit", "_not_before", "_now", "_paid_until", "_remains", "_share", "adaptive")

    def __init__(self, now: float, limit: RateLimit | None = None, *, share: float = SHARE) -> None:
        _validate.check_share("share", share)
        self._limit = limit
        self._share = share
        #: The rate where no limit is known.
        self.adaptive = AdaptiveRate(now)
        # The latest time that was seen.
        self._now = now
        # When all requests that have started are paid for.
        self._paid_until = now
        # The end of the wait that the server asked for.
        self._not_before = now
        # What others leave of the limit: requests a second, and until when this holds.
        self._remains: tuple[float, float] | None = None

    @property
    def limit(self) -> RateLimit | None:
        """What the server allows; None: it is not known."""
        return self._limit

    def rate(self, now: float) -> float:
        """Return how many requests a second may start."""
        if self._limit is None:
            return self.adaptive.per_second
        rate = self._limit.per_second * self._share
        if self._remains is not None and now < self._remains[1]:
            rate = min(rate, self._remains[0])
        return max(rate, _LOWEST_RATE)

    def wait(self, now: float, *, live: bool = False) -> float:
        """Return the seconds until a request may start; 0.0 is now.

        Args:
            now: The time, in seconds.
            live: Whether it is one that has just arrived, and not of the backlog.
        """
        self._follow_clock(now)
        room = self._room() if live else 0.0
        return max(0.0, self._paid_until - room - now, self._not_before - now)

    def start(self, now: float) -> None:
        """Take note that a request starts."""
        self._follow_clock(now)
        self._paid_until = max(self._paid_until, now) + 1.0 / self.rate(now)

    def succeed(self, now: float) -> None:
        """Take note of a request that was answered."""
        if self._limit is None:
            self.adaptive.succeed(now)

    def back_off(self, now: float, wait: float = 0.0) -> None:
        """Take note of a request that was refused (429), or failed (5xx).

        Args:
            now: The time, in seconds.
            wait: Seconds that the server asks to wait.
        """
        self._follow_clock(now)
        wait = min(wait, LONGEST_WAIT)
        if self._limit is None:
            self.adaptive.back_off(now, wait)
        if wait > 0.0:
            self._not_before = max(self._not_before, now + wait)

    def learn(self, reading: LimitReading, now: float) -> None:
        """Take in what an answer says about the limit."""
        if reading.limit is not None:
            self._limit = reading.limit
        if reading.remaining is not None and reading.resets_in:
            left = self._share * reading.remaining / reading.resets_in
            self._remains = left, now + reading.resets_in

    def _follow_clock(self, now: float) -> None:
        if now < self._now:
            self._paid_until += now - self._now
            self._not_before += now - self._now
            self._remains = None
        self._now = now

    def _room(self) -> float:
        """Return the seconds by which live requests may be ahead of the rate."""
        if self._limit is None:
            return _ROOM_WITHOUT_LIMIT
        # One request less: the first of a window is not paid for when it starts.
        spare = self._limit.allowed * (1.0 - self._share) - 1.0
        return max(0.0, spare) / (self._limit.per_second * self._share)
