"""GivingBack: the messages of a region's queue that go back to it, and what is known of them."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import NamedTuple

from resilience.breaker import CircuitBreaker
from resilience.circuit_states import CircuitState
from resilience.integrations.rabbitmq.amqp import is_unsettled, return_to_queue
from resilience.integrations.rabbitmq.consumer_warnings import ConsumerWarnings
from resilience.integrations.rabbitmq.delivery_limit import count_returns, return_as_copy
from resilience.integrations.rabbitmq.held import HeldMessages
from resilience.integrations.rabbitmq.prefetch_choice import PrefetchChoice
from resilience.integrations.rabbitmq.publisher import Publisher
from resilience.integrations.rabbitmq.region_messages import RegionMessages
from resilience.integrations.rabbitmq.returned_failures import ReturnedFailures
from resilience.integrations.rabbitmq.turns import Kind
from resilience.integrations.rabbitmq.unacked import Delivery, Unacked


class Copies(NamedTuple):
    """What is needed to publish copies of messages that were returned too often.

    Args:
        publisher: Publishes them.
        warnings: The warnings of the consumer.
        run_task: Runs a coroutine in a task.
        most_returns: How often a message is returned before it is copied.
    """

    publisher: Publisher
    warnings: ConsumerWarnings
    run_task: Callable[[Coroutine[object, object, None]], object]
    most_returns: int


class GivingBack:
    """Returns messages to one queue, which delivers them again later.

    Args:
        queue: The queue's name.
        breaker: The region's breaker.
        messages: The messages that were delivered.
        prefetch: How many of them a probe chooses from.
        copies: What is needed to publish copies of messages.
        max_unacked: Seconds after which an unacked message goes back to its queue.
    """

    def __init__(
        self,
        queue: str,
        breaker: CircuitBreaker,
        messages: RegionMessages,
        *,
        prefetch: PrefetchChoice,
        copies: Copies,
        max_unacked: float,
    ) -> None:
        self._queue, self._breaker, self._messages = queue, breaker, messages
        self._prefetch, self._copies, self._max_unacked = prefetch, copies, max_unacked
        self._known = ReturnedFailures()

    def recall(self, delivery: Delivery) -> bool:
        """Go on with what is known of a message that was delivered before, if it is known here."""
        failures = self._known.take(delivery.message)
        if failures is None:
            return False
        delivery.failures = failures
        if failures.fails_by_itself:
            delivery.kind = Kind.FAILED
        return True

    def drop_lost(self) -> None:
        """Forget the messages of channels that are gone: they are in the queue again."""
        waiting = self._messages.waiting()
        self._known.keep(one for one in waiting if not is_unsettled(one.message))
        self._messages.drop_lost()

    async def return_due(self) -> None:
        """Return the messages that were unacked for too long, or cannot be attempted now."""
        unacked, held = self._messages.unacked, self._messages.held
        received_before = asyncio.get_running_loop().time() - self._max_unacked
        excess = self._excess()
        returned = [
            delivery
            for delivery in unacked
            if delivery.received_at <= received_before or delivery in excess
        ]
        await self._give_back(unacked, returned)
        if held.oldest <= received_before:
            await self._give_back(held, [one for one in held if one.received_at <= received_before])

    def _excess(self) -> Sequence[Delivery]:
        """Return the new messages that are too many when the circuit has opened.

        Only as many stay as the probes choose from.
        """
        if self._breaker.state is not CircuitState.OPEN or self._messages.attempting:
            return ()
        return self._messages.unacked.new[self._prefetch.probes_choose_from() :]

    async def _give_back(self, kept: Unacked | HeldMessages, returned: Sequence[Delivery]) -> None:
        """Give messages back to their queue, and keep those that the broker did not take."""
        for delivery in returned:
            kept.remove(delivery)
        self._known.keep(returned)  # They may come back before the last one is sent.
        as_copies = {delivery for delivery in returned if self._must_be_copied(delivery)}
        for delivery in as_copies:
            self._messages.attempting.add(delivery)
            self._copies.run_task(self._return_as_copy(delivery, kept))
        as_they_are = [delivery for delivery in returned if delivery not in as_copies]
        await return_to_queue(delivery.message for delivery in as_they_are)
        for delivery in as_they_are:
            kept.add(delivery)  # Only if it is not settled.

    # Delivery limits

    def _must_be_copied(self, delivery: Delivery) -> bool:
        """Whether another return may end a message, although its region is down."""
        if self._breaker.state is CircuitState.CLOSED:
            return False
        return count_returns(delivery.message) >= self._copies.most_returns

    async def _return_as_copy(self, delivery: Delivery, kept: Unacked | HeldMessages) -> None:
        message, copies = delivery.message, self._copies
        try:
            headers = delivery.failures.headers()
            if not await return_as_copy(
                message, self._queue, copies.publisher, copies.warnings, headers
            ):
                await return_to_queue([message])
        finally:
            self._messages.attempting.discard(delivery)
            kept.add(delivery)  # Only if it is not settled.
