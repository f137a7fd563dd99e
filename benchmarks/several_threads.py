"""The scenarios of the scoreboard that need threads, or event loops of their own."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from benchmarks.clock import Clock, TimelessLoop
from benchmarks.contenders import Contender
from benchmarks.contenders.base import RECOVERY, REGION, THRESHOLD
from benchmarks.faults import ServerError

THREADS = 8
PATIENCE = 2.0  # seconds; only those who wait for a lock make anybody wait that long


class Counter:
    """A server for threads: each call stays until it is told to go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.inside = 0
        self.outside = 0  # callers that came back
        self.changed = threading.Condition()

    def serve(self, region: str) -> str:
        """Count a call, and hold it."""
        with self.changed:
            self.inside += 1
            self.changed.notify_all()
        self.go.wait()
        return region

    def call(self, fn: Callable[[str], Any]) -> None:
        """Make a call, and count its return."""
        with suppress(Exception):  # a rejection: the caller comes back
            fn(REGION)
        with self.changed:
            self.outside += 1
            self.changed.notify_all()

    def at_once(self, fn: Callable[[str], Any]) -> tuple[int, int]:
        """Let all threads call; gives how many were inside at once, and how many came back."""
        threads = [threading.Thread(target=self.call, args=(fn,)) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + PATIENCE
        with self.changed:
            while self.inside + self.outside < THREADS and time.monotonic() < deadline:
                self.changed.wait(0.1)
            seen = self.inside, self.outside
        self.go.set()
        for thread in threads:
            thread.join()
        return seen


def threads_in_closed(contender: Contender, _clock: Clock) -> str:
    """8 threads call while it is CLOSED: how many are inside at once."""
    counter = Counter()

    def serve(region: str) -> str:
        return counter.serve(region)

    inside, _back = counter.at_once(contender.protect_sync(serve))
    return str(inside) if inside == THREADS else f"{inside}, the others wait for it"


def threads_at_half_open(contender: Contender, clock: Clock) -> str:
    """8 threads at the half-open instant: how many come to the server at once."""
    counter = Counter()

    def serve(region: str, *, down: bool = False) -> str:
        if down:
            raise ServerError(503)
        return counter.serve(region)

    protected: Any = contender.protect_sync(serve)
    for _ in range(THRESHOLD):
        with suppress(Exception):
            protected(REGION, down=True)
    clock.advance(RECOVERY + 1)
    inside, outside = counter.at_once(protected)
    return str(inside) if inside + outside == THREADS else f"{inside}, the others wait for it"


def two_loops(contender: Contender, _clock: Clock) -> str:
    """Five failures in one event loop and five in another: does it open."""

    async def fail(region: str) -> None:
        del region
        raise ServerError(503)

    protected = contender.protect(fail)

    async def some() -> None:
        for _ in range(THRESHOLD // 2):
            with suppress(Exception):
                await protected(REGION)

    for _ in range(2):
        with asyncio.Runner(loop_factory=TimelessLoop) as runner:
            runner.run(some())
    return "yes" if contender.is_open() else "no"
