"""The loops that are found on functions: how each of them is stopped with its circuit.

A function that tenacity's own decorator has made is made again, with its first attempt outside of
tenacity; its loop and the function itself stay as they are. Where something stands between that
function and the caller, or keeps a loop under another name, it cannot be made again. Its loop then
gets hooks that do nothing outside of protected calls.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from itertools import takewhile
from types import FunctionType, MethodType
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary, WeakSet

from tenacity import AsyncRetrying, BaseRetrying, RetryCallState, Retrying

from resilience import scope
from resilience._validate import name_of
from resilience.classify import safe_getattr
from resilience.log import log_loop_not_stopped
from resilience.loops import HIDE_THEIR_LOOPS, stop_loops_with
from resilience.permit import Permit
from resilience.protect import (
    CONTAINS_RETRIES,
    FIRST_ATTEMPT,
    LEFT_ALONE,
    first_attempt_of,
    is_protected,
)
from resilience.protectable import layers_of
from resilience.retry.first_attempt import retry_function
from resilience.retry.gated_loop import GatedLoop, hooks_added, is_gated
from resilience.retry.hooks import Hooks

F = TypeVar("F", bound=Callable[..., object])


def _nothing() -> None:
    """Stand in for a function with a loop."""


# The code of the functions that tenacity's decorator makes: they share it.
_CODE_OF_TENACITY = {
    cast("FunctionType", kind().wraps(_nothing)).__code__ for kind in (Retrying, AsyncRetrying)
}
_CALL_OF_PARTIAL = inspect.getattr_static(partial, "__call__")
_made_again: WeakKeyDictionary[FunctionType, Any] = WeakKeyDictionary()
# All others whose loops were stopped, or that have none: `breaker.call` asks in each call.
_gated_in_place: WeakSet[FunctionType] = WeakSet()
# The functions of other libraries whose loops are hidden, once a warning says so.
_reported: WeakSet[FunctionType] = WeakSet()


class HooksInCircuits(Hooks):
    """The hooks of a loop that may also run where it is none of a circuit's business.

    That is outside of protected calls, and in those of a function that leaves its loops as they
    are: it may share the loop with the function on which it was found.
    """

    def enclosing_call(self) -> scope.ProtectedCall | None:
        """Return the innermost call, unless its function leaves its loops as they are."""
        call = scope.current()
        return call if isinstance(call, Permit) and call.stops_found_loops() else None

    def check_circuits(self, state: RetryCallState) -> None:
        """Let no attempt start that a circuit does not allow."""
        if self.enclosing_call() is not None:
            super().check_circuits(state)

    def after(self, state: RetryCallState) -> None:
        """Look at a failed attempt."""
        if self.enclosing_call() is not None:
            super().after(state)

    def stop(self, state: RetryCallState) -> bool:
        """Return whether the loop ends, because its circuit allows no retry."""
        return self.enclosing_call() is not None and super().stop(state)


def stop_found_loops(fn: F) -> F:
    """Return what to call instead of a function, so that the loops found on it stop.

    Args:
        fn: A function, a method, a `functools.partial`, or an object that can be called.

    Returns:
        The function itself where it has no loop, or where its loop has been changed in its place.
    """
    made: Any = fn
    kind: type = type(fn)  # and not `isinstance`: a proxy that adds something says it is a function
    if kind is FunctionType:
        made = _stop_loops_of(cast("FunctionType", fn))
    elif kind is MethodType:
        method = cast("MethodType", fn)
        stopped = stop_found_loops(method.__func__)
        made = fn if stopped is method.__func__ else MethodType(stopped, method.__self__)
    elif (call := inspect.getattr_static(kind, "__call__", None)) is _CALL_OF_PARTIAL:
        whole = cast("partial[Any]", fn)
        stopped = stop_found_loops(whole.func)
        made = fn if stopped is whole.func else partial(stopped, *whole.args, **whole.keywords)
    else:
        gate_in_place(fn)
        if isinstance(call, FunctionType):
            stopped = stop_found_loops(call)
            made = fn if stopped is call else MethodType(stopped, fn)
    return cast("F", made)


def is_made_by_tenacity(fn: object) -> bool:
    """Whether a function is what tenacity's decorator has made, with a loop that can be gated."""
    return (
        type(fn) is FunctionType
        and fn.__code__ in _CODE_OF_TENACITY
        and isinstance(vars(fn).get("retry"), Retrying | AsyncRetrying)
    )


def make_again(fn: Any, hooks: Hooks) -> Any:
    """Make a function of tenacity's decorator again, with a gated loop.

    Args:
        fn: The function.
        hooks: What the loop does around its attempts.
    """
    inner = stop_found_loops(fn.__wrapped__)
    gated = retry_function(inner, GatedLoop(fn.retry, hooks), fn.statistics)
    vars(gated).update({**vars(fn), **vars(gated)})  # what was set on the function afterwards

    make_variant = fn.retry_with  # and no reference to the function, by which this one is found

    def retry_with(*args: Any, **kwargs: Any) -> Any:
        return make_again(make_variant(*args, **kwargs), hooks)

    gated.retry_with = retry_with
    return gated


def gate_in_place(fn: object) -> None:
    """Gate the loops that a function keeps, and those of the functions that it wraps.

    Args:
        fn: A function, an object that can be called, or a loop itself.
    """
    for loop in _loops_on(fn):
        vars(fn)[CONTAINS_RETRIES] = True  # an object may accept no new attributes
        if not isinstance(loop, Retrying | AsyncRetrying):
            log_loop_not_stopped(name_of(fn), f"the type {type(loop).__name__}")
        elif not is_gated(loop):
            for name, hook in hooks_added(loop, HooksInCircuits()).items():
                setattr(loop, name, hook)
    _report_hidden_loops(fn)


def _stop_loops_of(fn: FunctionType) -> Any:
    if fn in _gated_in_place or first_attempt_of(fn) is not None:
        return fn
    if not is_made_by_tenacity(fn):
        gate_in_place(fn)
        _gated_in_place.add(fn)
        return fn
    made = _made_again.get(fn)
    if made is None:
        made = _made_again[fn] = make_again(fn, Hooks())
    return made


def _loops_on(fn: object) -> Iterator[BaseRetrying]:
    """Return the loops of a function that no circuit stops yet, from the outside in."""
    if isinstance(fn, BaseRetrying):
        yield fn
        return
    handled: list[object] = []
    for layer in _layers_of(fn):
        if first_attempt_of(layer) is not None:
            return
        kept = dict(vars(layer))
        first_attempt = kept.pop(FIRST_ATTEMPT, None)
        handled += [getattr(first_attempt, "loop", None), kept.pop(LEFT_ALONE, None)]
        for value in kept.values():
            if isinstance(value, BaseRetrying) and not any(value is one for one in handled):
                yield value


def _report_hidden_loops(fn: object) -> None:
    """Warn where a decorator makes a loop in each call, which nobody else ever sees."""
    for layer in _layers_of(fn):
        if is_protected(layer):
            return
        if isinstance(layer, FunctionType) and layer not in _reported:
            # The module in which it was written: `functools.wraps` changes what it says itself.
            library = str(layer.__globals__.get("__name__")).partition(".")[0]
            if library in HIDE_THEIR_LOOPS:
                _reported.add(layer)
                log_loop_not_stopped(name_of(fn), library)


def _layers_of(fn: object) -> Iterator[object]:
    """Return the layers of a function that may keep something, from the outside in."""
    wrapped: object = inspect.getattr_static(fn, "__wrapped__", None)
    layers = layers_of(fn)
    if layers[0] is not fn:  # an object, of which that is the `__call__`
        layers = [fn] if wrapped is None else [fn, *layers_of(wrapped)]
    return takewhile(lambda layer: isinstance(safe_getattr(layer, "__dict__"), dict), layers)


# Without looking for this file again. Last: other threads may ask from now on.
stop_loops_with(stop_found_loops)
