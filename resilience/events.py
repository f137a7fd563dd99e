"""What happened, who is told, and the loguru listener.

Events are queued while the lock is held and delivered after it was let go, one at a time and in
their order, by whichever thread finds nobody delivering. Everything that the package logs is
written here.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from loguru import logger

from resilience.checks import check_callable
from resilience.circuit import CircuitState
from resilience.lock import lock
from resilience.text import one_line


@dataclass(frozen=True, slots=True)
class StateChanged:
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
    """

    region: str
    old: CircuitState
    new: CircuitState
    reason: str
    at: float
    time: datetime
    streak: int
    retry_after: float | None


Listener: TypeAlias = Callable[[StateChanged], object]


class Listeners:
    """Callables that want to be told; safe to change while they are being told."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: tuple[tuple[Listener], ...] = ()

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
            self._entries += (entry,)

        def stop() -> None:
            with lock:
                self._entries = tuple(kept for kept in self._entries if kept is not entry)

        return stop

    def __len__(self) -> int:
        return len(self._entries)

    def tell(self, event: StateChanged) -> None:
        """Tell everybody; who raises is logged and keeps the event from nobody else."""
        for (listener,) in self._entries:
            try:
                listener(event)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001 - a CancelledError out of a plain function is a fault too
                log_fault("listener", listener, error, event.region)


class Outbox:
    """What is still to be told about one breaker, and to whom."""

    __slots__ = ("_queue", "listeners", "registry_listeners")

    def __init__(self) -> None:
        self.listeners = Listeners()
        self.registry_listeners: Listeners | None = None
        self._queue: list[StateChanged] | None = None  # most breakers never need one

    def put(self, event: StateChanged) -> None:
        """Queue an event; the caller holds the lock."""
        if self._queue is None:
            self._queue = []
        self._queue.append(event)

    def deliver(self) -> None:
        """Tell what is queued, unless somebody is at it; the caller does not hold the lock."""
        if not self._queue:
            return
        with lock:
            if not self._queue or self in _deliverers:
                return
            _deliverers[self] = threading.get_ident()
        try:
            while (event := self._next()) is not None:
                log_state(event)
                self.listeners.tell(event)
                if self.registry_listeners is not None:
                    self.registry_listeners.tell(event)
        except BaseException:
            _deliverers.pop(self, None)
            raise

    def _next(self) -> StateChanged | None:
        with lock:
            if self._queue:
                return self._queue.pop(0)
            # Given up under the lock: whoever queues an event from here on delivers it.
            del _deliverers[self]
            return None

    def forget(self) -> None:
        """Drop what is queued."""
        self._queue = None


_deliverers: dict[Outbox, int] = {}  # who is being emptied, by which thread


def _leave_to_parent() -> None:
    """Give up, in the child of a fork, what threads of the parent were delivering."""
    for outbox, thread in list(_deliverers.items()):
        if thread != threading.get_ident():
            outbox.forget()
            del _deliverers[outbox]


if sys.platform != "win32":  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_leave_to_parent)


# What is logged


def log_state(event: StateChanged) -> None:
    """Log a change of state, with T10's levels and words."""
    region = one_line(event.region)
    bound = {
        "region": region,
        "old": event.old.value,
        "new": event.new.value,
        "reason": event.reason,
        "streak": event.streak,
    }
    if event.new is CircuitState.OPEN:
        failures = f" after {event.streak} failure{'s' if event.streak != 1 else ''}"
        forced = event.retry_after is None
        _log(
            "ERROR", f"OPEN for region {region}{'' if forced else failures}: {event.reason}", bound
        )
    elif event.new is CircuitState.HALF_OPEN:
        _log("WARNING", f"HALF_OPEN for region {region}: {event.reason}", bound)
    else:
        how = "recovered" if event.old is CircuitState.HALF_OPEN else event.reason
        _log("INFO", f"CLOSED for region {region} — {how}", bound)


def log_lost_probe(region: str, timeout: float) -> None:
    """Warn that a probe has lost its place."""
    text = (
        f"lost a probe for region {one_line(region)}: no result within {timeout:g} s, next caller"
    )
    _log("WARNING", f"{text} probes", {"region": one_line(region)})


def log_unknown_errors(region: str, count: int, error: BaseException) -> None:
    """Warn that a breaker sees nothing but errors that no rule knows."""
    kind = one_line(type(error).__name__)
    _log(
        "WARNING",
        f"ignored {count} errors in a row for region {one_line(region)}, the last a {kind}:"
        f" if it is the region's fault, count it with classifier=failures({kind})",
        {"region": one_line(region)},
    )


def log_crowded(limit: int) -> None:
    """Warn that a registry has let go of its first breaker."""
    _log(
        "WARNING",
        f"registry is full: more than {limit} regions (max_regions), letting go of idle ones;"
        " is region_from a region, or something that never repeats?",
        {},
    )


def log_fault(role: str, function: object, error: BaseException, region: str) -> None:
    """Log that a listener or a classifier failed, by type and place.

    Neither the error's text nor local values are logged: they may hold a tenant's secrets.
    """
    places = traceback.extract_tb(error.__traceback__)
    at = "".join(f"\n  {place.filename}:{place.lineno} in {place.name}" for place in places)
    _log(
        "ERROR",
        f"{role} {_name(function)} raised {one_line(type(error).__name__)}"
        f" for region {one_line(region)}{at}",
        {"region": one_line(region)},
    )


def log_not_an_outcome(role: str, function: object, returned: object, region: str) -> None:
    """Log that a classifier returned something else than an Outcome."""
    _log(
        "ERROR",
        f"{role} {_name(function)} returned a {one_line(type(returned).__name__)}"
        f" for region {one_line(region)}, expected Outcome.SUCCESS, FAILURE or IGNORED",
        {"region": one_line(region)},
    )


def _name(function: object) -> str:
    return one_line(getattr(function, "__qualname__", type(function).__qualname__))


def _log(level: str, text: str, bound: dict[str, Any]) -> None:
    # A sink with catch=False may raise: a log that fails must not fail a call.
    with contextlib.suppress(Exception):
        logger.bind(**bound).log(level, "Circuit breaker {}", text)
