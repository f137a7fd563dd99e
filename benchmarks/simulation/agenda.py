"""Agenda: virtual time, which passes as soon as nothing is left to do at the present moment."""

import heapq
import itertools
from collections.abc import Callable
from typing import TypeAlias

Errand: TypeAlias = Callable[[], object]


class Agenda:
    """What is to happen, and when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._order = itertools.count()  # what falls on one moment happens as it was written down
        self._entries: list[tuple[float, int, Errand]] = []

    def clock(self) -> float:
        """Give the time in seconds."""
        return self.now

    def at(self, when: float, errand: Errand) -> None:
        """Write down what is to happen at some time."""
        heapq.heappush(self._entries, (max(when, self.now), next(self._order), errand))

    def after(self, seconds: float, errand: Errand) -> None:
        """Write down what is to happen later."""
        self.at(self.now + seconds, errand)

    def run(self, until: float) -> None:
        """Let time pass, until then."""
        while self._entries and self._entries[0][0] <= until:
            self.now, _, errand = heapq.heappop(self._entries)
            errand()
        self.now = until
