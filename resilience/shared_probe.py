"""ProbeLease: which process of a fleet probes for one throttled tenant, and since when.

It is what one process knows of it. See `shared_tenant_table`, and `shared_lease` for the probes of
circuits.
"""

import math
from dataclasses import dataclass
from typing import Final

from resilience.shared_lease import ANSWER_TIMEOUT, HEAD_START

# All times are seconds.
# A lease is kept this long without an attempt. A message worker looks once a second.
_KEPT_UNUSED: Final = 1.0
# The holder renews the lease this many times before it would run out.
_RENEWALS: Final = 3


@dataclass(slots=True)
class ProbeLease:
    """The fleet's lease for the probe of one tenant, as far as this process knows."""

    #: When this process requested it; None: it has not.
    requested_at: float | None = None
    #: Another process holds it until then, or is to be left the time to take it.
    taken_until: float = -math.inf
    #: This process holds it until then, unless it renews it.
    mine_until: float = -math.inf
    #: Since when this process has held it without an attempt.
    idle_since: float = 0.0
    #: An attempt runs until then at the latest, and may take this long.
    busy_until: float = -math.inf
    busy_for: float = 0.0
    #: Whether this process has given it back, and has to leave the others a head start.
    was_returned: bool = False

    def taken_for(self, now: float) -> float:
        """Return the seconds for which another process holds it, as far as is known."""
        if self.was_returned:
            self.was_returned = False
            self.taken_until = max(self.taken_until, now + HEAD_START)
        return max(0.0, self.taken_until - now)

    def is_mine(self, now: float) -> bool:
        """Whether this process holds it."""
        return now < self.mine_until

    def is_busy(self, now: float) -> bool:
        """Whether an attempt runs under it."""
        return now < self.busy_until

    def request(self, now: float) -> float:
        """Request it; return the seconds until the answer counts as missing."""
        if self.requested_at is None:
            self.requested_at = now
        return max(0.0, self.requested_at + ANSWER_TIMEOUT - now)

    # What the store answers

    def grant(self, until: float, now: float) -> None:
        """Hold it from now on."""
        if not self.is_mine(now):
            self.idle_since = now
        self.mine_until = until
        self.taken_until = -math.inf

    def refuse(self, until: float) -> None:
        """Leave it to another process, which holds it until then."""
        self.mine_until = -math.inf
        self.taken_until = until
        self.requested_at = None

    # What this process does with it

    def use(self, seconds: float, now: float) -> None:
        """Attempt something under it, which may take this many seconds."""
        self.busy_until, self.busy_for = now + seconds, seconds

    def give_back(self) -> None:
        """Let another process have it: what was attempted has found out nothing."""
        self.mine_until = self.busy_until = -math.inf
        self.requested_at = None
        self.was_returned = True

    def let_go(self) -> None:
        """Hold it no more, since no call has come for it."""
        self.mine_until = -math.inf

    def next_action_in(self, duration: float, now: float) -> float:
        """Return the seconds until it must be renewed, or let go.

        Args:
            duration: Seconds that it lasts without being renewed.
            now: The time, in seconds.
        """
        if self.is_busy(now):
            due = self.mine_until - duration * (_RENEWALS - 1) / _RENEWALS
        else:
            due = max(self.idle_since, min(self.busy_until, now)) + _KEPT_UNUSED
        return max(0.0, due - now)

    def follow_clock(self, duration: float, now: float) -> None:
        """Start the running times again if the clock has stepped back behind their start."""
        if self.requested_at is not None:
            self.requested_at = min(self.requested_at, now)
        self.taken_until = min(self.taken_until, now + duration)
        self.mine_until = min(self.mine_until, now + duration)
        self.idle_since = min(self.idle_since, now)
        self.busy_until = min(self.busy_until, now + self.busy_for)
