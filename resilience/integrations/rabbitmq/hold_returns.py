"""HeldReturns: giving back messages that `hold_when_open` has held for too long.

During an outage, a message that has come back often is replaced by a copy at the end of its queue,
so that no delivery limit ends it. The handler is called with the message alone, and AMQP does not
say which queue a message was delivered from. A robust connection of aio-pika knows the consumers of
each queue that was declared over it, and a message that was published to the default exchange names
its queue as the routing key; otherwise, the name of the queue has to be given.
"""

import asyncio
from collections.abc import Callable, Iterator
from itertools import chain

from aio_pika.abc import AbstractIncomingMessage, AbstractQueue
from aio_pika.channel import Channel
from aio_pika.connection import Connection

from resilience.integrations.rabbitmq.amqp import return_to_queue
from resilience.integrations.rabbitmq.consumer_warnings import ConsumerWarnings
from resilience.integrations.rabbitmq.delivery_limit import (
    count_returns,
    most_returns,
    return_as_copy,
)
from resilience.integrations.rabbitmq.publisher import Publisher

# Seconds to wait for a broker that does not confirm a copy.
_CONFIRM_TIMEOUT = 30.0


class HeldReturns:
    """Gives messages back to the queue that they were delivered from.

    Args:
        queue: The queue's name; None if it has to be found out.
        warn: Logs what the decorated handler does.
    """

    def __init__(self, queue: str | None, warn: Callable[[str], object]) -> None:
        self._queue, self._warn = queue, warn
        self._is_logged = False

    async def give_back(self, message: AbstractIncomingMessage, *, is_closed: bool) -> None:
        """Give a message back; it is not lost, whatever happens meanwhile.

        Args:
            message: The message.
            is_closed: Whether the circuit of its region is CLOSED.
        """
        try:
            if is_closed or not await self._return_as_copy(message):
                await return_to_queue([message])
        except asyncio.CancelledError:
            await return_to_queue([message])
            raise

    async def _return_as_copy(self, message: AbstractIncomingMessage) -> bool:
        """Replace a message by a copy if it has come back often; return whether it was replaced."""
        returns = count_returns(message)
        queue = _queue_of(message)
        if returns < most_returns(None if queue is None else queue.arguments):
            return False
        name = self._queue or _name_of(queue, message)
        connection = _connection_of(message)
        if name is None or connection is None:
            self._warn_of_unknown_queue(returns)
            return False
        warnings = ConsumerWarnings(name)
        publisher = Publisher(connection, warnings)
        try:
            async with asyncio.timeout(_CONFIRM_TIMEOUT):
                return await return_as_copy(message, name, publisher, warnings)
        except TimeoutError:
            return False
        finally:
            await publisher.close()

    def _warn_of_unknown_queue(self, returns: int) -> None:
        if not self._is_logged:
            self._is_logged = True
            self._warn(
                f"returns a message that has come back {returns} times, instead of a copy of it: a "
                "delivery limit may end it; pass the name of the queue as `queue`"
            )


def _name_of(queue: AbstractQueue | None, message: AbstractIncomingMessage) -> str | None:
    """Return the name of the queue that a message was delivered from; None if it is unknown."""
    if queue is not None:
        return queue.name
    # The default exchange routes by the name of the queue, and to those in the header CC as well.
    is_named = message.exchange == "" and "CC" not in message.headers
    return (message.routing_key or None) if is_named else None


def _channels_of(message: AbstractIncomingMessage) -> Iterator[Channel]:
    """Yield the channel of aio-pika that a message was delivered over, if it can be found."""
    # The channel of a message is one of aiormq. There is no public way from it to that of aio-pika,
    # except that the latter listens to it.
    for listener in getattr(message.channel, "on_return_callbacks", ()):
        channel = getattr(listener, "__self__", None)
        if isinstance(channel, Channel):
            yield channel


def _connection_of(message: AbstractIncomingMessage) -> Connection | None:
    connections = (getattr(channel, "_connection", None) for channel in _channels_of(message))
    return next((one for one in connections if isinstance(one, Connection)), None)


def _queue_of(message: AbstractIncomingMessage) -> AbstractQueue | None:
    """Return the queue that a message was delivered from; None if aio-pika does not know it."""
    for channel in _channels_of(message):
        for queue in chain.from_iterable(getattr(channel, "_queues", {}).values()):
            is_consumed = message.consumer_tag in getattr(queue, "_consumers", ())
            if is_consumed and isinstance(queue, AbstractQueue):
                return queue
    return None
