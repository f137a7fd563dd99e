"""The copy of a message that goes to another queue: what comes along and what does not."""

from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage, HeadersType

#: Where a copy came from: the exchange and the routing key with which it was published first.
ORIGINAL_EXCHANGE, ORIGINAL_ROUTING_KEY = "x-original-exchange", "x-original-routing-key"

# Written by the broker about a queue that the copy leaves.
_OF_THE_OLD_QUEUE = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count")
# With these the broker would deliver the copy once more to everybody who got the original.
_MORE_RECEIVERS = {"CC", "BCC"}


def copy_of(message: AbstractIncomingMessage, *, from_wait_queue: bool = False) -> Message:
    """Copy a message for another queue.

    Not copied are `user_id`, which the broker accepts from nobody else, `expiration`, since the
    copy is to stay, and the headers `x-death`, `x-delivery-count`, `CC` and `BCC`.

    Args:
        message: What was delivered.
        from_wait_queue: Whether it is a copy already, whose headers tell where it was from.
    """
    headers: HeadersType = {
        name: value
        for name, value in message.headers.items()
        if not name.startswith(_OF_THE_OLD_QUEUE) and name not in _MORE_RECEIVERS
    }
    if not from_wait_queue:
        headers[ORIGINAL_EXCHANGE] = message.exchange or ""
        headers[ORIGINAL_ROUTING_KEY] = message.routing_key or ""
    return Message(
        message.body,
        headers=headers,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        delivery_mode=message.delivery_mode,
        priority=message.priority,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        message_id=message.message_id,
        timestamp=message.timestamp,
        type=message.type,
        app_id=message.app_id,
    )
