"""gate: tenacity loops that stop when the circuit of their call opens."""

from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar, overload

from tenacity import BaseRetrying

from resilience import _validate
from resilience.log import log_gate_above_breaker
from resilience.protect import CONTAINS_RETRIES, first_attempt_of, is_protected
from resilience.protectable import check_protectable, layers_of
from resilience.retry.found import gate_in_place, is_made_by_tenacity, make_again
from resilience.retry.gated_loop import hooks_added, is_gated
from resilience.retry.hooks import Hooks

L = TypeVar("L", bound=BaseRetrying)
F = TypeVar("F", bound=Callable[..., Any])

_NOTHING = object()


@overload
def gate(target: L) -> L: ...
@overload
def gate(target: F) -> F: ...
def gate(target: Any = _NOTHING) -> Any:
    """Make tenacity loops of your own stop when the circuit of their call opens.

    A tenacity decorator directly below a circuit breaker does not need it. A function that `gate`
    returns makes its first attempt outside of tenacity, as with `transient_retry`.

    Args:
        target: A function with a tenacity decorator, put between that and `@region_breaker`; a
            function that contains tenacity loops, which is only marked, so that the loops find its
            circuit; or such a loop itself, an `AsyncRetrying` or a `Retrying`.

    Returns:
        The same kind of thing. Outside a protected call it does what it did before, except that a
        cancellation is never retried.

    Raises:
        TypeError: The target is none of these, or it is protected already, or another decorator
            stands between `gate` and tenacity's.
    """
    if target is _NOTHING:
        raise TypeError("gate takes what it decorates and has no parentheses: @gate")
    if isinstance(target, BaseRetrying):
        return gate_loop(target, Hooks())
    check_protectable(target, "gate")
    if first_attempt_of(target) is not None:
        return target
    if is_made_by_tenacity(target):
        return make_again(target, Hooks())
    _check_place(target)
    if isinstance(target, FunctionType):
        gate_in_place(target)
    return _mark(target)


def gate_loop(loop: BaseRetrying, hooks: Hooks) -> BaseRetrying:
    """Copy a tenacity loop, and add hooks to its own; a loop that is gated is returned as it is.

    Args:
        loop: A `Retrying` or an `AsyncRetrying`.
        hooks: What the loop does around its attempts.

    Raises:
        TypeError: The loop is of another kind.
    """
    return loop if is_gated(loop) else loop.copy(**hooks_added(loop, hooks))


def _check_place(fn: Any) -> None:
    """Reject a gate that stands above what it is for, or warn about it."""
    name = _validate.name_of(fn)
    if is_protected(fn):
        raise TypeError(f"gate goes under the circuit breaker of {name}, not over it")
    loop: object = getattr(fn, "retry", None)
    inner: Any = getattr(fn, "__wrapped__", None)
    if isinstance(loop, BaseRetrying) and getattr(inner, "retry", None) is loop:
        raise TypeError(f"gate goes directly over the retry decorator of {name}, under others")
    if any(is_protected(layer) for layer in layers_of(fn)):
        log_gate_above_breaker(name)


def _mark(fn: Any) -> Any:
    try:
        setattr(fn, CONTAINS_RETRIES, True)
    except AttributeError:
        name = _validate.name_of(fn)
        raise TypeError(f"gate cannot mark {name}: give it a function of your own") from None
    return fn
