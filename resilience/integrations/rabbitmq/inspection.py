"""Inspection: what AMQP can show about the queues that a consumer needs, before it starts.

Policies are invisible to it: a limit, a time to live or a dead-letter exchange that a policy sets
cannot be seen from here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPChannelError, ChannelNotFoundEntity

from resilience import log
from resilience._text import one_line
from resilience.integrations.rabbitmq.broker import (
    LOST,
    ConsumerError,
    answer,
    close_channel,
    open_channel,
)

_NEEDED = ("basic.nack", "consumer_cancel_notify", "per_consumer_qos", "publisher_confirms")
_OLDEST_TESTED = 3, 10
#: What `declare` gives a wait queue: nothing in it is dropped for being returned often, on any
#: version; -1 would drop at the first return on 3.10.
DURABLE_FOR_ALL = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}
_KINDS: tuple[Mapping[str, Any], ...] = (DURABLE_FOR_ALL, {"x-queue-type": "quorum"}, {})


@dataclass(frozen=True, slots=True)
class Inspection:
    """Looks at the broker through channels that are closed again.

    Args:
        connection: The user's.
    """

    connection: AbstractConnection

    async def check_server(self) -> None:
        """Refuse a broker that lacks what a consumer cannot do without."""
        channel = await self._open()
        try:
            underlay = await answer(channel.get_underlay_channel())
            server: Any = underlay.connection
            properties = server.server_properties
        finally:
            await close_channel(channel)
        missing = [name for name in _NEEDED if not properties.get("capabilities", {}).get(name)]
        if missing:
            raise ConsumerError(f"the broker cannot do {', '.join(missing)}: RabbitMQ can")
        version = str(properties.get("version"))
        numbers = re.match(r"(\d+)\.(\d+)", version)
        if numbers is None or tuple(map(int, numbers.groups())) < _OLDEST_TESTED:
            what = f"consumers were tested on RabbitMQ from 3.10 on, this is {one_line(version)}"
            log.log("WARNING", "", what)

    async def check_queue(self, name: str) -> None:
        """Refuse a queue that is not there."""
        error = await self._declare(name, passive=True)
        if isinstance(error, ChannelNotFoundEntity):
            raise ConsumerError(f"there is no queue {name!r}: create it first") from error
        if error is not None:
            raise ConsumerError(f"queue {name!r} cannot be used: {error}") from error

    async def check_wait_queue(self, name: str, arguments: Mapping[str, Any] | None) -> None:
        """Refuse a wait queue that is missing, or that could lose or move what waits in it."""
        await self.check_queue(name)
        errors: list[Exception] = []
        for kind in _KINDS if arguments is None else (arguments,):
            # It exists: to declare it again changes nothing, and fails where it is another.
            error = await self._declare(name, arguments=kind)
            if error is None:
                return
            errors.append(error)
        wanted = "durable, with no arguments but its type" if arguments is None else arguments
        # That it is not of each type is what says least.
        telling = min(errors, key=lambda error: sum(name in str(error) for name in DURABLE_FOR_ALL))
        raise ConsumerError(f"wait queue {name!r} is not what it must be ({wanted}): {telling}")

    async def declare_wait_queue(self, name: str, arguments: Mapping[str, Any] | None) -> None:
        """Declare a wait queue."""
        wanted = DURABLE_FOR_ALL if arguments is None else arguments
        error = await self._declare(name, arguments=wanted)
        if error is not None:
            raise ConsumerError(f"wait queue {name!r} cannot be declared: {error}") from error

    async def _declare(
        self, name: str, *, passive: bool = False, arguments: Mapping[str, Any] | None = None
    ) -> Exception | None:
        channel = await self._open()
        try:
            underlay = await answer(channel.get_underlay_channel())
            await answer(
                underlay.queue_declare(
                    name, passive=passive, durable=True, arguments=dict(arguments or {})
                )
            )
        except AMQPChannelError as error:
            return error
        except LOST as error:
            raise ConsumerError(f"queue {name!r} cannot be looked at") from error
        finally:
            await close_channel(channel)
        return None

    async def _open(self) -> Any:
        try:
            return await open_channel(self.connection)
        except LOST as error:
            raise ConsumerError("the connection to the broker is not open") from error
