"""The one lock of the package, and what a fork does to it.

One lock for all circuits of a process: it is held for a few microseconds and the package calls
nobody's code under it, so that circuits do not wait for each other, and a fork needs to take only
this one. It is re-entrant because Python itself may run code at any line, the finalizer of a
forgotten coroutine that holds a permit, or a signal handler, and so come back here on the same
thread. What comes in between so may be overwritten; at worst a probe's place is free again only
when its lease has run out, and a state forced from a signal handler is lost.
"""

import os
import sys
import threading

lock = threading.RLock()

if sys.platform != "win32":  # pragma: no branch - Windows has no fork
    release = lock.release
    os.register_at_fork(before=lock.acquire, after_in_parent=release, after_in_child=release)
