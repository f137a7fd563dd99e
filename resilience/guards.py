"""Guards: the wrappers that every call of a protected function goes through, written for speed.

What happens millions of times a day, a call that goes well in a CLOSED circuit, pays for nothing
but the lines of its guard that it passes: no permit, no lock, no helper that is called.
"""

# pyright: reportOptionalMemberAccess=false
# No permit means that `passing` is there, which a checker cannot see and a test would cost.

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from resilience._lock import lock
from resilience._validate import name_of
from resilience.classify import IGNORED
from resilience.errors import CircuitBreakerOpenError
from resilience.permit import Permit


class Finder(NamedTuple):
    """How the calls of a function find their breaker.

    Args:
        find: Finds it by the arguments of a call.
        position: Where among the positional ones the region comes, or what holds it.
        known: The breakers of what has come there already: they need no `find`.
    """

    find: Callable[[tuple[Any, ...], dict[str, Any]], Any]
    position: int = sys.maxsize
    known: Any = None


class InOneStep:
    """The breakers by what holds their region, for calls that are like the one before."""

    __slots__ = ("keyed", "known", "plain", "step")

    def __init__(self, step: str, known: Any) -> None:
        self.step, self.known = step, known
        self.plain: Any = None  # the type of the last holder that has attributes
        self.keyed: Any = None  # and of the last mapping

    def __getitem__(self, holder: Any) -> Any:
        try:
            if type(holder) is self.plain:
                return self.known[getattr(holder, self.step)]
            if type(holder) is self.keyed:
                return self.known[holder[self.step]]
        except Exception:  # noqa: BLE001 - whoever asks looks again, and says what is amiss
            raise KeyError from None
        if isinstance(holder, Mapping):
            self.keyed = type(holder)
        else:
            self.plain = type(holder)
        raise KeyError


# The two say the same, once with and once without `await`: a call that goes well has no time for
# a helper between them.


def guard_async(call: Any, finder: Finder, on_error: Any, on_result: Any) -> Any:
    """Wrap an `async def`, so that each call goes through the breaker that is found for it."""
    find, position, known = finder

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        if position < len(args):
            try:
                breaker = known[args[position]]
            except (KeyError, TypeError):  # TypeError: it cannot be hashed, so it is no region
                breaker = find(args, kwargs)
        else:
            breaker = find(args, kwargs)
        passing, permit = breaker._passing, None
        if passing is None or on_result is not None:
            permit = breaker._admit(on_error, on_result)
            if isinstance(permit, tuple):
                raise CircuitBreakerOpenError(breaker.region, *permit)
        try:
            result = await (call(*args, **kwargs) if kwargs else call(*args))
        except BaseException as error:
            if permit is not None:
                permit._raised(error)
            elif (report := breaker._judge_error(error, on_error)) is IGNORED:
                passing.ignored += 1
            else:
                breaker._record(passing, report)
            raise
        if permit is not None:
            return permit._returned(result)
        if passing.streak:
            with lock:
                passing.streak = 0
        passing.passed += 1
        return result

    return guarded


def guard_sync(call: Any, finder: Finder, on_error: Any, on_result: Any) -> Any:
    """Wrap a `def`, so that each call goes through the breaker that is found for it."""
    find, position, known = finder
    plain: Any = None  # the type of the last result: known to be no awaitable

    def guarded(*args: Any, **kwargs: Any) -> Any:
        nonlocal plain
        if position < len(args):
            try:
                breaker = known[args[position]]
            except (KeyError, TypeError):  # TypeError: it cannot be hashed, so it is no region
                breaker = find(args, kwargs)
        else:
            breaker = find(args, kwargs)
        passing, permit = breaker._passing, None
        if passing is None or on_result is not None:
            permit = breaker._admit(on_error, on_result)
            if isinstance(permit, tuple):
                raise CircuitBreakerOpenError(breaker.region, *permit)
        try:
            result = call(*args, **kwargs) if kwargs else call(*args)
        except BaseException as error:
            if permit is not None:
                permit._raised(error)
            elif (report := breaker._judge_error(error, on_error)) is IGNORED:
                passing.ignored += 1
            else:
                breaker._record(passing, report)
            raise
        if type(result) is not plain:
            if hasattr(type(result), "__await__"):
                permit = Permit(breaker, passing, on_error) if permit is None else permit
                return permit._returned_awaitable(result)
            plain = type(result)
        if permit is not None:
            return permit._returned(result)
        if passing.streak:
            with lock:
                passing.streak = 0
        passing.passed += 1
        return result

    return guarded


def check_guardable(fn: object, decorator: str) -> None:
    """Refuse what cannot be decorated, and say how to do it instead."""
    name = name_of(fn)
    if inspect.isasyncgenfunction(fn) or inspect.isgeneratorfunction(fn):
        hint = "write `with breaker.acquire():` around each call inside it"
        raise TypeError(f"{decorator} cannot decorate the generator {name}: {hint}")
    if isinstance(fn, classmethod | staticmethod):
        raise TypeError(f"{decorator} goes under @{type(fn).__name__}, not over it, on {name}")
    if isinstance(fn, type) or not callable(fn):
        raise TypeError(f"{decorator} decorates a function, got {name}")
