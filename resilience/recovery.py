"""Backoff: how long a circuit stays OPEN, by how many probes have failed in a row."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from resilience._validate import check_amount, check_factor, check_seconds, shown
from resilience.mode import check_unless_off

# Seconds. Long enough for most outages, and short enough to notice their end the same quarter hour.
_MAXIMUM = 900.0
# Seconds, for one that is wrong while everything is switched off.
_FIRST = 60.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """A recovery timeout that grows with each failed probe, and begins again after closing.

    Args:
        first: Seconds from opening until the first probe.
        factor: By how much it grows with each failed probe; 1 means that it does not.
        maximum: Seconds; it is never longer, with jitter and whatever the server asks for.
        jitter: The share of it that is added at random at most, so that processes that do not share
            their circuits do not probe at the same time: 0.2 adds up to a fifth.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: A field has a wrong value, or `maximum` leaves no room for the first one.
    """

    first: float
    factor: float = 2.0
    maximum: float = _MAXIMUM
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if not check_unless_off(self._check):
            right = {"first": _FIRST, "factor": 2.0, "maximum": _MAXIMUM, "jitter": 0.0}
            for name, value in right.items():
                object.__setattr__(self, name, value)

    def _check(self) -> None:
        check_seconds("first", self.first)
        check_factor("factor", self.factor)
        check_seconds("maximum", self.maximum)
        check_amount("jitter", self.jitter)
        least = self.first * (1.0 + self.jitter)
        if self.maximum < least:
            needed = "first" if self.jitter == 0 else "first with its jitter"
            got = shown(self.maximum)
            raise ValueError(
                f"maximum must be at least {least:g} s, which is {needed}, got {got}:"
                " raise maximum, or lower first"
            )

    def wait(self, failed_probes: int, chance: Callable[[], float]) -> float:
        """Return the seconds until the next probe.

        Args:
            failed_probes: In a row.
            chance: Returns a number from 0 up to 1; asked only where there is jitter.
        """
        # With all its jitter it is still not longer than the maximum.
        most = max(self.first, self.maximum / (1 + self.jitter))
        # By the logarithms, since a long row of failed probes is too much for a float.
        is_grown = failed_probes * math.log(self.factor) >= math.log(most / self.first)
        wait = most if is_grown else self.first * self.factor**failed_probes
        return self._spread(wait, chance) if self.jitter else wait

    def follow_request(self, wait: float, asked: float, chance: Callable[[], float]) -> float:
        """Return the seconds until the next probe where the server asks for a delay as well.

        Args:
            wait: The seconds without its request.
            asked: The seconds that it asks for.
            chance: Returns a number from 0 up to 1; asked only where there is jitter.
        """
        if self.jitter:
            asked = self._spread(asked, chance)
        return max(wait, min(asked, self.maximum))

    def _spread(self, wait: float, chance: Callable[[], float]) -> float:
        return wait * (1 + self.jitter * chance())
