"""RetryBudget: which share of a region's calls may be retries."""

import math
from collections import Counter
from weakref import WeakKeyDictionary

from resilience import _validate
from resilience._lock import lock
from resilience.scope import HasClock

_SLOTS = 10  # of a window: calls that are older than the window are dropped slot by slot

# What a retry costs. After a failure it is likely to fail too, and loads a region that is in
# trouble. A 429 is a cheap answer of a region that works, with which it steers its load itself.
# The prices are those that the AWS SDKs charge from November 2026.
_AFTER_FAILURE, _AFTER_THROTTLING = 14, 5


class _Account:
    """The calls of one region in the last window, and what its retries cost, by slot."""

    def __init__(self) -> None:
        self.calls: Counter[int] = Counter()
        self.spent: Counter[int] = Counter()

    def keep(self, slots: range) -> None:
        """Drop all other slots."""
        for counter in (self.calls, self.spent):
            for old in counter.keys() - set(slots):
                del counter[old]


class Payment:
    """What was paid for one retry."""

    def __init__(self, spent: Counter[int], slot: int, price: int) -> None:
        self._spent, self._slot, self._price = spent, slot, price
        #: Whether the retry has begun.
        self.is_used = False

    def refund(self) -> None:
        """Give the price back, once, unless its slot has left the window."""
        with lock:
            price, self._price = self._price, 0
            if price <= self._spent.get(self._slot, 0):
                self._spent[self._slot] -= price


class RetryBudget:
    """Limits retries to a share of a region's calls, so that they cannot become a storm.

    A region that half works stays below the threshold of its circuit, and then retries multiply its
    load. Give one budget to all functions that call the same regions: it keeps one account for
    each circuit. When an account is empty a loop ends with its attempt's own error; a first attempt
    is always made. Outside a protected call, no budget applies.

    A retry after a 429 costs 5/14 of a retry after a failure. A retry that goes well costs nothing
    in the end: its price is refunded. So is that of a retry that never begins, because its call is
    cancelled, or its circuit opens, before the wait for it is over.

    Args:
        ratio: How many retries after a failure each call pays for.
        minimum_per_second: Retries after a failure that are always allowed each second, for regions
            with few calls.
        window: Seconds over which calls and retries are counted.

    Raises:
        TypeError: An argument is not a number.
        ValueError: `ratio` or `minimum_per_second` is negative or not finite, or `window` not
            above 0.
    """

    def __init__(
        self, ratio: float = 0.2, minimum_per_second: float = 1.0, window: float = 10.0
    ) -> None:
        _validate.check_amount("ratio", ratio)
        _validate.check_amount("minimum_per_second", minimum_per_second)
        _validate.check_seconds("window", window)
        self._ratio, self._always, self._window = ratio, minimum_per_second * window, window
        self._accounts: WeakKeyDictionary[HasClock, _Account] = WeakKeyDictionary()

    def count_call(self, breaker: HasClock) -> None:
        """Count a call, which pays for a share of a retry.

        Args:
            breaker: The circuit breaker of the call.
        """
        slot = self._slot(breaker)
        with lock:
            self._account(breaker, slot).calls[slot] += 1

    def allows_retry(self, breaker: HasClock, *, throttled: bool = False) -> bool:
        """Pay for one retry, and return whether the account held its price.

        For loops written by hand: those of `transient_retry` pay by themselves.

        Args:
            breaker: The circuit breaker of the call.
            throttled: Whether the attempt before it was answered with a 429, and did not fail.
        """
        return self.pay(breaker, throttled=throttled) is not None

    def pay(self, breaker: HasClock, *, throttled: bool = False) -> Payment | None:
        """Pay for one retry; return None where the account does not hold its price.

        Args:
            breaker: The circuit breaker of the call.
            throttled: Whether the attempt before it was answered with a 429, and did not fail.

        Returns:
            What was paid, to be refunded if the retry goes well.
        """
        price = _AFTER_THROTTLING if throttled else _AFTER_FAILURE
        slot = self._slot(breaker)
        with lock:
            account = self._account(breaker, slot)
            limit = _AFTER_FAILURE * (self._ratio * account.calls.total() + self._always)
            if account.spent.total() + price > limit:
                return None
            account.spent[slot] += price
        return Payment(account.spent, slot, price)

    def _slot(self, breaker: HasClock) -> int:
        return math.floor(breaker.now() / self._window * _SLOTS)

    def _account(self, breaker: HasClock, slot: int) -> _Account:
        account = self._accounts.setdefault(breaker, _Account())
        account.keep(range(slot - _SLOTS + 1, slot + 1))
        return account
