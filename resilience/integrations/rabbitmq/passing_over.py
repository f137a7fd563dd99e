"""Moving messages of throttled tenants to the end of their queue, so that others come forward.

A copy is published to the queue itself, and the message is acknowledged when the broker has it. A
message that is met for the first time is moved immediately: others may be behind it. One that was
moved before shows that all of the queue was seen. Only a few of those are moved each second, since
a queue that has nothing but throttled messages would otherwise go round and round.
"""

import asyncio

from aio_pika.abc import AbstractIncomingMessage

from resilience.integrations.rabbitmq.amqp import MessageError, acknowledge
from resilience.integrations.rabbitmq.consumer_warnings import ConsumerWarnings
from resilience.integrations.rabbitmq.failure_record import FailureRecord, count_in
from resilience.integrations.rabbitmq.publisher import Publisher, copy_of

#: The header with the number of times that a message was moved to the end of its queue.
PASSED_OVER = "x-passed-over"
_SECONDS_PER_REPETITION = 0.05
# Seconds until a message is tried again that the broker did not take.
_PAUSE_AFTER_FAILURE = 1.0


class PassingOver:
    """Moves messages of one queue to its end.

    Args:
        queue: The queue's name.
        publisher: Publishes the copies.
        warnings: The warnings of the consumer.
        is_wait_queue: Whether the messages are copies in a wait queue.
    """

    def __init__(
        self,
        queue: str,
        publisher: Publisher,
        warnings: ConsumerWarnings,
        *,
        is_wait_queue: bool,
    ) -> None:
        self._queue, self._publisher, self._warnings = queue, publisher, warnings
        self._is_wait_queue = is_wait_queue
        #: When the next message may be moved that was moved before, in the event loop's time.
        self.repeats_at = 0.0
        self._paused_until = 0.0

    def may_move(self, message: AbstractIncomingMessage) -> bool:
        """Whether a message may be moved now; if so, it has to be."""
        now = _now()
        if now < self._paused_until or self._publisher.blocked:
            return False
        if _count(message) == 0:
            return True
        if now < self.repeats_at:
            return False
        self.repeats_at = now + _SECONDS_PER_REPETITION
        return True

    async def move(self, message: AbstractIncomingMessage, failures: FailureRecord) -> bool:
        """Move a message to the end of its queue.

        Args:
            message: The message.
            failures: What is known about its failed attempts.

        Returns:
            Whether it was moved; if not, it is still unacked.
        """
        is_copy = self._is_wait_queue or _count(message) > 0
        copy = copy_of(message, from_wait_queue=is_copy)
        copy.headers.update(failures.headers())
        copy.headers[PASSED_OVER] = _count(message) + 1
        try:
            is_moved = await self._publisher.publish(copy, self._queue)
        except MessageError as error:
            self._warnings.warn("passing over", f"cannot move a message of a tenant: {error}")
            is_moved = False
        if is_moved:
            await acknowledge(message)
        else:
            self._paused_until = _now() + _PAUSE_AFTER_FAILURE
        return is_moved


def _count(message: AbstractIncomingMessage) -> int:
    return count_in(message.headers.get(PASSED_OVER))


def _now() -> float:
    return asyncio.get_running_loop().time()
