"""AdaptiveRate: finds out how many requests a second are accepted, where nobody says it.

Additive increase, multiplicative decrease: the rate grows by a fixed step for each second in which
requests succeed, and a refusal (429) or a failure of the server (5xx) cuts it in half. What was
under way at that moment is refused as well; it counts only once.
"""

from resilience import _validate
from resilience.limits.throttle import LONGEST_WAIT

# Requests a second.
_INITIAL, _LOWEST, _HIGHEST = 1.0, 0.1, 10_000.0
_INCREASE = 0.5  # requests a second, each second
_DECREASE = 0.5
# Seconds after a decrease in which there is no further one.
_COOL_DOWN = 1.0


class AdaptiveRate:
    """A rate that follows what the server accepts.

    Args:
        now: The time, in seconds.
        initial: Requests a second at first.

    Raises:
        TypeError: `initial` is not a number.
        ValueError: `initial` is not above 0.
    """

    __slots__ = ("_backed_off_at", "_cooled_down_at", "_grown_at", "per_second")

    def __init__(self, now: float, initial: float = _INITIAL) -> None:
        _validate.check_above_zero("initial", initial)
        #: Requests a second.
        self.per_second = min(max(initial, _LOWEST), _HIGHEST)
        self._grown_at = now
        # The last decrease, and until when there is no further one.
        self._backed_off_at = self._cooled_down_at = now

    def succeed(self, now: float) -> None:
        """Take note of a request that was answered: the rate grows with the time since the last."""
        passed = min(max(0.0, now - self._grown_at), 1.0)  # it does not grow while nobody calls
        self._grown_at = now
        self.per_second = min(self.per_second + _INCREASE * passed, _HIGHEST)

    def back_off(self, now: float, wait: float = 0.0) -> None:
        """Take note of a request that was refused, or failed.

        Args:
            now: The time, in seconds.
            wait: Seconds that the server asks to wait, at most an hour of which counts: nothing is
                under way until then.
        """
        if self._backed_off_at <= now < self._cooled_down_at:
            return
        self.per_second = max(self.per_second * _DECREASE, _LOWEST)
        cool_down = _COOL_DOWN + min(wait, LONGEST_WAIT)
        self._backed_off_at, self._cooled_down_at = now, now + cool_down
        self._grown_at = now
