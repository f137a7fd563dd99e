"""The report of one page about an outage: what happened, and what other policies had done."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from resilience._text import display_name
from resilience.policy import BreakerPolicy
from resilience.recording.layout import MICROSECOND, Kind
from resilience.recording.policies import describe_policy
from resilience.recording.reader import ANSWERS, FAILURES, Change, RegionRecording, read_recording
from resilience.recovery import Backoff
from resilience.replay.compare import clock_time
from resilience.replay.engine import Replayed, replay

# Words before the outage that the other policies get to see.
_BEFORE = 10_000
_FACTOR = 2
_OTHER_RATE = 0.5


@dataclass(frozen=True, slots=True)
class _Outage:
    """A time from opening to closing, among the words of a region."""

    opened: Change
    closed: Change
    trips: int  # in HALF_OPEN, the failed probes


def report_outage(path: Path, take: Callable[[str], object], region: str) -> None:
    """Call a function with the report of a region's latest outage.

    Args:
        path: The recording.
        take: Takes the report.
        region: The region.
    """
    reports = incident_reports(path, display_name(region))
    if reports:
        take(reports[-1])


def incident_reports(path: str | Path, region: str | None = None) -> list[str]:
    """Return a report of one page about each outage in a recording.

    Args:
        path: The file.
        region: Of this region only; None: of all.

    Raises:
        OSError: The file cannot be read.
        NotARecordingError: It is not a recording, or it is damaged.
    """
    recorded = read_recording(path)
    return [
        _report(one, outage, recorded.clock_to_time)
        for one in recorded.regions
        if region in (None, one.region)
        for outage in _outages(one.changes)
    ]


def other_policies(policy: BreakerPolicy) -> dict[str, BreakerPolicy]:
    """Return three other policies by names: one that opens sooner, one by rate, short waits."""
    rate = policy.failure_rate_threshold
    other_rate = _OTHER_RATE if rate is None else rate / _FACTOR
    return {
        "half as many failures in a row": _opens_sooner(policy),
        f"a failure rate of {100 * other_rate:g} %": replace(
            policy, failure_rate_threshold=other_rate
        ),
        "half the recovery timeout": _probes_sooner(policy),
    }


def _opens_sooner(policy: BreakerPolicy) -> BreakerPolicy:
    threshold = max(1, policy.failure_threshold // _FACTOR)
    window = None if threshold == 1 else policy.streak_window
    return replace(policy, failure_threshold=threshold, streak_window=window)


def _probes_sooner(policy: BreakerPolicy) -> BreakerPolicy:
    timeout = policy.recovery_timeout
    if isinstance(timeout, Backoff):
        return replace(policy, recovery_timeout=replace(timeout, first=timeout.first / _FACTOR))
    return replace(policy, recovery_timeout=timeout / _FACTOR)


def _outages(changes: list[Change]) -> list[_Outage]:
    outages: list[_Outage] = []
    opened: Change | None = None
    trips = 0
    for change in changes:
        if change.old == "CLOSED" and change.new == "OPEN":
            opened, trips = change, 0
        elif change.new == "OPEN":
            trips += 1
        elif change.new == "CLOSED" and opened is not None:
            outages.append(_Outage(opened, change, trips))
            opened = None
    return outages


def _report(recorded: RegionRecording, outage: _Outage, clock_to_time: float) -> str:
    opened, closed = outage.opened, outage.closed
    begin, end = (_first_at(recorded, change.at) for change in (opened, closed))
    lines = [
        f"Outage of region {recorded.region}",
        "",
        f"Opened      {clock_time(opened.at, clock_to_time)}  by: {opened.reason}",
        f"Closed      {clock_time(closed.at, clock_to_time)}  by: {closed.reason}",
        f"Lasted      {closed.at - opened.at:.1f} s, with {outage.trips} failed probes",
        _requests_before(recorded, begin),
        f"Rejected    {_count(recorded, begin, end, {int(Kind.REJECTED)}):,} calls",
        _healthy(recorded, begin, end),
        "",
        f"Policy      {describe_policy(recorded.policy)}",
        "",
        "What three other policies would have done with the same calls:",
        "",
    ]
    part = _part_of(recorded, begin, end)
    results = {"as it was": replay(part)}
    results.update((name, replay(part, one)) for name, one in other_policies(part.policy).items())
    lines += _table(results, opened)
    lines += [
        "",
        "How calls would have ended that were rejected is not known. They are taken to end as the",
        "next call did that said something about the region.",
    ]
    return "\n".join(lines)


def _requests_before(recorded: RegionRecording, begin: int) -> str:
    """Return after how many requests since the last answer the circuit opened."""
    requests = failed = 0
    for index in range(begin - 1, -1, -1):
        kind = recorded.words[index] & 15
        if kind in ANSWERS:
            break
        if index in recorded.counted:
            continue
        requests += kind != Kind.REJECTED
        failed += kind in FAILURES
    return f"Requests    {requests:,} since the last answer, of which {failed:,} failed"


def _healthy(recorded: RegionRecording, begin: int, end: int) -> str:
    """Return how late the circuit can have found out that the region is back."""
    last_failed = first_good = None
    for index in range(begin, end):
        kind = recorded.words[index] & 15
        if kind in FAILURES:
            last_failed, first_good = recorded.times[index], None
        elif kind in ANSWERS and first_good is None:
            first_good = recorded.times[index]
    if first_good is None:
        return "Healthy     it was not asked: the circuit was closed by hand, or by another process"
    if last_failed is None:
        last_failed = recorded.times[max(0, begin - 1)]
    late = (first_good - last_failed) / MICROSECOND
    return (
        f"Healthy     found at most {late:.1f} s after it was: nobody asked between the last failed"
        " and the first good probe"
    )


def _count(recorded: RegionRecording, begin: int, end: int, kinds: set[int]) -> int:
    return sum(word & 15 in kinds for word in recorded.words[begin:end])


def _first_at(recorded: RegionRecording, at: float) -> int:
    """Return the index behind the last word that is not later than a change."""
    moment = round(at * MICROSECOND)
    times = recorded.times
    index = len(times)
    while index and times[index - 1] > moment:
        index -= 1
    return index


def _part_of(recorded: RegionRecording, begin: int, end: int) -> RegionRecording:
    """Return the words of an outage and those before it, as a separate recording."""
    first = max(0, begin - _BEFORE)
    if first == 0:
        return replace(
            recorded,
            words=recorded.words[:end],
            times=recorded.times[:end],
            _likely_kinds=None,
            while_running={key: n for key, n in recorded.while_running.items() if key < end},
        )
    return RegionRecording(
        recorded.region,
        policy=recorded.policy,
        words=recorded.words[first:end],
        times=recorded.times[first:end],
        actions={
            index - first: action
            for index, action in recorded.actions.items()
            if first <= index < end
        },
    )


def _table(results: Mapping[str, Replayed], opened: Change) -> list[str]:
    names = max(map(len, results))
    lines = [f"{'':{names}}     opened  failed requests  rejected  of them good"]
    for name, one in results.items():
        trips = [transit for transit in one.transitions if transit.old == "CLOSED"]
        when = "never" if not trips else f"{trips[-1].at - opened.at:+.1f} s"
        lines.append(
            f"{name:{names}}  {when:>9}  {one.failed:15,}  {one.rejected:8,}"
            f"  {one.rejected_good:12,}"
        )
    return lines
