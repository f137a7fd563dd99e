"""Hand: the messages of one queue that were delivered and are not settled.

A fresh one has not been attempted. A held one was, and failed; it is attempted again from here,
which costs no delivery: on a quorum queue each return to the queue counts towards the limit.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from aio_pika.abc import AbstractIncomingMessage

from resilience.integrations.rabbitmq.broker import is_open

_LONGEST_PAUSE = 60.0  # seconds between two attempts, unless the server asks for more


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
    attempts: int = 0
    due: float = 0.0
    # A rate limit is over after its time; a region that failed is back when its circuit says so.
    waits_for_region: bool = True

    def pause(self, now: float, at_least: float = 0.0) -> None:
        """Put off the next attempt, longer each time."""
        pause = min(2.0 ** max(0, self.attempts - 1), _LONGEST_PAUSE)
        jitter = random.uniform(0.75, 1.25)  # noqa: S311 - no secret
        self.due = now + max(pause * jitter, at_least)


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
            where = self.held if one.attempts else self.fresh
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


def earliest(times: Iterable[float]) -> float | None:
    """Give the earliest time; None where there is none."""
    return min(times, default=None)
