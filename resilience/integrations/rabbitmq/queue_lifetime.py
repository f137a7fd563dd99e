"""Refusing queues that lose messages while a consumer pauses, or when a connection is lost.

A declaration of a queue that exists changes nothing. RabbitMQ compares it with the queue, and its
refusal names the first difference. The declaration that is sent here differs from every queue, and
has an argument for which RabbitMQ would not create a queue either.
"""

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

from aio_pika.abc import AbstractConnection, AbstractQueue
from aio_pika.channel import Channel

from resilience.integrations.rabbitmq.amqp import ConsumerError
from resilience.integrations.rabbitmq.declaring import declare_over, declare_queue

EXPIRES = "x-expires"

_TYPE = "x-queue-type"

# No queue has this, and RabbitMQ refuses to create one with it.
_IMPOSSIBLE: dict[str, object] = {EXPIRES: 0}
_LOCKED = "RESOURCE_LOCKED"
_DIFFERENCE = re.compile(r"PRECONDITION_FAILED - inequivalent arg '([\w-]+)' for queue ")

_Reason: TypeAlias = str | None
# Declares the queue with other arguments, and returns the broker's refusal.
_Declare: TypeAlias = Callable[..., Awaitable[Exception | None]]

_AUTO_DELETE = (
    "is an auto-delete queue: RabbitMQ deletes it, and its messages, when the consumer pauses "
    "because the circuit has opened"
)
_HAS_EXPIRES = (
    f"has {EXPIRES}: RabbitMQ may delete it, and its messages, while the consumer pauses because "
    "the circuit is open"
)
_STREAM = (
    "is a stream: RabbitMQ takes no message back to it, and does not deliver those that are "
    "published while the consumer pauses because the circuit is open"
)
_EXCLUSIVE = (
    "is an exclusive queue: RabbitMQ deletes it, and its messages, when the connection is lost"
)


async def check_lifetime(connection: AbstractConnection, queue: AbstractQueue) -> None:
    """Refuse a queue that RabbitMQ may delete together with its messages.

    What `queue` was declared with is known. Anything else is asked for; a broker that does not
    reveal it, such as one that grants no right to configure the queue, is believed.

    Args:
        connection: The user's connection.
        queue: The queue, which exists.

    Raises:
        ConsumerError: The queue deletes itself; or the connection was lost.
    """
    reason = _reason_in(queue)
    if reason is None and not _was_declared(queue):
        reason = await _ask_for_reason(partial(declare_queue, connection, queue.name))
    if reason is not None:
        raise ConsumerError(f"queue {queue.name!r} {reason}")


async def check_lifetime_again(opening: Callable[[], Awaitable[Channel]], name: str) -> None:
    """Refuse a queue that was declared again, in another way, while it was consumed.

    Args:
        opening: Opens a channel.
        name: The queue's name.

    Raises:
        ConsumerError: The queue may lose messages now.
        AMQPChannelError: The queue does not exist yet, or is exclusive to another connection.
    """
    refusal = await declare_over(opening, name, passive=True)
    if refusal is not None:
        raise refusal
    reason = await _ask_for_reason(partial(declare_over, opening, name))
    if reason is not None:
        raise ConsumerError(f"queue {name!r} {reason}")


def _was_declared(queue: AbstractQueue) -> bool:
    """Whether the broker has confirmed what the object says about the queue."""
    return not queue.passive and hasattr(queue, "declaration_result")


def _reason_in(queue: AbstractQueue) -> _Reason:
    if queue.exclusive:
        return _EXCLUSIVE
    if queue.auto_delete:
        return _AUTO_DELETE
    arguments = queue.arguments or {}
    if arguments.get(_TYPE) == "stream":
        return _STREAM
    return _HAS_EXPIRES if EXPIRES in arguments else None


async def _ask_for_reason(declare: _Declare) -> _Reason:
    refusal = await declare(arguments=_IMPOSSIBLE)
    if _difference_in(refusal) == "durable":
        refusal = await declare(durable=False, arguments=_IMPOSSIBLE)
    if str(refusal).startswith(_LOCKED):
        return _EXCLUSIVE
    difference = _difference_in(refusal)
    if difference == "auto_delete":
        return _AUTO_DELETE
    if difference == _TYPE and "'stream'" in str(refusal):
        return _STREAM  # Streams have no x-expires that could differ.
    has_none = str(refusal).endswith("but current is none")
    return _HAS_EXPIRES if difference == EXPIRES and not has_none else None


def _difference_in(refusal: Exception | None) -> _Reason:
    """Return the argument that is another one than that of the queue."""
    difference = _DIFFERENCE.match(str(refusal))
    return None if difference is None else difference[1]
