"""Consumer: what `async with` does for both kinds of consumers."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

from aio_pika.abc import AbstractConnection, AbstractQueue

from resilience import _validate
from resilience.integrations.rabbitmq.inspection import Inspection
from resilience.integrations.rabbitmq.part import Part
from resilience.integrations.rabbitmq.publisher import Publisher
from resilience.integrations.rabbitmq.work import (
    DeadLetterTo,
    Handler,
    OnError,
    Work,
    check_async,
)
from resilience.registry import CircuitBreakerRegistry, default_registry

_LEAST_KEPT = 10
_MOST_PREFETCH = 65_535  # in AMQP


class Consumer(ABC):
    """A consumer of one queue; `async with` starts and stops it.

    When it cannot go on the block is cancelled, and `async with` raises the `ConsumerError`.
    """

    def __init__(
        self,
        queue: AbstractQueue,
        handler: Handler,
        on_error: OnError,
        *,
        prefetch: int,
        keep: int | None,
        max_hold: float,
        stop_timeout: float,
    ) -> None:
        _validate.check_type("queue", queue, AbstractQueue)
        check_async("handler", handler, "a message")
        if not isinstance(on_error, DeadLetterTo):
            check_async("on_error", on_error, "a message and an error", " or a DeadLetterTo")
        _validate.check_count("prefetch", prefetch)
        if prefetch > _MOST_PREFETCH:
            raise ValueError(f"prefetch must be at most {_MOST_PREFETCH}, got {prefetch}")
        self._keep = max(prefetch, _LEAST_KEPT) if keep is None else keep
        _validate.check_count("keep", self._keep)
        _validate.check_seconds("max_hold", max_hold)
        _validate.check_seconds("stop_timeout", stop_timeout)
        self._prefetch, self._max_hold, self._stop_timeout = prefetch, max_hold, stop_timeout
        self._queue = queue.name
        self._connection = connection_of(queue)
        self._publisher = Publisher(self._connection)
        self._work = Work(handler, on_error, self._publisher)
        self._parts: Sequence[Part] = ()
        self._runs: list[asyncio.Task[None]] = []
        self._body: asyncio.Task[Any] | None = None
        self._leaving = self._interrupted = False
        self._failure: BaseException | None = None

    @abstractmethod
    async def _inspect(self, inspection: Inspection) -> None:
        """Look whether all is there that it needs."""

    @abstractmethod
    def _make_parts(self) -> Sequence[Part]:
        """Make the loops that it consists of."""

    async def __aenter__(self) -> Self:
        if self._runs:
            raise RuntimeError("this consumer has been started: make a new one")
        inspection = Inspection(self._connection)
        await inspection.check_server()
        await inspection.check_queue(self._queue)
        if isinstance(self._work.on_error, DeadLetterTo):
            await inspection.check_queue(self._work.on_error.queue)
        await self._inspect(inspection)
        self._parts, self._body = self._make_parts(), asyncio.current_task()
        for part in self._parts:
            part.join()
            run = asyncio.create_task(part.work_until_stopped())
            run.add_done_callback(self._on_end)
            self._runs.append(run)
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._leaving = True
        for part in self._parts:
            part.stop()
        await self._wait_for_parts()
        await self._publisher.close()
        if self._interrupted and self._body is not None and self._body.uncancel() > 0:
            return  # somebody else has cancelled it too
        if self._failure is not None and (error is None or self._interrupted):
            raise self._failure

    def _on_end(self, run: asyncio.Task[None]) -> None:
        """End the block when a part cannot go on."""
        failure = None if run.cancelled() else run.exception()
        self._failure = self._failure or failure
        if failure is not None and not self._leaving and self._body is not None:
            self._leaving = self._interrupted = True
            self._body.cancel()

    async def _wait_for_parts(self) -> None:
        """Wait until all has ended; who is cancelled meanwhile hurries, and is cancelled then."""
        cancelled: asyncio.CancelledError | None = None
        while True:
            try:
                await asyncio.sleep(0)  # where an interruption comes out that is on its way
                await asyncio.wait(self._runs)
                break
            except asyncio.CancelledError as error:
                cancelled = error
                for part in self._parts:
                    part.hurry()
        if cancelled is not None and not self._interrupted:
            raise cancelled


def connection_of(queue: AbstractQueue) -> AbstractConnection:
    """Give the connection that a queue is used over."""
    connection = getattr(queue.channel, "_connection", None)
    if not isinstance(connection, AbstractConnection):
        kind = type(queue.channel).__name__
        raise TypeError(f"queue must come from a channel of aio_pika, got one of a {kind}")
    return connection


def registry_or_default(registry: CircuitBreakerRegistry | None) -> CircuitBreakerRegistry:
    """Give the registry that is meant."""
    meant = default_registry if registry is None else registry
    _validate.check_type("registry", meant, CircuitBreakerRegistry)
    return meant
