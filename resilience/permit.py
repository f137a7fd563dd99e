"""Permit: leave to make one call, and the one report on it."""

import contextlib
import inspect
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from types import FrameType, TracebackType
from typing import Protocol, Self, TypeVar, cast

from resilience import scope
from resilience._lock import lock, lock_is_held, postpone
from resilience.circuit import Circuit
from resilience.circuit_states import Call, Closed, HalfOpen, Probe, Ticket
from resilience.classify import root_error
from resilience.errors import CircuitBreakerOpenError
from resilience.hints import Hints
from resilience.identity import KeepsIdentity
from resilience.judge import Classifiers, Judge
from resilience.outcome import (
    ANSWERED,
    IGNORED,
    SUCCESS,
    AttemptReport,
    DelayingReport,
    Outcome,
    Report,
)
from resilience.protect import Arguments, Keywords
from resilience.unfinished import Unfinished, must_be_awaited, unfinished

T = TypeVar("T")

_BY_THE_CALLER = "reported by the caller"


class EndsCalls(Protocol):
    """What a breaker needs of a call that it may end."""

    def end_by_opening(self) -> None:
        """End it because the circuit has opened; from any thread."""


class RecordsOutcomes(scope.HasClock, Protocol):
    """What a permit needs of its circuit breaker."""

    circuit: Circuit
    hints: Hints
    judge: Judge
    #: The calls that end when the circuit opens, where the policy says so; else None.
    running_calls: set[EndsCalls] | None
    #: The ticket of every call that the circuit would reject, where it rejects nobody; else None.
    bypass: Closed | None

    def count_stranded(self) -> None:
        """Count the calls that have been in flight for too long."""

    def record(self, ticket: Ticket, report: Report) -> None:
        """Count the outcome of a call."""

    def rejection(self) -> CircuitBreakerOpenError:
        """Return the error of a call that is rejected now."""
        ...


class Permit(KeepsIdentity):
    """Leave to make one call; settle it once, and later reports change nothing.

    As a context manager, in sync and async code, it settles itself: a block that ends normally is a
    success, and the classifier decides about an exception. Nested calls and retry loops in the
    block find it in `scope`.
    """

    __slots__ = (
        "_attempt_error",
        "_classifiers",
        "_is_entered",
        "_reported",
        "breaker",
        "generator",
        "outer",
        "ticket",
    )

    NOT_PICKLED = "it belongs to one call in this process"

    def begin(
        self,
        breaker: RecordsOutcomes,
        ticket: Ticket | None,
        classifiers: Classifiers | None = None,
    ) -> Self:
        """Begin the call that a new permit is for, and return the permit.

        It is not `__init__`, which would cost each call another 70 ns: Python 3.11 calls that
        through C, and this like any other function.

        Args:
            breaker: The circuit breaker of the call.
            ticket: What the circuit has admitted it with; None: the call reports nothing.
            classifiers: Those of the protected function; None: the breaker's are asked.
        """
        self.breaker = breaker
        #: None: the permit is settled.
        self.ticket = ticket
        #: The protected call around this one, while it is a context manager.
        self.outer: scope.ProtectedCall | None = None
        self._classifiers = classifiers
        # The failed attempt that `attempt_failed` has counted already.
        self._attempt_error: BaseException | None = None
        self._is_entered = False
        #: The frame of the generator that the block is part of; None: of none.
        self.generator: FrameType | None = None
        # What was reported, while the permit is a context manager.
        self._reported: Outcome | None = None
        return self

    def succeed(self) -> None:
        """Report that the region did what it was asked for."""
        self._settle(SUCCESS)

    def fail(self, error: BaseException | None = None) -> None:
        """Report a failure of the region; no classifier is asked.

        Args:
            error: The error; its type and status become the reason.
        """
        report, is_first = self.judge().of_failure(error), self.ticket is not None
        self._settle(_what_counts(report))
        if is_first:
            self._reported = report.outcome

    def answered(self) -> None:
        """Report that the region answered, and refused this request: a 404, a 429."""
        self._settle(ANSWERED)

    def ignore(self) -> None:
        """Report that the call said nothing about the region."""
        self.abandon(_BY_THE_CALLER)

    def attempt_failed(self, error: BaseException) -> None:
        """Count the failure of one attempt while the call goes on.

        The failure of the call itself is not counted a second time then. Its success ends the
        streak.

        Args:
            error: The error; its type and status become the reason.
        """
        if self.ticket is not None:
            self._attempt_error = error
            failure = self.judge().of_failure(error)
            if _what_counts(failure) is failure:  # else the end of the call says nothing either
                self.breaker.record(self.ticket, _of_attempt(failure))

    def attempt_started(self) -> None:
        """Note that another attempt begins: what it fails with is a failure of its own."""
        self._attempt_error = None

    # For `scope`, the wrappers and the retry loops

    def abandon(self, reason: str) -> None:
        """Report that the call ended without saying anything about the region.

        Args:
            reason: Why, in short; where the call is a probe, the log and the snapshot show it.
        """
        self._settle(Report(Outcome.IGNORED, reason) if self._is_probe() else IGNORED)

    def settle(self, report: Report) -> None:
        """Report what a classifier has decided."""
        self._settle(_what_counts(report))

    def hand_over(self) -> "Permit":
        """Return a permit that takes the place of this one, which is settled then.

        For a call that goes on after its function has returned.
        """
        permit = self._continuation()
        with lock:
            permit.ticket, self.ticket = self.ticket, None
        return permit

    def allows_attempt(self, *, first: bool) -> bool:
        """Return whether a retry loop inside the call may make an attempt.

        Args:
            first: Whether it would be the first attempt of its loop: a probe makes only one.
        """
        state = self.breaker.circuit.state
        if isinstance(state, Closed) or self.breaker.bypass is not None:
            return True
        return isinstance(state, HalfOpen) and first and self.ticket in state.probes

    def stops_found_loops(self) -> bool:
        """Return whether loops that nobody has gated, and that were found, stop with the call."""
        return self._classifiers is None or self._classifiers.stops_found_loops

    @property
    def call_timeout(self) -> float | None:
        """Seconds after which the policy wants the call to end; None: it may take any time."""
        return None

    async def go_on(self, awaitable: Awaitable[T]) -> T:
        """Await a part of the call after its function has returned; settle nothing."""
        return await awaitable

    def judge(self) -> Judge:
        """Return what decides about the errors and results of this call."""
        judge = self.breaker.judge
        return judge if self._classifiers is None else judge.override(self._classifiers)

    async def call_async(
        self, fn: Callable[..., Awaitable[T]], args: Arguments, kwargs: Keywords, /
    ) -> T:
        """Call an `async def`, and settle by its result or error."""
        scope.enter(self)
        try:
            result = await fn(*args, **kwargs)
        except BaseException as error:
            self.raised(error)
            raise
        finally:
            scope.leave(self)
        return self.returned(result)

    def call_sync(self, fn: Callable[..., T], args: Arguments, kwargs: Keywords, /) -> T:
        """Call a `def`, and settle by its result or error."""
        scope.enter(self)
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            self.raised(error)
            raise
        finally:
            scope.leave(self)
        return self.returned_by_sync(result)

    def returned(self, result: T) -> T:
        """Settle by what the function returned, and return that."""
        ticket = self.ticket
        if ticket is None:
            return result
        if self._classifiers is not None or self.breaker.judge.result_classifier is not None:
            report = IGNORED
            try:
                report = _what_counts(self.judge().of_result(result))
                if report is IGNORED and self._is_probe():
                    report = Report(report.outcome, self.judge().why_ignored(result))
            finally:  # whatever a classifier raises, the permit is given back
                self._settle(report)
        elif isinstance(ticket, Closed) and not ticket.streak:
            # Nobody else settles this permit, and nothing else changes, so it takes no lock.
            self.ticket = None
            ticket.successes += 1
        else:
            self._settle(SUCCESS)
        return result

    def returned_by_sync(self, result: T, /) -> T:
        """Settle by what a `def` returned; if it must be awaited, when it was."""
        try:
            how = unfinished[type(result)]
        except BaseException:  # noqa: BLE001 - its metaclass may not be hashable
            how = unfinished.of(type(result))
        if how is None:
            return self.returned(result)
        if how is Unfinished.ASYNC_GENERATOR:  # the wrapper refuses it
            self.ignore()
            return result
        if not must_be_awaited(result):
            return self.returned(result)
        permit = self.hand_over()
        awaited = permit.wait_for(cast("Awaitable[object]", result))
        # If nobody awaits it:
        weakref.finalize(awaited, permit.abandon, "never awaited").atexit = False
        return cast("T", awaited)

    def _continuation(self) -> "Permit":
        """Return a permit without a ticket, for what is left of the call."""
        return Permit().begin(self.breaker, None, self._classifiers)

    async def wait_for(self, awaitable: Awaitable[T]) -> T:
        """Await something as the protected call, and settle by its result or error."""
        with self:
            return self.returned(await awaitable)

    def raised(self, error: BaseException) -> None:
        """Settle by what the function raised."""
        if self.ticket is None:
            return
        if lock_is_held():  # at the end of a generator that is collected: no classifier may run
            postpone(partial(self.raised, error))
            return
        report = IGNORED
        try:
            report = self.judge().of_error(error, self.breaker.hints)
            report = note_outcome(error, report)
            if report is IGNORED and self._is_probe():
                report = Report(report.outcome, self.judge().why_ignored(error))
        finally:  # whatever a classifier raises, the permit is given back
            counted = self._attempt_error
            if counted is not None and root_error(error) is not root_error(counted):
                # The call got over that attempt, and failed for another reason.
                self._attempt_error = None
            self._settle(report)
            self._attempt_error = None  # an error keeps its frames, and one of them this permit

    def __enter__(self) -> Self:
        if self.ticket is None:
            raise RuntimeError("this permit is settled: acquire a new one for each call")
        if self._is_entered:
            raise RuntimeError("this permit is in use: acquire a new one for each call")
        self._is_entered = True
        self.generator = _enclosing_generator(inspect.currentframe())
        scope.enter(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        scope.leave(self)
        self.generator = None
        if error is None:
            self._settle(SUCCESS)
        elif self.ticket is not None:
            self.raised(error)
        elif self._reported is not None:  # by the block itself
            note_outcome(error, Report(self._reported))

    def _is_probe(self) -> bool:
        return isinstance(self.ticket, Probe)

    def _settle(self, report: Report) -> None:
        with lock:
            ticket, self.ticket = self.ticket, None
        self._reported = report.outcome if ticket is not None else self._reported
        is_counted = self._attempt_error is not None and report.outcome is Outcome.FAILURE
        if is_counted and isinstance(ticket, Call):
            ticket.is_counted, is_counted = True, False  # the circuit notes that it has ended
        if ticket is not None and not is_counted:
            self.breaker.record(ticket, report)


class NestedPermit(Permit):
    """The permit of a call inside a probe of its own circuit: it is part of that probe.

    It reports nothing. The probe holds the only place, so a probe that calls another function of
    its region could never succeed otherwise.
    """

    __slots__ = ()

    def returned_by_sync(self, result: T, /) -> T:
        """Leave it to the probe around this call to settle."""
        return result

    def __enter__(self) -> Self:
        scope.enter(self)
        return self


def _of_attempt(failure: Report) -> AttemptReport:
    """Return the report on an attempt that has failed, while its call goes on."""
    report = AttemptReport(*failure)
    if isinstance(failure, DelayingReport):
        report.retry_after = failure.retry_after
    return report


def note_outcome(error: BaseException, report: Report) -> Report:
    """Let `scope.watch_outcomes` know, if somebody watches; return what counts."""
    outcomes = scope.watched_outcomes.get()
    if outcomes is None:
        return report
    outcomes.record(error, report.outcome)
    return outcomes.what_counts(report)


def _what_counts(report: Report) -> Report:
    outcomes = scope.watched_outcomes.get()
    return report if outcomes is None else outcomes.what_counts(report)


def _enclosing_generator(frame: FrameType | None) -> FrameType | None:
    """Return the generator that is running, and may leave its blocks open; None: none is.

    A generator behind `contextmanager` or `asynccontextmanager` does not: it is driven from
    contextlib, and the block ends with the `with` statement of its user.
    """
    while frame is not None:
        driver = frame.f_back
        flags = frame.f_code.co_flags
        is_generator = flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR)
        is_coroutine = flags & inspect.CO_ITERABLE_COROUTINE
        is_managed = driver is not None and driver.f_code.co_filename == contextlib.__file__
        if is_generator and not is_coroutine and not is_managed:
            return frame
        frame = driver
    return None
