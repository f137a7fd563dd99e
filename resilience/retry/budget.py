"""RetryBudget: which share of a region's calls may be retries."""

import math
from collections import Counter
from weakref import WeakKeyDictionary

from resilience import _validate
from resilience._lock import lock
from resilience.scope import HasClock

_SLOTS = 10  # of a window: calls that are older than the window are dropped slot by slot


class _Account:
    """The calls and the retries of one region in the last window, by slot."""

    def __init__(self) -> None:
        self.calls: Counter[int] = Counter()
        self.retries: Counter[int] = Counter()

    def keep(self, slots: range) -> None:
        """Drop all other slots."""
        for counter in (self.calls, self.retries):
            for old in counter.keys() - set(slots):
                del counter[old]


class RetryBudget:
    """Limits retries to a share of a region's calls, so that they cannot become a storm.

    A region that half works stays below the threshold of its circuit, and then retries multiply its
    load. Give one budget to all functions that call the same regions: it keeps one account for
    each circuit. When an account is empty a loop ends with its attempt's own error. Outside a
    protected call there is no region, and no budget.

    Args:
        ratio: How many retries each call pays for.
        minimum_per_second: Retries a second that are always allowed, for regions with few calls.
        window: Seconds over which calls and retries are counted.

    Raises:
        TypeError: An argument is not a number.
        ValueError: `ratio` or `minimum_per_second` is negative or not finite, or `window` not
            above 0.
    """

    def __init__(
        self, ratio: float = 0.2, minimum_per_second: float = 1.0, window: float = 10.0
    ) -> None:
        _check_amount("ratio", ratio)
        _check_amount("minimum_per_second", minimum_per_second)
        _validate.check_seconds("window", window)
        self._ratio, self._always, self._window = ratio, minimum_per_second * window, window
        self._accounts: WeakKeyDictionary[HasClock, _Account] = WeakKeyDictionary()

    def count_call(self, breaker: HasClock) -> None:
        """Pay in for a call."""
        slot = self._slot(breaker)
        with lock:
            self._account(breaker, slot).calls[slot] += 1

    def allows_retry(self, breaker: HasClock) -> bool:
        """Take out one retry; False if there is none left."""
        slot = self._slot(breaker)
        with lock:
            account = self._account(breaker, slot)
            limit = self._ratio * account.calls.total() + self._always
            allowed = account.retries.total() + 1 <= limit
            account.retries[slot] += allowed
        return allowed

    def _slot(self, breaker: HasClock) -> int:
        return math.floor(breaker.now() / self._window * _SLOTS)

    def _account(self, breaker: HasClock, slot: int) -> _Account:
        account = self._accounts.setdefault(breaker, _Account())
        account.keep(range(slot - _SLOTS + 1, slot + 1))
        return account


def _check_amount(name: str, value: object) -> None:
    expected = "a finite number of at least 0"
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be {expected}, got {value!r}")
