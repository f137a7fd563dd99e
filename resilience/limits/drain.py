"""Drain: works off a backlog at the pace that the region allows, and says how long it takes."""

from dataclasses import dataclass

from resilience.limits.meter import Meter
from resilience.limits.pace import Pace


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainEstimate:
    """How far a drain is.

    Args:
        backlog: Messages that wait.
        rate: Requests a second that may start.
        arrivals: Messages that arrive each second.
        eta: Seconds until the backlog is gone; None: it does not shrink at this rate.
    """

    backlog: int
    rate: float
    arrivals: float
    eta: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainReport:
    """What a drain took.

    Args:
        seconds: How long it took.
        requests: Requests that were made for the backlog and for what arrived meanwhile.
        refused: Requests among them that were refused.
    """

    seconds: float
    requests: int
    refused: int


class Drain:
    """One drain, from the end of an outage until the backlog is gone.

    `now` goes in, decisions come out, as with a circuit. The owner asks `wait` before each request,
    and reports what became of it.

    Args:
        pace: The pace of the requests.
        backlog: Messages that wait at the start.
        now: The time, in seconds.
    """

    def __init__(self, pace: Pace, backlog: int, now: float) -> None:
        self.pace = pace
        #: Messages that wait.
        self.backlog = backlog
        self._since = now
        self._arrivals = Meter(now)
        self._requests = 0
        self._refused = 0

    def wait(self, now: float, *, live: bool = False) -> float:
        """Return the seconds until a request may start; 0.0 is now.

        Args:
            now: The time, in seconds.
            live: Whether it is for a message that has just arrived.
        """
        return self.pace.wait(now, live=live)

    def start(self, now: float) -> None:
        """Take note that a request starts."""
        self._requests += 1
        self.pace.start(now)

    def arrive(self, now: float, count: int = 1) -> None:
        """Take note of messages that arrive."""
        self._arrivals.add(count, now)

    def measure(self, backlog: int, now: float) -> None:
        """Take note of how many messages wait, as the broker counts them."""
        self.backlog = backlog
        self._arrivals.add(0, now)

    def succeed(self, now: float, *, live: bool = False) -> None:
        """Take note of a request that was answered: its message is done."""
        if not live:
            self.backlog = max(0, self.backlog - 1)
        self.pace.succeed(now)

    def back_off(self, now: float, wait: float = 0.0, *, refused: bool = True) -> None:
        """Take note of a request that was refused (429), or failed (5xx): its message waits on.

        Args:
            now: The time, in seconds.
            wait: Seconds that the server asks to wait.
            refused: Whether it was refused because there were too many.
        """
        self._refused += refused
        self.pace.back_off(now, wait)

    def estimate(self, now: float, *, rate: float | None = None) -> DrainEstimate:
        """Return how far the drain is.

        Args:
            now: The time, in seconds.
            rate: Requests a second, where they are measured; None: as the pace allows.
        """
        rate = self.pace.rate(now) if rate is None else rate
        arrivals = self._arrivals.per_second(now)
        spare = rate - arrivals
        eta = self.backlog / spare if spare > 0.0 else None
        return DrainEstimate(
            backlog=self.backlog,
            rate=rate,
            arrivals=arrivals,
            eta=0.0 if self.backlog == 0 else eta,
        )

    def report(self, now: float) -> DrainReport:
        """Return what the drain has taken so far."""
        return DrainReport(
            seconds=now - self._since, requests=self._requests, refused=self._refused
        )
