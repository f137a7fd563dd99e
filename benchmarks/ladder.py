"""Question (l): where the time of a success goes, one line of the wrapper after the other.

Each rung is the wrapper of the one below with a line more, written as the package writes it. The
last one is the package itself: were it far from the rung under it, this page would be out of date.
"""

import functools
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from benchmarks import report
from benchmarks.contenders import RegionBreaker
from benchmarks.contenders.base import REGION, Send
from benchmarks.floors import BARE, empty_wrapper, send
from benchmarks.loops import successes
from benchmarks.question import OURS
from benchmarks.rounds import Case, extra, time_cases

STEPS: list[str] = []
ON_RESULT: Any = None


def make_find(known: dict[str, Any]) -> Callable[[Any, Any], Any]:
    """Find the breaker by a plain parameter."""
    position, name, default = 0, "region", ""

    def find(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        region = args[position] if position < len(args) else kwargs.get(name, default)
        if STEPS:
            raise LookupError
        try:
            return known[region]
        except (KeyError, TypeError):
            raise LookupError from None

    return find


def finding(fn: Send, find: Any) -> Send:
    """Find the breaker."""

    @functools.wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        find(args, kwargs)
        return await fn(*args, **kwargs)

    return wrapper


def looking(fn: Send, find: Any) -> Send:
    """And see whether calls simply pass."""

    @functools.wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        breaker = find(args, kwargs)
        passing = breaker._passing if ON_RESULT is None else None  # noqa: SLF001 - as it does
        if passing is None:
            raise LookupError
        return await fn(*args, **kwargs)

    return wrapper


def ready(fn: Send, find: Any) -> Send:
    """And stand ready for an error."""

    @functools.wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        breaker = find(args, kwargs)
        passing = breaker._passing if ON_RESULT is None else None  # noqa: SLF001 - as it does
        if passing is None:
            raise LookupError
        try:
            result = await fn(*args, **kwargs)
        except BaseException:
            passing.passed -= 1
            raise
        return result

    return wrapper


def counting(fn: Send, find: Any) -> Send:
    """And count the success, if no streak has to end."""

    @functools.wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        breaker = find(args, kwargs)
        passing = breaker._passing if ON_RESULT is None else None  # noqa: SLF001 - as it does
        if passing is None:
            raise LookupError
        try:
            result = await fn(*args, **kwargs)
        except BaseException:
            passing.passed -= 1
            raise
        if passing.streak:
            raise LookupError
        else:  # noqa: RET506 - as it does
            passing.passed += 1
        return result

    return wrapper


async def ladder() -> tuple[str, ...]:
    """Make the table."""
    contender = RegionBreaker()
    protected = contender.protect(send)
    find = make_find({REGION: contender.registry.get(REGION)})
    rungs = {
        BARE: send,
        "a wrapper: one more coroutine, and the arguments twice": empty_wrapper(send),
        "find the region's breaker: a call, an index, a dictionary": finding(send, find),
        "see that its circuit lets calls pass": looking(send, find),
        "stand ready for an error": ready(send, find),
        "see that no streak stands, and count": counting(send, find),
        f"{OURS} itself": protected,
    }
    cases = [Case(name, successes(fn)) for name, fn in rungs.items()]
    await time_cases(cases)
    rows = [(cases[0].name, f"{cases[0].best:,.0f}", "")]
    for below, case in pairwise(cases):
        rows.append((case.name, f"{case.best:,.0f}", f"{extra(case, below)[0]:+,.0f}"))
    head = ("(l)", "ns per call", "over the line above")
    said = "Each line is the wrapper of the line above with a little more in it."
    return "## (l) Where the time of a success goes", said, report.table(head, rows)
