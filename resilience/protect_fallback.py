"""The wrappers of functions that have a fallback, one per colour.

Every call of such a function has a permit. The fallback takes the place of a call that was rejected
before it began. What the function itself raises is raised, a rejection by another circuit included.
"""

from collections.abc import Callable
from typing import Any

from resilience._validate import is_async
from resilience.errors import CircuitBreakerOpenError
from resilience.judge import Classifiers
from resilience.protect import (
    AdmitsCalls,
    Arguments,
    BreakerLookup,
    CallWithPermit,
    Keywords,
    MakesWrapper,
)
from resilience.unfinished import ResultWatch


def protect_with_fallback(fallback: Callable[..., Any]) -> MakesWrapper:
    """Return what makes the wrapper of a function that has a fallback.

    Args:
        fallback: Takes the rejection and the arguments of a call. It is an `async def` where the
            function is one.
    """

    def make_wrapper(
        fn: Callable[..., Any],
        lookup: BreakerLookup,
        classifiers: Classifiers | None,
        watch: ResultWatch,
        _call_with_permit: CallWithPermit | None,
    ) -> Callable[..., Any]:
        async def protected_async(*args: Any, **kwargs: Any) -> Any:
            breaker = _find_breaker(lookup, args, kwargs)
            try:
                permit = breaker.acquire(classifiers)
            except CircuitBreakerOpenError as rejection:
                return await fallback(rejection, *args, **kwargs)
            return await permit.call_async(fn, args, kwargs)

        def protected_sync(*args: Any, **kwargs: Any) -> Any:
            breaker = _find_breaker(lookup, args, kwargs)
            try:
                permit = breaker.acquire(classifiers)
            except CircuitBreakerOpenError as rejection:
                return fallback(rejection, *args, **kwargs)
            return watch.checked(permit.call_sync(fn, args, kwargs))

        return protected_async if is_async(fn) else protected_sync

    return make_wrapper


def _find_breaker(lookup: BreakerLookup, args: Arguments, kwargs: Keywords) -> AdmitsCalls:
    if lookup.position < len(args):
        region = args[lookup.position]
    elif lookup.keyword in kwargs:
        region = kwargs[lookup.keyword]
    else:
        region = lookup.locate(args, kwargs)
    if lookup.follow is not None:
        region = lookup.follow(region)
    try:
        return lookup.breakers[region]
    except Exception:  # noqa: BLE001 - new, or an object of any class, which is refused
        return lookup.find(region)
