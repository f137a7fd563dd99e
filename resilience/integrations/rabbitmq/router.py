"""Router: consumes a shared queue all the time, and moves what cannot be attempted elsewhere."""

from collections.abc import Awaitable, Callable, Mapping

from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

from resilience.breaker import CircuitBreaker
from resilience.integrations.rabbitmq.amqp import (
    acknowledge,
    is_unsettled,
    return_to_queue,
)
from resilience.integrations.rabbitmq.concurrency import ConcurrencyLimit, attach_to_limit
from resilience.integrations.rabbitmq.disposition import Disposition
from resilience.integrations.rabbitmq.handler import MessageHandler
from resilience.integrations.rabbitmq.publisher import copy_of
from resilience.integrations.rabbitmq.settings import ConsumerSettings
from resilience.integrations.rabbitmq.subscription import Subscription
from resilience.integrations.rabbitmq.worker import Worker

# Seconds between two tries to settle a message which the broker, or `on_error`, left unsettled.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


class Router(Worker):
    """The messages of a shared queue: attempted immediately, or moved to a wait queue.

    Args:
        connection: The user's connection.
        queue: The queue's name.
        handler: Called with the messages.
        settings: The consumer's settings.
        breaker_of: Returns the breaker of a message's region.
        wait_queues: The name of each region's wait queue.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        queue: str,
        handler: MessageHandler,
        settings: ConsumerSettings,
        *,
        breaker_of: Callable[[AbstractIncomingMessage], CircuitBreaker],
        wait_queues: Mapping[CircuitBreaker, str],
    ) -> None:
        super().__init__("", settings.stop_timeout)
        self._queue, self._handler, self._settings = queue, handler, settings
        self._breaker_of, self._wait_queues = breaker_of, wait_queues
        self._subscription = Subscription(
            connection, queue, "", self._on_message, self.wake, settings=settings.subscription
        )
        self._unacked: list[AbstractIncomingMessage] = []
        self._limits: dict[CircuitBreaker, ConcurrencyLimit] = {}
        self._detach: list[Callable[[], None]] = []

    # The loop

    def attach(self) -> None:
        """Begin to follow the circuits of all regions."""
        for breaker in self._wait_queues:
            limit, detach = attach_to_limit(breaker, self._settings.prefetch, self.wake)
            self._limits[breaker] = limit
            self._detach.append(detach)

    async def run(self) -> None:
        """Keep the subscription running until `stop` is called."""
        try:
            while not self.stopping:
                self.awake.clear()
                if self._subscription.prefetch != self._settings.prefetch:
                    await self._subscription.set_prefetch(self._settings.prefetch)
                retry_at = self._subscription.retry_at
                await self.sleep(max(0.0, retry_at - self.now()) if retry_at else None)
        finally:
            try:
                await self.finish(self._subscription, lambda: self._unacked)
            finally:
                for detach in self._detach:
                    detach()

    def _on_message(self, message: AbstractIncomingMessage) -> None:
        self._unacked.append(message)
        self.run_task(self._route(message))

    # One message

    async def _route(self, message: AbstractIncomingMessage) -> None:
        try:
            breaker = self._breaker_of(message)
        except Exception as error:  # noqa: BLE001 - The user's function may raise anything.
            await self._handle_error(self._queue, message, error)
        else:
            if not await self._attempt(breaker, message):
                await self._move_to_wait_queue(breaker, message)
        if not is_unsettled(message):
            self._unacked.remove(message)

    async def _attempt(self, breaker: CircuitBreaker, message: AbstractIncomingMessage) -> bool:
        """Call the handler if the region is at full rate.

        Returns:
            Whether the message is done with; if not, it has to wait.
        """
        limit = self._limits[breaker]
        slot = await limit.acquire_at_full_rate()
        if slot is None:
            return False
        try:
            if self.stopping:
                return False
            disposition, error = await self._handler.attempt(breaker, message)
            if disposition in (Disposition.ACK, Disposition.ON_ERROR):
                limit.record_success()
            if disposition is Disposition.ACK:
                await acknowledge(message)
        finally:
            slot.release()
        if disposition is Disposition.ON_ERROR and isinstance(error, Exception):
            await self._handle_error(breaker.region, message, error)
        return disposition in (Disposition.ACK, Disposition.ON_ERROR)

    async def _move_to_wait_queue(
        self, breaker: CircuitBreaker, message: AbstractIncomingMessage
    ) -> None:
        """Publish a copy to the wait queue, and acknowledge only when the broker has it."""

        async def move() -> None:
            if await self._handler.publisher.publish(copy_of(message), self._wait_queues[breaker]):
                await acknowledge(message)

        await self._until_settled(message, move)

    async def _handle_error(
        self, region: str, message: AbstractIncomingMessage, error: Exception
    ) -> None:
        async def handle() -> None:
            await self._handler.handle_error(region, message, error, from_wait_queue=False)

        await self._until_settled(message, handle)

    async def _until_settled(
        self, message: AbstractIncomingMessage, settle: Callable[[], Awaitable[None]]
    ) -> None:
        """Try again until a message is settled; give it back when it was unacked for too long."""
        end = self.now() + self._settings.max_unacked
        pause = _FIRST_PAUSE
        while is_unsettled(message) and not self.stopping:
            if self.now() >= end:
                await return_to_queue([message])
                return
            await settle()
            if is_unsettled(message):
                await self.pause(min(pause, end - self.now()))
                pause = min(2 * pause, _LONGEST_PAUSE)
