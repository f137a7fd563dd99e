"""The hot paths of this package, each as a loop; `make bench-count` runs them under valgrind.

Needs nothing but the package and tenacity, so that the project's own environment can run it. Each
path is run with so many calls and then with twice as many: what one call takes is in the
difference, and what surrounds the loop is not.

    python -m benchmarks.paths CALLS
"""

import gc
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from itertools import repeat
from types import SimpleNamespace
from typing import Any, TypeAlias

from loguru import logger
from tenacity import retry, stop_after_attempt, wait_exponential

from resilience import BreakerPolicy, CircuitBreaker, CircuitBreakerRegistry, region_breaker
from resilience.retry import transient_retry
from resilience.shared_circuit import Fleet, SharedCircuit

REGION = "eu-west-1"
CREDENTIALS = SimpleNamespace(region=REGION)
WARM_UP = 150  # the 100th unknown error in a row writes a warning, which is no hot path

Run: TypeAlias = Callable[[int], None]


class Status(Exception):  # noqa: N818 - what an HTTP client raises, as small as can be
    """An answer with an error status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


async def send(region: str) -> str:
    """Go well at once."""
    return region


def send_now(region: str) -> str:
    """The same without a coroutine."""
    return region


async def send_with(credentials: Any) -> str:
    """Go well, with the region inside the credentials."""
    del credentials
    return "sent"


async def down(region: str) -> str:
    """Fail."""
    del region
    raise Status(503)


async def not_found(region: str) -> str:
    """Raise what does not count."""
    del region
    raise Status(404)


async def bug(region: str) -> str:
    """Raise what says nothing about the region."""
    raise ValueError(region)


def through(fn: Callable[..., Awaitable[Any]], argument: Any = REGION) -> Run:
    """Make a loop that awaits, driven by hand: no event loop is part of what is counted."""

    async def calls_in_turn(calls: int) -> None:
        for _ in repeat(None, calls):
            await fn(argument)

    return lambda calls: drive(calls_in_turn(calls))


def failing(fn: Callable[..., Awaitable[Any]]) -> Run:
    """Make the same of calls that raise."""

    async def calls_in_turn(calls: int) -> None:
        for _ in repeat(None, calls):
            try:
                await fn(REGION)
            except Exception:  # noqa: S112 - it is what is counted
                continue

    return lambda calls: drive(calls_in_turn(calls))


def drive(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never waits to its end."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("a call waited for something")


def at_once(fn: Callable[..., Any]) -> Run:
    """Make a loop of plain calls."""

    def run(calls: int) -> None:
        for _ in repeat(None, calls):
            fn(REGION)

    return run


def protected(fn: Any, region_from: str = "region", **policy: Any) -> Any:
    """Protect a function with a circuit of its own."""
    registry = CircuitBreakerRegistry(BreakerPolicy(**policy))
    return region_breaker(region_from=region_from, registry=registry)(fn)


def with_tenacity(fn: Any) -> Any:
    """Decorate with plain retries."""
    return retry(stop=stop_after_attempt(5), wait=wait_exponential(max=32), reraise=True)(fn)


def in_a_streak() -> Run:
    """Make a loop of successes that each end a streak."""
    registry = CircuitBreakerRegistry()
    fn: Any = region_breaker(region_from="region", registry=registry)(send)
    state: Any = registry.get(REGION)._circuit.state  # noqa: SLF001 - a failure would drown it

    async def calls_in_turn(calls: int) -> None:
        for _ in repeat(None, calls):
            state.streak = 1
            await fn(REGION)

    return lambda calls: drive(calls_in_turn(calls))


def rejected(protect: Callable[[Any], Any]) -> Run:
    """Make a loop of rejections."""
    fn = protect(down)
    failing(fn)(10)
    return failing(fn)


def listened() -> Run:
    """Make a loop of successes of which a listener would be told, were there anything to tell."""
    registry = CircuitBreakerRegistry()
    registry.listen(print)
    return through(region_breaker(region_from="region", registry=registry)(send))


class NoStore:
    """Shares circuits with nobody: what the store does happens beside the calls in any case."""

    def join(self, breaker: CircuitBreaker) -> None:
        """Give a breaker the circuit that shared ones have."""
        state = breaker._circuit.state  # noqa: SLF001 - as RedisSharing does it
        breaker._circuit = SharedCircuit(  # noqa: SLF001
            breaker.policy, state, fleet=Fleet(lease=5.0), ring=bool, shared=True
        )

    def close(self) -> None:
        """Do nothing."""


def shared(fn: Any) -> Any:
    """Protect a function with a circuit that is shared with other processes."""
    registry = CircuitBreakerRegistry(sharing=NoStore())
    return region_breaker(region_from="region", registry=registry)(fn)


PATHS: dict[str, Callable[[], Run]] = {
    "bare function": lambda: through(send),
    "bare function, def": lambda: at_once(send_now),
    "success": lambda: through(protected(send)),
    "success, dotted path": lambda: through(
        protected(send_with, "credentials.region"), CREDENTIALS
    ),
    "success, def": lambda: at_once(protected(send_now)),
    "success that ends a streak": in_a_streak,
    "success with a listener": listened,
    "success, shared": lambda: through(shared(send)),
    "failure": lambda: failing(protected(down, failure_threshold=1_000_000)),
    "ignored: status 404": lambda: failing(protected(not_found)),
    "ignored: says nothing": lambda: failing(protected(bug)),
    "rejection": lambda: rejected(protected),
    "rejection, shared": lambda: rejected(shared),
    "tenacity alone": lambda: through(with_tenacity(send)),
    "success over tenacity": lambda: through(protected(with_tenacity(send))),
    "success over transient_retry": lambda: through(protected(transient_retry()(send))),
    "tenacity alone, def": lambda: at_once(with_tenacity(send_now)),
    "success over tenacity, def": lambda: at_once(protected(with_tenacity(send_now))),
    "success over transient_retry, def": lambda: at_once(protected(transient_retry()(send_now))),
}


def main(calls: int) -> None:
    """Run every path, once with so many calls and once with twice as many."""
    logger.remove()
    gc.disable()  # when it would run depends on what was allocated before
    mark = os.getppid  # valgrind is told to write down and clear its count whenever this is called
    for make in PATHS.values():
        run = make()
        run(WARM_UP)
        mark()
        run(calls)
        mark()
        run(2 * calls)
        mark()


if __name__ == "__main__":
    main(int(sys.argv[1]))
