"""The state machine of one circuit: CLOSED, OPEN, HALF_OPEN.

                    failure_threshold consecutive failures
          +--------+ -----------------------------------> +--------+
          | CLOSED |                                      |  OPEN  | <--- force_open
          +--------+ <--- reset                           +--------+
              ^                                            |      ^
              | success_threshold         recovery_timeout |      | one failed probe
              | consecutive answers             has passed v      |
              |                                       +-----------+
              +-------------------------------------- | HALF_OPEN |
                                                      +-----------+

The rules:

1.  `now` goes in, and what changed is appended to `events`, in order. The circuit reads no clock,
    calls nobody, waits for nothing and takes no lock: its owner serialises the calls to it and
    delivers its events.
2.  CLOSED admits every call. `failure_threshold` consecutive failures trip the circuit. A success
    ends the streak.
3.  OPEN rejects every call until `now >= until`, which is the opening plus the recovery timeout.
4.  HALF_OPEN admits at most `half_open_probes` calls at a time. `success_threshold` consecutive
    answers close the circuit: a success is one, and so is ANSWERED, since a region that refuses a
    request is up. One failure opens it again for a full recovery timeout.
5.  OPEN becomes HALF_OPEN in the first `acquire` that is due. `phase` and `retry_after` show
    HALF_OPEN from that moment on, and change nothing.
6.  A ticket belongs to the state that issued it. Each transition, reset and forced opening makes a
    new state, so that every older ticket is late. A late ticket changes nothing.
7.  A probe's ticket is good for one report. The ticket of a call in CLOSED is the state itself,
    shared by all its calls; the owner of the circuit makes sure that each call reports once.
8.  A probe's place is a lease of its own. When the lease has run out (`now >= until`) the next call
    may take the place, and only then is the old probe late. Its siblings keep their places.
9.  An ANSWERED or IGNORED outcome leaves the streak as it is. It gives back the place of a probe.
10. A clock that steps back behind the start of an OPEN, or of a lease, starts that time again: no
    state lasts longer than its full time from now.
11. A forced opening has no end; only `reset` closes it.
12. What may be done inside of a probe is decided elsewhere: the attempts of retry loops in
    `permit.py`, nested calls in `breaker.py`.
13. A circuit whose probes are all IGNORED can neither close nor open. After ten of them in a row,
    with no other outcome between them, there is an event, and one more for each recovery timeout
    that this goes on. It names what the probes reported last.
"""

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import ClassVar, NamedTuple, TypeAlias

from resilience.limits import TenantTable
from resilience.outcome import Outcome, Report
from resilience.policy import BreakerPolicy

RESET = "reset by hand"
# A probe may end at any moment: a call that was rejected while it ran should come back soon.
MAX_WAIT_FOR_PROBE = 1.0
# After this many recovery timeouts without a sign of life, what a circuit knows is worthless.
_STALE_AFTER = 10
# After this many IGNORED probes in a row, the circuit may stay HALF_OPEN without end.
_IGNORED_PROBES_TO_REPORT = 10
# Of the reasons of IGNORED probes, this many different ones are remembered.
_MOST_REASONS = 5


class CircuitState(StrEnum):
    """The states of a circuit."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


# The states. Each holds its own data only. The object is also the generation: the result of a call
# counts while the state that admitted the call is still the state of the circuit.


@dataclass(slots=True, eq=False)
class Closed:
    """Every call is admitted. The state is the ticket of all its calls."""

    name: ClassVar[CircuitState] = CircuitState.CLOSED
    reason: ClassVar[None] = None
    since: float
    streak: int = 0
    last_activity: float = -math.inf
    failures: int = 0
    successes: int = 0  # counted without the lock
    answered: int = 0  # counted without the lock
    ignored: int = 0  # counted without the lock


@dataclass(slots=True, eq=False)
class Open:
    """Every call is rejected until the recovery timeout has passed."""

    name: ClassVar[CircuitState] = CircuitState.OPEN
    since: float
    until: float  # infinite while the circuit is forced open
    streak: int
    reason: str
    rejected: int = 0  # counted without the lock

    @property
    def is_forced(self) -> bool:
        """Whether only `reset` ends it."""
        return self.until == math.inf


@dataclass(slots=True, eq=False)
class HalfOpen:
    """A few calls are admitted as probes. `reason` still says why the circuit opened."""

    name: ClassVar[CircuitState] = CircuitState.HALF_OPEN
    since: float
    streak: int
    reason: str
    last_activity: float
    successes: int = 0  # those that were ANSWERED are among them
    answered: int = 0
    rejected: int = 0
    probes: "list[Probe]" = field(default_factory=list["Probe"])
    ignored_probes: int = 0  # in a row
    ignored_reasons: tuple[str, ...] = ()  # of those, without repetitions, the latest last
    reported_at: float = -math.inf  # when the last event about them was appended


@dataclass(slots=True, eq=False)
class Probe:
    """The ticket of one call in HALF_OPEN. From `until` on another call may take its place."""

    since: float
    until: float


State: TypeAlias = Closed | Open | HalfOpen
Ticket: TypeAlias = Closed | Probe


class Rejection(NamedTuple):
    """The answer to a call that is not admitted."""

    state: CircuitState
    reason: str
    retry_after: float | None


# The events, in the order in which the circuit appends them.


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """The circuit changed its state."""

    old: CircuitState
    new: CircuitState
    reason: str
    at: float
    streak: int
    retry_after: float | None
    rejected: int  # calls that were rejected in the old state
    duration: float  # seconds that the old state lasted
    by: str | None = None  # the process that caused it, where that was another one


@dataclass(frozen=True, slots=True)
class ProbeExpired:
    """A probe gave no result within its lease, and another call took its place."""

    after: float


@dataclass(frozen=True, slots=True)
class RejectionsBegan:
    """The first call of an outage was rejected. An outage lasts until the circuit is CLOSED."""

    state: CircuitState
    reason: str


@dataclass(frozen=True, slots=True)
class ProbesIgnored:
    """Probe after probe was IGNORED: the circuit can neither close nor open."""

    count: int  # in a row
    reasons: tuple[str, ...]  # what they reported, without repetitions


Event: TypeAlias = Transition | ProbeExpired | RejectionsBegan | ProbesIgnored


@dataclass(slots=True)
class Totals:
    """Counts since the start."""

    successes: int = 0
    failures: int = 0
    answered: int = 0
    ignored: int = 0
    rejected: int = 0
    probes: int = 0
    trips: int = 0


class Circuit:
    """One circuit, by the rules above.

    Args:
        policy: The thresholds.
        now: Seconds; the circuit starts CLOSED at this moment.
    """

    __slots__ = (
        "_outage_was_reported",
        "_probe_lease",
        "_totals",
        "events",
        "policy",
        "shared",
        "state",
        "transitions",
    )

    def __init__(self, policy: BreakerPolicy, now: float) -> None:
        self.policy = policy
        self.state: State = Closed(now)
        #: What happened and was not delivered yet, in order.
        self.events: list[Event] = []
        #: How often the state changed since the start, by the old and the new state.
        self.transitions: dict[tuple[CircuitState, CircuitState], int] = {}
        #: Whether other processes share it; None: it belongs to this process alone.
        self.shared: bool | None = None
        self._probe_lease = policy.probe_lease
        self._totals = Totals()
        self._outage_was_reported = False

    # One call

    def acquire(self, now: float) -> Ticket | Rejection:
        """Admit a call, or reject it."""
        self.follow_clock(now)
        state = self.state
        if isinstance(state, Closed):
            return state
        if isinstance(state, Open) and now >= state.until:
            return self.start_probe(state, now)
        wait = self.retry_after(now)
        if wait != 0.0:
            return self.count_rejection(state, wait, now)
        return self.start_probe(state, now)

    def reject(self, now: float) -> Open | None:
        """Reject a call of an OPEN circuit that is not due, quickly and without the lock.

        The first rejection in an OPEN state is left to `acquire`, which reports it.

        Returns:
            The state that rejects the call; None if `acquire` must decide.
        """
        state = self.state
        if isinstance(state, Open) and state.rejected and state.since <= now < state.until:
            state.rejected += 1
            return state
        return None

    def admits_without_asking(self) -> Closed | None:
        """Return the CLOSED state if calls may start without `acquire`, else None."""
        return self.state if isinstance(self.state, Closed) else None

    def record(self, ticket: Ticket, report: Report, now: float) -> None:
        """Count the result of a call, unless its ticket is late."""
        state = self.state
        if isinstance(state, HalfOpen):
            if not isinstance(ticket, Probe) or ticket not in state.probes:
                return
            probes = list(state.probes)  # a new list: `Permit` reads it without the lock
            probes.remove(ticket)
            state.probes = probes
            state.last_activity = now
        elif ticket is not state:
            return
        if report.outcome is Outcome.FAILURE:
            self._record_failure(state, report.reason, now)
            return
        if report.outcome is Outcome.IGNORED:
            self._totals.ignored += 1
            if isinstance(state, HalfOpen):
                self._note_ignored_probe(state, report.reason, now)
            return
        was_refused = report.outcome is Outcome.ANSWERED
        if was_refused:
            self._totals.answered += 1
        else:
            self._totals.successes += 1
            state.streak = 0
        if isinstance(state, HalfOpen):
            state.ignored_probes, state.ignored_reasons = 0, ()
            state.successes += 1
            state.answered += was_refused
            if state.successes >= self.policy.success_threshold:
                self.close_recovered(state, now)

    # Manual control

    def make_tenant_table(self) -> TenantTable:
        """Return the table for what is known of the region's tenants, a new one."""
        return TenantTable()

    def configure(self, policy: BreakerPolicy) -> None:
        """Change the thresholds; an OPEN circuit follows immediately, a lease keeps its end."""
        self.policy = policy
        self._probe_lease = policy.probe_lease
        state = self.state
        if isinstance(state, Open) and not state.is_forced:
            state.until = state.since + policy.recovery_timeout

    def reset(self, now: float) -> None:
        """Close the circuit, whatever its state; a CLOSED one loses its streak."""
        self.enter(Closed(now), RESET, now)

    def force_open(self, reason: str, now: float) -> None:
        """Open the circuit until `reset`; the same reason again changes nothing."""
        state = self.state
        if isinstance(state, Open) and state.is_forced and state.reason == reason:
            return
        self.enter(Open(now, math.inf, state.streak, reason), reason, now)

    # Reading

    def phase(self, now: float) -> CircuitState:
        """Return the state that a call would meet: an OPEN that is due is HALF_OPEN already."""
        state = self.state
        if isinstance(state, Open) and now >= state.until:
            return CircuitState.HALF_OPEN
        return state.name

    def phase_since(self, now: float) -> float:
        """Return when that state began."""
        state = self.state
        if isinstance(state, Open) and now >= state.until:
            return state.until
        return state.since

    def retry_after(self, now: float) -> float | None:
        """Return the seconds until a call may be admitted; None while it is forced open."""
        state = self.state
        if isinstance(state, Closed):
            return 0.0
        if isinstance(state, Open):
            return time_until(state.until, now)
        in_the_way = self._probes_in_the_way(state)
        if not in_the_way:
            return 0.0
        wait = time_until(in_the_way[-1].until, now)
        return 0.0 if wait is None else min(wait, MAX_WAIT_FOR_PROBE)

    def expects_call(self, now: float) -> float | None:
        """Return `retry_after` for a caller that means to call when the time has come."""
        return self.retry_after(now)

    def totals(self) -> Totals:
        """Count since the start."""
        totals, state = replace(self._totals), self.state
        if isinstance(state, Closed):
            totals.successes += state.successes
            totals.answered += state.answered
            totals.ignored += state.ignored
        else:
            totals.rejected += state.rejected
        return totals

    def count_outcomes(self) -> int:
        """Count the calls since the start that said something about the region."""
        state, totals = self.state, self._totals
        outcomes = totals.successes + totals.failures + totals.answered
        if isinstance(state, Closed):
            outcomes += state.successes + state.answered
        return outcomes

    def ignored_probes(self) -> ProbesIgnored:
        """Return how many probes in a row were IGNORED, and what they reported."""
        state = self.state
        if isinstance(state, HalfOpen):
            return ProbesIgnored(state.ignored_probes, state.ignored_reasons)
        return ProbesIgnored(0, ())

    def is_blank(self) -> bool:
        """Whether the circuit holds no information: it is CLOSED and has no streak."""
        return isinstance(self.state, Closed) and not self.state.streak

    def is_forced(self) -> bool:
        """Whether the circuit was opened by hand."""
        return isinstance(self.state, Open) and self.state.is_forced

    def stale_at(self) -> float:
        """Return the time from which what the circuit knows is worthless."""
        state = self.state
        active = state.until if isinstance(state, Open) else state.last_activity
        return active + _STALE_AFTER * self.policy.recovery_timeout

    # Rule 10

    def follow_clock(self, now: float) -> None:
        """Start the running times again if the clock has stepped back behind their start."""
        state = self.state
        timed: list[Open | Probe] = []
        if isinstance(state, Open):
            timed = [state]
        elif isinstance(state, HalfOpen):
            timed = [*state.probes]
        for running in timed:
            if now < running.since:
                # The end first: `reject` reads the two without the lock, and checks the start.
                running.until = now + (running.until - running.since)
                running.since = now

    # The steps

    def count_rejection(self, state: Open | HalfOpen, wait: float | None, now: float) -> Rejection:
        """Reject a call, and report the first one of an outage."""
        state.rejected += 1
        phase = self.phase(now)
        if not self._outage_was_reported:
            self._outage_was_reported = True
            self.events.append(RejectionsBegan(phase, state.reason))
        return Rejection(phase, state.reason, wait)

    def start_probe(self, state: Open | HalfOpen, now: float) -> Probe:
        """Admit a call as a probe; an OPEN circuit becomes HALF_OPEN by it."""
        if isinstance(state, Open):
            reason = f"recovery timeout of {self.policy.recovery_timeout:g} s elapsed"
            state = HalfOpen(now, state.streak, state.reason, last_activity=now)
            self.enter(state, reason, now)
        probes = list(state.probes)  # a new list: `Permit` reads it without the lock
        for expired in self._probes_in_the_way(state):
            probes.remove(expired)
            self.events.append(ProbeExpired(after=expired.until - expired.since))
        probe = Probe(now, now + self._probe_lease)
        probes.append(probe)
        state.probes = probes
        state.last_activity = now
        self._totals.probes += 1
        return probe

    def close_recovered(self, state: HalfOpen, now: float) -> None:
        """Close the circuit after enough consecutive answers."""
        one, several = ("answer", "answers") if state.answered else ("success", "successes")
        what = one if state.successes == 1 else f"consecutive {several}"
        self.enter(Closed(now), f"{state.successes} {what}", now)

    def enter(self, new: State, reason: str, now: float, *, by: str | None = None) -> None:
        """Change the state, and append the event."""
        old = self.state
        rejected = 0 if isinstance(old, Closed) else old.rejected
        self._totals, self.state = self.totals(), new
        if isinstance(new, Closed):
            self._outage_was_reported = False
            if isinstance(old, Closed):
                return
        change = old.name, new.name
        self.transitions[change] = self.transitions.get(change, 0) + 1
        self.events.append(
            Transition(
                old=old.name,
                new=new.name,
                reason=reason,
                at=now,
                streak=new.streak,
                retry_after=self.retry_after(now),
                rejected=rejected,
                duration=max(0.0, now - old.since),
                by=by,
            )
        )

    def _record_failure(self, state: State, reason: str, now: float) -> None:
        self._totals.failures += 1
        state.streak += 1
        if isinstance(state, Closed):
            state.failures += 1
            state.last_activity = now
            if state.streak < self.policy.failure_threshold:
                return
            self._totals.trips += 1
        until = now + self.policy.recovery_timeout
        self.enter(Open(now, until, state.streak, reason), reason, now)

    def _note_ignored_probe(self, state: HalfOpen, reason: str, now: float) -> None:
        state.ignored_probes += 1
        if reason:
            others = (known for known in state.ignored_reasons if known != reason)
            state.ignored_reasons = (*others, reason)[-_MOST_REASONS:]
        # A clock that has stepped back behind the last event must not silence the next one.
        silent_until = state.reported_at + self.policy.recovery_timeout
        was_just_reported = state.reported_at <= now < silent_until
        if state.ignored_probes >= _IGNORED_PROBES_TO_REPORT and not was_just_reported:
            state.reported_at = now
            self.events.append(self.ignored_probes())

    def _probes_in_the_way(self, state: HalfOpen) -> list[Probe]:
        """Return the probes that must go before one more may start, the oldest lease first."""
        too_many = len(state.probes) + 1 - self.policy.half_open_probes
        if too_many <= 0:
            return []
        return sorted(state.probes, key=_lease_end)[:too_many]


def _lease_end(probe: Probe) -> float:
    return probe.until


def time_until(end: float, now: float) -> float | None:
    """Return the seconds until `end`; None if that is never."""
    if end == math.inf:
        return None
    # Rounded up: after this many seconds the time has come, to the last bit.
    left = max(0.0, end - now)
    return left if now + left >= end else left + math.ulp(end)
