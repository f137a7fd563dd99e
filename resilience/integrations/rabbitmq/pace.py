"""Pace: how many calls of one region may run at once, over all queues of this process.

OPEN lets none start, HALF_OPEN its probes, CLOSED as many as the largest prefetch; but after an
opening it begins with one, and each step of 1, 2, 4, ... is earned by as many calls that went well.
It looks at the circuit and acquires nothing: the decorated call inside the handler does that.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from resilience.breaker import CircuitBreaker
from resilience.circuit import CircuitState
from resilience.events import StateChanged

_CLOSED, _OPEN, _HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
# Beside a probe of somebody else's one may have to look: nobody tells when its place is free.
_LOOK_AGAIN = 1.0


@dataclass(eq=False, slots=True)
class Turn:
    """Leave to run one call of the handler; give it back."""

    pace: "Pace"
    since: float

    def give_back(self) -> None:
        """Let the next one run."""
        self.pace._take_back(self)


@dataclass(eq=False, slots=True)
class _Waiter:
    turn: asyncio.Future[Turn | None]
    only_grown: bool


@dataclass(eq=False, slots=True)
class _User:
    prefetch: int
    wake: Callable[[], object]


@dataclass(eq=False)
class Pace:
    """The calls of one region in one event loop.

    Args:
        breaker: Of the region.
    """

    breaker: CircuitBreaker
    _step: int | None = None  # None: fully grown
    _earned: int = 0
    _growing: bool = False  # the success that closed the circuit was a probe's, and earns nothing
    _users: list[_User] = field(default_factory=list[_User])
    _turns: set[Turn] = field(default_factory=set[Turn])  # since it opened last
    _waiters: list[_Waiter] = field(default_factory=list[_Waiter])
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _watcher: asyncio.Task[None] | None = None
    _stop_listening: Callable[[], object] = bool

    # Who uses it

    def _join(self, prefetch: int, wake: Callable[[], object]) -> Callable[[], None]:
        user = _User(prefetch, wake)
        if not self._users:
            self._begin()
        self._users.append(user)

        def leave() -> None:
            self._users.remove(user)
            if not self._users and self._watcher is not None:
                self._watcher.cancel()
                self._stop_listening()

        return leave

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()

        def listener(event: StateChanged) -> None:  # in any thread
            with suppress(RuntimeError):  # its loop is closed
                loop.call_soon_threadsafe(self._follow, event.new)

        self._stop_listening = self.breaker.listen(listener)
        if self.breaker.state is not _CLOSED:
            self._step = 1
        self._watcher = loop.create_task(self._watch())

    # What is allowed

    @property
    def limit(self) -> int:
        """How many calls may run at once while the circuit is CLOSED."""
        full = max(user.prefetch for user in self._users)
        return full if self._step is None else min(self._step, full)

    @property
    def grown(self) -> bool:
        """Whether the region takes as many calls as ever."""
        return self._step is None and self.breaker.state is _CLOSED

    async def turn(self, *, only_grown: bool = False) -> Turn | None:
        """Wait for a turn, first come first served.

        Args:
            only_grown: Give up where the region is not grown, or no longer.

        Returns:
            The turn; None where it was given up.
        """
        waiter = _Waiter(asyncio.get_running_loop().create_future(), only_grown)
        self._waiters.append(waiter)
        self._serve()
        if not waiter.turn.done():
            self._news.set()
        try:
            return await waiter.turn
        except asyncio.CancelledError:
            given = waiter.turn.result() if not waiter.turn.cancelled() else None
            if given is not None:
                given.give_back()
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def earn(self) -> None:
        """Note a call that went well: the next step may be due."""
        if self._step is None or not self._growing:
            return
        self._earned += 1
        if self._earned >= self._step:
            doubled, full = 2 * self._step, max(user.prefetch for user in self._users)
            self._step, self._earned = (None if doubled >= full else doubled), 0
            self._tell()

    def _has_room(self) -> bool:
        state = self.breaker.state
        if state is _CLOSED:
            return len(self._turns) < self.limit
        if state is _OPEN or self.breaker.retry_after != 0.0:
            return False
        return len(self._under_way()) < self.breaker.policy.half_open_probes

    def _under_way(self) -> set[Turn]:
        """Give the turns of probes whose lease has not run out: the circuit waits for no other."""
        policy, now = self.breaker.policy, _now()
        lease = policy.probe_timeout or policy.recovery_timeout
        return {turn for turn in self._turns if now - turn.since < lease}

    def _serve(self) -> None:
        for waiter in tuple(self._waiters):
            if waiter.turn.done():
                continue
            if waiter.only_grown and not self.grown:
                waiter.turn.set_result(None)
            elif self._has_room():
                turn = Turn(self, _now())
                self._turns.add(turn)
                waiter.turn.set_result(turn)

    def _take_back(self, turn: Turn) -> None:
        self._turns.discard(turn)
        self._serve()

    # What happens

    def _follow(self, state: CircuitState) -> None:
        self._growing = state is _CLOSED
        # What hangs from before must not keep the next call waiting: its result is late anyway.
        if state is _OPEN:
            self._step, self._earned, self._turns = 1, 0, set()
        elif state is _CLOSED:
            self._turns = self._under_way()
        self._news.set()
        self._tell()

    def _tell(self) -> None:
        self._serve()
        for user in tuple(self._users):
            user.wake()

    async def _watch(self) -> None:
        """Tell when a probe is due, which is no event of the circuit's."""
        while True:
            self._news.clear()
            state, pause = self.breaker.state, _LOOK_AGAIN
            if state is _CLOSED:
                await self._news.wait()
                continue
            if self._waiters:
                # Only who has a message asks: where the circuit is shared that takes its one place.
                await self.breaker.wait_until_ready()
            if self._waiters or state is _HALF_OPEN:
                self._tell()
            else:
                pause = min(pause, self.breaker.retry_after or pause)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._news.wait()


def _now() -> float:
    return asyncio.get_running_loop().time()


_paces: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[CircuitBreaker, Pace]] = (
    WeakKeyDictionary()
)


def join_pace(
    breaker: CircuitBreaker, prefetch: int, wake: Callable[[], object]
) -> tuple[Pace, Callable[[], None]]:
    """Give the pace of a region, the same for all its queues in this event loop.

    Args:
        breaker: Of the region.
        prefetch: The most calls that this queue may have running.
        wake: Is called when something has changed.

    Returns:
        The pace, and a function that ends its use.
    """
    paces = _paces.setdefault(asyncio.get_running_loop(), {})
    pace = paces.setdefault(breaker, Pace(breaker))
    leave = pace._join(prefetch, wake)

    def end() -> None:
        leave()
        if not pace._users:
            del paces[breaker]

    return pace, end
