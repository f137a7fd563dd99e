"""Subscription: one queue, consumed over a channel of its own by at most one AMQP consumer."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, cast

from aio_pika.abc import (
    AbstractChannel,
    AbstractIncomingMessage,
    AbstractQueue,
    FieldValue,
)
from aio_pika.exceptions import (
    AMQPChannelError,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)

from resilience.integrations.rabbitmq.amqp import (
    CONNECTION_LOST,
    ConsumerError,
    broker_reply,
    close_channel,
    server_text,
)
from resilience.integrations.rabbitmq.connections import ReadingConnection
from resilience.integrations.rabbitmq.consumer_warnings import ConsumerWarnings
from resilience.integrations.rabbitmq.queue_lifetime import check_lifetime_again
from resilience.integrations.rabbitmq.subscription_settings import SubscriptionSettings
from resilience.integrations.rabbitmq.unavailability import Unavailability

# How the broker begins its answer to arguments of `basic.consume` that it does not accept.
_BAD_ARGUMENT = "PRECONDITION_FAILED - invalid arg"


class _CancelFrame(Protocol):
    """The broker's notice that it has ended a consumer."""

    @property
    def consumer_tag(self) -> str | None:
        """The tag of the consumer."""
        ...


class Subscription:
    """The subscription to a queue, whose prefetch can be changed while it runs; 0 pauses it.

    Args:
        connection: The connection to consume over.
        queue: The queue's name.
        region: The region of its messages, for the log; empty if they are of several regions.
        on_message: Called with each message; must not block.
        on_lost: Called when the channel is gone, and with it all messages that are unacked on it.
        settings: How the queue is consumed.
    """

    def __init__(
        self,
        connection: ReadingConnection,
        queue: str,
        region: str,
        on_message: Callable[[AbstractIncomingMessage], object],
        on_lost: Callable[[], object],
        *,
        settings: SubscriptionSettings,
    ) -> None:
        self._connection = connection
        #: The queue's name.
        self.queue = queue
        self._deliver, self._on_lost = on_message, on_lost
        self._warnings = ConsumerWarnings(queue)
        self._settings = settings
        # The queue on the open channel; None while there is no channel.
        self._queue: AbstractQueue | None = None
        self._unavailability = Unavailability(queue, region, settings.unavailable_timeout)
        # Whether the queue was deleted, and may have been declared again in another way.
        self._was_deleted = False
        #: The prefetch of the running consumer; 0 if there is none.
        self.prefetch = 0
        #: The tag of the running consumer.
        self.consumer_tag: str | None = None

    @property
    def retry_at(self) -> float:
        """When the broker may be asked again, in the event loop's time; 0 unless it has failed."""
        return self._unavailability.retry_at

    async def set_prefetch(self, prefetch: int) -> None:
        """Replace the consumer by one with another prefetch; 0 leaves no consumer.

        No more messages of the previous consumer arrive after that. If the broker is gone,
        `retry_at` is set, and until then another call does nothing.

        Raises:
            ConsumerError: The connection will not come back, the queue has been unavailable for too
                long or would lose messages, or the broker does not accept the arguments of the
                consumer.
        """
        if _now() < self.retry_at:
            return
        try:
            await self._replace_consumer(prefetch)
        except CONNECTION_LOST as error:
            await self._recover_from(error)
        else:
            if prefetch:
                self._unavailability.record_success()

    async def count_ready(self) -> int | None:
        """Return how many messages wait in the queue; None if the broker does not say it."""
        channel: AbstractChannel | None = None
        try:
            channel = await self._connection.open_channel()
            underlay = await broker_reply(channel.get_underlay_channel())
            reply = await broker_reply(underlay.queue_declare(self.queue, passive=True))
        except (AMQPChannelError, *CONNECTION_LOST):
            return None
        finally:
            await close_channel(channel)
        return reply.message_count

    async def cancel(self) -> None:
        """End the consumer for good, if the broker answers: no more messages arrive then."""
        queue, tag = self._queue, self.consumer_tag
        self.prefetch, self.consumer_tag = 0, None
        if queue is not None and tag is not None:
            with suppress(*CONNECTION_LOST):
                await broker_reply(queue.cancel(tag))

    async def close(self) -> None:
        """Close the channel: the messages that are unacked on it go back to the queue."""
        queue, self._queue = self._queue, None
        self.prefetch, self.consumer_tag = 0, None
        if queue is not None:
            await close_channel(queue.channel)

    async def _replace_consumer(self, prefetch: int) -> None:
        queue, tag = self._queue, self.consumer_tag
        if queue is not None and tag is not None:
            # The prefetch of a live consumer cannot be changed.
            self.consumer_tag, self.prefetch = None, 0
            await broker_reply(queue.cancel(tag))
        if prefetch:
            if self._was_deleted:
                await check_lifetime_again(self._connection.open_channel, self.queue)
            queue = await self._open() if self._queue is None else self._queue
            await broker_reply(queue.channel.set_qos(prefetch_count=prefetch))
            self.consumer_tag = await broker_reply(self._consume(queue))
            self.prefetch, self._was_deleted = prefetch, False

    async def _consume(self, queue: AbstractQueue) -> str:
        return await queue.consume(
            self._on_message,
            arguments=cast("dict[str, FieldValue]", dict(self._settings.arguments)),
            consumer_tag=self._settings.next_tag(),
        )

    async def _open(self) -> AbstractQueue:
        channel = await self._connection.open_channel()
        underlay = await broker_reply(channel.get_underlay_channel())
        underlay.on_consumer_cancel_callbacks.add(self._on_cancel)
        channel.close_callbacks.add(self._on_close)
        self._queue = await channel.get_queue(self.queue, ensure=False)
        return self._queue

    async def _recover_from(self, error: BaseException) -> None:
        """Close the channel and let `set_prefetch` try again later, unless no retry can succeed."""
        self._unavailability.record_failure(_now(), error)
        self._was_deleted |= isinstance(error, ChannelNotFoundEntity)
        await self.close()
        self._on_lost()
        queue, reason = self.queue, server_text(error)
        if self._connection.is_lost:
            raise ConsumerError(
                f"the connection for queue {queue!r} is closed for good; "
                "a connection of aio_pika.connect_robust would be opened again"
            ) from error
        if isinstance(error, ChannelPreconditionFailed) and reason.startswith(_BAD_ARGUMENT):
            raise ConsumerError(f"queue {queue!r} cannot be consumed: {reason}") from error
        if self._unavailability.has_timed_out(_now()):
            raise ConsumerError(
                f"queue {queue!r} has been unavailable for longer than unavailable_timeout, "
                f"{self._settings.unavailable_timeout:g} s: {reason}"
            ) from error

    async def _on_message(self, message: AbstractIncomingMessage) -> None:
        self._deliver(message)

    def _on_cancel(self, frame: _CancelFrame) -> None:
        """Note that the broker has ended the consumer: its queue is gone, or moves."""
        if frame.consumer_tag == self.consumer_tag:
            self.prefetch, self.consumer_tag = 0, None
            self._was_deleted = True
            self._on_lost()

    def _on_close(self, channel: AbstractChannel | None, error: BaseException | None) -> None:
        self._connection.note_close(error)
        if self._queue is not None and self._queue.channel is channel:
            if self.consumer_tag is not None and isinstance(error, AMQPChannelError):
                self._warnings.warn(
                    "channel closed",
                    f"has lost its channel, and all messages on it: {server_text(error)}",
                )
            self._queue = self.consumer_tag = None
            self.prefetch = 0
            self._on_lost()


def _now() -> float:
    return asyncio.get_running_loop().time()
