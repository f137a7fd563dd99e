"""Worker: one of the loops that a consumer consists of, with its tasks, and how it ends."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from contextlib import suppress

from resilience.integrations.metrics import QueueStats

# Seconds that a cancelled handler has to end.
_CANCEL_TIMEOUT = 2.0


class Worker(ABC):
    """A loop over one queue, and the tasks that it starts.

    Args:
        region: The region, for the log; empty if the queue has messages of several regions.
        stop_timeout: Seconds that running calls have to end when the worker stops.
    """

    def __init__(self, region: str, stop_timeout: float) -> None:
        self.region = region
        #: The tasks that are running.
        self.running: set[asyncio.Task[None]] = set()
        #: Set when the loop has something to do.
        self.awake = asyncio.Event()
        self._stop = asyncio.Event()
        self._stop_timeout = stop_timeout
        self._deadline: float | None = None
        self._fault: BaseException | None = None

    @abstractmethod
    def attach(self) -> None:
        """Begin to follow the circuits of the worker's regions."""

    @abstractmethod
    def stats(self) -> QueueStats:
        """Return the figures of the queue; any thread may call this."""

    @abstractmethod
    async def run(self) -> None:
        """Run the loop until `stop` is called, and leave nothing behind."""

    # Stopping

    def stop(self) -> None:
        """Ask the worker to end: no call starts from now on."""
        self._stop.set()
        self._deadline = self.now() + self._stop_timeout
        self.wake()

    def cancel_running(self) -> None:
        """Cancel the tasks that are still running."""
        self._deadline = self.now()
        for task in self.running:
            task.cancel()

    @property
    def stopping(self) -> bool:
        """Whether no more calls may start."""
        return self._stop.is_set()

    async def end_tasks(self) -> None:
        """Wait for the running tasks until the deadline, then cancel them."""
        self._stop.set()
        deadline = self.now() + self._stop_timeout if self._deadline is None else self._deadline
        await self._wait_for_tasks(max(0.0, deadline - self.now()))
        for task in self.running:
            task.cancel()
        await self._wait_for_tasks(_CANCEL_TIMEOUT)

    async def _wait_for_tasks(self, timeout: float) -> None:
        if self.running:
            await asyncio.wait(self.running, timeout=timeout)

    # Time

    def now(self) -> float:
        """Return the event loop's time, in seconds."""
        return asyncio.get_running_loop().time()

    def wake(self) -> None:
        """Make the loop look for something to do."""
        self.awake.set()

    async def sleep(self, seconds: float | None) -> None:
        """Put the loop to sleep until it is woken; raise the error of a task that has failed.

        Args:
            seconds: The longest sleep. None sleeps until the loop is woken.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.awake.wait()
        if self._fault is not None:
            raise self._fault

    async def pause(self, seconds: float) -> None:
        """Pause a task; a pause ends early when the worker stops."""
        stopped = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait([stopped], timeout=seconds)
        stopped.cancel()

    # Tasks

    def run_task(self, coroutine: Coroutine[object, object, None]) -> None:
        """Run a coroutine in a task of its own; the loop is woken if it has failed."""
        task = asyncio.create_task(coroutine)
        self.running.add(task)
        task.add_done_callback(self._on_task_end)

    def _on_task_end(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._fault = task.exception()
            self.wake()
