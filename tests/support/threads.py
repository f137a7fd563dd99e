"""Run threads under a watchdog, and work without the lock of the package."""

import threading

from resilience._lock import lock

_WATCHDOG = 30.0  # seconds


def run_all(threads):
    for thread in threads:
        thread.start()
    return threads


def join_all(threads):
    for thread in threads:
        thread.join(_WATCHDOG)
    assert not any(thread.is_alive() for thread in threads), "a thread still runs or sleeps"


def without_the_lock(work):
    """Run `work` in a thread while this one holds the lock, and return what it returns."""
    results = []
    with lock:
        join_all(run_all([threading.Thread(target=lambda: results.append(work()), daemon=True)]))
    assert results, "it raised"
    return results[0]
