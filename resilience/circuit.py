"""The state machine of one circuit: CLOSED, OPEN, HALF_OPEN.

                    failure_threshold failures in a row
          +--------+ ------------------------------------> +--------+
          | CLOSED |                                       |  OPEN  | <--- force_open
          +--------+ <--- reset                            +--------+
              ^                                             |      ^
              | success_threshold           recovery_timeout|      | one failed probe
              | successes in a row                 is over  v      |
              |                                         +-----------+
              +---------------------------------------- | HALF_OPEN |
                                                        +-----------+

The rules:

1.  Time goes in as `now`, a transition or nothing comes out. The circuit reads no clock, calls
    nobody, waits for nothing and takes no lock: whoever holds it serialises the calls to it.
2.  CLOSED admits every call. `failure_threshold` consecutive failures open the circuit; a success
    ends the streak.
3.  OPEN rejects every call until `now >= opened_at + recovery_timeout`.
4.  HALF_OPEN admits at most `half_open_probes` calls at a time. `success_threshold` consecutive
    successes close the circuit; one failure opens it for a full, fresh recovery timeout.
5.  OPEN becomes HALF_OPEN in the first `acquire` that is due. Who only looks (`phase`,
    `retry_after`) sees HALF_OPEN from that moment too, and makes no transition.
6.  A ticket belongs to the state that handed it out. Each transition, reset or forcing makes a new
    state, so that every older ticket has become late: what it reports changes nothing.
7.  A probe's ticket is good for one report. A CLOSED ticket is the state itself, shared by all its
    calls; who hands it on sees to it that each call reports once.
8.  A probe's place is a lease of its own. Once the lease has run out (`now >= its end`) the next
    caller may take the place, and only then the old probe is late; its siblings stay.
9.  An IGNORED outcome moves no streak; a probe's place is free again.
10. A clock that steps back behind the opening, or the start of a lease, starts that time anew: it
    never makes anything last longer than its full time from now.
11. A forced opening has no recovery timeout; only `reset` ends it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, TypeAlias

from resilience.classify import Outcome, Report
from resilience.policy import BreakerPolicy

RESET = "reset by hand"
# A probe may end at any moment: who was rejected beside one should ask again soon.
_MAX_WAIT_FOR_PLACE = 1.0
# So many recovery timeouts without a sign of life make what a circuit knows worthless.
_STALE_AFTER = 10


class CircuitState(StrEnum):
    """The states of a circuit (T10, "States")."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of a circuit: from what to what, why, and when."""

    old: CircuitState
    new: CircuitState
    reason: str
    at: float
    streak: int
    retry_after: float | None
    by: str | None = None  # who brought it about, where it was another process


@dataclass(slots=True, eq=False)
class Probe:
    """The ticket of one probe: its place, and how long it may keep it."""

    since: float
    timeout: float
    opened: Transition | None  # the transition that this very probe brought about
    displaced: tuple[float, ...]  # the time-outs of the overdue probes whose place it took


@dataclass(slots=True, eq=False)
class Closed:
    """Calls pass."""

    name: ClassVar = CircuitState.CLOSED
    reason: ClassVar = None
    at: float
    streak: int = 0
    touched_at: float = -math.inf
    # What the guards count by themselves, successes and ignored errors, without the lock.
    passed: int = 0
    ignored: int = 0
    refused = 0


@dataclass(slots=True, eq=False)
class Open:
    """Calls are rejected until the recovery timeout is over, or for good while `forced`."""

    name: ClassVar = CircuitState.OPEN
    at: float
    streak: int
    reason: str
    forced: bool = False
    # What `refuse` needs: from when until when it may, and what it counts without the lock.
    quiet_from: float = math.inf
    quiet_until: float = -math.inf
    due: float = math.inf
    refused: int = 0
    passed = ignored = 0


@dataclass(slots=True, eq=False)
class HalfOpen:
    """A few calls pass as probes; `reason` still says why the circuit had opened."""

    name: ClassVar = CircuitState.HALF_OPEN
    at: float
    streak: int
    reason: str
    touched_at: float
    successes: int = 0
    probes: tuple[Probe, ...] = ()
    passed = ignored = refused = 0


Ticket: TypeAlias = Closed | Probe
Rejection: TypeAlias = tuple[CircuitState, str | None, float | None]  # state, reason, retry_after


@dataclass(slots=True, eq=False)
class Circuit:
    """One circuit, as the rules above say.

    Args:
        policy: The thresholds. May be replaced at any time: what runs is judged by the new ones,
            except that a lease keeps its length.
        state: Where it starts: ``Closed(now)``.
    """

    policy: BreakerPolicy
    state: Closed | Open | HalfOpen
    successes: int = 0
    failures: int = 0
    ignored: int = 0
    rejected: int = 0
    probes: int = 0
    trips: int = 0

    # Deciding

    def acquire(self, now: float) -> Ticket | Rejection:
        """Admit a call, which gives its ticket, or reject it, which gives the reason."""
        state = self.state
        if isinstance(state, Closed):
            return state
        self.reanchor(now)
        wait = self.retry_after(now)
        if wait != 0.0:
            self.rejected += 1
            return state.name, state.reason, wait
        opened = None
        if isinstance(state, Open):
            reason = f"recovery timeout of {self.policy.recovery_timeout:g} s elapsed"
            state = HalfOpen(now, state.streak, state.reason, touched_at=now)
            opened = self._enter(state, reason, now)
        displaced = self._in_the_way(state, now)
        lease = self.policy.probe_timeout or self.policy.recovery_timeout
        probe = Probe(now, lease, opened, tuple(lost.timeout for lost in displaced))
        state.probes = (*(kept for kept in state.probes if kept not in displaced), probe)
        state.touched_at = now
        self.probes += 1
        return probe

    def record(self, ticket: Ticket, report: Report, now: float) -> Transition | None:
        """Take in what a call has to report."""
        state = self.state
        valid = state.probes if isinstance(state, HalfOpen) else (state,)
        if isinstance(state, Open) or ticket not in valid:
            return None
        outcome, reason = report
        if isinstance(state, HalfOpen):
            state.probes = tuple(probe for probe in state.probes if probe is not ticket)
            state.touched_at = now
        if outcome is Outcome.IGNORED:
            self.ignored += 1
            return None
        if outcome is Outcome.SUCCESS:
            self.successes += 1
            state.streak = 0
            return self._succeeded(state, now) if isinstance(state, HalfOpen) else None
        self.failures += 1
        state.streak += 1
        state.touched_at = now
        if isinstance(state, Closed):
            if state.streak < self.policy.failure_threshold:
                return None
            self.trips += 1
        return self._enter(Open(now, state.streak, reason), reason, now)

    def reset(self, now: float) -> Transition | None:
        """Close the circuit by hand, whatever it is; a CLOSED one starts afresh."""
        transition = self._enter(Closed(now), RESET, now)
        return None if transition.old is CircuitState.CLOSED else transition

    def force_open(self, reason: str, now: float) -> Transition | None:
        """Open the circuit by hand until `reset`; doing it again for the same reason is nothing."""
        if getattr(self.state, "forced", False) and self.state.reason == reason:
            return None
        return self._enter(Open(now, self.state.streak, reason, forced=True), reason, now)

    # Rejecting again

    def keep_quiet(self, since: float = math.inf, until: float = math.inf) -> None:
        """Say that rejections between two times are but counted, if it is not due; or none are."""
        if isinstance(state := self.state, Open):
            state.quiet_until = -math.inf  # who reads this takes no lock: shut it, then move it
            state.due = math.inf if state.forced else state.at + self.policy.recovery_timeout
            state.quiet_from, state.quiet_until = since, min(until, state.due)

    def refuse(self, now: float) -> Rejection | None:
        """Reject a call that `keep_quiet` spoke of, in no time and without the lock."""
        state = self.state
        if isinstance(state, Open) and state.quiet_from <= now < state.quiet_until:
            state.refused += 1
            return state.name, state.reason, None if state.forced else _until(state.due, now)
        return None

    # Looking

    def phase(self, now: float) -> CircuitState:
        """Say the state; an OPEN that is due is HALF_OPEN already."""
        due = isinstance(self.state, Open) and Circuit.retry_after(self, now) == 0.0
        return CircuitState.HALF_OPEN if due else self.state.name

    def phase_since(self, now: float) -> float:
        """Say since when it is what `phase` says."""
        due = self.phase(now) is not self.state.name
        return self.state.at + self.policy.recovery_timeout if due else self.state.at

    def retry_after(self, now: float) -> float | None:
        """Say in how many seconds a call may be admitted; None while forced open."""
        state = self.state
        if isinstance(state, Closed):
            return 0.0
        if isinstance(state, Open):
            return None if state.forced else time_left(state.at, self.policy.recovery_timeout, now)
        waits = (time_left(p.since, p.timeout, now) for p in self._in_the_way(state, now))
        return min(max(waits, default=0.0), _MAX_WAIT_FOR_PLACE)

    ask = retry_after  # for who means to call when the time has come

    def counts(self) -> tuple[int, int, int, int, int, int]:
        """Count since the start: successes, failures, ignored, rejected, probes, trips."""
        state, successes, ignored = self.state, self.successes, self.ignored
        judged = successes + state.passed, self.failures, ignored + state.ignored
        return *judged, self.rejected + state.refused, self.probes, self.trips

    def eviction_rank(self, now: float) -> int | None:
        """Say in which order a full registry lets go: 0 first, 2 last, None never."""
        state, timeout = self.state, self.policy.recovery_timeout
        if isinstance(state, Closed) and not state.streak:
            return 0
        if isinstance(state, Open) and state.forced:
            return None
        quiet_since = state.at + timeout if isinstance(state, Open) else state.touched_at
        return 1 if now - quiet_since >= _STALE_AFTER * timeout else 2

    # Rule 10

    def reanchor(self, now: float) -> None:
        """Follow a clock that stepped back."""
        state = self.state
        if isinstance(state, Open):
            state.at = min(state.at, now)
        elif isinstance(state, HalfOpen):
            for probe in state.probes:
                probe.since = min(probe.since, now)

    # The steps

    def _in_the_way(self, state: HalfOpen, now: float) -> tuple[Probe, ...]:
        """Find the probes that must go before one more may start: those whose lease ends first."""
        by_end = sorted(state.probes, key=lambda probe: time_left(probe.since, probe.timeout, now))
        return tuple(by_end[: max(0, len(by_end) + 1 - self.policy.half_open_probes)])

    def _succeeded(self, state: HalfOpen, now: float) -> Transition | None:
        state.successes += 1
        if state.successes < self.policy.success_threshold:
            return None
        plural = "success" if state.successes == 1 else "consecutive successes"
        return self._enter(Closed(now), f"{state.successes} {plural}", now)

    def _enter(self, new: Closed | Open | HalfOpen, reason: str, now: float) -> Transition:
        old = self.state
        self.successes, _, self.ignored, self.rejected, *_ = self.counts()
        self.state = new
        return Transition(old.name, new.name, reason, now, new.streak, self.retry_after(now))


def time_left(since: float, timeout: float, now: float) -> float:
    """Say what is left of a time, rounded up: after so many seconds it is over, to the last bit."""
    due = min(since, now) + timeout
    return 0.0 if now >= due else _until(due, now)


def _until(due: float, now: float) -> float:
    """Say how long it is until then, rounded up as above."""
    left = due - now
    return left if now + left >= due else left + math.ulp(due)
