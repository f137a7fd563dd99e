"""PrefetchChoice: how many messages of a region's queue may be let in."""

import asyncio
import math

from resilience.breaker import CircuitBreaker
from resilience.circuit_states import CircuitState
from resilience.integrations.rabbitmq.concurrency import ConcurrencyLimit
from resilience.integrations.rabbitmq.consumer_warnings import ConsumerWarnings
from resilience.integrations.rabbitmq.probing import Probing
from resilience.integrations.rabbitmq.region_messages import RegionMessages
from resilience.integrations.rabbitmq.settings import ConsumerSettings
from resilience.integrations.rabbitmq.subscription import Subscription
from resilience.integrations.rabbitmq.turns import Turns

# How many more messages are let in next to those that wait for tenants, as a share of the prefetch.
# With more, a consumer would keep messages in hand that another one could attempt.
_ROOM = 0.5
# Seconds for which that room is kept when no message waits any more.
_ROOM_KEPT = 60.0
#: The most messages that wait for tenants in all, as a multiple of those of one tenant.
MOST_HELD = 5


class PrefetchChoice:
    """Chooses the prefetch of the consumer of one region's queue.

    Args:
        breaker: The region's breaker.
        limit: The limit of the region's calls.
        settings: The consumer's settings.
        subscription: The subscription to the queue.
        messages: The messages that were let in.
        turns: Whether a new message or one that has failed is next.
        probing: How many new messages a probe chooses from.
        warnings: The warnings of the consumer.
    """

    def __init__(
        self,
        breaker: CircuitBreaker,
        limit: ConcurrencyLimit,
        settings: ConsumerSettings,
        subscription: Subscription,
        *,
        messages: RegionMessages,
        turns: Turns,
        probing: Probing,
        warnings: ConsumerWarnings,
    ) -> None:
        self._breaker, self._limit, self._settings = breaker, limit, settings
        self._subscription, self._messages = subscription, messages
        self._turns, self._probing, self._warnings = turns, probing, warnings
        # Until when more messages are let in than the prefetch.
        self._has_room_until = 0.0

    def wanted(self) -> int:
        """Return the prefetch that the consumer should have; 0 if there should be no consumer."""
        state = self._breaker.state
        if state is CircuitState.OPEN:
            return 0
        if state is CircuitState.CLOSED:
            return self._next_to_held()
        if not self.may_let_in_more():
            return 0
        choice = self.probes_choose_from()
        if 0 < self._subscription.prefetch <= choice:
            return self._subscription.prefetch
        return max(0, choice - len(self._messages.unacked.new))

    def probes_choose_from(self) -> int:
        """Return how many new messages a probe chooses from."""
        return self._probing.choice(self._breaker.policy.half_open_probes)

    def may_let_in_more(self) -> bool:
        """Whether the failed messages leave room for new ones."""
        if self._turns.new_is_next and self._breaker.state is CircuitState.HALF_OPEN:
            # If all that are held always fail, no other message would ever be attempted.
            return True
        failed = self._messages.count_failed(_now())
        if failed >= self._settings.max_failed_held:
            self._warnings.warn(
                "full",
                f"holds {failed} messages that have failed (max_failed_held): "
                "fewer new ones are let in, until some of them have succeeded",
            )
        return failed + self._messages.count_redelivered() < self._settings.max_failed_held

    def is_stuck(self) -> bool:
        """Whether messages that wait take up so much of the prefetch that few new ones can come.

        A new consumer has a prefetch of its own.
        """
        is_closed = self._limit.is_closed
        if is_closed and self._leaves_little_room():
            return True
        # Probes use redelivered messages, but in a CLOSED circuit they make way for new ones.
        in_the_way = self._messages.count_in_the_way(
            self._subscription.consumer_tag, _now(), of_redelivered=is_closed
        )
        return 2 * in_the_way >= self._subscription.prefetch and self.may_let_in_more()

    # The messages that wait for tenants

    def _next_to_held(self) -> int:
        """Return how many messages are let in, so that those that wait for tenants block none.

        Each new consumer has a prefetch of its own. That of the running one stays until the waiting
        messages leave less than the usual prefetch to the others.
        """
        usual = self._usual()
        if self._messages.held.count:
            self._has_room_until = _now() + _ROOM_KEPT
        if _now() >= self._has_room_until:
            return usual
        return usual + math.ceil(usual * _ROOM)

    def _leaves_little_room(self) -> bool:
        """Whether messages that wait for tenants take up the room of the others."""
        held = self._messages.held
        most = MOST_HELD * self._settings.max_unacked_per_tenant
        if not held.count or held.count >= most:
            return False
        own = held.count_of(self._subscription.consumer_tag)
        return self._subscription.prefetch - own < self._usual()

    def _usual(self) -> int:
        return min(self._settings.prefetch, self._limit.max_calls)


def _now() -> float:
    return asyncio.get_running_loop().time()
