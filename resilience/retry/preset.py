"""transient_retry: a tenacity decorator with settings that suit an API of many regions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeVar, cast

import tenacity
from tenacity.wait import wait_exponential_jitter

from resilience import _validate
from resilience.protectable import check_protectable
from resilience.retry.budget import RetryBudget
from resilience.retry.conditions import is_transient
from resilience.retry.found import make_again
from resilience.retry.hooks import Hooks
from resilience.retry.retry_after import wait_retry_after
from resilience.retry.settings import check_fits, check_settings

if TYPE_CHECKING:
    # tenacity has no other name for what its decorator returns.
    from tenacity import _RetryDecorated  # pyright: ignore[reportPrivateUsage]
    from tenacity.wait import WaitBaseT

P = ParamSpec("P")
T = TypeVar("T")


class RetryDecorator(Protocol):
    """What `transient_retry` returns: it keeps the signature and the types of the function."""

    def __call__(self, fn: Callable[P, T], /) -> _RetryDecorated[P, T]: ...  # noqa: D102 - documented on the class


@_validate.keyword_only("@transient_retry()")
def transient_retry(
    *,
    attempts: int = 5,
    wait: WaitBaseT = wait_retry_after(wait_exponential_jitter(initial=1, max=32)),  # noqa: B008
    retry: Any = is_transient,
    count_per: Literal["call", "attempt"] = "call",
    budget: RetryBudget | None = None,
    **options: Any,
) -> RetryDecorator:
    """Retry what may be gone at the next attempt, until the circuit opens.

    A tenacity decorator for `async def` and `def`, with `gate` built in. Put it under (inside)
    `@region_breaker`.

    Args:
        attempts: How often the function is called at most.
        wait: How long to wait between attempts; a tenacity wait. The default is 1 s, 2 s, 4 s, ...
            at most 32 s, each plus up to 1 s, and never less than the server asks for.
        retry: Which errors are worth another attempt; a tenacity condition.
        count_per: What the circuit counts: "call" is one outcome for each call, however many
            attempts it made; with "attempt" each failed attempt counts, when it happens.
        budget: Bounds the share of retries; None: no bound.
        options: Everything else that tenacity takes; it wins over the arguments above. A `sleep`
            of your own is not woken when the circuit opens; no attempt is made after it all the
            same.

    Returns:
        A decorator. The function has tenacity's `retry`, `retry_with` and `statistics`. It raises
        its last attempt's own error (`reraise=True`), or `CircuitBreakerOpenError` from that error
        where the circuit opened before the next attempt.

    Raises:
        TypeError: An argument has the wrong type, or, when decorating, the function or an option.
        ValueError: `attempts` is below 1, or `count_per` is neither of the two.
    """
    _validate.check_count("attempts", attempts)
    if count_per not in ("call", "attempt"):
        raise ValueError(f"count_per must be 'call' or 'attempt', got {_validate.shown(count_per)}")
    if budget is not None:
        _validate.check_type("budget", budget, RetryBudget)
    stop = tenacity.stop_after_attempt(attempts)
    settings = {"stop": stop, "wait": wait, "retry": retry, "reraise": True, **options}
    check_settings(settings)
    hooks = Hooks(count_per, budget)

    def decorate(fn: Callable[P, T], /) -> _RetryDecorated[P, T]:
        check_protectable(fn, "@transient_retry")
        retried = cast("Any", tenacity.retry)(**settings)(fn)
        check_fits(fn, retried.retry, settings)
        return cast("_RetryDecorated[P, T]", make_again(retried, hooks))

    return decorate
