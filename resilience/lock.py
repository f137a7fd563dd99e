"""The one lock of the package, and what a fork does to it.

One lock for all circuits of a process: it is held for a few microseconds and never while foreign
code runs, so that circuits do not wait for each other, and a fork needs to take only this one.
It is re-entrant because the garbage collector may run at any line, finalize a forgotten coroutine
that holds a permit, and so come back here on the same thread.
"""

import os
import sys
import threading

lock = threading.RLock()

if sys.platform != "win32":  # pragma: no branch - Windows has no fork
    release = lock.release
    os.register_at_fork(before=lock.acquire, after_in_parent=release, after_in_child=release)
