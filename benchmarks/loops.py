"""The loops of calls that are timed or counted.

They await each call by hand: no event loop is part of what is measured.
"""

from collections.abc import Callable, Coroutine, Sequence
from itertools import cycle, islice, repeat
from typing import TypeAlias

from benchmarks.calls import CREDENTIALS, REGION, Plain, Send

#: Makes this many calls.
Run: TypeAlias = Callable[[int], None]


def drive(coroutine: Coroutine[object, object, None]) -> None:
    """Run a coroutine that never waits to its end."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("a call waited for something")


def awaiting(fn: Send, argument: object = REGION) -> Run:
    """Make a loop that awaits calls which succeed."""

    async def run(calls: int) -> None:
        for _ in repeat(None, calls):
            await fn(argument)

    return lambda calls: drive(run(calls))


def by_keyword(fn: Send) -> Run:
    """Make the same loop with the argument given by its name."""

    async def run(calls: int) -> None:
        for _ in repeat(None, calls):
            await fn(region=REGION)

    return lambda calls: drive(run(calls))


def path_by_keyword(fn: Send) -> Run:
    """Make the same loop for the function that takes credentials."""

    async def run(calls: int) -> None:
        for _ in repeat(None, calls):
            await fn(credentials=CREDENTIALS)

    return lambda calls: drive(run(calls))


def in_turn(fn: Send, arguments: Sequence[object]) -> Run:
    """Make a loop whose calls take the arguments in turn."""

    async def run(calls: int) -> None:
        for argument in islice(cycle(arguments), calls):
            await fn(argument)

    return lambda calls: drive(run(calls))


def calling(fn: Plain) -> Run:
    """Make a loop of plain calls which succeed."""

    def run(calls: int) -> None:
        for _ in repeat(None, calls):
            fn(REGION)

    return run


def raising(fn: Send, expected: type[BaseException] = Exception) -> Run:
    """Make a loop of calls which raise; any error but the expected one ends the measurement."""

    async def run(calls: int) -> None:
        for _ in repeat(None, calls):
            try:
                await fn(REGION)
            except expected:
                continue
            raise AssertionError("the call succeeded")

    return lambda calls: drive(run(calls))
