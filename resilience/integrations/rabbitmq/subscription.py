"""Subscription: one queue, consumed over a channel of its own by at most one AMQP consumer."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from aio_pika.abc import (
    AbstractChannel,
    AbstractIncomingMessage,
    AbstractQueue,
)
from aio_pika.exceptions import AMQPChannelError

from resilience import log
from resilience._text import one_line
from resilience.integrations.rabbitmq.amqp import (
    CONNECTION_LOST,
    ConsumerError,
    broker_reply,
    close_channel,
    server_text,
)
from resilience.integrations.rabbitmq.connections import ReadingConnection
from resilience.integrations.rabbitmq.consumer_warnings import ConsumerWarnings

# The broker may refuse while it starts, or while a queue is being declared again.
_MAX_REFUSALS = 10
_RETRY_AFTER = 1.0  # seconds


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
    """

    def __init__(
        self,
        connection: ReadingConnection,
        queue: str,
        region: str,
        on_message: Callable[[AbstractIncomingMessage], object],
        on_lost: Callable[[], object],
    ) -> None:
        self._connection = connection
        self._name = queue
        self._region = region
        self._deliver, self._on_lost = on_message, on_lost
        self._warnings = ConsumerWarnings(queue)
        # The queue on the open channel; None while there is no channel.
        self._queue: AbstractQueue | None = None
        self._refusals = 0
        #: The prefetch of the running consumer; 0 if there is none.
        self.prefetch = 0
        #: The tag of the running consumer.
        self.consumer_tag: str | None = None
        #: When the broker may be asked again, in the event loop's time; 0 unless it has failed.
        self.retry_at = 0.0

    async def set_prefetch(self, prefetch: int) -> None:
        """Replace the consumer by one with another prefetch; 0 leaves no consumer.

        No more messages of the previous consumer arrive after that. If the broker is gone,
        `retry_at` is set, and until then another call does nothing.

        Raises:
            ConsumerError: The connection will not come back, or the broker refuses for good.
        """
        if asyncio.get_running_loop().time() < self.retry_at:
            return
        try:
            await self._replace_consumer(prefetch)
        except CONNECTION_LOST as error:
            await self._recover_from(error)
        else:
            self.retry_at, self._refusals = 0.0, 0

    async def close(self) -> None:
        """Close the channel: the messages that are unacked on it go back to the queue."""
        queue, self._queue = self._queue, None
        self.prefetch, self.consumer_tag = 0, None
        if queue is not None:
            await close_channel(queue.channel)

    async def _replace_consumer(self, prefetch: int) -> None:
        queue = self._queue
        if queue is None:
            if not prefetch:
                return
            queue = await self._open()
        if self.consumer_tag is not None:
            # The prefetch of a live consumer cannot be changed.
            tag, self.consumer_tag, self.prefetch = self.consumer_tag, None, 0
            await broker_reply(queue.cancel(tag))
        if prefetch:
            await broker_reply(queue.channel.set_qos(prefetch_count=prefetch))
            self.consumer_tag = await broker_reply(queue.consume(self._on_message))
            self.prefetch = prefetch

    async def _open(self) -> AbstractQueue:
        channel = await self._connection.open_channel()
        underlay = await broker_reply(channel.get_underlay_channel())
        underlay.on_consumer_cancel_callbacks.add(self._on_cancel)
        channel.close_callbacks.add(self._on_close)
        self._queue = await channel.get_queue(self._name, ensure=False)
        return self._queue

    async def _recover_from(self, error: BaseException) -> None:
        """Close the channel and let `set_prefetch` try again later, unless no retry can succeed."""
        refused = isinstance(error, AMQPChannelError)
        self._refusals = self._refusals + 1 if refused else 0
        if not self.retry_at:
            of_region = " for region {}" if self._region else ""
            reason = type(error).__name__
            log.log(
                "WARNING",
                self._region,
                f"consumer cannot read queue {one_line(self._name)}{of_region}: {reason}; "
                f"it tries again every {_RETRY_AFTER:g} s",
            )
        self.retry_at = asyncio.get_running_loop().time() + _RETRY_AFTER
        await self.close()
        self._on_lost()
        if self._connection.is_lost:
            raise ConsumerError(
                f"the connection for queue {self._name!r} is closed for good; "
                "a connection of aio_pika.connect_robust would be opened again"
            ) from error
        if self._refusals >= _MAX_REFUSALS:
            raise ConsumerError(
                f"the broker refuses to let queue {self._name!r} be consumed"
            ) from error

    async def _on_message(self, message: AbstractIncomingMessage) -> None:
        self._deliver(message)

    def _on_cancel(self, frame: _CancelFrame) -> None:
        """Note that the broker has ended the consumer: its queue is gone, or moves."""
        if frame.consumer_tag == self.consumer_tag:
            self.prefetch, self.consumer_tag = 0, None
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
