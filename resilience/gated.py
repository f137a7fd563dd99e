"""Functions that may hold retry loops: each call has a permit, for the loops to find."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Self

from resilience import classify, gate
from resilience._validate import is_async
from resilience.errors import CircuitBreakerOpenError
from resilience.guards import Finder, guard_async, guard_sync
from resilience.permit import Permit

if TYPE_CHECKING:
    from resilience.breaker import CircuitBreaker


def protect(fn: Any, finder: Finder, on_error: Any = None, on_result: Any = None) -> Any:
    """Wrap a function so that each call goes through the breaker that is found for it.

    Where the function is tenacity's, or marked by `resilience.retry.gate`, the retry loops in it
    find its circuit; all others pay nothing for that.
    """
    may_hold_loops = hasattr(fn, "retry") or hasattr(fn, gate.MARK)
    if is_async(fn):
        wrap = gate_async if may_hold_loops else guard_async
    else:
        wrap = _gate_sync if may_hold_loops else guard_sync
    made: Any = functools.wraps(fn)(wrap(fn, finder, on_error, on_result))
    if hasattr(fn, "retry_with"):  # what it makes must not get around the circuit
        again = fn.retry_with
        made.retry_with = lambda *a, **k: protect(again(*a, **k), finder, on_error, on_result)
    return made


def gate_async(call: Any, finder: Finder, on_error: Any = None, on_result: Any = None) -> Any:
    """Wrap an `async def` that may hold retry loops."""
    find = finder.find

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        breaker = find(args, kwargs)
        passing = breaker._passing if on_result is None else None
        if passing is None:
            permit = breaker._admit(on_error, on_result)
        else:  # a CLOSED circuit without a streak: no lock, neither here nor below
            permit = Permit(breaker, passing, on_error)
        if isinstance(permit, tuple):
            raise CircuitBreakerOpenError(breaker.region, *permit)
        gate.enter(permit, carries=True)
        try:
            result = await call(*args, **kwargs)
        except BaseException as error:
            _raised(permit, error)
            raise
        finally:
            gate.leave(permit)
        if passing is None or passing.streak:
            return permit._returned(result)
        permit._ticket = None
        passing.passed += 1
        return result

    return guarded


def _gate_sync(call: Any, finder: Finder, on_error: Any = None, on_result: Any = None) -> Any:
    find = finder.find
    plain: Any = None  # the type of the last result: known to be no awaitable

    def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal plain
        breaker = find(args, kwargs)
        passing = breaker._passing if on_result is None else None
        if passing is None:
            permit = breaker._admit(on_error, on_result)
        else:  # a CLOSED circuit without a streak: no lock, neither here nor below
            permit = Permit(breaker, passing, on_error)
        if isinstance(permit, tuple):
            raise CircuitBreakerOpenError(breaker.region, *permit)
        gate.enter(permit, carries=True)
        try:
            result = call(*args, **kwargs)
        except BaseException as error:
            _raised(permit, error)
            raise
        finally:
            gate.leave(permit)
        if type(result) is not plain:
            if hasattr(type(result), "__await__"):
                return permit._returned_awaitable(result)
            plain = type(result)
        if passing is None or passing.streak:
            return permit._returned(result)
        permit._ticket = None
        passing.passed += 1
        return result

    return guarded


def _raised(permit: Permit, error: BaseException) -> None:
    counted = permit._attempt_counted
    if counted is not None and classify.speaker(error) is not classify.speaker(counted):
        permit._attempt_counted = None  # the call got over that one, and failed for another reason
    permit._raised(error)
    permit._attempt_counted = None  # an error keeps its frames, and one of them this permit


async def _call(_: CircuitBreaker, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
    return await fn(*args, **kwargs)


# What `CircuitBreaker.call` does: its function may hold loops too.
call_through: Any = gate_async(_call, Finder(lambda args, _: args[0]))


class Passenger(Permit):
    """The permit of a call inside its own circuit's probe: it is part of that, and says nothing.

    A probe that calls another function of its region could never succeed otherwise: it holds the
    only place.
    """

    __slots__ = ()

    def __init__(self, breaker: CircuitBreaker) -> None:
        super().__init__(breaker, None)

    def __enter__(self) -> Self:
        return gate.enter(self)

    def _returned_awaitable(self, awaitable: Any) -> Any:
        return awaitable  # which is for the probe around it to settle
