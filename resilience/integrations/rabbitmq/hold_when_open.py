"""hold_when_open: for handlers that exist already, NACK with the pause that makes it harmless."""

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, ParamSpec, Protocol

from aio_pika.abc import AbstractIncomingMessage

from resilience import _validate, log, scope
from resilience._text import one_line
from resilience._validate import name_of
from resilience.answers import requested_delay
from resilience.breaker import CircuitBreaker
from resilience.circuit_states import CircuitState
from resilience.classify import root_error
from resilience.errors import TenantThrottledError
from resilience.integrations.rabbitmq.amqp import (
    acknowledge,
    as_exception,
    cancellation_requested,
    is_unsettled,
    return_to_queue,
)
from resilience.integrations.rabbitmq.consumer import registry_or_default
from resilience.integrations.rabbitmq.consumer_timeout import warn_of_consumer_timeout
from resilience.integrations.rabbitmq.disposition import (
    Disposition,
    disposition_of,
    rejection_in,
)
from resilience.integrations.rabbitmq.handler import (
    Attempt,
    ErrorHandler,
    finish,
    settled_text,
)
from resilience.integrations.rabbitmq.handler_registry import warn_of_other_registry
from resilience.integrations.rabbitmq.held_message import check_takes_message, message_in
from resilience.integrations.rabbitmq.hold_returns import HeldReturns
from resilience.integrations.rabbitmq.settings import renamed
from resilience.integrations.rabbitmq.signature import (
    A_MESSAGE_AND_AN_ERROR,
    check_async,
    check_decorated,
)
from resilience.registry import CircuitBreakerRegistry

P = ParamSpec("P")

# Seconds before a message is attempted again while its own circuit admits calls.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_MAX_DOUBLINGS = 6
_CANNOT_HOLD = (
    "is called with messages that are settled already, as with no_ack: they cannot be held, and "
    "are lost if their calls fail"
)
# Seconds after which a message is let go of that somebody else has settled.
_POLL_INTERVAL = 1.0


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
    max_unacked: float = 1200.0,
    on_error: ErrorHandler | None = None,
    registry: CircuitBreakerRegistry | None = None,
    queue: str | None = None,
    max_hold: float | None = None,
) -> HoldDecorator:
    """Hold messages whose region is down, and NACK them, without attempts and without spinning.

    While the circuit rejects calls, a message is held unacked instead of being returned and
    redelivered immediately. A message whose call has failed is held as well: if a circuit rejected
    the call, if a breaker counted a FAILURE, or on a 408 or 429. When the circuit has closed, or
    when it would admit a probe and this message is the first in line, the handler is called with
    the message again; while the circuit is CLOSED, after a pause that grows. After `max_unacked`
    seconds, or when the hold is cancelled, the message is NACKed and comes back.

    A handler that returns has its message acknowledged, unless it has settled the message itself.
    Any other error goes to `on_error`. Without one it goes through to aio-pika, and the message is
    NACKed after `max_unacked` seconds, unless a caller of the decorated function settles it. The
    handler must not wrap the call in ``message.process()``, which rejects the message when the call
    fails, so that it can no longer be held. A message that is settled already when it comes,
    such as one of a consumer with `no_ack`, is handled once and not held.

    This way no message is lost, none spins, and none stays unacked for ever. Held messages do take
    up the prefetch of the channel: in a queue of several regions whose first `prefetch` messages
    are of a region that is down, the others wait until that region is back. `SharedConsumer`
    prevents this; it and `RegionConsumer` also have a slow start after an outage.

    Each NACK counts towards the delivery limit of a quorum queue on RabbitMQ before 4.3. While the
    circuit is not CLOSED, a message that has come back half as often as the limit allows, or ten
    times if the limit is unknown, is therefore not NACKed: a copy of it is published to the end of
    its queue, and the message is acknowledged once the broker has confirmed the copy.

    Args:
        region_of: Returns the region of a message. The message is the last positional argument of
            the function, or any keyword argument; FastStream's own messages are unwrapped.
        max_unacked: The most seconds that a message is held, less a random part of up to a tenth;
            must be below the broker's `consumer_timeout` of 30 minutes.
        on_error: An `async def` that takes a message and an error that another attempt would not
            cure, and settles the message. None raises the error.
        registry: The registry of the regions' breakers. None is the default registry.
        queue: The name of the queue that the messages come from. None finds it out, which is
            possible if the queue was declared over a connection of `aio_pika.connect_robust`, or if
            the messages were published to the default exchange.
        max_hold: Deprecated name of `max_unacked`.

    Returns:
        A decorator for an `async def` that takes a message, or for a method that does.

    Raises:
        TypeError: An argument has the wrong type; or, when decorating, the function is not an
            `async def` that can take a message. A call without a message raises it, too.
        ValueError: `max_unacked` is not above 0.
    """
    max_unacked = renamed("max_hold", max_hold, "max_unacked", max_unacked, 1200.0)
    _validate.check_callable("region_of", region_of, "a message and returns its region")
    _validate.check_seconds("max_unacked", max_unacked)
    if queue is not None:
        _validate.check_text("queue", queue)
    if on_error is not None:
        check_async("on_error", on_error, A_MESSAGE_AND_AN_ERROR)
    breakers = registry_or_default(registry)
    warn_of_consumer_timeout(max_unacked, partial(_warn, "hold_when_open"))

    def decorate(
        fn: Callable[P, Coroutine[Any, Any, object]], /
    ) -> Callable[P, Coroutine[Any, Any, None]]:
        check_decorated("@hold_when_open", fn)
        check_takes_message(fn)
        whose = f"hold_when_open of {one_line(name_of(fn))}"
        warn_of_other_registry(fn, breakers, partial(_warn, whose))
        settled, cannot_hold = _Warning(whose), _Warning(whose)
        returns = HeldReturns(queue, partial(_warn, whose))

        @functools.wraps(fn)
        async def on_message(*args: P.args, **kwargs: P.kwargs) -> None:
            message = message_in(args, kwargs)
            if message.processed:
                cannot_hold.warn(_CANNOT_HOLD)
                await finish(await fn(*args, **kwargs))
                return
            hold = _Hold(message, max_unacked, on_error, settled, returns)
            try:
                breaker = breakers.get(region_of(message))
            # The user's function may raise anything; nothing is awaited that could be cancelled.
            except (Exception, asyncio.CancelledError) as raised:  # noqa: BLE001
                await hold.give_up("unknown", as_exception(raised))
            else:
                await hold.until_handled(breaker, lambda: fn(*args, **kwargs))

        return on_message

    return decorate


def _warn(whose: str, text: str) -> None:
    log.log("WARNING", "", f"{whose} {text}")


class _Warning:
    """A warning about what is decorated, logged once.

    Args:
        whose: What is decorated, for the log.
    """

    def __init__(self, whose: str) -> None:
        self._whose, self._is_logged = whose, False

    def warn(self, text: str) -> None:
        """Log the warning, unless it was logged before."""
        if not self._is_logged:
            self._is_logged = True
            _warn(self._whose, text)


class _Hold:
    """One message, held until its handler could be called or its time is over.

    Args:
        message: The message.
        max_unacked: The most seconds that the message is held.
        on_error: The user's `on_error`; None if there is none.
        settled: Warns if the handler has settled the message although its call failed.
        returns: Gives the message back when its time is over.
    """

    def __init__(
        self,
        message: AbstractIncomingMessage,
        max_unacked: float,
        on_error: ErrorHandler | None,
        settled: _Warning,
        returns: HeldReturns,
    ) -> None:
        self._message, self._on_error, self._settled = message, on_error, settled
        self._returns = returns
        # Messages that arrived together do not go back together.
        share = random.uniform(0.9, 1.0)  # noqa: S311 - not a secret
        self._end = _now() + max_unacked * share
        # How often a call has failed while the circuit admitted calls, up to a bound.
        self._doublings = 0

    async def until_handled(
        self, breaker: CircuitBreaker, handle: Callable[[], Awaitable[object]]
    ) -> None:
        """Call the handler as soon as the circuit admits calls, or NACK the message.

        Args:
            breaker: The breaker of the message's region.
            handle: Calls the handler with the message.
        """
        pause = 0.0
        while await self._may_attempt(breaker, pause):
            disposition, error = await self._attempt(breaker, handle)
            if error is None:
                await acknowledge(self._message)
                return
            if self._message.processed:
                self._settled.warn(settled_text(error))
                raise error
            if disposition is Disposition.ON_ERROR and isinstance(error, Exception):
                await self.give_up(breaker.region, error)
                return
            pause = self._pause_after(breaker, disposition, error)
        is_closed = breaker.state is CircuitState.CLOSED
        await self._returns.give_back(self._message, is_closed=is_closed)

    async def give_up(self, region: str, error: Exception) -> None:
        """Pass the message to `on_error`, or raise the error; the message is not lost either way.

        Args:
            region: The region, for the log.
            error: An error that another attempt would not cure.
        """
        _return_unless_settled(self._message, self._end)
        if self._on_error is None:
            raise error
        try:
            await self._on_error(self._message, error)
        except asyncio.CancelledError:
            if cancellation_requested():
                await return_to_queue([self._message])
                raise
        except Exception as fault:  # noqa: BLE001 - The message is still unacked.
            log.log_fault("on_error", self._on_error, log.describe_exception(fault), region)
            return
        if is_unsettled(self._message):
            what = "left a message unsettled: it must ack, nack or reject each message"
            log.log_fault("on_error", self._on_error, what, region)

    async def _attempt(
        self, breaker: CircuitBreaker, handle: Callable[[], Awaitable[object]]
    ) -> Attempt:
        """Call the handler, and decide what happens to the message."""
        error: BaseException | None = None
        with scope.watch_outcomes() as recorded:
            try:
                await finish(await handle())
            except asyncio.CancelledError as cancelled:
                if cancellation_requested():
                    await return_to_queue([self._message])
                    raise
                error = cancelled
            except Exception as raised:  # noqa: BLE001 - The disposition depends on it.
                error = raised
            # Inside the block: what was recorded is forgotten at its end.
            return Attempt(disposition_of(breaker, error, recorded), error)

    async def _may_attempt(self, breaker: CircuitBreaker, pause: float) -> bool:
        """Wait until the circuit admits calls.

        Args:
            breaker: The breaker of the message's region.
            pause: Seconds to wait in any case.

        Returns:
            Whether the handler may be called; if not, the message has to go back.
        """
        try:
            if pause:
                await asyncio.sleep(max(0.0, min(pause, self._end - _now())))
            ready = await breaker.wait_until_ready(max(0.0, self._end - _now()))
        except asyncio.CancelledError:
            await return_to_queue([self._message])
            raise
        in_time = not pause or _now() < self._end
        return ready and in_time and is_unsettled(self._message)

    def _pause_after(
        self, breaker: CircuitBreaker, disposition: Disposition, error: BaseException
    ) -> float:
        """Return the seconds to wait in addition to waiting for the circuit."""
        if disposition is not Disposition.RETRY_LATER and breaker.retry_after != 0.0:
            self._doublings = 0
            return 0.0  # The message's own circuit rejects calls: that decides when.
        requested = requested_delay(root_error(error))
        if isinstance(error, TenantThrottledError):
            requested = error.retry_after
        rejection = rejection_in(error)
        if rejection is not None and disposition is Disposition.REJECTED:
            requested = rejection.retry_after  # of another circuit, which the handler uses
        pause = max(min(_SHORTEST_PAUSE * 2.0**self._doublings, _LONGEST_PAUSE), requested or 0.0)
        self._doublings = min(self._doublings + 1, _MAX_DOUBLINGS)
        return pause * random.uniform(1.0, 1.25)  # noqa: S311 - not a secret


_returning: set[asyncio.Task[None]] = set()


def _return_unless_settled(message: AbstractIncomingMessage, end: float) -> None:
    """NACK a message at `end`, in the event loop's time, if nobody has settled it by then."""
    if not is_unsettled(message):
        return
    left = end - _now()
    if left > 0:
        # Not for all of the time that is left: nothing says when the message is settled, and until
        # the timer ends it is kept in memory.
        pause = min(left, _POLL_INTERVAL)
        asyncio.get_running_loop().call_later(pause, _return_unless_settled, message, end)
        return
    task = asyncio.ensure_future(return_to_queue([message]))
    _returning.add(task)  # The loop keeps only a weak reference to it.
    task.add_done_callback(_returning.discard)


def _now() -> float:
    return asyncio.get_running_loop().time()
