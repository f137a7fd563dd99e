"""The lease that admits one process of the fleet at a time to probe, and the calls that want it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from resilience.circuit import time_until
from resilience.circuit_states import Probe
from resilience.shared_record import RecordView

# All times are seconds.
# A due call waits this long for the store to answer its request.
ANSWER_TIMEOUT: Final = 0.25
# A lease is kept this long without a call. Calls that are further apart than this are rare.
UNUSED_LEASE: Final = 0.5
# Rare calls keep it for this many times their distance, up to half of the lease. Otherwise many
# processes with rare calls would take it from each other, and none of them would use it.
_TIMES_APART: Final = 1.5
# A probe without a result was cancelled, perhaps with its whole process: another should probe soon.
_UNUSED_AFTER_CANCELLATION: Final = 0.1
# The process that opened the circuit, or gave the lease back, leaves the others this head start.
HEAD_START: Final = 0.25
# The holder renews the lease this many times before it would run out.
_RENEWALS: Final = 3


@dataclass(slots=True)
class Lease:
    """The fleet's lease, as far as this process knows.

    Args:
        duration: Seconds that it lasts without being renewed.
    """

    duration: float
    mine: bool = False
    # Another process held it until then, or a change of the record has just freed it.
    taken_until: float = 0.0
    # When this process last made use of it, and how long it keeps it from then on.
    used_at: float = 0.0
    keep_for: float = UNUSED_LEASE
    returned_at: float = -math.inf
    # What the store answered last.
    _seen_at: float = 0.0
    _left_when_seen: float = 0.0

    def update(self, view: RecordView, now: float, *, is_news: bool) -> None:
        """Follow the record; `is_news` means that its version has changed."""
        seen_at = now - view.delay
        if not view.lease_is_mine and (view.lease_left > 0.0 or (is_news and not self.mine)):
            self.taken_until = seen_at + view.lease_left
        self.mine = view.lease_is_mine
        self._seen_at = seen_at
        self._left_when_seen = view.lease_left

    def left(self, now: float) -> float:
        """Return the seconds until it runs out, whichever process holds it."""
        return time_left(self._seen_at, self._left_when_seen, now)

    def is_valid(self, now: float) -> bool:
        """Whether this process holds it, and it has not run out."""
        return self.mine and self.left(now) > 0.0

    def use(self, now: float, *, was_cancelled: bool = False) -> None:
        """Keep it from now on: a probe has begun or ended."""
        self.used_at = now
        if was_cancelled:
            self.used_at -= self.keep_for - _UNUSED_AFTER_CANCELLATION

    def adapt_to_calls(self, seconds_apart: float) -> None:
        """Keep it longer without a call where calls are rare."""
        seconds = _TIMES_APART * seconds_apart
        is_rare = UNUSED_LEASE < seconds <= self.duration / 2
        self.keep_for = seconds if is_rare else UNUSED_LEASE

    def follow_clock(self, now: float) -> None:
        """Start the running times again if the clock has stepped back behind their start."""
        self._seen_at = min(self._seen_at, now)
        self.used_at = min(self.used_at, now)
        self.returned_at = min(self.returned_at, now)
        self.taken_until = min(self.taken_until, now + self.duration)

    def next_action_in(self, probes: Sequence[Probe], now: float) -> float:
        """Return the seconds until the holder must renew it or give it back."""
        if is_any_running(probes, now):
            return time_left(self._seen_at, self.duration / _RENEWALS, now)
        hangs = any(probe.since >= self.used_at for probe in probes)
        return 0.0 if hangs else time_left(self.used_at, self.keep_for, now)

    def is_to_be_returned(self, probes: Sequence[Probe], now: float) -> bool:
        """Whether no call has come for it, or its probe hangs."""
        return not is_any_running(probes, now) and self.next_action_in(probes, now) == 0.0


@dataclass(slots=True)
class DueCalls:
    """The calls of this process that found the circuit due: a new object for each state."""

    requested_at: float | None = None  # when a request for the lease was made, until its answer
    last_at: float = -math.inf
    expected_at: float = math.inf  # when the last one may come back
    late_in_a_row: int = 0  # this many came much later than that

    def are_rare(self, now: float) -> bool:
        """Whether they come too late for the lease that they have requested."""
        if now - self.last_at <= UNUSED_LEASE:
            return False
        return self.late_in_a_row > 0 or now - self.expected_at > ANSWER_TIMEOUT

    def follow_clock(self, now: float) -> None:
        """Start the running times again if the clock has stepped back behind their start."""
        if self.requested_at is not None:
            self.requested_at = min(self.requested_at, now)
        self.last_at = min(self.last_at, now)

    def note(self, now: float) -> None:
        """Note that one has come."""
        self.late_in_a_row = self.late_in_a_row + 1 if self.are_rare(now) else 0

    def answer(self, now: float, wait: float) -> None:
        """Note that it may come back after some seconds."""
        self.last_at = now
        self.expected_at = now + wait


def is_any_running(probes: Sequence[Probe], now: float) -> bool:
    """Whether a probe runs within its time-out."""
    return any(now < probe.until for probe in probes)


def time_left(since: float, duration: float, now: float) -> float:
    """Return the seconds until `duration` has passed."""
    # The end is finite, so that the answer is never None.
    return time_until(since + duration, now) or 0.0
