"""Declaring a queue over a channel of its own: a refusal of the broker closes the channel."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import cast

from aio_pika.abc import AbstractConnection, FieldValue
from aio_pika.channel import Channel
from aio_pika.exceptions import AMQPChannelError

from resilience.integrations.rabbitmq.amqp import (
    CONNECTION_LOST,
    ConsumerError,
    broker_reply,
    close_channel,
    open_channel,
)


async def open_checking_channel(connection: AbstractConnection) -> Channel:
    """Open a channel to inspect the broker over.

    Args:
        connection: The user's connection.

    Raises:
        ConsumerError: The connection was lost.
    """
    try:
        return await open_channel(connection)
    except CONNECTION_LOST as error:
        raise ConsumerError("the connection to the broker is not open") from error


async def declare_queue(
    connection: AbstractConnection,
    name: str,
    *,
    passive: bool = False,
    durable: bool = True,
    arguments: Mapping[str, object] | None = None,
) -> AMQPChannelError | None:
    """Declare a queue.

    Args:
        connection: The user's connection.
        name: The queue's name.
        passive: Whether the queue has to exist; the rest is not compared then.
        durable: Whether the queue outlives a restart of the broker.
        arguments: Its arguments.

    Returns:
        The error of a broker that refuses; None if it does not.

    Raises:
        ConsumerError: The connection was lost.
    """
    opening = partial(open_channel, connection)
    try:
        return await declare_over(
            opening, name, passive=passive, durable=durable, arguments=arguments
        )
    except CONNECTION_LOST as error:
        raise ConsumerError(
            f"queue {name!r} cannot be checked: the connection to the broker was lost"
        ) from error


async def declare_over(
    opening: Callable[[], Awaitable[Channel]],
    name: str,
    *,
    passive: bool = False,
    durable: bool = True,
    arguments: Mapping[str, object] | None = None,
) -> AMQPChannelError | None:
    """Declare a queue, as `declare_queue` does, or raise one of `CONNECTION_LOST`.

    Args:
        opening: Opens a channel, which is closed again.
        name: The queue's name.
        passive: Whether the queue has to exist; the rest is not compared then.
        durable: Whether the queue outlives a restart of the broker.
        arguments: Its arguments.

    Returns:
        The error of a broker that refuses; None if it does not.
    """
    channel: Channel | None = None
    try:
        channel = await opening()
        underlay = await broker_reply(channel.get_underlay_channel())
        fields = cast("dict[str, FieldValue]", dict(arguments or {}))
        await broker_reply(
            underlay.queue_declare(name, passive=passive, durable=durable, arguments=fields)
        )
    except AMQPChannelError as error:
        return error
    finally:
        await close_channel(channel)
    return None
