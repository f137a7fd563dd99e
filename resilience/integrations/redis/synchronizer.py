"""Synchronizer: a thread that keeps the circuits of one process and the store in step.

It reads the records that notifications name, carries out the commands of the circuits, and polls
now and then, which makes up for lost notifications and finds out whether the store takes writes.
When the store fails, the circuits go on alone, and the synchronizer connects again until it is
back.
"""

import _thread
import math
import random
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Final

import redis

from resilience._lock import lock
from resilience.breaker import CircuitBreaker
from resilience.integrations.redis.connection import Address, CommandConnection, Notifications
from resilience.integrations.redis.protocol import (
    InvalidReplyError,
    RecordProtocol,
    Reply,
    Request,
    parse_replies,
    parse_reply,
)
from resilience.integrations.redis.wakeup import Wakeup
from resilience.log import describe_exception, log
from resilience.shared_circuit import SharedCircuit
from resilience.shared_record import Command

# Seconds between two attempts to connect, at random so that not all processes come together.
_RECONNECT_AFTER: Final = (0.05, 0.7)
_POLL_JITTER: Final = (0.75, 1.25)
# An answer that took more seconds is from before a pause of this process: the request is repeated.
_STALE_AFTER: Final = 2.0
# Seconds between two rounds at least, however often the circuits notify.
_MIN_PAUSE: Final = 0.01
# After this many commands of one circuit it is the others' turn.
_COMMANDS_IN_A_ROW: Final = 4
_RECORDS_PER_REQUEST: Final = 200


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things take.

    Args:
        poll_interval: Seconds between two polls, on average.
        socket_timeout: Seconds until the store counts as gone.
    """

    poll_interval: float
    socket_timeout: float


@dataclass(frozen=True, slots=True)
class Member:
    """A breaker whose circuit is shared, and the key of its record."""

    key: str
    breaker: CircuitBreaker
    circuit: SharedCircuit


class Members:
    """The members of one process, by key; it keeps no breaker alive."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[weakref.ref[CircuitBreaker], SharedCircuit]] = {}

    def add(self, member: Member) -> None:
        """Add a member, in place of one whose breaker is gone; the caller holds the lock."""
        self._entries[member.key] = (weakref.ref(member.breaker), member.circuit)

    def all(self) -> list[Member]:
        """Return all members whose breakers are still alive."""
        members: list[Member] = []
        with lock:
            for key, (reference, circuit) in list(self._entries.items()):
                breaker = reference()
                if breaker is None:
                    del self._entries[key]
                else:
                    members.append(Member(key, breaker, circuit))
        return members


class Synchronizer:
    """Keeps the circuits of one process and the records in the store in step.

    Args:
        address: Where the store is.
        protocol: How records are read and changed.
        members: The circuits; they may come and go at any time.
        timing: How long things take.
    """

    def __init__(
        self, address: Address, protocol: RecordProtocol, members: Members, timing: Timing
    ) -> None:
        self._address = address
        self._protocol = protocol
        self._members = members
        self._timing = timing
        self._wakeup = Wakeup()
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._thread_id: int | None = None
        # Keys of circuits that may have a command. Guarded by the lock.
        self._notified: set[str] = set()
        # Keys of circuits that hold a lease, which have commands without notifying.
        self._holding: set[str] = set()
        # Keys of records about which a warning was logged.
        self._warned: set[str] = set()
        self._is_connected: bool | None = None  # None: not known yet
        # The store's clock is ahead of this process's by at least this many seconds.
        self._clock_offset = 0.0

    # For other threads

    def start(self) -> None:
        """Start the thread; the caller may hold the lock.

        `Thread.start` waits until the new thread runs. If a garbage collection came first there,
        and a finalizer wanted the lock, both threads would wait for ever. Therefore it is called by
        one more thread, which holds no lock and ends immediately.
        """
        thread = threading.Thread(target=self.run, name="resilience-sharing", daemon=True)
        with suppress(RuntimeError):  # the interpreter ends
            _thread.start_new_thread(thread.start, ())

    def notify(self, key: str) -> None:
        """Ask a circuit for its command soon; the caller holds the lock."""
        self._notified.add(key)
        self._wakeup.set()

    def stop(self, timeout: float) -> None:
        """Let it give back what the circuits hold, and wait until it has ended."""
        self._stopping.set()
        with lock:
            self._wakeup.set()
        if self._thread_id != threading.get_ident():  # a listener may stop it
            self._ended.wait(timeout)
        self.disconnect_circuits()

    def disconnect_circuits(self) -> None:
        """Let the circuits continue on their own."""
        for member in self._members.all():
            # Not by `apply`, which reads a user's clock: that may be what has failed.
            with lock:
                member.circuit.on_disconnect()
                member.breaker.refresh()

    # The thread

    def run(self) -> None:
        """Serve the circuits until it is stopped."""
        self._thread_id = threading.get_ident()
        while not self._stopping.is_set():
            try:
                self._connect_and_serve()
            except (redis.RedisError, OSError, InvalidReplyError) as error:
                self._on_disconnect(type(error).__name__)
            except Exception as error:  # noqa: BLE001 - whatever it is, the thread goes on
                self._on_disconnect(describe_exception(error))
            self._stopping.wait(random.uniform(*_RECONNECT_AFTER))  # noqa: S311 - not a secret
        self.disconnect_circuits()
        with lock:
            self._wakeup.close()
        self._ended.set()

    def _connect_and_serve(self) -> None:
        with (
            closing(CommandConnection(self._address)) as commands,
            closing(Notifications(self._address, self._protocol.channel)) as notifications,
        ):
            self._serve(commands, notifications)

    def _serve(self, commands: CommandConnection, notifications: Notifications) -> None:
        next_poll = time.monotonic()
        while not self._stopping.is_set():
            if time.monotonic() >= next_poll:
                self._poll(commands)
                notifications.ping()
                jitter = random.uniform(*_POLL_JITTER)  # noqa: S311 - not a secret
                next_poll = time.monotonic() + self._timing.poll_interval * jitter
            self._send_commands(commands)
            pause = min(next_poll - time.monotonic(), self._next_command_in())
            announced = notifications.wait(self._wakeup, max(pause, _MIN_PAUSE))
            self._read_outdated(commands, announced)
        self._send_commands(commands)
        for member in self._members.all():
            self._send(commands, member, member.circuit.final_command)

    def _on_disconnect(self, why: str) -> None:
        if self._is_connected is not False:
            log("WARNING", "", f"sharing is lost, circuits go on alone: {why}")
        self._is_connected = False
        self.disconnect_circuits()

    # From the store to the circuits

    def _poll(self, commands: CommandConnection) -> None:
        members = self._members.all()
        self._read(commands, members, self._protocol.poll)
        if self._is_connected is False:
            log("INFO", "", "sharing is back")
        self._is_connected = True
        with lock:
            self._notified.update(member.key for member in members)

    def _read_outdated(self, commands: CommandConnection, announced: Mapping[str, int]) -> None:
        """Read the records of which a newer version than the known one was announced."""
        outdated = [
            member
            for member in self._members.all()
            if announced.get(member.key, 0) > member.circuit.version
        ]
        self._read_and_serve(commands, outdated)

    def _read_and_serve(self, commands: CommandConnection, members: list[Member]) -> None:
        """Read records; their circuits are asked for a command next."""
        if members:
            self._read(commands, members, self._protocol.read)
        with lock:
            self._notified.update(member.key for member in members)

    def _read(
        self,
        commands: CommandConnection,
        members: list[Member],
        request_for: Callable[[list[str]], Request],
    ) -> None:
        for first in range(0, max(len(members), 1), _RECORDS_PER_REQUEST):
            some = members[first : first + _RECORDS_PER_REQUEST]
            answer, delay = self._run(commands, request_for([member.key for member in some]))
            for member, reply in zip(some, parse_replies(answer, len(some), delay), strict=True):
                self._note(member, reply)
                self._on_record(member, reply)

    def _on_record(self, member: Member, reply: Reply) -> None:
        self._apply(member, lambda now: member.circuit.on_record(reply.view, now))

    def _note(self, member: Member, reply: Reply) -> None:
        """Note what a reply shows about the store."""
        self._clock_offset = reply.store_time / 1000 - time.monotonic()
        if not reply.is_malformed:
            self._warned.discard(member.key)
        elif member.key not in self._warned:
            self._warned.add(member.key)
            text = "found a malformed record of region {} in the store, and treats it as absent"
            log("WARNING", member.breaker.region, text)

    # From the circuits to the store

    def _send_commands(self, commands: CommandConnection) -> None:
        with lock:
            notified, self._notified = self._notified, set()
        members = [
            member
            for member in self._members.all()
            if member.key in notified or member.key in self._holding
        ]
        # A circuit that has just joined has to know the record before it wants to change it.
        self._read_and_serve(commands, [member for member in members if not member.circuit.shared])
        for member in members:
            sent = 0
            while sent < _COMMANDS_IN_A_ROW and self._send(
                commands, member, member.circuit.next_command
            ):
                sent += 1

    def _send(
        self,
        commands: CommandConnection,
        member: Member,
        decide: Callable[[float], Command | None],
    ) -> bool:
        """Send the command of a circuit; return whether there was one, and it was in time."""
        decided_at = time.monotonic()
        command = member.breaker.read(decide)
        if command is None:
            return False
        for _ in range(2):  # again if it was late, since the store's clock may have moved
            latest = decided_at + self._clock_offset + self._timing.socket_timeout
            recovery_timeout = member.circuit.opening_lasts()
            request = self._protocol.change(
                member.key, command, recovery_timeout, not_after=int(latest * 1000)
            )
            reply = parse_reply(*self._run(commands, request))
            self._note(member, reply)
            if not reply.is_late:
                self._on_reply(member, command, reply)
                return True
        self._read_and_serve(commands, [member])
        return False

    def _on_reply(self, member: Member, command: Command, reply: Reply) -> None:
        self._apply(member, lambda now: member.circuit.on_reply(command, reply.view, now))

    def _next_command_in(self) -> float:
        """Return the seconds until a circuit that holds a lease has a command."""
        holders = [member for member in self._members.all() if member.key in self._holding]
        waits = [member.breaker.read(member.circuit.next_command_in) for member in holders]
        return min(waits, default=math.inf)

    # One step

    def _run(self, commands: CommandConnection, request: Request) -> tuple[object, float]:
        """Run the script; return its answer, and the seconds that it took."""
        while True:
            asked_at = time.monotonic()
            answer = commands.run(request)
            delay = time.monotonic() - asked_at
            if delay <= _STALE_AFTER:
                return answer, delay

    def _apply(self, member: Member, change: Callable[[float], None]) -> None:
        """Change a circuit."""
        try:
            member.breaker.apply(change)
        except (KeyboardInterrupt, SystemExit) as error:
            text = (
                f"ignored the exit of a listener for region {{}}, which {describe_exception(error)}"
            )
            log("ERROR", member.breaker.region, text)
        if member.circuit.holds_lease:
            self._holding.add(member.key)
        else:
            self._holding.discard(member.key)
