"""NextMessage: which message of a region's queue is attempted next."""

import asyncio

from resilience.breaker import CircuitBreaker
from resilience.circuit_states import CircuitState
from resilience.integrations.rabbitmq.concurrency import ConcurrencyLimit
from resilience.integrations.rabbitmq.prefetch_choice import PrefetchChoice
from resilience.integrations.rabbitmq.probing import Probing
from resilience.integrations.rabbitmq.region_messages import RegionMessages
from resilience.integrations.rabbitmq.subscription import Subscription
from resilience.integrations.rabbitmq.turns import Kind, Turns
from resilience.integrations.rabbitmq.unacked import Delivery, next_due

#: Seconds that a probe waits for a new message before it takes one that has failed.
GRACE_PERIOD = 0.25


class NextMessage:
    """Chooses the message whose turn it is.

    Args:
        breaker: The region's breaker.
        limit: The limit of the region's calls.
        subscription: The subscription to the queue.
        messages: The messages to choose from.
        turns: Whether a new message or one that has failed is next.
        probing: How many new messages a probe chooses from.
        prefetch: Whether more messages may be let in.
    """

    def __init__(
        self,
        breaker: CircuitBreaker,
        limit: ConcurrencyLimit,
        subscription: Subscription,
        *,
        messages: RegionMessages,
        turns: Turns,
        probing: Probing,
        prefetch: PrefetchChoice,
    ) -> None:
        self._breaker, self._limit, self._subscription = breaker, limit, subscription
        self._messages, self._turns = messages, turns
        self._probing, self._prefetch = probing, prefetch
        #: When the prefetch was set, or an attempt ended, last: new messages may come since then.
        self.accepting_since = 0.0

    def choose(self) -> Delivery | None:
        """Return the message whose turn it is, once those that wait for tenants are put aside.

        Returns:
            The message, which is still among the unacked ones; None if none may be attempted now.
        """
        unacked, held = self._messages.unacked, self._messages.held
        if not self._limit.pacing.is_needed and not len(held):
            return self._next()
        for delivery in held.release(_now()):
            unacked.add(delivery)
        chosen = self._next()
        while chosen is not None and held.must_wait(chosen):
            unacked.remove(chosen)
            held.add(chosen)
            chosen = self._next()
        return chosen

    def _next(self) -> Delivery | None:
        unacked = self._messages.unacked
        if not len(unacked):
            return None
        now = _now()
        if not self._limit.is_closed:
            is_open = self._breaker.state is CircuitState.OPEN
            return None if is_open else self._next_probe(now)
        new = next_due(unacked.new, now, newest=False)
        if unacked.redelivered:
            redelivered = next_due(unacked.redelivered, now, newest=False)
            if redelivered is not None and self._may_attempt(Kind.REDELIVERED, new):
                new = redelivered
        if unacked.failed and self._may_attempt(Kind.FAILED, new):
            return unacked.next_failed(now) or new
        return new

    def _may_attempt(self, kind: Kind, new: Delivery | None) -> bool:
        return self._turns.may_attempt(
            kind, new_is_there=new is not None, new_may_come=self._waits_for_deliveries()
        )

    def _next_probe(self, now: float) -> Delivery | None:
        """Return the message to probe with.

        It is a new one: one that always fails must not keep the circuit from closing.
        """
        unacked, has_choice = self._messages.unacked, self._probing.has_choice
        expects_new = self._expects_new()
        if has_choice and expects_new:
            return None
        new = next_due(unacked.new, now, newest=has_choice)
        if new is not None or expects_new:
            return new
        if self._messages.probes_with_new(now - self._breaker.policy.probe_lease):
            return None  # If it goes well, what fails afterwards fails because of itself.
        redelivered = next_due(unacked.redelivered, now, newest=has_choice)
        return redelivered or unacked.next_failed_probe(now)

    def _expects_new(self) -> bool:
        """Whether a new message may still be delivered for the next probe."""
        if len(self._messages.unacked.new) >= self._prefetch.probes_choose_from():
            return False
        return self._prefetch.may_let_in_more() and self._waits_for_deliveries()

    def _waits_for_deliveries(self) -> bool:
        """Whether the broker has not had the time yet to deliver what it has."""
        waited = _now() - self.accepting_since
        return not self._subscription.prefetch or waited < GRACE_PERIOD


def _now() -> float:
    return asyncio.get_running_loop().time()
