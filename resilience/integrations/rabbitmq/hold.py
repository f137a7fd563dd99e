"""hold_when_open: T10's NACK, to the letter, for handlers that there are already."""

import asyncio
import functools
import random
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, Protocol

from aio_pika.abc import AbstractIncomingMessage

from resilience import _validate
from resilience.breaker import CircuitBreaker
from resilience.integrations.rabbitmq.broker import is_open, settle
from resilience.integrations.rabbitmq.consumer import registry_or_default
from resilience.integrations.rabbitmq.verdict import Verdict, judge, rejection_in
from resilience.integrations.rabbitmq.work import check_async
from resilience.registry import CircuitBreakerRegistry

P = ParamSpec("P")

# So long at least before a message is tried again that another circuit has rejected.
_PAUSE = 1.0


class HoldDecorator(Protocol):
    """What `hold_when_open` returns: it keeps the parameters of the function."""

    def __call__(  # noqa: D102 - said above
        self, fn: Callable[P, Coroutine[Any, Any, object]], /
    ) -> Callable[P, Coroutine[Any, Any, None]]: ...


def hold_when_open(
    *,
    region_of: Callable[[Any], str],
    max_hold: float = 600.0,
    registry: CircuitBreakerRegistry | None = None,
) -> HoldDecorator:
    """NACK messages whose region is closed off, without an attempt and without spinning (T10).

    While the circuit rejects calls a message is held, unacked, instead of being returned at once
    and delivered again at once. When the circuit closes, or when it would admit a probe and this
    message is the first in line, the handler is called again with it. After `max_hold`, or when it
    is cancelled, the message is NACKed and comes back.

    A handler that returns has its message acked, unless it did that itself. What else it raises
    goes through to aio-pika. A handler must not wrap the call in ``message.process()``: that
    rejects the message when the circuit opens in the middle of it, before anybody can hold it.

    No message is lost so, and none spins. What it cannot do: held messages take up the channel's
    prefetch. In a queue of several regions whose first `prefetch` messages are of a region that is
    down, the others wait as long as it is down; where each is of another region, and for a
    concurrency that grows back in steps, there are `SharedConsumer` and `RegionConsumer`. Each
    NACK counts towards a quorum queue's delivery limit on RabbitMQ before 4.3.

    Args:
        region_of: Gives the region of a message, which is the last positional argument.
        max_hold: Seconds that a message is held at most, less up to a fifth by chance; must be
            below the broker's `consumer_timeout` of 30 minutes.
        registry: Where the regions' breakers are.

    Returns:
        A decorator for an `async def` that takes a message, or for such a method.

    Raises:
        TypeError: An argument has the wrong type, or, when decorating, the function is no
            `async def`.
        ValueError: `max_hold` is not above 0.
    """
    _validate.check_callable("region_of", region_of, "a message and returns its region")
    _validate.check_seconds("max_hold", max_hold)
    breakers = registry_or_default(registry)

    def decorate(
        fn: Callable[P, Coroutine[Any, Any, object]], /
    ) -> Callable[P, Coroutine[Any, Any, None]]:
        check_async("@hold_when_open", fn, "a message")

        @functools.wraps(fn)
        async def on_message(*args: P.args, **kwargs: P.kwargs) -> None:
            message: Any = args[-1] if args else None
            _validate.check_type("the last positional argument", message, AbstractIncomingMessage)
            breaker = breakers.get(region_of(message))
            seconds = max_hold * random.uniform(0.8, 1.0)  # noqa: S311 - no secret
            await _hold(breaker, message, seconds, lambda: fn(*args, **kwargs))

        return on_message

    return decorate


async def _hold(
    breaker: CircuitBreaker,
    message: AbstractIncomingMessage,
    seconds: float,
    handle: Callable[[], Coroutine[Any, Any, object]],
) -> None:
    end = _now() + seconds
    pause = 0.0
    while await _wait(breaker, message, end, pause):
        try:
            await handle()
        except Exception as error:
            rejected = judge(breaker, error) is Verdict.REJECTED
            if message.processed or not rejected:
                raise
            pause = _pause_after(breaker, error)
        else:
            if is_open(message):
                await settle(message.ack(), within=None)
            return
    if is_open(message):
        await settle(message.nack(requeue=True))


async def _wait(
    breaker: CircuitBreaker, message: AbstractIncomingMessage, end: float, pause: float
) -> bool:
    """Wait until the handler may be called; False when the message is to be returned."""
    try:
        if pause:
            await asyncio.sleep(max(0.0, min(pause, end - _now())))
        ready = await breaker.wait_until_ready(max(0.0, end - _now()))
    except asyncio.CancelledError:
        if is_open(message):
            await settle(message.nack(requeue=True))
        raise
    return ready and is_open(message) and (not pause or _now() < end)


def _pause_after(breaker: CircuitBreaker, error: Exception) -> float:
    """Say for how long another circuit, which the handler goes through, keeps it out."""
    if breaker.retry_after != 0.0:
        return 0.0  # it is our own, for whose sake one stands in line
    rejection = rejection_in(error)
    return max(_PAUSE, getattr(rejection, "retry_after", None) or 0.0)


def _now() -> float:
    return asyncio.get_running_loop().time()
