"""Sorting: a shared queue is read all the time; what cannot be called now is parked elsewhere."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

from resilience.breaker import CircuitBreaker
from resilience.integrations.rabbitmq.broker import (
    ConsumerError,
    is_open,
    nack_all,
    settle,
)
from resilience.integrations.rabbitmq.copies import copy_of
from resilience.integrations.rabbitmq.intake import Intake
from resilience.integrations.rabbitmq.pace import Pace, join_pace
from resilience.integrations.rabbitmq.part import Part
from resilience.integrations.rabbitmq.verdict import Verdict
from resilience.integrations.rabbitmq.work import Work

# Between two attempts to do what the broker, or the user's `on_error`, did not do.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


class Sorting(Part):
    """The messages of a shared queue: called at once, or parked in their region's wait queue.

    Args:
        connection: The user's.
        queue: The queue's name.
        work: What to do with a message.
        find: Gives the breaker of a message's region.
        wait_queues: The regions' wait queues.
        prefetch: How many messages are let in at once.
        max_hold: For so many seconds a message stays in hand at most.
        stop_timeout: Seconds that running calls have to end when it stops.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        queue: str,
        work: Work,
        find: Callable[[AbstractIncomingMessage], CircuitBreaker],
        wait_queues: Mapping[CircuitBreaker, str],
        *,
        prefetch: int,
        max_hold: float,
        stop_timeout: float,
    ) -> None:
        super().__init__("", stop_timeout)
        self._work, self._find, self._wait_queues = work, find, wait_queues
        self._queue, self._prefetch, self._max_hold = queue, prefetch, max_hold
        self._intake = Intake(connection, queue, "", self._receive, self.wake)
        self._in_hand: list[AbstractIncomingMessage] = []
        self._paces: dict[CircuitBreaker, Pace] = {}
        self._leaves: list[Callable[[], None]] = []

    def join(self) -> None:
        """Begin to follow the circuits of all regions."""
        for breaker in self._wait_queues:
            self._paces[breaker], leave = join_pace(breaker, self._prefetch, self.wake)
            self._leaves.append(leave)

    async def work_until_stopped(self) -> None:
        """Read the queue until `stop` is called."""
        try:
            while not self.stopping:
                self.awake.clear()
                if self._intake.prefetch != self._prefetch:
                    await self._intake.read(self._prefetch)
                again_at = self._intake.again_at
                await self.sleep(max(0.0, again_at - self.now()) if again_at else None)
        finally:
            try:
                await self._finish()
            finally:
                for leave in self._leaves:
                    leave()

    def _receive(self, message: AbstractIncomingMessage) -> None:
        self._in_hand.append(message)
        self.run_task(self._sort(message))

    async def _sort(self, message: AbstractIncomingMessage) -> None:
        try:
            breaker = self._find(message)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the user's
            await self._give_up(self._queue, message, error)
        else:
            if not await self._call(breaker, message):
                await self._park(breaker, message)
        if not is_open(message):
            self._in_hand.remove(message)

    async def _call(self, breaker: CircuitBreaker, message: AbstractIncomingMessage) -> bool:
        """Call the handler if the region takes calls; False where the message must wait."""
        pace = self._paces[breaker]
        turn = await pace.turn(only_grown=True)
        if turn is None:
            return False
        try:
            if self.stopping:
                return False
            verdict, error = await self._work.attempt(breaker, message)
            if verdict in (Verdict.DONE, Verdict.USER):
                pace.earn()
            if verdict is Verdict.DONE and is_open(message):
                await settle(message.ack(), within=None)
        finally:
            turn.give_back()
        if verdict is Verdict.USER and error is not None:
            await self._give_up(breaker.region, message, error)
        return verdict in (Verdict.DONE, Verdict.USER)

    async def _park(self, breaker: CircuitBreaker, message: AbstractIncomingMessage) -> None:
        """Publish a copy to the wait queue, and ack only when the broker has it."""

        async def park() -> None:
            if await self._work.publisher.publish(copy_of(message), self._wait_queues[breaker]):
                await settle(message.ack(), within=None)

        await self._until_settled(message, park)

    async def _give_up(
        self, region: str, message: AbstractIncomingMessage, error: BaseException
    ) -> None:
        async def give_up() -> None:
            await self._work.give_up(region, message, error, copy=False)

        await self._until_settled(message, give_up)

    async def _until_settled(
        self, message: AbstractIncomingMessage, settling: Callable[[], Awaitable[None]]
    ) -> None:
        """Try again until a message is settled; one that was in hand for too long goes back."""
        end, pause = self.now() + self._max_hold, _FIRST_PAUSE
        while is_open(message) and not self.stopping:
            if self.now() >= end:
                await nack_all([message])
                return
            await settling()
            if is_open(message):
                await self.pause(min(pause, end - self.now()))
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def _finish(self) -> None:
        with suppress(ConsumerError):
            await self._intake.read(0)
        await self.end_tasks()
        await nack_all(self._in_hand)
        await self._intake.close()
