"""SlidingWindow: the calls of the last seconds, in constant memory.

The window is a ring of slices. A call counts in the slice in which it ends, and leaves the window
together with that slice. The window therefore reaches back for its full length, or for up to one
sixtieth less.
"""

from array import array
from typing import Final

_SLICES: Final = 60


class SlidingWindow:
    """Counts calls, failures and slow calls over the last seconds.

    Args:
        seconds: The length of the window.
        now: Seconds; the window is empty at this moment.
    """

    __slots__ = (
        "_calls",
        "_failures",
        "_number",
        "_origin",
        "_slow",
        "calls",
        "failures",
        "seconds",
        "slice_begin",
        "slice_end",
        "slow",
    )

    def __init__(self, seconds: float, now: float) -> None:
        self.seconds = seconds
        #: What is in the window.
        self.calls = self.failures = self.slow = 0
        #: The slice in which a call counts now.
        self.slice_begin = self.slice_end = now
        # What is in each slice: fixed in size, whatever the traffic.
        self._calls, self._failures, self._slow = (array("Q", bytes(8 * _SLICES)) for _ in range(3))
        # The first slice began then. The number of the present slice is counted from there.
        self._origin = now
        self._number = 0
        self._set_slice()

    def __repr__(self) -> str:
        counts = f"{self.calls} calls, {self.failures} failures, {self.slow} slow"
        return f"<SlidingWindow of {self.seconds:g} s: {counts}>"

    def add(self, calls: int, *, failures: int = 0, slow: int = 0) -> None:
        """Count calls in the present slice, some of which may have failed or been slow."""
        place = self._number % _SLICES
        self._calls[place] += calls
        self._failures[place] += failures
        self._slow[place] += slow
        self.calls += calls
        self.failures += failures
        self.slow += slow

    def slide(self, now: float) -> None:
        """Move to the slice of this moment, and forget the slices that are too old."""
        if now < self.slice_begin:
            # The clock has stepped back: the present slice goes on, and is as young as it can be.
            self._origin = now - (self._number * self.seconds / _SLICES)
            self._set_slice(begin=now)
            return
        number = int((now - self._origin) * _SLICES / self.seconds)
        if number <= self._number:
            return
        for one in range(max(self._number + 1, number - _SLICES + 1), number + 1):
            self._empty(one % _SLICES)
        self._number = number
        self._set_slice()

    def _empty(self, place: int) -> None:
        self.calls -= self._calls[place]
        self.failures -= self._failures[place]
        self.slow -= self._slow[place]
        self._calls[place] = self._failures[place] = self._slow[place] = 0

    def _set_slice(self, begin: float | None = None) -> None:
        width = self.seconds / _SLICES
        self.slice_begin = self._origin + self._number * width if begin is None else begin
        self.slice_end = self.slice_begin + width
