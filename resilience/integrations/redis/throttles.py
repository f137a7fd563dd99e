"""ThrottleSynchronizer: keeps what this process knows of throttled tenants in step with the store.

It works for the Synchronizer, in its thread and with its connections, and does nothing where no
call has a tenant.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, TypeAlias

import redis

from resilience._lock import lock
from resilience.integrations.redis.connection import CommandConnection
from resilience.integrations.redis.fault import describe_fault
from resilience.integrations.redis.members import Member, Members
from resilience.integrations.redis.protocol import Request
from resilience.integrations.redis.store_clock import StoreClock
from resilience.integrations.redis.throttle_protocol import (
    Announcement,
    ThrottleProtocol,
    ThrottleReply,
    genuine,
    parse_found,
    parse_throttle_reply,
)
from resilience.integrations.redis.timing import Timing
from resilience.log import log
from resilience.shared_tenant_table import SharedTenantTable, ThrottleCommand, ThrottleView

#: Runs a script; returns its answer, and the seconds that it took.
Run: TypeAlias = Callable[[CommandConnection, Request], tuple[object, float]]

# After this many commands of one region it is the turn of the circuits.
_COMMANDS_IN_A_ROW: Final = 50
_REGIONS_PER_REQUEST: Final = 20
# Of a flood of announcements, this many are looked at; the next poll makes up for the others.
_MOST_AT_A_TIME: Final = 5_000


class ThrottleSynchronizer:
    """Keeps the tables of throttled tenants of one process and the store in step.

    Args:
        protocol: How the records of tenants are read and changed.
        members: The breakers; those are left alone whose calls have no tenants.
        clock: The store's clock.
        timing: How long things take.
        run: Runs a script.

    Attributes:
        holding: Keys of the regions of which this process holds a lease for a probe.
    """

    def __init__(
        self,
        protocol: ThrottleProtocol,
        members: Members,
        clock: StoreClock,
        timing: Timing,
        run: Run,
    ) -> None:
        self._protocol = protocol
        self._members = members
        self._clock = clock
        self._timing = timing
        self._run = run
        self.holding: set[str] = set()
        # Whether any call of this process has a tenant.
        self._is_used = False
        self._refusal_is_logged = False

    # From the store

    def find(self, commands: CommandConnection, members: Sequence[Member]) -> None:
        """Read which tenants are throttled; a poll does, since announcements may be lost."""
        users = self._users(members)
        try:
            for first in range(0, len(users), _REGIONS_PER_REQUEST):
                self._find(commands, users[first : first + _REGIONS_PER_REQUEST])
        except redis.ResponseError as error:
            self._on_refusal(error)

    def _find(self, commands: CommandConnection, members: Sequence[Member]) -> None:
        regions = [member.breaker.region for member in members]
        answer, _ = self._run(commands, self._protocol.find(regions))
        for member, found in zip(members, parse_found(answer, len(members)), strict=True):
            table = _table_of(member)
            for tenant, view in found:
                member.breaker.tenants.apply(partial(table.on_known, tenant, view))
            with lock:
                table.on_connect()
                table.head_start = member.circuit.head_start
        self._refusal_is_logged = False

    def follow(self, contents: Sequence[bytes], secret: bytes) -> None:
        """Follow what other processes have announced.

        Args:
            contents: The contents of the messages, of which nothing is believed yet.
            secret: The secret that the store signs them with.
        """
        if not contents or not self._is_used:
            return
        announced = genuine(contents[-_MOST_AT_A_TIME:], secret)
        members = {
            member.key: member for member in self._members.of({one.region_key for one in announced})
        }
        for one in announced:
            member = members.get(one.region_key)
            if member is not None and one.client_id != self._protocol.records.client_id:
                self._follow(member, one)

    def _follow(self, member: Member, announced: Announcement) -> None:
        age = self._clock.age(announced.sent_at, self._timing.stale_after)
        if age is None or not member.breaker.uses_tenants:
            return
        view = _grown_older(announced.view, age)
        table = _table_of(member)
        member.breaker.tenants.apply(partial(table.follow, announced.tenant, view))
        self._note_lease(member, table)

    # To the store

    def send(self, commands: CommandConnection, members: Sequence[Member]) -> list[str]:
        """Send the commands of some regions; return the keys of those that have more of them."""
        users = self._users(members)
        unfinished: list[str] = []
        # A region that has just come into use has to know what the others know.
        self.find(commands, [member for member in users if not _table_of(member).shared])
        try:
            for member in users:
                for _ in range(_COMMANDS_IN_A_ROW):
                    if not self._send(commands, member):
                        break
                else:
                    unfinished.append(member.key)
        except redis.ResponseError as error:
            self._on_refusal(error)
        return unfinished

    def send_last(self, commands: CommandConnection, members: Sequence[Member]) -> None:
        """Give back all leases, before this process stops sharing."""
        for member in members:
            table = member.circuit.tenant_table
            if table is not None:
                member.breaker.read(table.release_all)
        self.send(commands, members)

    def next_command_in(self) -> float:
        """Return the seconds until a process that holds a lease has a command."""
        waits = [
            member.breaker.read(_table_of(member).next_command_in)
            for member in self._members.of(self.holding)
        ]
        return min(waits, default=math.inf)

    def _send(self, commands: CommandConnection, member: Member) -> bool:
        """Send the next command of a region; return whether there was one."""
        table = _table_of(member)
        decided_at = time.monotonic()
        command = member.breaker.read(table.next_command)
        self._note_lease(member, table)
        if command is None:
            return False
        region = member.breaker.region
        try:
            reply = self._change(commands, region, command, decided_at)
            if reply.is_late:  # once more, since the store's clock may have moved
                reply = self._change(commands, region, command, decided_at)
        except BaseException:
            with lock:
                table.keep(command)
            raise
        member.breaker.tenants.apply(partial(table.on_reply, command, reply.view))
        self._note_lease(member, table)
        return True

    def _change(
        self, commands: CommandConnection, region: str, command: ThrottleCommand, decided_at: float
    ) -> ThrottleReply:
        """Change a record, and return what the store says about it then."""
        not_after = self._clock.latest(decided_at, self._timing.socket_timeout)
        answer, delay = self._run(commands, self._protocol.change(region, command, not_after))
        reply = parse_throttle_reply(answer, delay)
        self._clock.note(reply.store_time, delay)
        return reply

    def _note_lease(self, member: Member, table: SharedTenantTable) -> None:
        if table.holds_lease:
            self.holding.add(member.key)
        else:
            self.holding.discard(member.key)

    def _users(self, members: Sequence[Member]) -> list[Member]:
        """Return those whose calls have tenants."""
        users = [member for member in members if member.breaker.uses_tenants]
        self._is_used = self._is_used or bool(users)
        return users

    def _on_refusal(self, error: redis.ResponseError) -> None:
        """Let tenants go on alone if the user of the store may not do what they need."""
        fault = describe_fault(error)
        if not fault.is_refusal:
            raise error
        for member in self._members.all():
            if member.circuit.tenant_table is not None:
                with lock:
                    member.circuit.tenant_table.on_disconnect()
        if not self._refusal_is_logged:
            self._refusal_is_logged = True
            log("WARNING", "", f"throttled tenants are not shared: {fault.text}")


def _table_of(member: Member) -> SharedTenantTable:
    """Return the table of a region's tenants, which is in use from now on."""
    _ = member.breaker.tenants
    return member.circuit.make_tenant_table()


def _grown_older(view: ThrottleView, age: float) -> ThrottleView:
    return replace(view, wait=max(0.0, view.wait - age), lease_left=max(0.0, view.lease_left - age))
