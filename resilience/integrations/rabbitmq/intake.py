"""Intake: one queue, read over a channel of its own, by at most one consumer at a time."""

import asyncio
from collections.abc import Callable
from typing import Any

from aio_pika.abc import AbstractConnection, AbstractIncomingMessage, AbstractQueue
from aio_pika.channel import Channel
from aio_pika.exceptions import AMQPChannelError

from resilience import log
from resilience._text import one_line
from resilience.integrations.rabbitmq.broker import (
    LOST,
    ConsumerError,
    answer,
    can_come_back,
    close_channel,
    open_channel,
)

# The broker may say no while it starts, or while somebody declares his queues anew.
_MOST_REFUSALS = 10
_TRY_AGAIN = 1.0  # seconds


class Intake:
    """What comes from one queue, with a prefetch that can be changed and set to nothing.

    Args:
        connection: The user's.
        queue: The queue's name.
        region: Whose messages are in it, for the log; empty where they are of several.
        receive: Takes each message; must return at once.
        lost: Is called when the channel is gone, and all its messages with it.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        queue: str,
        region: str,
        receive: Callable[[AbstractIncomingMessage], object],
        lost: Callable[[], object],
    ) -> None:
        self._connection = connection
        self.queue, self._region = queue, region
        self._receive, self._lost = receive, lost
        self._channel: Channel | None = None
        self._reader: AbstractQueue | None = None
        self._refusals = 0
        #: Of the consumer that runs; 0 where there is none.
        self.prefetch = 0
        #: The consumer's tag.
        self.tag: str | None = None
        #: When the broker may be asked again, in the loop's time; 0 where it did as it was asked.
        self.again_at = 0.0

    async def read(self, prefetch: int) -> None:
        """Replace the consumer by one with another prefetch; 0 leaves none.

        When it returns nothing more comes from the one before. Where the broker is gone `again_at`
        is set, and nothing is done before that time.

        Raises:
            ConsumerError: It will not come back, or says no for good.
        """
        if asyncio.get_running_loop().time() < self.again_at:
            return
        try:
            await self._read(prefetch)
        except LOST as error:
            await self._give_up_channel(error)
        else:
            self.again_at, self._refusals = 0.0, 0

    async def close(self) -> None:
        """Close the channel: what was not settled is in the queue again."""
        channel, self._channel = self._channel, None
        self.prefetch, self.tag, self._reader = 0, None, None
        await close_channel(channel)

    async def _read(self, prefetch: int) -> None:
        channel = self._channel
        if channel is None:
            if not prefetch:
                return
            channel = await self._open()
        assert self._reader is not None  # noqa: S101 - there is one on each open channel
        if self.tag is not None:
            # Prefetch does not change on a live consumer.
            tag, self.tag, self.prefetch = self.tag, None, 0
            await answer(self._reader.cancel(tag))
        if prefetch:
            await answer(channel.set_qos(prefetch_count=prefetch))
            self.tag = await answer(self._reader.consume(self._on_message))
            self.prefetch = prefetch

    async def _open(self) -> Channel:
        channel = await open_channel(self._connection)
        underlay = await answer(channel.get_underlay_channel())
        underlay.on_consumer_cancel_callbacks.add(self._on_cancel)
        channel.close_callbacks.add(self._on_close)
        self._channel = channel
        self._reader = await channel.get_queue(self.queue, ensure=False)
        return channel

    async def _give_up_channel(self, error: BaseException) -> None:
        refused = isinstance(error, AMQPChannelError)
        self._refusals = self._refusals + 1 if refused else 0
        if not self.again_at:
            whose = " for region {}" if self._region else ""
            what = f"cannot read queue {one_line(self.queue)}{whose}: {type(error).__name__}"
            log.log("WARNING", self._region, what)
        self.again_at = asyncio.get_running_loop().time() + _TRY_AGAIN
        await self.close()
        self._lost()
        if not can_come_back(self._connection) and not self._connection.connected.is_set():
            raise ConsumerError(
                f"the connection for queue {self.queue!r} is closed; a connection of "
                "aio_pika.connect_robust is made again by itself"
            ) from error
        if self._refusals >= _MOST_REFUSALS:
            raise ConsumerError(
                f"the broker refuses to let queue {self.queue!r} be read"
            ) from error

    async def _on_message(self, message: AbstractIncomingMessage) -> None:
        self._receive(message)

    def _on_cancel(self, frame: Any) -> None:
        """Take notice that the broker has ended the consumer: its queue is gone, or moves."""
        if frame.consumer_tag == self.tag:
            self.prefetch, self.tag = 0, None
            self._lost()

    def _on_close(self, channel: Any, _: BaseException | None) -> None:
        if channel is not None and channel is self._channel:
            self._channel = self._reader = self.tag = None
            self.prefetch = 0
            self._lost()
