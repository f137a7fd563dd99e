"""Publishing copies of messages to queues by name, and knowing when the broker has them."""

import asyncio
from dataclasses import dataclass, field

from aio_pika import Message
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage, HeadersType
from aio_pika.channel import Channel
from aio_pika.exceptions import PublishError

from resilience.integrations.rabbitmq.amqp import (
    CONNECTION_LOST,
    ConsumerError,
    broker_reply,
    close_channel,
    open_channel,
)

#: The headers that name the exchange and the routing key of the first publish of a copy.
ORIGINAL_EXCHANGE = "x-original-exchange"
ORIGINAL_ROUTING_KEY = "x-original-routing-key"

# The broker writes these about a queue that the copy leaves.
_HEADERS_OF_THE_OLD_QUEUE = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count")
# With these the broker would deliver the copy again to everybody who received the original.
_HEADERS_WITH_RECEIVERS = frozenset({"CC", "BCC"})


@dataclass
class Publisher:
    """A channel with publisher confirms, opened at the first message.

    Args:
        connection: The user's connection.
    """

    connection: AbstractConnection
    _channel: Channel | None = None
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    # The messages that are not confirmed yet, by their message id.
    _unconfirmed: dict[str, asyncio.Future[None]] = field(
        default_factory=dict[str, "asyncio.Future[None]"]
    )

    async def publish(self, message: Message, queue: str) -> bool:
        """Publish a message to a queue, and wait until the broker has confirmed it.

        Args:
            message: The message.
            queue: The queue's name.

        Returns:
            Whether the broker has confirmed the message.

        Raises:
            ConsumerError: There is no such queue.
        """
        message_id = message.message_id
        if message_id is None:
            return await self._publish(message, queue)
        # aio-pika identifies a returned message by its id alone. If two messages with the same id
        # were unconfirmed, it could take the wrong one for confirmed.
        while message_id in self._unconfirmed:
            await asyncio.wait([self._unconfirmed[message_id]])
        finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unconfirmed[message_id] = finished
        try:
            return await self._publish(message, queue)
        finally:
            del self._unconfirmed[message_id]
            finished.set_result(None)

    async def close(self) -> None:
        """Close the channel."""
        channel, self._channel = self._channel, None
        await close_channel(channel)

    async def _publish(self, message: Message, queue: str) -> bool:
        try:
            channel = await self._open()
            # The broker confirms a message that it cannot route, unless the message is mandatory
            # and a return raises. There is no timeout: if the broker is slow, to give up waiting
            # for the confirm would mean to publish the message twice.
            publishing = channel.default_exchange.publish(message, queue, mandatory=True)
            await broker_reply(publishing, timeout=None)
        except PublishError as error:
            raise ConsumerError(
                f"there is no queue {queue!r} to publish messages to: "
                "create it, or call declare() for wait queues"
            ) from error
        except CONNECTION_LOST:  # This includes DeliveryError: the queue is full.
            return False
        return True

    async def _open(self) -> Channel:
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                self._channel = await open_channel(self.connection, for_publishing=True)
            return self._channel


def copy_of(message: AbstractIncomingMessage, *, from_wait_queue: bool = False) -> Message:
    """Return a copy of a message for another queue.

    These are not copied: `user_id`, which the broker accepts from its owner only; `expiration`,
    since the copy has to stay; and the headers `x-death`, `x-delivery-count`, `CC` and `BCC`.

    Args:
        message: The message as it was delivered.
        from_wait_queue: Whether the message is a copy itself, whose headers already say where the
            original came from.
    """
    headers: HeadersType = {
        name: value
        for name, value in message.headers.items()
        if not name.startswith(_HEADERS_OF_THE_OLD_QUEUE) and name not in _HEADERS_WITH_RECEIVERS
    }
    if not from_wait_queue:
        headers[ORIGINAL_EXCHANGE] = message.exchange or ""
        headers[ORIGINAL_ROUTING_KEY] = message.routing_key or ""
    return Message(
        message.body,
        headers=headers,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        delivery_mode=message.delivery_mode,
        priority=message.priority,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        message_id=message.message_id,
        timestamp=message.timestamp,
        type=message.type,
        app_id=message.app_id,
    )
