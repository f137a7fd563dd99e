"""StubBroker: what a test does to the broker, and what it sees of it."""

from collections.abc import Mapping
from typing import Self, cast

from aio_pika import Message
from aio_pika.abc import AbstractQueue, AbstractRobustConnection
from aio_pika.robust_connection import RobustConnection
from pamqp.common import FieldTable
from yarl import URL

from resilience import _validate
from resilience.testing.rabbitmq.pipe import Pipe, PipeFactory
from resilience.testing.rabbitmq.queue import QueueCounts, StubMessage, StubQueue
from resilience.testing.rabbitmq.session import Session
from resilience.testing.rabbitmq.vhost import ChannelError, Vhost

# The longest pause between two heartbeats. With a short one, they would fill hours of virtual time;
# without any, aio-pika would take a connection for lost that was silent for three seconds.
_URL = URL("amqp://stub/?heartbeat=65534")


class StubBroker:
    """A RabbitMQ in the test's own process: without a server, without sockets, in any time.

    `async with` closes, at the end, every connection that the broker has given out.

    `connect` returns a connection of aio-pika itself: consumers and handlers run as in production,
    up to the bytes that they send. With `run_in_virtual_time`, an outage of an hour takes a moment.

    It knows queues and the default exchange, consumers with prefetch and priority, publisher
    confirms, messages that cannot be routed, redelivery, `x-delivery-limit`, dead-lettering to a
    queue by name, alarms and restarts. It ignores other arguments of queues, and refuses other
    requests, such as declaring an exchange, with NOT_IMPLEMENTED.
    """

    def __init__(self) -> None:
        self._vhost = Vhost()
        self._vhost.on_delete.append(self._on_delete)
        self._sessions: list[Session] = []
        self._connections: list[AbstractRobustConnection] = []
        self._is_stopped = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection that `connect` and `get_queue` have returned."""
        connections, self._connections = self._connections, []
        for connection in connections:
            await connection.close()

    async def connect(self) -> AbstractRobustConnection:
        """Return a new connection, as `aio_pika.connect_robust` would.

        Raises:
            ConnectionError: The broker is stopped.
        """
        connection = RobustConnection(_URL)
        connection.kwargs["transport_factory"] = PipeFactory(self._accept)
        await connection.connect()
        self._connections.append(connection)
        return connection

    async def get_queue(self, name: str) -> AbstractQueue:
        """Return a queue of aio-pika, for a consumer, over a connection of its own.

        Args:
            name: The queue, which exists.

        Raises:
            ValueError: There is no such queue.
            ConnectionError: The broker is stopped.
        """
        self._queue(name)
        connection = await self.connect()
        return await (await connection.channel()).get_queue(name)

    # Queues and messages

    def declare(self, name: str, *, arguments: Mapping[str, object] | None = None) -> None:
        """Make a durable queue; nothing happens if it exists.

        Args:
            name: Its name.
            arguments: Its arguments, such as `{"x-queue-type": "quorum", "x-delivery-limit": 20}`.

        Raises:
            TypeError: The name is not a string, or the arguments are not a mapping.
            ValueError: The name is empty, or the queue exists and has other arguments.
        """
        _validate.check_text("name", name)
        if arguments is not None:
            _validate.check_type("arguments", arguments, Mapping)
        try:
            self._vhost.declare(name, arguments=cast("FieldTable", dict(arguments or {})))
        except ChannelError as error:
            raise ValueError(f"queue {name!r} exists with other arguments: {error}") from None

    def publish(self, queue: str, message: Message) -> None:
        """Put a message at the end of a queue.

        Args:
            queue: The queue.
            message: The message.

        Raises:
            TypeError: The message is not one of aio-pika, or AMQP cannot encode its properties.
            ValueError: There is no such queue.
        """
        _validate.check_type("message", message, Message)
        properties = message.properties
        try:
            properties.marshal()
        except Exception as error:
            kind = type(error).__name__
            raise TypeError(f"message must have properties that AMQP can encode: {kind}") from error
        self._queue(queue).put("", queue, properties, message.body)

    def messages(self, queue: str) -> list[StubMessage]:
        """Return the messages of a queue in their order, those that are unacked included.

        Args:
            queue: The queue.

        Raises:
            ValueError: There is no such queue.
        """
        return self._queue(queue).messages()

    def counts(self, queue: str) -> QueueCounts:
        """Return what has happened in a queue.

        Args:
            queue: The queue.

        Raises:
            ValueError: There is no such queue.
        """
        return self._queue(queue).counts()

    def delete(self, queue: str) -> None:
        """Delete a queue with its messages, and end its consumers.

        Args:
            queue: The queue.

        Raises:
            ValueError: There is no such queue.
        """
        self._vhost.delete(self._queue(queue).name)

    # Faults

    def stop(self) -> None:
        """Go down: all connections end, and unacked messages are back in their queues."""
        self._is_stopped = True
        sessions = list(self._sessions)
        for session in sessions:
            session.end_consumers()  # What one gives back must not go to the next one.
        for session in sessions:
            session.cut()
        self._vhost.restart()

    def start(self) -> None:
        """Come up again after `stop`, with all durable queues and their messages."""
        self._is_stopped = False

    def block(self, reason: str = "low on memory") -> None:
        """Raise an alarm: nothing is read from a connection from the moment that it publishes.

        Args:
            reason: What the broker says about it.

        Raises:
            TypeError: The reason is not a string.
            ValueError: The reason is empty.
        """
        self._vhost.alarm = _validate.check_text("reason", reason)

    def unblock(self) -> None:
        """End the alarm."""
        self._vhost.alarm = None
        for session in list(self._sessions):
            session.unblock()

    # Connections

    def _queue(self, name: object) -> StubQueue:
        queue = self._vhost.queues.get(name) if isinstance(name, str) else None
        if queue is None:
            known = ", ".join(sorted(map(repr, self._vhost.queues))) or "none"
            expected = f"a queue of the broker ({known})"
            raise ValueError(f"queue must be {expected}, got {_validate.shown(name)}")
        return queue

    def _accept(self, pipe: Pipe) -> Session:
        if self._is_stopped:
            raise ConnectionRefusedError("the stub broker is stopped")
        session = Session(self._vhost, pipe, self._on_end)
        self._sessions.append(session)
        return session

    def _on_end(self, session: Session) -> None:
        if session in self._sessions:
            self._sessions.remove(session)

    def _on_delete(self, queue: StubQueue) -> None:
        for session in list(self._sessions):
            session.queue_gone(queue)
