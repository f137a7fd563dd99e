"""GatedLoop: a tenacity loop, with the hooks of the gate added to what its user has set.

The loop itself stays as it is: each call runs a copy of it, as in tenacity, and only the copy has
the hooks. What a user sets on the loop, before or after decorating, is therefore always in force.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias, TypedDict, cast

import tenacity
from tenacity import AsyncRetrying, BaseRetrying, RetryCallState, Retrying

from resilience import _validate, scope
from resilience.retry.hooks import Hooks

Hook: TypeAlias = Callable[[RetryCallState], Any]
Sleep: TypeAlias = Callable[[float], Any]
Statistics: TypeAlias = dict[str, Any]

_STORAGE = "_local"
_DEFAULT_SLEEPS = Retrying().sleep, AsyncRetrying().sleep
_NO_HOOKS = None, tenacity.before_nothing, tenacity.after_nothing

# The delay since the first attempt is what a loop changes first in its statistics, before each
# retry. As long as it is this very object, they show a success at the first attempt.
DELAY, NOT_FAILED = "delay_since_first_attempt", 0
_STATISTICS = {"start_time", "attempt_number", "idle_for", DELAY}

# The attribute by which the stop condition of a loop that is gated already is recognised.
_IS_GATED = "__resilience_gated__"


class Added(TypedDict, total=False):
    """The settings of a loop with the hooks of the gate in them."""

    before: Hook
    after: Hook
    retry: Hook
    stop: Hook
    sleep: Sleep


class HoldsStatistics(Protocol):
    """The thread-local storage of a tenacity loop."""

    statistics: Statistics


def storage_of(loop: BaseRetrying) -> HoldsStatistics:
    """Return where a loop keeps its statistics.

    tenacity's own decorator sets them there, so that `fn.statistics` is that of the running copy.
    tenacity offers no public way to them.
    """
    # Not by `vars`: reading the attributes of the loop would take three times as long from then on.
    return cast("HoldsStatistics", getattr(loop, _STORAGE))


def is_gated(loop: BaseRetrying) -> bool:
    """Whether a loop itself has the hooks of the gate."""
    return hasattr(loop.stop, _IS_GATED)


def hooks_added(loop: BaseRetrying, hooks: Hooks) -> Added:
    """Return the settings that make a loop gated.

    Args:
        loop: A `Retrying` or an `AsyncRetrying`.
        hooks: What the loop does around its attempts.

    Returns:
        Nothing where it is gated already.

    Raises:
        TypeError: The loop is of another kind.
    """
    if is_gated(loop):
        return {}
    if not isinstance(loop, Retrying | AsyncRetrying):
        raise TypeError(f"gate takes a Retrying or an AsyncRetrying, got {type(loop).__name__}")
    last = hooks.count_attempt if hooks.counts else hooks.start_attempt
    stop = _stop_if_either(loop.stop, hooks.stop)
    setattr(stop, _IS_GATED, True)
    condition = loop.retry
    return {
        "retry": _before_the_end(condition, hooks.accepted) if hooks.has_budget else condition,
        "before": _around(hooks.check_circuits, loop.before, last),
        "after": _around(hooks.after, loop.after),
        "stop": stop,
        "sleep": _woken_by_circuits(loop.sleep, hooks, is_async=isinstance(loop, AsyncRetrying)),
    }


def renew(statistics: Statistics) -> None:
    """Set statistics as tenacity does at the start of a call; the caller adds the time.

    They are not cleared for that: a loop in another thread may be adding to them.

    Args:
        statistics: Those of a function.
    """
    for name in set(statistics) - _STATISTICS:  # what hooks of the user's have added
        statistics.pop(name, None)
    statistics.setdefault("start_time", 0.0)  # for the order of the keys
    statistics["attempt_number"] = 1
    statistics["idle_for"] = 0
    statistics[DELAY] = NOT_FAILED


class LoopStatistics(dict[str, Any]):
    """The statistics of one running loop, which it also writes to those that its function shows.

    A loop of tenacity counts in the ones of its function. Another call that begins may clear these,
    and a loop in another thread that counts at that moment fails with a KeyError.

    Args:
        shown: What the function shows: the loop that wrote last.
    """

    def __init__(self, shown: Statistics) -> None:
        super().__init__({"attempt_number": 1, "idle_for": 0, DELAY: NOT_FAILED})
        self._shown = shown

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self._shown[name] = value


class GatedLoop:
    """Makes the copies of a loop that its calls run.

    Args:
        loop: A `Retrying` or an `AsyncRetrying`.
        hooks: What the loop does around its attempts.

    Raises:
        TypeError: The loop is of another kind.
    """

    def __init__(self, loop: BaseRetrying, hooks: Hooks) -> None:
        self.loop = loop
        self.hooks = hooks
        self._added = self._add_hooks()

    def copy(self, statistics: Statistics) -> Any:
        """Return a gated copy of the loop as it is set now.

        Args:
            statistics: Those that its function shows.
        """
        loop = self.loop
        condition, before, after, stop, sleep, added = self._added
        if (
            loop.retry is not condition
            or loop.before is not before
            or loop.after is not after
            or loop.stop is not stop
            or loop.sleep is not sleep
        ):
            added = self._set_again()
        copy = loop.copy(**added)
        storage_of(copy).statistics = LoopStatistics(statistics)
        storage_of(loop).statistics = statistics
        return copy

    def _set_again(self) -> Added:
        self._added = self._add_hooks()
        return self._added[-1]

    def _add_hooks(self) -> tuple[Hook, Hook, Hook, Hook, Sleep, Added]:
        loop = self.loop
        added = hooks_added(loop, self.hooks)
        return loop.retry, loop.before, loop.after, loop.stop, loop.sleep, added


def _around(first: Hook, user_hook: Hook | None, last: Hook | None = None) -> Hook:
    """Run a hook before the user's own, and maybe another after it, for what happened meanwhile.

    Where the user has set none, one of them is enough: the later one.
    """
    if user_hook is None or _is_one_of(user_hook, _NO_HOOKS):
        return first if last is None else last
    own_hook = user_hook

    def run(state: RetryCallState) -> None:
        first(state)
        own_hook(state)
        if last is not None:
            last(state)

    async def run_async(state: RetryCallState) -> None:
        first(state)
        await own_hook(state)
        if last is not None:
            last(state)

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


def _woken_by_circuits(user_sleep: Sleep, hooks: Hooks, *, is_async: bool) -> Sleep:
    """Sleep so that an opening circuit wakes the loop; a user's own sleep stays as it is."""

    def sleep(seconds: float) -> None:
        call = hooks.enclosing_call()
        if call is None:
            user_sleep(seconds)
        else:
            scope.sleep_in_thread(seconds, call)

    async def sleep_async(seconds: float) -> None:
        call = hooks.enclosing_call()
        if call is None or not _is_in_asyncio():
            await cast("Awaitable[None]", user_sleep(seconds))
        else:
            await scope.sleep(seconds, call)

    if not _is_one_of(user_sleep, _DEFAULT_SLEEPS):
        return user_sleep
    return sleep_async if is_async else sleep


def _is_one_of(setting: object, others: tuple[object, ...]) -> bool:
    """Return whether a setting is one of others itself: it may be equal to anything."""
    return any(setting is one for one in others)


def _is_in_asyncio() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:  # trio, whose sleeping tasks are not woken
        return False
