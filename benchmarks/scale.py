"""Question (h): many regions, many tasks, several threads."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from benchmarks import report
from benchmarks.contenders import RegionBreaker
from benchmarks.contenders.base import REGION, Send, SendNow
from benchmarks.contenders.use_circuitbreaker import Circuitbreaker
from benchmarks.contenders.use_interlock import Interlock
from benchmarks.contenders.use_purgatory import Purgatory
from benchmarks.floors import BARE, EMPTY, empty_sync_wrapper, empty_wrapper, send, send_now
from benchmarks.loops import MESSAGE, among, sync_successes
from benchmarks.question import OURS
from benchmarks.rounds import Case, extra, time_cases
from resilience import CircuitBreakerRegistry, region_breaker

REGIONS = (1, 100, 1_000, 10_000)
TASKS = 10_000
THREADS = 8
CALLS = 10_000


def keyed(count: int) -> dict[str, Send]:
    """Make a function for each library that finds the circuit of a call's region by itself."""
    registry = CircuitBreakerRegistry(max_regions=max(REGIONS))
    factory = Purgatory().factory
    interlocked = Interlock().registry
    hand_made = {name: Circuitbreaker().another(name)(send) for name in region_names(count)}

    async def with_purgatory(region: str, message: str) -> str:
        async with await factory.get_breaker(region):
            return await send(region, message)

    async def with_interlock(region: str, message: str) -> Any:
        return await interlocked.get(region).call_async(send, region, message)

    async def with_dict(region: str, message: str) -> Any:
        return await hand_made[region](region, message)

    return {
        BARE: send,
        OURS: region_breaker(region_from="region", registry=registry)(send),
        f"{Circuitbreaker.title()}, decorated functions in a dict": with_dict,
        f"{Purgatory.title()}, its factory": with_purgatory,
        f"{Interlock.title()}, its registry": with_interlock,
    }


def region_names(count: int) -> list[str]:
    """Name so many regions."""
    return [f"region-{number}" for number in range(count)]


async def regions() -> tuple[str, ...]:
    """Does the number of regions matter?"""
    cases: dict[tuple[str, int], Case] = {}
    for count in REGIONS:
        for name, fn in keyed(count).items():
            run = among(fn, region_names(count))
            cases[name, count] = Case(f"{name}, {count}", run, calls=CALLS)
    await time_cases(list(cases.values()))
    rows = []
    for name in dict.fromkeys(name for name, _ in cases):
        best = [cases[name, count].best for count in REGIONS]
        growth = [f"{one:,.0f} ({one / best[0]:.2f})" for one in best]
        rows.append((f"**{name}**" if name == OURS else name, *growth))
    head = ("ns per call, least", "1 region", *(f"{count:,} regions" for count in REGIONS[1:]))
    said = "Each call goes to the next region. In brackets: how often the time with one region."
    return "## (h) Many regions", said, report.table(head, rows)


async def tasks() -> tuple[str, ...]:
    """Does the number of tasks matter?"""

    async def answer(region: str, message: str) -> str:
        await asyncio.sleep(0)
        return await send(region, message)

    fns = {
        BARE: answer,
        EMPTY: empty_wrapper(answer),
        OURS: RegionBreaker().protect(answer),
        Circuitbreaker.title(): Circuitbreaker().protect(answer),
    }
    cases = {
        (name, count): Case(name, _in_tasks(fn, count), calls=TASKS)
        for name, fn in fns.items()
        for count in (1, TASKS)
    }
    await time_cases(list(cases.values()))
    rows = _beside_bare(cases, (1, TASKS))
    head = ("extra ns, least (median)", "1 task", f"{TASKS:,} tasks at a time")
    said = (
        f"{TASKS:,} calls, one after the other or all at once; each waits for one turn of the "
        "event loop. The base is the same without a breaker."
    )
    return "## (h) Many tasks", said, report.table(head, rows)


def _in_tasks(fn: Send, count: int) -> Callable[[int], Any]:
    async def some(calls: int) -> None:
        for _ in range(calls):
            await fn(REGION, MESSAGE)

    async def run(calls: int) -> None:
        await asyncio.gather(*(some(calls // count) for _ in range(count)))

    return run


async def threads() -> tuple[str, ...]:
    """Do threads cost anything, and are all their calls counted?"""
    ours = RegionBreaker()
    fns = {
        BARE: send_now,
        EMPTY: empty_sync_wrapper(send_now),
        OURS: ours.protect_sync(send_now),
        Circuitbreaker.title(): Circuitbreaker().protect_sync(send_now),
    }
    made = 0

    def counted(run: Callable[[int], Any]) -> Callable[[int], Any]:
        def counting(calls: int) -> None:
            nonlocal made
            made += calls
            run(calls)

        return counting

    cases = {}
    for name, fn in fns.items():
        for count in (1, THREADS):
            run = _in_threads(fn, count)
            cases[name, count] = Case(
                name, counted(run) if name == OURS else run, calls=THREADS * CALLS
            )
    await time_cases(list(cases.values()))
    head = ("extra ns, least (median)", "1 thread", f"{THREADS} threads at a time")
    seen = ours.registry.get(REGION).snapshot().successes
    said = f"{OURS} counted {seen:,} of {made:,} successes."
    table = report.table(head, _beside_bare(cases, (1, THREADS)))
    return "## (h) Threads, `def`", table, said


def _in_threads(fn: SendNow, count: int) -> Callable[[int], Any]:
    def run(calls: int) -> None:
        work = sync_successes(fn)
        workers = [threading.Thread(target=work, args=(calls // count,)) for _ in range(count)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return run


def _beside_bare(
    cases: dict[tuple[str, int], Case], counts: tuple[int, ...]
) -> list[tuple[str, ...]]:
    rows = []
    for name in dict.fromkeys(name for name, _ in cases if name != BARE):
        figures = [extra(cases[name, count], cases[BARE, count]) for count in counts]
        cells = [f"{least:,.0f} ({median:,.0f})" for least, median in figures]
        rows.append((f"**{name}**" if name == OURS else name, *cells))
    return rows
