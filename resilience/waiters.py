"""WaitQueue: asyncio tasks, of any loop in any thread, that wait until a circuit admits a call.

They wait in the order in which they came. When a call may be admitted the first one leaves, and the
next becomes the first. Nothing is reserved for the task that leaves, but the next one looks only
after a grace period.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, runtime_checkable

from resilience._lock import lock

# The task that leaves may not call after all: after this many seconds the next one looks.
_GRACE_PERIOD = 1.0


@runtime_checkable
class AdvancingClock(Protocol):
    """A clock that no timer can follow, because a test moves it: a FakeClock."""

    def on_advance(self, wake: Callable[[], object]) -> None:
        """Call `wake`, a bound method, whenever the clock has moved."""


class WaitQueue:
    """The tasks that wait for one circuit, first come first served.

    Args:
        expects_call: Returns the seconds until a call may be admitted: 0.0 is now, None is unknown.
    """

    __slots__ = ("__weakref__", "_expects_call", "_process", "_waiters")

    def __init__(self, expects_call: Callable[[], float | None]) -> None:
        self._expects_call = expects_call
        self._waiters: deque[_Waiter] = deque()
        self._process = os.getpid()

    async def wait(self, timeout: float | None) -> bool:
        """Wait until a call would be admitted; False when `timeout` seconds were not enough."""
        if self._expects_call() == 0.0:
            return True
        waiter = _Waiter()
        with lock:
            if self._process != os.getpid():
                self._waiters.clear()  # they wait in the parent process
                self._process = os.getpid()
            self._waiters.append(waiter)
        admitted = False
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._wait_turn(waiter)
                    admitted = True
        finally:
            self._leave(waiter, grace_period=admitted)
        return admitted or self._expects_call() == 0.0

    def wake_first(self, *, grace_period: bool = False) -> None:
        """Let the first task look; with a grace period for the one that left before it."""
        with lock:
            while self._waiters and not self._waiters[0].wake(grace_period=grace_period):
                self._waiters.popleft()

    def wake_all(self) -> None:
        """Let every task look."""
        with lock:
            self._waiters = deque(waiter for waiter in self._waiters if waiter.wake())

    async def _wait_turn(self, waiter: "_Waiter") -> None:
        delay = self._expects_call()
        while delay != 0.0:
            # Each task has its own timer, a little after the one before it, whose loop may be dead.
            with lock:
                behind = self._waiters.index(waiter) * _GRACE_PERIOD
            gives_grace_period = await waiter.sleep(None if delay is None else delay + behind)
            delay = _GRACE_PERIOD if gives_grace_period else self._expects_call()

    def _leave(self, waiter: "_Waiter", *, grace_period: bool) -> None:
        with lock:
            first = next(iter(self._waiters), None)
            with suppress(ValueError):  # its loop is closed, or it waited in another process
                self._waiters.remove(waiter)
            if first is waiter:
                self.wake_first(grace_period=grace_period)


def runs_in_event_loop() -> bool:
    """Return whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class _Waiter:
    """One waiting task: asleep until its time is over or it is woken."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._grace_period = True

    async def sleep(self, delay: float | None) -> bool:
        """Sleep until woken or `delay` seconds have passed; True: give a grace period."""
        try:
            async with asyncio.timeout(delay):
                await self._woken.wait()
        except TimeoutError:
            return False
        grace_period, self._grace_period = self._grace_period, True
        self._woken.clear()
        return grace_period

    def wake(self, *, grace_period: bool = False) -> bool:
        """Wake the task from any thread; False if its loop is closed, so that it never wakes."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._wake_in_loop, grace_period)
            return True
        return False

    def _wake_in_loop(self, grace_period: bool) -> None:  # noqa: FBT001 - a callback takes what it is given
        # A task that is asked to look does look, whatever else it was woken for.
        self._grace_period = self._grace_period and grace_period
        self._woken.set()
