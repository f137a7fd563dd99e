"""StoreClock: what this process knows of the clock of the store."""

import time
from dataclasses import dataclass
from typing import Final

# The estimate of the store's clock may be off by this many seconds.
_MAX_CLOCK_ERROR: Final = 1.0


@dataclass(slots=True)
class StoreClock:
    """The clock of the store, as its answers show it.

    Args:
        offset: Seconds that it is ahead of this process's clock, at least.
        uncertainty: It may be ahead by this many seconds more.
    """

    offset: float = 0.0
    uncertainty: float = 0.0

    def note(self, store_time: int, delay: float) -> None:
        """Take note of an answer.

        Args:
            store_time: The store's clock in it, in milliseconds.
            delay: Seconds between the request and the answer.
        """
        self.offset = store_time / 1000 - time.monotonic()
        self.uncertainty = delay

    def latest(self, decided_at: float, timeout: float) -> int:
        """Return the store's time until which a command may be carried out, in milliseconds.

        Args:
            decided_at: When it was decided, by this process's clock.
            timeout: Seconds that it may take.
        """
        return int((decided_at + self.offset + timeout) * 1000)

    def age(self, sent_at: int, oldest: float) -> float | None:
        """Return the least seconds since something was sent; None: that is not to be relied on.

        Args:
            sent_at: The store's time in milliseconds.
            oldest: Seconds after which it says too little about the present.
        """
        age = time.monotonic() - (sent_at / 1000 - self.offset)
        if not -_MAX_CLOCK_ERROR <= age <= oldest:
            return None
        return max(0.0, age)
