"""WatchedPermit: a permit that ends its own call, by a timeout or when the circuit opens.

A timeout outside the breaker looks like any other cancellation to it. Here the breaker cancels the
call itself, and knows why. As with `asyncio.timeout`, a cancellation by anybody else goes first.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum, auto
from functools import partial
from typing import Self, TypeVar, cast

from resilience import scope
from resilience.circuit_states import Call, Probe, Ticket
from resilience.judge import Classifiers
from resilience.outcome import Outcome, Report
from resilience.permit import EndsCalls, Permit, RecordsOutcomes, note_outcome
from resilience.policy import BreakerPolicy
from resilience.protect import Arguments, Keywords

T = TypeVar("T")


class _Cause(Enum):
    """Why a breaker ends a call."""

    TIMEOUT = auto()
    OPENING = auto()


class RunningCall:
    """A call in a task of asyncio that its breaker may end.

    Args:
        task: The task.
    """

    def __init__(self, task: asyncio.Task[object]) -> None:
        self.task = task
        self._loop = task.get_loop()
        self._cancellations = task.cancelling()
        self._cause: _Cause | None = None
        self._is_over = False

    def end_after(self, seconds: float) -> asyncio.TimerHandle:
        """End it by a timeout."""
        return self._loop.call_later(seconds, self._end, _Cause.TIMEOUT)

    def call_after(self, seconds: float, function: Callable[[], object]) -> asyncio.TimerHandle:
        """Call a function while it may still be running."""
        return self._loop.call_later(seconds, function)

    def end_by_opening(self) -> None:
        """End it because the circuit has opened; from any thread."""
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is not self._loop:
            with suppress(RuntimeError):  # the loop is closed: nothing runs there any more
                self._loop.call_soon_threadsafe(self._end, _Cause.OPENING)
        elif self.task is not asyncio.current_task():  # the call that opens it has its own error
            self._end(_Cause.OPENING)

    def close(self, error: BaseException | None) -> _Cause | None:
        """Let nobody end it any more; return why it was ended, if it was and `error` shows it."""
        self._is_over = True
        if self._cause is None or self.task.uncancel() > self._cancellations:
            return None
        return self._cause if isinstance(error, asyncio.CancelledError) else None

    def _end(self, cause: _Cause) -> None:
        if not self._is_over and self._cause is None:
            self._cause = cause
            self.task.cancel()


class WatchedPermit(Permit):
    """The permit of a call that its breaker watches while it runs.

    In asyncio it keeps the `call_timeout`, lets the circuit know when the call is stranded, and can
    be ended when the circuit opens. Blocks of `with` and plain functions run to their own end.
    """

    __slots__ = ("began", "waited")

    def begin(
        self,
        breaker: RecordsOutcomes,
        ticket: Ticket | None,
        classifiers: Classifiers | None = None,
    ) -> Self:
        """Begin the call, as every permit does; where no failure counts, it cannot be stranded."""
        #: When the event loop began to wait for the region; None: it does not.
        self.began: float | None = None
        #: Seconds for which it has waited before.
        self.waited = 0.0
        outcomes = scope.watched_outcomes.get()
        is_ignored = outcomes is not None and outcomes.ignore_failures
        if is_ignored and isinstance(ticket, Call | Probe):
            ticket.may_strand = False
        return super().begin(breaker, ticket, classifiers)

    @property
    def call_timeout(self) -> float | None:
        """Seconds after which the policy wants the call to end; None: it may take any time."""
        if self.breaker.bypass is not None:
            return None
        return self.breaker.circuit.policy.call_timeout

    async def call_async(
        self, fn: Callable[..., Awaitable[T]], args: Arguments, kwargs: Keywords, /
    ) -> T:
        """Call an `async def`, watch it, and settle by its result or error."""
        return await super().call_async(partial(self._watch, fn), args, kwargs)

    async def wait_for(self, awaitable: Awaitable[T]) -> T:
        """Await something as the protected call, watch it, and settle by its result or error."""

        async def wait() -> T:
            return await awaitable

        with self:
            return self.returned(await self._watch(wait))

    async def go_on(self, awaitable: Awaitable[T]) -> T:
        """Await a part of the call after its function has returned, in the time that is left.

        The time between two parts is the caller's own, and does not count for the `call_timeout`.

        Raises:
            TimeoutError: The time was up; the call is settled as a failure.
        """
        limit, task = self.call_timeout, _current_task()
        has_times = limit is not None or self.breaker.circuit.policy.stranded_after is not None
        if not has_times or self.ticket is None or task is None:
            return await awaitable
        call, loop = RunningCall(task), task.get_loop()
        began = loop.time()
        timers = self._set_timers_for_part(call, limit, began)
        try:
            result = await awaitable
        except BaseException as error:
            if _stop_watching(call, timers, None, error) is None:
                raise
            raise self._time_is_up("end of the answer", cast("float", limit)) from error
        finally:
            self.waited += loop.time() - began
        _stop_watching(call, timers, None, None)
        return result

    def _continuation(self) -> Permit:
        permit = WatchedPermit().begin(self.breaker, None, self._classifiers)
        if self.began is not None:  # it has waited for the function until now
            permit.began = self.began
            permit.waited = asyncio.get_running_loop().time() - self.began
        return permit

    async def _watch(
        self, fn: Callable[..., Awaitable[T]], /, *args: object, **kwargs: object
    ) -> T:
        task = _current_task()
        if task is None:  # driven by something else than asyncio
            return await fn(*args, **kwargs)
        call, policy = RunningCall(task), self.breaker.circuit.policy
        self.began = task.get_loop().time()
        timers = self._set_timers(call, policy)
        running_calls = self.breaker.running_calls
        if running_calls is not None:
            running_calls.add(call)
        try:
            result = await fn(*args, **kwargs)
        except BaseException as error:
            cause = _stop_watching(call, timers, running_calls, error)
            if cause is None:
                raise
            raise self._error_for(cause, policy) from error
        _stop_watching(call, timers, running_calls, None)
        return result

    def _set_timers(self, call: RunningCall, policy: BreakerPolicy) -> list[asyncio.TimerHandle]:
        timers: list[asyncio.TimerHandle] = []
        if self.call_timeout is not None:
            timers.append(call.end_after(self.call_timeout))
        if policy.stranded_after is not None:
            count = self.breaker.count_stranded
            timers.append(call.call_after(policy.stranded_after, count))
        return timers

    def _set_timers_for_part(
        self, call: RunningCall, limit: float | None, now: float
    ) -> list[asyncio.TimerHandle]:
        timers: list[asyncio.TimerHandle] = []
        if limit is not None:
            timers.append(call.end_after(limit - self.waited))
        stranded_after = self.breaker.circuit.policy.stranded_after
        if stranded_after is not None and self.began is not None:
            left = self.began + stranded_after - now
            if left > 0.0:  # otherwise it was looked at before
                timers.append(call.call_after(left, self.breaker.count_stranded))
        return timers

    def _error_for(self, cause: _Cause, policy: BreakerPolicy) -> Exception:
        """Settle, and return what the caller gets for a call that its breaker has ended."""
        if cause is _Cause.OPENING:
            self.abandon("cancelled when the circuit opened")
            return self.breaker.rejection()
        return self._time_is_up("answer", cast("float", policy.call_timeout))

    def _time_is_up(self, missing: str, seconds: float) -> TimeoutError:
        """Settle as a failure, and return what the caller gets.

        Args:
            missing: What has not come.
            seconds: The `call_timeout`.
        """
        kind = TimeoutError if self._classifiers is None else self._classifiers.timeout_error
        error = kind(f"no {missing} within the call_timeout of {seconds:g} s")
        report = Report(Outcome.FAILURE, f"no {missing} within {seconds:g} s (call_timeout)")
        self._settle(note_outcome(error, report))
        return error


def _stop_watching(
    call: RunningCall,
    timers: list[asyncio.TimerHandle],
    running_calls: set[EndsCalls] | None,
    error: BaseException | None,
) -> _Cause | None:
    if running_calls is not None:
        running_calls.discard(call)
    for timer in timers:
        timer.cancel()
    return call.close(error)


def _current_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
