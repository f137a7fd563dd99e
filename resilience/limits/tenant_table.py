"""TenantTable: what is known of the tenants of one region, as much as a bounded table holds."""

from collections.abc import Mapping
from dataclasses import dataclass

from resilience.limits.rate_limit import LimitReading, RateLimit
from resilience.limits.throttle import TenantProbe, Throttle

MAX_TENANTS = 10_000


@dataclass(frozen=True, slots=True)
class ThrottledTenants:
    """How many tenants of a region wait, and how long.

    Args:
        count: Tenants of which no call may start now.
        longest_wait: Seconds that the last of them still waits.
        waits: Seconds, by tenant.
    """

    count: int
    longest_wait: float
    waits: Mapping[str, float]


class TenantTable:
    """The throttles and the rate limits of the tenants of one region.

    `now` goes in, decisions come out: the table reads no clock, calls nobody and takes no lock. Its
    owner serialises the calls.

    A tenant of which nothing is known takes no place. A full table evicts the limit that was
    learned first, and the throttle whose last refusal is the longest ago: a tenant that is
    forgotten calls again, and is refused again.

    Args:
        max_tenants: The number of throttles, and of limits, that the table holds.
    """

    __slots__ = ("_limits", "_max_tenants", "region_limit", "throttles")

    def __init__(self, max_tenants: int = MAX_TENANTS) -> None:
        self._max_tenants = max_tenants
        #: By tenant; only those are in it whose next call may not simply start.
        self.throttles: dict[str, Throttle] = {}
        self._limits: dict[str, RateLimit] = {}
        #: What each tenant is allowed of which no limit of its own is known; None: unknown.
        self.region_limit: RateLimit | None = None

    # One call

    def start(self, tenant: str, lease: float, now: float) -> TenantProbe | float | None:
        """Ask whether a call may start.

        Args:
            tenant: Whose call it is.
            lease: Seconds after which another call may take the place of a probe.
            now: The time, in seconds.

        Returns:
            None: it may start. A probe: it may start as the probe, which must be ended. A number:
            it may not, and should come back after this many seconds.
        """
        throttle = self.throttles.get(tenant)
        if throttle is None:
            return None
        if throttle.is_over(now):
            del self.throttles[tenant]
            return None
        return throttle.start_probe(tenant, lease, now) or throttle.retry_after(now)

    def expects_call(self, tenant: str, now: float) -> float:
        """Return the seconds until a call may start, for a caller that means to call."""
        return self.wait_of(tenant, now)

    def refuse(
        self, tenant: str, asked: float | None, now: float, probe: TenantProbe | None = None
    ) -> float:
        """Throttle a tenant after its call was refused.

        Args:
            tenant: Whose call it was.
            asked: Seconds that the server asks for; None: it asks for nothing.
            now: The time, in seconds.
            probe: The call's, if it was one.

        Returns:
            Seconds until a call may start.
        """
        throttle = self._throttle(tenant, now)
        if probe is not None:
            throttle.end_probe(probe)
        throttle.refuse(asked, now)
        return throttle.wait(now)

    def succeed(self, probe: TenantProbe, now: float) -> bool:
        """End a throttle, because its probe was answered; False: it goes on."""
        throttle = self.throttles.get(probe.tenant)
        if throttle is None or not throttle.end_probe(probe) or throttle.wait(now) > 0.0:
            return False
        del self.throttles[probe.tenant]
        return True

    def give_back(self, probe: TenantProbe) -> None:
        """Take back the place of a probe that has found out nothing."""
        throttle = self.throttles.get(probe.tenant)
        if throttle is not None:
            throttle.end_probe(probe)

    def is_probing(self, probe: TenantProbe) -> bool:
        """Whether a call still has the place of the probe."""
        throttle = self.throttles.get(probe.tenant)
        return throttle is not None and throttle.probe is probe

    # A probe that is not a call: a message that a consumer attempts

    def begin_attempt(self, tenant: str, seconds: float, now: float) -> None:
        """Take note that something is attempted for a tenant that is throttled.

        Args:
            tenant: The tenant.
            seconds: How long the attempt may take.
            now: The time, in seconds.
        """

    def end_attempt(self, tenant: str) -> None:
        """Take note that the attempt has ended, whatever it has found out."""

    # What is known

    def learn(
        self,
        reading: LimitReading,
        tenant: str | None,
        now: float,
        probe: TenantProbe | None = None,
    ) -> float | None:
        """Take in what an answer says about a limit.

        Args:
            reading: What it says.
            tenant: Whose limit it is about; None: that of each tenant of the region.
            now: The time, in seconds.
            probe: Whose answer it is; None: it is not a probe's.

        Returns:
            Seconds until a call may start, where the answer has throttled the tenant, else None.
        """
        if reading.limit is not None:
            self._learn_limit(reading.limit, tenant)
        if tenant is None:
            return None
        if reading.is_throttled:
            return self.refuse(tenant, reading.wait, now, probe)
        if reading.remaining == 0.0 and reading.resets_in:
            return self.hold(tenant, reading.resets_in, now)
        return None

    def hold(self, tenant: str, seconds: float, now: float) -> float:
        """Let a tenant wait of which nothing remains; return the seconds until a call may start."""
        throttle = self._throttle(tenant, now)
        throttle.hold(seconds, now)
        return throttle.wait(now)

    def apply(self, tenant: str, wait: float, now: float) -> None:
        """Take over what somebody else has found out.

        Args:
            tenant: The tenant.
            wait: Seconds that it has to wait from now on; 0: its throttle has ended.
            now: The time, in seconds.
        """
        if wait > 0.0:
            throttle = self._throttle(tenant, now)
            throttle.refusals = max(throttle.refusals, 1)
            throttle.hold(wait, now)
        else:
            self.throttles.pop(tenant, None)

    def limit_of(self, tenant: str | None) -> RateLimit | None:
        """Return what a tenant is allowed; None: unknown."""
        own = None if tenant is None else self._limits.get(tenant)
        return own or self.region_limit

    def wait_of(self, tenant: str, now: float) -> float:
        """Return the seconds until a call may start, as far as is known; 0.0 is now."""
        throttle = self.throttles.get(tenant)
        return 0.0 if throttle is None else throttle.wait(now)

    def throttled(self, now: float) -> ThrottledTenants:
        """Return the tenants that wait now."""
        waits = {
            tenant: wait
            for tenant, throttle in self.throttles.items()
            if (wait := throttle.wait(now)) > 0.0
        }
        return ThrottledTenants(len(waits), max(waits.values(), default=0.0), waits)

    # Keeping

    def _throttle(self, tenant: str, now: float) -> Throttle:
        """Return the throttle of a tenant, the last one to be evicted."""
        throttle = self.throttles.pop(tenant, None) or Throttle(now)
        _make_room(self.throttles, self._max_tenants)
        self.throttles[tenant] = throttle
        return throttle

    def _learn_limit(self, limit: RateLimit, tenant: str | None) -> None:
        if tenant is None:
            self.region_limit = limit
            return
        if tenant not in self._limits:
            _make_room(self._limits, self._max_tenants)
        self._limits[tenant] = limit


def _make_room(table: dict[str, Throttle] | dict[str, RateLimit], most: int) -> None:
    """Evict the oldest entry of a full table."""
    if len(table) >= most:
        del table[next(iter(table))]
