"""Meter: how many things happen each second, on average over the last minute."""

import math

_AVERAGED_OVER = 60.0  # seconds


class Meter:
    """A rate that is measured, with what is long ago counting less and less.

    Args:
        now: The time, in seconds.
    """

    __slots__ = ("_at", "_counted", "_weight")

    def __init__(self, now: float) -> None:
        self._at = now
        # Both fade with time, so that their ratio is right from the first second on.
        self._counted = 0.0
        self._weight = 0.0

    def add(self, count: int, now: float) -> None:
        """Take note of what has happened."""
        self._fade(now)
        self._counted += count

    def per_second(self, now: float) -> float:
        """Return the rate; 0.0 before any time has passed."""
        self._fade(now)
        return self._counted / self._weight if self._weight > 0.0 else 0.0

    def _fade(self, now: float) -> None:
        passed = max(0.0, now - self._at)
        self._at = now
        fading = math.exp(-passed / _AVERAGED_OVER)
        self._counted *= fading
        self._weight = self._weight * fading + _AVERAGED_OVER * (1.0 - fading)
