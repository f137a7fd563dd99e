"""Running a coroutine in virtual time, in which an hour passes as soon as everybody sleeps."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from resilience import _validate
from resilience.testing.clock import FakeClock

T = TypeVar("T")

_DAY = 86_400.0  # seconds


def run_in_virtual_time(
    coroutine: Coroutine[Any, Any, T], clock: FakeClock, *, limit: float = _DAY
) -> T:
    """Run a coroutine as `asyncio.run` does, but let no time pass for sleeping.

    Whenever every task sleeps, the clock is moved to when the first of them wakes up. The circuits
    of a registry with the same clock live in the same time::

        clock = FakeClock()
        registry = CircuitBreakerRegistry(clock=clock)
        run_in_virtual_time(story(registry), clock)

    Nothing in it may wait for a real server or for another thread: their time is not virtual.

    Args:
        coroutine: What to run.
        clock: The clock that is moved; it is the time of the event loop as well.
        limit: Seconds of virtual time after which a coroutine that has not ended is cancelled.

    Returns:
        What the coroutine returns.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: `limit` is not a positive number of seconds.
        TimeoutError: The coroutine has not ended within `limit`.
    """
    if not asyncio.iscoroutine(coroutine):
        kind = type(coroutine).__name__
        raise TypeError(f"coroutine must be a coroutine, call the async function, got a {kind}")
    try:
        _validate.check_type("clock", clock, FakeClock)
        _validate.check_seconds("limit", limit)
    except BaseException:
        coroutine.close()
        raise
    with asyncio.Runner(loop_factory=lambda: _VirtualTimeLoop(clock)) as runner:
        return runner.run(_within(coroutine, limit))


async def _within(coroutine: Coroutine[Any, Any, T], limit: float) -> T:
    deadline = asyncio.timeout(limit)
    try:
        async with deadline:
            return await coroutine
    except TimeoutError as error:
        if not deadline.expired():
            raise
        text = f"the coroutine has not ended within {limit:g} s of virtual time (limit)"
        raise TimeoutError(text) from error


class _VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is a FakeClock, which is moved instead of waiting."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(_ClockMovingSelector(clock))
        self._clock = clock

    def time(self) -> float:
        return self._clock()


class _ClockMovingSelector(selectors.SelectSelector):
    """Moves a clock by the time that it is asked to wait for."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select()  # The loop waits for a thread that ends, not for a time.
        events = super().select(0)
        if not events and timeout > 0:
            self._clock.advance(timeout)
        return events
