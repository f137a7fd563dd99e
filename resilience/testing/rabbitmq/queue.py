"""StubQueue: one queue of the stub broker, its messages and its consumers."""

from bisect import insort
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Protocol

from pamqp import commands
from pamqp.common import FieldTable, FieldValue

DEAD_LETTER_EXCHANGE = "x-dead-letter-exchange"
DEAD_LETTER_ROUTING_KEY = "x-dead-letter-routing-key"
DELIVERY_COUNT = "x-delivery-count"
_DELIVERY_LIMIT = "x-delivery-limit"
_QUEUE_TYPE = "x-queue-type"
_PRIORITY = "x-priority"


@dataclass(frozen=True, slots=True)
class StubMessage:
    """A message in a queue of the stub broker.

    Args:
        body: Its body.
        headers: Its headers.
        message_id: Its id; None if it has none.
        deliveries: How often it has been delivered from this queue.
        unacked: Whether a consumer has it at present.
    """

    body: bytes
    headers: Mapping[str, object]
    message_id: str | None
    deliveries: int
    unacked: bool


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """What has happened in a queue of the stub broker.

    Args:
        ready: The messages that wait for a consumer.
        unacked: The messages that consumers have at present.
        consumers: The consumers.
        delivered: The deliveries, those of the same message again included.
        redelivered: The deliveries of messages that had been delivered before.
        acked: The messages that were acknowledged.
        dead_lettered: The messages that were rejected, or returned too often.
    """

    ready: int
    unacked: int
    consumers: int
    delivered: int
    redelivered: int
    acked: int
    dead_lettered: int


@dataclass(slots=True, eq=False)
class Stored:
    """A message, with what its queue knows about it.

    Args:
        number: Its place in the queue.
        exchange: The exchange to which it was published.
        routing_key: The routing key with which it was published.
        properties: Its properties.
        body: Its body.
        deliveries: How often it has been delivered.
        returns: How often it has come back.
    """

    number: int
    exchange: str
    routing_key: str
    properties: commands.Basic.Properties
    body: bytes
    deliveries: int = 0
    returns: int = 0


class Consumer(Protocol):
    """What a queue needs to know about a consumer."""

    @property
    def has_room(self) -> bool:
        """Whether its prefetch allows another message."""
        ...

    @property
    def priority(self) -> int:
        """The higher, the earlier it gets a message."""
        ...

    def deliver(self, message: Stored) -> None:
        """Send it a message."""
        ...


@dataclass(slots=True, eq=False)
class StubQueue:
    """A queue.

    Args:
        name: Its name.
        durable: Whether it outlives a restart of the broker.
        exclusive: Whether it was declared as exclusive.
        auto_delete: Whether it was declared as auto-delete.
        arguments: The arguments that it was declared with.
        dead_letter: Called with a message that is dead-lettered, and why.
    """

    name: str
    durable: bool
    exclusive: bool
    auto_delete: bool
    arguments: FieldTable
    dead_letter: Callable[["StubQueue", Stored, str], None]
    ready: list[Stored] = field(default_factory=list)
    unacked: set[Stored] = field(default_factory=set)
    consumers: list[Consumer] = field(default_factory=list)
    delivered: int = 0
    redelivered: int = 0
    acked: int = 0
    dead_lettered: int = 0
    last_number: int = 0

    # Messages come in and go out

    def put(
        self, exchange: str, routing_key: str, properties: commands.Basic.Properties, body: bytes
    ) -> None:
        """Add a message at the end."""
        self.last_number += 1
        message = Stored(self.last_number, exchange, routing_key, properties, body)
        self.ready.append(message)
        self.deliver()

    def deliver(self) -> None:
        """Deliver messages as long as there is a consumer with room for one."""
        while self.ready and (consumer := self._next_consumer()) is not None:
            consumer.deliver(self.take())

    def take(self) -> Stored:
        """Take the first message, which is unacked from now on."""
        message = self.ready.pop(0)
        self.delivered += 1
        self.redelivered += message.deliveries > 0
        message.deliveries += 1
        self.unacked.add(message)
        return message

    def ack(self, message: Stored) -> None:
        """Remove a message for good."""
        self.unacked.discard(message)
        self.acked += 1

    def reject(self, message: Stored) -> None:
        """Remove a message that a consumer rejects."""
        self.unacked.discard(message)
        self._dead_letter(message, "rejected")

    def requeue(self, message: Stored) -> None:
        """Put a message back to its place; the caller calls `deliver` afterwards."""
        self.unacked.discard(message)
        message.returns += 1
        limit = self.arguments.get(_DELIVERY_LIMIT)
        if isinstance(limit, int) and 0 <= limit < message.returns:
            self._dead_letter(message, "delivery_limit")
        else:
            insort(self.ready, message, key=attrgetter("number"))

    def purge(self) -> int:
        """Remove the messages that are ready; return how many they were."""
        purged = len(self.ready)
        self.ready.clear()
        return purged

    def properties_of(self, message: Stored) -> commands.Basic.Properties:
        """Return the properties with which a message is delivered."""
        properties = copy(message.properties)
        properties.headers = self.headers_of(message) or properties.headers
        return properties

    def headers_of(self, message: Stored) -> FieldTable:
        """Return the headers with which a message is delivered."""
        headers = dict(message.properties.headers or {})
        if message.returns and self.arguments.get(_QUEUE_TYPE) == "quorum":
            headers[DELIVERY_COUNT] = message.returns
        return headers

    def _dead_letter(self, message: Stored, reason: str) -> None:
        self.dead_lettered += 1
        self.dead_letter(self, message, reason)

    # Consumers

    def add_consumer(self, consumer: Consumer) -> None:
        """Add a consumer, which gets messages from now on."""
        self.consumers.append(consumer)
        self.deliver()

    def remove_consumer(self, consumer: Consumer) -> None:
        """Remove a consumer; what it has not acked stays unacked."""
        self.consumers.remove(consumer)

    def _next_consumer(self) -> Consumer | None:
        """Return the consumer whose turn it is: of the highest priority, one after the other."""
        free = [consumer for consumer in self.consumers if consumer.has_room]
        if not free:
            return None
        chosen = max(free, key=attrgetter("priority"))  # the first of them
        self.consumers.remove(chosen)
        self.consumers.append(chosen)
        return chosen

    # What a test sees

    def counts(self) -> QueueCounts:
        """Return what has happened in the queue."""
        return QueueCounts(
            ready=len(self.ready),
            unacked=len(self.unacked),
            consumers=len(self.consumers),
            delivered=self.delivered,
            redelivered=self.redelivered,
            acked=self.acked,
            dead_lettered=self.dead_lettered,
        )

    def messages(self) -> list[StubMessage]:
        """Return the messages in their order, those that are unacked included."""
        everything = sorted([*self.ready, *self.unacked], key=attrgetter("number"))
        return [
            StubMessage(
                body=message.body,
                headers=self.headers_of(message),
                message_id=message.properties.message_id,
                deliveries=message.deliveries,
                unacked=message in self.unacked,
            )
            for message in everything
        ]


def priority_in(arguments: Mapping[str, FieldValue]) -> int:
    """Return the priority in the arguments of a consumer."""
    priority = arguments.get(_PRIORITY)
    return priority if isinstance(priority, int) else 0
