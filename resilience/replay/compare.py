"""Comparing policies on one recording: as text, for people."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from resilience.policy import BreakerPolicy
from resilience.recording.policies import describe_policy
from resilience.recording.reader import Recorded, RegionRecording
from resilience.replay.engine import Replayed, Transit, replay

AS_RECORDED: Final = "as recorded"
# Changes of state that are printed for each policy.
_MOST_CHANGES = 20
# Seconds; two times of the same change may differ by as much, since they are rounded.
_SAME_TIME = 1e-3


@dataclass(frozen=True, slots=True)
class Comparison:
    """What several policies would have done with the calls of one region.

    Args:
        recorded: The calls.
        replayed: The results by the names of the policies, `AS_RECORDED` first.
    """

    recorded: RegionRecording
    replayed: dict[str, Replayed]

    @property
    def differences(self) -> int:
        """How many changes of state the replay of the recorded policy has not reproduced."""
        changes = [(change.old, change.new) for change in self.recorded.changes]
        times = [change.at for change in self.recorded.changes]
        same = self.replayed[AS_RECORDED].transitions
        wrong = abs(len(changes) - len(same))
        for change, at, transit in zip(changes, times, same, strict=False):
            is_same = change == (transit.old, transit.new) and abs(at - transit.at) <= _SAME_TIME
            wrong += not is_same
        return wrong

    def dominant(self) -> list[str]:
        """Return the best policies: no other is better in one respect and as good in the other.

        The respects are the requests that failed and the good calls that were rejected.
        """
        return [
            name
            for name, one in self.replayed.items()
            if not any(_is_better(other, one) for other in self.replayed.values())
        ]


def compare(recorded: RegionRecording, policies: Mapping[str, BreakerPolicy]) -> Comparison:
    """Replay the calls of a region as recorded, and under other policies.

    Args:
        recorded: The calls.
        policies: The policies by any names.
    """
    replayed = {AS_RECORDED: replay(recorded)}
    replayed.update((name, replay(recorded, policy)) for name, policy in policies.items())
    return Comparison(recorded, replayed)


def describe_comparison(compared: Comparison, clock_to_time: float) -> str:
    """Return a comparison as text.

    Args:
        compared: The comparison.
        clock_to_time: What must be added to the clock's seconds for seconds since 1970.
    """
    recorded = compared.recorded
    lines = [f"Region {recorded.region}: {recorded.count():,} calls"]
    lines += ["", *_table(compared.replayed)]
    for name, result in compared.replayed.items():
        policy = recorded.policy if result.policy is None else result.policy
        lines += ["", f"{name}: {describe_policy(policy)}"]
        lines += _changes(result.transitions, clock_to_time)
        lines += _uncertainty(result, clock_to_time)
    lines += ["", *_verdict(compared)]
    return "\n".join(lines)


def describe_recording(recorded: Recorded) -> str:
    """Return in a few sentences what a recording holds."""
    regions = "1 region" if len(recorded.regions) == 1 else f"{len(recorded.regions):,} regions"
    lines = [f"{recorded.count():,} recorded calls of {regions}."]
    if not recorded.is_complete:
        lines.append("Older calls were dropped from the recording.")
    if recorded.is_cut_off:
        lines.append("The end of the file is missing; all before it is used.")
    return "\n".join(lines)


def clock_time(at: float, clock_to_time: float) -> str:
    """Return a time of the recorded clock as a time of day, in UTC."""
    try:
        moment = datetime.fromtimestamp(at + clock_to_time, UTC)
    except (OverflowError, ValueError, OSError):  # a clock of a file may show anything
        return f"{at:.3f} s"
    return moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{moment.microsecond // 1000:03d}"


def _table(replayed: Mapping[str, Replayed]) -> list[str]:
    names = max(len(name) for name in replayed)
    head = f"{'':{names}}  opened  requests   failed  rejected  of them good"
    lines = [head]
    for name, one in replayed.items():
        opened = sum((each.old, each.new) == ("CLOSED", "OPEN") for each in one.transitions)
        lines.append(
            f"{name:{names}}  {opened:6,}  {one.made:8,}  {one.failed:7,}  {one.rejected:8,}"
            f"  {one.rejected_good:12,}"
        )
    return lines


def _changes(transitions: list[Transit], clock_to_time: float) -> list[str]:
    if not transitions:
        return ["  never opens"]
    lines = [
        f"  {clock_time(one.at, clock_to_time)}  {one.old} -> {one.new}: {one.reason}"
        for one in transitions[:_MOST_CHANGES]
    ]
    if len(transitions) > _MOST_CHANGES:
        lines.append(f"  and {len(transitions) - _MOST_CHANGES:,} more changes")
    return lines


def _uncertainty(result: Replayed, clock_to_time: float) -> list[str]:
    """Return where the answer depends on what would have been different."""
    lines: list[str] = []
    if result.assumed and result.assumed_from is not None:
        lines.append(
            f"  Not known: {result.assumed:,} calls that this policy admits were rejected when they"
            f" were recorded, from {clock_time(result.assumed_from, clock_to_time)} on. Each is"
            " taken to end as the next recorded call that said something about the region."
        )
    if result.policy is not None and result.rejects_recorded_from is not None:
        lines.append(
            "  Depends on the callers: from"
            f" {clock_time(result.rejects_recorded_from, clock_to_time)} on, this policy rejects"
            " calls that were made when they were recorded. Callers that repeat them, or wait,"
            " would have sent other traffic after that."
        )
    return lines


def _verdict(compared: Comparison) -> list[str]:
    lines: list[str] = []
    best = compared.dominant()
    if len(best) == len(compared.replayed) > 1:
        lines.append(
            "No policy dominates: each has fewer failed requests than another one, or rejects fewer"
            " good calls, or they are equal."
        )
    elif len(best) == 1:
        lines.append(
            f"{best[0]} dominates: no other policy has fewer failed requests, or rejects fewer good"
            " calls."
        )
    else:
        others = [name for name in compared.replayed if name not in best]
        lines.append(f"{', '.join(best)} dominate {', '.join(others)}; among them, it is a choice.")
    total, wrong = len(compared.recorded.changes), compared.differences
    if wrong:
        lines.append(
            f"The replay as recorded differs from what happened in {wrong:,} changes of state:"
            " another process, or calls that were not recorded, had a part in them."
        )
    else:
        lines.append(f"The replay as recorded reproduces all {total:,} changes of state.")
    return lines


def _is_better(one: Replayed, other: Replayed) -> bool:
    """Whether a result is better in one respect, and not worse in the other."""
    ours, theirs = (one.failed, one.rejected_good), (other.failed, other.rejected_good)
    return ours != theirs and ours[0] <= theirs[0] and ours[1] <= theirs[1]
