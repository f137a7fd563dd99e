"""SimulatedSynchronizer: keeps the shared circuits of one simulated process and the store in step.

It does what the synchronizer of the package does, in the same order, but without a thread: each
step is an entry in the agenda.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import redis

from benchmarks.simulation.agenda import Agenda
from benchmarks.simulation.store import SimulatedStore
from resilience import BreakerPolicy, CircuitBreaker
from resilience.integrations.redis.backoff import Backoff
from resilience.integrations.redis.head_start import head_start
from resilience.integrations.redis.notification import Notification
from resilience.integrations.redis.protocol import (
    RecordProtocol,
    Reply,
    Request,
    parse_poll,
    parse_replies,
    parse_reply,
)
from resilience.shared_circuit import SharedCircuit
from resilience.shared_record import Command, RecordView

POLICY: Final = BreakerPolicy()
# Seconds; the defaults of RedisSharing.
TIMEOUT: Final = 0.5
LEASE: Final = 5.0
POLL_INTERVAL: Final = 5.0
_POLL_JITTER: Final = (0.75, 1.25)
_STALE_AFTER: Final = 2.0
_STABLE_AFTER: Final = 2  # polls
_LOST: Final = redis.ConnectionError()


@dataclass(frozen=True, slots=True)
class Member:
    """The circuit of one region."""

    key: str
    breaker: CircuitBreaker
    circuit: SharedCircuit


class SimulatedSynchronizer:
    """The part of one process that talks to the store.

    Args:
        agenda: Time.
        chance: The source of all that is random.
        store: The store.
        protocol: How this process reads and changes records.
        regions: All regions.
        breakers: How many of them have a circuit breaker. The records of the others are polled.

    Attributes:
        members: The circuits of this process.
        lost: How often it has lost the store.
        alone_until: When it shared again after it had lost the store last.
    """

    def __init__(
        self,
        agenda: Agenda,
        chance: random.Random,
        store: SimulatedStore,
        protocol: RecordProtocol,
        *,
        regions: list[str],
        breakers: int,
    ) -> None:
        self._agenda, self._chance, self._store, self._protocol = agenda, chance, store, protocol
        self.members = {
            protocol.key(region): self._member(region, protocol.key(region))
            for region in regions[:breakers]
        }
        self._others = len(regions) - breakers
        self.lost = 0
        self.alone_until = 0.0
        self._backoff = Backoff(POLL_INTERVAL)
        self._polls = 0
        self._poll_at = 0.0
        self._secret = b""
        self._clock_offset = self._clock_uncertainty = 0.0
        # In a dict for the order.
        self._notified: dict[str, None] = {}
        self._announced: dict[str, Notification] = {}
        # Numbers what is waited for: an answer, or a time. What comes for an earlier one is late.
        self._turn = 0
        self._is_idle = self._is_connected = False

    def _member(self, region: str, key: str) -> Member:
        circuit = SharedCircuit(
            POLICY, self._agenda.now, lease=LEASE, notify=partial(self.notify, key)
        )
        breaker = CircuitBreaker(region, POLICY, clock=self._agenda.clock, circuit=circuit)
        return Member(key, breaker, circuit)

    def start(self) -> None:
        """Start the thread."""
        self._step()

    def notify(self, key: str) -> None:
        """Ask a circuit for its command soon."""
        self._notified[key] = None
        self._wake()

    def on_store_gone(self) -> None:
        """Notice that the connections have ended."""
        if self._is_connected:
            self._on_loss()

    def _on_notification(self, announced: Mapping[str, Notification]) -> None:
        for key, notification in announced.items():
            known = self._announced.get(key)
            if key in self.members and (known is None or notification.rank > known.rank):
                self._announced[key] = notification
                self._wake()

    def _wake(self) -> None:
        if self._is_idle:
            self._is_idle = False
            self._turn += 1
            self._agenda.after(self._store.lag(), partial(self._step_at, self._turn))

    # The thread

    def _step_at(self, turn: int) -> None:
        if turn == self._turn:
            self._step()

    def _step(self) -> None:
        """Send the next request, or wait."""
        self._is_idle = False
        if not self._is_connected:
            self._connect()
        elif self._agenda.now >= self._poll_at:
            self._poll()
        elif outdated := self._follow_notifications():
            answered = partial(self._on_records, outdated)
            self._send(self._protocol.read([member.key for member in outdated]), answered)
        elif command := self._next_command():
            self._send_command(*command)
        else:
            wait = min(self._poll_at - self._agenda.now, self._next_command_in())
            self._is_idle = True
            self._turn += 1
            self._agenda.after(wait, partial(self._step_at, self._turn))

    def _connect(self) -> None:
        self._turn += 1
        turn = self._turn
        self._agenda.after(TIMEOUT, partial(self._on_timeout, turn))

        def on_answer(is_there: object) -> None:
            if turn != self._turn:
                return
            if is_there is None:
                self._on_loss()
                return
            self._is_connected = True
            self._poll()

        self._store.connect(self._protocol.client_id, self._on_notification, on_answer)

    def _poll(self) -> None:
        self._poll_at = self._agenda.now + POLL_INTERVAL * self._chance.uniform(*_POLL_JITTER)
        self._store.ping()
        self._send(self._protocol.poll(list(self.members)), self._on_poll, self._others)

    def _follow_notifications(self) -> list[Member]:
        """Follow the signed notifications; return the members whose records are to be read."""
        announced, self._announced = self._announced, {}
        outdated: list[Member] = []
        for key, notification in announced.items():
            member = self.members[key]
            if not member.circuit.is_outdated(notification.version):
                continue
            view = self._view(notification)
            if view is None:
                outdated.append(member)
            else:
                self._follow(member, view)
        return outdated

    def _view(self, notification: Notification) -> RecordView | None:
        if notification.signed is None:
            return None
        delay = self._agenda.now + self._clock_offset - notification.signed.sent_at / 1000
        if not -1.0 <= delay <= _STALE_AFTER:
            return None
        delay = max(0.0, delay) + self._clock_uncertainty
        return notification.view(self._protocol, self._secret, delay)

    def _next_command(self) -> tuple[Member, Command] | None:
        holding = [key for key, member in self.members.items() if member.circuit.holds_lease]
        for key in (*self._notified, *holding):
            member = self.members[key]
            command = member.breaker.read(member.circuit.next_command)
            if command is not None:
                return member, command
            self._notified.pop(key, None)
        return None

    def _next_command_in(self) -> float:
        return min(
            member.breaker.read(member.circuit.next_command_in) for member in self.members.values()
        )

    def _send_command(self, member: Member, command: Command) -> None:
        not_after = self._store.time() + int(TIMEOUT * 1000)
        recovery_timeout = member.circuit.opening_lasts()
        request = self._protocol.change(member.key, command, recovery_timeout, not_after)
        self._send(request, partial(self._on_reply, member, command))

    def _send(
        self, request: Request, on_answer: Callable[[float, object], None], others: int = 0
    ) -> None:
        """Send a request; its answer, or the time-out, is the next that happens.

        Args:
            request: The request.
            on_answer: Takes the delay and the answer.
            others: How many more records it reads, which nobody looks at.
        """
        self._turn += 1
        answered = partial(self._on_answer, self._turn, self._agenda.now, on_answer)
        self._store.run(request, answered, others)
        self._agenda.after(TIMEOUT, partial(self._on_timeout, self._turn))

    def _on_answer(
        self,
        turn: int,
        sent_at: float,
        on_answer: Callable[[float, object], None],
        answer: object,
    ) -> None:
        if turn == self._turn:
            self._turn += 1
            on_answer(self._agenda.now - sent_at, answer)
            self._step()

    def _on_timeout(self, turn: int) -> None:
        if turn == self._turn:
            self._on_loss()

    def _on_loss(self) -> None:
        """Let the circuits go on alone, and connect again later."""
        self.lost += 1
        self._turn += 1
        self._is_connected = self._is_idle = False
        self._polls = 0
        for member in self.members.values():
            self._disconnect(member)
        self._agenda.after(self._backoff.next_wait(_LOST), partial(self._step_at, self._turn))

    # The circuits

    def _disconnect(self, member: Member) -> None:
        member.breaker.apply(lambda _now: member.circuit.on_disconnect())

    def _on_poll(self, delay: float, answer: object) -> None:
        reply = parse_poll(answer, len(self.members), delay)
        self._secret = reply.secret
        for member in self.members.values():
            member.circuit.head_start = head_start(reply.fleet_size)
        if self._polls == 0:
            self.alone_until = self._agenda.now
        self._polls += 1
        if self._polls == _STABLE_AFTER:
            self._backoff.reset()
        self._on_replies(list(self.members.values()), reply.replies)

    def _on_records(self, members: list[Member], delay: float, answer: object) -> None:
        self._on_replies(members, parse_replies(answer, len(members), delay))

    def _on_replies(self, members: list[Member], replies: list[Reply]) -> None:
        for member, reply in zip(members, replies, strict=False):
            self._note(reply)
            self._follow(member, reply.view)

    def _on_reply(self, member: Member, command: Command, delay: float, answer: object) -> None:
        reply = parse_reply(answer, delay)
        self._note(reply)
        if reply.is_late:
            self._follow(member, reply.view)
        else:
            member.breaker.apply(lambda now: member.circuit.on_reply(command, reply.view, now))

    def _note(self, reply: Reply) -> None:
        self._clock_offset = reply.store_time / 1000 - self._agenda.now
        self._clock_uncertainty = reply.view.delay

    def _follow(self, member: Member, view: RecordView) -> None:
        self._notified[member.key] = None
        member.breaker.apply(lambda now: member.circuit.on_record(view, now))
