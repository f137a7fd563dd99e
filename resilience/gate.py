"""The gate: which circuits a running call goes through, and whether they let it make an attempt.

A call that may hold retry loops is remembered in a context variable while it runs; a protected call
inside it is linked to the one around it. So a loop finds all the circuits that its next attempt
would go through, whatever library it is written with, and is woken when one of them opens. A
permit that is settled stands in nobody's way, wherever its context was copied to.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from resilience._lock import lock
from resilience.circuit import Closed, HalfOpen

if TYPE_CHECKING:
    from resilience.breaker import CircuitBreaker
    from resilience.permit import Permit

P = TypeVar("P", bound="Permit")
Ring: TypeAlias = Callable[[], object]

# The attribute by which a function says that there are retry loops in it.
MARK = "__resilience_gated__"

running: ContextVar[Permit | None] = ContextVar("the innermost call of a circuit", default=None)
# Only breakers with sleeping retry loops are in here.
_sleepers: dict[CircuitBreaker, set[Ring]] = {}
if sys.platform != "win32":  # pragma: no branch - Windows has no fork
    # They sleep in the process that forked this one off.
    os.register_at_fork(after_in_child=_sleepers.clear)


def enter(permit: P, *, carries: bool = False) -> P:
    """Begin a call: the loops inside it find its circuit, and those around it.

    Args:
        permit: Its permit.
        carries: Whether calls of the same circuit inside it are part of its probe. Only a
            function's: a block may be left open by a generator, and whoever uses that is outside.
    """
    outer = running.get()
    permit._outer = None if outer is None else _unsettled(outer)
    permit._carries = carries
    running.set(permit)
    return permit


def leave(permit: Permit) -> None:
    """End a call."""
    # Calls may end in another order than they began, and in another context: what is left there is
    # a settled permit, which stands in nobody's way.
    if running.get() is permit:
        outer = permit._outer
        running.set(None if outer is None else _unsettled(outer))


def current() -> Permit | None:
    """Give the permit of the innermost call that is under way."""
    return _unsettled(running.get())


def _unsettled(permit: Permit | None) -> Permit | None:
    while permit is not None and permit._ticket is None:
        permit = permit._outer
    return permit


def _chain(permit: Permit | None) -> Iterator[Permit]:
    while (permit := _unsettled(permit)) is not None:
        yield permit
        permit = permit._outer


def keeps_out(permit: Permit | None, *, retry: bool) -> CircuitBreaker | None:
    """Find a circuit that lets a call make no attempt: it is not CLOSED, nor is this its probe.

    Args:
        permit: The innermost call.
        retry: Whether it has made an attempt already: a probe makes only one.
    """
    while permit is not None:
        if permit._ticket is not None:
            state = permit._breaker._circuit.state
            if not isinstance(state, Closed) and (retry or not _is_probe(permit, state)):
                return permit._breaker
        permit = permit._outer
    return None


def is_carried(breaker: CircuitBreaker) -> bool:
    """Tell whether the code that runs is part of a probe of this circuit already."""
    state = breaker._circuit.state
    calls = (one for one in _chain(running.get()) if one._breaker is breaker)
    return any(one._carries and _is_probe(one, state) for one in calls)


def _is_probe(permit: Permit, state: object) -> bool:
    return isinstance(state, HalfOpen) and permit._ticket in state.probes


# Sleeping between two attempts


async def sleep(seconds: float, permit: Permit) -> None:
    """Sleep in an asyncio task until the time is over, or a circuit of the call opens."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()

    def wake() -> None:
        if not over.done():
            over.set_result(None)

    def look() -> None:
        if keeps_out(permit, retry=True) is not None:
            wake()

    def ring() -> None:
        with suppress(RuntimeError):  # its loop is closed: nobody sleeps there any more
            loop.call_soon_threadsafe(look)

    timer = loop.call_later(seconds, wake)
    try:
        with _woken_by(ring, permit):
            await over
    finally:
        timer.cancel()


def sleep_in_thread(seconds: float, permit: Permit) -> None:
    """Sleep in a thread until the time is over, or a circuit of the call opens."""
    bell: SimpleQueue[None] = SimpleQueue()  # its `put` is safe under a lock, and in a finalizer
    clock = permit._breaker._now
    end = clock() + seconds
    with _woken_by(lambda: bell.put(None), permit), suppress(Empty):
        while keeps_out(permit, retry=True) is None:
            bell.get(timeout=seconds)
            seconds = min(seconds, max(0.0, end - clock()))  # rung for a circuit that closed again


@contextmanager
def _woken_by(ring: Ring, permit: Permit) -> Generator[None]:
    breakers = {one._breaker for one in _chain(permit)}
    with lock:
        for breaker in breakers:
            _sleepers.setdefault(breaker, set()).add(ring)
    try:
        ring()  # it may have opened before anybody could ring
        yield
    finally:
        with lock:
            for breaker in breakers & _sleepers.keys():
                _sleepers[breaker].discard(ring)
                if not _sleepers[breaker]:
                    del _sleepers[breaker]


def wake_sleepers(breaker: CircuitBreaker) -> None:
    """Let the loops look whose calls go through a circuit that has changed; under the lock."""
    for ring in tuple(_sleepers.get(breaker, ())):
        ring()
