"""A clock for tests: time passes when the test says so."""

import math
from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

from resilience._lock import lock


class FakeClock:
    """A clock that stands still until it is told to move; give it to a breaker as `clock`.

    Args:
        start: What the clock shows at first, in seconds.

    Raises:
        TypeError: `start` is not a number.
        ValueError: `start` is not finite.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = _sum(0.0, start, "start")
        self._wakes: dict[int, WeakMethod[Callable[[], Any]]] = {}

    def __call__(self) -> float:
        """What the clock shows, in seconds."""
        return self._now

    def __repr__(self) -> str:
        return f"FakeClock({self._now!r})"

    def advance(self, seconds: float) -> None:
        """Move the clock, then wake everybody who waits for it.

        Args:
            seconds: How far; a negative number sets the clock back.

        Raises:
            TypeError: `seconds` is not a number.
            ValueError: `seconds`, or the time it leads to, is not finite.
        """
        with lock:
            self._now = _sum(self._now, seconds, "seconds")
        for reference in list(self._wakes.values()):
            wake = reference()
            if wake is not None:
                wake()

    def on_advance(self, wake: Callable[[], Any]) -> None:
        """Call `wake` after every `advance`, in the thread that advances.

        Args:
            wake: A bound method. The clock does not keep its object alive.

        Raises:
            TypeError: `wake` is not a bound method.
        """
        reference = WeakMethod(wake, self._forget)
        self._wakes[id(reference)] = reference

    def _forget(self, reference: "WeakMethod[Callable[[], Any]]") -> None:
        # No lock here: the garbage collector may call this at any moment, inside `advance` too.
        self._wakes.pop(id(reference), None)


def _sum(now: float, seconds: object, name: str) -> float:
    expected = "a finite number of seconds"
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise TypeError(f"{name} must be {expected}, got {seconds!r}")
    moved = now + float(seconds)
    if not math.isfinite(moved):
        raise ValueError(f"{name} must be {expected}, and so must the time, got {seconds!r}")
    return moved
