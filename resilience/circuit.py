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
    ends the streak, and so does a failure that comes more than `streak_window` after the last one.
3.  OPEN rejects every call until `now >= until`, which is the opening plus the recovery timeout. A
    `Backoff` lets that grow with each failed probe, until the circuit has closed. The failure that
    opens the circuit may carry a delay that the server asks for, which prolongs this one OPEN.
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
14. Where the policy watches rates, each call in CLOSED has its own ticket, which shows when the
    call began. Calls that say something about the region count in a sliding window when they end.
    A failure or a slow call trips the circuit if the window then holds enough calls and a rate has
    reached its threshold; any other call that goes well trips nothing. Each CLOSED begins with an
    empty window. How the rates are counted is in `rules/`.
15. After a recovery, a policy with a ramp admits only some calls at a time in CLOSED, more with
    each step, and rejects the rest. A place is a lease, as that of a probe is.
16. Where the policy says so, a call counts as a failure once it is in flight for too long while the
    region has answered no call since it began. That is counted in the next call, or when the owner
    asks for it, and only once: a failure of the call itself changes nothing then.
17. Where the policy says so, abandoned calls in a row trip the circuit, and in HALF_OPEN the next
    one of that row opens it again. Any outcome but IGNORED ends the row.
18. After 1,000 failures in CLOSED that have not tripped the circuit there is an event, and one more
    after each 1,000 of them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from resilience.circuit_events import (
    Event,
    ProbeExpired,
    ProbesIgnored,
    RejectionsBegan,
    StaysClosed,
    Transition,
)
from resilience.circuit_states import (
    Call,
    CircuitState,
    Closed,
    HalfOpen,
    Open,
    Probe,
    State,
    Ticket,
    TrackedClosed,
)
from resilience.limits import TenantTable
from resilience.mode import Mode
from resilience.outcome import ABANDONED, AttemptReport, DelayingReport, Outcome, Report
from resilience.policy import BreakerPolicy
from resilience.ramp import Ramp
from resilience.recovery import Backoff
from resilience.rules.in_flight import InFlight
from resilience.rules.rates import why_rates_trip
from resilience.rules.trip import Trip, TripRule
from resilience.rules.window import SlidingWindow

RESET = "reset by hand"
# A probe may end at any moment: a call that was rejected while it ran should come back soon.
MAX_WAIT_FOR_PROBE = 1.0
# After this many recovery timeouts without a sign of life, what a circuit knows is worthless.
_STALE_AFTER = 10.0
# After this many IGNORED probes in a row, the circuit may stay HALF_OPEN without end.
_IGNORED_PROBES_TO_REPORT = 10
# After this many failures that have not tripped it, a circuit may never trip.
_FAILURES_TO_REPORT = 1000
# Of the reasons of IGNORED probes, this many different ones are remembered.
_MOST_REASONS = 5


class Rejection(NamedTuple):
    """The answer to a call that is not admitted."""

    state: CircuitState
    reason: str
    retry_after: float | None


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
        is_simulated: Whether it decides about no real calls: RESILIENCE_MODE does not apply then.
    """

    __slots__ = (
        "_abandoned",
        "_answers",
        "_backoff",
        "_failed_probes",
        "_is_simulated",
        "_least_streak",
        "_mode",
        "_outage_was_reported",
        "_outcomes_before",
        "_probe_lease",
        "_totals",
        "chance",
        "events",
        "is_recorded",
        "policy",
        "shared",
        "state",
        "transitions",
        "trips",
    )

    _backoff: Backoff

    def __init__(self, policy: BreakerPolicy, now: float, *, is_simulated: bool = False) -> None:
        self._is_simulated = is_simulated
        self._follow_policy(policy)
        #: Whether each call has its own ticket, because calls are recorded.
        self.is_recorded = False
        self.state: State = self.make_closed(now)
        #: What happened and was not delivered yet, in order.
        self.events: list[Event] = []
        #: How often each rule has tripped the circuit since the start.
        self.trips: dict[TripRule, int] = {}
        #: How often the state changed since the start, by the old and the new state.
        self.transitions: dict[tuple[CircuitState, CircuitState], int] = {}
        #: Whether other processes share it; None: it belongs to this process alone.
        self.shared: bool | None = None
        #: Returns numbers from 0 up to 1, for jitter. The owner brings chance into it.
        self.chance: Callable[[], float] = _no_chance
        # In a row, since the circuit was CLOSED.
        self._failed_probes = 0
        # Calls in a row, and how many calls had said something about the region before them.
        self._abandoned = self._outcomes_before = 0
        # How many calls the region has answered, as far as it matters to calls in flight.
        self._answers = 0
        self._totals = Totals()
        self._outage_was_reported = False

    # One call

    def acquire(self, now: float) -> Ticket | Rejection:
        """Admit a call, or reject it."""
        self.follow_clock(now)
        if self.policy.stranded_after is not None:
            self.count_stranded(now)
        state = self.state
        if isinstance(state, Closed):
            return self.start_call(state, now)
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
        state = self.state
        return state if isinstance(state, Closed) and state.is_plain else None

    def times_calls(self) -> TrackedClosed | None:
        """Return the CLOSED state if calls may start with nothing but their time, else None."""
        state = self.state
        if not isinstance(state, TrackedClosed) or state.is_watched:
            return None
        return state if state.ramp is None else None

    def is_nested_in(self, ticket: object, now: float) -> bool:
        """Whether a call inside another one is part of it: that one has a place, in its time."""
        state = self.state
        if isinstance(ticket, Probe):
            is_running = isinstance(state, HalfOpen) and ticket in state.probes
            return is_running and now < ticket.until
        ramp = _ramp_of(state)
        return ramp is not None and ramp.is_running(ticket)

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
            if isinstance(ticket, Call) and ticket.state is state:
                self._record_call(ticket, report, now)
            else:
                self._give_back_place(ticket, report)
            return
        if report.outcome is Outcome.FAILURE:
            self._record_failure(state, report, now)
            return
        if report.outcome is Outcome.IGNORED:
            self._record_ignored(state, report, now)
            return
        if report.outcome is Outcome.ANSWERED:
            self._totals.answered += 1
        else:
            self._totals.successes += 1
            state.streak = 0
        self._answers += 1
        if isinstance(state, HalfOpen):
            state.ignored_probes, state.ignored_reasons = 0, ()
            state.successes += 1
            state.answered += report.outcome is Outcome.ANSWERED
            if state.successes >= self.policy.success_threshold:
                self.close_recovered(state, now)

    def count_stranded(self, now: float) -> None:
        """Count the calls that have been in flight for too long, by rule 16."""
        seconds = self.policy.stranded_after
        if seconds is None:
            return
        report = Report(Outcome.FAILURE, f"no answer for {seconds:g} s (stranded)")
        state = self.state
        if isinstance(state, TrackedClosed) and state.in_flight is not None:
            while self.state is state and (call := state.in_flight.pop_overdue(seconds, now)):
                if call.may_strand and call.answers_before == self._answers:
                    self._record_call(call, AttemptReport(*report), now)
                    call.is_counted = True
        elif isinstance(state, HalfOpen):
            for probe in state.probes:
                is_stranded = probe.may_strand and probe.answers_before == self._answers
                if self.state is state and is_stranded and now - probe.since >= seconds:
                    self.record(probe, report, now)

    # Manual control

    def make_tenant_table(self) -> TenantTable:
        """Return the table for what is known of the region's tenants, a new one."""
        return TenantTable()

    def configure(self, policy: BreakerPolicy) -> None:
        """Change the rules; an OPEN circuit follows immediately, a lease keeps its end.

        Where calls begin or cease to be timed, those that are running count no more.
        """
        if policy is self.policy:  # another setting of the breaker was changed
            return
        old_backoff = self._backoff
        self._follow_policy(policy)
        state = self.state
        if self._mode is not Mode.ENFORCE and not isinstance(state, Closed):
            # `reject` turns calls away where some were rejected: from now on, none is.
            state.only_observed, state.rejected = state.only_observed + state.rejected, 0
        if self._mode is Mode.OFF:
            self._backoff = old_backoff  # a running OPEN keeps its length until it is switched on
            return
        if isinstance(state, TrackedClosed) and policy.ramp is None:
            state.end_ramp()
        if policy.abandoned_threshold is None:
            self._abandoned = 0
        if isinstance(state, Open) and not state.is_forced:
            if self._backoff != old_backoff:
                state.until = state.since + self.next_wait()
        elif isinstance(state, Closed):
            self._refit(state)

    def give_tickets(self, *, to_all: bool) -> None:
        """Let each call have its own ticket from now on, or only where the policy needs it.

        A window that a CLOSED circuit has starts empty, and a ramp goes on.
        """
        self.is_recorded = to_all
        if isinstance(self.state, Closed):
            self._refit(self.state)

    def reset(self, now: float) -> None:
        """Close the circuit, whatever its state; a CLOSED one loses its streak."""
        self.enter(self.make_closed(now), RESET, now)

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
            ramp = _ramp_of(state)
            return 0.0 if ramp is None else min(ramp.wait(now), MAX_WAIT_FOR_PROBE)
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
            totals.failures += state.failures
            totals.answered += state.answered
            totals.ignored += state.ignored
        else:
            totals.rejected += state.rejected + state.only_observed
        return totals

    def count_outcomes(self) -> int:
        """Count the calls since the start that said something about the region."""
        state, totals = self.state, self._totals
        outcomes = totals.successes + totals.failures + totals.answered
        if isinstance(state, Closed):
            outcomes += state.successes + state.failures + state.answered
        return outcomes

    def ignored_probes(self) -> ProbesIgnored:
        """Return how many probes in a row were IGNORED, and what they reported."""
        state = self.state
        if isinstance(state, HalfOpen):
            return ProbesIgnored(state.ignored_probes, state.ignored_reasons)
        return ProbesIgnored(0, ())

    def is_blank(self) -> bool:
        """Whether the circuit holds no information: it is CLOSED, without streak and ramp."""
        state = self.state
        return isinstance(state, Closed) and not state.streak and _ramp_of(state) is None

    def is_unused(self) -> bool:
        """Whether no call has been admitted or rejected since the start."""
        return self.totals() == Totals()

    def is_forced(self) -> bool:
        """Whether the circuit was opened by hand."""
        return isinstance(self.state, Open) and self.state.is_forced

    def stale_at(self) -> float:
        """Return the time from which what the circuit knows is worthless."""
        state = self.state
        active = state.until if isinstance(state, Open) else state.last_activity
        return active + _STALE_AFTER * self.policy.longest_recovery

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
        if isinstance(state, TrackedClosed):
            for running_calls in (state.ramp, state.in_flight):
                if running_calls is not None:
                    running_calls.follow_clock(now)

    # The steps

    def make_closed(
        self, now: float, *, recovered: bool = False, ramp: Ramp | None = None
    ) -> Closed:
        """Return a new CLOSED state, in which calls count as the policy demands.

        Args:
            now: When it begins.
            recovered: Whether the region was down until now, so that a ramp begins.
            ramp: The ramp that goes on; None: there is none.
        """
        policy = self.policy
        if self._mode is Mode.OFF:  # nothing of it is used, and all may be wrong
            return Closed(now)
        window = SlidingWindow(policy.window, now) if policy.watches_rates else None
        if recovered and policy.ramp is not None:
            start, factor = policy.ramp
            ramp = Ramp(start, factor, policy.probe_lease)
        is_watched = policy.watches_calls or self.is_recorded
        if window is None and ramp is None and not is_watched:
            return Closed(now)
        return TrackedClosed(
            now,
            window=window,
            ramp=ramp,
            in_flight=None if policy.stranded_after is None else InFlight[Call](),
            is_watched=is_watched,
            slow_from=_slow_from(policy),
        )

    def start_call(self, state: Closed, now: float) -> Closed | Call | Rejection:
        """Admit a call in CLOSED, or reject it while a ramp has no place for it."""
        if not isinstance(state, TrackedClosed) or state.is_plain:
            return state
        call = Call(state, now, self._answers)
        if state.ramp is not None:
            wait = self.retry_after(now)
            if wait != 0.0:
                self._totals.rejected += 1
                return Rejection(CircuitState.CLOSED, state.ramp.reason, wait)
            state.ramp.begin(call)
        if state.in_flight is not None:
            state.in_flight.begin(call)
        return call

    def note_failed_probe(self) -> None:
        """Count a failed probe, after which a `Backoff` waits longer."""
        self._failed_probes += 1

    def opening_lasts(self) -> float:
        """Return how many seconds the present OPEN lasts, or the next one would at first."""
        state, timeout = self.state, self.policy.recovery_timeout
        if isinstance(timeout, Backoff) and isinstance(state, Open) and not state.is_forced:
            return state.until - state.since
        return self._backoff.first

    def next_wait(self) -> float:
        """Return how many seconds an OPEN that begins now lasts."""
        return self._backoff.wait(self._failed_probes, self.chance)

    def count_rejection(self, state: Open | HalfOpen, wait: float | None, now: float) -> Rejection:
        """Reject a call, and report the first one of an outage."""
        if self._mode is Mode.ENFORCE:
            state.rejected += 1
        else:  # counted by itself, so that `reject` leaves the next one to `acquire` as well
            state.only_observed += 1
        phase = self.phase(now)
        if not self._outage_was_reported:
            self._outage_was_reported = True
            self.events.append(RejectionsBegan(phase, state.reason, self._mode))
        return Rejection(phase, state.reason, wait)

    def start_probe(self, state: Open | HalfOpen, now: float) -> Probe:
        """Admit a call as a probe; an OPEN circuit becomes HALF_OPEN by it."""
        if isinstance(state, Open):
            reason = f"recovery timeout of {state.until - state.since:g} s elapsed"
            state = HalfOpen(now, state.streak, state.reason, last_activity=now)
            self.enter(state, reason, now)
        probes = list(state.probes)  # a new list: `Permit` reads it without the lock
        for expired in self._probes_in_the_way(state):
            probes.remove(expired)
            self.events.append(ProbeExpired(after=expired.until - expired.since))
        probe = Probe(now, now + self._probe_lease, self._answers)
        probes.append(probe)
        state.probes = probes
        state.last_activity = now
        self._totals.probes += 1
        return probe

    def close_recovered(self, state: HalfOpen, now: float) -> None:
        """Close the circuit after enough consecutive answers."""
        one, several = ("answer", "answers") if state.answered else ("success", "successes")
        what = one if state.successes == 1 else f"consecutive {several}"
        self.enter(self.make_closed(now, recovered=True), f"{state.successes} {what}", now)

    def enter(
        self,
        new: State,
        reason: str,
        now: float,
        *,
        by: str | None = None,
        rule: TripRule | None = None,
    ) -> None:
        """Change the state, and append the event."""
        old = self.state
        rejected = 0 if isinstance(old, Closed) else old.rejected + old.only_observed
        self._totals, self.state = self.totals(), new
        if isinstance(new, Closed):
            self._outage_was_reported = False
            self._failed_probes = 0
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
                rule=rule,
                mode=self._mode,
            )
        )

    def _follow_policy(self, policy: BreakerPolicy) -> None:
        """Keep what each call needs of a policy, so that it is not worked out again and again."""
        self.policy = policy
        self._mode = Mode(policy.mode) if self._is_simulated else policy.mode_in_force
        rules = BreakerPolicy() if self._mode is Mode.OFF else policy  # its own may be wrong
        self._backoff = rules.backoff
        self._probe_lease = rules.probe_lease
        self._least_streak = _least_streak(rules)

    def _refit(self, state: Closed) -> None:
        """Replace a CLOSED state that does not count calls as the policy demands."""
        if self._fits(state):
            return
        # What is in the window cannot be measured again: it starts empty.
        self._totals = self.totals()
        self.state = renewed = self.make_closed(state.since, ramp=_ramp_of(state))
        renewed.streak, renewed.last_activity = state.streak, state.last_activity

    def _fits(self, state: Closed) -> bool:
        """Whether a CLOSED state counts calls as the policy demands."""
        policy = self.policy
        is_watched = policy.watches_calls or self.is_recorded
        if not isinstance(state, TrackedClosed):
            return not policy.watches_rates and not is_watched
        if state.is_watched != is_watched:
            return False
        if (state.in_flight is None) != (policy.stranded_after is None):
            return False
        if state.window is None:
            return not policy.watches_rates
        is_same_window = policy.watches_rates and state.window.seconds == policy.window
        return is_same_window and state.slow_from == _slow_from(policy)

    def _record_ignored(self, state: State, report: Report, now: float) -> None:
        self._totals.ignored += 1
        if report is ABANDONED and self._is_abandoned_too_often():
            self._open_abandoned(now)
        elif isinstance(state, HalfOpen):
            self._note_ignored_probe(state, report.reason, now)

    def _record_failure(self, state: State, report: Report, now: float) -> None:
        state.streak += 1
        if not isinstance(state, Closed):
            self._totals.failures += 1
            self._failed_probes += 1
            self._open(report, report.reason, now)
            return
        state.failures += 1
        if state.streak < self._least_streak and state.failures < state.noted_from:
            state.last_activity = now
            if state.streak > state.longest_streak:  # noqa: PLR1730 - calling `max` costs more
                state.longest_streak = state.streak
            return
        trip = self._why_trip(state, report.reason, now)
        if trip is None:
            self._note_failure_without_trip(state, now)
        else:
            self._trip(trip, report, now)

    def _note_failure_without_trip(self, state: Closed, now: float) -> None:
        """Note the first of many failures that have not tripped, and report them with the last."""
        state.longest_streak = max(state.longest_streak, state.streak)
        if state.failures < state.noted_from:
            return
        if state.first_failure is None:
            state.first_failure = self.count_outcomes(), now
            state.longest_streak = state.streak
            state.noted_from = state.failures + _FAILURES_TO_REPORT - 1
            return
        calls_before, since = state.first_failure
        calls = self.count_outcomes() - calls_before + 1
        seconds, streak = max(0.0, now - since), state.longest_streak
        self.events.append(StaysClosed(_FAILURES_TO_REPORT, calls, seconds, streak))
        state.first_failure, state.noted_from = None, state.failures + 1

    def _why_trip(self, state: Closed, reason: str, now: float) -> Trip | None:
        """Return why a failure trips the circuit, by the first rule that it breaks."""
        policy = self.policy
        apart = now - state.last_activity  # only failures are activity in CLOSED
        if policy.streak_window is not None and apart > policy.streak_window:
            state.streak = 1
        state.last_activity = now
        if state.streak >= policy.failure_threshold:
            return Trip(TripRule.STREAK, reason)
        if isinstance(state, TrackedClosed) and state.window is not None:
            return why_rates_trip(policy, state.window)
        return None

    def _trip(self, trip: Trip, report: Report, now: float) -> None:
        self._totals.trips += 1
        self.trips[trip.rule] = self.trips.get(trip.rule, 0) + 1
        self._open(report, trip.reason, now, trip.rule)

    def _open(self, report: Report, reason: str, now: float, rule: TripRule | None = None) -> None:
        wait = self._backoff.wait(self._failed_probes, self.chance)
        if isinstance(report, DelayingReport) and self.policy.honor_retry_after:
            wait = self._backoff.follow_request(wait, report.retry_after, self.chance)
        self.enter(Open(now, now + wait, self.state.streak, reason), reason, now, rule=rule)

    def _record_call(self, call: Call, report: Report, now: float) -> None:
        """Count the result of a call that has its own ticket."""
        state, outcome = call.state, report.outcome
        if not isinstance(report, AttemptReport):
            self._end_call(call, outcome)
        if call.is_counted and outcome is Outcome.FAILURE:
            return
        window = state.window
        if window is None or outcome is Outcome.IGNORED or call.is_counted:
            self.record(state, report, now)
            return
        state.slide(window, now)
        is_slow = now - call.since >= state.slow_from
        window.add(1, failures=outcome is Outcome.FAILURE, slow=is_slow)
        self.record(state, report, now)
        state.allow_plain_successes(window)
        if is_slow and self.state is state:
            trip = why_rates_trip(self.policy, window)
            if trip is not None:
                self._trip(trip, report, now)

    def _end_call(self, call: Call, outcome: Outcome) -> None:
        state = call.state
        if state.in_flight is not None:
            state.in_flight.end(call)
        if state.ramp is not None:
            was_answered = outcome in (Outcome.SUCCESS, Outcome.ANSWERED)
            state.ramp.end(call, was_answered=was_answered)
            if state.ramp.is_over:
                state.end_ramp()

    def _give_back_place(self, ticket: Ticket, report: Report) -> None:
        """Give back the place of a late call that began on the ramp that is still in force."""
        ramp, goes_on = _ramp_of(self.state), isinstance(report, AttemptReport)
        if ramp is not None and isinstance(ticket, Call) and not goes_on:
            ramp.end(ticket, was_answered=False)

    def _is_abandoned_too_often(self) -> bool:
        """Count an abandoned call; return whether the row of them is too long."""
        outcomes = self.count_outcomes()
        if outcomes != self._outcomes_before:
            self._outcomes_before, self._abandoned = outcomes, 0
        self._abandoned += 1
        threshold = self.policy.abandoned_threshold
        return threshold is not None and self._abandoned >= threshold

    def _open_abandoned(self, now: float) -> None:
        threshold = self.policy.abandoned_threshold
        reason = f"{self._abandoned} calls in a row were abandoned (threshold {threshold})"
        trip = Trip(TripRule.ABANDONED, reason)
        if isinstance(self.state, Closed):
            self._trip(trip, ABANDONED, now)
        else:
            self._failed_probes += 1
            self._open(ABANDONED, trip.reason, now, trip.rule)

    def _note_ignored_probe(self, state: HalfOpen, reason: str, now: float) -> None:
        state.ignored_probes += 1
        if reason:
            others = (known for known in state.ignored_reasons if known != reason)
            state.ignored_reasons = (*others, reason)[-_MOST_REASONS:]
        # A clock that has stepped back behind the last event must not silence the next one.
        silent_until = state.reported_at + self.policy.longest_recovery
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


def _ramp_of(state: State) -> Ramp | None:
    """Return the ramp that a CLOSED circuit is on; None: it is on none."""
    return state.ramp if isinstance(state, TrackedClosed) else None


def _slow_from(policy: BreakerPolicy) -> float:
    # A float: adding one to a float is what the interpreter does fastest.
    return float(policy.slow_call_duration or math.inf)


def _least_streak(policy: BreakerPolicy) -> int:
    """Return the streak from which on a failure may trip: 1 where more than the streak decides."""
    decides_alone = policy.streak_window is None and not policy.watches_rates
    return policy.failure_threshold if decides_alone else 1


def _no_chance() -> float:
    return 0.0


def _lease_end(probe: Probe) -> float:
    return probe.until


def time_until(end: float, now: float) -> float | None:
    """Return the seconds until `end`; None if that is never."""
    if end == math.inf:
        return None
    # Rounded up: after this many seconds the time has come, to the last bit.
    left = max(0.0, end - now)
    return left if now + left >= end else left + math.ulp(end)
