"""The loops that are timed. They are the same for every contender and for the floors."""

from collections.abc import Awaitable, Callable, Coroutine
from itertools import cycle, islice, repeat
from typing import Any

from benchmarks.contenders.base import REGION

MESSAGE = "a message"


def drive(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Run a coroutine that never waits to its end."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("a call waited for something")


def successes(fn: Callable[..., Awaitable[Any]], first: Any = REGION) -> Callable[[int], Any]:
    """Make a loop of calls that go well."""

    async def run(calls: int) -> None:
        for _ in repeat(None, calls):
            await fn(first, MESSAGE)

    return run


def sync_successes(fn: Callable[..., Any], first: Any = REGION) -> Callable[[int], Any]:
    """Make the same of a `def`."""

    def run(calls: int) -> None:
        for _ in repeat(None, calls):
            fn(first, MESSAGE)

    return run


def errors(
    fn: Callable[..., Awaitable[Any]], expected: type[BaseException]
) -> Callable[[int], Any]:
    """Make a loop of calls that raise; another error than the expected one ends the measuring."""

    async def run(calls: int) -> None:
        for _ in repeat(None, calls):
            try:
                await fn(REGION, MESSAGE)
            except expected:
                continue
            raise AssertionError("the call went well")

    return run


def among(fn: Callable[..., Awaitable[Any]], regions: list[str]) -> Callable[[int], Any]:
    """Make a loop of calls that go well, each to the next of many regions."""

    async def run(calls: int) -> None:
        for region in islice(cycle(regions), calls):
            await fn(region, MESSAGE)

    return run
