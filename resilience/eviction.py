"""EvictionOrder: which breaker a full registry evicts first.

First the breakers that hold no information, then those that were idle for ten recovery timeouts,
then those that are CLOSED after failures, the oldest first. Then those that are OPEN, or HALF_OPEN,
and have never seen an answer of their region: the youngest first, so that no number of made-up
names pushes out one that was there before. At last those that are OPEN and whose region was in use;
those that are pinned stay. Each group is a heap. A breaker that has changed gets its place when the
next one is to be evicted: it is put into the heap of its new group, and its old entries are
recognised and dropped when they come up. A change costs next to nothing this way, and an eviction
O(log n) for itself and for each breaker that has changed since the last one.
"""

import heapq
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from resilience.breaker import Retention
from resilience.circuit import Circuit

# Entries of the past are dropped when there are this many times as many as regions.
_MOST_ENTRIES_PER_REGION = 4

# The groups in the order in which they are evicted, and whether the oldest goes first.
_GROUPS = (
    (Retention.STREAK, True),
    (Retention.OPEN, False),
    (Retention.PROVEN, True),
)
# Those that are evicted earlier when they were idle for long.
_MAY_BE_STALE = (Retention.STREAK, Retention.OPEN)


class Evictable(Protocol):
    """What the order needs to know of a circuit breaker."""

    circuit: Circuit

    def retention(self) -> Retention:
        """Return whether it may be evicted."""
        ...


class _Entry(NamedTuple):
    """A place in a heap: by time, or whatever the group is ordered by, then by age."""

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
        self._groups: dict[Retention, list[_Entry]] = {group: [] for group, _ in _GROUPS}

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
        entries = len(self._blank) + len(self._idle) + sum(map(len, self._groups.values()))
        if entries > _MOST_ENTRIES_PER_REGION * (len(self._numbers) + 16):
            self.rebuild()

    def rebuild(self) -> None:
        """Put every breaker into its place again."""
        self._blank, self._idle = [], []
        self._groups = {group: [] for group, _ in _GROUPS}
        for region in self._numbers:
            self._place(region)

    def first(self, now: float) -> str | None:
        """Return the region whose breaker goes first; None if all must stay."""
        first = self._first_of(self._blank, Retention.BLANK) or self._first_stale(now)
        for group, _ in _GROUPS:
            first = first or self._first_of(self._groups[group], group)
        return first

    def _place(self, region: str) -> None:
        breaker, number = self._breakers[region], self._numbers[region]
        retention = breaker.retention()
        if retention is Retention.BLANK:
            heapq.heappush(self._blank, _Entry(0.0, number, region))
        if retention in _MAY_BE_STALE:
            stale_at = breaker.circuit.stale_at()
            heapq.heappush(self._idle, _Entry(stale_at, number, region))
        for group, is_oldest_first in _GROUPS:
            if retention is group:
                entry = _Entry(0.0 if is_oldest_first else -number, number, region)
                heapq.heappush(self._groups[group], entry)

    def _first_of(self, heap: list[_Entry], retention: Retention) -> str | None:
        while heap:
            if self._is_current(heap[0], retention):
                return heap[0].region
            heapq.heappop(heap)
        return None

    def _first_stale(self, now: float) -> str | None:
        while self._idle and self._idle[0].time <= now:
            entry = self._idle[0]
            if not self._is_current(entry, *_MAY_BE_STALE):
                heapq.heappop(self._idle)
                continue
            stale_at = self._breakers[entry.region].circuit.stale_at()
            if stale_at <= now:
                return entry.region
            # It was active meanwhile.
            heapq.heapreplace(self._idle, entry._replace(time=stale_at))
        return None

    def _is_current(self, entry: _Entry, *retentions: Retention) -> bool:
        if self._numbers.get(entry.region) != entry.number:
            return False
        return self._breakers[entry.region].retention() in retentions
