"""SimulatedSynchronizer: keeps the shared circuit of one simulated process and the store in step.

It does what the synchronizer of the package does, in the same order, but for one circuit and
without a thread: each step is an entry in the agenda.
"""

import random
from collections.abc import Callable
from functools import partial
from typing import Final

from benchmarks.simulation.agenda import Agenda
from benchmarks.simulation.store import SimulatedStore
from resilience import BreakerPolicy, CircuitBreaker
from resilience.integrations.redis.protocol import (
    RecordProtocol,
    Reply,
    Request,
    parse_replies,
    parse_reply,
)
from resilience.shared_circuit import SharedCircuit
from resilience.shared_record import Command

POLICY: Final = BreakerPolicy()
# Seconds; the defaults of RedisSharing.
TIMEOUT: Final = 0.5
LEASE: Final = 5.0
_POLL_INTERVAL: Final = 5.0
_POLL_JITTER: Final = (0.75, 1.25)
_RECONNECT_AFTER: Final = (0.05, 0.7)


class SimulatedSynchronizer:
    """The part of one process that talks to the store.

    Args:
        agenda: Time.
        chance: The source of all that is random.
        store: The store.
        protocol: How this process reads and changes records.
        regions: All regions. Only the first one has a circuit breaker; the records of the others
            are polled.

    Attributes:
        breaker: The circuit breaker of this process.
        lost: How often it has lost the store.
    """

    def __init__(
        self,
        agenda: Agenda,
        chance: random.Random,
        store: SimulatedStore,
        protocol: RecordProtocol,
        regions: list[str],
    ) -> None:
        self._agenda, self._chance, self._store, self._protocol = agenda, chance, store, protocol
        self._circuit = SharedCircuit(POLICY, agenda.now, lease=LEASE, notify=self.notify)
        self.breaker = CircuitBreaker(regions[0], POLICY, clock=agenda.clock, circuit=self._circuit)
        self._keys = [protocol.key(region) for region in regions]
        self.lost = 0
        self._poll_at = 0.0
        self._announced = 0  # the highest version of the record that was announced
        self._may_have_command = False
        # Numbers what is waited for: an answer, or a time. What comes for an earlier one is late.
        self._turn = 0
        self._is_idle = False

    def start(self) -> None:
        """Start the thread, and connect."""
        self._store.subscribers.append(self._on_notification)
        self._step()

    def notify(self) -> None:
        """Ask the circuit for its command soon."""
        self._may_have_command = True
        self._wake()

    def _on_notification(self, key: str, version: int) -> None:
        if key == self._keys[0] and version > self._announced:
            self._announced = version
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
        if self._agenda.now >= self._poll_at:
            self._poll()
        elif not self._circuit.shared or self._announced > self._circuit.version:
            self._send(self._protocol.read(self._keys[:1]), partial(self._on_records, 1))
        elif command := self._next_command():
            self._send_command(command)
        else:
            wait = min(self._poll_at - self._agenda.now, self._next_command_in())
            self._is_idle = True
            self._turn += 1
            self._agenda.after(wait, partial(self._step_at, self._turn))

    def _poll(self) -> None:
        self._poll_at = self._agenda.now + _POLL_INTERVAL * self._chance.uniform(*_POLL_JITTER)
        self._may_have_command = True
        self._store.ping()
        request = self._protocol.poll(self._keys)
        self._send(request, partial(self._on_records, len(self._keys)))

    def _next_command(self) -> Command | None:
        if not (self._may_have_command or self._circuit.holds_lease):
            return None
        command = self.breaker.read(self._circuit.next_command)
        self._may_have_command = command is not None
        return command

    def _next_command_in(self) -> float:
        return self.breaker.read(self._circuit.next_command_in)

    def _send_command(self, command: Command) -> None:
        not_after = self._store.time() + int(TIMEOUT * 1000)
        recovery_timeout = self.breaker.circuit.opening_lasts()
        request = self._protocol.change(self._keys[0], command, recovery_timeout, not_after)
        self._send(request, partial(self._on_reply, command))

    def _send(self, request: Request, on_answer: Callable[[float, object], None]) -> None:
        """Send a request; its answer, or the time-out, is the next that happens."""
        self._turn += 1
        answered = partial(self._on_answer, self._turn, self._agenda.now, on_answer)
        self._store.run(request, answered)
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
        """Let the circuit go on alone, and connect again."""
        if turn != self._turn:
            return
        self.lost += 1
        self._turn += 1
        self.breaker.apply(lambda _now: self._circuit.on_disconnect())
        self._poll_at = self._agenda.now
        wait = self._chance.uniform(*_RECONNECT_AFTER)
        self._agenda.after(wait, partial(self._step_at, self._turn))

    # The circuit

    def _on_records(self, count: int, delay: float, answer: object) -> None:
        reply, *_ = parse_replies(answer, count, delay)
        self._may_have_command = True
        self._follow(reply)

    def _on_reply(self, command: Command, delay: float, answer: object) -> None:
        reply = parse_reply(answer, delay)
        if reply.is_late:
            self._follow(reply)
        else:
            self.breaker.apply(lambda now: self._circuit.on_reply(command, reply.view, now))

    def _follow(self, reply: Reply) -> None:
        self.breaker.apply(lambda now: self._circuit.on_record(reply.view, now))
