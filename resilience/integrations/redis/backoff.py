"""Backoff: how long the synchronizer waits before it connects again."""

import random
from typing import Final

import redis

# Seconds. At random, so that not all processes come at the same time.
_FIRST: Final = (0.05, 0.7)
# The longest wait while the store cannot be reached. Where it refuses what it is asked, which
# takes somebody to change its settings, that is the interval of the polls.
_LONGEST: Final = 1.5


class Backoff:
    """Waits longer after each failure.

    Args:
        poll_interval: Seconds between two polls, on average.
    """

    def __init__(self, poll_interval: float) -> None:
        self._longest_if_refused = max(_FIRST[1], poll_interval)
        self._failures = 0

    def reset(self) -> None:
        """Begin again: the connection is stable."""
        self._failures = 0

    def next_wait(self, error: BaseException) -> float:
        """Return how many seconds to wait.

        Args:
            error: The failure.
        """
        longest = _LONGEST if _is_out_of_reach(error) else self._longest_if_refused
        lower, upper = _FIRST
        if self._failures:
            upper = min(upper * 2.0**self._failures, longest)
            lower = upper / 2
        # Beyond this many failures, the wait grows no more.
        self._failures = min(self._failures + 1, 20)
        return random.uniform(lower, upper)  # noqa: S311 - not a secret


def _is_out_of_reach(error: BaseException) -> bool:
    if isinstance(error, redis.AuthenticationError):
        return False
    return isinstance(error, OSError | redis.ConnectionError | redis.TimeoutError)
