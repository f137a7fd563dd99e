"""Scope: the protected calls that the running code is part of.

Each call that has a permit is remembered in a context variable while it runs, and is linked to the
call around it. A retry loop finds here all the circuits that its next attempt would go through,
whatever library it is written with, and is woken when one of them opens. A nested call finds here
whether it is part of a probe. A call that is settled is passed over, wherever its context was
copied to.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Protocol, TypeAlias

from resilience import _introspection
from resilience._lock import lock
from resilience.outcome import ABANDONED, Outcome, Report

Wake: TypeAlias = Callable[[], object]
# Of the errors that are looked at for one: they may form a circle, or a large group.
_MOST_RELATED = 64
_MOST_MEMBERS = 1000


class HasClock(Protocol):
    """What the scope needs to know of a circuit breaker."""

    def now(self) -> float:
        """Return the breaker's time, in seconds."""
        ...


class ProtectedCall(Protocol):
    """What the scope needs to know of a call: its permit."""

    #: The call around it.
    outer: "ProtectedCall | None"

    @property
    def breaker(self) -> HasClock:
        """The breaker that the call goes through."""
        ...

    @property
    def ticket(self) -> object | None:
        """None: the outcome of the call is known."""
        ...

    #: The frame of the generator that the call's block is part of; None: of none.
    generator: FrameType | None

    def allows_attempt(self, *, first: bool) -> bool:
        """Return whether a retry loop inside the call may make an attempt."""
        ...


#: The call that has begun last here; it may be settled.
innermost: ContextVar[ProtectedCall | None] = ContextVar("resilience_innermost_call", default=None)


def enter(call: ProtectedCall) -> None:
    """Begin a call."""
    outer = innermost.get()
    if outer is not None and outer.ticket is None:
        outer = unsettled(outer)
    if outer is not None and outer.outer is not None:
        # Without the calls that are over: each call may have started the task that makes the next.
        outer.outer = unsettled(outer.outer)
    call.outer = outer
    innermost.set(call)


def leave(call: ProtectedCall) -> None:
    """End a call."""
    # Calls may end in another order than they began, and in another context. What is left there is
    # a settled call, which is passed over.
    if innermost.get() is call:
        innermost.set(call.outer)


def current() -> ProtectedCall | None:
    """Return the innermost call that is running; None outside of any."""
    return next(enclosing_calls(), None)


def enclosing_calls() -> Iterator[ProtectedCall]:
    """Return the calls that the running code is part of, the innermost first."""
    return _chain(innermost.get())


def blocking_call(*, first: bool) -> ProtectedCall | None:
    """Return an enclosing call whose circuit allows no attempt; None if there is none.

    Args:
        first: Whether it would be the first attempt of its retry loop: a probe makes only one.
    """
    call = innermost.get()
    while call is not None:
        is_running = call.generator is None or call.generator.f_back is not None
        if call.ticket is not None and is_running and not call.allows_attempt(first=first):
            return call
        call = call.outer
    return None


def unsettled(call: ProtectedCall | None) -> ProtectedCall | None:
    """Return the next call that is not settled, from the inside out; None if there is none."""
    while call is not None and call.ticket is None:
        call = call.outer
    return call


def _chain(call: ProtectedCall | None) -> Iterator[ProtectedCall]:
    while (call := unsettled(call)) is not None:
        # A generator that is suspended has left its block open: the running code is outside.
        if call.generator is None or call.generator.f_back is not None:
            yield call
        call = call.outer


# Sleeping between two attempts

# Only breakers with sleeping retry loops are in here.
sleepers: dict[HasClock, set[Wake]] = {}
if sys.platform != "win32":  # pragma: no branch - Windows has no fork
    # They sleep in the parent process.
    os.register_at_fork(after_in_child=sleepers.clear)


async def sleep(seconds: float, call: ProtectedCall) -> None:
    """Sleep in an asyncio task until the time is over, or a circuit of the call opens."""
    loop = asyncio.get_running_loop()
    is_over = loop.create_future()
    calls = tuple(_chain(call))

    def end() -> None:
        if not is_over.done():
            is_over.set_result(None)

    def end_if_blocked() -> None:
        if _is_blocked(calls):
            end()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop is closed: no task sleeps there any more
            loop.call_soon_threadsafe(end_if_blocked)

    timer = loop.call_later(seconds, end)
    try:
        with _woken_by_circuits(wake, calls):
            await is_over
    finally:
        timer.cancel()


def sleep_in_thread(seconds: float, call: ProtectedCall) -> None:
    """Sleep in a thread until the time is over, or a circuit of the call opens."""
    # `SimpleQueue.put` may be called under a lock, and in a finalizer.
    wakes: SimpleQueue[None] = SimpleQueue()
    calls = tuple(_chain(call))
    now = call.breaker.now
    end = now() + seconds
    with _woken_by_circuits(lambda: wakes.put(None), calls), suppress(Empty):
        while not _is_blocked(calls):
            wakes.get(timeout=seconds)
            # Woken by a circuit that has closed again: sleep for the rest.
            seconds = min(seconds, max(0.0, end - now()))


def wake_sleepers(breaker: HasClock) -> None:
    """Wake the loops whose calls go through a circuit that has changed; under the lock."""
    for wake in tuple(sleepers.get(breaker, ())):
        wake()


def _is_blocked(calls: tuple[ProtectedCall, ...]) -> bool:
    # Whether their generators are suspended does not matter: while a task sleeps, all of its are.
    return any(one.ticket is not None and not one.allows_attempt(first=False) for one in calls)


@contextmanager
def _woken_by_circuits(wake: Wake, calls: tuple[ProtectedCall, ...]) -> Generator[None]:
    breakers = {one.breaker for one in calls}
    with lock:
        for breaker in breakers:
            sleepers.setdefault(breaker, set()).add(wake)
    try:
        wake()  # a circuit may have opened before it could wake anybody
        yield
    finally:
        with lock:
            for breaker in breakers & sleepers.keys():
                sleepers[breaker].discard(wake)
                if not sleepers[breaker]:
                    del sleepers[breaker]


# What the breakers recorded


class WatchedOutcomes:
    """The outcomes that breakers recorded for errors, in one block and the tasks it started.

    Args:
        ignore_failures: Whether failures do not count, since their cause is known not to be the
            region. They are recorded here all the same.
    """

    def __init__(self, *, ignore_failures: bool = False) -> None:
        self.ignore_failures = ignore_failures
        self._outcomes: list[tuple[BaseException, Outcome]] | None = []

    def record(self, error: BaseException, outcome: Outcome) -> None:
        """Remember an outcome, unless the block has ended."""
        if self._outcomes is not None:
            self._outcomes.append((error, outcome))

    def what_counts(self, report: Report) -> Report:
        """Return what a breaker has to count: a failure that is to be ignored says nothing."""
        counts = report.outcome is Outcome.FAILURE or report is ABANDONED
        if self.ignore_failures and counts:
            return Report(Outcome.IGNORED, report.reason)
        return report

    def forget(self) -> None:
        """Forget everything: a task that outlives the block must keep no errors alive."""
        self._outcomes = None

    def outcome_of(self, error: BaseException) -> Outcome | None:
        """Return the outcome that was recorded for an error, or for one that it was raised from.

        Args:
            error: What came out of the block.

        Returns:
            None where no breaker recorded anything for it.
        """
        chain: BaseException | None = error
        for _ in range(_MOST_RELATED):
            if chain is None:
                return None
            outcome = self._outcome_of_one(chain)
            if outcome is not None:
                return outcome
            chain = cause_of(chain)
        return None

    def _outcome_of_one(self, error: BaseException) -> Outcome | None:
        """Return what was recorded for an error itself, or for the members of a group."""
        members = members_of(error)
        outcomes: list[Outcome | None] = []
        for member in members:
            recorded = [outcome for one, outcome in self._outcomes or () if one is member]
            # An inner breaker may have counted what an outer one knows nothing of.
            if Outcome.FAILURE in recorded:
                return Outcome.FAILURE
            outcomes.append(recorded[-1] if recorded else None)
        if None in outcomes:
            return None
        return Outcome.ANSWERED if Outcome.ANSWERED in outcomes else outcomes[-1]


def members_of(error: BaseException) -> list[BaseException]:
    """Return the errors in a group, and those in its groups; an error alone is its own member."""
    groups, seen = [error], {id(error)}
    members: list[BaseException] = []
    for one in groups:
        if not _introspection.is_a(one, BaseExceptionGroup):
            members.append(one)
            continue
        for member in _introspection.members_of(one):
            if id(member) not in seen and len(groups) < _MOST_MEMBERS:
                seen.add(id(member))
                groups.append(member)
    return members or [error]


def cause_of(error: BaseException) -> BaseException | None:
    """Return the error that an error was raised from, or while it was handled."""
    cause = _introspection.cause_of(error)
    if cause is not None or _introspection.suppresses_context(error):
        return cause
    return _introspection.context_of(error)


#: What collects the outcomes here; None: nobody wants to know them.
watched_outcomes: ContextVar[WatchedOutcomes | None] = ContextVar(
    "resilience_outcomes", default=None
)


@contextmanager
def watch_outcomes(*, ignore_failures: bool = False) -> Generator[WatchedOutcomes]:
    """Collect the outcomes that breakers record in a block, until its end.

    Args:
        ignore_failures: Whether failures in the block do not count.

    Yields:
        What was recorded; empty when the block has ended.
    """
    outcomes = WatchedOutcomes(ignore_failures=ignore_failures)
    token = watched_outcomes.set(outcomes)
    try:
        yield outcomes
    finally:
        watched_outcomes.reset(token)
        outcomes.forget()
