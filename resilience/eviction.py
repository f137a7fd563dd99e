"""EvictionOrder: which breaker a full registry evicts first.

First the breakers that hold no information, then those that were idle for ten recovery timeouts,
then the oldest; those that are pinned stay. Each group is a heap. A breaker that has changed gets
its place when the next one is to be evicted: it is put into the heap of its new group, and its old
entries are recognised and dropped when they come up. A change costs next to nothing this way, and
an eviction O(log n) for itself and for each breaker that has changed since the last one.
"""

import heapq
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from resilience.breaker import Retention
from resilience.circuit import Circuit

# Entries of the past are dropped when there are this many times as many as regions.
_MOST_ENTRIES_PER_REGION = 4


class Evictable(Protocol):
    """What the order needs to know of a circuit breaker."""

    circuit: Circuit

    def retention(self) -> Retention:
        """Return whether it may be evicted."""
        ...


class _Entry(NamedTuple):
    """A place in a heap: by time where the group is ordered by time, then by age."""

    time: float
    number: int
    region: str


class EvictionOrder:
    """The order in which the breakers of one registry are evicted.

    All methods are called under the lock.

    Args:
        breakers: The breakers that the registry keeps, by region.
    """

    def __init__(self, breakers: Mapping[str, Evictable]) -> None:
        self._breakers = breakers
        self._numbers: dict[str, int] = {}  # in the order in which they were made
        self._made = 0
        self._blank: list[_Entry] = []
        self._idle: list[_Entry] = []  # by the time from which they are stale
        self._informed: list[_Entry] = []

    def add(self, region: str) -> None:
        """Add a breaker that was just made; it gets its place with the next `update`."""
        self._made += 1
        self._numbers[region] = self._made

    def discard(self, region: str) -> None:
        """Drop a breaker that is no longer kept."""
        self._numbers.pop(region, None)

    def update(self, regions: Iterable[str]) -> None:
        """Take note of breakers that may have changed."""
        for region in regions:
            if region in self._numbers:
                self._place(region)
        entries = len(self._blank) + len(self._idle) + len(self._informed)
        if entries > _MOST_ENTRIES_PER_REGION * (len(self._numbers) + 16):
            self.rebuild()

    def rebuild(self) -> None:
        """Put every breaker into its place again."""
        self._blank, self._idle, self._informed = [], [], []
        for region in self._numbers:
            self._place(region)

    def first(self, now: float) -> str | None:
        """Return the region whose breaker goes first; None if all must stay."""
        return self._first_blank() or self._first_stale(now) or self._oldest_informed()

    def _place(self, region: str) -> None:
        breaker, number = self._breakers[region], self._numbers[region]
        retention = breaker.retention()
        if retention is Retention.BLANK:
            heapq.heappush(self._blank, _Entry(0.0, number, region))
        elif retention is Retention.INFORMED:
            stale_at = breaker.circuit.stale_at()
            heapq.heappush(self._idle, _Entry(stale_at, number, region))
            heapq.heappush(self._informed, _Entry(0.0, number, region))

    def _first_blank(self) -> str | None:
        while self._blank:
            if self._is_current(self._blank[0], Retention.BLANK):
                return self._blank[0].region
            heapq.heappop(self._blank)
        return None

    def _first_stale(self, now: float) -> str | None:
        while self._idle and self._idle[0].time <= now:
            entry = self._idle[0]
            if not self._is_current(entry, Retention.INFORMED):
                heapq.heappop(self._idle)
                continue
            stale_at = self._breakers[entry.region].circuit.stale_at()
            if stale_at <= now:
                return entry.region
            # It was active meanwhile.
            heapq.heapreplace(self._idle, entry._replace(time=stale_at))
        return None

    def _oldest_informed(self) -> str | None:
        while self._informed:
            if self._is_current(self._informed[0], Retention.INFORMED):
                return self._informed[0].region
            heapq.heappop(self._informed)
        return None

    def _is_current(self, entry: _Entry, retention: Retention) -> bool:
        if self._numbers.get(entry.region) != entry.number:
            return False
        return self._breakers[entry.region].retention() is retention
