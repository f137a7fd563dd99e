"""Starting threads from code that holds the lock, and where there may be no more threads."""

import _thread
import threading
from collections.abc import Callable


def start_thread(
    run: Callable[[], object], name: str, on_failure: Callable[[], object] | None = None
) -> None:
    """Start a daemon thread without waiting for it; the caller may hold the lock.

    `Thread.start` waits until the new thread runs. If a garbage collection came first there, and a
    finalizer wanted the lock, both threads would wait for ever. Therefore it is called by one more
    thread, which holds no lock and ends immediately.

    Args:
        run: What the thread does.
        name: The name of the thread.
        on_failure: Called where it cannot be started: there are too many threads, or the
            interpreter ends. In this thread or another one, with or without the lock.
    """
    thread = threading.Thread(target=run, name=name, daemon=True)
    try:
        _thread.start_new_thread(_start, (thread, on_failure))
    except RuntimeError:
        if on_failure is not None:
            on_failure()


def _start(thread: threading.Thread, on_failure: Callable[[], object] | None) -> None:
    try:
        thread.start()
    except RuntimeError:
        if on_failure is not None:
            on_failure()
