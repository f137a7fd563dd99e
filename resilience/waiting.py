"""Who waits for a circuit, and waking them: asyncio tasks of any loop, in any thread.

They stand in line. When a call may be admitted the first one leaves, and the next moves up.
Nothing is reserved for who leaves, but it gets a head start before the next one looks.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from resilience._lock import lock

# Who leaves the line may not call after all: after so many seconds the next one looks.
_HEAD_START = 1.0


@dataclass(slots=True, eq=False, weakref_slot=True)
class Line:
    """The waiting tasks of one circuit, first come first served.

    Args:
        next_try: Says in how many seconds a call may be admitted: 0.0 is now, None is unknown.
    """

    _next_try: Callable[[], float | None]
    _waiters: deque[_Waiter] = field(default_factory=deque)
    _process: int = field(default_factory=os.getpid)

    async def wait(self, timeout: float | None) -> bool:
        """Wait until a call would be admitted; False when `timeout` seconds were not enough."""
        if self._next_try() == 0.0:
            return True
        waiter = _Waiter()
        with lock:
            if self._process != os.getpid():
                self._waiters.clear()  # they wait in the process that forked this one off
                self._process = os.getpid()
            self._waiters.append(waiter)
        admitted = False
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._stand(waiter)
                    admitted = True
        finally:
            self._leave(waiter, head_start=admitted)
        return admitted or self._next_try() == 0.0

    def wake_first(self, *, head_start: bool = False) -> None:
        """Let the first in line look, or move up with a head start for who left before it."""
        with lock:
            while self._waiters and not self._waiters[0].wake(head_start=head_start):
                self._waiters.popleft()

    def wake_all(self) -> None:
        """Let everybody look."""
        with lock:
            self._waiters = deque(waiter for waiter in self._waiters if waiter.wake())

    async def _stand(self, waiter: _Waiter) -> None:
        delay = self._next_try()
        while delay != 0.0:
            # Each has a timer of its own, a little after the one before it: its loop may be dead.
            behind = self._waiters.index(waiter) * _HEAD_START
            gives_head_start = await waiter.sleep(None if delay is None else delay + behind)
            delay = _HEAD_START if gives_head_start else self._next_try()

    def _leave(self, waiter: _Waiter, *, head_start: bool) -> None:
        with lock:
            first = next(iter(self._waiters), None)
            with suppress(ValueError):  # its loop is closed, or it stood in another process
                self._waiters.remove(waiter)
            if first is waiter:
                self.wake_first(head_start=head_start)


class _Waiter:
    """One task in line: asleep until its time is over or somebody rings."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()
        self._head_start = True

    async def sleep(self, delay: float | None) -> bool:
        """Sleep until woken or `delay` seconds have passed; True: give a head start."""
        try:
            async with asyncio.timeout(delay):
                await self._rung.wait()
        except TimeoutError:
            return False
        head_start, self._head_start = self._head_start, True
        self._rung.clear()
        return head_start

    def wake(self, *, head_start: bool = False) -> bool:
        """Ring from any thread; False if the task's loop is closed, so that it never wakes."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._ring, head_start)
            return True
        return False

    def _ring(self, head_start: bool) -> None:  # noqa: FBT001 - a callback takes what it is given
        # Whoever is asked to look, looks, however often it was told to move up besides.
        self._head_start = self._head_start and head_start
        self._rung.set()
