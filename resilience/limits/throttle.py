"""Throttle: the wait of one tenant whose requests the server refuses.

The rules:

1.  A refusal (429) begins the wait: as long as the server asks, at most an hour. Where it asks for
    nothing the wait is 1 s, and twice as long with each further refusal in a row, at most 60 s.
2.  Until the wait is over no call may start. Then one call may, as the probe, and the rest waits
    on: a tenant that sends all it has at that moment is refused again.
3.  The probe's answer ends the throttle. A further refusal, of the probe or of a call that was
    under way before, prolongs the wait; it never shortens it.
4.  A probe that says nothing (it failed, or was cancelled) gives back its place, and the next call
    is the probe.
5.  The place of a probe is a lease. When it has run out the next call may take it; what the old
    probe reports from then on changes nothing, unless it is a refusal.
6.  A server may also say beforehand that nothing remains until a reset. That wait is a hold: it
    ends by itself, without a probe.
7.  A clock that steps back behind the start of a wait, or of a lease, starts that time again: none
    lasts longer than its full time from now.
"""

#: A probe may end at any moment: a call that was refused while it ran should come back soon.
MAX_WAIT_FOR_PROBE = 1.0
#: The longest wait: a server that asks for a year is asked again after an hour.
LONGEST_WAIT = 3600.0
# Waits that the server did not ask for.
_FIRST_WAIT, _LONGEST_OWN_WAIT = 1.0, 60.0
_MOST_REFUSALS = 16  # beyond, the wait no longer grows


class TenantProbe:
    """The leave of one call to find out whether its tenant may call again."""

    __slots__ = ("since", "tenant", "until")

    def __init__(self, tenant: str, since: float, until: float) -> None:
        self.tenant = tenant
        self.since = since
        #: From then on another call may take its place.
        self.until = until


class Throttle:
    """The wait of one tenant, by the rules above."""

    __slots__ = ("probe", "refusals", "since", "until")

    def __init__(self, now: float) -> None:
        self.since = now
        #: When the wait is over.
        self.until = now
        #: Refusals in a row; 0: the wait is a hold.
        self.refusals = 0
        self.probe: TenantProbe | None = None

    def refuse(self, asked: float | None, now: float) -> None:
        """Begin the wait after a refusal, or prolong it.

        Args:
            asked: Seconds that the server asks for; None: it asks for nothing.
            now: The time, in seconds.
        """
        self.follow_clock(now)
        if now >= self.until or not self.refusals:  # a burst of refusals is one
            self.count_refusal()
        own = min(_FIRST_WAIT * 2.0 ** (self.refusals - 1), _LONGEST_OWN_WAIT)
        self.hold(asked or own, now)

    def count_refusal(self) -> None:
        """Count one more refusal in a row."""
        self.refusals = min(self.refusals + 1, _MOST_REFUSALS)

    def hold(self, seconds: float, now: float) -> None:
        """Wait at least this many seconds from now."""
        until = now + min(seconds, LONGEST_WAIT)
        if until > self.until:
            self.since, self.until = now, until

    def start_probe(self, tenant: str, lease: float, now: float) -> TenantProbe | None:
        """Let a call be the probe; None: it must wait."""
        if self.wait(now) > 0.0:
            return None
        self.probe = TenantProbe(tenant, now, now + lease)
        return self.probe

    def end_probe(self, probe: TenantProbe) -> bool:
        """Take back the place of a probe; False: it is late."""
        if self.probe is not probe:
            return False
        self.probe = None
        return True

    def is_over(self, now: float) -> bool:
        """Whether it is a hold that has ended."""
        self.follow_clock(now)
        return not self.refusals and now >= self.until

    def wait(self, now: float) -> float:
        """Return the seconds until a call may start, as far as is known; 0.0 is now."""
        self.follow_clock(now)
        due = self.until if self.probe is None else max(self.until, self.probe.until)
        return max(0.0, due - now)

    def remaining(self, now: float) -> float:
        """Return the seconds that the wait itself still takes, whoever probes afterwards."""
        self.follow_clock(now)
        return max(0.0, self.until - now)

    def retry_after(self, now: float) -> float:
        """Return the seconds after which a call that may not start should come back."""
        wait = self.wait(now)
        is_probing = self.probe is not None and now >= self.until
        return min(wait, MAX_WAIT_FOR_PROBE) if is_probing else wait

    def follow_clock(self, now: float) -> None:
        """Start the running times again if the clock has stepped back behind their start."""
        if now < self.since:
            self.since, self.until = now, now + (self.until - self.since)
        probe = self.probe
        if probe is not None and now < probe.since:
            probe.since, probe.until = now, now + (probe.until - probe.since)
