"""Work: what the user gave to be done with a message, and with one that failed for good."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from aio_pika.abc import AbstractIncomingMessage

from resilience import _validate, log
from resilience.breaker import CircuitBreaker
from resilience.integrations.rabbitmq.broker import (
    ConsumerError,
    is_cancelled,
    is_open,
    settle,
)
from resilience.integrations.rabbitmq.copies import copy_of
from resilience.integrations.rabbitmq.publisher import Publisher
from resilience.integrations.rabbitmq.verdict import Verdict, judge


@dataclass(frozen=True, slots=True)
class DeadLetterTo:
    """For `on_error`: put the message into a queue by name, and ack it when it is there.

    `reject` would leave it to the queue's dead-letter exchange, and throw the message away where
    there is none, which AMQP cannot show.

    Args:
        queue: The queue's name.

    Raises:
        TypeError: The name is no text.
        ValueError: The name is empty.
    """

    queue: str

    def __post_init__(self) -> None:
        _validate.check_text("queue", self.queue)


Handler: TypeAlias = Callable[[AbstractIncomingMessage], Awaitable[object]]
OnError: TypeAlias = (
    Callable[[AbstractIncomingMessage, Exception], Awaitable[object]] | DeadLetterTo
)


@dataclass(slots=True)
class Work:
    """The user's handler, and his `on_error`.

    Args:
        handler: Is awaited with each message.
        on_error: Is awaited with a message and the error that nothing but he can deal with.
        publisher: For `DeadLetterTo`.
    """

    handler: Handler
    on_error: OnError
    publisher: Publisher

    async def attempt(
        self, breaker: CircuitBreaker, message: AbstractIncomingMessage
    ) -> tuple[Verdict, BaseException | None]:
        """Call the handler, and judge what comes of it."""
        error: BaseException | None = None
        try:
            await self.handler(message)
        except asyncio.CancelledError as cancelled:
            if is_cancelled():
                raise
            error = cancelled
        except Exception as raised:  # noqa: BLE001 - whatever it is, it is judged
            error = raised
        return judge(breaker, error), error

    async def give_up(
        self, region: str, message: AbstractIncomingMessage, error: BaseException, *, copy: bool
    ) -> None:
        """Hand a message to the user's `on_error`; one that it leaves unsettled is not lost.

        Args:
            region: Whose message it is, for the log.
            message: What failed.
            error: What the handler raised.
            copy: Whether the message comes out of a wait queue.
        """
        if not is_open(message):
            return
        try:
            await self._hand_over(message, error, copy=copy)
        except asyncio.CancelledError:
            if is_cancelled():
                raise
        except ConsumerError:
            raise
        except Exception as fault:  # noqa: BLE001 - the message stays in hand
            log.log_fault("on_error", self.on_error, log.describe_exception(fault), region)
            return
        if is_open(message) and not isinstance(self.on_error, DeadLetterTo):
            what = "left a message unsettled: ack, nack or reject it"
            log.log_fault("on_error", self.on_error, what, region)

    async def _hand_over(self, message: Any, error: Any, *, copy: bool) -> None:
        if not isinstance(self.on_error, DeadLetterTo):
            await self.on_error(message, error)
        elif await self.publisher.publish(
            copy_of(message, from_wait_queue=copy), self.on_error.queue
        ):
            await settle(message.ack())


def check_async(name: str, value: Any, takes: str, other: str = "") -> None:
    """Refuse what cannot be awaited with these arguments."""
    if not callable(value):
        kind = type(value).__name__
        raise TypeError(f"{name} must be an async def that takes {takes}{other}, got a {kind}")
    if not _validate.is_async(getattr(value, "func", value)):
        what = _validate.name_of(value)
        raise TypeError(f"{name} must be an async def that takes {takes}{other}, got {what}")
