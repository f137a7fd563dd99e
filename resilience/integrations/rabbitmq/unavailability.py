"""A queue that cannot be consumed: when it is tried again, when that ends, and what is logged."""

import random
from collections import deque

from aio_pika.exceptions import AMQPChannelError

from resilience import log
from resilience.integrations.rabbitmq.amqp import server_text

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds
_MAX_DOUBLINGS = 5
# A reason may have a port or a time in it, and never be the same: this many are remembered.
_MOST_REASONS = 20
# Seconds after which a try that was due has not been made: while a circuit is OPEN, nobody wants to
# consume the queue, and that time does not count.
_NOBODY_TRIES = 60.0


class Unavailability:
    """How long a queue has been unavailable; empty while it can be consumed.

    Args:
        queue: The queue's name.
        region: The region of its messages; empty if they are of several regions.
        timeout: Seconds for which the queue may be unavailable; None is without end.
    """

    def __init__(self, queue: str, region: str, timeout: float | None) -> None:
        self._queue, self._region, self._timeout = queue, region, timeout
        self._since: float | None = None
        self._doublings = 0
        # The latest reasons that were logged since the queue could be consumed last.
        self._logged: deque[str] = deque(maxlen=_MOST_REASONS)
        #: When the broker may be asked again; 0 if it has not failed.
        self.retry_at = 0.0

    def record_failure(self, now: float, error: BaseException) -> None:
        """Note that the queue could not be consumed, and set when to try again.

        Args:
            now: The time, in seconds.
            error: What was raised.
        """
        if self._since is None or now > self.retry_at + _NOBODY_TRIES:
            self._since, self._doublings = now, 0
        # A connection that is lost is noticed without asking the broker.
        asked = isinstance(error, AMQPChannelError | TimeoutError)
        jitter = random.uniform(0.75, 1.25)  # noqa: S311 - not a secret
        pause = min(_FIRST_PAUSE * 2.0**self._doublings, _LONGEST_PAUSE) * jitter
        self._doublings = min(self._doublings + 1, _MAX_DOUBLINGS) if asked else 0
        if self._timeout is not None:
            pause = min(pause, max(0.0, self._since + self._timeout - now))
        self.retry_at = now + pause
        self._log(server_text(error))

    def record_success(self) -> None:
        """Note that the queue is consumed."""
        if self._logged:
            log.log_consumer("INFO", self._queue, "can read it again", self._region)
            self._logged.clear()
        self._since, self._doublings, self.retry_at = None, 0, 0.0

    def has_timed_out(self, now: float) -> bool:
        """Whether the queue has been unavailable for too long."""
        if self._timeout is None or self._since is None:
            return False
        return now >= self._since + self._timeout

    def _log(self, reason: str) -> None:
        """Log each reason once, however often the broker repeats it."""
        if reason in self._logged:
            return
        self._logged.append(reason)
        end = "" if self._timeout is None else f" for {self._timeout:g} s"
        log.log_consumer(
            "WARNING",
            self._queue,
            f"cannot read it: {reason}; "
            f"it tries again{end}, with pauses of {_FIRST_PAUSE:g} s to {_LONGEST_PAUSE:g} s",
            self._region,
        )
