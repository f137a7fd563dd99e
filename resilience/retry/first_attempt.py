"""The first attempt of a retried function, made outside tenacity's machinery.

Nearly all calls succeed at their first attempt, and tenacity enters some 180 functions for each of
them. Here the first attempt is a plain call. Only its error begins a tenacity loop, which is handed
that error as its first attempt, together with the time at which it began.

Some settings need tenacity from the start: a condition that looks at results, and a `before` hook.
They run a tenacity loop from the start, as do those that a user replaces after decorating.
"""

import functools
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar, cast

import tenacity
from tenacity import AsyncRetrying, BaseRetrying, DoAttempt, DoSleep, RetryCallState, Retrying
from tenacity.asyncio import retry as async_conditions

from resilience import scope
from resilience._introspection import traceback_of
from resilience._validate import is_async
from resilience.circuit_states import Closed
from resilience.judge import Classifiers
from resilience.permit import Permit
from resilience.protect import FIRST_ATTEMPT, Arguments, Keywords
from resilience.retry.conditions import is_transient
from resilience.retry.gated_loop import DELAY, NOT_FAILED, GatedLoop, renew, storage_of
from resilience.retry.hooks import refund_unused
from resilience.unfinished import ResultWatch, unfinished

Call: TypeAlias = Callable[..., Any]
MakePermit: TypeAlias = Callable[[Any, Closed, Classifiers | None], Permit]
F = TypeVar("F", bound=Callable[..., Any])

# Conditions that say no, and do nothing else, where an attempt has raised nothing.
_LOOK_AT_ERRORS = {
    type(tenacity.retry_never).__call__,
    tenacity.retry_if_exception.__call__,
    tenacity.retry_if_exception_cause_type.__call__,
    type(is_transient).__call__,
}
_LOOK_AT_ERRORS_ASYNC = {async_conditions.retry_if_exception.__call__}
_COMBINE = {tenacity.retry_any.__call__, tenacity.retry_all.__call__}
_COMBINE_ASYNC = {async_conditions.retry_any.__call__, async_conditions.retry_all.__call__}
_NOTHING_FITS = object()


def looks_at_errors_only(condition: object, *, may_be_async: bool) -> bool:
    """Whether a `retry` condition is sure to say no, without doing anything, after a success."""
    call: object = getattr(type(condition), "__call__", None)  # noqa: B004 - it is compared
    if call in _LOOK_AT_ERRORS:
        return True
    if call in _COMBINE:  # a combination that is not async itself awaits none of its parts
        may_be_async = False
    elif not may_be_async or call not in _COMBINE_ASYNC:
        return may_be_async and call in _LOOK_AT_ERRORS_ASYNC
    parts: tuple[object, ...] = cast("Any", condition).retries
    return all(looks_at_errors_only(part, may_be_async=may_be_async) for part in parts)


class FirstAttempt:
    """Makes the first attempt of a function, and hands its error over to the loop.

    Args:
        fn: The function that an attempt calls.
        gated: The loop.
        statistics: Those of the function.
    """

    def __init__(
        self, fn: Callable[..., Any], gated: GatedLoop, statistics: dict[str, Any]
    ) -> None:
        self.fn = fn
        self.gated = gated
        self.statistics = statistics
        #: The `before` and the `retry` of a loop that is not needed for the first attempt.
        self.before, self.condition = self._fitting_settings()
        is_async_loop = isinstance(gated.loop, AsyncRetrying)
        #: The function with its loop.
        self.retried: Any = _retry_async(self) if is_async_loop else _retry_sync(self)

    @property
    def loop(self) -> BaseRetrying:
        """The loop as its user knows it."""
        return self.gated.loop

    def in_circuit(
        self,
        classifiers: Classifiers | None,
        watch: ResultWatch,
        make_permit: MakePermit | None = None,
        /,
    ) -> Callable[..., Any]:
        """Return what calls the function in a CLOSED circuit.

        Args:
            classifiers: Those of the protected function; None: the breaker's are asked.
            watch: Notices that what a `def` returns is not finished.
            make_permit: Makes the permit of a call; None: it is a plain one.
        """
        if isinstance(self.loop, AsyncRetrying):
            return _in_circuit_async(self, classifiers, make_permit)
        return _in_circuit_sync(self, classifiers, watch, make_permit)

    def report_to_tenants(self) -> None:
        """Report failed attempts to the call of a tenant that they are part of."""
        self.gated.hooks.report_to_tenants()

    async def run_async(self, args: Arguments, kwargs: Keywords) -> object:
        """Run the loop from the start."""
        if not self.gated.loop.enabled:
            return await self.fn(*args, **kwargs)
        loop = self.gated.copy(self.statistics)
        try:
            return await loop(self.fn, *args, **kwargs)
        finally:
            refund_unused(loop)

    def run_sync(self, args: Arguments, kwargs: Keywords) -> object:
        """Run the loop from the start."""
        if not self.gated.loop.enabled:
            return self.fn(*args, **kwargs)
        loop = self.gated.copy(self.statistics)
        try:
            return loop(self.fn, *args, **kwargs)
        finally:
            refund_unused(loop)

    async def go_on_async(
        self, start: float, failed: list[Exception], args: Arguments, kwargs: Keywords
    ) -> object:
        """Run the loop after its first attempt.

        Args:
            start: When that began.
            failed: Its error, which is taken out: an error refers to the frames that hold it.
            args: The arguments of the call.
            kwargs: Its keywords.
        """
        loop = self.gated.copy(self.statistics)
        state = self._state(loop, start, failed, (args, kwargs))
        try:
            while True:
                do: object = await loop.iter(state)
                if isinstance(do, DoAttempt):
                    try:
                        result = await self.fn(*args, **kwargs)
                    except BaseException:  # noqa: BLE001 - the loop decides about it
                        state.set_exception(cast("Any", sys.exc_info()))
                    else:
                        state.set_result(result)
                elif isinstance(do, DoSleep):
                    self.statistics[DELAY] = state.seconds_since_start  # if a call has renewed them
                    state.prepare_for_next_attempt()
                    await cast("Awaitable[None]", loop.sleep(do))
                else:
                    return do
        finally:
            refund_unused(loop)

    def go_on_sync(
        self, start: float, failed: list[Exception], args: Arguments, kwargs: Keywords
    ) -> object:
        """Run the loop after its first attempt, as `go_on_async` does."""
        loop = self.gated.copy(self.statistics)
        state = self._state(loop, start, failed, (args, kwargs))
        try:
            while True:
                do: object = loop.iter(state)
                if isinstance(do, DoAttempt):
                    try:
                        result = self.fn(*args, **kwargs)
                    except BaseException:  # noqa: BLE001 - the loop decides about it
                        state.set_exception(cast("Any", sys.exc_info()))
                    else:
                        state.set_result(result)
                elif isinstance(do, DoSleep):
                    self.statistics[DELAY] = state.seconds_since_start  # if a call has renewed them
                    state.prepare_for_next_attempt()
                    loop.sleep(do)
                else:
                    return do
        finally:
            refund_unused(loop)

    def _state(
        self,
        loop: BaseRetrying,
        start: float,
        failed: list[Exception],
        call: tuple[Arguments, Keywords],
    ) -> RetryCallState:
        """Return the state of a call whose first attempt has failed."""
        args, kwargs = call
        error = failed.pop()
        loop.statistics["start_time"] = start
        state = RetryCallState(loop, self.fn, args, kwargs)
        state.start_time = start
        state.set_exception((type(error), error, traceback_of(error)))
        return state

    def _fitting_settings(self) -> tuple[object, object]:
        loop = self.gated.loop
        kind: type = type(loop)  # another class may do anything
        may_be_async = kind is AsyncRetrying
        is_plain = kind is Retrying or (may_be_async and is_async(self.fn))
        before: object = loop.before
        is_hooked = before is not None and before is not tenacity.before_nothing
        if is_plain and not is_hooked:
            condition: object = loop.retry
            if looks_at_errors_only(condition, may_be_async=may_be_async):
                return before, condition
        return _NOTHING_FITS, _NOTHING_FITS


def retry_function(fn: Callable[..., Any], gated: GatedLoop, statistics: dict[str, Any]) -> Any:
    """Wrap a function in a loop, as tenacity does.

    Args:
        fn: The function.
        gated: The loop.
        statistics: Those of the function.
    """
    first_attempt = FirstAttempt(fn, gated, statistics)
    retried = first_attempt.retried
    assigned = (*functools.WRAPPER_ASSIGNMENTS, "__defaults__", "__kwdefaults__")
    functools.update_wrapper(retried, fn, assigned=assigned)
    retried.retry = gated.loop
    retried.statistics = statistics
    setattr(retried, FIRST_ATTEMPT, first_attempt)
    return retried


# The wrappers say the same, once with and once without `await`. The error of a first attempt is
# handled outside of the `except` block: further attempts must not see it as the one that is being
# handled. It is carried in a list, which is empty afterwards, because it refers to these frames.


def _retry_async(first: FirstAttempt) -> Callable[..., Awaitable[object]]:
    fn, loop, before, condition = first.fn, first.loop, first.before, first.condition
    statistics, storage = first.statistics, storage_of(loop)
    shown = statistics.get
    innermost, check_first = scope.innermost, first.gated.hooks.check_first

    async def retried(*args: Any, **kwargs: Any) -> object:
        if loop.before is not before or loop.retry is not condition or not loop.enabled:
            return await first.run_async(args, kwargs)
        storage.statistics = statistics
        if shown(DELAY) is not NOT_FAILED:
            renew(statistics)
        start = statistics["start_time"] = time.monotonic()
        outer = innermost.get()
        if outer is not None and (outer.ticket is not None or outer.outer is not None):
            check_first()
        try:
            return await (fn(*args, **kwargs) if kwargs else fn(*args))
        except Exception as error:  # noqa: BLE001 - the loop decides about it
            failed = [error]
        return await first.go_on_async(start, failed, args, kwargs)

    return retried


def _retry_sync(first: FirstAttempt) -> Callable[..., object]:
    fn, loop, before, condition = first.fn, first.loop, first.before, first.condition
    statistics, storage = first.statistics, storage_of(loop)
    shown = statistics.get
    innermost, check_first = scope.innermost, first.gated.hooks.check_first

    def retried(*args: Any, **kwargs: Any) -> object:
        if loop.before is not before or loop.retry is not condition or not loop.enabled:
            return first.run_sync(args, kwargs)
        storage.statistics = statistics
        if shown(DELAY) is not NOT_FAILED:
            renew(statistics)
        start = statistics["start_time"] = time.monotonic()
        outer = innermost.get()
        if outer is not None and (outer.ticket is not None or outer.outer is not None):
            check_first()
        try:
            return fn(*args, **kwargs) if kwargs else fn(*args)
        except Exception as error:  # noqa: BLE001 - the loop decides about it
            failed = [error]
        return first.go_on_sync(start, failed, args, kwargs)

    return retried


# In a circuit that is CLOSED, and in no other, the permit is handled here too. That saves the calls
# of two functions, 200 ns with `async def`. After a success outside of any other call, the settled
# permit stays in `innermost`, where it is passed over and the next call replaces it: taking it out
# would cost 150 ns. It refers to its breaker, and to nothing of the call.


def _in_circuit_async(
    first: FirstAttempt, own: Classifiers | None, make: MakePermit | None
) -> Call:
    fn, loop, before, retry = first.fn, first.loop, first.before, first.condition
    statistics, storage = first.statistics, storage_of(loop)
    shown = statistics.get
    innermost, count_call = scope.innermost, first.gated.hooks.count_call

    async def call(breaker: Any, closed: Closed, args: Arguments, kwargs: Keywords, /) -> object:
        permit = make(breaker, closed, own) if make else Permit().begin(breaker, closed, own)
        outer = innermost.get()
        is_nested = outer is not None and (outer.ticket is not None or outer.outer is not None)
        # Also where the settings of the loop were changed after decorating.
        if is_nested or loop.before is not before or loop.retry is not retry or not loop.enabled:
            return await permit.call_async(first.retried, args, kwargs)
        innermost.set(permit)
        result: object = None
        failed: list[Exception] | None = None
        try:
            storage.statistics = statistics
            if shown(DELAY) is not NOT_FAILED:
                renew(statistics)
            start = statistics["start_time"] = time.monotonic()
            if count_call is not None:
                count_call()
            try:
                result = await (fn(*args, **kwargs) if kwargs else fn(*args))
            except Exception as error:  # noqa: BLE001 - the loop decides about it
                failed = [error]
            if failed is not None:
                result = await first.go_on_async(start, failed, args, kwargs)
        except BaseException as error:
            _settle_by_error(permit, error)
            raise
        if permit.ticket is not closed or closed.streak:
            scope.leave(permit)
            return permit.returned(result)
        permit.ticket = None
        closed.successes += 1
        return result

    return call


def _in_circuit_sync(
    first: FirstAttempt, own: Classifiers | None, watch: ResultWatch, make: MakePermit | None
) -> Call:
    fn, loop, before, retry = first.fn, first.loop, first.before, first.condition
    statistics, storage, innermost = first.statistics, storage_of(loop), scope.innermost
    shown, count_call = statistics.get, first.gated.hooks.count_call

    def call(breaker: Any, closed: Closed, args: Arguments, kwargs: Keywords, /) -> object:
        permit = make(breaker, closed, own) if make else Permit().begin(breaker, closed, own)
        outer = innermost.get()
        is_nested = outer is not None and (outer.ticket is not None or outer.outer is not None)
        if is_nested or loop.before is not before or loop.retry is not retry or not loop.enabled:
            return watch.checked(permit.call_sync(first.retried, args, kwargs))
        innermost.set(permit)
        result: object = None
        failed: list[Exception] | None = None
        try:
            storage.statistics = statistics
            if shown(DELAY) is not NOT_FAILED:
                renew(statistics)
            start = statistics["start_time"] = time.monotonic()
            if count_call is not None:
                count_call()
            try:
                result = fn(*args, **kwargs) if kwargs else fn(*args)
            except Exception as error:  # noqa: BLE001 - the loop decides about it
                failed = [error]
            result = first.go_on_sync(start, failed, args, kwargs) if failed else result
        except BaseException as error:
            _settle_by_error(permit, error)
            raise
        try:
            how = unfinished[type(result)]
        except BaseException:  # noqa: BLE001 - its metaclass may not be hashable
            how = unfinished.of(type(result))
        if how is not None or permit.ticket is not closed or closed.streak:
            scope.leave(permit)
            return watch.checked(permit.returned_by_sync(result))
        permit.ticket = None
        closed.successes += 1
        return result

    return call


def _settle_by_error(permit: Permit, error: BaseException) -> None:
    try:
        permit.raised(error)
    finally:
        scope.leave(permit)
