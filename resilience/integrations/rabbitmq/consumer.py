"""Consumer: what `async with` does for both kinds of consumers."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Self

from aio_pika.abc import AbstractQueue

from resilience import _validate
from resilience.integrations.metrics import QueueStats
from resilience.integrations.rabbitmq.amqp import connection_of
from resilience.integrations.rabbitmq.connections import ReadingConnection
from resilience.integrations.rabbitmq.consumer_timeout import check_consumer_timeout
from resilience.integrations.rabbitmq.consumer_warnings import ConsumerWarnings
from resilience.integrations.rabbitmq.handler import (
    DeadLetterTo,
    Handler,
    MessageHandler,
    OnError,
)
from resilience.integrations.rabbitmq.handler_registry import warn_of_other_registry
from resilience.integrations.rabbitmq.publisher import Publisher
from resilience.integrations.rabbitmq.queue_lifetime import check_lifetime
from resilience.integrations.rabbitmq.settings import ConsumerSettings
from resilience.integrations.rabbitmq.signature import (
    A_MESSAGE,
    A_MESSAGE_AND_AN_ERROR,
    check_async,
)
from resilience.integrations.rabbitmq.stop_schedule import StopSchedule, complete_by
from resilience.integrations.rabbitmq.topology import Topology
from resilience.integrations.rabbitmq.worker import Worker
from resilience.registry import CircuitBreakerRegistry, default_registry


class Consumer(ABC):
    """A consumer of one queue, which `async with` starts and stops.

    If the consumer cannot continue, the block is cancelled, and `async with` raises the
    `ConsumerError`.

    Args:
        queue: The queue.
        handler: The user's handler.
        on_error: The user's `on_error`.
        settings: The numbers.
        registry: The registry of the regions' breakers; None is the default registry.
    """

    # What ends the loops that still wait for the broker while the consumer stops.
    _interruption: asyncio.TimerHandle

    def __init__(
        self,
        queue: AbstractQueue,
        handler: Handler,
        on_error: OnError,
        settings: ConsumerSettings,
        registry: CircuitBreakerRegistry | None,
    ) -> None:
        _validate.check_type("queue", queue, AbstractQueue)
        check_async("handler", handler, A_MESSAGE)
        if not isinstance(on_error, DeadLetterTo):
            check_async("on_error", on_error, A_MESSAGE_AND_AN_ERROR, " or a DeadLetterTo")
        self._queue, self._given_queue = queue.name, queue
        check_dead_letters(on_error, queue.name)
        self._connection = connection_of(queue)
        self._warnings = ConsumerWarnings(self._queue)
        self._reading = ReadingConnection(self._connection, self._warnings)
        self._publisher = Publisher(self._connection, self._warnings)
        self._handler = MessageHandler(
            handler, on_error, self._publisher, self._warnings, settings.max_unacked
        )
        self._settings = settings
        self._registry = registry_or_default(registry)
        self._workers: Sequence[Worker] = ()
        self._runs: list[asyncio.Task[None]] = []
        # Notices that the connection is blocked.
        self._watch: asyncio.Future[None]
        # The task that runs the block of `async with`.
        self._block: asyncio.Task[object] | None = None
        self._stopping = False
        # When each step of stopping has to be over.
        self._schedule = StopSchedule.begin(0.0, settings.stop_timeout)
        # Whether the block was cancelled because of `_failure`.
        self._interrupted = False
        self._failure: BaseException | None = None

    @property
    def _publishes_copies(self) -> bool:
        """Whether the consumer may publish a message."""
        has_tenants = self._settings.tenant_of is not None  # They may be moved.
        return has_tenants or isinstance(self._handler.on_error, DeadLetterTo)

    @abstractmethod
    async def _check_wait_queues(self, topology: Topology) -> None:
        """Reject wait queues that are missing or wrong."""

    @abstractmethod
    def _make_workers(self) -> Sequence[Worker]:
        """Make the loops that the consumer consists of."""

    def stats(self) -> tuple[QueueStats, ...]:
        """Return the figures of each queue; none before the consumer is started.

        Any thread may call this. `ConsumerCollector` and `observe_consumers` export the figures.
        """
        return tuple(worker.stats() for worker in self._workers)

    async def __aenter__(self) -> Self:
        if self._runs:
            raise RuntimeError("a consumer can be started only once: make a new one")
        self._check_settings()
        topology = Topology(self._connection, self._warnings)
        await topology.check_broker()
        await topology.check_queue(self._queue)
        await check_lifetime(self._connection, self._given_queue)
        if isinstance(self._handler.on_error, DeadLetterTo):
            await topology.check_queue(self._handler.on_error.queue)
        await self._check_wait_queues(topology)
        if self._publishes_copies:
            await self._publisher.check()
        self._workers, self._block = self._make_workers(), asyncio.current_task()
        self._watch = asyncio.create_task(self._reading.watch())
        for worker in self._workers:
            worker.attach()
            run = asyncio.create_task(worker.run())
            run.add_done_callback(self._on_worker_end)
            self._runs.append(run)
        return self

    def _check_settings(self) -> None:
        """Refuse or warn of what does not fit the queue or the handler, without the broker."""
        arguments = self._given_queue.arguments
        check_consumer_timeout(
            self._settings.max_unacked,
            self._queue,
            arguments,
            partial(self._warnings.warn, "timeout"),
        )
        warn_of_other_registry(
            self._handler.handler, self._registry, partial(self._warnings.warn, "registry")
        )

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._stopping = True
        loop = asyncio.get_running_loop()
        self._schedule = StopSchedule.begin(loop.time(), self._settings.stop_timeout)
        for worker in self._workers:
            worker.stop(self._schedule)
        self._interruption = loop.call_at(self._schedule.calls, self._interrupt_loops)
        try:
            await self._wait_for_workers()
        finally:
            self._interruption.cancel()
            await complete_by(self._schedule.end, self._close_connections())
        if self._interrupted and self._block is not None and self._block.uncancel() > 0:
            return  # Somebody else has cancelled the block, too.
        if self._failure is not None and (error is None or self._interrupted):
            raise self._failure

    async def _close_connections(self) -> None:
        """Close the connections that are the consumer's own, all at the same time."""
        self._watch.cancel()
        await asyncio.gather(
            self._publisher.close(), self._reading.close(), asyncio.wait([self._watch])
        )

    def _on_worker_end(self, run: asyncio.Task[None]) -> None:
        """Cancel the block if a worker cannot continue."""
        failure = None if run.cancelled() else run.exception()
        self._failure = self._failure or failure
        if failure is not None and not self._stopping and self._block is not None:
            self._stopping = self._interrupted = True
            self._block.cancel()

    async def _wait_for_workers(self) -> None:
        """Wait until all workers have ended.

        A cancellation that arrives meanwhile cancels the running calls, and is raised afterwards.
        """
        cancelled: asyncio.CancelledError | None = None
        while True:
            try:
                await asyncio.sleep(0)  # A cancellation that is on its way is raised here.
                await asyncio.wait(self._runs)
                break
            except asyncio.CancelledError as error:
                cancelled = error
                self._cancel_running()
        if cancelled is not None and not self._interrupted:
            raise cancelled

    def _cancel_running(self) -> None:
        loop = asyncio.get_running_loop()
        self._schedule = self._schedule.without_calls(loop.time())
        for worker in self._workers:
            worker.cancel_running(self._schedule)
        self._interruption.cancel()
        self._interruption = loop.call_at(self._schedule.cancelled_calls, self._interrupt_loops)

    def _interrupt_loops(self) -> None:
        """End the loops that still wait for a broker that does not answer."""
        for worker, run in zip(self._workers, self._runs, strict=True):
            if not worker.finishing:
                run.cancel()


def check_dead_letters(on_error: OnError, *queues: str) -> None:
    """Reject a queue for dead letters that is consumed: they would go round without end."""
    if isinstance(on_error, DeadLetterTo) and on_error.queue in queues:
        raise ValueError(
            f"on_error must name another queue than {on_error.queue!r}: it is consumed, and dead "
            "letters would go round"
        )


def registry_or_default(registry: CircuitBreakerRegistry | None) -> CircuitBreakerRegistry:
    """Return the given registry, or the default one if none is given."""
    chosen = default_registry if registry is None else registry
    _validate.check_type("registry", chosen, CircuitBreakerRegistry)
    return chosen
