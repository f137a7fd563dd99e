"""SimulatedSharing: the sharing of the package, where thread, sockets and clock are pretended."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import redis
from resilience.integrations.redis.lane import Lane

from benchmarks.simulation.agenda import Agenda
from benchmarks.simulation.store import SimulatedStore
from resilience.integrations.redis import RedisSharing, _everybody

TIMEOUT = 0.5  # of the sockets, in seconds


@dataclass(frozen=True, slots=True)
class Question:
    """What a lane waits for: an answer of the store."""

    keys: list[str]
    arguments: list[str]


@dataclass(frozen=True, slots=True)
class Pause:
    """What a lane waits for: time to pass, and perhaps a hint or the bell."""

    seconds: float
    interruptible: bool


class SimulatedSharing(RedisSharing):
    """Shares the circuits of one simulated process.

    Args:
        agenda: Time.
        store: The store.
        quorum: So many processes have to trip before all open.
    """

    def __init__(self, agenda: Agenda, store: SimulatedStore, quorum: int) -> None:
        super().__init__("redis://nowhere", quorum=quorum, socket_timeout=TIMEOUT)
        _everybody.discard(self)  # a fork of the real process is none of this one
        self._agenda, self._store = agenda, store
        stand_in: Any = self  # for the address, which nobody asks, and for the bell
        self._lane = Lane(
            stand_in, self._records, self._breakers, self._times, bell=stand_in, clock=agenda.clock
        )
        self._steps: Generator[Any, Any, None] = self._lane.steps(self._connect, self._rest)
        self._turn = 0  # counts what was handed out: only the last of it is waited for
        self._pausing = False
        self._rung = False
        self._hinted: list[tuple[str, int]] = []
        self._connected = False

    def _ring(self, key: str) -> None:
        cast("Lane", self._lane).ring(key)

    def start(self) -> None:
        """Start the thread."""
        self._store.subscribers.append(self._hear)
        self._go_on(self._turn, None)

    # What the lane calls: the store, and the bell

    @contextmanager
    def _connect(self) -> Iterator[Any]:
        self._connected = True
        for _ in ("SUBSCRIBE", "SCRIPT LOAD"):
            self._store.ping()
        try:
            yield self, self
        finally:
            self._connected = False
            self._hinted.clear()

    def run(self, keys: list[str], arguments: list[str]) -> Question:
        """Be `Commands`."""
        return Question(keys, arguments)

    def wait(self, _bell: object, seconds: float) -> Pause:
        """Be `Hints`."""
        return Pause(seconds, interruptible=True)

    def ping(self) -> None:
        """Be `Hints`."""
        self._store.ping()

    def _rest(self, seconds: float) -> Pause:
        return Pause(seconds, interruptible=False)

    def ring(self) -> None:
        """Be the bell."""
        self._rung = True
        self._wake()

    def _hear(self, hint: tuple[str, int]) -> None:
        if self._connected:
            self._hinted.append(hint)
            self._wake()

    # The thread

    def _wake(self) -> None:
        if self._pausing:
            self._pausing = False
            self._agenda.after(self._store.lag(), partial(self._end_pause, self._turn))

    def _end_pause(self, turn: int) -> None:
        if turn == self._turn:
            hinted, self._hinted = self._hinted, []
            self._pausing = self._rung = False
            self._go_on(turn, hinted)

    def _go_on(self, turn: int, answer: object) -> None:
        if turn == self._turn:
            self._turn += 1
            self._begin(self._steps.send(answer))

    def _time_out(self, turn: int) -> None:
        if turn == self._turn:
            self._store.lost += 1
            self._turn += 1
            self._begin(self._steps.throw(redis.TimeoutError))

    def _begin(self, what: Question | Pause) -> None:
        turn = self._turn
        if isinstance(what, Question):
            self._store.ask(what.keys, what.arguments, partial(self._go_on, turn))
            self._agenda.after(TIMEOUT, partial(self._time_out, turn))
            return
        self._agenda.after(what.seconds, partial(self._end_pause, turn))
        self._pausing = what.interruptible
        if self._rung or self._hinted:
            self._wake()
