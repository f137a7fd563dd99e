"""Publisher: puts copies into queues by name, and knows when they are there."""

import asyncio
from dataclasses import dataclass, field

from aio_pika import Message
from aio_pika.abc import AbstractConnection
from aio_pika.channel import Channel
from aio_pika.exceptions import PublishError

from resilience.integrations.rabbitmq.broker import (
    LOST,
    ConsumerError,
    answer,
    close_channel,
    open_channel,
)


@dataclass
class Publisher:
    """A channel with confirms, opened at the first message.

    Args:
        connection: The user's.
    """

    connection: AbstractConnection
    _channel: Channel | None = None
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    _under_way: dict[str, asyncio.Future[None]] = field(
        default_factory=dict[str, "asyncio.Future[None]"]
    )

    async def publish(self, message: Message, queue: str) -> bool:
        """Publish to a queue, and wait for the broker to have it.

        Returns:
            Whether the broker has it for certain.

        Raises:
            ConsumerError: There is no such queue.
        """
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # aio-pika tells returned messages apart by their id alone: of two with the same one, it
        # could take the wrong one for confirmed.
        name = message.message_id
        while name is not None and name in self._under_way:
            await asyncio.wait([self._under_way[name]])
        if name is not None:
            self._under_way[name] = mine
        try:
            return await self._publish(message, queue)
        finally:
            if name is not None:
                del self._under_way[name]
            mine.set_result(None)

    async def close(self) -> None:
        """Close the channel."""
        channel, self._channel = self._channel, None
        await close_channel(channel)

    async def _publish(self, message: Message, queue: str) -> bool:
        try:
            channel = await self._open()
            # An unroutable message is confirmed, unless it is mandatory and a return raises. Not to
            # wait for the confirm of a broker that is slow would be to publish it twice.
            publishing = channel.default_exchange.publish(message, queue, mandatory=True)
            await answer(publishing, within=None)
        except PublishError as error:
            raise ConsumerError(
                f"there is no queue {queue!r} to put messages into: create it, or call declare()"
            ) from error
        except LOST:  # or, a DeliveryError, the queue has no room for it
            return False
        return True

    async def _open(self) -> Channel:
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                self._channel = await open_channel(self.connection, for_publishing=True)
            return self._channel
