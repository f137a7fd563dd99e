"""LoopDelivery: the events of one listener that runs in an asyncio event loop."""

import asyncio
import contextvars
import os
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from resilience._lock import lock
from resilience.circuit_name import CircuitName
from resilience.log import Once, log_closed_loop, log_dropped_events

E = TypeVar("E")

# A loop that does not run, or is blocked, keeps this many events at most.
_MOST_EVENTS = 1000


class LoopDelivery(Generic[E]):
    """Hands events to an event loop from any thread, in order and without waiting for it.

    Like an `EventQueue` it is good for one process: the child of a fork drops what its parent is
    delivering.

    Args:
        loop: The event loop.
        deliver: Calls the listener with an event, its circuit and the length of the chain before
            it. Runs in the loop, in the context in which the listener was added, not in that of the
            call that has caused the event. It returns the exit that the listener asked for.
    """

    __slots__ = (
        "_closed_before",
        "_context",
        "_deliver",
        "_dropped_before",
        "_events",
        "_is_scheduled",
        "_loop",
        "_process",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        deliver: Callable[[E, CircuitName, int], BaseException | None],
    ) -> None:
        self._loop = loop
        self._deliver = deliver
        self._context = contextvars.copy_context()
        self._events: deque[tuple[E, CircuitName, int]] = deque(maxlen=_MOST_EVENTS)
        # Whether the loop will run `_run`. It is set before and cleared after the events are looked
        # at, so that at worst it runs once too often.
        self._is_scheduled = False
        self._process = os.getpid()
        self._closed_before = Once()
        self._dropped_before = Once()

    def put(self, event: E, circuit: CircuitName, chain: int) -> None:
        """Let the loop deliver an event.

        Args:
            event: The event.
            circuit: Its circuit, for the log.
            chain: The length of the chain of events before it.
        """
        self._leave_parent()
        if self._loop.is_closed():
            self._on_closed_loop(circuit)
            return
        if len(self._events) == _MOST_EVENTS and self._dropped_before.happens():
            log_dropped_events(circuit, _MOST_EVENTS)
        self._events.append((event, circuit, chain))  # in place of the oldest one, where it is full
        if self._is_scheduled:
            return
        self._is_scheduled = True
        try:
            self._loop.call_soon_threadsafe(self._run, context=self._context)
        except RuntimeError:  # it was closed just now
            self._on_closed_loop(circuit)

    def _leave_parent(self) -> None:
        """Leave to the parent of a fork what it was delivering, and what its loop was to run."""
        with lock:  # another thread may do the same, and have an event already
            if self._process != os.getpid():
                self._events.clear()
                self._is_scheduled = False
                self._process = os.getpid()

    def _on_closed_loop(self, circuit: CircuitName) -> None:
        self._events.clear()
        if self._closed_before.happens():
            log_closed_loop(circuit)

    def _run(self) -> None:
        self._leave_parent()
        self._is_scheduled = False
        exit_error: BaseException | None = None
        while self._events:
            exit_error = self._deliver(*self._events.popleft()) or exit_error
        if exit_error is not None:
            raise exit_error
