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
    `retry_after`) sees HALF_OPEN from that moment too, and changes nothing.
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

from resilience.classify import Outcome
from resilience.policy import BreakerPolicy

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


class Closed:
    """Calls pass. Holds the streak, and `passed`: successes while there was none."""

    __slots__ = ("at", "failed_at", "passed", "quiet", "streak")
    name: ClassVar = CircuitState.CLOSED
    reason: ClassVar = None

    def __init__(self, at: float) -> None:
        self.at = at
        self.streak = 0
        self.failed_at = at
        self.passed = 0
        # True while a success changes nothing: it is the present state and has no streak.
        self.quiet = True


class Open:
    """Calls are rejected until the recovery timeout is over, or for good while `forced`."""

    __slots__ = ("at", "forced", "reason", "streak")
    name: ClassVar = CircuitState.OPEN

    def __init__(self, at: float, streak: int, reason: str, *, forced: bool = False) -> None:
        self.at = at
        self.streak = streak
        self.reason = reason
        self.forced = forced


class HalfOpen:
    """A few calls pass as probes; `reason` still says why the circuit had opened."""

    __slots__ = ("at", "probes", "reason", "streak", "successes", "touched_at")
    name: ClassVar = CircuitState.HALF_OPEN

    def __init__(self, at: float, streak: int, reason: str) -> None:
        self.at = at
        self.streak = streak
        self.reason = reason
        self.successes = 0
        self.probes: list[Probe] = []
        self.touched_at = at


class Probe:
    """The ticket of one probe: its place and how long it may keep it."""

    __slots__ = ("displaced", "opened", "since", "timeout")

    def __init__(
        self, since: float, timeout: float, opened: Transition | None, displaced: list[Probe]
    ) -> None:
        self.since = since
        self.timeout = timeout
        self.opened = opened  # the transition that this very probe brought about
        self.displaced = displaced  # the probes whose lease had run out, and whose place it took


Ticket: TypeAlias = Closed | Probe
Rejection: TypeAlias = tuple[CircuitState, str | None, float | None]  # state, reason, retry_after


class Circuit:
    """One circuit, as the rules above say.

    Args:
        policy: The thresholds. May be replaced at any time: what runs is judged by the new ones,
            except that a lease keeps its length.
        now: Seconds of the clock that all later times come from.
    """

    __slots__ = ("_passed", "failures", "ignored", "policy", "probes", "rejected", "state", "trips")

    def __init__(self, policy: BreakerPolicy, now: float) -> None:
        self.policy = policy
        self.state: Closed | Open | HalfOpen = Closed(now)
        self.failures = self.ignored = self.rejected = self.probes = self.trips = self._passed = 0

    # Deciding

    def acquire(self, now: float) -> Ticket | Rejection:
        """Admit a call, which gives its ticket, or reject it, which gives the reason."""
        state = self.state
        if isinstance(state, Closed):
            return state
        self.reanchor(now)
        opened = None
        if isinstance(state, Open):
            if state.forced or self.retry_after(now) != 0.0:
                return self._reject(state, now)
            timeout = self.policy.recovery_timeout
            state = HalfOpen(now, state.streak, state.reason)
            opened = self._enter(state, f"recovery timeout of {timeout:g} s elapsed", now)
        displaced = self._displaced(state, now)
        if displaced is None:
            return self._reject(state, now)
        return self._grant(state, Probe(now, self.policy.lease, opened, displaced))

    def record(
        self, ticket: Ticket, outcome: Outcome, reason: str, now: float
    ) -> Transition | None:
        """Take in what a call has to report; `reason` says what failed, if it did."""
        state = self.state
        if isinstance(state, HalfOpen) and ticket in state.probes:
            return self._record_probe(state, ticket, outcome, reason, now)
        if isinstance(state, Closed) and ticket is state:
            return self._record_closed(state, outcome, reason, now)
        return None

    def reset(self, now: float) -> Transition | None:
        """Close the circuit by hand, whatever it is; a CLOSED one starts afresh."""
        was_closed = isinstance(self.state, Closed)
        transition = self._enter(Closed(now), "reset by hand", now)
        return None if was_closed else transition

    def force_open(self, reason: str, now: float) -> Transition | None:
        """Open the circuit by hand until `reset`; doing it again for the same reason is nothing."""
        state = self.state
        if isinstance(state, Open) and state.forced and state.reason == reason:
            return None
        return self._enter(Open(now, state.streak, reason, forced=True), reason, now)

    # Looking

    def phase(self, now: float) -> CircuitState:
        """Say the state; an OPEN that is due is HALF_OPEN already."""
        state = self.state
        if isinstance(state, Open) and not state.forced and self.retry_after(now) == 0.0:
            return CircuitState.HALF_OPEN
        return state.name

    def phase_since(self, now: float) -> float:
        """Say since when it is what `phase` says."""
        due = isinstance(self.state, Open) and self.phase(now) is not self.state.name
        return self.state.at + self.policy.recovery_timeout if due else self.state.at

    def retry_after(self, now: float) -> float | None:
        """Say in how many seconds a call may be admitted; None while forced open."""
        state = self.state
        if isinstance(state, Closed):
            return 0.0
        if isinstance(state, Open):
            return None if state.forced else _left(state.at, self.policy.recovery_timeout, now)
        taken = len(state.probes) - self.policy.half_open_probes
        if taken < 0:
            return 0.0
        waits = sorted(_left(probe.since, probe.timeout, now) for probe in state.probes)
        return min(waits[taken], _MAX_WAIT_FOR_PLACE)

    @property
    def successes(self) -> int:
        """Successes since the start."""
        state = self.state
        return self._passed + (state.passed if isinstance(state, Closed) else 0)

    def spare(self, now: float) -> int | None:
        """Say how well one can do without this circuit: 0 best, 2 least, None not at all."""
        state = self.state
        if isinstance(state, Closed):
            if not state.streak:
                return 0
            quiet_since = state.failed_at
        elif isinstance(state, Open):
            if state.forced:
                return None
            quiet_since = state.at + self.policy.recovery_timeout
        else:
            quiet_since = state.touched_at
        return 1 if now - quiet_since >= _STALE_AFTER * self.policy.recovery_timeout else 2

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

    def _reject(self, state: Open | HalfOpen, now: float) -> Rejection:
        self.rejected += 1
        return state.name, state.reason, self.retry_after(now)

    def _displaced(self, state: HalfOpen, now: float) -> list[Probe] | None:
        """Find the overdue probes that must go for one more to start; None: there is no place."""
        too_many = len(state.probes) + 1 - self.policy.half_open_probes
        if too_many <= 0:
            return []
        overdue = [p for p in state.probes if _left(p.since, p.timeout, now) == 0.0]
        return overdue[:too_many] if len(overdue) >= too_many else None

    def _grant(self, state: HalfOpen, probe: Probe) -> Probe:
        state.probes = [p for p in state.probes if p not in probe.displaced] + [probe]
        state.touched_at = probe.since
        self.probes += 1
        return probe

    def _record_closed(
        self, state: Closed, outcome: Outcome, reason: str, now: float
    ) -> Transition | None:
        if outcome is Outcome.SUCCESS:
            state.passed += 1
            state.streak = 0
            state.quiet = True
        elif outcome is Outcome.IGNORED:
            self.ignored += 1
        else:
            self.failures += 1
            state.streak += 1
            state.failed_at = now
            state.quiet = False
            if state.streak >= self.policy.failure_threshold:
                self.trips += 1
                return self._enter(Open(now, state.streak, reason), reason, now)
        return None

    def _record_probe(
        self, state: HalfOpen, ticket: Ticket, outcome: Outcome, reason: str, now: float
    ) -> Transition | None:
        state.probes = [probe for probe in state.probes if probe is not ticket]
        state.touched_at = now
        if outcome is Outcome.FAILURE:
            self.failures += 1
            return self._enter(Open(now, state.streak + 1, reason), reason, now)
        if outcome is Outcome.IGNORED:
            self.ignored += 1
            return None
        self._passed += 1
        state.streak = 0
        state.successes += 1
        if state.successes < self.policy.success_threshold:
            return None
        plural = "success" if state.successes == 1 else "consecutive successes"
        return self._enter(Closed(now), f"{state.successes} {plural}", now)

    def _enter(self, new: Closed | Open | HalfOpen, reason: str, now: float) -> Transition:
        old = self.state
        if isinstance(old, Closed):
            old.quiet = False
            self._passed += old.passed
        self.state = new
        return Transition(old.name, new.name, reason, now, new.streak, self.retry_after(now))


def _left(since: float, timeout: float, now: float) -> float:
    """Say what is left of a time, rounded up: after so many seconds it is over, to the last bit."""
    due = min(since, now) + timeout
    if now >= due:
        return 0.0
    left = due - now
    return left if now + left >= due else left + math.ulp(due)
