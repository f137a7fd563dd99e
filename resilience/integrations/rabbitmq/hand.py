"""Hand: the messages of one queue that were delivered and are not settled.

A fresh one has not been attempted. A held one was, and failed; it is attempted again from here,
which costs no delivery: on a quorum queue each return to the queue counts towards the limit.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from aio_pika.abc import AbstractIncomingMessage

from resilience.integrations.rabbitmq.broker import is_open

_LONGEST_PAUSE = 60.0  # seconds between two attempts, unless the server asks for more
_MOST_DOUBLINGS = 6


@dataclass(eq=False, slots=True)
class InHand:
    """One message in hand.

    Args:
        message: As it was delivered.
        number: Its place in the order of deliveries.
        since: When it came, in the loop's time.
    """

    message: AbstractIncomingMessage
    number: int
    since: float
    attempted: bool = False
    due: float = 0.0
    # A rate limit is over after its time; a region that failed is back when its circuit says so.
    waits_for_region: bool = True
    _pauses: int = 0

    def pause(self, now: float, at_least: float = 0.0) -> None:
        """Put off the next attempt, longer each time."""
        jitter = random.uniform(0.75, 1.25)  # noqa: S311 - no secret
        self.due = now + max(min(2.0**self._pauses, _LONGEST_PAUSE) * jitter, at_least)
        self._pauses = min(self._pauses + 1, _MOST_DOUBLINGS)

    def region_is_back(self, now: float) -> None:
        """Let the next attempt be due, as after the first failure."""
        if self.waits_for_region:
            self.due, self._pauses = min(self.due, now), 0


@dataclass(slots=True)
class Hand:
    """The messages in hand, but those whose call is running."""

    fresh: list[InHand] = field(default_factory=list[InHand])
    held: list[InHand] = field(default_factory=list[InHand])

    def __iter__(self) -> Iterator[InHand]:
        return iter(sorted(self.fresh + self.held, key=_number))

    def take_in(self, one: InHand) -> None:
        """Take a message in, or back, at its place in the order."""
        if is_open(one.message):
            where = self.held if one.attempted else self.fresh
            where.append(one)
            where.sort(key=_number)

    def remove(self, one: InHand) -> None:
        """Let go of a message."""
        (self.held if one in self.held else self.fresh).remove(one)

    def drop_closed(self) -> None:
        """Forget the messages of channels that are gone: the broker has them again."""
        self.fresh = [one for one in self.fresh if is_open(one.message)]
        self.held = [one for one in self.held if is_open(one.message)]

    def due(self, now: float, *, probing: bool) -> list[InHand]:
        """Give the held messages that may be attempted again, the longest untouched first."""
        ready = [one for one in self.held if one.due <= now or (probing and one.waits_for_region)]
        return sorted(ready, key=lambda one: one.due)


def _number(one: InHand) -> int:
    return one.number
