"""Deliverer: calls listeners about the changes of other processes, apart from the synchronizer."""

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from resilience._lock import lock, postpone
from resilience.circuit_name import CircuitName
from resilience.log import describe_exception, log

# At a time. A listener that is slow holds one of them for each region of which it hears something.
_MOST_THREADS: Final = 8


class Deliverer:
    """Threads that run while there are events to deliver, each for one region at a time.

    A listener that is slow holds up what others hear of the same region. It holds up neither the
    other regions, unless it is slow for as many of them as there may be threads, nor the
    synchronizer, nor any call.
    """

    def __init__(self) -> None:
        # At most one delivery of each breaker. Both are guarded by the lock.
        self._deliveries: deque[tuple[CircuitName, Callable[[], None]]] = deque()
        self._threads = 0

    def put(self, circuit: CircuitName, delivery: Callable[[], None]) -> None:
        """Deliver the events of a breaker soon.

        Args:
            circuit: The name of its circuit, for the log.
            delivery: What delivers them.
        """
        with lock:
            self._deliveries.append((circuit, delivery))
            if self._threads >= _MOST_THREADS:
                return
            self._threads += 1
        try:
            # The synchronizer holds no lock here, so that it may wait until the thread runs.
            threading.Thread(target=self._run, name="resilience-listeners", daemon=True).start()
        except RuntimeError:  # there are no threads: a call that changes a circuit delivers them
            postpone(self._run)

    def _run(self) -> None:
        while True:
            with lock:
                if not self._deliveries:
                    self._threads -= 1
                    return
                circuit, delivery = self._deliveries.popleft()
            try:
                delivery()
            except BaseException as error:  # noqa: BLE001 - an exit of this thread ends nothing
                _log_exit(circuit, error)


def _log_exit(circuit: CircuitName, error: BaseException) -> None:
    text = f"ignored the exit of a listener for region {{}}, which {describe_exception(error)}"
    with suppress(BaseException):  # a sink of the log may have asked for it, and does so again
        log("ERROR", circuit, text)
