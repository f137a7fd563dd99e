# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "aiobreaker==1.2.0",
#     "circuitbreaker==2.1.3",
#     "hyx==0.0.2",
#     "interlock-cb==2.8.2",
#     "loguru>=0.7.2",
#     "purgatory==3.0.1",
#     "pybreaker==1.4.1",
# ]
# ///
"""What seven Python circuit breakers do in the same situations.

    .venv/bin/python -m uv run docs/compare.py

uv installs the other packages in an environment of their own, away from the project. Each breaker
is set up alike: ten failures open it, and it stays open for a tenth of a second. A breaker is
judged by one thing only: whether the function that it protects has run. So nothing depends on how
fast the machine is, as long as ten calls take less than that tenth of a second.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import aiobreaker
import circuitbreaker
import hyx.circuitbreaker
import interlock
import purgatory
import pybreaker
from loguru import logger

import resilience

FAILURES = 10
RECOVERY = 0.1  # seconds
LATER = 0.3

Work = Callable[[], Awaitable[object]]
Call = Callable[[Work], Awaitable[object]]


class Down(Exception):  # noqa: N818 - a name for the table
    """What the server's fault raises."""


class NotFound(Exception):  # noqa: N818
    """What the caller's fault raises; every breaker is told not to count it."""


# The breakers, each as a function that makes one call


def ours() -> Call:
    def classifier(error: BaseException) -> resilience.Outcome:
        fault = isinstance(error, Down)
        return resilience.Outcome.FAILURE if fault else resilience.Outcome.IGNORED

    policy = resilience.BreakerPolicy(recovery_timeout=RECOVERY)
    return resilience.CircuitBreaker("here", policy, classifier=classifier).call


def use_circuitbreaker() -> Call:
    breaker = circuitbreaker.CircuitBreaker(FAILURES, RECOVERY, Down, name="here")

    async def call(work: Work) -> object:
        async def work_now() -> object:
            return await work()

        return await breaker(work_now)()

    return call


def use_pybreaker() -> Call:
    breaker = pybreaker.CircuitBreaker(FAILURES, RECOVERY, 3, exclude=[NotFound])

    async def call(work: Work) -> object:
        with breaker.calling():  # its decorator and its `call` do not await anything
            return await work()

    return call


def use_aiobreaker() -> Call:
    return aiobreaker.CircuitBreaker(
        FAILURES, timedelta(seconds=RECOVERY), exclude=[NotFound]
    ).call_async


def use_purgatory() -> Call:
    factory = purgatory.AsyncCircuitBreakerFactory(FAILURES, RECOVERY, [NotFound])

    async def call(work: Work) -> object:
        async with await factory.get_breaker("here"):
            return await work()

    return call


def use_hyx() -> Call:
    breaker = hyx.circuitbreaker.consecutive_breaker(Down, FAILURES, RECOVERY, 3)
    return lambda work: breaker(work)()


def use_interlock() -> Call:
    class Classifier:
        def is_failure(self, *, result: object, exception: Exception | None) -> bool:  # noqa: ARG002
            return isinstance(exception, Down)

    config = interlock.Config(
        failure_rate_threshold=1.0,
        minimum_number_of_calls=FAILURES,
        window_size=FAILURES,
        permitted_calls_in_half_open=3,
        wait_duration_in_open=RECOVERY,
    )
    return interlock.CircuitBreaker(name="here", config=config, classifier=Classifier()).call_async


BREAKERS: dict[str, Callable[[], Call]] = {
    "region-breaker": ours,
    "circuitbreaker": use_circuitbreaker,
    "pybreaker": use_pybreaker,
    "aiobreaker": use_aiobreaker,
    "purgatory": use_purgatory,
    "hyx": use_hyx,
    "interlock-cb": use_interlock,
}


# Work, and what comes of it


class Server:
    """Counts the calls that reached it; each ends as it is told, or when `over` is set."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.reached = 0
        self.over = asyncio.Event()

    async def meet(self, error: type[Exception] | None, *, wait: bool = False) -> object:
        """Make one call and hand back what it raised, if anything."""

        over = self.over

        async def work() -> None:
            self.reached += 1
            if wait:
                await over.wait()
            if error is not None:
                raise error

        try:
            return await self.call(work)
        except Exception as raised:  # noqa: BLE001 - it is what the table is about
            return raised

    def start(self) -> "asyncio.Task[object]":
        """Start a call that goes well once `over` is set."""
        return asyncio.create_task(self.meet(None, wait=True))

    async def fail(self, times: int) -> object:
        """Make calls that fail; hands back what the last one raised."""
        raised = None
        for _ in range(times):
            raised = await self.meet(Down)
        return raised

    async def admits(self) -> bool:
        """Tell whether one more call reaches the server."""
        before = self.reached
        await self.meet(None)
        return self.reached > before


async def settle() -> None:
    """Let everything that was started get as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


# The situations


async def decorated(server: Server) -> str:
    """Does it open at all for coroutines?"""
    await server.fail(FAILURES)
    return "no" if await server.admits() else "yes"


async def admitted_of_100(server: Server) -> str:
    """Let 100 callers come at once, and count those that reach the server."""
    before = server.reached
    tasks = [server.start() for _ in range(100)]
    await settle()
    admitted = server.reached - before
    server.over.set()
    await asyncio.gather(*tasks)
    return str(admitted)


async def crowd(server: Server) -> str:
    """100 callers come when the time is over: how many reach the server at once?"""
    await server.fail(FAILURES)
    await asyncio.sleep(LATER)
    return await admitted_of_100(server)


async def hanging_probes(server: Server) -> str:
    """Three probes hang and never end: does a call get through a while later?"""
    await server.fail(FAILURES)
    await asyncio.sleep(LATER)
    tasks = [server.start() for _ in range(3)]
    await settle()
    await asyncio.sleep(LATER)
    admitted = await server.admits()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return "yes" if admitted else "no: stuck"


async def late_success(server: Server) -> str:
    """A call from before the opening succeeds after it: is the circuit still open?"""
    early = server.start()
    await settle()
    await server.fail(FAILURES)
    server.over.set()
    await early
    return "no: closed" if await server.admits() else "yes"


async def late_failure(server: Server) -> str:
    """A call from before the opening fails beside a good probe: does the next one get through?"""
    early = asyncio.create_task(server.meet(Down, wait=True))
    await settle()
    await server.fail(FAILURES)
    await asyncio.sleep(LATER)
    over, server.over = server.over, asyncio.Event()
    probe = server.start()
    await settle()
    over.set()
    await early
    server.over.set()
    await probe
    return "yes" if await server.admits() else "no: open again"


async def cancelled_calls(server: Server) -> str:
    """Ten calls are cancelled by their caller: does the circuit stay closed?"""
    tasks = [server.start() for _ in range(FAILURES)]
    await settle()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return "yes" if await server.admits() else "no: opened"


async def cancelled_probe(server: Server) -> str:
    """The only probe is cancelled: how many of 100 callers reach the server then?"""
    await server.fail(FAILURES)
    await asyncio.sleep(LATER)
    probe = server.start()
    await settle()
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    return await admitted_of_100(server)


async def excluded_between(server: Server) -> str:
    """Nine failures, one error that does not count, one failure: is the circuit open?"""
    await server.fail(FAILURES - 1)
    await server.meet(NotFound)
    await server.fail(1)
    return "no" if await server.admits() else "yes"


async def tripping_call(server: Server) -> str:
    """What does the call raise that opens the circuit?"""
    raised = await server.fail(FAILURES)
    return "its own error" if type(raised) is Down else "the breaker's"


SITUATIONS = {
    "opens after 10 failed coroutines": decorated,
    "callers let through at once when the time is over": crowd,
    "lets a call through after probes that hang": hanging_probes,
    "still open after a late success": late_success,
    "lets a call through after a good probe and a late failure": late_failure,
    "still closed after 10 cancelled calls": cancelled_calls,
    "callers let through after a cancelled probe": cancelled_probe,
    "opens after 9 failures, 1 excluded error, 1 failure": excluded_between,
    "what the call raises that opens it": tripping_call,
}


async def main() -> None:
    """Print the table, as Markdown."""
    logger.remove()
    names = [f"{name} {_version(name)}" for name in BREAKERS]
    print(f"| | {' | '.join(names)} |")  # noqa: T201
    print("|---" * (len(BREAKERS) + 1) + "|")  # noqa: T201
    for title, situation in SITUATIONS.items():
        cells = [await situation(Server(make())) for make in BREAKERS.values()]
        print(f"| {title} | {' | '.join(cells)} |")  # noqa: T201


def _version(name: str) -> str:
    return resilience.__version__ if name == "region-breaker" else version(name)


if __name__ == "__main__":
    asyncio.run(main())
