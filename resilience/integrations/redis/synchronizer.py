"""Synchronizer: a thread that keeps the circuits of one process and the store in step.

It reads the records that notifications name, carries out the commands of the circuits, and polls
now and then, which makes up for lost notifications and finds out whether the store takes writes.
When the store fails, the circuits go on alone, and the synchronizer connects again until it is
back.
"""

import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from functools import partial
from typing import Final

import redis

from resilience._lock import lock
from resilience._threads import start_thread
from resilience.integrations.redis.address import Address
from resilience.integrations.redis.backoff import Backoff
from resilience.integrations.redis.connection import CommandConnection, Notifications
from resilience.integrations.redis.deliverer import Deliverer
from resilience.integrations.redis.fault import Fault, describe_fault
from resilience.integrations.redis.head_start import head_start
from resilience.integrations.redis.members import Member, Members
from resilience.integrations.redis.notification import Notification
from resilience.integrations.redis.presence import Presence
from resilience.integrations.redis.protocol import (
    InvalidReplyError,
    RecordProtocol,
    Reply,
    Request,
    parse_poll,
    parse_replies,
    parse_reply,
)
from resilience.integrations.redis.store_clock import StoreClock
from resilience.integrations.redis.throttle_protocol import ThrottleProtocol
from resilience.integrations.redis.throttles import ThrottleSynchronizer
from resilience.integrations.redis.timing import Timing
from resilience.integrations.redis.wakeup import Wakeup
from resilience.log import describe_exception, log
from resilience.shared_record import Command, RecordView

_POLL_JITTER: Final = (0.75, 1.25)
# A request whose answer is from before a pause of this process is repeated. After this many times
# in a row the store is too slow.
_STALE_ANSWERS: Final = 3
# A connection is stable when this many polls have succeeded.
_STABLE_AFTER: Final = 2
# Seconds between two rounds at least, however often the circuits notify.
_MIN_PAUSE: Final = 0.01
# After this many commands of one circuit it is the others' turn.
_COMMANDS_IN_A_ROW: Final = 4
_RECORDS_PER_REQUEST: Final = 200


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
        self._deliverer = Deliverer()
        self._presence = Presence(protocol, timing.poll_interval)
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
        # Refusals of the store that were logged since it was there last.
        self._logged_refusals: set[Fault] = set()
        self._backoff = Backoff(timing.poll_interval)
        # How many polls have succeeded since it has connected.
        self._polls = 0
        # This many connections in a row were lost after their first poll.
        self._unstable = 0
        self._clock = StoreClock()
        self._secret = b""
        self._throttles = ThrottleSynchronizer(
            ThrottleProtocol(protocol), members, self._clock, timing, self._run
        )

    # For other threads

    def start(self, on_failure: Callable[[], object]) -> None:
        """Start the thread; the caller may hold the lock.

        Args:
            on_failure: Called where no thread can be started, in this or another thread. This
                synchronizer is of no use then.
        """
        start_thread(self.run, "resilience-sharing", on_failure)

    def discard(self) -> None:
        """Close what it holds, where its thread could not be started; the caller holds the lock."""
        self._wakeup.close()
        self._ended.set()

    def notify(self, key: str) -> None:
        """Ask a circuit for its command soon; the caller holds the lock."""
        self._notified.add(key)
        self._wakeup.set()

    def stop(self, timeout: float) -> None:
        """Let it give back what the circuits hold, and wait until it has ended."""
        self._stopping.set()
        with lock:
            self._wakeup.set()
        if self._thread_id != threading.get_ident():  # a sink of the log may stop it
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
            except InvalidReplyError as error:
                self._on_disconnect(Fault("this is no reply of the script", is_refusal=True))
                self._stopping.wait(self._backoff.next_wait(error))
            except (redis.RedisError, OSError) as error:
                if not self._address.follow(error):
                    self._on_disconnect(describe_fault(error))
                self._stopping.wait(self._backoff.next_wait(error))
            except BaseException as error:  # noqa: BLE001 - whatever it is, the thread goes on
                self._on_disconnect(Fault(describe_exception(error)))
                self._stopping.wait(self._backoff.next_wait(error))
        self.disconnect_circuits()
        with lock:
            self._wakeup.close()
        self._ended.set()

    def _connect_and_serve(self) -> None:
        server, name = self._address.locate(), self._protocol.connection_name
        with (
            closing(CommandConnection(server, name)) as commands,
            closing(Notifications(server, self._protocol.channel, name)) as notifications,
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
            self._send_commands(commands, notifications)
            pause = min(next_poll - time.monotonic(), self._next_command_in())
            if notifications.are_pending:  # a flood, which leaves time for everything else
                self._stopping.wait(_MIN_PAUSE)
            else:
                self._wakeup.wait((commands, notifications), max(pause, _MIN_PAUSE))
            commands.check()
            self._follow_notifications(commands, notifications)
        self._send_commands(commands, notifications)
        members = self._members.all()
        self._throttles.send_last(commands, members)
        for member in members:
            self._send(commands, member, member.circuit.final_command)
        self._presence.leave(commands)

    def _on_disconnect(self, fault: Fault) -> None:
        where = f"{self._address}: {fault.text}"
        if self._is_connected is not False:
            log("WARNING", "", f"sharing is lost, circuits go on alone: {where}")
        elif fault.is_refusal and fault not in self._logged_refusals:
            log("WARNING", "", f"cannot connect again, circuits go on alone: {where}")
        if fault.is_refusal:
            self._logged_refusals.add(fault)
        self._is_connected = False
        if self._polls:
            self._unstable = self._unstable + 1 if self._polls < _STABLE_AFTER else 0
        self._polls = 0
        self.disconnect_circuits()

    def _on_poll(self) -> None:
        """Note that a poll has succeeded.

        A store that takes polls but fails soon afterwards, again and again, would be logged as lost
        and back without end: therefore it is back only when it is stable.
        """
        self._polls += 1
        if self._polls == _STABLE_AFTER:
            self._backoff.reset()
            self._unstable = 0
        if self._unstable > 1:
            return
        if self._is_connected is False:
            log("INFO", "", "sharing is back")
        self._is_connected = True
        self._logged_refusals.clear()

    # From the store to the circuits

    def _poll(self, commands: CommandConnection) -> None:
        members = self._members.all()
        for some in _parts(members) or [[]]:
            answer, delay = self._run(commands, self._protocol.poll(_keys(some)))
            reply = parse_poll(answer, len(some), delay)
            self._secret = reply.secret
            for member in some:
                member.circuit.head_start = head_start(reply.fleet_size)
            self._on_records(some, reply.replies)
        self._throttles.find(commands, members)
        self._on_poll()
        self._presence.show(commands, str(self._address))
        with lock:
            self._notified.update(_keys(members))

    def _follow_notifications(
        self, commands: CommandConnection, notifications: Notifications
    ) -> None:
        """Follow what has been announced since the last time."""
        self._follow(commands, notifications.read())
        self._throttles.follow(notifications.of_tenants, self._secret)

    def _follow(self, commands: CommandConnection, announced: Mapping[str, Notification]) -> None:
        """Follow the notifications of versions that are not known yet."""
        outdated: list[Member] = []
        for member in self._members.of(announced):
            notification = announced[member.key]
            if not member.circuit.is_outdated(notification.version):
                continue
            view = self._view(notification)
            if view is None:
                outdated.append(member)
                continue
            self._on_record(member, view)
            with lock:
                self._notified.add(member.key)
        self._read(commands, outdated)

    def _view(self, notification: Notification) -> RecordView | None:
        """Return the record as it was announced, unless that is not to be relied on."""
        if notification.signed is None:
            return None
        age = self._clock.age(notification.signed.sent_at, self._timing.stale_after)
        if age is None:
            return None
        delay = age + self._clock.uncertainty
        return notification.view(self._protocol, self._secret, delay)

    def _read(self, commands: CommandConnection, members: list[Member]) -> None:
        """Read records; their circuits are asked for a command next."""
        for some in _parts(members):
            answer, delay = self._run(commands, self._protocol.read(_keys(some)))
            self._on_records(some, parse_replies(answer, len(some), delay))
        with lock:
            self._notified.update(_keys(members))

    def _on_records(self, members: list[Member], replies: list[Reply]) -> None:
        for member, reply in zip(members, replies, strict=True):
            self._note(member, reply)
            self._on_record(member, reply.view)

    def _on_record(self, member: Member, view: RecordView) -> None:
        self._apply(member, lambda now: member.circuit.on_record(view, now))

    def _note(self, member: Member, reply: Reply) -> None:
        """Note what a reply shows about the store."""
        self._clock.note(reply.store_time, reply.view.delay)
        if not reply.is_malformed:
            self._warned.discard(member.key)
        elif member.key not in self._warned:
            self._warned.add(member.key)
            text = "found a malformed record of region {} in the store, and treats it as absent"
            log("WARNING", member.breaker.name, text)

    # From the circuits to the store

    def _send_commands(self, commands: CommandConnection, notifications: Notifications) -> None:
        with lock:
            notified, self._notified = self._notified, set()
        members = self._members.of(notified | self._holding | self._throttles.holding)
        # A circuit that has just joined has to know the record before it wants to change it.
        self._read(commands, [member for member in members if not member.circuit.shared])
        for member in members:
            sent = 0
            while sent < _COMMANDS_IN_A_ROW and self._send(
                commands, member, member.circuit.next_command
            ):
                sent += 1
            if sent:  # what others have done meanwhile may spare the commands that follow
                self._follow_notifications(commands, notifications)
        unfinished = self._throttles.send(commands, members)
        if unfinished:
            with lock:
                self._notified.update(unfinished)
                self._wakeup.set()

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
            not_after = self._clock.latest(decided_at, self._timing.socket_timeout)
            recovery_timeout = member.circuit.opening_lasts()
            request = self._protocol.change(member.key, command, recovery_timeout, not_after)
            reply = parse_reply(*self._run(commands, request))
            self._note(member, reply)
            if not reply.is_late:
                self._on_reply(member, command, reply)
                return True
        self._read(commands, [member])
        return False

    def _on_reply(self, member: Member, command: Command, reply: Reply) -> None:
        self._apply(member, lambda now: member.circuit.on_reply(command, reply.view, now))

    def _next_command_in(self) -> float:
        """Return the seconds until a process that holds a lease has a command."""
        holders = self._members.of(self._holding)
        waits = [member.breaker.read(member.circuit.next_command_in) for member in holders]
        return min(*waits, self._throttles.next_command_in(), math.inf)

    # One step

    def _run(self, commands: CommandConnection, request: Request) -> tuple[object, float]:
        """Run the script; return its answer, and the seconds that it took."""
        for _ in range(_STALE_ANSWERS):
            asked_at = time.monotonic()
            answer = commands.run(request)
            delay = time.monotonic() - asked_at
            if delay <= self._timing.stale_after:
                return answer, delay
        raise redis.TimeoutError("answers take too long")

    def _apply(self, member: Member, change: Callable[[float], None]) -> None:
        """Change a circuit; its listeners are called elsewhere, since they may take their time."""
        deliver = partial(self._deliverer.put, member.breaker.name)
        member.breaker.apply(change, deliver)
        if member.circuit.holds_lease:
            self._holding.add(member.key)
        else:
            self._holding.discard(member.key)


def _keys(members: Iterable[Member]) -> list[str]:
    return [member.key for member in members]


def _parts(members: list[Member]) -> list[list[Member]]:
    """Divide members into as many as one request reads."""
    size = _RECORDS_PER_REQUEST
    return [members[first : first + size] for first in range(0, len(members), size)]
