"""SharedTenantTable: the tenants of one region, of whom the whole fleet knows.

Like a SharedCircuit it is pure. A synchronizer stands between it and the store:

    +-------------------+ -- notify --------------------------------> +--------------+
    | SharedTenantTable | <- next_command, next_command_in ---------- | synchronizer | <-> store
    +-------------------+ <- on_reply, follow, on_disconnect -------- +--------------+

The rules, in addition to those of `limits/throttle.py`:

1.  Each process decides by its own throttles, and what others have found out is one more input.
    Without the store each goes on alone, as soon as the lease that it knows of has run out.
2.  A wait that begins here, or is prolonged, is announced with what is left of it. Another
    process's wait prolongs the one here, and never shortens it.
3.  When the wait is over, the fleet has one lease for the probe of the tenant. A call that is due,
    or a caller that means to call, requests it and waits; the next one that finds it here is the
    probe. If the store does not answer in time, this process probes alone, and so it does where
    the lease that was requested came, and no call with it: its calls are rare.
4.  The probe's success ends the throttle in all processes. Its refusal is a wait like any other.
    A probe that says nothing gives the lease back, and its process leaves the others a head start.
5.  The holder renews the lease while its probe runs within its time, and lets go of one that it
    does not use.
6.  What this process has found out, and the store does not know yet, is newer than anything that
    the store says. An end is followed only if the wait is over here as well: a late or a repeated
    one is about an earlier wait.
7.  A hold ends by itself, in each process.
8.  Only waits of one's own are announced, and they are held for the store in a bounded number.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from resilience._text import display_name
from resilience.limits import TenantProbe, TenantTable
from resilience.limits.throttle import MAX_WAIT_FOR_PROBE
from resilience.shared_probe import ProbeLease

# This many tenants may have something to announce. Beyond, the oldest is dropped: the other
# processes find that out by themselves.
_MOST_UNSENT: Final = 1_000
# Seconds. The clocks of two processes count the same wait with this difference at most.
_TOLERANCE: Final = 1.0
# Seconds. A wait that begins with less is what is left of the one before.
_LEAST_NEW_WAIT: Final = 0.5


class ThrottleChange(StrEnum):
    """What a command does to the record of a tenant, as the script spells it."""

    THROTTLE = "throttle"  # begin a wait, or prolong it
    END = "end"  # the probe was answered
    TAKE = "take"  # take the lease for the probe, or renew it
    RELEASE = "release"  # give the lease back


@dataclass(frozen=True, slots=True)
class ThrottleCommand:
    """A change of the record of one tenant.

    Args:
        change: What to do.
        tenant: The name of the tenant, printable and of a bounded length.
        wait: Seconds that are left of its wait; for THROTTLE.
        is_hold: Whether the wait ends without a probe; for THROTTLE.
    """

    change: ThrottleChange
    tenant: str
    wait: float = 0.0
    is_hold: bool = False


@dataclass(frozen=True, slots=True)
class ThrottleView:
    """What the store says about one tenant.

    Args:
        wait: Seconds that are left of its wait.
        is_hold: Whether the wait ends without a probe.
        has_ended: Whether its throttle has ended.
        lease_left: Seconds until the lease for its probe runs out; 0.0: no other process has it.
        lease_is_mine: Whether this process has it.
    """

    wait: float = 0.0
    is_hold: bool = False
    has_ended: bool = False
    lease_left: float = 0.0
    lease_is_mine: bool = False


class SharedTenantTable(TenantTable):
    """The tenants of one region in one process of a fleet, by the rules above.

    Args:
        lease: Seconds that the lease for a probe lasts without being renewed.
        notify: Called when there is a new command. Runs under the lock, and must not block.
    """

    __slots__ = (
        "_held",
        "_lease",
        "_leases",
        "_notify",
        "_other_names",
        "_unsent",
        "head_start",
        "shared",
    )

    def __init__(self, *, lease: float, notify: Callable[[], object]) -> None:
        super().__init__()
        self._lease = lease
        self._notify = notify
        #: Whether the store answers.
        self.shared = False
        #: Seconds that this process leaves the others to request a lease: in a large fleet, the
        #: store cannot answer all of them at the same moment.
        self.head_start = 0.0
        # Of the tenants whose wait is over, and whose probe is or was asked for.
        self._leases: dict[str, ProbeLease] = {}
        # Those of which this process holds the lease.
        self._held: set[str] = set()
        # What the store does not know yet.
        self._unsent: dict[str, ThrottleChange] = {}
        # The tenants whose names are too long for the store, or hold what cannot be printed, by the
        # names that they have there.
        self._other_names: dict[str, str] = {}

    # Calls

    def start(self, tenant: str, lease: float, now: float) -> TenantProbe | float | None:
        """Ask whether a call may start, here and in the fleet."""
        wait = self._wait_for_lease(tenant, now)
        if wait > 0.0:
            return wait
        answer = super().start(tenant, lease, now)
        if isinstance(answer, TenantProbe):
            self.begin_attempt(tenant, lease, now)
        return answer

    def expects_call(self, tenant: str, now: float) -> float:
        """Return the seconds until a call may start; where one is due, request the lease."""
        return self.wait_of(tenant, now) or self._wait_for_lease(tenant, now)

    def refuse(
        self, tenant: str, asked: float | None, now: float, probe: TenantProbe | None = None
    ) -> float:
        """Throttle a tenant after its call was refused, here and in the fleet."""
        wait = super().refuse(tenant, asked, now, probe)
        self._forget_lease(tenant)  # the store does the same
        self._mark(tenant, ThrottleChange.THROTTLE)
        return wait

    def hold(self, tenant: str, seconds: float, now: float) -> float:
        """Let a tenant wait of which nothing remains, here and in the fleet."""
        wait = super().hold(tenant, seconds, now)
        self._mark(tenant, ThrottleChange.THROTTLE)
        return wait

    def succeed(self, probe: TenantProbe, now: float) -> bool:
        """End a throttle here and in the fleet, because its probe was answered."""
        was_probing = self.is_probing(probe)
        is_over = super().succeed(probe, now)
        if is_over:
            self._forget_lease(probe.tenant)
            self._mark(probe.tenant, ThrottleChange.END)
        elif was_probing:
            self._return_lease(probe.tenant)
        return is_over

    def give_back(self, probe: TenantProbe) -> None:
        """Take back the place of a probe that has found out nothing, and its lease."""
        was_probing = self.is_probing(probe)
        super().give_back(probe)
        if was_probing:
            self._return_lease(probe.tenant)

    def begin_attempt(self, tenant: str, seconds: float, now: float) -> None:
        """Keep the lease while something is attempted under it."""
        lease = self._leases.get(tenant)
        if lease is None:
            return
        lease.use(seconds, now)
        if self.shared and not lease.is_mine(now):  # the attempt was late, or is one alone
            self._mark(tenant, ThrottleChange.TAKE)

    def end_attempt(self, tenant: str) -> None:
        """Give the lease back, unless the attempt has decided the matter."""
        lease = self._leases.get(tenant)
        if lease is not None and lease.busy_until > -math.inf:
            self._return_lease(tenant)

    def apply(self, tenant: str, wait: float, now: float) -> None:
        """Take over what the user has found out, who shares it in another way."""
        super().apply(tenant, wait, now)
        if tenant not in self.throttles:
            self._drop_lease(tenant)

    # The lease: rules 3 to 5

    def _wait_for_lease(self, tenant: str, now: float) -> float:
        """Return the seconds until a call may be the probe of the fleet, as far as is known."""
        throttle = self.throttles.get(tenant)
        if throttle is None or not throttle.refusals or throttle.wait(now) > 0.0:
            return 0.0  # that is decided here
        lease = self._leases.get(tenant)
        if lease is None:
            if not self.shared:
                return 0.0
            lease = self._add_lease(tenant)
            lease.taken_until = now + self.head_start
        lease.follow_clock(self._lease, now)
        taken = lease.taken_for(now)
        if taken > 0.0:
            return min(taken, MAX_WAIT_FOR_PROBE)
        if not self.shared or lease.is_mine(now):
            return 0.0
        is_new = lease.requested_at is None
        wait = lease.request(now)
        if is_new:
            self._mark(tenant, ThrottleChange.TAKE)
        return wait

    def _add_lease(self, tenant: str) -> ProbeLease:
        if len(self._leases) >= self._max_tenants:
            self._forget_lease(next(iter(self._leases)))
        lease = self._leases[tenant] = ProbeLease()
        return lease

    def _forget_lease(self, tenant: str) -> bool:
        """Know nothing of a lease any more; return whether this process held it."""
        self._leases.pop(tenant, None)
        was_held = tenant in self._held
        self._held.discard(tenant)
        return was_held

    def _drop_lease(self, tenant: str) -> None:
        """Give back a lease that is of no use any more."""
        if self._forget_lease(tenant):
            self._mark(tenant, ThrottleChange.RELEASE)

    def _return_lease(self, tenant: str) -> None:
        """Give back a lease whose probe has found out nothing."""
        lease = self._leases.get(tenant)
        if lease is not None:
            lease.give_back()
            self._release(tenant)

    def _release(self, tenant: str) -> None:
        if tenant in self._held:
            self._held.discard(tenant)
            self._mark(tenant, ThrottleChange.RELEASE)

    # For the synchronizer: what to send

    @property
    def holds_lease(self) -> bool:
        """Whether this process holds a lease, as far as it knows."""
        return bool(self._held)

    def next_command(self, now: float) -> ThrottleCommand | None:
        """Return what the store should be changed to now; it counts as sent."""
        self._act_on_leases(now)
        while self._unsent:
            tenant = next(iter(self._unsent))
            command = self._command(tenant, self._unsent.pop(tenant), now)
            if command is not None:
                return command
        return None

    def next_command_in(self, now: float) -> float:
        """Return the seconds until there is a command without a notification."""
        if self._unsent:
            return 0.0
        leases = [self._leases[tenant] for tenant in self._held]
        return min((lease.next_action_in(self._lease, now) for lease in leases), default=math.inf)

    def keep(self, command: ThrottleCommand) -> None:
        """Send a command again that did not reach the store, unless there is a newer one."""
        self._unsent.setdefault(self._tenant(command.tenant), command.change)

    def release_all(self, _now: float) -> None:
        """Give back all leases, before this process stops sharing."""
        for tenant in tuple(self._held):
            self._drop_lease(tenant)

    def _act_on_leases(self, now: float) -> None:
        for tenant in tuple(self._held):
            lease = self._leases[tenant]
            lease.follow_clock(self._lease, now)
            if not lease.is_mine(now):
                self._held.discard(tenant)  # it has run out
            elif lease.next_action_in(self._lease, now) > 0.0 or tenant in self._unsent:
                continue
            elif lease.is_busy(now):
                self._mark(tenant, ThrottleChange.TAKE)
            else:
                lease.let_go()
                self._release(tenant)

    def _command(self, tenant: str, change: ThrottleChange, now: float) -> ThrottleCommand | None:
        name = display_name(tenant)
        throttle = self.throttles.get(tenant)
        if change is ThrottleChange.THROTTLE:
            wait = 0.0 if throttle is None else throttle.remaining(now)
            if throttle is None or wait == 0.0:
                return None  # nobody needs to know any more
            return ThrottleCommand(change, name, wait, is_hold=not throttle.refusals)
        if change is ThrottleChange.TAKE and (throttle is None or tenant not in self._leases):
            return None
        return ThrottleCommand(change, name)

    def _mark(self, tenant: str, change: ThrottleChange) -> None:
        """Let the synchronizer send a change, in place of an earlier one of the same tenant."""
        earlier = self._unsent.pop(tenant, None)
        is_release = change is ThrottleChange.RELEASE
        if is_release and earlier is not None and earlier is not ThrottleChange.TAKE:
            change = earlier  # which gives the lease back as well
        if len(self._unsent) >= _MOST_UNSENT:
            del self._unsent[next(iter(self._unsent))]
        self._unsent[tenant] = change
        name = display_name(tenant)
        if name != tenant:
            if len(self._other_names) >= _MOST_UNSENT:
                self._other_names.clear()
            self._other_names[name] = tenant
        self._notify()

    def _tenant(self, name: str) -> str:
        """Return the tenant that has this name in the store."""
        return self._other_names.get(name, name)

    # For the synchronizer: what the store says. Each returns the tenant that it was about.

    def on_reply(self, command: ThrottleCommand, view: ThrottleView, now: float) -> str:
        """Follow the answer to a command."""
        self.on_connect()
        tenant = self._tenant(command.tenant)
        if command.change is ThrottleChange.TAKE and view.lease_is_mine:
            self._on_lease(tenant, view.lease_left, now)
            return tenant
        return self.follow(command.tenant, view, now)

    def follow(self, name: str, view: ThrottleView, now: float) -> str:
        """Follow what another process has found out, unless this one knows better: rule 6."""
        tenant = self._tenant(name)
        unsent = self._unsent.get(tenant)
        if unsent is ThrottleChange.END:
            return tenant
        if not view.has_ended:
            if view.wait > 0.0:
                self._follow_wait(tenant, view, now)
            self._follow_lease(tenant, view.lease_left, now)
        elif unsent is not ThrottleChange.THROTTLE:
            self._follow_end(tenant, now)
        return tenant

    def on_connect(self) -> None:
        """Take note that the store answers."""
        self.shared = True

    def on_known(self, name: str, view: ThrottleView, now: float) -> str:
        """Follow what the store knows of a tenant whose announcement may have been missed.

        Its wait may be over: then it is throttled until a probe is answered.
        """
        tenant = self._tenant(name)
        if view.wait > 0.0 or view.is_hold:
            return self.follow(name, view, now)
        if tenant not in self._unsent and tenant not in self.throttles:
            self._throttle(tenant, now).count_refusal()
        return tenant

    def on_disconnect(self) -> None:
        """Go on alone: the store is gone, and so are the answers to requests."""
        self.shared = False
        for lease in self._leases.values():
            lease.requested_at = None

    def forked(self) -> None:
        """Be another process from now on, which holds nothing that its parent holds."""
        self.shared = False
        self._leases.clear()
        self._held.clear()
        self._unsent.clear()

    def share_again(self, *, lease: float, notify: Callable[[], object]) -> None:
        """Be shared by another synchronizer, which may use another store."""
        self.forked()
        self._lease = lease
        self._notify = notify

    def _on_lease(self, tenant: str, lease_left: float, now: float) -> None:
        lease = self._leases.get(tenant)
        self._held.add(tenant)
        if lease is None or tenant not in self.throttles:
            self._drop_lease(tenant)
        else:
            lease.grant(now + lease_left, now)

    def _follow_wait(self, tenant: str, view: ThrottleView, now: float) -> None:
        known = self.throttles.get(tenant)
        throttle = self._throttle(tenant, now)
        is_new = (known is None or known.remaining(now) == 0.0) and view.wait >= _LEAST_NEW_WAIT
        if not view.is_hold and (is_new or not throttle.refusals):
            throttle.count_refusal()
        throttle.hold(view.wait, now)
        lease = self._leases.get(tenant)
        if lease is not None and not lease.is_busy(now):
            self._drop_lease(tenant)

    def _follow_end(self, tenant: str, now: float) -> None:
        throttle = self.throttles.get(tenant)
        if throttle is None or throttle.remaining(now) <= _TOLERANCE:
            self.throttles.pop(tenant, None)
            self._drop_lease(tenant)

    def _follow_lease(self, tenant: str, lease_left: float, now: float) -> None:
        lease = self._leases.get(tenant)
        if lease_left > 0.0 and tenant in self.throttles:
            self._held.discard(tenant)  # it had run out
            (lease or self._add_lease(tenant)).refuse(now + min(lease_left, self._lease))
        elif lease is not None and not lease.is_mine(now):
            lease.taken_until = min(lease.taken_until, now)
