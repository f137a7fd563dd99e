"""One library in one situation: its breaker, its clock, and a server whose calls can be held."""

import asyncio
from typing import Any

from benchmarks.clock import Clock
from benchmarks.contenders import Contender
from benchmarks.contenders.base import RECOVERY, REGION, THRESHOLD
from benchmarks.faults import ClientError, ServerError

DOWN = ServerError
NOT_FOUND = ClientError
_STATUS = {ServerError: 503, ClientError: 404}


class Situation:
    """What a scenario works with.

    Args:
        contender: the breaker, fresh.
        clock: the clock that is under it.
    """

    def __init__(self, contender: Contender, clock: Clock) -> None:
        self.contender = contender
        self.clock = clock
        self.reached = 0  # calls that came to the server
        self.over = asyncio.Event()  # set: the calls that are held end
        self.send = contender.protect(self._server())

    def _server(self) -> Any:
        async def send(region: str, error: type[Exception] | None, over: Any) -> None:
            del region
            self.reached += 1
            if over is not None:
                await over.wait()
            if error is not None:
                raise error(_STATUS[error]) if error in _STATUS else error("by order")

        return send

    async def call(self, error: type[Exception] | None = None, over: Any = None) -> Any:
        """Make one call; gives what it raised, if anything."""
        try:
            await self.send(REGION, error, over)
        except Exception as raised:
            return raised
        return None

    def hold(self, error: type[Exception] | None = None) -> "asyncio.Task[Any]":
        """Start a call that ends when `over` is set, well or with an error."""
        return asyncio.create_task(self.call(error, self.over))

    async def release(self, *tasks: "asyncio.Task[Any]") -> None:
        """End the calls that are held, and hold later ones anew."""
        self.over.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.over = asyncio.Event()

    async def cancel(self, *tasks: "asyncio.Task[Any]") -> None:
        """Cancel calls, and wait until they are gone."""
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def open(self) -> Any:
        """Make as many failed calls as open the circuit; gives what the last one raised."""
        raised = None
        for _ in range(THRESHOLD):
            raised = await self.call(DOWN)
        return raised

    async def half_open(self) -> None:
        """Open the circuit, and let the recovery timeout pass."""
        await self.open()
        self.clock.advance(RECOVERY + 1)

    async def admits(self) -> bool:
        """Tell whether one more call comes to the server. One that waits for others does not."""
        before = self.reached
        task = asyncio.create_task(self.call())
        await settle()
        await self.cancel(task)
        return self.reached > before

    async def admitted_of(self, number: int) -> int:
        """Let callers come at once, and count those that come to the server."""
        before = self.reached
        tasks = [self.hold() for _ in range(number)]
        await settle()
        admitted = self.reached - before
        await self.cancel(*tasks)
        return admitted


async def settle() -> None:
    """Let everything that was started get as far as it can."""
    for _ in range(50):
        await asyncio.sleep(0)
