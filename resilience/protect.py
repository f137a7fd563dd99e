"""The wrappers that every call of a protected function goes through, one per colour.

A call in a CLOSED circuit needs no permit: the state that admits it also counts it. It pays for the
lines of its wrapper and for nothing else. Every other call goes through a permit, as does every
call of a function that may contain retry loops, for the loops to find.
"""

import functools
import inspect
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar, cast
from weakref import WeakSet

from resilience._validate import is_async
from resilience.circuit_states import Call, Closed, TrackedClosed
from resilience.judge import Classifiers
from resilience.loops import with_loops_stopped
from resilience.unfinished import ResultWatch, unfinished

P = ParamSpec("P")
T = TypeVar("T")
Arguments: TypeAlias = tuple[object, ...]
Keywords: TypeAlias = dict[str, object]

NO_POSITION = sys.maxsize  # of an argument that no call has among the positional ones

# The attribute in which a protected function keeps its `BreakerLookup`.
_LOOKUP = "__resilience_lookup__"
# The attribute by which `resilience.retry.gate` marks a function that contains retry loops.
CONTAINS_RETRIES = "__resilience_contains_retries__"
# The attribute in which a function that `resilience.retry` has made keeps its `FirstAttempt`.
FIRST_ATTEMPT = "__resilience_first_attempt__"
# The attribute in which a protected function keeps the loop that its circuit does not stop.
LEFT_ALONE = "__resilience_left_alone__"

_protected: WeakSet[Callable[..., object]] = WeakSet()


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

    def permit_in(self, ticket: Closed | Call, classifiers: Classifiers | None, /) -> AdmittedCall:
        """Return a permit for a call that has begun without one."""
        ...

    def record_error(
        self, closed: Closed, error: BaseException, classifiers: Classifiers | None, /
    ) -> None:
        """Count a call without a permit that raised."""

    @property
    def timed(self) -> TrackedClosed | None:
        """The CLOSED state while a call that goes well needs nothing but its time, else None."""

    @property
    def clock(self) -> Callable[[], float] | None:
        """Returns the time for such a call; None: `time.monotonic` does."""

    def count_timed(self, closed: TrackedClosed, since: float, /) -> None:
        """Count a success without a permit in a circuit that times its calls."""

    def record_timed_error(
        self,
        closed: TrackedClosed,
        since: float,
        error: BaseException,
        classifiers: Classifiers | None,
        /,
    ) -> None:
        """Count a call without a permit that raised, in a circuit that times its calls."""

    def end_streak(self, closed: Closed, /) -> None:
        """End the streak of failures, after a success without a permit."""


class CallWithPermit(Protocol):
    """Calls a function with a permit, in a circuit that is CLOSED."""

    def __call__(
        self, breaker: AdmitsCalls, closed: Closed, args: Arguments, kwargs: Keywords, /
    ) -> Any:
        """Call the function, and settle by its result or error."""


class MakesWrapper(Protocol):
    """Makes the wrapper of a function."""

    def __call__(
        self,
        fn: Callable[..., Any],
        lookup: "BreakerLookup",
        classifiers: Classifiers | None,
        watch: ResultWatch,
        call_with_permit: CallWithPermit | None,
        /,
    ) -> Callable[..., Any]:
        """Return the wrapper; see `protect`."""
        ...


class FirstAttempt(Protocol):
    """What a wrapper needs of a retried function, to make the first attempt by itself."""

    @property
    def retried(self) -> object:
        """The function."""

    def in_circuit(
        self,
        classifiers: Classifiers | None,
        watch: ResultWatch,
        make_permit: Callable[[Any, Closed, Classifiers | None], Any] | None = ...,
        /,
    ) -> CallWithPermit:
        """Return what calls the function in a CLOSED circuit."""
        ...

    def report_to_tenants(self) -> None:
        """Report failed attempts to the call of a tenant that they are part of."""


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
    fn: Callable[P, T],
    lookup: BreakerLookup,
    classifiers: Classifiers | None = None,
    *,
    stop_retries: bool = True,
    make_wrapper: MakesWrapper | None = None,
) -> Callable[P, T]:
    """Wrap a function so that each call goes through its breaker.

    Args:
        fn: An `async def` or a `def`.
        lookup: How its calls find their breaker.
        classifiers: The function's own; None: the breaker's are asked.
        stop_retries: Whether the retry loops that are found on it stop when the circuit opens.
        make_wrapper: Makes a wrapper that does more; None: one of this file.
    """
    called = with_loops_stopped(fn) if stop_retries else fn
    watch = ResultWatch(called, lookup.acquire)
    call_with_permit = _call_with_permit(called, fn, classifiers, watch)
    wrap = make_wrapper or (_protect_async if is_async(fn) else _protect_sync)
    protected = wrap(called, lookup, classifiers, watch, call_with_permit)
    functools.update_wrapper(protected, fn)
    setattr(protected, _LOOKUP, lookup)
    if not stop_retries:
        setattr(protected, LEFT_ALONE, getattr(fn, "retry", None))
    elif first_attempt_of(called) is not None:
        setattr(protected, FIRST_ATTEMPT, getattr(called, FIRST_ATTEMPT))
    retry_with: Callable[..., Callable[P, T]] | None = getattr(fn, "retry_with", None)
    if retry_with is not None:
        _protect_variants(
            protected,
            retry_with,
            lambda variant: protect(
                variant,
                lookup,
                classifiers,
                stop_retries=stop_retries,
                make_wrapper=make_wrapper,
            ),
        )
    _protected.add(protected)
    return protected


def is_protected(fn: object) -> bool:
    """Whether a function is what `protect` has made."""
    return isinstance(fn, FunctionType) and fn in _protected


def _call_with_permit(
    fn: Callable[..., Any],
    decorated: object,
    classifiers: Classifiers | None,
    watch: ResultWatch,
) -> CallWithPermit | None:
    """Return how a function is called in a CLOSED circuit; None: without a permit."""
    # Loops that others have found must see that this function leaves them as they are.
    leaves_loops = classifiers is not None and not classifiers.stops_found_loops
    if classifiers is not None and classifiers.result_classifier is not None:
        pass
    elif (first_attempt := first_attempt_of(fn)) is not None:
        return first_attempt.in_circuit(classifiers, watch)
    elif not leaves_loops and not _contains_retries(decorated):
        return None

    async def call_async(
        breaker: AdmitsCalls, closed: Closed, args: Arguments, kwargs: Keywords, /
    ) -> Any:
        return await breaker.permit_in(closed, classifiers).call_async(fn, args, kwargs)

    def call_sync(
        breaker: AdmitsCalls, closed: Closed, args: Arguments, kwargs: Keywords, /
    ) -> Any:
        permit = breaker.permit_in(closed, classifiers)
        return watch.checked(permit.call_sync(fn, args, kwargs))

    return call_async if is_async(fn) else call_sync


def first_attempt_of(fn: object) -> FirstAttempt | None:
    """Return how the first attempt of a retried function is made; None: as its loop makes it."""
    first_attempt: FirstAttempt | None = getattr(fn, FIRST_ATTEMPT, None)
    if first_attempt is None or first_attempt.retried is not fn:  # `functools.wraps` has copied it
        return None
    return first_attempt


def lookup_of(fn: object) -> BreakerLookup | None:
    """Return how the calls of a function find their breaker; None if it is not protected.

    Args:
        fn: A function, or anything else: no code of it is run. A proxy such as Flask's
            `current_app` raises whatever attribute it is asked for.
    """
    function = fn.__func__ if type(fn) is MethodType else fn
    lookup: object = inspect.getattr_static(function, _LOOKUP, None)
    return lookup if isinstance(lookup, BreakerLookup) else None


def wrapped_by_protection(fn: object) -> object | None:
    """Return the function behind a wrapper that `protect` has made; None if it is not one."""
    # Other decorators copy the attributes of what they wrap.
    return getattr(fn, "__wrapped__", None) if is_protected(fn) else None


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
#
# A call in a circuit that times its calls is the last part of the wrapper of an `async def`, where
# another function would cost it another coroutine. `region` is not needed any more there, and holds
# the state that times the call, and then the time at which it began: a variable of its own would
# cost every other call some instructions.


def _protect_async(
    fn: Callable[..., Any],
    lookup: BreakerLookup,
    classifiers: Classifiers | None,
    watch: ResultWatch,
    call_with_permit: CallWithPermit | None,
) -> Callable[..., Any]:
    breakers, follow = lookup.breakers, lookup.follow
    position, keyword = lookup.position, lookup.keyword
    watched, watched_with_permit = fn, call_with_permit

    def end_watch() -> None:
        nonlocal fn, call_with_permit
        fn, call_with_permit = watched, watched_with_permit

    fn = watch.watch_first_call(fn, end_watch)
    call_with_permit = call_with_permit and watch.watch_first_call(call_with_permit, end_watch)

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
        except Exception:  # noqa: BLE001 - new, or an object of any class, which is refused
            breaker = lookup.find(region)
        closed = breaker.closed
        if closed is None:
            region = breaker.timed
            if region is None or call_with_permit is not None:
                return await breaker.acquire(classifiers).call_async(fn, args, kwargs)
        elif call_with_permit is not None:
            return await call_with_permit(breaker, closed, args, kwargs)
        else:
            try:
                result = await (fn(*args, **kwargs) if kwargs else fn(*args))
            except BaseException as error:
                breaker.record_error(closed, error, classifiers)
                raise
            if closed.streak:
                breaker.end_streak(closed)
            closed.successes += 1
            return result
        closed, region = region, (breaker.clock or time.monotonic)()
        try:
            result = await (fn(*args, **kwargs) if kwargs else fn(*args))
        except BaseException as error:
            breaker.record_timed_error(closed, region, error, classifiers)
            raise
        breaker.count_timed(closed, region)
        return result

    return protected


def _protect_sync(
    fn: Callable[..., Any],
    lookup: BreakerLookup,
    classifiers: Classifiers | None,
    watch: ResultWatch,
    call_with_permit: CallWithPermit | None,
) -> Callable[..., Any]:
    breakers, follow = lookup.breakers, lookup.follow
    position, keyword = lookup.position, lookup.keyword
    calls = _SyncCalls(fn, classifiers, watch)

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
        except Exception:  # noqa: BLE001 - new, or an object of any class, which is refused
            breaker = lookup.find(region)
        closed = breaker.closed
        if closed is None:
            closed = breaker.timed
            if closed is None or call_with_permit is not None:
                return calls.checked(breaker.acquire(classifiers).call_sync(fn, args, kwargs))
            return calls.run_timed(breaker, closed, args, kwargs)
        if call_with_permit is not None:
            return call_with_permit(breaker, closed, args, kwargs)
        try:
            result = fn(*args, **kwargs) if kwargs else fn(*args)
        except BaseException as error:
            breaker.record_error(closed, error, classifiers)
            raise
        try:
            how = unfinished[type(result)]
        except BaseException:  # noqa: BLE001 - its metaclass may not be hashable
            how = unfinished.of(type(result))
        if how is not None:
            return calls.finish(breaker, closed, result)
        if closed.streak:
            breaker.end_streak(closed)
        closed.successes += 1
        return result

    return protected


class _SyncCalls:
    """What is done for the calls of a `def` that have no permit, and do not simply go well.

    Args:
        fn: The function.
        classifiers: Its own; None: the breaker's are asked.
        watch: Notices that a result is not finished.
    """

    def __init__(
        self, fn: Callable[..., Any], classifiers: Classifiers | None, watch: ResultWatch
    ) -> None:
        self._fn = fn
        self._classifiers = classifiers
        #: Returns a result that has been looked at.
        self.checked = watch.checked

    def finish(self, breaker: AdmitsCalls, ticket: Closed | Call, result: object) -> object:
        """Return what the function has returned, which may have to be awaited."""
        permit = breaker.permit_in(ticket, self._classifiers)
        return self.checked(permit.returned_by_sync(result))

    def run_timed(
        self, breaker: AdmitsCalls, closed: TrackedClosed, args: Arguments, kwargs: Keywords
    ) -> object:
        """Call the function in a circuit that times its calls."""
        since = (breaker.clock or time.monotonic)()
        try:
            result = self._fn(*args, **kwargs)
        except BaseException as error:
            breaker.record_timed_error(closed, since, error, self._classifiers)
            raise
        if unfinished.of(type(result)) is not None:
            return self.finish(breaker, Call(closed, since), result)
        breaker.count_timed(closed, since)
        return result


def _protect_variants(
    protected: Callable[..., object],
    retry_with: Callable[..., Callable[P, T]],
    protect_variant: Callable[[Callable[P, T]], Callable[P, T]],
) -> None:
    """Protect what tenacity's `retry_with` makes too: it must not get around the circuit."""

    def protected_retry_with(*args: object, **kwargs: object) -> Callable[P, T]:
        return protect_variant(retry_with(*args, **kwargs))

    cast("Any", protected).retry_with = protected_retry_with
