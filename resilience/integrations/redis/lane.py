"""The lane: one thread that talks to the store, beside the calls.

It hears hints and reads what they name, says what the circuits wish, and polls now and then, which
catches up with what a hint missed and finds out whether the store takes writes. When the store
fails it tells the circuits to go on alone, and comes back to it until it is there again.

What it does, `steps`, is a generator: it hands out what it got from the store or from waiting, and
goes on with what it is given back. The thread gives it back at once. The simulation in benchmarks/
lets it have something else to hand out, and gives back later, on a clock of its own.
"""

import _thread
import math
import random
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar, cast
from weakref import WeakValueDictionary

import redis

from resilience import log
from resilience._lock import lock
from resilience.breaker import CircuitBreaker
from resilience.integrations.redis.bell import Bell
from resilience.integrations.redis.connection import Address, Commands, Hints
from resilience.integrations.redis.records import Answer, BadAnswer, Records, parse, parse_many
from resilience.shared_circuit import SharedCircuit, Wish

T = TypeVar("T")
Steps: TypeAlias = Generator[Any, Any, T]
Connect: TypeAlias = Callable[[], AbstractContextManager[tuple[Commands, Hints]]]
Breakers: TypeAlias = "WeakValueDictionary[str, CircuitBreaker]"
Pairs: TypeAlias = list[tuple[str, CircuitBreaker]]
Request: TypeAlias = Callable[[list[str]], tuple[list[str], list[str]]]

# Seconds between two attempts to come back, drawn by lot so that a fleet does not come at once.
_COME_BACK: Final = (0.05, 0.7)
_JITTER: Final = (0.75, 1.25)
# An answer that took longer comes from before a pause of this process: it is asked for again.
_STALE: Final = 2.0
# Between two rounds, whatever the circuits wish.
_BREATH: Final = 0.01
# A circuit says so many wishes, then it is the others' turn.
_WISHES_IN_A_ROW: Final = 4
_RECORDS_AT_A_TIME: Final = 200


@dataclass(frozen=True, slots=True)
class Times:
    """How long things take, in seconds.

    Args:
        poll: Between two polls, on average.
        timeout: Of the sockets.
    """

    poll: float
    timeout: float


class Lane:
    """Keeps the circuits of one process and the records in the store in step.

    Args:
        address: Where the store is.
        records: How to ask for records.
        breakers: Key of the record -> the breaker; may grow and shrink at any time.
        times: How long things take.
        bell: Wakes it while it waits.
        clock: Returns seconds.
    """

    def __init__(
        self,
        address: Address,
        records: Records,
        breakers: Breakers,
        times: Times,
        *,
        bell: Bell,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.records = records
        self._address, self._breakers, self._times = address, breakers, times
        self._bell, self._now = bell, clock
        self._marked: set[str] = set()  # whose circuits may have a wish
        self._stopping, self.ended = threading.Event(), threading.Event()
        self.thread: int | None = None
        self._up: bool | None = None
        self._offset = 0.0  # of the store's clock, at least
        self._holding: set[str] = set()  # whose circuits have a lease, and so wishes in time
        self._warned: set[str] = set()

    def ring(self, key: str) -> None:
        """Say that a circuit has a wish; the caller holds the lock."""
        self._marked.add(key)
        self._bell.ring()

    def stop(self) -> None:
        """Let it give back what it holds, and end."""
        self._stopping.set()
        with lock:
            self.ring("")

    def start(self) -> None:
        """Start the thread; the caller may hold the lock.

        Not by `threading.Thread.start`, which waits for the new thread: if a collection of garbage
        in there came first and wanted the lock, both would wait for ever.
        """
        with suppress(RuntimeError):  # the interpreter ends
            _thread.start_new_thread(self._be_a_thread, ())

    def _be_a_thread(self) -> None:  # pragma: no cover - nobody sees it before `settrace`
        threading.current_thread().name = "resilience-sharing"
        self.thread = threading.get_ident()
        sys.settrace(threading.gettrace())  # as threading does for its own
        self.run()

    def run(self) -> None:
        """Serve until it is stopped."""
        _finish(self.steps(self._connect, self._stopping.wait))
        self.leave_alone()
        with lock:
            self.ended.set()
            self._bell.close()

    @contextmanager
    def _connect(self) -> Generator[tuple[Commands, Hints]]:
        with (
            closing(Commands(self._address)) as commands,
            closing(Hints(self._address, self.records.channel)) as hints,
        ):
            yield commands, hints

    def steps(self, connect: Connect, rest: Callable[[float], object]) -> Steps[None]:
        """Come, serve and go until it is told to stop.

        Args:
            connect: Connects to the store.
            rest: Lets so many seconds pass.
        """
        while not self._stopping.is_set():
            try:
                with connect() as (commands, hints):
                    yield from self._serve(commands, hints)
            except (redis.RedisError, OSError, BadAnswer) as error:
                self._lost(type(error).__name__)
            except Exception as error:  # noqa: BLE001 - whatever it is, the lane must come back
                self._lost(log.describe_exception(error))
            yield rest(random.uniform(*_COME_BACK))  # noqa: S311 - no secret

    def _serve(self, commands: Commands, hints: Hints) -> Steps[None]:
        next_poll = 0.0
        while not self._stopping.is_set():
            if self._now() >= next_poll:
                yield from self._poll(commands)
                hints.ping()
                jitter = random.uniform(*_JITTER)  # noqa: S311 - no secret
                next_poll = self._now() + self._times.poll * jitter
            yield from self._say_wishes(commands)
            pause = min(next_poll - self._now(), self._until_next_wish())
            hinted = yield hints.wait(self._bell, max(pause, _BREATH))
            yield from self._hear(commands, self._news(hinted))
        yield from self._say_wishes(commands)
        for key, breaker in self._all():
            yield from self._say(commands, key, breaker, SharedCircuit.farewell)

    # What the store says

    def _poll(self, commands: Commands) -> Steps[None]:
        everybody = self._all()
        for some in _by(_RECORDS_AT_A_TIME, everybody) or [[]]:
            yield from self._take_in(commands, some, self.records.poll)
        if self._up is False:
            log.log("INFO", "", "sharing is back")
        self._up = True
        self._marked.update(key for key, _ in everybody)

    def _news(self, hints: Iterable[tuple[str, int]]) -> set[str]:
        """Give the keys of the hints that tell of more than is known; our own do not."""
        newest: dict[str, int] = {}
        for key, version in hints:
            newest[key] = max(version, newest.get(key, 0))
        return {
            key
            for key, breaker in self._all()
            if newest.get(key, 0) > cast("SharedCircuit", breaker._circuit).version
        }

    def _hear(self, commands: Commands, keys: set[str]) -> Steps[None]:
        named = [(key, breaker) for key, breaker in self._all() if key in keys]
        for some in _by(_RECORDS_AT_A_TIME, named):
            yield from self._take_in(commands, some, self.records.read)
        self._marked |= keys

    def _take_in(self, commands: Commands, some: Pairs, request: Request) -> Steps[None]:
        keys = [key for key, _ in some]
        reply, delay = yield from self._run(commands, *request(keys))
        for (key, breaker), answer in zip(some, parse_many(reply, len(some), delay), strict=True):
            self._note(key, breaker, answer)
            self._tell(key, breaker, SharedCircuit.hear, answer.view)

    def _note(self, key: str, breaker: CircuitBreaker, answer: Answer) -> None:
        self._offset = answer.store_time / 1000 - self._now()
        if not answer.bad:
            self._warned.discard(key)
        elif key not in self._warned:
            self._warned.add(key)
            text = "found something in the store that is no record of region {}, and ignores it"
            log.log("WARNING", breaker.region, text)

    # What the store is told

    def _say_wishes(self, commands: Commands) -> Steps[None]:
        with lock:
            marked, self._marked = self._marked, set()
        yield from self._hear(commands, {key for key in marked if self._is_new(key)})
        for key, breaker in self._all():
            if key in marked or key in self._holding:
                said = 0
                while said < _WISHES_IN_A_ROW and (yield from self._say(commands, key, breaker)):
                    said += 1

    def _is_new(self, key: str) -> bool:
        breaker = self._breakers.get(key)
        return breaker is not None and not cast("SharedCircuit", breaker._circuit).shared

    def _say(
        self,
        commands: Commands,
        key: str,
        breaker: CircuitBreaker,
        what: Callable[[SharedCircuit, float], Wish | None] = SharedCircuit.wish,
    ) -> Steps[bool]:
        """Say what a circuit wishes; False: nothing, or it came too late."""
        decided = self._now()
        wish = self._look(breaker, what)
        if wish is None:
            return False
        for _ in range(2):  # once more when it came late, for the store's clock may have moved
            not_after = int((decided + self._offset + self._times.timeout) * 1000)
            timeout = breaker.policy.recovery_timeout
            request = self.records.change(key, wish, timeout, not_after)
            answer = parse(*(yield from self._run(commands, *request)))
            self._note(key, breaker, answer)
            if not answer.late:
                self._tell(key, breaker, SharedCircuit.answer, wish, answer.view)
                return True
        yield from self._hear(commands, {key})
        return False

    def _until_next_wish(self) -> float:
        holders = [breaker for key, breaker in self._all() if key in self._holding]
        waits = (self._look(breaker, SharedCircuit.wakes_in) for breaker in holders)
        return min(waits, default=math.inf)

    # The store comes and goes

    def _lost(self, why: str) -> None:
        if self._up is not False:
            log.log("WARNING", "", f"sharing is lost, circuits go on alone: {why}")
        self._up = False
        self.leave_alone()

    def leave_alone(self) -> None:
        """Let the circuits go on alone."""
        for key, breaker in self._all():
            self._tell(key, breaker, SharedCircuit.lost)

    # The circuits

    def _all(self) -> Pairs:
        with lock:
            return list(self._breakers.items())

    def _run(
        self, commands: Commands, keys: list[str], arguments: list[str]
    ) -> Steps[tuple[Any, float]]:
        while True:
            asked = self._now()
            reply = yield commands.run(keys, arguments)
            if (delay := self._now() - asked) <= _STALE:
                return reply, delay

    def _look(self, breaker: CircuitBreaker, at: Callable[[SharedCircuit, float], T]) -> T:
        return breaker._look(partial(at, cast("SharedCircuit", breaker._circuit)))

    def _tell(
        self, key: str, breaker: CircuitBreaker, make: Callable[..., Any], *what: Any
    ) -> None:
        circuit = cast("SharedCircuit", breaker._circuit)
        try:
            breaker._change(make, circuit, *what)
        except (KeyboardInterrupt, SystemExit) as error:
            text = f"listener for region {{}} {log.describe_exception(error)}: no process ends in this thread"
            log.log("ERROR", breaker.region, text)
        if circuit.mine:
            self._holding.add(key)
        else:
            self._holding.discard(key)


def _by(many: int, all_: Pairs) -> list[Pairs]:
    return [all_[place : place + many] for place in range(0, len(all_), many)]


def _finish(steps: Steps[None]) -> None:
    """Give back at once what the steps hand out."""
    with suppress(StopIteration):
        handed_out = next(steps)
        while True:
            handed_out = steps.send(handed_out)
