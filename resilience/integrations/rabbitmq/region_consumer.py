"""RegionConsumer: a queue whose messages are all of one region."""

from collections.abc import Sequence

from aio_pika.abc import AbstractQueue

from resilience.integrations.rabbitmq.consumer import Consumer
from resilience.integrations.rabbitmq.delivery_limit import most_returns
from resilience.integrations.rabbitmq.handler import Handler, OnError
from resilience.integrations.rabbitmq.region_worker import RegionWorker
from resilience.integrations.rabbitmq.settings import TenantOf, checked_settings, renamed
from resilience.integrations.rabbitmq.subscription_settings import (
    ConsumeArguments,
    checked_subscription_settings,
)
from resilience.integrations.rabbitmq.topology import Topology
from resilience.integrations.rabbitmq.worker import Worker
from resilience.limits import RateLimit
from resilience.registry import CircuitBreakerRegistry


class RegionConsumer(Consumer):
    """Consume a queue whose messages all call one region.

    While the region's circuit is OPEN, nothing is consumed. A probe takes a new message. A message
    that has failed stays unacked and is attempted again, when its region has recovered or after a
    pause, without another delivery. After an opening, the number of calls that run at the same time
    grows in steps of 1, 2, 4, ... `prefetch`; all queues of the region in this process share it.

    A handler that returns has its message acknowledged. The message waits if a circuit rejected the
    call, if a breaker counted a FAILURE, or on a 408 or 429. Any other error goes to `on_error`. A
    message that the handler has settled itself is left alone. Delivery is at least once.

    The consumer takes the name and the connection from `queue`, opens its own channels, and
    declares nothing. On a connection of `aio_pika.connect_robust` it continues after the broker was
    away. If it cannot start, or cannot continue, ``async with`` raises a `ConsumerError`; a block
    that is still running is cancelled for it. When the block ends, no more calls start, and the
    unacked messages go back to the queue.

    Args:
        queue: The queue.
        handler: An `async def` that takes a message and calls the region through its breaker.
        region: The region.
        on_error: An `async def` that takes a message and an error and settles the message, or a
            `DeadLetterTo`.
        prefetch: The most messages that are let in, and the most calls that run at the same time.
        max_failed_held: The most failed messages that are held unacked; beyond that, only every
            second probe lets in a new one. None is the larger of 10 x `prefetch`
            and 100.
        max_unacked: Seconds after which an unacked message goes back to the queue; must be well
            below the broker's `consumer_timeout` of 30 minutes.
        stop_timeout: Seconds that stopping may take in all when the block ends. Calls that are
            still running shortly before that are cancelled.
        max_attempts: The failed attempts after which a message goes to `on_error`, with the last
            error. An attempt counts if others succeed: an outage, and a 429, cost a message
            nothing. None is no end.
        max_age: Seconds from its first failure until a message goes to `on_error`, with the last
            error. It is compared after a failure that counts, or a 429 while others succeed. None
            is no end.
        unavailable_timeout: Seconds for which the queue may be unavailable; then the consumer ends
            with a `ConsumerError`. None is without end.
        consumer_tag: The start of the consumer tags, to recognize the consumer in the broker's
            management; a number is added. None leaves the tags to aio-pika.
        priority: The priority of the consumer: the broker prefers consumers with a higher one. None
            is the broker's default of 0.
        arguments: More arguments of `basic.consume`.
        registry: The registry of the region's breaker. None is the default registry.
        tenant_of: Returns the tenant of a message, or None if it has none. A tenant whose messages
            are answered 429 waits as long as the region asks, and the others go on. Its calls come
            on top of `prefetch` while they are paced, a tenth at most. None: no tenants.
        max_unacked_per_tenant: The most messages of a throttled tenant that are held unacked; the
            rest of them is moved to the end of the queue.
        rate_limit: What the region allows each tenant, or in all if there is no `tenant_of`: the
            backlog of an outage is worked off at 95 % of it. None is what the region's breaker
            learns from answers.
        keep: Deprecated name of `max_failed_held`.
        max_hold: Deprecated name of `max_unacked`.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a wrong value.
    """

    def __init__(
        self,
        queue: AbstractQueue,
        handler: Handler,
        *,
        region: str,
        on_error: OnError,
        prefetch: int = 10,
        max_failed_held: int | None = None,
        max_unacked: float = 1200.0,
        stop_timeout: float = 30.0,
        max_attempts: int | None = None,
        max_age: float | None = None,
        unavailable_timeout: float | None = None,
        consumer_tag: str | None = None,
        priority: int | None = None,
        arguments: ConsumeArguments | None = None,
        registry: CircuitBreakerRegistry | None = None,
        tenant_of: TenantOf | None = None,
        max_unacked_per_tenant: int = 2000,
        rate_limit: RateLimit | None = None,
        keep: int | None = None,
        max_hold: float | None = None,
    ) -> None:
        settings = checked_settings(
            prefetch=prefetch,
            max_failed_held=renamed("keep", keep, "max_failed_held", max_failed_held, None),
            max_unacked=renamed("max_hold", max_hold, "max_unacked", max_unacked, 1200.0),
            stop_timeout=stop_timeout,
            max_attempts=max_attempts,
            max_age=max_age,
            subscription=checked_subscription_settings(
                unavailable_timeout=unavailable_timeout,
                consumer_tag=consumer_tag,
                priority=priority,
                arguments=arguments,
            ),
            tenant_of=tenant_of,
            max_unacked_per_tenant=max_unacked_per_tenant,
            rate_limit=rate_limit,
        )
        super().__init__(queue, handler, on_error, settings, registry)
        self._breaker = self._registry.get(region)

    async def _check_wait_queues(self, topology: Topology) -> None:
        """Check nothing: the consumer has no wait queues."""

    def _make_workers(self) -> Sequence[Worker]:
        return [
            RegionWorker(
                self._reading,
                self._queue,
                self._breaker,
                self._handler,
                self._settings,
                most_returns=most_returns(self._given_queue.arguments),
            )
        ]
