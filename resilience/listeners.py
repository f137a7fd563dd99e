"""Delivering events: in order, outside the lock, by one thread at a time.

Events are queued while the lock is held, and delivered after it was released, by the first thread
that finds nobody delivering. A thread that comes meanwhile leaves its events to that one. A thread
that must not be held up claims the delivery, and leaves it to yet another one.
"""

import asyncio
import inspect
import os
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from threading import get_ident
from typing import Any, Generic, TypeAlias, TypeVar

from resilience._lock import lock, lock_is_held
from resilience._validate import check_callable, check_type, discard
from resilience.circuit_events import ProbeExpired, ProbesIgnored, RejectionsBegan
from resilience.circuit_name import CircuitName
from resilience.errors import CircuitBreakerOpenError
from resilience.events import StateChanged, TenantThrottled
from resilience.history import History
from resilience.log import (
    Advice,
    Once,
    describe_exception,
    log_dropped_events,
    log_event,
    log_fault,
)
from resilience.loop_delivery import LoopDelivery

E = TypeVar("E")
QueuedEvent: TypeAlias = StateChanged | ProbeExpired | RejectionsBegan | ProbesIgnored | Advice
# While a listener takes its time, this many events of a breaker wait for it at most.
_MOST_EVENTS = 10_000
# A chain is a number of events of which each was caused by a listener that was called for the one
# before. Two listeners that undo each other's changes would go on without end: those that cause
# events are called for this many events of a chain at most, and the others for all.
_LONGEST_CHAIN = 10
# One event for the log or for one listener; returns the exit that a listener asked for.
Delivery: TypeAlias = Callable[[], BaseException | None]


class Entry(Generic[E]):
    """One listener, until it is stopped."""

    __slots__ = (
        "active",
        "causes_events",
        "first_fault",
        "first_recursion",
        "in_loop",
        "listener",
        "threads",
    )

    def __init__(self, listener: Callable[[E], object]) -> None:
        self.listener = listener
        self.active = True
        #: Delivers to it in an event loop; None: whoever delivers calls it.
        self.in_loop: LoopDelivery[E] | None = None
        #: Whether it has returned something that nobody awaits is logged once.
        self.first_fault = Once()
        #: Whether an event was caused while it was called.
        self.causes_events = False
        #: The threads that are calling it now.
        self.threads: set[int] = set()
        #: Whether it has caused an event for itself, or too many in a row, is logged once.
        self.first_recursion = Once()


class _Running(threading.local):
    """The listener that the running thread is calling."""

    entry: Entry[Any] | None = None
    #: The length of the chain before an event that is caused now.
    chain = 0


_running = _Running()


class Listeners(Generic[E]):
    """Callables that receive events; safe to change while they are being called.

    Args:
        takes: What a listener takes, for the error text.
    """

    __slots__ = ("_takes", "entries")

    def __init__(self, takes: str) -> None:
        self._takes = takes
        self.entries: tuple[Entry[E], ...] = ()

    def add(
        self, listener: Callable[[E], object], loop: asyncio.AbstractEventLoop | None = None
    ) -> Callable[[], None]:
        """Add a listener.

        Args:
            listener: Must return soon, since calls wait for it.
            loop: The event loop in which it runs; no call waits for it then.

        Returns:
            A function that removes it; calling it again does nothing.

        Raises:
            TypeError: The listener cannot be called, or is an `async def`; or the loop is not one.
        """
        check_callable("listener", listener, self._takes)
        entry = Entry(listener)
        if loop is not None:
            check_type("loop", loop, asyncio.AbstractEventLoop)
            entry.in_loop = LoopDelivery(loop, partial(_run_listener, entry))
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


def call_listener(
    entry: Entry[E], event: E, circuit: CircuitName, chain: int | None = None
) -> BaseException | None:
    """Call one listener; what it raises is logged.

    Args:
        entry: The listener.
        event: What it takes.
        circuit: The circuit of the event, for the log.
        chain: The length of the chain before the event; None: it is caused now.

    Returns:
        The exit that it asked for, a `SystemExit` or `KeyboardInterrupt`; else None.
    """
    if chain is None:
        chain = _running.chain
    if not entry.active:
        return None
    if entry.in_loop is None:
        return _run_listener(entry, event, circuit, chain)
    entry.in_loop.put(event, circuit, chain)
    return None


def _run_listener(
    entry: Entry[E], event: E, circuit: CircuitName, chain: int
) -> BaseException | None:
    if not entry.active or not _may_be_called(entry, circuit, chain):
        return None
    thread, before = get_ident(), (_running.entry, _running.chain)
    entry.threads.add(thread)
    _running.entry, _running.chain = entry, chain + 1
    try:
        result = entry.listener(event)
        if inspect.isawaitable(result) and not asyncio.isfuture(result):
            _discard_awaitable(entry, result, circuit)
    except (KeyboardInterrupt, SystemExit) as error:
        return error
    except BaseException as error:  # noqa: BLE001 - a CancelledError out of a plain function is a fault too
        log_fault("listener", entry.listener, describe_exception(error), circuit)
    finally:
        _running.entry, _running.chain = before
        entry.threads.discard(thread)
    return None


def _may_be_called(entry: Entry[E], circuit: CircuitName, chain: int) -> bool:
    """Return whether a listener causes no events for itself without end; log it once if it does."""
    if get_ident() in entry.threads:
        what = "caused another event of its own while it was called, and was not called for it"
    elif chain >= _LONGEST_CHAIN and entry.causes_events:
        what = (
            f"answered {chain} changes in a row with another one, and was not called for the last"
        )
    else:
        return True
    if entry.first_recursion.happens():
        log_fault("listener", entry.listener, what, circuit)
    return False


def _discard_awaitable(entry: Entry[E], result: object, circuit: CircuitName) -> None:
    """Log, once for each listener, that what it returned never runs; a task runs by itself."""
    if entry.first_fault.happens():
        what = f"returned a {type(result).__name__}, which nobody awaits: use asyncio.create_task"
        log_fault("listener", entry.listener, what, circuit)
    discard(result)


class Subscribers:
    """What a registry knows of all its breakers, and who listens to them.

    Args:
        readmit: Keeps a breaker again that was evicted, now that it holds information. Takes the
            breaker and its time.
        history: Where the changes are recorded; None: a new one.
        registry: The name of the registry.
    """

    def __init__(
        self,
        readmit: Callable[[Any, float], None],
        history: History | None = None,
        registry: str = "",
    ) -> None:
        self.readmit = readmit
        self.registry = registry
        self.history = History() if history is None else history
        self.listeners: Listeners[StateChanged] = Listeners("one StateChanged")
        self.throttle_listeners: Listeners[TenantThrottled] = Listeners("one TenantThrottled")
        self.rejection_listeners: Listeners[CircuitBreakerOpenError] = Listeners(
            "one CircuitBreakerOpenError"
        )
        #: Whether a function finds tenants in its calls.
        self.uses_tenants = False
        #: The regions whose breakers may have learned or forgotten something.
        self.changed_regions: set[str] = set()

    def retire(self) -> None:
        """End all listeners, and leave the history, emptied, to a successor."""
        self.history.clear()
        self.history = History()
        self.listeners.clear()
        self.rejection_listeners.clear()
        self.throttle_listeners.clear()


class EventQueue:
    """The events of one breaker that were not delivered yet.

    It is good for one process: the child of a fork drops what its parent is delivering.

    Args:
        name: Whose events they are, for the log.
        listeners: The breaker's own.
        subscribers: The registry's; None for a breaker without one.
    """

    __slots__ = (
        "_deliverer",
        "_deliveries",
        "_events",
        "_has_dropped",
        "_listeners",
        "_name",
        "_process",
        "_subscribers",
        "is_waiting",
    )

    def __init__(
        self, name: CircuitName, listeners: Listeners[StateChanged], subscribers: Subscribers | None
    ) -> None:
        self._name = name
        self._listeners = listeners
        self._subscribers = subscribers
        self._process = os.getpid()
        #: Whether something is to be delivered.
        self.is_waiting = False
        # The running `deliver`; None: nobody delivers.
        self._deliverer: object | None = None
        # Most breakers never have an event, and an empty deque takes 600 bytes.
        # Each with the length of the chain before it.
        self._events: deque[tuple[QueuedEvent, int]] | None = None
        # Whether events were dropped since the last delivery.
        self._has_dropped = False
        # What is still to be done about the event that was taken last.
        self._deliveries: list[Delivery] = []

    def put(self, event: QueuedEvent) -> None:
        """Queue an event; the caller holds the lock."""
        if self._events is None or self._process != os.getpid():
            self._process = os.getpid()
            self._deliverer = None
            self._deliveries = []
            self._has_dropped = False
            self._events = deque()
        if len(self._events) >= _MOST_EVENTS:
            self._events.popleft()
            self._has_dropped = True
        self._events.append((event, _running.chain))
        if _running.entry is not None:
            _running.entry.causes_events = True
        self.is_waiting = True
        if self._subscribers is not None and isinstance(event, StateChanged):
            self._subscribers.history.record(event)

    def deliver(self) -> None:
        """Deliver what is queued, unless another thread is doing so or this one holds the lock.

        A listener that exits or is interrupted keeps the event from no other listener: its
        `SystemExit` or `KeyboardInterrupt` is raised when everything is delivered.
        """
        if self.is_waiting and not lock_is_held():
            # A thread that holds the lock delivers when it has released it.
            self._deliver_as(object(), instead_of=None)

    def claim(self) -> Callable[[], None] | None:
        """Leave what is queued to a thread that delivers it later; the caller holds the lock.

        Returns:
            What delivers it, as `deliver` does; until then nobody else does. None: there is nothing
            to deliver, or somebody is delivering.
        """
        if not self.is_waiting or self._deliverer is not None:
            return None
        this = self._deliverer = object()
        return partial(self._deliver_as, this, instead_of=this)

    def _deliver_as(self, this: object, *, instead_of: object | None) -> None:
        exit_error: BaseException | None = None
        try:
            with lock:
                if self._deliverer is not instead_of:
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
                if not self._deliveries and self._has_dropped:
                    self._has_dropped = False
                    self._deliveries = [partial(_log_dropped_events, self._name)]
                elif not self._deliveries and self._events:
                    self._deliveries = self._deliveries_of(*self._events.popleft())
                if self._deliveries:
                    return self._deliveries[-1]
            # Under the lock: a thread that queues an event from here on delivers it itself.
            self._deliverer = None
            self.is_waiting = False
            return None

    def _deliveries_of(self, event: QueuedEvent, chain: int) -> list[Delivery]:
        """Return what is to be done about an event, the first thing last."""
        deliveries: list[Delivery] = [partial(log_event, self._name, event)]
        if isinstance(event, StateChanged):
            entries = self._listeners.entries
            if self._subscribers is not None:
                entries += self._subscribers.listeners.entries
            for entry in entries:
                delivery: Delivery = partial(call_listener, entry, event, self._name, chain)
                deliveries.append(delivery)
        deliveries.reverse()
        return deliveries


def _log_dropped_events(name: CircuitName) -> None:
    log_dropped_events(name, _MOST_EVENTS)
