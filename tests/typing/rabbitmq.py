"""RabbitMQ: handlers keep their types, and what cannot be a handler is an error."""

# A wrong line that is no error is one: both checkers refuse a `type: ignore` without a cause.
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from typing import assert_type

from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from resilience.integrations.rabbitmq import (
    ConsumerError,
    DeadLetterTo,
    RegionConsumer,
    SharedConsumer,
    hold_when_open,
)


def region_of(message: AbstractIncomingMessage) -> str:
    return str(message.headers["region"])


async def handler(message: AbstractIncomingMessage) -> int:
    return len(message.body)


async def on_error(message: AbstractIncomingMessage, error: Exception) -> None: ...


def plain(message: AbstractIncomingMessage) -> None: ...


async def held(message: AbstractIncomingMessage) -> None:
    on_message = hold_when_open(region_of=region_of)(handler)
    assert_type(await on_message(message), None)
    await on_message(message.body)  # type: ignore[arg-type]
    hold_when_open(region_of=region_of, max_unacked=60)
    hold_when_open(region_of=region_of)(plain)  # type: ignore[arg-type]
    hold_when_open(max_unacked=60)  # type: ignore[call-arg]


class Worker:
    @hold_when_open(region_of=region_of)
    async def on_message(self, message: AbstractIncomingMessage) -> None: ...


async def consumed(queue: AbstractQueue) -> None:
    async with RegionConsumer(queue, handler, region="eu-west-1", on_error=on_error) as region:
        assert_type(region, RegionConsumer)
    shared = SharedConsumer(
        queue,
        handler,
        region_of=region_of,
        regions=["eu-west-1"],
        on_error=DeadLetterTo("failed"),
        wait_arguments={"x-queue-type": "classic"},
    )
    assert_type(await shared.declare(), None)
    async with shared as same:
        assert_type(same, SharedConsumer)
    RegionConsumer(queue, handler, region="eu-west-1")  # type: ignore[call-arg]
    RegionConsumer(queue, plain, region="eu", on_error=on_error)  # type: ignore[arg-type]
    RegionConsumer(queue, handler, region="eu", on_error=handler)  # type: ignore[arg-type]


def error(error: ConsumerError) -> None:
    assert_type(str(error), str)
