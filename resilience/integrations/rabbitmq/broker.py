"""Talking to the broker: what every file here needs to do it safely."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar

from aio_pika.abc import AbstractConnection, AbstractIncomingMessage, AbstractRobustConnection
from aio_pika.channel import Channel
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelInvalidStateError

from resilience.errors import ResilienceError

T = TypeVar("T")

#: What aio-pika raises where the broker, or a channel to it, is gone.
LOST = (*CONNECTION_EXCEPTIONS, TimeoutError)
# After a restart a quorum queue without a leader does not answer at all.
ANSWER_WITHIN = 10.0  # seconds


class ConsumerError(ResilienceError):
    """A consumer cannot start, or cannot go on, and says why.

    Nothing is lost: what it had not settled is in its queue again.
    """


async def answer(asked: Awaitable[T], within: float | None = ANSWER_WITHIN) -> T:
    """Await the broker, but not for ever.

    When a channel dies aio-pika cancels whoever waits for it, which is no cancellation of ours, or
    raises an `Exception` that is nothing else. In a task of its own one can be told from the other.
    """
    call = asyncio.ensure_future(asked)
    try:
        answered, _ = await asyncio.wait([call], timeout=within)
    finally:
        call.add_done_callback(_take_note)
        call.cancel()
    if not answered:
        raise TimeoutError(f"the broker has not answered within {within:g} s")
    error = ChannelInvalidStateError("closed") if call.cancelled() else call.exception()
    if type(error) is Exception:
        raise ChannelInvalidStateError("closed") from error
    if error is not None:
        raise error
    return call.result()


def _take_note(call: asyncio.Future[Any]) -> None:
    """Keep asyncio from complaining about the error of a call that nobody waits for any more."""
    if not call.cancelled():
        call.exception()


def is_cancelled() -> bool:
    """Tell whether somebody wants the running task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def settle(settling: Awaitable[None], within: float | None = ANSWER_WITHIN) -> bool:
    """Ack or nack; False where the channel is gone, so that the broker has the message again."""
    try:
        await answer(settling, within)
    except LOST:
        return False
    return True


async def nack_all(messages: Iterable[AbstractIncomingMessage]) -> None:
    """Return messages to their queue in this order, until the broker is gone."""
    for message in messages:
        if is_open(message) and not await settle(message.nack(requeue=True)):
            return


def is_open(message: AbstractIncomingMessage) -> bool:
    """Tell whether a message can still be settled: by us, and on the channel it came on."""
    try:
        return not message.processed and not message.channel.is_closed
    except ChannelInvalidStateError:
        return False


def can_come_back(connection: AbstractConnection) -> bool:
    """Tell whether a connection that is lost is made again, by aio-pika."""
    robust = isinstance(connection, AbstractRobustConnection)
    return robust and not connection.close_called and not connection.is_closed


async def open_channel(connection: AbstractConnection, *, for_publishing: bool = False) -> Channel:
    """Open a channel of our own on a connection of the user's.

    A plain one, also on a robust connection: what was in hand is gone with a channel, so nobody
    but us may open it again.
    """
    if not connection.connected.is_set():
        raise ChannelInvalidStateError("not connected")
    channel = Channel(
        connection, publisher_confirms=for_publishing, on_return_raises=for_publishing
    )
    await answer(channel.initialize())
    return channel


async def close_channel(channel: Channel | None) -> None:
    """Close a channel, if it can be; the broker takes back what was not settled on it."""
    if channel is not None and not channel.is_closed:
        await settle(channel.close())
