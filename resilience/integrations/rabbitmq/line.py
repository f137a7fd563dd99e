"""Line: one queue with messages of one region, and when they are attempted.

It goes round a loop that looks at the circuit and does what is to be done now: let in as much as
may be attempted, start what is due, give back what has been in hand too long. Whatever happens
wakes it, so that nothing depends on the order in which things happen.
"""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

from resilience.breaker import CircuitBreaker
from resilience.circuit import CircuitState
from resilience.classify import speaker
from resilience.integrations.rabbitmq.broker import (
    ConsumerError,
    is_open,
    nack_all,
    settle,
)
from resilience.integrations.rabbitmq.hand import Hand, InHand
from resilience.integrations.rabbitmq.intake import Intake
from resilience.integrations.rabbitmq.pace import Turn, join_pace
from resilience.integrations.rabbitmq.part import Part
from resilience.integrations.rabbitmq.verdict import Verdict, rejection_in
from resilience.integrations.rabbitmq.work import Work
from resilience.retry.retry_after import asked_for

_CLOSED, _OPEN, _HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
# So long a probe waits for a fresh message before it takes one that failed already.
_GRACE = 0.25
# So long at most a message waits that was rejected beside somebody else's probe.
_LOOK_AGAIN = 1.0


class Line(Part):
    """The messages of one region in one queue.

    Args:
        connection: The user's.
        queue: The queue's name.
        breaker: Of the region.
        work: What to do with a message.
        prefetch: The most that is let in at once.
        keep: So many failed messages are kept; then only every second probe lets in one more.
        max_hold: For so many seconds a message stays in hand at most.
        stop_timeout: Seconds that running calls have to end when it stops.
        copies: Whether the queue is a wait queue.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        queue: str,
        breaker: CircuitBreaker,
        work: Work,
        *,
        prefetch: int,
        keep: int,
        max_hold: float,
        stop_timeout: float,
        copies: bool = False,
    ) -> None:
        super().__init__(breaker.region, stop_timeout)
        self._breaker, self._work = breaker, work
        self._prefetch, self._keep, self._max_hold = prefetch, keep, max_hold
        self._copies = copies
        self._intake = Intake(connection, queue, breaker.region, self._receive, self._lost)
        self._hand = Hand()
        self._count = 0
        self._under_way: set[InHand] = set()
        self._waiting: set[asyncio.Task[None]] = set()
        self._letting_in_since = 0.0
        self._was_closed = True
        self._fresh_is_next = False

    # The loop

    def join(self) -> None:
        """Begin to follow the region's circuit."""
        self._pace, self._leave = join_pace(self._breaker, self._prefetch, self.wake)

    async def work_until_stopped(self) -> None:
        """Do what is to be done, until `stop` is called."""
        try:
            while not self.stopping:
                self.awake.clear()
                moment = self.now()
                self._notice_return()
                await self._let_in()
                self._start()
                await self._give_back()
                await self.sleep(self._next_look(moment))
        finally:
            for task in self._waiting:
                task.cancel()
            try:
                await self._finish()
            finally:
                self._leave()

    def _notice_return(self) -> None:
        closed = self._breaker.state is _CLOSED
        if closed and not self._was_closed:
            for one in self._hand:
                one.region_is_back(self.now())
        self._was_closed = closed

    async def _let_in(self) -> None:
        wanted = self._wanted()
        if wanted != self._intake.prefetch or (wanted and self._is_stuck()):
            await self._intake.read(wanted)
            self._letting_in_since = self.now()

    def _wanted(self) -> int:
        """Say how many messages may be let in at once."""
        state = self._breaker.state
        if state is _OPEN:
            return 0
        if state is _CLOSED:
            return min(self._prefetch, self._pace.limit)
        probes = min(self._prefetch, self._breaker.policy.half_open_probes)
        return probes if self._has_room() else 0

    def _has_room(self) -> bool:
        if self._fresh_is_next and self._breaker.state is _HALF_OPEN:
            return True  # if all that is kept fails always, nothing else would ever be tried
        failed = sum(one.attempted for one in self._under_way)
        return len(self._hand.held) + failed < self._keep

    def _is_stuck(self) -> bool:
        """Tell whether what is held leaves too little room for what comes."""
        stuck = sum(one.message.consumer_tag == self._intake.tag for one in self._hand.held)
        return 2 * stuck >= self._intake.prefetch and self._has_room()

    def _start(self) -> None:
        """Let as many calls ask for a turn as there are messages to be attempted."""
        for _ in range(len(self._waiting), min(len(self._ready()), self._prefetch)):
            task = asyncio.create_task(self._take_turn())
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    def _ready(self) -> list[InHand]:
        """Give what may be attempted now, first what is to be attempted first."""
        state, now = self._breaker.state, self.now()
        if state is _OPEN:
            return []
        probing = state is _HALF_OPEN
        fresh = [one for one in self._hand.fresh if one.due <= now]
        held = self._hand.due(now, probing=probing)
        if not probing:
            # In turn: a row of those that fail always would open the circuit again.
            return fresh + held if self._fresh_is_next else held + fresh
        # A probe takes a fresh message: one that always fails must not keep the region closed off.
        return fresh + (held if self._no_fresh_one_comes() else [])

    def _no_fresh_one_comes(self) -> bool:
        if not self._has_room():
            return True
        return bool(self._intake.prefetch) and self.now() - self._letting_in_since >= _GRACE

    async def _give_back(self) -> None:
        """Return what was in hand for too long, and when it opened what was not attempted."""
        unattempted: list[InHand] = []
        if self._breaker.state is _OPEN and not self.running:
            unattempted = self._hand.fresh[self._breaker.policy.half_open_probes :]
        too_old = self.now() - self._max_hold
        back = [one for one in self._hand if one.since <= too_old or one in unattempted]
        for one in back:
            self._hand.remove(one)
        await nack_all(one.message for one in back)
        for one in back:
            self._hand.take_in(one)  # where the broker did not take it

    def _next_look(self, moment: float) -> float | None:
        """Say in how many seconds there is something to do that nobody tells.

        Args:
            moment: When this round began: what was due then has been done in it.
        """
        now = self.now()
        return min((max(0.0, time - now) for time in self._times() if time > moment), default=None)

    def _times(self) -> Iterator[float]:
        yield self._intake.again_at
        yield self._letting_in_since + _GRACE
        for one in self._hand:
            yield one.due
            yield one.since + self._max_hold

    # What happens

    def _receive(self, message: AbstractIncomingMessage) -> None:
        self._count += 1
        self._hand.take_in(InHand(message, self._count, self.now()))
        self.wake()

    def _lost(self) -> None:
        self._hand.drop_closed()
        self.wake()

    # One call

    async def _take_turn(self) -> None:
        turn = await self._pace.turn()
        if turn is None:  # pragma: no cover - only who asks for it is turned away
            return
        try:
            ready = self._ready()
            if ready and not self.stopping:
                self._fresh_is_next = ready[0].attempted
                self._hand.remove(ready[0])
                self._run(ready[0], turn)
                turn = None
        finally:
            if turn is not None:
                turn.give_back()

    def _run(self, one: InHand, turn: Turn) -> None:
        self._under_way.add(one)

        async def call() -> None:
            stays = True  # what is interrupted is given back with the rest
            try:
                stays = await self._attempt(one)
            finally:
                self._under_way.discard(one)
                if stays:
                    self._hand.take_in(one)
                self._letting_in_since = self.now()
                turn.give_back()

        self.run_task(call())

    async def _attempt(self, one: InHand) -> bool:
        """Call the handler; True where the message stays in hand."""
        verdict, error = await self._work.attempt(self._breaker, one.message)
        if verdict in (Verdict.DONE, Verdict.USER):
            self._pace.earn()
        if verdict is Verdict.DONE:
            if self._breaker.state is _HALF_OPEN:
                self._fresh_is_next = True  # what has failed might spoil the series of successes
            if is_open(one.message):
                await settle(one.message.ack(), within=None)
            return False  # acked or not: what is done is not done again
        if verdict is Verdict.USER and error is not None:
            await self._work.give_up(self.region, one.message, error, copy=self._copies)
        self._put_off(one, verdict, error)
        return True

    def _put_off(self, one: InHand, verdict: Verdict, error: Any) -> None:
        """Say when a message that stays in hand is attempted again."""
        at_least = asked_for(speaker(error)) or 0.0
        if verdict is Verdict.REJECTED:
            rejection = rejection_in(error)
            if rejection is not None and rejection.__cause__ is None:
                at_least = rejection.retry_after or 0.0
                if self._breaker.state is not _CLOSED:
                    # Not attempted: as fresh as it was. Somebody else may have the probe's place.
                    one.due = self.now() + min(max(at_least, _GRACE), _LOOK_AGAIN)
                    return
                # It is of another circuit, inside the handler.
        one.attempted = True
        closed_off = self._breaker.state is not _CLOSED
        one.waits_for_region = verdict is Verdict.REGION or (
            verdict is Verdict.REJECTED and closed_off
        )
        if one.waits_for_region and closed_off:
            one.due = self.now()  # it is for the circuit to say when
        else:
            one.pause(self.now(), at_least)

    async def _finish(self) -> None:
        with suppress(ConsumerError):
            await self._intake.read(0)
        await self.end_tasks()
        await nack_all(one.message for one in self._hand)
        await self._intake.close()
