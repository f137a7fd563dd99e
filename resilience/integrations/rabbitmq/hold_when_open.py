"""hold_when_open: for handlers that exist already, NACK with the pause that makes it harmless."""

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, Protocol

from aio_pika.abc import AbstractIncomingMessage

from resilience import _validate, scope
from resilience.breaker import CircuitBreaker
from resilience.integrations.rabbitmq.amqp import acknowledge, is_unsettled, return_to_queue
from resilience.integrations.rabbitmq.consumer import registry_or_default
from resilience.integrations.rabbitmq.disposition import (
    Disposition,
    disposition_of,
    rejection_in,
)
from resilience.integrations.rabbitmq.handler import check_async
from resilience.integrations.rabbitmq.settings import renamed
from resilience.registry import CircuitBreakerRegistry

P = ParamSpec("P")

# The least seconds before a message is attempted again that another circuit has rejected.
_SHORTEST_PAUSE = 1.0


class HoldDecorator(Protocol):
    """The decorator that `hold_when_open` returns: it keeps the parameters of the function."""

    def __call__(
        self, fn: Callable[P, Coroutine[Any, Any, object]], /
    ) -> Callable[P, Coroutine[Any, Any, None]]:
        """Decorate an `async def` that takes a message."""
        ...


def hold_when_open(
    *,
    region_of: Callable[[AbstractIncomingMessage], str],
    max_unacked: float = 600.0,
    registry: CircuitBreakerRegistry | None = None,
    max_hold: float | None = None,
) -> HoldDecorator:
    """Hold messages whose region is down, and NACK them, without attempts and without spinning.

    While the circuit rejects calls, a message is held unacked instead of being returned and
    redelivered immediately. When the circuit has closed, or when it would admit a probe and this
    message is the first in line, the handler is called with the message again. After `max_unacked`
    seconds, or when the hold is cancelled, the message is NACKed and comes back.

    A handler that returns has its message acknowledged, unless it has settled the message itself.
    An error other than a rejection goes through to aio-pika. The handler must not wrap the call in
    ``message.process()``, which rejects the message when the circuit opens during the call, so that
    it can no longer be held.

    This way no message is lost, and none spins. Held messages do take up the prefetch of the
    channel: in a queue of several regions whose first `prefetch` messages are of a region that is
    down, the others wait until that region is back. `SharedConsumer` prevents this; it and
    `RegionConsumer` also have a slow start after an outage. Each NACK counts towards the delivery
    limit of a quorum queue on RabbitMQ before 4.3.

    Args:
        region_of: Returns the region of a message, which is the last positional argument.
        max_unacked: The most seconds that a message is held, less a random part of up to a fifth;
            must be below the broker's `consumer_timeout` of 30 minutes.
        registry: The registry of the regions' breakers. None is the default registry.
        max_hold: Deprecated name of `max_unacked`.

    Returns:
        A decorator for an `async def` that takes a message, or for a method that does.

    Raises:
        TypeError: An argument has the wrong type; or, when decorating, the function is not an
            `async def`.
        ValueError: `max_unacked` is not above 0.
    """
    max_unacked = renamed("max_hold", max_hold, "max_unacked", max_unacked, 600.0)
    _validate.check_callable("region_of", region_of, "a message and returns its region")
    _validate.check_seconds("max_unacked", max_unacked)
    breakers = registry_or_default(registry)

    def decorate(
        fn: Callable[P, Coroutine[Any, Any, object]], /
    ) -> Callable[P, Coroutine[Any, Any, None]]:
        check_async("@hold_when_open", fn, "a message")

        @functools.wraps(fn)
        async def on_message(*args: P.args, **kwargs: P.kwargs) -> None:
            message = _message_in(args)
            hold = _Hold(breakers.get(region_of(message)), message, max_unacked)
            await hold.until_handled(lambda: fn(*args, **kwargs))

        return on_message

    return decorate


def _message_in(args: tuple[object, ...]) -> AbstractIncomingMessage:
    message = args[-1] if args else None
    if not isinstance(message, AbstractIncomingMessage):
        kind = type(message).__name__
        raise TypeError(f"the last positional argument must be a message of aio_pika, got {kind}")
    return message


class _Hold:
    """One message, held until its handler could be called or its time is over.

    Args:
        breaker: The breaker of the message's region.
        message: The message.
        max_unacked: The most seconds that the message is held.
    """

    def __init__(
        self, breaker: CircuitBreaker, message: AbstractIncomingMessage, max_unacked: float
    ) -> None:
        self._breaker, self._message = breaker, message
        # Messages that arrived together do not go back together.
        share = random.uniform(0.8, 1.0)  # noqa: S311 - not a secret
        self._end = _now() + max_unacked * share

    async def until_handled(self, handle: Callable[[], Awaitable[object]]) -> None:
        """Call the handler as soon as the circuit admits calls, or NACK the message.

        Args:
            handle: Calls the handler with the message.
        """
        pause = 0.0
        while await self._may_attempt(pause):
            rejection = await self._attempt(handle)
            if rejection is None:
                return
            pause = self._pause_after(rejection)
        await return_to_queue([self._message])

    async def _attempt(self, handle: Callable[[], Awaitable[object]]) -> Exception | None:
        """Call the handler, and acknowledge the message if it returns.

        Returns:
            The error of a handler whose call was rejected by a circuit. Any other error is raised.
        """
        with scope.watch_outcomes() as recorded:
            try:
                await handle()
            except Exception as error:
                disposition = disposition_of(self._breaker, error, recorded)
                if self._message.processed or disposition is not Disposition.REJECTED:
                    raise
                return error
        await acknowledge(self._message)
        return None

    async def _may_attempt(self, pause: float) -> bool:
        """Wait until the circuit admits calls.

        Args:
            pause: Seconds to wait in any case.

        Returns:
            Whether the handler may be called; if not, the message has to go back.
        """
        try:
            if pause:
                await asyncio.sleep(max(0.0, min(pause, self._end - _now())))
            ready = await self._breaker.wait_until_ready(max(0.0, self._end - _now()))
        except asyncio.CancelledError:
            await return_to_queue([self._message])
            raise
        in_time = not pause or _now() < self._end
        return ready and in_time and is_unsettled(self._message)

    def _pause_after(self, error: Exception) -> float:
        """Return the seconds for which another circuit, which the handler uses, rejects calls."""
        if self._breaker.retry_after != 0.0:
            return 0.0  # It is the message's own circuit, and `wait_until_ready` waits for that.
        rejection = rejection_in(error)
        requested = None if rejection is None else rejection.retry_after
        return max(_SHORTEST_PAUSE, requested or 0.0)


def _now() -> float:
    return asyncio.get_running_loop().time()
