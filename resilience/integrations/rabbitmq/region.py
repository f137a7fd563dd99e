"""RegionConsumer: a queue whose messages are all of one region."""

from collections.abc import Sequence

from aio_pika.abc import AbstractQueue

from resilience.integrations.rabbitmq.consumer import Consumer, registry_or_default
from resilience.integrations.rabbitmq.inspection import Inspection
from resilience.integrations.rabbitmq.line import Line
from resilience.integrations.rabbitmq.part import Part
from resilience.integrations.rabbitmq.work import Handler, OnError
from resilience.registry import CircuitBreakerRegistry


class RegionConsumer(Consumer):
    """Consumes a queue whose messages all call one region (T10, "NACK").

    While the region's circuit is OPEN nothing is consumed. A probe takes a fresh message. One that
    failed stays in hand, unacked, and is attempted again from there, when its region can or after
    a pause: that costs no delivery. After an opening the calls grow in steps of 1, 2, 4, ...
    `prefetch`, which is also the most calls that a region gets at once from this process.

    A handler that returns has its message acked. A rejection by the circuit, what the breaker's
    classifier calls a FAILURE, and a 408 or 429 are waited for. Everything else goes to `on_error`.
    What the handler settled itself is left alone. Delivery is at least once.

    Of `queue` it takes the name and the connection, on which it opens channels of its own; it
    declares nothing. On a connection of `aio_pika.connect_robust` it goes on by itself after the
    broker was away. Where it cannot start, or cannot go on, ``async with`` raises a
    `ConsumerError`; a block that is still running is cancelled for it. When the block is left no
    call starts any more, and what is in hand goes back to the queue.

    Args:
        queue: The queue.
        handler: An `async def` that takes a message, and calls the region through its breaker.
        region: The region.
        on_error: An `async def` that takes a message and an error and settles the message; or a
            `DeadLetterTo`.
        prefetch: How many messages are let in, and how many calls run, at most.
        keep: So many failed messages are kept in hand; then only every second probe lets in one
            more. None: the larger of `prefetch` and 10.
        max_hold: Seconds after which a message in hand goes back to the queue; must be well below
            the broker's `consumer_timeout` of 30 minutes.
        stop_timeout: Seconds that running calls have to end when the block is left.
        registry: Where the region's breaker is.

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
        keep: int | None = None,
        max_hold: float = 1200.0,
        stop_timeout: float = 30.0,
        registry: CircuitBreakerRegistry | None = None,
    ) -> None:
        super().__init__(
            queue, handler, on_error, prefetch=prefetch, keep=keep, max_hold=max_hold,
            stop_timeout=stop_timeout,
        )  # fmt: skip
        self._breaker = registry_or_default(registry).get(region)

    async def _inspect(self, inspection: Inspection) -> None:
        pass

    def _make_parts(self) -> Sequence[Part]:
        return [
            Line(
                self._connection, self._queue, self._breaker, self._work, prefetch=self._prefetch,
                keep=self._keep, max_hold=self._max_hold, stop_timeout=self._stop_timeout,
            )
        ]  # fmt: skip
