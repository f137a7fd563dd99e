"""The one lock of the package, and what a fork does to it.

All circuits of a process share it. It is held for a few microseconds and nobody else's code runs
under it, so circuits do not hold each other up, and a fork has to take this one lock only. It is
re-entrant because Python may run code between any two lines, such as a signal handler or the end
of a generator that is collected. A report that arrives in this way waits until the lock is free:
see `lock_is_held`.
"""

import os
import sys
import threading
from collections.abc import Callable

lock = threading.RLock()

if sys.platform != "win32":  # pragma: no branch - Windows has no fork
    release = lock.release
    os.register_at_fork(before=lock.acquire, after_in_parent=release, after_in_child=release)


#: Whether the running thread holds the lock. `threading.Condition` asks a lock in the same way.
lock_is_held: Callable[[], bool] = lock._is_owned  # type: ignore[attr-defined]  # noqa: SLF001
