"""The ways to work off a backlog that are compared."""

from typing import Protocol

from resilience.limits import AdaptiveRate, Drain, LimitReading, Pace


class Way(Protocol):
    """Decides when the next request may start, and how many run at the same time."""

    #: What the table calls it.
    name: str
    #: Whether a refused request is repeated by its own worker, after 1, 2, 4, ... seconds. Else
    #: its message goes back to the head of the line, and the way decides when the next one starts.
    repeats: bool

    def most_running(self) -> int:
        """Return how many requests may run at the same time."""
        ...

    def wait(self, now: float, *, live: bool) -> float:
        """Return the seconds until a request may start; 0.0 is now."""
        ...

    def start(self, now: float) -> None:
        """Take note that a request starts."""

    def answer(self, reading: LimitReading, now: float, *, live: bool) -> None:
        """Take note of an answer."""

    def arrive(self, now: float) -> None:
        """Take note that a message arrives."""


class FullSpeed:
    """Every worker takes the next message when it has done one.

    Args:
        workers: How many there are.
    """

    name = "full speed"
    repeats = True

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def most_running(self) -> int:
        """Return how many requests may run at the same time."""
        return self._workers

    def wait(self, now: float, *, live: bool) -> float:  # noqa: ARG002 - it never waits
        """Return the seconds until a request may start; 0.0 is now."""
        return 0.0

    def start(self, now: float) -> None:
        """Take note that a request starts."""

    def answer(self, reading: LimitReading, now: float, *, live: bool) -> None:
        """Take note of an answer."""

    def arrive(self, now: float) -> None:
        """Take note that a message arrives."""


class Ramp(FullSpeed):
    """The workers begin one after the other: 1, 2, 4, ... after that many successes."""

    name = "a ramp of concurrency"

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self._step = 1
        self._successes = 0

    def most_running(self) -> int:
        """Return how many requests may run at the same time."""
        return min(self._step, self._workers)

    def answer(self, reading: LimitReading, now: float, *, live: bool) -> None:  # noqa: ARG002
        """Take note of an answer."""
        self._successes += not reading.is_throttled
        if self._successes >= self._step and self._step < self._workers:
            self._step, self._successes = 2 * self._step, 0


class Adaptive(FullSpeed):
    """One rate for all workers, which grows and is halved by refusals; the limit is not known."""

    name = "AIMD"
    repeats = False

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self._pace = Pace(0.0)

    @property
    def rate(self) -> AdaptiveRate:
        """The rate."""
        return self._pace.adaptive

    def wait(self, now: float, *, live: bool) -> float:
        """Return the seconds until a request may start; 0.0 is now."""
        return self._pace.wait(now, live=live)

    def start(self, now: float) -> None:
        """Take note that a request starts."""
        self._pace.start(now)

    def answer(self, reading: LimitReading, now: float, *, live: bool) -> None:  # noqa: ARG002
        """Take note of an answer."""
        if reading.is_throttled:
            self._pace.back_off(now, reading.wait or 0.0)
        else:
            self._pace.succeed(now)


class Paced(FullSpeed):
    """The drain of this package, which knows the limit from the headers of the first answer.

    Args:
        workers: How many there are.
        backlog: Messages that wait.
    """

    name = "pacing at 95 %"
    repeats = False

    def __init__(self, workers: int, backlog: int) -> None:
        super().__init__(workers)
        self.drain = Drain(Pace(0.0), backlog, 0.0)

    def wait(self, now: float, *, live: bool) -> float:
        """Return the seconds until a request may start; 0.0 is now."""
        return self.drain.wait(now, live=live)

    def start(self, now: float) -> None:
        """Take note that a request starts."""
        self.drain.start(now)

    def answer(self, reading: LimitReading, now: float, *, live: bool) -> None:
        """Take note of an answer."""
        self.drain.pace.learn(reading, now)
        if reading.is_throttled:
            self.drain.back_off(now, reading.wait or 0.0)
        else:
            self.drain.succeed(now, live=live)

    def arrive(self, now: float) -> None:
        """Take note that a message arrives."""
        self.drain.arrive(now)
