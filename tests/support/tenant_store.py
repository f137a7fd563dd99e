"""The throttled tenants of a fleet without a server: what throttles.lua does, on any clock.

And processes with a table each, whose synchronizer works only when a test says so.
"""

import math
from dataclasses import dataclass, replace

from resilience.limits import LONGEST_WAIT, TenantProbe
from resilience.shared_tenant_table import (
    SharedTenantTable,
    ThrottleChange,
    ThrottleCommand,
    ThrottleView,
)

LEASE, PROBE_TIMEOUT = 5.0, 60.0
KEPT = 60.0


@dataclass(slots=True)
class Record:
    until: float
    told_until: float = -math.inf
    is_hold: bool = False
    owner: object = None
    renewed_at: float = -math.inf


class TenantStore:
    """The records; a change is announced to all others, which hear of it when they listen."""

    def __init__(self, clock):
        self.clock = clock
        self.records = {}
        self.processes = []
        self.commands = 0

    def run(self, process, command: ThrottleCommand):
        self.commands += 1
        now, tenant = self.clock(), command.tenant
        record = self.records.get(tenant) or Record(now)
        getattr(self, f"_{command.change}")(process, command, record, now)
        return self.view(tenant, record, process, now)

    def view(self, tenant, record, process, now):
        lease_left = 0.0 if record.owner is None else max(0.0, record.renewed_at + LEASE - now)
        return ThrottleView(
            wait=max(0.0, record.until - now),
            is_hold=record.is_hold,
            has_ended=tenant not in self.records and record.owner is None and process is None,
            lease_left=lease_left,
            lease_is_mine=record.owner is not None and record.owner is process,
        )

    def _is_free(self, process, record, now):
        is_taken = record.owner not in (None, process) and record.renewed_at + LEASE > now
        return record.until <= now and not is_taken

    def _throttle(self, process, command, record, now):
        is_news = (
            record.told_until <= now
            or command.wait > record.told_until - now + 1.0
            or record.owner is process
            or (record.is_hold and not command.is_hold)
        )
        record.is_hold = command.is_hold and (record.is_hold or command.tenant not in self.records)
        record.until = max(record.until, now + min(command.wait, LONGEST_WAIT))
        if record.owner is process:
            record.owner = None
        self.records[command.tenant] = record
        if is_news:
            record.told_until = record.until
            self._announce(process, command.tenant, record, now)

    def _end(self, process, command, record, now):
        if self._is_free(process, record, now):
            self.records.pop(command.tenant, None)
            record.owner = None
            self._announce(process, command.tenant, record, now)

    def _take(self, process, command, record, now):
        if self._is_free(process, record, now):
            is_renewal = record.owner is process and record.renewed_at + LEASE > now
            record.owner, record.renewed_at = process, now
            self.records[command.tenant] = record
            if not is_renewal:
                self._announce(process, command.tenant, record, now)

    def _release(self, process, command, record, now):
        if record.owner is process:
            record.owner = None
            self._announce(process, command.tenant, record, now)

    def _announce(self, by, tenant, record, now):
        view = self.view(tenant, record, None, now)
        for process in self.processes:
            if process is not by:
                process.inbox.append((now, tenant, view))


class TenantProcess:
    """One process of the fleet."""

    def __init__(self, store):
        self.store = store
        self.inbox = []
        self.notified = 0
        self.reaches_store = True
        self.table = SharedTenantTable(lease=LEASE, notify=self._notify)
        self.table.on_connect()
        store.processes.append(self)

    def _notify(self):
        self.notified += 1

    @property
    def now(self):
        return self.store.clock()

    # Calls

    def start(self, tenant="a"):
        return self.table.start(tenant, PROBE_TIMEOUT, self.now)

    def probe(self, tenant="a"):
        """Return the probe of a call that may start."""
        probe = self.start(tenant)
        assert isinstance(probe, TenantProbe), probe
        return probe

    def refuse(self, wait=7.0, probe=None, tenant="a"):
        self.table.refuse(tenant, wait, self.now, probe)

    def succeed(self, probe):
        return self.table.succeed(probe, self.now)

    # The synchronizer

    def send(self, most=100):
        """Send what there is to send; return what was sent."""
        sent = []
        while self.reaches_store and len(sent) < most:
            command = self.table.next_command(self.now)
            if command is None:
                break
            sent.append(command.change)
            self.table.on_reply(command, self.store.run(self, command), self.now)
        return sent

    def listen(self):
        """Follow what was announced."""
        inbox, self.inbox = self.inbox, []
        for sent_at, tenant, view in inbox if self.reaches_store else ():
            age = self.now - sent_at
            if age <= 2.0:
                wait, lease_left = max(0.0, view.wait - age), max(0.0, view.lease_left - age)
                self.table.follow(tenant, replace(view, wait=wait, lease_left=lease_left), self.now)

    def lose_store(self):
        self.reaches_store = False
        self.table.on_disconnect()

    def find_store(self):
        self.reaches_store = True
        self.table.on_connect()
        for tenant, record in self.store.records.items():
            wait = max(0.0, record.until - self.now)
            if not record.is_hold:
                self.table.on_known(tenant, ThrottleView(wait=wait), self.now)


def settle(*processes):
    """Let all of them send and listen until there is nothing left."""
    for _ in range(20):
        sent = [change for process in processes for change in process.send()]
        for process in processes:
            process.listen()
        if not sent and not any(process.inbox for process in processes):
            return
    raise AssertionError("they never agree")


__all__ = ["LEASE", "PROBE_TIMEOUT", "TenantProcess", "TenantStore", "ThrottleChange", "settle"]
