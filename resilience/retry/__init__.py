"""tenacity, taught about circuits: retries that stop when the circuit of their call opens.

Inside a protected call no attempt starts unless the circuit is CLOSED, or the call is its probe,
which makes a single one. A loop that sleeps when the circuit opens is woken and ends. Outside of
any protected call everything here is plain tenacity.

It all hangs on tenacity's own hooks, `before`, `after`, `stop` and `sleep`. Of these only `before`
is called for an attempt that goes well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeVar, cast, overload

import tenacity
from tenacity import AsyncRetrying, BaseRetrying, RetryCallState, Retrying
from tenacity.retry import retry_base
from tenacity.stop import stop_base
from tenacity.wait import wait_base, wait_exponential_jitter

from resilience import _validate, classify
from resilience import gate as circuits
from resilience.classify import Outcome
from resilience.errors import CircuitBreakerOpenError
from resilience.guards import check_guardable
from resilience.retry.budget import RetryBudget
from resilience.retry.retry_after import asked_for

if TYPE_CHECKING:
    from tenacity import _RetryDecorated
    from tenacity.wait import WaitBaseT

    from resilience.breaker import CircuitBreaker

__all__ = [
    "RetryBudget", "gate", "is_transient", "stop_unless_closed", "transient_retry",
    "wait_retry_after", "wait_until_ready",
]  # fmt: skip

P = ParamSpec("P")
T = TypeVar("T")
L = TypeVar("L", bound=BaseRetrying)
F = TypeVar("F", bound=Callable[..., Any])

_PASSING = {408, 429}  # the only 4xx that may be gone the next time
_STRATEGIES = {"wait", "retry", "stop", "before", "after", "before_sleep"}
_LAST_ERROR = "resilience_last_error"  # tenacity forgets it before the next attempt
_SLEEPS = Retrying().sleep, AsyncRetrying().sleep  # tenacity's own


# Which error is worth another attempt


class _IsTransient(retry_base):
    """Tell whether an error is worth another attempt (T08); a tenacity condition for `retry`.

    Args:
        what: What tenacity gives to its conditions, or simply an exception.

    Returns:
        True for what `classify_error` calls a failure, and for the statuses 408 and 429. False for
        any other 4xx, a rejection by a circuit, a cancellation, a bug; and for no error.
    """

    def __call__(self, what: RetryCallState | BaseException) -> bool:
        if isinstance(what, RetryCallState):
            outcome = what.outcome
            error = None if outcome is None else outcome.exception()
        else:
            error = what
        if not isinstance(error, Exception):
            return False
        if classify.classify_error(error) is Outcome.FAILURE:
            return True
        return classify.status_of(classify.speaker(error)) in _PASSING


is_transient = _IsTransient()


def _error(state: RetryCallState) -> BaseException | None:
    return None if state.outcome is None else state.outcome.exception()


# How long to wait for the next attempt


class wait_retry_after(wait_base):  # noqa: N801 - tenacity's way to name a wait
    """Wait as long as the server asked for in `Retry-After`, in seconds or by a date (T09).

    Args:
        fallback: The tenacity wait where the server asked for nothing, or for nonsense.
        maximum: Seconds. Where the server asks for more the loop ends at once, with the attempt's
            own error and a note on it that says so.

    Raises:
        TypeError: `fallback` cannot be called, or `maximum` is no number.
        ValueError: `maximum` is not above 0.
    """

    def __init__(self, fallback: WaitBaseT, maximum: float = 60.0) -> None:
        _validate.check_callable("fallback", fallback, "a RetryCallState and returns seconds")
        _validate.check_seconds("maximum", maximum)
        self.fallback, self.maximum = fallback, maximum

    def __call__(self, retry_state: RetryCallState) -> float:  # noqa: D102 - said above
        outcome = retry_state.outcome
        error = _error(retry_state)
        answer = outcome.result() if outcome is not None and error is None else error
        asked = asked_for(classify.speaker(answer))
        if asked is None:
            return self.fallback(retry_state)
        if asked <= self.maximum:
            return asked
        failed: Any = error or retry_state.retry_object.retry_error_cls(outcome)  # type: ignore[arg-type]
        failed.add_note(
            f"gave up: Retry-After asks for {asked:g} s, and at most {self.maximum:g} s are waited"
        )
        raise failed


class wait_until_ready(wait_base):  # noqa: N801 - tenacity's way to name a wait
    """Wait for the next probe after a rejection, for those who would rather wait than fail.

    For a retry outside the breaker. It reserves nothing: of those who wait for one circuit one gets
    through, and the others are rejected again and wait on; ``+ wait_random(0, 1)`` spreads them.

    Args:
        fallback: The tenacity wait after any other error, and while a circuit is forced open.

    Raises:
        TypeError: `fallback` cannot be called.
    """

    def __init__(self, fallback: WaitBaseT) -> None:
        _validate.check_callable("fallback", fallback, "a RetryCallState and returns seconds")
        self.fallback = fallback

    def __call__(self, retry_state: RetryCallState) -> float:  # noqa: D102 - said above
        error = _error(retry_state)
        wait = error.retry_after if isinstance(error, CircuitBreakerOpenError) else None
        return self.fallback(retry_state) if wait is None else wait


# When to stop


class _StopUnlessClosed(stop_base):
    """Stop when a circuit that the call goes through is not CLOSED; a tenacity `stop`.

    A probe so makes a single attempt. On its own, as in ``stop_after_attempt(5) |
    stop_unless_closed``, it is asked after an attempt only: `gate` also ends loops that sleep.
    """

    def __call__(self, retry_state: RetryCallState) -> bool:  # noqa: ARG002 - tenacity gives it
        return circuits.keeps_out(circuits.running.get(), retry=True) is not None


stop_unless_closed = _StopUnlessClosed()


class _Hooks:
    """What a gated loop does around its attempts, besides what its user has it do."""

    def __init__(self, count_per: str = "call", budget: RetryBudget | None = None) -> None:
        self._counts_attempts = count_per == "attempt"
        self._budget = budget
        self.accounts = self._counts_attempts or budget is not None

    def keep_out(self, state: RetryCallState) -> None:
        """Let no attempt start that a circuit keeps out."""
        call = circuits.running.get()
        if call is None:
            return
        breaker = circuits.keeps_out(call, retry=state.attempt_number > 1)
        if breaker is not None:
            raise _rejection(breaker, vars(state).get(_LAST_ERROR))

    def before(self, state: RetryCallState) -> None:
        """Keep out what must not start, and note for the accounts what does."""
        self.keep_out(state)
        permit = circuits.current()
        if permit is None:
            return
        if state.attempt_number > 1:
            permit._attempt_counted = None  # what this attempt fails with is a failure of its own
        elif self._budget is not None:
            self._budget.count_call(permit._breaker)

    def after(self, state: RetryCallState) -> None:
        """Look at a failed attempt, before it is decided whether there is another one."""
        error = _error(state)
        if error is not None and not isinstance(error, Exception):
            raise error  # a cancellation, which no condition of a user's may swallow
        vars(state)[_LAST_ERROR] = error
        permit = circuits.current()
        if not self._counts_attempts or permit is None or error is None:
            return
        if permit._breaker._judge_error(error, permit._on_error)[0] is Outcome.FAILURE:
            permit.attempt_failed(error)

    def stop(self, state: RetryCallState) -> bool:
        """End the loop where its circuit, or the budget, has no room for another attempt."""
        if stop_unless_closed(state):
            return True
        permit = circuits.current()
        if self._budget is None or permit is None:
            return False
        return not self._budget.allows_retry(permit._breaker)


def _rejection(breaker: CircuitBreaker, last: BaseException | None) -> BaseException:
    """Say why a loop makes no further attempt."""
    if last is not None and circuits.keeps_out(circuits.running.get(), retry=False) is None:
        return last  # a probe, whose stop condition was taken away: it has made its one attempt
    now = breaker.snapshot()
    rejection = CircuitBreakerOpenError(now.region, now.state, now.reason, now.retry_after)
    rejection.__cause__ = last
    return rejection


# The gate


def _gated(loop: Any, hooks: _Hooks) -> Any:
    """Copy a loop of tenacity's, and hang our hooks beside its own."""
    if getattr(loop.stop, circuits.MARK, False):
        return loop
    if not isinstance(loop, Retrying | AsyncRetrying):
        raise TypeError(f"gate takes a Retrying or an AsyncRetrying, got a {type(loop).__name__}")
    stop = _either(loop.stop, hooks.stop)
    setattr(stop, circuits.MARK, True)
    return loop.copy(
        before=_with(
            hooks.keep_out, loop.before, hooks.before if hooks.accounts else hooks.keep_out
        ),
        after=_with(hooks.after, loop.after),
        stop=stop,
        sleep=_waking(loop.sleep, loop),
    )


def _with(ours: Any, theirs: Any, last: Any = None) -> Any:
    """Put our hook before the user's own, and another one behind, for what happened meanwhile."""

    def run(state: RetryCallState) -> None:
        ours(state)
        theirs(state)
        if last is not None:
            last(state)

    async def run_async(state: RetryCallState) -> None:
        ours(state)
        await theirs(state)
        if last is not None:
            last(state)

    if theirs in (None, tenacity.before_nothing, tenacity.after_nothing):
        return last or ours
    return run_async if _validate.is_async(theirs) else run


def _either(theirs: Any, ours: Callable[[RetryCallState], bool]) -> Any:
    def stop(state: RetryCallState) -> bool:
        return theirs(state) or ours(state)

    async def stop_async(state: RetryCallState) -> bool:
        return await theirs(state) or ours(state)

    return stop_async if _validate.is_async(theirs) else stop


def _waking(theirs: Any, loop: BaseRetrying) -> Any:
    """Sleep so that an opening circuit wakes the loop; a user's own way to sleep stays as it is."""

    def sleep(seconds: float) -> None:
        permit = circuits.current()
        theirs(seconds) if permit is None else circuits.sleep_in_thread(seconds, permit)

    async def sleep_async(seconds: float) -> None:
        permit = circuits.current()
        if permit is None or not _in_asyncio():
            await theirs(seconds)
        else:
            await circuits.sleep(seconds, permit)

    if theirs not in _SLEEPS:
        return theirs
    return sleep_async if isinstance(loop, AsyncRetrying) else sleep


def _in_asyncio() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:  # trio, whose sleeping tasks are not woken
        return False


@overload
def gate(target: L) -> L: ...
@overload
def gate(target: F) -> F: ...
def gate(target: Any) -> Any:
    """Make tenacity loops of your own stop when the circuit of their call opens.

    Args:
        target: A function with a tenacity decorator, put between that and `@region_breaker`; a
            function that has tenacity loops inside it, which is only marked, so that the loops
            find its circuit; or such a loop itself, an `AsyncRetrying` or a `Retrying`.

    Returns:
        The same kind of thing. Outside a protected call it does what it did before, but that a
        cancellation is never retried.

    Raises:
        TypeError: The target is none of these, or another decorator stands between `gate` and
            tenacity's.
    """
    return _gate(target, _Hooks())


def _gate(target: Any, hooks: _Hooks) -> Any:
    if isinstance(target, BaseRetrying):
        return _gated(target, hooks)
    check_guardable(target, "gate")
    if isinstance(getattr(target, "retry", None), BaseRetrying):
        return _gate_retried(target, hooks)
    try:
        setattr(target, circuits.MARK, True)
    except AttributeError:
        name = _validate.name_of(target)
        raise TypeError(f"gate cannot mark {name}: give it a function of your own") from None
    return target


def _gate_retried(fn: Any, hooks: _Hooks) -> Any:
    inner = fn.__wrapped__
    if isinstance(getattr(inner, "retry", None), BaseRetrying):
        if inner.retry is fn.retry:
            name = _validate.name_of(fn)
            raise TypeError(f"gate goes directly over the retry decorator of {name}, under others")
        inner = _gate(inner, _Hooks())
    made: Any = _gated(fn.retry, hooks).wraps(inner)
    made.retry_with = lambda *args, **kwargs: _gate(fn.retry_with(*args, **kwargs), hooks)
    return made


# The preset


class RetryDecorator(Protocol):
    """What `transient_retry` returns: it keeps the signature and the types of the function."""

    def __call__(self, fn: Callable[P, T], /) -> _RetryDecorated[P, T]: ...


def transient_retry(
    *,
    attempts: int = 5,
    wait: WaitBaseT = wait_retry_after(wait_exponential_jitter(initial=1, max=32)),  # noqa: B008
    retry: Any = is_transient,
    count_per: Literal["call", "attempt"] = "call",
    budget: RetryBudget | None = None,
    **options: Any,
) -> RetryDecorator:
    """Retry what may be gone the next time, until the circuit opens (T08).

    A tenacity decorator for `async def` and `def`, with `gate` built in. Put it under (inside)
    `@region_breaker`.

    Args:
        attempts: How often the function is called at most.
        wait: How long to wait between attempts; a tenacity wait. The default is what the server
            asks for in `Retry-After`, else 1 s, 2 s, 4 s, ... at most 32 s, each plus up to 1 s.
        retry: Which errors are worth another attempt; a tenacity condition.
        count_per: What the circuit counts: "call" is one outcome for each call, however many
            attempts it made (T10); with "attempt" each failed attempt counts, when it happens.
        budget: Bounds the share of retries; None: no bound.
        options: Whatever else tenacity takes; it wins over what is said here. A `sleep` of your
            own is not woken when the circuit opens; no attempt is made after it all the same.

    Returns:
        A decorator. The function has tenacity's `retry`, `retry_with` and `statistics`; it raises
        its last attempt's own error (`reraise=True`), or `CircuitBreakerOpenError` from that error
        where the circuit opened before the next attempt.

    Raises:
        TypeError: An argument has the wrong type, or, when decorating, the function or an option.
        ValueError: `attempts` is below 1, or `count_per` is neither of the two.
    """
    _validate.check_count("attempts", attempts)
    for name, given in {"wait": wait, "retry": retry, **options}.items():
        if name in _STRATEGIES and given not in (None, 0) and not callable(given):
            kind = type(given).__name__
            raise TypeError(f"{name} must be a callable that takes a RetryCallState, got {kind}")
    if count_per not in ("call", "attempt"):
        raise ValueError(f"count_per must be 'call' or 'attempt', got {count_per!r}")
    if budget is not None:
        _validate.check_type("budget", budget, RetryBudget)
    stop = tenacity.stop_after_attempt(attempts)
    settings = {"stop": stop, "wait": wait, "retry": retry, "reraise": True, **options}
    hooks = _Hooks(count_per, budget)

    def decorate(fn: Callable[P, T], /) -> _RetryDecorated[P, T]:
        check_guardable(fn, "@transient_retry")
        retried: Any = tenacity.retry
        return cast("_RetryDecorated[P, T]", _gate_retried(retried(**settings)(fn), hooks))

    return decorate
