"""The one lock of the package, what a fork does to it, and what waits until it is free.

All circuits of a process share it. It is held for a few microseconds and nobody else's code runs
under it. This keeps circuits from holding each other up, and a fork has to take this one lock only.

It is re-entrant because Python may run code between any two lines: a signal handler, or the end of
a generator that is collected. Such code must not change a circuit that is in the middle of a
change. What it wants to do is postponed: see `postpone`.
"""

import os
import sys
import threading
from collections import deque
from collections.abc import Callable

from resilience._threads import start_thread

lock = threading.RLock()

#: Whether the running thread holds the lock. `threading.Condition` asks a lock in the same way.
lock_is_held: Callable[[], bool] = lock._is_owned  # type: ignore[attr-defined]  # noqa: SLF001

#: What is to be done when the lock is free.
postponed: deque[Callable[[], None]] = deque()

if sys.platform != "win32":  # pragma: no branch - Windows has no fork
    release = lock.release
    os.register_at_fork(before=lock.acquire, after_in_parent=release, after_in_child=release)


def postpone(action: Callable[[], None]) -> None:
    """Do something when the lock is free; for code that runs while its own thread holds it.

    The next change of a circuit does it, or else a thread of its own, which waits for the lock.
    """
    postponed.append(action)
    start_thread(_wait_and_settle, "resilience-postponed")


def settle_postponed() -> None:
    """Do what was postponed, unless the running thread holds the lock."""
    while not lock_is_held():
        try:
            action = postponed.popleft()
        except IndexError:
            return
        action()


def _wait_and_settle() -> None:
    with lock:
        pass
    settle_postponed()
