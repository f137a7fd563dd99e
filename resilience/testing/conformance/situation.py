"""One breaker in one situation: its clock, and a server whose calls can be held."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from resilience.testing.conformance.adapter import RECOVERY, THRESHOLD, BreakerAdapter
from resilience.testing.conformance.clock import ManualClock
from resilience.testing.conformance.errors import REGION, HttpError

#: Makes the error that a call raises.
Error: TypeAlias = Callable[[], Exception]
Send: TypeAlias = Callable[[str, Error | None, asyncio.Event | None], Awaitable[None]]


def down() -> Exception:
    """The server is down."""
    return HttpError(503)


def not_found() -> Exception:
    """The server refuses this request."""
    return HttpError(404)


class Situation:
    """What a scenario works with.

    Args:
        breaker: A fresh breaker.
        clock: The clock under it.
    """

    def __init__(self, breaker: BreakerAdapter, clock: ManualClock) -> None:
        self.breaker = breaker
        self.clock = clock
        self.reached = 0  # calls that reached the server
        self.over = asyncio.Event()  # when set, the calls that are held end
        self.send = breaker.protect(self._server())

    def _server(self) -> Send:
        async def send(region: str, error: Error | None, over: asyncio.Event | None) -> None:
            del region
            self.reached += 1
            if over is not None:
                await over.wait()
            if error is not None:
                raise error()

        return send

    async def call(
        self, error: Error | None = None, over: asyncio.Event | None = None
    ) -> Exception | None:
        """Make one call; return what it raised, if anything."""
        try:
            await self.send(REGION, error, over)
        except Exception as raised:  # noqa: BLE001 - whatever it raises is what is looked at
            return raised
        return None

    def hold(self, error: Error | None = None) -> "asyncio.Task[Exception | None]":
        """Start a call that ends when `over` is set, well or with an error."""
        return asyncio.create_task(self.call(error, self.over))

    async def release(self, *tasks: "asyncio.Task[Exception | None]") -> None:
        """End the calls that are held, and hold later ones again."""
        self.over.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.over = asyncio.Event()

    async def cancel(self, *tasks: "asyncio.Task[Exception | None]") -> None:
        """Cancel calls, and wait until they are gone."""
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def open(self) -> None:
        """Make the failed calls that open the circuit."""
        for _ in range(THRESHOLD):
            await self.call(down)

    async def half_open(self) -> None:
        """Open the circuit, and let the recovery timeout pass."""
        await self.open()
        self.clock.advance(RECOVERY + 1)

    async def admits(self) -> bool:
        """Whether one more call reaches the server. A call that waits for others does not."""
        before = self.reached
        task = asyncio.create_task(self.call())
        await settle()
        await self.cancel(task)
        return self.reached > before

    async def admitted_of(self, number: int) -> int:
        """Make calls at the same time, and count those that reach the server."""
        before = self.reached
        tasks = [self.hold() for _ in range(number)]
        await settle()
        admitted = self.reached - before
        await self.cancel(*tasks)
        return admitted


async def settle() -> None:
    """Let all that was started get as far as it can."""
    for _ in range(50):
        await asyncio.sleep(0)
