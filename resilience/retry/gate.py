"""gate: tenacity loops that stop when the circuit of their call opens."""

from collections.abc import Callable
from typing import Any, TypeVar, overload

from tenacity import BaseRetrying

from resilience import _validate
from resilience.protect import CONTAINS_RETRIES, check_protectable, first_attempt_of
from resilience.retry.first_attempt import retry_function
from resilience.retry.gated_loop import GatedLoop, hooks_added, is_gated
from resilience.retry.hooks import Hooks

L = TypeVar("L", bound=BaseRetrying)
F = TypeVar("F", bound=Callable[..., Any])


@overload
def gate(target: L) -> L: ...
@overload
def gate(target: F) -> F: ...
def gate(target: Any) -> Any:
    """Make tenacity loops of your own stop when the circuit of their call opens.

    Args:
        target: A function with a tenacity decorator, put between that and `@region_breaker`; a
            function that contains tenacity loops, which is only marked, so that the loops find its
            circuit; or such a loop itself, an `AsyncRetrying` or a `Retrying`.

    Returns:
        The same kind of thing. Outside a protected call it does what it did before, except that a
        cancellation is never retried.

    Raises:
        TypeError: The target is none of these, or another decorator stands between `gate` and
            tenacity's.
    """
    if isinstance(target, BaseRetrying):
        return gate_loop(target, Hooks())
    check_protectable(target, "gate")
    if isinstance(getattr(target, "retry", None), BaseRetrying):
        return gate_function(target, Hooks())
    return _mark(target)


def gate_function(fn: Any, hooks: Hooks) -> Any:
    """Gate the loop of a function with a tenacity decorator.

    Args:
        fn: The function.
        hooks: What the loop does around its attempts.
    """
    if first_attempt_of(fn) is not None:
        return fn
    inner = fn.__wrapped__
    if isinstance(getattr(inner, "retry", None), BaseRetrying):
        if inner.retry is fn.retry:
            name = _validate.name_of(fn)
            raise TypeError(f"gate goes directly over the retry decorator of {name}, under others")
        inner = gate_function(inner, Hooks())
    gated = retry_function(inner, GatedLoop(fn.retry, hooks), fn.statistics)

    def retry_with(*args: Any, **kwargs: Any) -> Any:
        return gate_function(fn.retry_with(*args, **kwargs), hooks)

    gated.retry_with = retry_with
    return gated


def gate_loop(loop: BaseRetrying, hooks: Hooks) -> BaseRetrying:
    """Copy a tenacity loop, and add hooks to its own; a loop that is gated is returned as it is.

    Args:
        loop: A `Retrying` or an `AsyncRetrying`.
        hooks: What the loop does around its attempts.

    Raises:
        TypeError: The loop is of another kind.
    """
    return loop if is_gated(loop) else loop.copy(**hooks_added(loop, hooks))


def _mark(fn: Any) -> Any:
    try:
        setattr(fn, CONTAINS_RETRIES, True)
    except AttributeError:
        name = _validate.name_of(fn)
        raise TypeError(f"gate cannot mark {name}: give it a function of your own") from None
    return fn
