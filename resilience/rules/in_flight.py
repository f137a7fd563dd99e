"""InFlight: the calls that have not ended, so that those without an answer can be counted."""

from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar


class RunningCall(Protocol):
    """What is looked at of a call."""

    since: float  # when it began, in seconds


Call = TypeVar("Call", bound=RunningCall)


@dataclass(slots=True, eq=False)
class InFlight(Generic[Call]):
    """The calls that may still turn out to be stranded.

    A call is stranded that is in flight for longer than it should be, while the region has answered
    none since it began. That is decided once for each call, at the moment when its time is over.
    """

    # In the order in which they began: a dictionary finds one of many in no time.
    _calls: dict[Call, None] = field(default_factory=dict[Call, None])

    def begin(self, call: Call) -> None:
        """Note that a call has begun."""
        self._calls[call] = None

    def end(self, call: Call) -> None:
        """Note that a call has ended."""
        self._calls.pop(call, None)

    def follow_clock(self, now: float) -> None:
        """Start the time of the oldest call again if the clock has stepped back behind it."""
        oldest = next(iter(self._calls), None)
        if oldest is not None and now < oldest.since:
            oldest.since = now

    def pop_overdue(self, seconds: float, now: float) -> Call | None:
        """Return the oldest call in flight for that long, and forget it; None: there is none.

        Args:
            seconds: How long.
            now: The time, in seconds.
        """
        oldest = next(iter(self._calls), None)
        if oldest is None or now - oldest.since < seconds:
            return None
        del self._calls[oldest]
        return oldest
