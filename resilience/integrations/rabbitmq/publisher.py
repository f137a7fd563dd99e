"""Publishing copies of messages to queues by name, and knowing when the broker has them."""

import asyncio
import sys
from collections.abc import Awaitable, Generator
from contextlib import contextmanager, suppress
from uuid import uuid4

from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage, HeadersType
from aio_pika.channel import Channel
from aio_pika.connection import Connection
from aio_pika.exceptions import (
    AMQPChannelError,
    ChannelInvalidStateError,
    DeliveryError,
    PublishError,
)
from aiormq.exceptions import ChannelAccessRefused

from resilience._text import one_line
from resilience.integrations.rabbitmq.amqp import (
    CONNECTION_LOST,
    ConsumerError,
    MessageError,
    broker_reply,
    open_channel,
    server_text,
)
from resilience.integrations.rabbitmq.connections import close_connection, open_connection
from resilience.integrations.rabbitmq.consumer_warnings import ConsumerWarnings
from resilience.integrations.rabbitmq.encoding import (
    CONTENT_HEADER_OVERHEAD,
    CopyProperties,
    drop_headers,
    encoded_copy,
)
from resilience.integrations.rabbitmq.failure_record import PENDING

#: The headers that name the exchange and the routing key of the first publish of a copy.
ORIGINAL_EXCHANGE = "x-original-exchange"
ORIGINAL_ROUTING_KEY = "x-original-routing-key"

# The broker writes these about a queue that the copy leaves.
_HEADERS_OF_THE_OLD_QUEUE = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count")
# With the first two the broker would deliver the copy again to everybody who received the original.
# With the third, which is that of an earlier copy, a failure would count again.
_NOT_COPIED = frozenset({"CC", "BCC", PENDING})
# Seconds after which a message is logged that the broker has not confirmed: nothing ends the wait.
_LONG_CONFIRM = 60.0


class Publisher:
    """A channel with publisher confirms, on a connection of its own.

    In an alarm, the broker stops reading from connections that publish. What is acknowledged must
    therefore never be on the same connection. Both are opened at the first message, and opened
    again when one of them is lost.

    Args:
        users: The user's connection.
        warnings: The warnings of the consumer.
    """

    def __init__(self, users: Connection, warnings: ConsumerWarnings) -> None:
        self._users, self._warnings = users, warnings
        self._connection: Connection | None = None
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()
        self._publishing_alone = asyncio.Lock()
        self._blocked = asyncio.Event()
        # The messages that are not confirmed yet, by their message id.
        self._unconfirmed: dict[str, asyncio.Future[None]] = {}

    @property
    def blocked(self) -> bool:
        """Whether the broker takes no messages at present: it is in an alarm."""
        connection = self._connection
        return connection is not None and connection.connected.is_set() and self._blocked.is_set()

    async def check(self) -> None:
        """Reject a user that may not publish, and a broker that allows no further connection.

        Raises:
            ConsumerError: No copy could be published.
        """
        try:
            await self._open()
        except CONNECTION_LOST as error:
            if not self.blocked:
                await self.close()
                raise ConsumerError(
                    "a connection of its own, to publish copies of messages over, cannot be "
                    f"opened: {server_text(error)}"
                ) from error
        except asyncio.CancelledError:
            await self.close()
            raise
        else:
            await self.close()  # Most consumers publish nothing for a long time.

    async def publish(self, message: Message, queue: str, *, cut_headers: bool = False) -> bool:
        """Publish a message to a queue, and wait until the broker has confirmed it.

        Args:
            message: The message.
            queue: The queue's name.
            cut_headers: Whether headers that cannot be published may be left out.

        Returns:
            Whether the broker has confirmed the message.

        Raises:
            ConsumerError: There is no such queue, or the user may not publish to it.
            MessageError: The message itself cannot be published.
        """
        # aio-pika gives every message an id that has none: the broker returns a message that it
        # cannot route, and nothing else tells which one it was.
        message.message_id = message_id = message.message_id or uuid4().hex
        # If two messages with the same id were unconfirmed, it could take the wrong one for
        # confirmed.
        while message_id in self._unconfirmed:
            await asyncio.wait([self._unconfirmed[message_id]])
        finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unconfirmed[message_id] = finished
        try:
            with self._watch_confirm(queue):
                return await self._publish(message, queue, cut_headers=cut_headers)
        finally:
            del self._unconfirmed[message_id]
            finished.set_result(None)

    async def close(self) -> None:
        """Close the channel and its connection."""
        connection, self._connection, self._channel = self._connection, None, None
        await close_connection(connection)

    # One message

    async def _publish(self, message: Message, queue: str, *, cut_headers: bool) -> bool:
        if self.blocked:
            return False
        try:
            channel = await self._open()
            properties = await self._encode(message, channel, queue if cut_headers else None)
            try:
                await _send(channel, message.body, queue, properties)
            except ChannelAccessRefused:
                return False  # Opening the next channel tells whether this is for good.
            except AMQPChannelError:
                async with self._publishing_alone:
                    await self._publish_alone(message.body, queue, properties)
        except PublishError as error:
            raise ConsumerError(
                f"there is no queue {queue!r} to publish messages to: "
                "create it, or call declare() for wait queues"
            ) from error
        except DeliveryError:
            self._warnings.warn(
                f"nacked {queue}",
                f"cannot publish to queue {one_line(queue)}: the broker has nacked a message, "
                "since the queue is full or not available; the messages wait unacked",
            )
            return False
        except CONNECTION_LOST as error:
            if not self.blocked:
                self._warnings.warn(
                    "publishing",
                    "has no connection to publish over, and tries to open it again: "
                    f"{server_text(error)}",
                )
            return False
        return True

    @contextmanager
    def _watch_confirm(self, queue: str) -> Generator[None, None, None]:
        """Warn of a message that the broker does not confirm for long."""

        def warn() -> None:
            self._warnings.warn(
                f"unconfirmed {queue}",
                f"waits for the broker to confirm a message for queue {one_line(queue)} for more "
                f"than {_LONG_CONFIRM:g} s; it stays unacked meanwhile",
            )

        timer = asyncio.get_running_loop().call_later(_LONG_CONFIRM, warn)
        try:
            yield
        finally:
            timer.cancel()

    async def _encode(
        self, message: Message, channel: Channel, drop_headers_for: str | None
    ) -> CopyProperties:
        """Return the properties of a message, or raise if they cannot be published."""
        underlay = await channel.get_underlay_channel()
        frame_max = underlay.connection.connection_tune.frame_max
        room = frame_max - CONTENT_HEADER_OVERHEAD if frame_max else sys.maxsize
        try:
            return encoded_copy(message, room)
        except MessageError:
            if drop_headers_for is None:
                raise
        names = ", ".join(one_line(name) for name in drop_headers(message, room))
        queue = one_line(drop_headers_for)
        self._warnings.warn(
            f"dropped {queue}",
            f"has left out headers of a message for queue {queue}, since they cannot be "
            f"published: {one_line(names)}",
        )
        return encoded_copy(message, room)

    async def _publish_alone(self, body: bytes, queue: str, properties: CopyProperties) -> None:
        """Publish a message of which the broker may disapprove, without any other at risk.

        The broker has closed the channel, and it is not known for which of the messages on it.
        """
        connection = await open_connection(self._users, "publishing alone", lambda _: None)
        try:
            channel = await open_channel(connection, for_publishing=True)
            await _send(channel, body, queue, properties)
        except AMQPChannelError as error:
            raise MessageError(
                f"the broker refuses a copy of the message: {server_text(error)}"
            ) from error
        finally:
            await close_connection(connection)

    # The channel

    async def _open(self) -> Channel:
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                await self.close()
                try:
                    self._channel = await self._new_channel()
                except ChannelAccessRefused as refusal:
                    await self.close()
                    raise ConsumerError(
                        f"copies of messages cannot be published to queues: {server_text(refusal)}"
                    ) from refusal
            return self._channel

    async def _new_channel(self) -> Channel:
        """Open a channel over which messages can be published.

        A channel that falls must fall before it has messages of anybody: a message on a channel
        that the broker has closed ends the whole connection.
        """
        self._blocked.clear()
        self._connection = await open_connection(self._users, "publishing", self._on_blocked)
        channel = await open_channel(self._connection, for_publishing=True)
        nowhere = _send(channel, b"", f"no-queue-{uuid4().hex}", CopyProperties())
        with suppress(PublishError):
            await self._unless_blocked(nowhere)
        return channel

    async def _unless_blocked(self, request: Awaitable[None]) -> None:
        """Wait for the broker's reply, or raise if the broker blocks the connection instead."""
        blocked = asyncio.ensure_future(self._blocked.wait())
        reply = asyncio.ensure_future(broker_reply(request))
        try:
            await asyncio.wait([blocked, reply], return_when=asyncio.FIRST_COMPLETED)
            if not reply.done():
                raise ChannelInvalidStateError("blocked")
            await reply
        finally:
            blocked.cancel()
            reply.cancel()

    def _on_blocked(self, reason: str | None) -> None:
        if reason is None:
            self._blocked.clear()
            self._warnings.end(
                "blocked", "can publish again: the broker has unblocked the connection"
            )
        else:
            self._blocked.set()
            self._warnings.warn(
                "blocked",
                f"cannot publish, since the broker has blocked the connection: {one_line(reason)}; "
                "messages that have to be moved or dead-lettered wait unacked",
            )


async def _send(channel: Channel, body: bytes, queue: str, properties: CopyProperties) -> None:
    """Publish a message, and wait for the broker's confirm."""
    underlay = await channel.get_underlay_channel()
    # The broker confirms a message that it cannot route, unless the message is mandatory and a
    # return raises. There is no timeout: giving up on the confirm of a slow broker would mean
    # publishing the message twice.
    publishing = underlay.basic_publish(
        body, routing_key=queue, properties=properties, mandatory=True
    )
    await broker_reply(publishing, timeout=None)


def copy_of(message: AbstractIncomingMessage, *, from_wait_queue: bool = False) -> Message:
    """Return a copy of a message for another queue.

    These are not copied: `user_id`, which the broker accepts from its owner only; `expiration`,
    since the copy has to stay; and the headers `x-death`, `x-delivery-count`, `CC`, `BCC` and
    `x-resilience-pending`. A copy without a `message_id` gets a new one when it is published.

    Args:
        message: The message as it was delivered.
        from_wait_queue: Whether the message is a copy itself, whose headers already say where the
            original came from.
    """
    headers: HeadersType = {
        name: value
        for name, value in message.headers.items()
        if not name.startswith(_HEADERS_OF_THE_OLD_QUEUE) and name not in _NOT_COPIED
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
