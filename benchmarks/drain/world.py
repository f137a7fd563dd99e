"""Plays the time after an outage: messages arrive, workers call the server, the clock jumps."""

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from benchmarks.drain.server import Server
from benchmarks.drain.ways import Way
from resilience.limits import RateLimit

_BACKOFF, _LONGEST_BACKOFF = 1.0, 60.0
_SAMPLED_EVERY = 30.0
_LAST_SECOND = 14_400.0


@dataclass(frozen=True)
class Plan:
    """What happens.

    Args:
        outage: Seconds that the region was down.
        arrivals: Messages a second, before, during and after that, at random times.
        limit: What the server allows.
        workers: How many requests can run at the same time.
        answer: Seconds that an answer takes.
        seed: For what is left to chance.
    """

    outage: float = 3600.0
    arrivals: float = 2.0
    limit: RateLimit = RateLimit(300, 60.0)  # noqa: RUF009 - immutable
    workers: int = 50
    answer: float = 0.2
    seed: int = 1

    @property
    def backlog(self) -> int:
        """Messages that wait when the region is back."""
        return round(self.outage * self.arrivals)

    @property
    def least(self) -> float:
        """Seconds that the drain takes at least: all that is allowed and does not arrive live."""
        return self.backlog / (self.limit.per_second - self.arrivals)


@dataclass
class Figures:
    """What came of it.

    Args:
        requests: Requests until the backlog was gone.
        refused: Requests among them that were answered 429.
        arrived: Live messages that arrived until then.
        seconds: How long that took; None: the backlog was never gone.
        live: Seconds from the arrival of each live message to its answer.
        backlog: How many messages of the backlog were left, second by second.
    """

    requests: int = 0
    refused: int = 0
    arrived: int = 0
    seconds: float | None = None
    live: list[float] = field(default_factory=list[float])
    backlog: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])

    def of_the_least(self, plan: Plan) -> float | None:
        """Return how many times as long it took as it must, with what happened to arrive."""
        if self.seconds is None:
            return None
        return self.seconds * plan.limit.per_second / (plan.backlog + self.arrived)


@dataclass
class _Message:
    arrived: float
    live: bool
    attempts: int = 0


class World:
    """One run.

    Args:
        plan: What happens.
        way: How the backlog is worked off.
    """

    def __init__(self, plan: Plan, way: Way) -> None:
        self._plan = plan
        self._way = way
        self._chance = random.Random(plan.seed)  # noqa: S311 - not a secret
        self._server = Server(plan.limit, self._chance.uniform(0, plan.limit.window))
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()
        #: Seconds since the region is back.
        self.now = 0.0
        self._live: deque[_Message] = deque()
        self._waiting = deque(_Message(0.0, live=False) for _ in range(plan.backlog))
        self._left = plan.backlog
        self._running = 0
        self._wakes_at = float("inf")
        self.figures = Figures()

    def play(self) -> Figures:
        """Play until the backlog is gone."""
        self.after(0.0, self._arrive)
        self.after(0.0, self._sample)
        while self._left and self.now < _LAST_SECOND:
            self.now, _, action = heapq.heappop(self._agenda)
            action()
            self._start_requests()
        self.figures.requests, self.figures.refused = self._server.requests, self._server.refused
        self.figures.seconds = None if self._left else self.now
        self.figures.backlog.append((self.now, self._left))
        return self.figures

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something later."""
        heapq.heappush(self._agenda, (self.now + seconds, next(self._number), action))

    def _arrive(self) -> None:
        self.figures.arrived += 1
        self._live.append(_Message(self.now, live=True))
        self._way.arrive(self.now)
        self.after(self._chance.expovariate(self._plan.arrivals), self._arrive)

    def _sample(self) -> None:
        self.figures.backlog.append((self.now, self._left))
        self.after(_SAMPLED_EVERY, self._sample)

    def _start_requests(self) -> None:
        """Start what may start now; a live message goes before the backlog."""
        while self._running < self._way.most_running() and (self._live or self._waiting):
            live = bool(self._live)
            wait = self._way.wait(self.now, live=live)
            if wait > 0.0:
                self._wake_after(wait)
                return
            self._running += 1
            self._send(self._live.popleft() if live else self._waiting.popleft())

    def _wake_after(self, wait: float) -> None:
        at = self.now + wait
        if at < self._wakes_at or self._wakes_at <= self.now:
            self._wakes_at = at
            self.after(wait, lambda: None)

    def _send(self, message: _Message) -> None:
        self._way.start(self.now)
        reading = self._server.request(self.now)

        def answer() -> None:
            self._way.answer(reading, self.now, live=message.live)
            if not reading.is_throttled:
                self._running -= 1
                self._done(message)
            elif self._way.repeats:
                self.after(self._backoff(message), lambda: self._send(message))
            else:
                self._running -= 1
                (self._live if message.live else self._waiting).appendleft(message)

        self.after(self._plan.answer, answer)

    def _backoff(self, message: _Message) -> float:
        longest = min(_BACKOFF * 2.0**message.attempts, _LONGEST_BACKOFF)
        message.attempts += 1
        return self._chance.uniform(longest / 2, longest)

    def _done(self, message: _Message) -> None:
        if message.live:
            self.figures.live.append(self.now - message.arrived)
        else:
            self._left -= 1
