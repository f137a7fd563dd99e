"""The wrappers that every call of a protected function goes through, one per colour.

A call in a CLOSED circuit needs no permit: the state that admits it also counts it. It pays for the
lines of its wrapper and for nothing else. Every other call goes through a permit, as does every
call of a function that may contain retry loops, for the loops to find.
"""

import functools
import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar, cast

from resilience._validate import is_async
from resilience.circuit import Closed
from resilience.judge import Classifiers
from resilience.unfinished import ResultWatch, unfinished

P = ParamSpec("P")
T = TypeVar("T")
Arguments: TypeAlias = tuple[object, ...]
Keywords: TypeAlias = dict[str, object]

NO_POSITION = sys.maxsize  # of an argument that no call has among the positional ones

# The attribute of a wrapper that holds its `BreakerLookup`.
_LOOKUP = "__resilience_lookup__"

# The attribute by which `resilience.retry.gate` marks a function that contains retry loops.
CONTAINS_RETRIES = "__resilience_contains_retries__"


class AdmittedCall(Protocol):
    """What a wrapper needs of a permit."""

    async def call_async(
        self, fn: Callable[..., Awaitable[T]], args: Arguments, kwargs: Keywords, /
    ) -> T:
        """Call an `async def`, and settle by its result or error."""
        ...

    def call_sync(self, fn: Callable[..., T], args: Arguments, kwargs: Keywords, /) -> T:
        """Call a `def`, and settle by its result or error."""
        ...

    def returned_by_sync(self, result: T, /) -> T:
        """Settle by what a `def` returned; if it must be awaited, when it was."""
        ...


class AdmitsCalls(Protocol):
    """What a wrapper needs of a circuit breaker."""

    @property
    def closed(self) -> Closed | None:
        """The CLOSED state while a call that goes well needs no permit, else None."""

    def acquire(self, classifiers: Classifiers | None = None, /) -> AdmittedCall:
        """Admit a call, or raise the rejection."""
        ...

    def permit_in(self, closed: Closed, classifiers: Classifiers | None, /) -> AdmittedCall:
        """Return a permit for a call that has begun without one."""
        ...

    def record_error(
        self, closed: Closed, error: BaseException, classifiers: Classifiers | None, /
    ) -> None:
        """Count a call without a permit that raised."""

    def end_streak(self, closed: Closed, /) -> None:
        """End the streak of failures, after a success without a permit."""


@dataclass(frozen=True, slots=True)
class BreakerLookup:
    """How the calls of a function find their breaker.

    Args:
        breakers: The breakers by the names of their regions, in every spelling known so far.
        find: Finds the breaker of a region that is not among them.
        locate: Finds the region, or the object that holds it, where a call has it neither at the
            position nor by the keyword.
        position: Where among the positional arguments the region, or its holder, is.
        keyword: The name by which it may be given instead.
        follow: Gets the region from its holder; None: the argument is the region itself.
        acquire: The expression that acquires a permit by hand, for errors and the log.
    """

    # A call may have anything where its region should be.
    breakers: Mapping[Any, AdmitsCalls]
    find: Callable[[object], AdmitsCalls]
    locate: Callable[[Arguments, Keywords], object]
    position: int
    keyword: str | None = None
    follow: Callable[[object], object] | None = None
    acquire: str = "breaker.acquire()"


def protect(
    fn: Callable[P, T], lookup: BreakerLookup, classifiers: Classifiers | None = None
) -> Callable[P, T]:
    """Wrap a function so that each call goes through its breaker.

    Args:
        fn: An `async def` or a `def`.
        lookup: How its calls find their breaker.
        classifiers: The function's own; None: the breaker's are asked.
    """
    contains_retries = _contains_retries(fn)
    judges_results = classifiers is not None and classifiers.result_classifier is not None
    wrap = _protect_async if is_async(fn) else _protect_sync
    protected = wrap(fn, lookup, classifiers, needs_permit=contains_retries or judges_results)
    functools.update_wrapper(protected, fn)
    setattr(protected, _LOOKUP, lookup)
    retry_with: Callable[..., Callable[P, T]] | None = getattr(fn, "retry_with", None)
    if retry_with is not None:
        _protect_variants(protected, retry_with, lookup, classifiers)
    return protected


def lookup_of(fn: object) -> BreakerLookup | None:
    """Return how the calls of a function find their breaker; None if it is not protected."""
    lookup: object = getattr(fn, _LOOKUP, None)
    return lookup if isinstance(lookup, BreakerLookup) else None


def wrapped_by_protection(fn: object) -> object | None:
    """Return the function behind a wrapper that `protect` has made; None if it is not one."""
    # Other decorators copy the attributes of what they wrap.
    if getattr(fn, "__globals__", None) is not globals():
        return None
    return getattr(fn, "__wrapped__", None)


def _contains_retries(fn: object) -> bool:
    """Return whether a function, or what it stands for, has a retry loop or is marked."""
    partial_of: object = getattr(fn, "func", None)
    call: object = inspect.getattr_static(type(fn), "__call__", None)
    for one in (fn, partial_of, call):
        if hasattr(one, "retry") or hasattr(one, CONTAINS_RETRIES):
            return True
    return False


# The two wrappers say the same, once with and once without `await`. They look up the breaker
# themselves, which saves the 30 ns of a function call, and pass keywords on only where there are
# some, which saves 20 ns.


def _protect_async(
    fn: Callable[..., Any],
    lookup: BreakerLookup,
    classifiers: Classifiers | None,
    *,
    needs_permit: bool,
) -> Callable[..., Any]:
    breakers, follow = lookup.breakers, lookup.follow
    position, keyword = lookup.position, lookup.keyword
    watched = fn

    def end_watch() -> None:
        nonlocal fn
        fn = watched

    fn = ResultWatch(fn, lookup.acquire).watch_first_call(fn, end_watch)

    async def protected(*args: Any, **kwargs: Any) -> Any:
        if position < len(args):
            region = args[position]
        elif keyword in kwargs:
            region = kwargs[keyword]
        else:
            region = lookup.locate(args, kwargs)
        if follow is not None:
            region = follow(region)
        try:
            breaker = breakers[region]
        except (KeyError, TypeError):  # TypeError: it cannot be hashed, so it is not a region
            breaker = lookup.find(region)
        closed = breaker.closed
        if closed is None or needs_permit:
            return await breaker.acquire(classifiers).call_async(fn, args, kwargs)
        try:
            result = await (fn(*args, **kwargs) if kwargs else fn(*args))
        except BaseException as error:
            breaker.record_error(closed, error, classifiers)
            raise
        if closed.streak:
            breaker.end_streak(closed)
        closed.successes += 1
        return result

    return protected


def _protect_sync(
    fn: Callable[..., Any],
    lookup: BreakerLookup,
    classifiers: Classifiers | None,
    *,
    needs_permit: bool,
) -> Callable[..., Any]:
    breakers, follow = lookup.breakers, lookup.follow
    position, keyword = lookup.position, lookup.keyword
    watch = ResultWatch(fn, lookup.acquire)

    def protected(*args: Any, **kwargs: Any) -> Any:
        if position < len(args):
            region = args[position]
        elif keyword in kwargs:
            region = kwargs[keyword]
        else:
            region = lookup.locate(args, kwargs)
        if follow is not None:
            region = follow(region)
        try:
            breaker = breakers[region]
        except (KeyError, TypeError):  # TypeError: it cannot be hashed, so it is not a region
            breaker = lookup.find(region)
        closed = breaker.closed
        if closed is None or needs_permit:
            result = breaker.acquire(classifiers).call_sync(fn, args, kwargs)
            if unfinished[type(result)] is not None:
                watch.check(result)
            return result
        try:
            result = fn(*args, **kwargs) if kwargs else fn(*args)
        except BaseException as error:
            breaker.record_error(closed, error, classifiers)
            raise
        if unfinished[type(result)] is not None:
            result = breaker.permit_in(closed, classifiers).returned_by_sync(result)
            watch.check(result)
            return result
        if closed.streak:
            breaker.end_streak(closed)
        closed.successes += 1
        return result

    return protected


def _protect_variants(
    protected: Callable[..., object],
    retry_with: Callable[..., Callable[P, T]],
    lookup: BreakerLookup,
    classifiers: Classifiers | None,
) -> None:
    """Protect what tenacity's `retry_with` makes too: it must not get around the circuit."""

    def protected_retry_with(*args: object, **kwargs: object) -> Callable[P, T]:
        return protect(retry_with(*args, **kwargs), lookup, classifiers)

    cast("Any", protected).retry_with = protected_retry_with
