"""Question (l): where the time of a success goes, one line of the wrapper after the other.

Each rung is the wrapper of the one below with a line more, written as the package writes it. The
last one is the package itself: were it far from the rung under it, this page would be out of date.
"""

import functools
from itertools import pairwise
from typing import Any

from benchmarks import report
from benchmarks.contenders import RegionBreaker
from benchmarks.contenders.base import REGION, Send
from benchmarks.floors import BARE, empty_wrapper, send
from benchmarks.loops import successes
from benchmarks.question import OURS
from benchmarks.rounds import Case, extra, time_cases

ON_RESULT: Any = None
POSITION = 0
Known = dict[str, Any]


def lost(*_: Any) -> Any:
    """Stand where the package would look for a region that it does not know."""
    raise LookupError


def finding(fn: Send, known: Known, find: Any = lost, position: int = POSITION) -> Send:
    """Find the breaker."""

    @functools.wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        if position < len(args):
            try:
                known[args[position]]
            except (KeyError, TypeError):
                find(args, kwargs)
        else:
            find(args, kwargs)
        return await fn(*args, **kwargs)

    return wrapper


def looking(fn: Send, known: Known, find: Any = lost, position: int = POSITION) -> Send:
    """And see whether calls simply pass."""

    @functools.wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        if position < len(args):
            try:
                breaker = known[args[position]]
            except (KeyError, TypeError):
                breaker = find(args, kwargs)
        else:
            breaker = find(args, kwargs)
        passing, permit = breaker._passing, None  # noqa: SLF001 - as it does
        if passing is None or ON_RESULT is not None:
            permit = lost()
        result = await fn(*args, **kwargs)
        if permit is not None:
            lost()
        return result

    return wrapper


def ready(fn: Send, known: Known, find: Any = lost, position: int = POSITION) -> Send:
    """And stand ready for an error."""

    @functools.wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        if position < len(args):
            try:
                breaker = known[args[position]]
            except (KeyError, TypeError):
                breaker = find(args, kwargs)
        else:
            breaker = find(args, kwargs)
        passing, permit = breaker._passing, None  # noqa: SLF001 - as it does
        if passing is None or ON_RESULT is not None:
            permit = lost()
        try:
            result = await fn(*args, **kwargs)
        except BaseException:
            passing.ignored += 1
            raise
        if permit is not None:
            lost()
        return result

    return wrapper


def counting(fn: Send, known: Known, find: Any = lost, position: int = POSITION) -> Send:
    """And count the success, if no streak has to end."""

    @functools.wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        if position < len(args):
            try:
                breaker = known[args[position]]
            except (KeyError, TypeError):
                breaker = find(args, kwargs)
        else:
            breaker = find(args, kwargs)
        passing, permit = breaker._passing, None  # noqa: SLF001 - as it does
        if passing is None or ON_RESULT is not None:
            permit = lost()
        try:
            result = await fn(*args, **kwargs)
        except BaseException:
            passing.ignored += 1
            raise
        if permit is not None:
            lost()
        if passing.streak:
            lost()
        passing.passed += 1
        return result

    return wrapper


async def ladder() -> tuple[str, ...]:
    """Make the table."""
    contender = RegionBreaker()
    protected = contender.protect(send)
    known = {REGION: contender.registry.get(REGION)}
    rungs = {
        BARE: send,
        "a wrapper: one more coroutine, and the arguments twice": empty_wrapper(send),
        "find the region's breaker: an index, a dictionary": finding(send, known),
        "see that its circuit lets calls pass": looking(send, known),
        "stand ready for an error": ready(send, known),
        "see that no streak stands, and count": counting(send, known),
        f"{OURS} itself, which passes keywords on only where there are some": protected,
    }
    cases = [Case(name, successes(fn)) for name, fn in rungs.items()]
    await time_cases(cases)
    rows = [(cases[0].name, f"{cases[0].best:,.0f}", "")]
    for below, case in pairwise(cases):
        rows.append((case.name, f"{case.best:,.0f}", f"{extra(case, below)[0]:+,.0f}"))
    head = ("(l)", "ns per call", "over the line above")
    said = "Each line is the wrapper of the line above with a little more in it."
    return "## (l) Where the time of a success goes", said, report.table(head, rows)
