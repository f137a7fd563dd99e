"""Permit: leave to make one call, and the one report on it."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from resilience import classify, gate
from resilience._lock import lock
from resilience.circuit import Ticket
from resilience.classify import IGNORED, SUCCESS, Classifier, Outcome, Report, ResultClassifier

if TYPE_CHECKING:
    from resilience.breaker import CircuitBreaker


@dataclass(slots=True, eq=False, repr=False)
class Permit:
    """Leave to make one call; settle it once, the rest changes nothing.

    As a context manager, in sync and async code, it settles itself: a block that ends well is a
    success, and what a block raises is for the classifier. The retry loops in the block know it.
    """

    _breaker: CircuitBreaker
    _ticket: Ticket | None
    _on_error: Classifier | None = None
    _on_result: ResultClassifier | None = None
    _attempt_counted: BaseException | None = None
    # Only while it is a context manager, and not before: nobody else pays for them.
    _outer: Permit | None = field(init=False)
    _carries: bool = field(init=False)

    def succeed(self) -> None:
        """Report that the region did what was asked."""
        self._settle(SUCCESS)

    def fail(self, error: BaseException | None = None) -> None:
        """Report a failure of the region; no classifier is asked.

        Args:
            error: What went wrong; its type and status become the reason.
        """
        self._settle(_failure(error))

    def ignore(self) -> None:
        """Report that the call said nothing about the region."""
        self._settle(IGNORED)

    def attempt_failed(self, error: BaseException) -> None:
        """Count the failure of one attempt while the call goes on.

        The failure of the call itself is not counted once more then; its success ends the streak.

        Args:
            error: What went wrong; its type and status become the reason.
        """
        if (ticket := self._ticket) is not None:
            self._attempt_counted = error
            self._breaker._record(ticket, _failure(error))

    def __enter__(self) -> Self:
        if self._ticket is None:
            raise RuntimeError("this permit is settled: acquire a new one for each call")
        return gate.enter(self)

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        gate.leave(self)
        if self._ticket is not None:
            self.succeed() if error is None else self._raised(error)

    def _raised(self, error: BaseException) -> None:
        self._settle_by(self._breaker._judge_error, error, self._on_error)

    def _returned(self, result: Any) -> Any:
        self._settle_by(self._breaker._judge_result, result, self._on_result)
        return result

    def _returned_awaitable(self, awaitable: Awaitable[Any]) -> Coroutine[Any, Any, Any]:
        """Settle only when what a plain function returned has been awaited."""
        permit = Permit(self._breaker, self._take_ticket(), self._on_error, self._on_result)
        awaited = permit._await(awaitable)
        weakref.finalize(awaited, permit.ignore).atexit = False  # if nobody awaits it
        return awaited

    async def _await(self, awaitable: Awaitable[Any]) -> Any:
        with self:  # nobody can see whether there are retry loops in it
            return self._returned(await awaitable)

    def _settle_by(self, judge: Callable[..., Report], what: object, classifier: object) -> None:
        if self._ticket is None:
            return
        report = IGNORED
        try:
            report = judge(what, classifier)
        finally:  # whatever a classifier does, the permit is given back
            self._settle(report)

    def _settle(self, report: Report) -> None:
        ticket = self._take_ticket()
        counted_already = self._attempt_counted is not None and report[0] is Outcome.FAILURE
        if ticket is not None and not counted_already:
            self._breaker._record(ticket, report)

    def _take_ticket(self) -> Ticket | None:
        with lock:
            ticket, self._ticket = self._ticket, None
        return ticket


def _failure(error: BaseException | None) -> Report:
    reason = "reported by the caller" if error is None else classify.describe(error)
    return Outcome.FAILURE, reason
