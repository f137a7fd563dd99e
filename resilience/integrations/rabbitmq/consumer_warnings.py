"""ConsumerWarnings: what a consumer warns of, in one line each and not in one per message."""

import asyncio

from resilience import log

# Seconds after which a condition that goes on, or comes again, is logged again.
_REPEAT_AFTER = 600.0


class ConsumerWarnings:
    """The warnings of the consumer of one queue.

    Args:
        queue: The queue's name.
    """

    def __init__(self, queue: str) -> None:
        self._queue = queue
        # When each condition that goes on was logged, in the event loop's time.
        self._logged: dict[str, float] = {}

    def warn(self, condition: str, text: str) -> None:
        """Log a WARNING, unless the condition was logged a short while ago.

        Args:
            condition: What makes two warnings the same.
            text: The line, after the name of the queue.
        """
        now = asyncio.get_running_loop().time()
        logged = self._logged.get(condition)
        if logged is None or now - logged >= _REPEAT_AFTER:
            self._logged[condition] = now
            log.log_consumer("WARNING", self._queue, text)

    def end(self, condition: str, text: str = "") -> None:
        """Note that a condition is over: the next time, it is logged again.

        Args:
            condition: The condition.
            text: What to log, at level INFO, if the condition was logged.
        """
        if self._logged.pop(condition, None) is not None and text:
            log.log_consumer("INFO", self._queue, text)
