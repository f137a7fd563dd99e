"""Explanation: what a policy means, in figures and in plain sentences."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Final

_MINUTE: Final = 60.0
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_YEAR: Final = 365.25 * _DAY
# Below twice a unit, its number of the next smaller unit says more.
_UNITS: Final = (
    (1e6 * _YEAR, "million years"),
    (_YEAR, "years"),
    (_DAY, "days"),
    (_HOUR, "hours"),
    (_MINUTE, "min"),
)
_UNIMAGINABLE: Final = 1e9 * _YEAR


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """When a circuit opens, and what that costs; half of all times it takes no longer.

    Args:
        after: Seconds from the beginning of the trouble; infinite: it never opens.
        requests: Requests that are sent until then; infinite if that never happens.
    """

    after: float
    requests: float

    def __str__(self) -> str:
        """Describe it in a few words."""
        if self.after == inf:
            return "never opens"
        return f"opens after {_duration(self.after)}, which costs {_number(self.requests)} requests"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a policy means for one process; `str` makes sentences of it.

    Args:
        attempts: Attempts that a call makes at most.
        call_timeout: Seconds after which its client ends an attempt; None: never.
        calls_per_second: Calls that come in a second, at random moments.
        concurrency: Calls that run at the same time at most.
        full_outage: Every request is answered with an error.
        black_hole: No request is answered.
        errors_90: 90 % of the requests are answered with an error, at random.
        errors_50: 50 % of them are.
        closes_after: Seconds from opening until the circuit is closed again, if the region is back
            before the first probe.
        longest_wait: Seconds between two probes at most: a region that is back is noticed no later.
        healthy_error_rate: The share of failed requests at which the circuit of a region that is
            up opens by chance once in 30 days; 1.0: never.
        notes: What the figures do not say, such as a rule that can never trip.
    """

    attempts: int
    call_timeout: float | None
    calls_per_second: float
    concurrency: int
    full_outage: Opening
    black_hole: Opening
    errors_90: Opening
    errors_50: Opening
    closes_after: float
    longest_wait: float
    healthy_error_rate: float
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Explain it in sentences, one on each line."""
        return "\n".join(self._sentences())

    def _sentences(self) -> Iterator[str]:
        attempts = "1 attempt" if self.attempts == 1 else f"up to {self.attempts} attempts"
        limit = "without a timeout"
        if self.call_timeout is not None:
            limit = f"of {self.call_timeout:g} s at most"
        yield (
            f"{self.calls_per_second:g} calls per second, {self.concurrency} at a time at most,"
            f" with {attempts} each, {limit}:"
        )
        yield f"- Every request fails: {self.full_outage}."
        yield f"- No request is answered: {self.black_hole}."
        yield f"- 90 % of the requests fail: {self.errors_90}."
        yield f"- 50 % of the requests fail: {self.errors_50}."
        yield (
            f"- Closed again {_duration(self.closes_after)} after opening, if the region is back by"
            f" then. Between two probes there are {_duration(self.longest_wait)} at most."
        )
        if self.healthy_error_rate < 1:
            rate = f"{100 * self.healthy_error_rate:.2g} %"
            yield f"- Opens by chance once a month where {rate} of the requests fail."
        else:
            yield "- Does not open by chance."
        yield from (f"- {note}." for note in self.notes)


def _duration(seconds: float) -> str:
    if seconds >= _UNIMAGINABLE:
        return "more than a billion years"
    for length, unit in _UNITS:
        if seconds >= 2 * length:
            return f"{_number(seconds / length)} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004 - digits


def _number(number: float) -> str:
    """Return a number with three digits that count."""
    if number >= 1e9:  # noqa: PLR2004 - beyond which nobody counts zeros
        return f"{number:.0e}"
    return f"{float(f'{number:.3g}'):,.0f}" if number >= 10 else f"{number:.3g}"  # noqa: PLR2004
