"""The kinds of calls that `make bench` times and `make bench-count` counts."""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeAlias, cast

from benchmarks.calls import (
    CREDENTIALS,
    PATH,
    Function,
    HttpError,
    Plain,
    Send,
    Tenant,
    bug,
    down,
    not_found,
    send,
    send_now,
    send_with,
    with_tenacity,
)
from benchmarks.circuits import ending_streaks
from benchmarks.contenders.base import THRESHOLD, Contender
from benchmarks.contenders.ours import RegionBreaker
from benchmarks.loops import (
    Run,
    awaiting,
    by_keyword,
    calling,
    in_turn,
    path_by_keyword,
    raising,
)
from resilience import BreakerPolicy, CircuitBreakerRegistry, region_breaker
from resilience.retry import transient_retry

BARE = "the bare function"
TENACITY = "tenacity alone"
NEVER = 1_000_000  # a threshold that no loop reaches


@dataclass(frozen=True)
class Kind(Generic[Function]):
    """A kind of call.

    Args:
        title: What the call is.
        fn: The function that is protected.
        loop: Makes a loop of calls.
        path: Where the region is in the arguments.
        threshold: The number of failures that open the circuit.
        is_rejected: Whether the circuit is opened first.
        alone: The name of the function without a circuit breaker.
        variants: Other loops of this package: what is different, and what makes the loop.
        retried: The function without its retries, where it has some: other libraries add their own.
    """

    title: str
    fn: Function
    loop: Callable[[Function], Run]
    path: str = "region"
    threshold: int = THRESHOLD
    is_rejected: bool = False
    alone: str = BARE
    variants: Mapping[str, Callable[[], Run]] = field(default_factory=dict)
    retried: Function | None = None

    def unprotected(self) -> Run:
        """Make the loop of the function without a circuit breaker."""
        return self.loop(self.fn)

    def empty(self) -> Run:
        """Make the loop of the function in a wrapper that does nothing."""
        return self.loop(empty_wrapper(self.fn))

    def protected(self, library: type[Contender]) -> Run:
        """Make the loop of the function with a circuit breaker of a library."""
        protected = library(threshold=self.threshold).protect(self.fn, self.path)
        if not self.is_rejected:
            return self.loop(protected)
        fn = cast("Send", protected)
        raising(fn, HttpError)(self.threshold)
        return raising(fn, library.rejection)

    def with_own_retries(self, library: type[Contender]) -> Run | None:
        """Make the loop of the function with the breaker and the retries of a library."""
        if self.retried is None:
            return None
        protected = library(threshold=self.threshold).protect_with_retries(self.retried)
        return None if protected is None else self.loop(protected)


def empty_wrapper(fn: Function) -> Function:
    """Wrap a function without doing anything: no decorator can be cheaper."""
    if not inspect.iscoroutinefunction(fn):

        @functools.wraps(fn)
        def wrapper(*args: object, **kwargs: object) -> object:
            return fn(*args, **kwargs)

        return cast("Function", wrapper)

    send = cast("Send", fn)

    @functools.wraps(fn)
    async def async_wrapper(*args: object, **kwargs: object) -> object:
        return await send(*args, **kwargs)

    return cast("Function", async_wrapper)


def over_transient_retry() -> Run:
    """Make a loop of successes through the retries of this package."""
    return awaiting(RegionBreaker().protect(transient_retry()(send)))


def over_transient_retry_def() -> Run:
    """Make the same loop for a plain function."""
    return calling(RegionBreaker().protect(transient_retry()(send_now)))


def transient_retry_alone() -> Run:
    """Make a loop of successes through the retries of this package without a breaker."""
    return awaiting(transient_retry()(send))


def transient_retry_alone_def() -> Run:
    """Make the same loop for a plain function."""
    return calling(transient_retry()(send_now))


def with_rates() -> Run:
    """Make a loop of successes that are timed and counted in a window."""
    policy = BreakerPolicy(
        failure_rate_threshold=0.5, slow_call_duration=10, slow_call_rate_threshold=0.5
    )
    registry = CircuitBreakerRegistry(policy)
    return awaiting(region_breaker(region_from="region", registry=registry)(send))


AnyKind: TypeAlias = Kind[Send] | Kind[Plain]

#: By the name that the counts have.
KINDS: dict[str, AnyKind] = {
    "success": Kind[Send](
        "A success, `async def`, region from a parameter",
        send,
        awaiting,
        variants={
            "that ends a streak": ending_streaks,
            "with rates and slow calls watched": with_rates,
        },
    ),
    "success, by keyword": Kind[Send](
        "A success, region from an argument that is given by keyword", send, by_keyword
    ),
    "success, dotted path": Kind[Send](
        "A success, region from a dotted path",
        send_with,
        partial(awaiting, argument=CREDENTIALS),
        path=PATH,
    ),
    "success, dotted path, types in turn": Kind[Send](
        "A success, region from a dotted path, through objects of two types in turn",
        send_with,
        partial(in_turn, arguments=(CREDENTIALS, Tenant())),
        path=PATH,
    ),
    "success, dotted path, by keyword": Kind[Send](
        "A success, region from a dotted path, the argument given by keyword",
        send_with,
        path_by_keyword,
        path=PATH,
    ),
    "success, def": Kind[Plain]("A success, `def`", send_now, calling),
    "ignored: status 404": Kind[Send](
        "An error that does not count: status 404",
        not_found,
        partial(raising, expected=HttpError),
    ),
    "ignored: says nothing": Kind[Send](
        "An error that says nothing about the server: a `ValueError`",
        bug,
        partial(raising, expected=ValueError),
    ),
    "failure": Kind[Send](
        "A failure: status 503",
        down,
        partial(raising, expected=HttpError),
        threshold=NEVER,
    ),
    "rejection": Kind[Send](
        "A rejection", down, partial(raising, expected=HttpError), is_rejected=True
    ),
    "success over tenacity": Kind[Send](
        "A success through tenacity, `async def`",
        with_tenacity(send),
        awaiting,
        alone=TENACITY,
        variants={
            "over `transient_retry`": over_transient_retry,
            "`transient_retry` without a breaker": transient_retry_alone,
        },
        retried=send,
    ),
    "success over tenacity, def": Kind[Plain](
        "A success through tenacity, `def`",
        with_tenacity(send_now),
        calling,
        alone=TENACITY,
        variants={
            "over `transient_retry`": over_transient_retry_def,
            "`transient_retry` without a breaker": transient_retry_alone_def,
        },
        retried=send_now,
    ),
}
