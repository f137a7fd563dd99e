"""FakeClock: a clock for tests, which moves only when the test moves it."""

import math
from collections.abc import Callable
from weakref import WeakMethod

from resilience._lock import lock
from resilience._validate import kind_of, shown


class FakeClock:
    """A clock that stands still until `advance` moves it.

    Pass it to a registry or a breaker: ``CircuitBreakerRegistry(clock=FakeClock())``.

    Args:
        start: What the clock shows at first, in seconds.

    Raises:
        TypeError: `start` is not a number.
        ValueError: `start` is not finite.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = _finite("start", start)
        self._wakes: dict[int, WeakMethod[Callable[[], object]]] = {}

    def __call__(self) -> float:
        """Return what the clock shows, in seconds."""
        return self._now

    def __repr__(self) -> str:
        return f"FakeClock({self._now!r})"

    def advance(self, seconds: float) -> None:
        """Move the clock, then wake everything that waits for a time on it.

        Args:
            seconds: How far to move it; a negative number sets the clock back.

        Raises:
            TypeError: `seconds` is not a number.
            ValueError: `seconds`, or the time that the clock would show, is not finite.
        """
        step = _finite("seconds", seconds)
        with lock:  # threads may advance it at the same time
            self._now = _finite("the time", self._now + step)
        for reference in list(self._wakes.values()):
            wake = reference()
            if wake is not None:
                wake()

    def on_advance(self, wake: Callable[[], object]) -> None:
        """Call `wake` after every `advance`, in the thread that advances.

        This is how `wait_until_ready` notices that the clock was moved.

        Args:
            wake: A bound method. The clock does not keep its object alive.

        Raises:
            TypeError: `wake` is not a bound method.
        """
        reference = WeakMethod(wake, self._forget)
        self._wakes[id(reference)] = reference

    def _forget(self, reference: WeakMethod[Callable[[], object]]) -> None:
        # Without the lock: the garbage collector may call this at any moment.
        self._wakes.pop(id(reference), None)


def _finite(name: str, seconds: object) -> float:
    expected = "a finite number of seconds"
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise TypeError(f"{name} must be {expected}, got {kind_of(seconds)}")
    try:
        finite = float(seconds)
    except OverflowError:
        finite = math.inf
    if not math.isfinite(finite):
        raise ValueError(f"{name} must be {expected}, got {shown(seconds)}")
    return finite
