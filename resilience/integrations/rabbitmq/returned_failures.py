"""ReturnedFailures: what is known of messages that are back in their queue.

A message that goes back to its queue is delivered again without what was learned of it: only its
publisher can write headers. A message that is known to fail because of itself would then open the
circuit again each time, and one that is attempted more often than good messages come would never be
known. What is known is therefore kept here until the message comes back, as far as it comes back to
this process.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import TypeAlias

from aio_pika.abc import AbstractIncomingMessage

from resilience.integrations.rabbitmq.failure_record import FailureRecord
from resilience.integrations.rabbitmq.unacked import Delivery

# The most messages that are remembered: those that were returned last.
_MOST_REMEMBERED = 1000

# AMQP does not say which message of a queue a redelivered one is. Two messages with the same
# content fail alike.
_Content: TypeAlias = tuple[str | None, bytes]


class ReturnedFailures:
    """The failures of messages that have failed, while these are back in their queue."""

    def __init__(self) -> None:
        # Those of messages that were known to fail because of themselves, and all others.
        self._known: dict[_Content, FailureRecord] = {}
        self._others: dict[_Content, FailureRecord] = {}

    def keep(self, deliveries: Iterable[Delivery]) -> None:
        """Remember what is known of messages that have gone back to their queue.

        In an outage, all messages have failed. They do not replace those that are known to fail
        because of themselves. They replace each other: some may have gone to another process.
        """
        for delivery in deliveries:
            failures = delivery.failures
            if not failures.has_failed:
                continue
            content = _content_of(delivery.message)
            self._forget(content)
            if failures.fails_by_itself:
                self._known[content] = failures
            else:
                self._others[content] = failures
                # It holds the message, and its channel. The next attempt has an error of its own.
                failures.error = None
        while len(self._known) + len(self._others) > _MOST_REMEMBERED:
            kept = self._others or self._known
            del kept[next(iter(kept))]

    def take(self, message: AbstractIncomingMessage) -> FailureRecord | None:
        """Return what is known of a message that was delivered again, and forget it."""
        if not self._known and not self._others:
            return None
        return self._forget(_content_of(message))

    def _forget(self, content: _Content) -> FailureRecord | None:
        return self._known.pop(content, None) or self._others.pop(content, None)


def _content_of(message: AbstractIncomingMessage) -> _Content:
    return message.message_id, blake2b(message.body, digest_size=16).digest()
