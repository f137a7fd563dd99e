"""SharedConsumer: a queue with messages of many regions, and a wait queue for each of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from resilience import _validate
from resilience.breaker import CircuitBreaker
from resilience.integrations.rabbitmq.consumer import Consumer, registry_or_default
from resilience.integrations.rabbitmq.inspection import Inspection
from resilience.integrations.rabbitmq.line import Line
from resilience.integrations.rabbitmq.part import Part
from resilience.integrations.rabbitmq.sorting import Sorting
from resilience.integrations.rabbitmq.work import Handler, OnError
from resilience.registry import CircuitBreakerRegistry

_LONGEST_NAME = 255  # bytes, in AMQP


class SharedConsumer(Consumer):
    """Consumes a queue in which messages of several regions stand behind each other (T10, "NACK").

    The messages of a region that is down are moved to a wait queue of that region, so that they
    stand in nobody's way: a copy is published, and when the broker has it the message is acked.
    The wait queue is consumed as by a `RegionConsumer`, which probes, and drains it when the region
    is back. What is moved loses its place: it comes after messages that were behind it. A message
    that failed is moved as well, and is attempted again from there.

    A copy has the headers `x-original-exchange` and `x-original-routing-key`; `user_id`,
    `expiration` and the headers `x-death`, `CC` and `BCC` do not come along.

    The wait queues must be there: `declare` makes them. They are durable, without a time to live
    and without dead-lettering back. What is said of `RegionConsumer` about outcomes, channels and
    the broker being away holds here too.

    Args:
        queue: The queue.
        handler: An `async def` that takes a message, and calls its region through its breaker.
        region_of: Gives the region of a message; may be asked more than once. A message for which
            it raises, or gives none of `regions`, goes to `on_error`.
        regions: All regions.
        on_error: An `async def` that takes a message and an error and settles the message; or a
            `DeadLetterTo`.
        wait_queue: The name of a region's wait queue, with `{region}` in it.
        wait_arguments: With what arguments the wait queues were declared; None: with none but
            their type, or by `declare`.
        prefetch: How many messages are let in from each queue, and how many calls of one region
            run, at most.
        keep: So many failed messages of one region are kept in hand; then only every second probe
            lets in one more. None: the larger of `prefetch` and 10.
        max_hold: Seconds after which a message in hand goes back to its queue; must be well below
            the broker's `consumer_timeout` of 30 minutes.
        stop_timeout: Seconds that running calls have to end when the block is left.
        registry: Where the regions' breakers are.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a wrong value, or two regions are one.
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
        wait_arguments: Mapping[str, Any] | None = None,
        prefetch: int = 10,
        keep: int | None = None,
        max_hold: float = 1200.0,
        stop_timeout: float = 30.0,
        registry: CircuitBreakerRegistry | None = None,
    ) -> None:
        super().__init__(
            queue, handler, on_error, prefetch=prefetch, keep=keep, max_hold=max_hold,
            stop_timeout=stop_timeout,
        )  # fmt: skip
        _validate.check_callable("region_of", region_of, "a message and returns its region")
        _validate.check_type(
            "wait_arguments", {} if wait_arguments is None else wait_arguments, Mapping
        )
        self._region_of, self._wait_arguments = region_of, wait_arguments
        self._registry = registry_or_default(registry)
        self._wait_queues = self._name_queues(regions, wait_queue)

    async def declare(self) -> None:
        """Declare the wait queues, durable; what is there and equal stays as it is.

        With `wait_arguments`, or as quorum queues that drop nothing for being returned often.

        Raises:
            ConsumerError: One is there that is different, or the broker does not let us.
        """
        inspection = Inspection(self._connection)
        for queue in self._wait_queues.values():
            await inspection.declare_wait_queue(queue, self._wait_arguments)

    async def _inspect(self, inspection: Inspection) -> None:
        for queue in self._wait_queues.values():
            await inspection.check_wait_queue(queue, self._wait_arguments)

    def _make_parts(self) -> Sequence[Part]:
        lines = [
            Line(
                self._connection, queue, breaker, self._work, prefetch=self._prefetch,
                keep=self._keep, max_hold=self._max_hold, stop_timeout=self._stop_timeout,
                copies=True,
            )
            for breaker, queue in self._wait_queues.items()
        ]  # fmt: skip
        sorting = Sorting(
            self._connection, self._queue, self._work, self._find, self._wait_queues,
            prefetch=self._prefetch, max_hold=self._max_hold, stop_timeout=self._stop_timeout,
        )  # fmt: skip
        return [sorting, *lines]

    def _find(self, message: AbstractIncomingMessage) -> CircuitBreaker:
        region = self._region_of(message)
        breaker = self._registry.get(region)
        if breaker not in self._wait_queues:
            raise ValueError(f"region_of gave {region!r}, which is none of the consumer's regions")
        return breaker

    def _name_queues(self, regions: Any, wait_queue: object) -> dict[CircuitBreaker, str]:
        pattern = _validate.check_text("wait_queue", wait_queue)
        if "{region}" not in pattern:
            raise ValueError(f"wait_queue must have {{region}} in it, got {pattern!r}")
        if isinstance(regions, str):
            raise TypeError("regions must be several regions, got a str")
        _validate.check_type("regions", regions, Iterable)
        given = list(regions)
        if not given:
            raise ValueError("regions must not be empty")
        breakers = [self._registry.get(_validate.check_text("a region", one)) for one in given]
        if len(set(breakers)) < len(breakers):
            raise ValueError(f"regions names a region twice: {', '.join(given)}")
        named = {breaker: pattern.replace("{region}", breaker.region) for breaker in breakers}
        for name in named.values():
            if len(name.encode()) > _LONGEST_NAME:
                raise ValueError(f"wait_queue must give at most 255 bytes, got {name[:40]!r}...")
            if name == self._queue:
                raise ValueError(f"wait_queue must be another queue than {name!r} itself")
        return named
