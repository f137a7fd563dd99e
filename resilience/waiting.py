"""Who waits for a circuit, and waking them: asyncio tasks of any loop, in any thread.

They stand in line. Only the first has a timer, set to when a call may be admitted; it leaves when
that is so, and the next moves up. Nothing is reserved for who leaves, but it gets a head start
before the next one looks.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import Callable

from resilience.lock import lock

# Who leaves the line may not call after all: after so many seconds the next one looks.
_HEAD_START = 1.0


class Line:
    """The waiting tasks of one circuit, first come first served.

    Args:
        next_try: Says in how many seconds a call may be admitted: 0.0 is now, None is unknown.
    """

    __slots__ = ("_next_try", "_waiters")

    def __init__(self, next_try: Callable[[], float | None]) -> None:
        self._next_try = next_try
        self._waiters: deque[_Waiter] = deque()

    async def wait(self, timeout: float | None) -> bool:
        """Wait until a call would be admitted; False when `timeout` seconds were not enough."""
        if self._next_try() == 0.0:
            return True
        waiter = _Waiter()
        with lock:
            _lines.add(self)
            self._waiters.append(waiter)
        admitted = False
        try:
            async with asyncio.timeout(timeout):
                await self._stand(waiter)
                admitted = True
        except TimeoutError:
            pass
        finally:
            self._leave(waiter, head_start=admitted)
        return admitted

    def wake_first(self, *, head_start: bool = False) -> None:
        """Let the first in line look, or move up with a head start for who left before it."""
        with lock:
            while self._waiters and not self._waiters[0].wake(head_start=head_start):
                self._waiters.popleft()

    def wake_all(self) -> None:
        """Let everybody look."""
        with lock:
            self._waiters = deque(waiter for waiter in self._waiters if waiter.wake())

    def forget(self) -> None:
        """Drop everybody without a word."""
        self._waiters.clear()

    async def _stand(self, waiter: _Waiter) -> None:
        delay = self._next_try()
        while delay != 0.0:
            with lock:
                first = self._waiters[0] is waiter
            gives_head_start = await waiter.sleep(delay if first else None)
            delay = _HEAD_START if gives_head_start else self._next_try()

    def _leave(self, waiter: _Waiter, *, head_start: bool) -> None:
        with lock:
            if waiter not in self._waiters:
                return
            was_first = self._waiters[0] is waiter
            self._waiters.remove(waiter)
            if was_first:
                self.wake_first(head_start=head_start)
            if not self._waiters:
                _lines.discard(self)


class _Waiter:
    """One task in line: asleep until its timer or somebody rings."""

    __slots__ = ("_future", "_head_start", "_loop")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()
        self._head_start = True

    async def sleep(self, delay: float | None) -> bool:
        """Sleep until woken or `delay` seconds have passed; True: give a head start."""
        timer = None if delay is None else self._loop.call_later(delay, self._ring, False)  # noqa: FBT003
        try:
            await self._future
        finally:
            if timer is not None:
                timer.cancel()
        head_start, self._head_start = self._head_start, True
        self._future = self._loop.create_future()
        return head_start

    def wake(self, *, head_start: bool = False) -> bool:
        """Ring from any thread; False if the task's loop is closed, so that it never wakes."""
        try:
            self._loop.call_soon_threadsafe(self._ring, head_start)
        except RuntimeError:
            return False
        return True

    def _ring(self, head_start: bool) -> None:  # noqa: FBT001 - a callback takes what it is given
        # Whoever is asked to look, looks, however often it was told to move up besides.
        self._head_start = self._head_start and head_start
        if not self._future.done():
            self._future.set_result(None)


_lines: set[Line] = set()  # those in which somebody stands


def _leave_to_parent() -> None:
    """Forget, in the child of a fork, the tasks that wait in the parent."""
    for line in _lines:
        line.forget()
    _lines.clear()


if sys.platform != "win32":  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_leave_to_parent)
