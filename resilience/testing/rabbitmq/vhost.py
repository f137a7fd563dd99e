"""Vhost: all queues of the stub broker, and what is published to them."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from pamqp import commands
from pamqp.common import FieldTable, FieldValue

from resilience.testing.rabbitmq.queue import (
    DEAD_LETTER_EXCHANGE,
    DEAD_LETTER_ROUTING_KEY,
    Stored,
    StubQueue,
)

NOT_FOUND = 404
PRECONDITION_FAILED = 406
NOT_IMPLEMENTED = 540

# The integers of AMQP, with the bits of their values.
_INTEGERS = (("byte", 7), ("short", 15), ("signedint", 31), ("long", 63))


class ChannelError(Exception):
    """A request that the broker refuses: it closes the channel for that.

    Args:
        code: The reply code.
        text: The reply text, in RabbitMQ's words.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


class Vhost:
    """The queues, by name. There is only the default exchange, which routes by a queue's name."""

    def __init__(self) -> None:
        self.queues: dict[str, StubQueue] = {}
        #: Why the broker takes no messages at present; None if it does.
        self.alarm: str | None = None
        #: Called with each queue that is deleted.
        self.on_delete: list[Callable[[StubQueue], None]] = []

    def get(self, name: str) -> StubQueue:
        """Return a queue.

        Raises:
            ChannelError: There is none.
        """
        try:
            return self.queues[name]
        except KeyError:
            raise ChannelError(NOT_FOUND, f"NOT_FOUND - no queue '{name}' in vhost '/'") from None

    def declare(
        self,
        name: str,
        *,
        durable: bool = True,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: FieldTable | None = None,
    ) -> StubQueue:
        """Return a queue, which is made if it does not exist.

        Raises:
            ChannelError: It exists, and differs.
        """
        queue = self.queues.get(name)
        arguments = arguments or {}
        if queue is None:
            queue = self.queues[name] = StubQueue(
                name, durable, exclusive, auto_delete, arguments, self._dead_letter
            )
            return queue
        _check_flag(name, "durable", durable, queue.durable)
        _check_flag(name, "auto_delete", auto_delete, queue.auto_delete)
        _check_arguments(name, arguments, queue.arguments)
        return queue

    def delete(self, name: str) -> int:
        """Delete a queue, and end its consumers; return how many messages are lost with it."""
        queue = self.queues.pop(name, None)
        if queue is None:
            return 0
        for on_delete in self.on_delete:
            on_delete(queue)
        return len(queue.ready)

    def publish(
        self,
        exchange: str,
        routing_key: str,
        properties: commands.Basic.Properties,
        body: bytes,
    ) -> bool:
        """Put a message into the queue with the name of its routing key.

        Returns:
            Whether there is one.

        Raises:
            ChannelError: There is no such exchange.
        """
        if exchange:
            text = f"NOT_FOUND - no exchange '{exchange}' in vhost '/'"
            raise ChannelError(NOT_FOUND, text)
        queue = self.queues.get(routing_key)
        if queue is None:
            return False
        queue.put(exchange, routing_key, properties, body)
        return True

    def restart(self) -> None:
        """Forget what does not outlive a restart."""
        self.queues = {name: queue for name, queue in self.queues.items() if queue.durable}
        self.alarm = None

    def _dead_letter(self, queue: StubQueue, message: Stored, reason: str) -> None:
        """Publish a message to where its queue sends dead letters, if it says so."""
        if DEAD_LETTER_EXCHANGE not in queue.arguments:
            return
        exchange = str(queue.arguments[DEAD_LETTER_EXCHANGE])
        key = str(queue.arguments.get(DEAD_LETTER_ROUTING_KEY, message.routing_key))
        if exchange or key not in self.queues:
            return
        headers = dict(message.properties.headers or {})
        headers.setdefault("x-first-death-queue", queue.name)
        headers.setdefault("x-first-death-reason", reason)
        headers.setdefault("x-first-death-exchange", message.exchange)
        headers["x-death"] = _deaths(headers.get("x-death"), queue, message, reason)
        message.properties.headers = headers
        self.publish(exchange, key, message.properties, message.body)


def _deaths(known: object, queue: StubQueue, message: Stored, reason: str) -> list[FieldValue]:
    """Return where a message was dead-lettered, the latest first.

    Args:
        known: What the message says about that until now.
        queue: The queue that dead-letters it now.
        message: The message.
        reason: Why it is dead-lettered.
    """
    deaths: list[FieldValue] = list(known) if isinstance(known, list) else []
    death: FieldTable = {
        "count": 1,
        "exchange": message.exchange,
        "queue": queue.name,
        "reason": reason,
        "routing-keys": [message.routing_key],
        "time": datetime.now(UTC),
    }
    for earlier in deaths:
        if isinstance(earlier, dict) and (earlier["queue"], earlier["reason"]) == (
            queue.name,
            reason,
        ):
            deaths.remove(earlier)
            death = {**earlier, "count": int(str(earlier["count"])) + 1}
            break
    return [death, *deaths]


def _check_flag(name: str, flag: str, received: bool, current: bool) -> None:  # noqa: FBT001
    if received is not current:
        raise _inequivalent(name, flag, f"'{_text(received)}'", f"'{_text(current)}'")


def _check_arguments(
    name: str, received: Mapping[str, object], current: Mapping[str, object]
) -> None:
    for key in sorted({*received, *current}):
        if key not in received or key not in current:
            raise _inequivalent(name, key, _value(received, key), _value(current, key))
        if received[key] != current[key]:
            raise _inequivalent(name, key, f"'{_text(received[key])}'", f"'{_text(current[key])}'")


def _value(arguments: Mapping[str, object], key: str) -> str:
    if key not in arguments:
        return "none"
    value = arguments[key]
    return f"the value '{_text(value)}' of type '{_type(value)}'"


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type(value: object) -> str:
    """Return the type that a value has in AMQP."""
    if isinstance(value, bool):
        return "bool"
    if not isinstance(value, int):
        return "longstr"
    return next(name for name, bits in _INTEGERS if -(1 << bits) <= value < 1 << bits)


def _inequivalent(name: str, key: str, received: str, current: str) -> ChannelError:
    differs = f"PRECONDITION_FAILED - inequivalent arg '{key}' for queue '{name}' in vhost '/'"
    text = f"{differs}: received {received} but current is {current}"
    return ChannelError(PRECONDITION_FAILED, text)
