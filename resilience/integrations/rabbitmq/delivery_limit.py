"""Messages that have come back so often that their queue may end them.

A quorum queue counts how often a message has come back. Beyond its delivery limit, it dead-letters
the message, or drops it. From RabbitMQ 4.0 on, the limit is 20 unless the queue or a policy sets
another one, and AMQP does not show it. During an outage, a message that has come back half as often
is therefore not returned again: a copy is published to the end of its queue, and the message is
acknowledged when the broker has the copy, of which nothing is counted yet.
"""

import sys
from collections.abc import Mapping

from aio_pika.abc import AbstractIncomingMessage, HeadersType

from resilience.integrations.rabbitmq.amqp import (
    ConsumerError,
    MessageError,
    acknowledge,
    server_text,
)
from resilience.integrations.rabbitmq.consumer_warnings import ConsumerWarnings
from resilience.integrations.rabbitmq.publisher import ORIGINAL_EXCHANGE, Publisher, copy_of

# Quorum queues count how often a message was returned, or its consumer vanished.
_DELIVERY_COUNT = "x-delivery-count"
_DELIVERY_LIMIT = "x-delivery-limit"
_DEFAULT_LIMIT = 20


def most_returns(arguments: Mapping[str, object] | None) -> int:
    """Return how often messages of a queue are returned before they are copied.

    Args:
        arguments: What the queue was declared with; None if that is unknown.
    """
    limit = (arguments or {}).get(_DELIVERY_LIMIT)
    if not isinstance(limit, int):
        limit = _DEFAULT_LIMIT
    return limit // 2 if limit >= 0 else sys.maxsize  # A negative one is none.


def count_returns(message: AbstractIncomingMessage) -> int:
    """Return how often a message has come back to a quorum queue; 0 for other queues."""
    count = message.headers.get(_DELIVERY_COUNT)
    return count if isinstance(count, int) else 0


async def return_as_copy(
    message: AbstractIncomingMessage,
    queue: str,
    publisher: Publisher,
    warnings: ConsumerWarnings,
    headers: HeadersType | None = None,
) -> bool:
    """Publish a copy of a message to the end of its queue, and acknowledge the message.

    Args:
        message: The message.
        queue: The queue that it was delivered from.
        publisher: Publishes the copy.
        warnings: Warns if this is not possible.
        headers: Further headers of the copy.

    Returns:
        Whether the broker has the copy; if not, the message is still unacked.
    """
    copy = copy_of(message, from_wait_queue=ORIGINAL_EXCHANGE in message.headers)
    copy.expiration = message.expiration
    copy.headers.update(headers or {})
    try:
        is_published = await publisher.publish(copy, queue)
    except (ConsumerError, MessageError) as error:
        warnings.warn(
            "delivery limit",
            f"returns a message that has come back {count_returns(message)} times, instead of a "
            f"copy of it: a delivery limit may end it ({server_text(error)})",
        )
        return False
    if is_published:
        await acknowledge(message)
    return is_published
