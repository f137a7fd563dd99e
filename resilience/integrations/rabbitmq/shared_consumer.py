"""SharedConsumer: a queue with messages of many regions, and a wait queue for each region."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from resilience import _validate
from resilience.breaker import CircuitBreaker
from resilience.integrations.rabbitmq.consumer import Consumer, check_dead_letters
from resilience.integrations.rabbitmq.delivery_limit import most_returns
from resilience.integrations.rabbitmq.handler import Handler, OnError
from resilience.integrations.rabbitmq.queue_lifetime import EXPIRES
from resilience.integrations.rabbitmq.region_worker import RegionWorker
from resilience.integrations.rabbitmq.router import Router
from resilience.integrations.rabbitmq.settings import TenantOf, checked_settings, renamed
from resilience.integrations.rabbitmq.subscription_settings import (
    ConsumeArguments,
    checked_subscription_settings,
)
from resilience.integrations.rabbitmq.topology import QueueArguments, Topology
from resilience.integrations.rabbitmq.worker import Worker
from resilience.limits import RateLimit
from resilience.registry import CircuitBreakerRegistry

_MAX_NAME_LENGTH = 255  # bytes, in AMQP


class SharedConsumer(Consumer):
    """Consume a queue with messages of several regions, without head-of-line blocking.

    The messages of a region that is down are moved to that region's wait queue, where they block no
    others: a copy is published, and once the broker has confirmed it the message is acknowledged.
    The wait queue is consumed as by a `RegionConsumer`, which probes the region, and drains the
    queue when the region has recovered. A message that is moved loses its place in the order. A
    message that has failed is moved, too, and attempted again from the wait queue.

    A copy has the additional headers `x-original-exchange` and `x-original-routing-key`; `user_id`,
    `expiration` and the headers `x-death`, `CC` and `BCC` are not copied. The copy of a message
    without a `message_id` has a new one, by which aio-pika recognizes a copy that the broker could
    not route.

    The wait queues must exist: `declare` creates them. They are durable, without a time to live,
    and without dead-lettering back. Outcomes, channels, and a broker that was away are dealt with
    as by a `RegionConsumer`.

    Args:
        queue: The queue.
        handler: An `async def` that takes a message and calls its region through its breaker.
        region_of: Returns the region of a message; may be called more than once. If it raises, or
            returns a region that is not one of `regions`, the message goes to `on_error`.
        regions: All regions.
        on_error: An `async def` that takes a message and an error and settles the message, or a
            `DeadLetterTo`.
        wait_queue: The name of a region's wait queue, with `{region}` in it.
        wait_arguments: The arguments that the wait queues were declared with. None accepts queues
            that `declare` has made, or that have no arguments but their type.
        prefetch: The most messages that are let in from each queue, and the most calls of one
            region that run at the same time.
        max_failed_held: The most failed messages of one region that are held unacked; beyond that,
            only every second probe lets in a new one. None is the larger of 10 x `prefetch`
            and 100.
        max_unacked: Seconds after which an unacked message goes back to its queue; must be well
            below the broker's `consumer_timeout` of 30 minutes.
        stop_timeout: Seconds that stopping may take in all when the block ends. Calls that are
            still running shortly before that are cancelled.
        max_attempts: The failed attempts after which a message goes to `on_error`, with the last
            error. An attempt counts if others succeed: an outage, and a 429, cost a message
            nothing. None is no end.
        max_age: Seconds from its first failure until a message goes to `on_error`, with the last
            error. It is compared after a failure that counts, or a 429 while others succeed. None
            is no end.
        unavailable_timeout: Seconds for which a queue may be unavailable; then the consumer ends
            with a `ConsumerError`. None is without end.
        consumer_tag: The start of the consumer tags, to recognize the consumer in the broker's
            management; a number is added. None leaves the tags to aio-pika.
        priority: The priority of the consumer: the broker prefers consumers with a higher one. None
            is the broker's default of 0.
        arguments: More arguments of `basic.consume`.
        registry: The registry of the regions' breakers. None is the default registry.
        tenant_of: Returns the tenant of a message, or None if it has none. A tenant whose messages
            are answered 429 waits as long as the region asks, and the others go on. Its calls come
            on top of `prefetch` while they are paced, a tenth at most. None: no tenants.
        max_unacked_per_tenant: The most messages of a throttled tenant that are held unacked; the
            rest of them is moved to the end of the wait queue.
        rate_limit: What the region allows each tenant, or in all if there is no `tenant_of`: the
            backlog of an outage is worked off at 95 % of it. None is what the region's breaker
            learns from answers.
        keep: Deprecated name of `max_failed_held`.
        max_hold: Deprecated name of `max_unacked`.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a wrong value, or two of the regions are the same.
    """

    def __init__(
        self,
        queue: AbstractQueue,
        handler: Handler,
        *,
        region_of: Callable[[AbstractIncomingMessage], str],
        regions: Iterable[str],
        on_error: OnError,
        wait_queue: str = "wait.{region}",
        wait_arguments: QueueArguments | None = None,
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
        _validate.check_callable("region_of", region_of, "a message and returns its region")
        if wait_arguments is not None:
            _validate.check_type("wait_arguments", wait_arguments, Mapping)
            if EXPIRES in wait_arguments:
                raise ValueError(f"wait_arguments must not have {EXPIRES}: messages would be lost")
        self._region_of, self._wait_arguments = region_of, wait_arguments
        self._wait_queues = _wait_queues(
            _breakers(self._registry, regions), wait_queue, shared_queue=self._queue
        )
        check_dead_letters(on_error, *self._wait_queues.values())

    async def declare(self) -> None:
        """Declare the wait queues; a queue that exists and is the same is left as it is.

        They are durable, and have `wait_arguments`, or else are quorum queues that drop no message
        for having been returned often.

        Raises:
            ConsumerError: A queue exists and is different, or the broker refuses.
        """
        topology = Topology(self._connection, self._warnings)
        for queue in self._wait_queues.values():
            await topology.declare_wait_queue(queue, self._wait_arguments)

    @property
    def _publishes_copies(self) -> bool:
        """Whether the consumer may publish a message."""
        return True

    async def _check_wait_queues(self, topology: Topology) -> None:
        for queue in self._wait_queues.values():
            await topology.check_wait_queue(queue, self._wait_arguments)

    def _make_workers(self) -> Sequence[Worker]:
        router = Router(
            self._reading,
            self._queue,
            self._handler,
            self._settings,
            breaker_of=self._breaker_of,
            wait_queues=self._wait_queues,
        )
        region_workers = [
            RegionWorker(
                self._reading,
                queue,
                breaker,
                self._handler,
                self._settings,
                is_wait_queue=True,
                most_returns=most_returns(self._wait_arguments),
            )
            for breaker, queue in self._wait_queues.items()
        ]
        return [router, *region_workers]

    def _breaker_of(self, message: AbstractIncomingMessage) -> CircuitBreaker:
        region = self._region_of(message)
        # Anybody may have sent the name: no breaker is made for it.
        breaker = self._registry.find(region)
        if breaker is None or breaker not in self._wait_queues:
            shown = _validate.shown(region)
            raise ValueError(
                f"region_of returned {shown}, which is not one of the consumer's regions"
            )
        return breaker


def _breakers(registry: CircuitBreakerRegistry, regions: Iterable[str]) -> list[CircuitBreaker]:
    """Return the breakers of all regions, or raise if `regions` is not a list of regions."""
    if isinstance(regions, str):
        raise TypeError("regions must be several regions, got a str")
    _validate.check_type("regions", regions, Iterable)
    names = [_validate.check_text("a region", region) for region in regions]
    if not names:
        raise ValueError("regions must not be empty")
    breakers = [registry.get(name) for name in names]
    if len(set(breakers)) < len(breakers):
        raise ValueError(f"regions names a region twice: {', '.join(names)}")
    return breakers


def _wait_queues(
    breakers: Sequence[CircuitBreaker], pattern: str, *, shared_queue: str
) -> dict[CircuitBreaker, str]:
    """Return the name of each region's wait queue, or raise if `wait_queue` does not give one."""
    pattern = _validate.check_text("wait_queue", pattern)
    if "{region}" not in pattern:
        raise ValueError(f"wait_queue must have {{region}} in it, got {_validate.shown(pattern)}")
    names = {breaker: pattern.replace("{region}", breaker.region) for breaker in breakers}
    for name in names.values():
        if len(name.encode()) > _MAX_NAME_LENGTH:
            raise ValueError(
                f"wait_queue must give names of at most 255 bytes, got {name[:40]!r}..."
            )
        if name == shared_queue:
            raise ValueError(f"wait_queue must be another queue than {name!r} itself")
    return names
