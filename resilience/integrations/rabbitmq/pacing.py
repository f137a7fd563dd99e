"""Pacing: when the next message of a tenant may be attempted, in all queues of a region.

It follows what the region's breaker knows of its tenants, and adds what only a consumer needs:

1.  A tenant that waits is left alone. When its wait is over, one message is the probe, whichever
    queue it comes from; its answer ends the throttle.
2.  A tenant that was refused is paced for as long as this holds back any of its messages: at 95 %
    of its limit, or, where nobody knows the limit, at a rate that grows until it is refused again.
3.  During a drain, messages of all tenants are paced whose limit is known.

Messages without a tenant have the tenant "". They are paced during a drain only, and nothing that
one of them is answered makes the others wait at any other time.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from resilience.answers import read_limit
from resilience.breaker import CircuitBreaker
from resilience.classify import examine, is_throttled
from resilience.errors import TenantThrottledError
from resilience.integrations.rabbitmq.disposition import Disposition
from resilience.integrations.rabbitmq.handler import Attempt
from resilience.integrations.rabbitmq.region_drain import RegionDrain
from resilience.limits import LimitReading, Pace, RateLimit, TenantProbe

#: The tenant of messages that have none.
NO_TENANT = ""
# A probe may end at any moment, and somebody else may end a throttle: seconds until a tenant that
# waits is looked at again.
_LONGEST_LOOK_AHEAD = 1.0
# Seconds without a message that was held back, after which a tenant is no longer paced.
_PACED_AFTERWARDS = 60.0
_MOST_PACED = 10_000


@dataclass(slots=True)
class _PacedTenant:
    """A tenant that is paced."""

    pace: Pace
    #: When it last held back a message.
    needed_at: float


@dataclass(slots=True)
class PacedCall:
    """One attempt of a message; to be ended when the attempt has ended, however it ended."""

    pacing: "Pacing"
    tenant: str
    is_probe: bool
    is_live: bool

    def end(self, attempt: Attempt | None) -> None:
        """Take note of what came of the attempt; None: it was cancelled."""
        self.pacing.end(self, attempt)


async def end_with(call: PacedCall | None, attempting: Awaitable[Attempt]) -> Attempt:
    """Wait for an attempt, and end its call with what came of it.

    Args:
        call: The call; None: nothing is paced.
        attempting: The attempt.
    """
    try:
        attempt = await attempting
    except BaseException:
        if call is not None:
            call.end(None)
        raise
    if call is not None:
        call.end(attempt)
    return attempt


@dataclass(slots=True)
class Pacing:
    """The pace of one region's messages in one event loop.

    Args:
        breaker: The region's breaker.
        wake: Called when a message may be attempted that had to wait.
    """

    breaker: CircuitBreaker
    wake: Callable[[], object]
    #: Whether messages may have to wait: looked at for each of them, so that the rest costs nothing
    #: where there is neither a tenant nor a drain.
    is_needed: bool = False
    #: Counts what may let a message go on that was held back.
    changes: int = 0
    #: The drain that is under way.
    drain: RegionDrain | None = None
    _rate_limit: RateLimit | None = None
    _uses_tenants: bool = False
    _paced: dict[str, _PacedTenant] = field(default_factory=dict[str, _PacedTenant])
    # The tenants of which one message is being attempted as the probe, and for how long no other
    # may be: a probe that hangs must not keep them waiting.
    _probing: dict[str, float] = field(default_factory=dict[str, float])

    def use(self, rate_limit: RateLimit | None, *, tenants: bool) -> None:
        """Take note of the settings of a queue that is attached.

        Args:
            rate_limit: What the region allows each tenant; None: nobody has said it.
            tenants: Whether the queue's messages have tenants.
        """
        self._rate_limit = rate_limit or self._rate_limit
        self._uses_tenants |= tenants
        self.is_needed |= tenants
        if tenants:
            _ = self.breaker.tenants  # from now on other processes' tenants are followed

    # One message

    def wait(self, tenant: str, *, live: bool = False) -> float:
        """Return the seconds until a message may be attempted, as far as is known; 0.0 is now.

        Args:
            tenant: Its tenant.
            live: Whether it has just arrived, while others of its region wait elsewhere.
        """
        wait = self._wait(tenant, live=live)
        if wait > 0.0 and (paced := self._paced.get(tenant)) is not None:
            paced.needed_at = _now()
        return min(wait, _LONGEST_LOOK_AHEAD)

    def _wait(self, tenant: str, *, live: bool) -> float:
        if tenant in self.breaker.throttled_tenants:
            if _now() < self._probing.get(tenant, 0.0):
                return _LONGEST_LOOK_AHEAD
            wait = self.breaker.tenants.expects_call(tenant)
            if wait > 0.0:
                return wait
        paced = self._pace_of(tenant)
        return 0.0 if paced is None else paced.pace.wait(_now(), live=live)

    def holds_back(self, tenant: str) -> bool:
        """Return whether messages of a tenant may have to wait."""
        return tenant in self._paced or tenant in self.breaker.throttled_tenants

    def is_paced(self, tenant: str) -> bool:
        """Return whether a tenant is paced because it was refused: its calls are few."""
        return tenant != NO_TENANT and tenant in self._paced

    def begin(self, tenant: str, *, live: bool = False) -> PacedCall:
        """Take note that a message is attempted.

        Args:
            tenant: Its tenant.
            live: Whether it has just arrived.
        """
        is_probe = tenant in self.breaker.throttled_tenants
        if is_probe:
            self._probing[tenant] = _now() + self.breaker.policy.probe_lease
            self.breaker.tenants.begin_attempt(tenant)
        paced = self._pace_of(tenant)
        if paced is not None:
            paced.pace.start(_now())
        if self.drain is not None:
            self.drain.begin_call(is_live=live)
        return PacedCall(self, tenant, is_probe, live)

    def end(self, call: PacedCall, attempt: Attempt | None) -> None:
        """Take note of what came of an attempt; None: it was cancelled."""
        if call.is_probe:
            self._probing.pop(call.tenant, None)
        if attempt is not None:
            refused = wait_asked_by(attempt.error)
            if attempt.disposition in (Disposition.ACK, Disposition.ON_ERROR):
                self._succeed(call)
            elif refused is not None:
                self._refuse(call.tenant, attempt, refused)
            elif attempt.disposition is Disposition.REGION_FAILED:
                self._back_off(call.tenant, 0.0)
        if call.is_probe:
            self.breaker.tenants.end_attempt(call.tenant)
        if self.holds_back(call.tenant) or call.is_probe:
            self._change()

    def _succeed(self, call: PacedCall) -> None:
        if call.tenant in self.breaker.throttled_tenants:
            # A call with `tenant_from` has ended the throttle by itself.
            probe = self.breaker.tenants.start(call.tenant)
            if isinstance(probe, TenantProbe):
                self.breaker.tenants.succeed(probe)
        paced = self._paced.get(call.tenant)
        if paced is not None:
            paced.pace.succeed(_now())
        if self.drain is not None:
            self.drain.succeed(is_live=call.is_live)

    def _refuse(self, tenant: str, attempt: Attempt, asked: float) -> None:
        """Make a tenant wait that was answered 429, or pace a drain that was."""
        if self.drain is not None and not isinstance(attempt.error, TenantThrottledError):
            self.drain.refused += 1
        if tenant == NO_TENANT:
            if self.drain is not None:
                self._make_pace(tenant, self.drain.rate())
                self._back_off(tenant, asked)
            return
        tenants = self.breaker.tenants
        if tenants.wait_of(tenant) == 0.0:
            # A call with `tenant_from` has reported it by itself.
            if isinstance(attempt.error, TenantThrottledError):
                if asked:
                    tenants.throttle(tenant, asked)
            else:
                tenants.observe(attempt.error, tenant)
        self._make_pace(tenant)
        self._back_off(tenant, 0.0, cool_down=asked)

    def _back_off(self, tenant: str, wait: float, *, cool_down: float = 0.0) -> None:
        paced = self._paced.get(tenant)
        if paced is None:
            return
        if wait:
            paced.pace.back_off(_now(), wait)
        elif paced.pace.limit is None:
            # How long the tenant waits is known to the breaker, which may end it earlier.
            paced.pace.adaptive.back_off(_now(), cool_down)

    # The paces

    def _pace_of(self, tenant: str) -> _PacedTenant | None:
        """Return the pace of a tenant; None: it has none."""
        paced = self._paced.get(tenant)
        if paced is None:
            drains = self.drain is not None and self.limit_of(tenant) is not None
            return self._make_pace(tenant) if drains else None
        if self.drain is None and _now() - paced.needed_at > _PACED_AFTERWARDS:
            del self._paced[tenant]
            return None
        limit = self.limit_of(tenant)
        if limit is not None and limit != paced.pace.limit:
            paced.pace.learn(LimitReading(limit=limit), _now())
        return paced

    def _make_pace(self, tenant: str, rate: float | None = None) -> _PacedTenant:
        """Return the pace of a tenant, a new one if it has none.

        Args:
            tenant: The tenant.
            rate: Requests a second at which a new one begins if the limit is unknown.
        """
        if tenant not in self._paced:
            if len(self._paced) >= _MOST_PACED:
                del self._paced[next(iter(self._paced))]  # It will be refused again.
            now = _now()
            pace = Pace(now, self.limit_of(tenant))
            if rate:
                pace.adaptive.per_second = rate
            self._paced[tenant] = _PacedTenant(pace, now)
        return self._paced[tenant]

    def limit_of(self, tenant: str) -> RateLimit | None:
        """Return what the region allows a tenant; None: nobody has said it."""
        return self._rate_limit or self.breaker.tenants.limit_of(tenant or None)

    @property
    def knows_limit(self) -> bool:
        """Whether a drain can be paced from its beginning."""
        return self.limit_of(NO_TENANT) is not None

    def rate(self) -> float | None:
        """Return the requests a second at which a drain is paced; None: it is measured."""
        paced = self._paced.get(NO_TENANT)
        return None if paced is None or self._uses_tenants else paced.pace.rate(_now())

    # Drains

    def begin_drain(self) -> RegionDrain:
        """Begin a drain, of which nobody knows yet how much there is to do, unless there is one."""
        if self.drain is None:
            self.drain = RegionDrain(self.breaker, self.rate)
            self.is_needed = True
        return self.drain

    def end_drain(self, drain: RegionDrain | None, *, why: str = "") -> None:
        """End a drain, if it is the one that is under way.

        Args:
            drain: The drain.
            why: Why it has ended before its time; empty if the backlog is gone.
        """
        if drain is None or drain is not self.drain:
            return
        drain.end(why)
        self.drain = None
        self.is_needed = self._uses_tenants
        throttled = self.breaker.throttled_tenants
        self._paced = {name: one for name, one in self._paced.items() if name in throttled}
        self._change()

    def _change(self) -> None:
        self.changes += 1
        self.wake()


def wait_asked_by(error: BaseException | None) -> float | None:
    """Return the seconds that a refusal asks to wait, 0.0 for an unknown time; None: it is none."""
    if isinstance(error, TenantThrottledError):
        return error.retry_after
    if not isinstance(error, Exception):
        return None
    _, root, status = examine(error)
    if not is_throttled(root, status):
        return None
    return read_limit(error).wait or 0.0


def _now() -> float:
    return asyncio.get_running_loop().time()
