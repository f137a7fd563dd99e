"""Worker: one of the loops that a consumer consists of, with its tasks, and how it ends."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress

from aio_pika.abc import AbstractIncomingMessage

from resilience import log
from resilience.integrations.metrics import QueueStats
from resilience.integrations.rabbitmq.amqp import cancellation_requested, return_to_queue
from resilience.integrations.rabbitmq.stop_schedule import StopSchedule, complete_by
from resilience.integrations.rabbitmq.subscription import Subscription


class Worker(ABC):
    """A loop over one queue, and the tasks that it starts.

    Args:
        region: The region, for the log; empty if the queue has messages of several regions.
        stop_timeout: Seconds that stopping may take if the worker ends by itself.
    """

    def __init__(self, region: str, stop_timeout: float) -> None:
        self.region = region
        #: The tasks that are running.
        self.running: set[asyncio.Task[None]] = set()
        #: Set when the loop has something to do.
        self.awake = asyncio.Event()
        self._stop = asyncio.Event()
        self._stop_timeout = stop_timeout
        self._schedule: StopSchedule | None = None
        #: Whether the loop has ended.
        self.finishing = False
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

    def stop(self, schedule: StopSchedule) -> None:
        """Ask the worker to end: no call starts from now on."""
        self._schedule = schedule
        self._stop.set()
        self.wake()

    def cancel_running(self, schedule: StopSchedule) -> None:
        """Cancel the tasks that are still running, and follow another schedule."""
        self._schedule = schedule
        for task in self.running:
            task.cancel()

    @property
    def stopping(self) -> bool:
        """Whether no more calls may start."""
        return self._stop.is_set()

    async def finish(
        self,
        subscription: Subscription,
        unacked: Callable[[], Iterable[AbstractIncomingMessage]],
    ) -> None:
        """End the running calls and give all other messages back, in the time that there is.

        Args:
            subscription: The worker's subscription.
            unacked: Returns the messages that are to be given back.
        """
        self.finishing = True
        self._stop.set()
        # It has the time that the calls have, and is cancelled with them.
        cancelling = self.run_task(subscription.cancel())
        await self._wait_for_tasks(self._stop_schedule().calls)
        answered = cancelling.done() and not cancelling.cancelled()
        # A loop that had to be interrupted was waiting for the broker.
        answered &= not cancellation_requested()
        for task in self.running:
            task.cancel()
        schedule = self._stop_schedule()
        await self._wait_for_tasks(schedule.cancelled_calls)
        await complete_by(schedule.messages, return_to_queue(unacked()))
        answered &= await complete_by(schedule.channels, subscription.close())
        if not answered:
            self._log_silence(subscription.queue)

    def _stop_schedule(self) -> StopSchedule:
        if self._schedule is None:
            self._schedule = StopSchedule.begin(self.now(), self._stop_timeout)
        return self._schedule

    async def _wait_for_tasks(self, when: float) -> None:
        while self.running and (left := when - self.now()) > 0:
            await asyncio.wait(self.running, timeout=left, return_when=asyncio.FIRST_COMPLETED)

    def _log_silence(self, queue: str) -> None:
        log.log_consumer(
            "WARNING",
            queue,
            "has stopped without a reply of the broker: unacked messages are redelivered when the "
            "broker has closed the channel or the connection",
            self.region,
        )

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

    def run_task(self, coroutine: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run a coroutine in a task of its own; the loop is woken if it has failed."""
        task = asyncio.create_task(coroutine)
        self.running.add(task)
        task.add_done_callback(self._on_task_end)
        return task

    def _on_task_end(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._fault = task.exception()
            self.wake()
