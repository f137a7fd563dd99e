"""What happened, and who is told.

Events are queued while the lock is held and delivered after it was let go, one at a time and in
their order, by whichever thread finds nobody delivering.
"""

import os
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from resilience._lock import lock
from resilience._validate import check_callable
from resilience.circuit import CircuitState, Transition
from resilience.log import describe_exception, log_fault, log_state


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged(Transition):
    """A circuit changed its state (T10: "logged with region and reason").

    Args:
        region: The region whose circuit it is.
        old: The state before; it equals `new` of the event before.
        new: The state now.
        reason: Why, in short; never the text of an exception.
        at: The breaker's clock at that moment, in seconds.
        time: The time of day, with its time zone.
        streak: Consecutive failures at that moment.
        retry_after: Seconds until a call may be admitted; None while forced open.
        by: Who brought it about where circuits are shared and it was another process: its host,
            process number and name; else None.
    """

    region: str
    time: datetime


Listener: TypeAlias = Callable[[StateChanged], object]
Moves: TypeAlias = Counter[tuple[CircuitState, CircuitState]]


# Who is told


@dataclass(slots=True, eq=False)
class Listeners:
    """Callables that want to be told; safe to change while they are being told."""

    entries: tuple[tuple[Listener], ...] = ()

    def add(self, listener: Listener) -> Callable[[], None]:
        """Tell this one too.

        Args:
            listener: Takes one `StateChanged`; must return soon, since calls wait for it.

        Returns:
            A function that ends it; calling it again does nothing.

        Raises:
            TypeError: The listener cannot be called, or is an `async def`.
        """
        check_callable("listener", listener, "one StateChanged")
        entry = (listener,)
        with lock:
            self.entries += (entry,)

        def stop() -> None:
            with lock:
                self.entries = tuple(kept for kept in self.entries if kept is not entry)

        return stop

    def tell(self, event: StateChanged) -> None:
        """Tell everybody; who raises is logged and keeps the event from nobody else."""
        for (listener,) in self.entries:
            try:
                listener(event)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001 - a CancelledError out of a plain function is a fault too
                log_fault("listener", listener, describe_exception(error), event.region)


@dataclass(slots=True, eq=False)
class RegistryListeners(Listeners):
    """Those of a registry, and who is told more than they are."""

    note: Callable[[StateChanged], object] = bool  # under the lock, in the order of what happens
    watchers: tuple[Callable[..., object], ...] = ()  # about rejections


@dataclass(slots=True, eq=False)
class _Queue:
    """What is still to be told; good in one process, the child of a fork makes its own."""

    moves: Moves  # what was ever queued, counted
    process: int = field(default_factory=os.getpid)
    events: deque[StateChanged] = field(default_factory=deque)
    delivering: bool = False

    def take(self) -> StateChanged | None:
        with lock:
            if self.events and self.process == os.getpid():
                return self.events.popleft()
            # Given up under the lock: whoever queues an event from here on delivers it.
            self.delivering = False
            return None


@dataclass(slots=True, eq=False)
class Outbox(Listeners):
    """The listeners of one breaker, and what they and its registry's are still to be told."""

    registry_listeners: RegistryListeners = field(default_factory=RegistryListeners)
    log: Callable[[StateChanged], object] = log_state  # is told before everybody else
    _queue: _Queue | None = None  # most breakers never need it

    @property
    def moves(self) -> Moves:
        """How often which change of state has happened."""
        return Counter() if self._queue is None else self._queue.moves

    def put(self, event: StateChanged) -> None:
        """Queue an event; the caller holds the lock."""
        if self._queue is None or self._queue.process != os.getpid():
            self._queue = _Queue(self.moves)
        self._queue.events.append(event)
        self._queue.moves[event.old, event.new] += 1
        self.registry_listeners.note(event)

    def deliver(self) -> None:
        """Tell what is queued, unless somebody is at it; the caller does not hold the lock."""
        queue = self._queue
        if queue is None or not queue.events:
            return
        try:
            with lock:
                if queue.delivering:
                    return
                queue.delivering = True
            while (event := queue.take()) is not None:
                self.log(event)
                self.tell(event)
                self.registry_listeners.tell(event)
        except BaseException:
            queue.delivering = False
            raise
