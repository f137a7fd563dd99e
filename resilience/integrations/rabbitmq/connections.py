"""Connections of the consumer's own, next to the user's: one to publish over, one to read over."""

import asyncio
from contextlib import suppress

from aio_pika.channel import Channel
from aio_pika.connection import Connection
from aio_pika.exceptions import ChannelInvalidStateError, InvalidFrameError
from pamqp.common import FieldTable

from resilience.integrations.rabbitmq.amqp import (
    CONNECTION_LOST,
    finish_closing,
    finish_opening,
    open_channel,
    reconnects,
    server_text,
)
from resilience.integrations.rabbitmq.consumer_warnings import ConsumerWarnings
from resilience.integrations.rabbitmq.frames import FrameTransport, OnBlocked

# Seconds. A connection that is blocked takes no leave.
_CLOSE_TIMEOUT = 3.0
# Seconds after which it is noticed that the user's connection is blocked, or no longer.
_POLL_INTERVAL = 5.0
# What aiormq ends a connection with when it cannot decode a frame.
_UNDECODABLE = (InvalidFrameError, RecursionError, OverflowError)


async def open_connection(users: Connection, purpose: str, on_blocked: OnBlocked) -> Connection:
    """Open another connection to the broker of the user's.

    It has the user's parameters as they are now: a token may have been renewed. It is a plain
    connection, which is not opened again on its own.

    Args:
        users: The user's connection.
        purpose: What the connection is for; the broker shows it as a part of its name.
        on_blocked: Called when the broker blocks or unblocks the connection.
    """
    parameters = dict(users.kwargs)
    properties: FieldTable = dict(parameters.pop("client_properties", None) or {})
    named = properties.get("connection_name") or users.url.query.get("name")
    name = named if isinstance(named, str) else "region-breaker"
    properties["connection_name"] = f"{name}, {purpose}"
    context = parameters.pop("context", None)
    connection = Connection(
        users.url, ssl_context=context, client_properties=properties, **parameters
    )
    factory = parameters.get("transport_factory")
    connection.kwargs["transport_factory"] = FrameTransport(on_blocked, factory)
    await finish_opening(connection.connect(), connection.close)
    return connection


async def close_connection(connection: Connection | None) -> None:
    """Close a connection, or leave it alone if the broker does not reply."""
    if connection is not None:
        with suppress(*CONNECTION_LOST):
            await finish_closing(connection.close(), _CLOSE_TIMEOUT)


class ReadingConnection:
    """The connection over which queues are consumed.

    It is the user's, until that has been ended by a message that aio-pika cannot decode: the broker
    would deliver the message again, and end the connection again. From then on it is one of the
    consumer's own, which passes on such a message in a readable form.

    Args:
        users: The user's connection.
        warnings: The warnings of the consumer.
    """

    def __init__(self, users: Connection, warnings: ConsumerWarnings) -> None:
        self._users, self._warnings = users, warnings
        self._users_is_fit = True
        self._own: Connection | None = None
        self._opening = asyncio.Lock()

    async def open_channel(self) -> Channel:
        """Open a channel to consume over."""
        if self._users_is_fit:
            return await open_channel(self._users)
        if self._users.close_called:
            raise ChannelInvalidStateError("the connection of the user is closed")
        async with self._opening:
            if self._own is None or not self._own.connected.is_set():
                await close_connection(self._own)
                self._own = await open_connection(self._users, "reading", lambda _: None)
            return await open_channel(self._own)

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone for good."""
        if self._users_is_fit and not self._users.connected.is_set():
            # No channel need have said so yet.
            self.note_close(_closing_error(self._users))
        if self._users_is_fit:
            return not reconnects(self._users) and not self._users.connected.is_set()
        return self._users.close_called

    def note_close(self, error: BaseException | None) -> None:
        """Note why a channel was closed."""
        if self._users_is_fit and isinstance(error, _UNDECODABLE):
            self._users_is_fit = False
            self._warnings.warn(
                "unreadable",
                "has received a message that aio-pika cannot decode, which has ended the "
                f"connection ({server_text(error)}); it consumes over a connection of its own now",
            )

    async def watch(self) -> None:
        """Warn when the broker blocks the user's connection, until cancelled.

        It does so in an alarm if somebody publishes over the connection, a handler for example, and
        then it does not read what is acknowledged over the connection either.
        """
        while True:
            await asyncio.sleep(_POLL_INTERVAL)
            transport = self._users.transport
            if transport is None or not self._users.connected.is_set():
                continue
            ready = asyncio.ensure_future(transport.ready())
            try:
                await self._warn_while_blocked(ready)
            finally:
                ready.cancel()

    async def _warn_while_blocked(self, ready: asyncio.Future[object]) -> None:
        await asyncio.wait([ready], timeout=_POLL_INTERVAL)
        while not ready.done() and self._users.connected.is_set():
            self._warnings.warn(
                "blocked reading",
                "cannot acknowledge messages, since the broker has blocked the connection in an "
                "alarm: something publishes over it, for which it should use another connection",
            )
            await asyncio.wait([ready], timeout=_POLL_INTERVAL)
        self._warnings.end(
            "blocked reading",
            "can acknowledge messages again: the broker has unblocked the connection",
        )

    async def close(self) -> None:
        """Close the connection, if it is the consumer's own."""
        own, self._own = self._own, None
        await close_connection(own)


def _closing_error(connection: Connection) -> BaseException | None:
    """Return what has ended a connection, as far as it is known."""
    transport = connection.transport
    if transport is None or not transport.connection.is_closed:
        return None
    closing = transport.connection.closing
    return None if closing.cancelled() else closing.exception()
