"""Calling the user's handler with a message, and `on_error` with a message that failed for good."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from aio_pika.abc import AbstractIncomingMessage, HeadersType

from resilience import _validate, log, scope
from resilience._text import one_line
from resilience.breaker import CircuitBreaker
from resilience.integrations.rabbitmq.amqp import (
    ConsumerError,
    MessageError,
    acknowledge,
    cancellation_requested,
    is_unsettled,
)
from resilience.integrations.rabbitmq.consumer_warnings import ConsumerWarnings
from resilience.integrations.rabbitmq.disposition import Disposition, disposition_of
from resilience.integrations.rabbitmq.failure_record import COUNTED_ATTEMPTS
from resilience.integrations.rabbitmq.publisher import Publisher, copy_of
from resilience.integrations.rabbitmq.unreadable import check_readable


@dataclass(frozen=True, slots=True)
class DeadLetterTo:
    """For `on_error`: publish a copy to a queue, and acknowledge the message once it is there.

    A `reject` would leave the message to the dead-letter exchange of its queue, and would discard
    it if there is none, which AMQP cannot show.

    Args:
        queue: The queue's name.

    Raises:
        TypeError: The name is not a string.
        ValueError: The name is empty.
    """

    queue: str

    def __post_init__(self) -> None:
        _validate.check_text("queue", self.queue)


Handler: TypeAlias = Callable[[AbstractIncomingMessage], Awaitable[object]]
ErrorHandler: TypeAlias = Callable[[AbstractIncomingMessage, Exception], Awaitable[object]]
OnError: TypeAlias = ErrorHandler | DeadLetterTo


class Attempt(NamedTuple):
    """What came of calling the handler with a message.

    Args:
        disposition: What happens to the message.
        error: What the handler raised; None if it returned.
    """

    disposition: Disposition
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class MessageHandler:
    """The user's handler and `on_error`.

    Args:
        handler: Awaited with each message.
        on_error: Awaited with a message and an error that another attempt would not cure.
        publisher: Publishes the copies for a `DeadLetterTo`.
        warnings: The warnings of the consumer.
        max_unacked: Seconds after which a call that is still running is logged.
    """

    handler: Handler
    on_error: OnError
    publisher: Publisher
    warnings: ConsumerWarnings
    max_unacked: float

    async def attempt(
        self,
        breaker: CircuitBreaker,
        message: AbstractIncomingMessage,
        *,
        ignore_failures: bool = False,
    ) -> Attempt:
        """Call the handler with a message, and decide what happens to the message.

        Args:
            breaker: The breaker of the message's region.
            message: The message.
            ignore_failures: Whether the breakers ignore a failure: it is the message's own.
        """
        error: BaseException | None = None
        outcomes = scope.watch_outcomes(ignore_failures=ignore_failures)
        with outcomes as recorded, self._watch_duration("a call"):
            try:
                check_readable(message)
                result = await self.handler(message)
                if result is not None:
                    await finish(result)
            except asyncio.CancelledError as cancelled:
                if cancellation_requested():
                    raise
                error = cancelled
            except Exception as raised:  # noqa: BLE001 - The disposition depends on it.
                error = raised
            if error is not None and message.processed:
                self._warn_of_settled_message(error)
            # Inside the block: what was recorded is forgotten at its end.
            return Attempt(disposition_of(breaker, error, recorded), error)

    async def handle_error(
        self,
        region: str,
        message: AbstractIncomingMessage,
        error: Exception,
        *,
        from_wait_queue: bool,
        headers: HeadersType | None = None,
    ) -> None:
        """Pass a message to `on_error`; a message that it leaves unsettled is not lost.

        Args:
            region: The message's region, or the queue if the region is unknown, for the log.
            message: The message.
            error: What the handler raised.
            from_wait_queue: Whether the message was delivered from a wait queue.
            headers: Further headers of a dead letter.
        """
        if not is_unsettled(message):
            return
        try:
            with self._watch_duration("an on_error"):
                await self._call_on_error(
                    message, error, from_wait_queue=from_wait_queue, headers=headers or {}
                )
        except asyncio.CancelledError:
            if cancellation_requested():
                raise
        except ConsumerError:
            raise
        except Exception as fault:  # noqa: BLE001 - The message is still unacked.
            log.log_fault("on_error", self.on_error, log.describe_exception(fault), region)
            return
        if is_unsettled(message) and not isinstance(self.on_error, DeadLetterTo):
            what = "left a message unsettled: it must ack, nack or reject each message"
            log.log_fault("on_error", self.on_error, what, region)

    async def _call_on_error(
        self,
        message: AbstractIncomingMessage,
        error: Exception,
        *,
        from_wait_queue: bool,
        headers: HeadersType,
    ) -> None:
        if not isinstance(self.on_error, DeadLetterTo):
            await self.on_error(message, error)
            return
        copy = copy_of(message, from_wait_queue=from_wait_queue)
        copy.headers.pop(COUNTED_ATTEMPTS, None)  # Published again, it has all its attempts.
        copy.headers.update(headers)
        try:
            if await self.publisher.publish(copy, self.on_error.queue, cut_headers=True):
                await acknowledge(message)
        except MessageError as fault:
            text = f"cannot dead-letter a message, which stays unacked: {one_line(str(fault))}"
            self.warnings.warn("dead letter", text)

    @contextmanager
    def _watch_duration(self, what: str) -> Generator[None, None, None]:
        """Warn of what is still running when its message should go back to the queue."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self.max_unacked, self._warn_of_long_call, what)
        try:
            yield
        finally:
            timer.cancel()

    def _warn_of_long_call(self, what: str) -> None:
        self.warnings.warn(
            f"long {what}",
            f"has {what} that is still running after {self.max_unacked:g} s (max_unacked); "
            "after its consumer_timeout, the broker closes the channel and delivers it again",
        )

    def _warn_of_settled_message(self, error: BaseException) -> None:
        self.warnings.warn("settled", settled_text(error))


async def finish(result: object) -> None:
    """Await what a handler has returned, if that is a call which has not ended.

    Without an `await` in the handler, nothing of the call may have happened yet.
    """
    while isinstance(result, Coroutine | asyncio.Future):
        result = await result


def settled_text(error: BaseException) -> str:
    """Return the warning of a handler that has settled a message although its call failed.

    Args:
        error: What the handler raised.
    """
    kind = one_line(type(error).__name__)
    return (
        f"has a handler that settled a message itself although its call failed ({kind}): the "
        "message can neither be held nor go to on_error; leave out `message.process()`"
    )
