"""Talking to the broker: waiting for its replies, settling messages, opening and closing channels.

Every message that is acknowledged or given back goes through `acknowledge` or `return_to_queue`,
except for those that the user's own code settles.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, TypeVar

from aio_pika.abc import (
    AbstractChannel,
    AbstractConnection,
    AbstractIncomingMessage,
    AbstractQueue,
    AbstractRobustConnection,
)
from aio_pika.channel import Channel
from aio_pika.connection import Connection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelInvalidStateError

from resilience._text import one_line
from resilience.errors import ResilienceError

T = TypeVar("T")

#: The exceptions that aio-pika raises when the broker, or a channel to it, is gone.
CONNECTION_LOST = (*CONNECTION_EXCEPTIONS, TimeoutError)
# A quorum queue that has no leader, as after a restart of the broker, does not reply at all.
REPLY_TIMEOUT = 10.0  # seconds


class ConsumerError(ResilienceError):
    """A consumer cannot start, or cannot continue; the text says why.

    No message is lost: every message that the consumer had not settled is back in its queue.
    """


class MessageError(ResilienceError):
    """A message cannot be read, or cannot be copied to another queue; the text says why.

    The message goes to `on_error`.
    """


def server_text(error: BaseException) -> str:
    """Return the broker's own words in an error, in one line, or the error's type."""
    words = [one_line(word) for word in error.args if isinstance(word, str) and word]
    return words[-1] if words else type(error).__name__


# Waiting for the broker


async def broker_reply(request: Awaitable[T], timeout: float | None = REPLY_TIMEOUT) -> T:
    """Wait for the broker's reply to a request, but not for ever.

    When a channel dies, aio-pika cancels the requests that are waiting for it, or fails them with a
    bare `Exception`. The request therefore runs in a task of its own: this way such a cancellation
    is not mistaken for one of the caller.

    Args:
        request: The pending call of aio-pika.
        timeout: Seconds to wait. None waits for as long as the channel lives.

    Returns:
        The reply.

    Raises:
        TimeoutError: The broker has not replied in time.
        ChannelInvalidStateError: The channel died while the request was pending.
    """
    call = asyncio.ensure_future(request)
    try:
        replied, _ = await asyncio.wait([call], timeout=timeout)
    finally:
        call.add_done_callback(_retrieve_exception)
        call.cancel()
    if not replied:
        raise TimeoutError(f"the broker has not replied within {timeout:g} s")
    error = ChannelInvalidStateError("closed") if call.cancelled() else call.exception()
    if type(error) is Exception:
        raise ChannelInvalidStateError("closed") from error
    if error is not None:
        raise error
    return call.result()


def _retrieve_exception(call: asyncio.Future[T]) -> None:
    """Keep asyncio from complaining about the error of an abandoned request."""
    if not call.cancelled():
        call.exception()


def cancellation_requested() -> bool:
    """Whether somebody has asked the current task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def as_exception(raised: BaseException) -> Exception:
    """Return what a function of the user has raised, in a form that `on_error` takes."""
    if isinstance(raised, Exception):
        return raised
    error = MessageError(f"a function of the consumer raised {type(raised).__name__}")
    error.__cause__ = raised
    return error


# Settling messages


def is_unsettled(message: AbstractIncomingMessage) -> bool:
    """Whether a message can still be settled: nobody has done so, and its channel is open."""
    try:
        return not message.processed and not message.channel.is_closed
    except ChannelInvalidStateError:
        return False


async def acknowledge(message: AbstractIncomingMessage) -> None:
    """Acknowledge a message, unless it has been settled already.

    This is done for every message, and therefore without the task that `broker_reply` would make.
    """
    if not is_unsettled(message):
        return
    try:
        await message.ack()
    except asyncio.CancelledError:
        if cancellation_requested():
            raise
        # aio-pika has cancelled its own request, since the channel died.
    except CONNECTION_LOST:
        pass
    except Exception as error:
        if type(error) is not Exception:  # With such a bare one, it fails requests, too.
            raise


async def return_to_queue(messages: Iterable[AbstractIncomingMessage]) -> None:
    """Give messages back to their queue, in this order, until the broker is gone.

    This is the only place where a message is given back. A message that has been settled already
    is left alone.
    """
    for message in messages:
        if is_unsettled(message) and not await try_settle(message.nack(requeue=True)):
            return


async def try_settle(settling: Awaitable[None], timeout: float | None = REPLY_TIMEOUT) -> bool:
    """Wait for an ack or a nack to be sent.

    Returns:
        Whether it was sent. If it was not, the channel is gone and the message is back in its
        queue.
    """
    try:
        await broker_reply(settling, timeout)
    except CONNECTION_LOST:
        return False
    return True


# Channels and connections


def connection_of(queue: AbstractQueue) -> Connection:
    """Return the connection that a queue is used over."""
    # aio-pika has no public way from a queue, or from its channel, to the connection.
    connection: object = getattr(queue.channel, "_connection", None)
    if not isinstance(connection, Connection):
        kind = type(queue.channel).__name__
        raise TypeError(f"queue must come from a channel of aio_pika, got one of a {kind}")
    return connection


def reconnects(connection: AbstractConnection) -> bool:
    """Whether aio-pika opens a connection again after it was lost."""
    robust = isinstance(connection, AbstractRobustConnection)
    return robust and not connection.close_called and not connection.is_closed


async def open_channel(connection: AbstractConnection, *, for_publishing: bool = False) -> Channel:
    """Open a new channel on the user's connection.

    It is a plain channel, also on a robust connection. aio-pika must not open it again on its own:
    the messages that were unacked on it are gone with it.

    Args:
        connection: The user's connection.
        for_publishing: Whether the broker confirms each published message, and an unroutable one
            raises.
    """
    if not connection.connected.is_set():
        raise ChannelInvalidStateError("not connected")
    channel = Channel(
        connection, publisher_confirms=for_publishing, on_return_raises=for_publishing
    )
    await finish_opening(channel.initialize(), channel.close)
    return channel


async def finish_opening(
    opening: Awaitable[object], close: Callable[[], Awaitable[object]]
) -> None:
    """Wait until a channel or a connection is open, and leave nothing open if that is given up.

    aiormq leaves tasks behind if the opening is cancelled. It therefore goes on, and what is open
    in the end is closed.

    Args:
        opening: Opens it.
        close: Closes it.
    """
    task = asyncio.ensure_future(opening)
    try:
        await broker_reply(asyncio.shield(task))
    except BaseException:
        _keep(asyncio.ensure_future(_close_when_open(task, close)))
        raise


# What goes on although nobody waits for it.
_tasks: set[asyncio.Future[Any]] = set()


def _keep(task: asyncio.Future[Any]) -> None:
    """Keep a task until it has ended: the event loop has only a weak reference to it."""
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    task.add_done_callback(_retrieve_exception)


async def _close_when_open(
    opening: asyncio.Future[object], close: Callable[[], Awaitable[object]]
) -> None:
    _keep(opening)
    await asyncio.wait([opening], timeout=REPLY_TIMEOUT)
    if not opening.done():
        opening.cancel()  # The broker does not answer.
    elif not opening.cancelled() and opening.exception() is None:
        with suppress(*CONNECTION_LOST):
            await broker_reply(close())


async def close_channel(channel: AbstractChannel | None) -> None:
    """Close a channel if it is open; the messages that are unacked on it go back to their queue."""
    if channel is not None and not channel.is_closed:
        with suppress(*CONNECTION_LOST):
            await finish_closing(channel.close())


async def finish_closing(closing: Awaitable[object], timeout: float = REPLY_TIMEOUT) -> None:
    """Wait until a channel or a connection is closed; if that is given up, the closing goes on.

    Args:
        closing: Closes it.
        timeout: Seconds to wait for the broker.

    Raises:
        TimeoutError: The broker has not replied in time.
        ChannelInvalidStateError: It was lost meanwhile.
    """
    task = asyncio.ensure_future(closing)
    _keep(task)
    try:
        await broker_reply(asyncio.shield(task), timeout)
    except TimeoutError:
        task.cancel()
        raise
