"""RegionDrain: a backlog that is worked off after an outage, from all queues of a region."""

import asyncio
from collections.abc import Callable

from resilience import log
from resilience.breaker import CircuitBreaker
from resilience.limits import Drain, DrainEstimate, Meter, Pace

# Seconds between two looks at how many messages wait.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 1.0, 10.0


class RegionDrain:
    """One drain: what waits, what is done, and what the log says of it.

    Args:
        breaker: The region's breaker, whose snapshot shows how far the drain is.
        paced_at: Returns the rate at which it is paced; None: it is measured.
    """

    def __init__(self, breaker: CircuitBreaker, paced_at: Callable[[], float | None]) -> None:
        self._breaker, self._paced_at = breaker, paced_at
        now = _now()
        self._since = now
        # Its pace is not asked: each tenant has its own.
        self._drain = Drain(Pace(now), 0, now)
        self._done = Meter(now)
        # How many messages wait, and how many there are, by queue.
        self._waiting: dict[str, int] = {}
        self._counted: dict[str, int] = {}
        self._is_logged = False
        #: Requests that were refused.
        self.refused = 0

    # What happens

    def begin_call(self, *, is_live: bool) -> None:
        """Take note of a message that is attempted."""
        self._drain.start(_now())
        if is_live:
            self._drain.arrive(_now())

    def succeed(self, *, is_live: bool) -> None:
        """Take note of a message that is done."""
        self._done.add(1, _now())
        self._drain.succeed(_now(), live=is_live)

    def expect(self, queue: str) -> None:
        """Take note of a queue in which messages may wait: they will be counted."""
        self._waiting.setdefault(queue, 1)

    def forget(self, queue: str) -> None:
        """Take note of a queue that nobody counts any more."""
        self._waiting.pop(queue, None)
        self._counted.pop(queue, None)

    def measure(self, queue: str, waiting: int, others: int) -> None:
        """Take note of how many messages of a queue there are.

        Args:
            queue: The queue's name.
            waiting: How many wait.
            others: How many are being attempted, or have failed.
        """
        is_known = queue in self._counted
        self._waiting[queue], self._counted[queue] = waiting, waiting + others
        total = sum(self._counted.values())
        if is_known:
            # What is there although it should be done has arrived since.
            self._drain.arrive(_now(), max(0, total - self._drain.backlog))
        self._drain.measure(total, _now())
        estimate = self.estimate()
        self._breaker.drain = estimate
        if not self._is_logged and estimate.backlog:
            self._is_logged = True
            self._log_start(estimate)

    # What is known

    @property
    def is_over(self) -> bool:
        """Whether no message waits in any queue that was looked at."""
        return not any(self._waiting.values())

    def rate(self) -> float:
        """Return the requests a second that succeed, as measured."""
        return self._done.per_second(_now())

    def estimate(self) -> DrainEstimate:
        """Return how far the drain is."""
        return self._drain.estimate(_now(), rate=self._paced_at() or self.rate())

    def next_look(self) -> float:
        """Return the seconds after which the backlog is counted again."""
        eta = self.estimate().eta
        return _LONGEST_PAUSE if eta is None else min(max(eta / 4, _SHORTEST_PAUSE), _LONGEST_PAUSE)

    def end(self, why: str) -> None:
        """End the drain, and say what it took.

        Args:
            why: Why it has ended before its time; empty if the backlog is gone.
        """
        self._breaker.drain = None
        if not self._is_logged:
            return
        report = self._drain.report(_now())
        seconds = log.describe_duration(report.seconds)
        took = f"{seconds} and {report.requests:,} requests, {self.refused:,} refused"
        text = f"has stopped: {why}, after {took}" if why else f"is done, after {took}"
        bound = {
            "seconds": report.seconds,
            "requests": report.requests,
            "refused": self.refused,
            "backlog": self._drain.backlog,
        }
        log.log("INFO", self._breaker.region, f"for region {{}} {text}", bound, subject="Drain")

    def _log_start(self, estimate: DrainEstimate) -> None:
        rate = self._paced_at()
        pace = "as fast as it gets" if rate is None else f"at {rate:.2f} requests a second"
        # Less than a second is not worth a word.
        is_known = rate is not None and estimate.eta is not None and estimate.eta >= 1
        took = f", at least {estimate.eta:.0f} s" if is_known else ""
        text = f"for region {{}} begins: {estimate.backlog:,} messages, {pace}{took}"
        bound = {"backlog": estimate.backlog, "rate": rate, "eta": estimate.eta}
        log.log("INFO", self._breaker.region, text, bound, subject="Drain")


def _now() -> float:
    return asyncio.get_running_loop().time()
