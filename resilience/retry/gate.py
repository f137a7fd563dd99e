"""gate: tenacity loops that stop when the circuit of their call opens."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar, cast, overload

import tenacity
from tenacity import AsyncRetrying, BaseRetrying, RetryCallState, Retrying

from resilience import _validate, scope
from resilience.protect import CONTAINS_RETRIES
from resilience.protectable import check_protectable
from resilience.retry.hooks import Hooks

L = TypeVar("L", bound=BaseRetrying)
F = TypeVar("F", bound=Callable[..., Any])

Hook: TypeAlias = Callable[[RetryCallState], Any]
Sleep: TypeAlias = Callable[[float], Any]

_DEFAULT_SLEEPS = Retrying().sleep, AsyncRetrying().sleep
# The attribute by which the stop condition of a loop that is gated already is recognised.
_IS_GATED = "__resilience_gated__"
_NOTHING = object()
_NO_HOOKS = None, tenacity.before_nothing, tenacity.after_nothing


@overload
def gate(target: L) -> L: ...
@overload
def gate(target: F) -> F: ...
def gate(target: Any = _NOTHING) -> Any:
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
    if target is _NOTHING:
        raise TypeError("gate takes what it decorates and has no parentheses: @gate")
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
    inner = fn.__wrapped__
    if isinstance(getattr(inner, "retry", None), BaseRetrying):
        if inner.retry is fn.retry:
            name = _validate.name_of(fn)
            raise TypeError(f"gate goes directly over the retry decorator of {name}, under others")
        inner = gate_function(inner, Hooks())
    gated = cast("Any", gate_loop(fn.retry, hooks).wraps(inner))

    def retry_with(*args: Any, **kwargs: Any) -> Any:
        return gate_function(fn.retry_with(*args, **kwargs), hooks)

    gated.retry_with = retry_with
    return gated


def gate_loop(loop: BaseRetrying, hooks: Hooks) -> BaseRetrying:
    """Copy a tenacity loop, and add hooks to its own.

    Args:
        loop: A `Retrying` or an `AsyncRetrying`.
        hooks: What the loop does around its attempts.

    Raises:
        TypeError: The loop is of another kind.
    """
    if getattr(loop.stop, _IS_GATED, False):
        return loop
    if not isinstance(loop, Retrying | AsyncRetrying):
        raise TypeError(f"gate takes a Retrying or an AsyncRetrying, got a {type(loop).__name__}")
    last = hooks.count_attempt if hooks.counts else hooks.check_circuits
    stop = _stop_if_either(loop.stop, hooks.stop)
    setattr(stop, _IS_GATED, True)
    return loop.copy(
        retry=_before_the_end(loop.retry, hooks.accepted) if hooks.has_budget else loop.retry,
        before=_around(hooks.check_circuits, loop.before, last),
        after=_before(hooks.after, loop.after),
        stop=stop,
        sleep=_woken_by_circuits(loop.sleep, is_async=isinstance(loop, AsyncRetrying)),
    )


def _mark(fn: Any) -> Any:
    try:
        setattr(fn, CONTAINS_RETRIES, True)
    except AttributeError:
        name = _validate.name_of(fn)
        raise TypeError(f"gate cannot mark {name}: give it a function of your own") from None
    return fn


def _around(first: Hook, user_hook: Hook | None, last: Hook) -> Hook:
    """Run a hook before the user's own, and another one after it, for what happened meanwhile."""
    if user_hook is None or user_hook in _NO_HOOKS:
        return last
    own_hook = user_hook

    def run(state: RetryCallState) -> None:
        first(state)
        own_hook(state)
        last(state)

    async def run_async(state: RetryCallState) -> None:
        first(state)
        await own_hook(state)
        last(state)

    return run_async if _validate.is_async(user_hook) else run


def _before(first: Hook, user_hook: Hook | None) -> Hook:
    """Run a hook before the user's own."""
    if user_hook is None or user_hook in _NO_HOOKS:
        return first
    own_hook = user_hook

    def run(state: RetryCallState) -> None:
        first(state)
        own_hook(state)

    async def run_async(state: RetryCallState) -> None:
        first(state)
        await own_hook(state)

    return run_async if _validate.is_async(user_hook) else run


def _stop_if_either(user_stop: Hook, stop: Callable[[RetryCallState], bool]) -> Hook:
    def run(state: RetryCallState) -> bool:
        return user_stop(state) or stop(state)

    async def run_async(state: RetryCallState) -> bool:
        return await user_stop(state) or stop(state)

    return run_async if _validate.is_async(user_stop) else run


def _before_the_end(user_retry: Hook, hook: Hook) -> Hook:
    """Run a hook where the user's own condition ends the loop."""

    def run(state: RetryCallState) -> bool:
        retries: bool = user_retry(state)
        if not retries:
            hook(state)
        return retries

    async def run_async(state: RetryCallState) -> bool:
        retries: bool = await user_retry(state)
        if not retries:
            hook(state)
        return retries

    return run_async if _validate.is_async(user_retry) else run


def _woken_by_circuits(user_sleep: Sleep, *, is_async: bool) -> Sleep:
    """Sleep so that an opening circuit wakes the loop; a user's own sleep stays as it is."""

    def sleep(seconds: float) -> None:
        call = scope.current()
        if call is None:
            user_sleep(seconds)
        else:
            scope.sleep_in_thread(seconds, call)

    async def sleep_async(seconds: float) -> None:
        call = scope.current()
        if call is None or not _is_in_asyncio():
            await cast("Awaitable[None]", user_sleep(seconds))
        else:
            await scope.sleep(seconds, call)

    if user_sleep not in _DEFAULT_SLEEPS:
        return user_sleep
    return sleep_async if is_async else sleep


def _is_in_asyncio() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:  # trio, whose sleeping tasks are not woken
        return False
