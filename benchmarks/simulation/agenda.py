"""Agenda: virtual time, which passes as soon as nothing is left to do at the present moment."""

import heapq
import itertools
from collections.abc import Callable
from typing import TypeAlias

Action: TypeAlias = Callable[[], object]


class Agenda:
    """What is going to happen, and when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._order = itertools.count()  # actions of one moment happen in the order of their entry
        self._entries: list[tuple[float, int, Action]] = []

    def clock(self) -> float:
        """Return the time in seconds."""
        return self.now

    def at(self, when: float, action: Action) -> None:
        """Let something happen at a time."""
        heapq.heappush(self._entries, (max(when, self.now), next(self._order), action))

    def after(self, seconds: float, action: Action) -> None:
        """Let something happen later."""
        self.at(self.now + seconds, action)

    def run(self, until: float) -> None:
        """Let time pass until then."""
        while self._entries and self._entries[0][0] <= until:
            self.now, _, action = heapq.heappop(self._entries)
            action()
        self.now = until
