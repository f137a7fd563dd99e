"""Part: one of the loops that a consumer is made of, with its tasks, and how it ends."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

# So long a handler that was cancelled may take to end.
_LAST_WORD = 2.0


class Part(ABC):
    """A loop and the tasks that it starts.

    Args:
        region: What it is for, in the log.
        stop_timeout: Seconds that its running calls have to end when it stops.
    """

    def __init__(self, region: str, stop_timeout: float) -> None:
        self.region = region
        self._stop = asyncio.Event()
        self.running: set[asyncio.Task[None]] = set()
        self.awake = asyncio.Event()
        self._stop_timeout = stop_timeout
        self._deadline: float | None = None
        self._fault: BaseException | None = None

    @abstractmethod
    def join(self) -> None:
        """Begin to follow the circuits that it has to do with."""

    @abstractmethod
    async def work_until_stopped(self) -> None:
        """Run the loop, and leave nothing behind when it ends."""

    def stop(self) -> None:
        """Ask it to end: no call starts from now on."""
        self._stop.set()
        self._deadline = self.now() + self._stop_timeout
        self.wake()

    def hurry(self) -> None:
        """Cancel the calls that are still running."""
        self._deadline = self.now()
        for task in self.running:
            task.cancel()

    @property
    def stopping(self) -> bool:
        """Whether no call may start any more."""
        return self._stop.is_set()

    def wake(self) -> None:
        """Let the loop look what is to be done."""
        self.awake.set()

    def now(self) -> float:
        """Give the loop's time, in seconds."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float | None) -> None:
        """Sleep until woken; raises what a task has failed with."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.awake.wait()
        if self._fault is not None:
            raise self._fault

    async def pause(self, seconds: float) -> None:
        """Let time pass, in a task, but not when it is to stop."""
        stopped = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait([stopped], timeout=seconds)
        stopped.cancel()

    def run_task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run something beside the loop."""
        task = asyncio.create_task(coroutine)
        self.running.add(task)
        task.add_done_callback(self._on_end)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._fault = task.exception()
        self.wake()

    async def end_tasks(self) -> None:
        """Wait for what runs until the deadline, then cancel it."""
        self._stop.set()
        deadline = self.now() + self._stop_timeout if self._deadline is None else self._deadline
        await self._wait(max(0.0, deadline - self.now()))
        for task in self.running:
            task.cancel()
        await self._wait(_LAST_WORD)

    async def _wait(self, seconds: float) -> None:
        if self.running:
            await asyncio.wait(self.running, timeout=seconds)
