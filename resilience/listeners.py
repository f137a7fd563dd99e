"""Delivering events: in order, outside the lock, by one thread at a time.

Events are queued while the lock is held, and delivered after it was released, by the first thread
that finds nobody delivering. A thread that comes meanwhile leaves its events to that one.
"""

import asyncio
import inspect
import os
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from resilience._lock import lock, lock_is_held
from resilience._validate import check_callable, discard
from resilience.circuit import ProbeExpired, ProbesIgnored, RejectionsBegan
from resilience.errors import CircuitBreakerOpenError
from resilience.events import StateChanged
from resilience.history import History
from resilience.log import Advice, Once, describe_exception, log_event, log_fault

E = TypeVar("E")
QueuedEvent: TypeAlias = StateChanged | ProbeExpired | RejectionsBegan | ProbesIgnored | Advice
# One event for the log or for one listener; returns the exit that a listener asked for.
Delivery: TypeAlias = Callable[[], BaseException | None]


class Entry(Generic[E]):
    """One listener, until it is stopped."""

    __slots__ = ("active", "first_fault", "listener")

    def __init__(self, listener: Callable[[E], object]) -> None:
        self.listener = listener
        self.active = True
        #: Whether it has returned something that nobody awaits is logged once.
        self.first_fault = Once()


class Listeners(Generic[E]):
    """Callables that receive events; safe to change while they are being called.

    Args:
        takes: What a listener takes, for the error text.
    """

    __slots__ = ("_takes", "entries")

    def __init__(self, takes: str) -> None:
        self._takes = takes
        self.entries: tuple[Entry[E], ...] = ()

    def add(self, listener: Callable[[E], object]) -> Callable[[], None]:
        """Add a listener.

        Args:
            listener: Must return soon, since calls wait for it.

        Returns:
            A function that removes it; calling it again does nothing.

        Raises:
            TypeError: The listener cannot be called, or is an `async def`.
        """
        check_callable("listener", listener, self._takes)
        entry = Entry(listener)
        with lock:
            self.entries = (*self.entries, entry)

        def stop() -> None:
            with lock:
                entry.active = False
                self.entries = tuple(kept for kept in self.entries if kept is not entry)

        return stop

    def clear(self) -> None:
        """Remove all listeners."""
        entries = self.entries
        with lock:
            for entry in entries:
                entry.active = False
            self.entries = ()
        del entries  # a listener may be freed by this, and run a user's code


def call_listener(entry: Entry[E], event: E, region: str) -> BaseException | None:
    """Call one listener; what it raises is logged.

    Returns:
        The exit that it asked for, a `SystemExit` or `KeyboardInterrupt`; else None.
    """
    if not entry.active:
        return None
    try:
        result = entry.listener(event)
        if inspect.isawaitable(result) and not asyncio.isfuture(result):
            _discard_awaitable(entry, result, region)
    except (KeyboardInterrupt, SystemExit) as error:
        return error
    except BaseException as error:  # noqa: BLE001 - a CancelledError out of a plain function is a fault too
        log_fault("listener", entry.listener, describe_exception(error), region)
    return None


def _discard_awaitable(entry: Entry[E], result: object, region: str) -> None:
    """Log, once for each listener, that what it returned never runs; a task runs by itself."""
    if entry.first_fault.happens():
        what = f"returned a {type(result).__name__}, which nobody awaits: use asyncio.create_task"
        log_fault("listener", entry.listener, what, region)
    discard(result)


class Subscribers:
    """What a registry knows of all its breakers, and who listens to them.

    Args:
        readmit: Keeps a breaker again that was evicted, now that it holds information. Takes the
            breaker and its time.
        history: Where the changes are recorded; None: a new one.
    """

    def __init__(
        self, readmit: Callable[[Any, float], None], history: History | None = None
    ) -> None:
        self.readmit = readmit
        self.history = History() if history is None else history
        self.listeners: Listeners[StateChanged] = Listeners("one StateChanged")
        self.rejection_listeners: Listeners[CircuitBreakerOpenError] = Listeners(
            "one CircuitBreakerOpenError"
        )
        #: The regions whose breakers may have learned or forgotten something.
        self.changed_regions: set[str] = set()

    def retire(self) -> None:
        """End all listeners, and leave the history, emptied, to a successor."""
        self.history.clear()
        self.history = History()
        self.listeners.clear()
        self.rejection_listeners.clear()


class EventQueue:
    """The events of one breaker that were not delivered yet.

    It is good for one process: the child of a fork drops what its parent is delivering.

    Args:
        region: Whose events they are.
        listeners: The breaker's own.
        subscribers: The registry's; None for a breaker without one.
    """

    __slots__ = (
        "_deliverer",
        "_deliveries",
        "_events",
        "_listeners",
        "_process",
        "_region",
        "_subscribers",
        "is_waiting",
    )

    def __init__(
        self, region: str, listeners: Listeners[StateChanged], subscribers: Subscribers | None
    ) -> None:
        self._region = region
        self._listeners = listeners
        self._subscribers = subscribers
        self._process = os.getpid()
        #: Whether something is to be delivered.
        self.is_waiting = False
        # The running `deliver`; None: nobody delivers.
        self._deliverer: object | None = None
        # Most breakers never have an event, and an empty deque takes 600 bytes.
        self._events: deque[QueuedEvent] | None = None
        # What is still to be done about the event that was taken last.
        self._deliveries: list[Delivery] = []

    def put(self, event: QueuedEvent) -> None:
        """Queue an event; the caller holds the lock."""
        if self._events is None or self._process != os.getpid():
            self._process = os.getpid()
            self._deliverer = None
            self._deliveries = []
            self._events = deque()
        self._events.append(event)
        self.is_waiting = True
        if self._subscribers is not None and isinstance(event, StateChanged):
            self._subscribers.history.record(event)

    def deliver(self) -> None:
        """Deliver what is queued, unless another thread is doing so or this one holds the lock.

        A listener that exits or is interrupted keeps the event from no other listener: its
        `SystemExit` or `KeyboardInterrupt` is raised when everything is delivered.
        """
        if not self.is_waiting or lock_is_held():
            return  # a thread that holds the lock delivers when it has released it
        exit_error: BaseException | None = None
        this = object()
        try:
            with lock:
                if self._deliverer is not None:
                    return
                self._deliverer = this
            while (delivery := self._next_delivery()) is not None:
                try:
                    exit_error = delivery() or exit_error
                except (KeyboardInterrupt, SystemExit) as error:  # out of a sink of the log
                    exit_error = error
                # Only now: a delivery that is interrupted is made again, and none is left out.
                self._deliveries.pop()
        finally:
            if self._deliverer is this:  # interrupted: the next thread goes on from here
                self._deliverer = None
        if exit_error is not None:
            raise exit_error

    def _next_delivery(self) -> Delivery | None:
        """Return the next delivery; if there is none, stop delivering."""
        with lock:
            if self._process == os.getpid():
                if not self._deliveries and self._events:
                    self._deliveries = self._deliveries_of(self._events.popleft())
                if self._deliveries:
                    return self._deliveries[-1]
            # Under the lock: a thread that queues an event from here on delivers it itself.
            self._deliverer = None
            self.is_waiting = False
            return None

    def _deliveries_of(self, event: QueuedEvent) -> list[Delivery]:
        """Return what is to be done about an event, the first thing last."""
        deliveries: list[Delivery] = [partial(log_event, self._region, event)]
        if isinstance(event, StateChanged):
            entries = self._listeners.entries
            if self._subscribers is not None:
                entries += self._subscribers.listeners.entries
            for entry in entries:
                delivery: Delivery = partial(call_listener, entry, event, self._region)
                deliveries.append(delivery)
        deliveries.reverse()
        return deliveries
