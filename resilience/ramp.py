"""Ramp: how many calls run at the same time after an outage, step by step.

Each step allows a number of calls at a time, and ends after that many calls were answered. The next
one allows more. A call that never ends keeps its place for the length of a lease, as a probe does.
"""

import math
from dataclasses import dataclass, field
from typing import Protocol

# A step that would allow more calls than this is the end: no process has as many in flight.
_FULL_SPEED = 1000


class RunningCall(Protocol):
    """What a ramp needs of a call."""

    since: float  # when it began, in seconds


@dataclass(slots=True, eq=False)
class Ramp:
    """The present step.

    Args:
        limit: The calls that may run at the same time.
        factor: By how much the limit grows with each step.
        lease: Seconds for which a call keeps its place.
    """

    limit: int
    factor: float
    lease: float
    _answers: int = 0  # in this step
    # In the order in which they began: a dictionary finds one of many in no time.
    _running: dict[RunningCall, None] = field(default_factory=dict["RunningCall", None])

    @property
    def reason(self) -> str:
        """Why a call has to wait, in short."""
        calls = "call" if self.limit == 1 else "calls"
        return f"ramping up after an outage, at most {self.limit} {calls} at a time"

    @property
    def is_over(self) -> bool:
        """Whether calls may run at full speed."""
        return self.limit > _FULL_SPEED

    def wait(self, now: float) -> float:
        """Return the seconds until a call may begin, as far as leases decide it."""
        if len(self._running) < self.limit:
            return 0.0
        oldest = next(iter(self._running))
        return max(0.0, oldest.since + self.lease - now)

    def follow_clock(self, now: float) -> None:
        """Start the oldest lease again if the clock has stepped back behind its start."""
        oldest = next(iter(self._running), None)
        if oldest is not None and now < oldest.since:
            oldest.since = now

    def begin(self, call: RunningCall) -> None:
        """Let a call run, in the place of the oldest one if there is no other."""
        if len(self._running) >= self.limit:
            del self._running[next(iter(self._running))]
        self._running[call] = None

    def is_running(self, call: object) -> bool:
        """Whether a call has its place."""
        return call in self._running

    def end(self, call: RunningCall, *, was_answered: bool) -> None:
        """Give back the place of a call; enough answers end the step."""
        if call not in self._running:
            return
        del self._running[call]
        self._answers += was_answered
        if self._answers >= self.limit:
            self._answers = 0
            self.limit = math.ceil(min(self.limit * self.factor, _FULL_SPEED + 1))
