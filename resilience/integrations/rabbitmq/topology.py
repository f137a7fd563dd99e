"""Checking, before a consumer starts, that the broker and the queues are what it needs.

Policies are invisible over AMQP: a length limit, a time to live or a dead-letter exchange that a
policy sets cannot be checked.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from aio_pika.abc import AbstractConnection, FieldValue
from aio_pika.exceptions import ChannelNotFoundEntity
from aiormq.exceptions import ChannelAccessRefused

from resilience import log
from resilience._text import one_line
from resilience.integrations.rabbitmq.amqp import (
    ConsumerError,
    broker_reply,
    close_channel,
    server_text,
)
from resilience.integrations.rabbitmq.consumer_warnings import ConsumerWarnings
from resilience.integrations.rabbitmq.declaring import declare_queue, open_checking_channel

# `FieldValue` would be more precise, but `typing.get_type_hints` cannot resolve it elsewhere.
QueueArguments: TypeAlias = Mapping[str, object]

_NEEDED_CAPABILITIES = (
    "basic.nack",
    "consumer_cancel_notify",
    "per_consumer_qos",
    "publisher_confirms",
)
_OLDEST_TESTED_VERSION = (3, 10)
_FIRST_VERSION_WITH_DEFAULT_LIMIT = (4, 0)
#: The arguments that `declare` gives to a wait queue. No message in it is dropped for having been
#: returned often, on any version of RabbitMQ; -1 would drop it at the first return on 3.10.
WAIT_QUEUE_ARGUMENTS: QueueArguments = {
    "x-queue-type": "quorum",
    "x-delivery-limit": 1_000_000,
}
# The arguments that a wait queue may have if the user has not named any.
_ACCEPTED_ARGUMENTS: tuple[QueueArguments, ...] = (
    WAIT_QUEUE_ARGUMENTS,
    {"x-queue-type": "quorum"},
    {},
)


@dataclass(frozen=True, slots=True)
class Topology:
    """The broker and its queues, inspected over channels that are closed again.

    Args:
        connection: The user's connection.
        warnings: The warnings of the consumer.
    """

    connection: AbstractConnection
    warnings: ConsumerWarnings

    async def check_broker(self) -> None:
        """Reject a broker that lacks a capability that a consumer needs."""
        properties = await self._server_properties()
        capabilities = properties.get("capabilities")
        offered = capabilities if isinstance(capabilities, dict) else {}
        missing = [name for name in _NEEDED_CAPABILITIES if not offered.get(name)]
        if missing:
            raise ConsumerError(
                f"the broker does not support {', '.join(missing)}: use RabbitMQ 3.10 or newer"
            )
        _warn_of_untested_version(str(properties.get("version")))

    async def _server_properties(self) -> Mapping[str, FieldValue]:
        channel = await open_checking_channel(self.connection)
        try:
            underlay = await broker_reply(channel.get_underlay_channel())
            return underlay.connection.server_properties
        finally:
            await close_channel(channel)

    async def check_queue(self, name: str) -> None:
        """Reject a queue that does not exist or must not be used."""
        error = await self._declare(name, passive=True)
        if isinstance(error, ChannelNotFoundEntity):
            raise ConsumerError(f"there is no queue {name!r}: create it first") from error
        if error is not None:
            raise ConsumerError(f"queue {name!r} cannot be used: {error}") from error

    async def check_wait_queue(self, name: str, arguments: QueueArguments | None) -> None:
        """Reject a wait queue that is missing, or that could lose or move messages.

        Args:
            name: The queue's name.
            arguments: The arguments that it must have; None if only its type may be set.
        """
        await self.check_queue(name)
        errors: list[Exception] = []
        for accepted in _ACCEPTED_ARGUMENTS if arguments is None else (arguments,):
            # To declare a queue again changes nothing, and fails if its arguments are others.
            error = await self._declare(name, arguments=accepted)
            if error is None:
                await self._warn_of_default_limit(name, accepted)
                return
            if isinstance(error, ChannelAccessRefused):
                self._warn_of_missing_right(name, error)
                return
            errors.append(error)
        wanted = "durable, with no arguments but its type" if arguments is None else arguments
        # The least helpful errors are those that say only that the queue is of another type.
        reason = min(
            errors, key=lambda error: sum(name in str(error) for name in WAIT_QUEUE_ARGUMENTS)
        )
        raise ConsumerError(f"wait queue {name!r} is not what it must be ({wanted}): {reason}")

    async def declare_wait_queue(self, name: str, arguments: QueueArguments | None) -> None:
        """Declare a wait queue.

        Args:
            name: The queue's name.
            arguments: Its arguments; None for `WAIT_QUEUE_ARGUMENTS`.
        """
        wanted = WAIT_QUEUE_ARGUMENTS if arguments is None else arguments
        error = await self._declare(name, arguments=wanted)
        if error is None:
            return
        refused = isinstance(error, ChannelAccessRefused)
        if refused and await self._declare(name, passive=True) is None:
            self._warn_of_missing_right(name, error)
            return
        raise ConsumerError(f"wait queue {name!r} cannot be declared: {error}") from error

    async def _warn_of_default_limit(self, name: str, arguments: QueueArguments) -> None:
        if arguments.get("x-queue-type") != "quorum" or "x-delivery-limit" in arguments:
            return
        version = str((await self._server_properties()).get("version"))
        if _numbers(version) >= _FIRST_VERSION_WITH_DEFAULT_LIMIT:
            self.warnings.warn(
                f"limit of {name}",
                f"uses wait queue {one_line(name)}, which has no x-delivery-limit: "
                f"RabbitMQ {one_line(version)} drops a message from it that has been returned 20 "
                "times, unless a policy sets another limit",
            )

    def _warn_of_missing_right(self, name: str, refusal: Exception) -> None:
        self.warnings.warn(
            "configure",
            f"uses wait queue {one_line(name)} without knowing its arguments, since it has no "
            f"right to configure it: {server_text(refusal)}",
        )

    async def _declare(
        self, name: str, *, passive: bool = False, arguments: QueueArguments | None = None
    ) -> Exception | None:
        """Declare a durable queue; return the error of a broker that refuses."""
        return await declare_queue(self.connection, name, passive=passive, arguments=arguments)


def _warn_of_untested_version(version: str) -> None:
    if _numbers(version) < _OLDEST_TESTED_VERSION:
        log.log(
            "WARNING",
            "",
            "consumers are tested with RabbitMQ 3.10 and newer; "
            f"this broker has version {one_line(version)}",
        )


def _numbers(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version, or nothing if it does not have them."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return tuple(map(int, numbers.groups())) if numbers else ()
