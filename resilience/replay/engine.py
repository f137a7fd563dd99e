"""Running recorded outcomes through a circuit, by any policy, on the times that were recorded.

The words of a recording come in the order in which their calls ended. In a circuit that is CLOSED,
and counts nothing but ends, that is all that matters, and most words cost next to nothing. In all
other states each call is begun as well, at the place among the words where it began.

A recorded time is rounded to a microsecond. Where that alone makes the difference whether a call
that was admitted is admitted again, it is.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from resilience.circuit import Circuit, Rejection
from resilience.circuit_events import Transition
from resilience.circuit_states import (
    Call,
    CircuitState,
    Closed,
    HalfOpen,
    Open,
    Ticket,
    TrackedClosed,
)
from resilience.outcome import (
    ABANDONED,
    ANSWERED,
    IGNORED,
    SUCCESS,
    AttemptReport,
    DelayingReport,
    Outcome,
    Report,
)
from resilience.policy import BreakerPolicy
from resilience.recording.layout import MANY_WORDS, MICROSECOND, Kind, duration_of
from resilience.recording.reader import ANSWERS, FAILURES, Action, RegionRecording, Start
from resilience.rules.trip import TripRule

_SUCCESS: Final = int(Kind.SUCCESS)
_REJECTED: Final = int(Kind.REJECTED)
_NOTE: Final = int(Kind.NOTE)
_UNFINISHED: Final = int(Kind.UNFINISHED)
_REPORTS: Final[dict[int, Report]] = {
    Kind.SUCCESS: SUCCESS,
    Kind.FAILURE: Report(Outcome.FAILURE, "failure"),
    Kind.ANSWERED: ANSWERED,
    Kind.IGNORED: IGNORED,
    Kind.ABANDONED: ABANDONED,
    Kind.ATTEMPT: AttemptReport(Outcome.FAILURE, "failure of an attempt"),
}
_ROUNDED_BY: Final = 2 / MICROSECOND
# A call that took exactly as long as a limit must not be shorter by the error of a subtraction.
_HALF: Final = 0.5 / MICROSECOND


@dataclass(frozen=True, slots=True)
class Transit:
    """A change of state in a replay.

    Args:
        old: The state before.
        new: The state after.
        reason: Why. What a failure was is not recorded.
        at: When, in seconds of the recorded clock.
        rule: The rule that tripped the circuit, if one did.
        index: The word that was being replayed.
    """

    old: CircuitState
    new: CircuitState
    reason: str
    at: float
    rule: TripRule | None
    index: int


@dataclass(slots=True)
class Replayed:
    """What a circuit would have done with the recorded calls.

    Args:
        policy: Its policy; None: those that were in force when the calls were recorded.
        transitions: How its state changed, in order.
        made: Calls that it admitted.
        failed: Those of them that failed: what was spent on a region that was down.
        rejected: Calls that it rejected.
        rejected_good: Those of them that the region answered when they were recorded, or would have
            answered, as far as the calls after them show it.
        assumed: Calls that it admitted although they were rejected when they were recorded: how
            they would have ended is not known.
        assumed_from: When the first of those began, in seconds; None: there is none.
        rejects_recorded_from: When it first rejected a call that was made when it was recorded.
    """

    policy: BreakerPolicy | None
    transitions: list[Transit] = field(default_factory=list[Transit])
    made: int = 0
    failed: int = 0
    rejected: int = 0
    rejected_good: int = 0
    assumed: int = 0
    assumed_from: float | None = None
    rejects_recorded_from: float | None = None


def replay(recorded: RegionRecording, policy: BreakerPolicy | None = None) -> Replayed:
    """Run what was recorded of a region through a circuit.

    Args:
        recorded: The outcomes, of `read_recording`.
        policy: The circuit's policy; None: as recorded, with all changes that it went through.

    Returns:
        What the circuit would have done.
    """
    return _Replay(recorded, policy).run()


class _Replay:
    """One run of one circuit."""

    def __init__(self, recorded: RegionRecording, policy: BreakerPolicy | None) -> None:
        self._recorded = recorded
        self._words, self._times = recorded.words, recorded.times
        self._is_as_recorded = policy is None
        self._policy = recorded.policy if policy is None else replace(policy, mode="enforce")
        self._result = Replayed(policy)
        self._chance = _draws(recorded.chances)
        self._index = 0
        # What calls that began in a watched state have; a rejection is one of those.
        self._tickets: dict[int, Ticket | Rejection] = {}
        # Calls that begin before a word, while the state is a watched one, read up to `_ahead`.
        self._begins: dict[int, list[int]] = {}
        self._ahead = 0
        # The same for calls that ran while many others ended.
        self._long_calls: dict[int, list[int]] = {}
        for index in recorded.while_running:
            self._long_calls.setdefault(recorded.began_before(index), []).append(index)
        # When calls that run by a rule about stranded ones are looked at.
        self._deadlines: deque[float] = deque()
        # Since which word the present state holds.
        self._since = 0
        self._circuit = self._make_circuit(recorded.start)
        # The CLOSED state while only the ends of calls matter, and the same if it has a window.
        self._free: Closed | None = None
        self._timed: TrackedClosed | None = None
        self._note_changes(0)

    def run(self) -> Replayed:
        """Replay all words."""
        words, times = self._words, self._times
        result = self._result
        for index, word in enumerate(words):
            free = self._free
            if free is None:
                self._step(index, word)
            elif (
                not word & 15
                and index - ((word >> 14) & 255) >= self._since
                and (self._timed is None or self._is_plain(index, word))
            ):
                if free.streak:
                    free.streak = 0
                free.successes += 1
                result.made += 1
            else:
                self._end_in_free_state(index, word, times[index] / MICROSECOND)
        return result

    # In a state in which only the ends of calls matter

    def _is_plain(self, index: int, word: int) -> bool:
        """Whether a success needs no more than to be counted, as in the breaker."""
        closed = self._timed
        now = self._times[index] / MICROSECOND
        if closed is None or not closed.plain_from <= now < closed.plain_until:
            return False
        return duration_of(word) / MICROSECOND < closed.slow_from

    def _end_in_free_state(self, index: int, word: int, now: float) -> None:
        self._index = index
        kind = word & 15
        if kind == _NOTE:
            self._act(self._recorded.actions[index])
            return
        if kind == _REJECTED:
            self._meet_rejected(index, now)
            return
        ticket: Ticket | Rejection | None
        if index in self._recorded.attempts:
            ticket = self._ticket_of(index)
        elif self._recorded.began_before(index) >= self._since:
            ticket = self._free
            if self._timed is not None:
                ticket = _call(self._timed, self._recorded.began_at(index))
        else:
            ticket = self._ticket_of(index)
        self._end(index, kind, ticket, now)

    # In any other state

    def _step(self, index: int, word: int) -> None:
        """Begin the calls that began before a word, and end the one of the word."""
        self._index = index
        self._look_ahead(index)
        starting = self._begins.pop(index, []) + self._long_calls.get(index, [])
        if len(starting) > 1:
            starting.sort(key=self._recorded.order_of)
        for call in starting:
            is_call = self._words[call] & 15 not in (_REJECTED, _NOTE)
            if is_call and call not in self._recorded.attempts:
                self._begin(call, index)
        kind, now = word & 15, self._times[index] / MICROSECOND
        self._count_stranded(now)
        if kind == _NOTE:
            self._act(self._recorded.actions[index])
        elif kind == _REJECTED:
            self._meet_rejected(index, now)
        else:
            self._end(index, kind, self._ticket_of(index), now)

    def _ticket_of(self, index: int) -> Ticket | Rejection | None:
        """Return what the call of a word was given when it began; None: it belongs to the past."""
        return self._tickets.pop(self._recorded.attempts.get(index, index), None)

    def _look_ahead(self, index: int) -> None:
        """Find the calls that begin before this word; those of the next words are found as well."""
        words = self._words
        end = min(len(words), index + MANY_WORDS)
        for one in range(max(self._ahead, index), end):
            while_it_ran = (words[one] >> 14) & 255
            if while_it_ran < MANY_WORDS:
                self._begins.setdefault(one - while_it_ran, []).append(one)
        self._ahead = max(self._ahead, end)

    def _begin(self, call: int, place: int) -> None:
        """Begin a call at its place among the words."""
        moment = self._recorded.began_at(call)
        if self._words[place] & 15 != _NOTE:  # an action does not have its own time
            moment = min(moment, self._times[place])
        if place and self._times[place - 1] <= self._times[place]:
            moment = max(moment, self._times[place - 1])
        now = moment / MICROSECOND
        self._count_stranded(now)
        answer = self._circuit.acquire(now)
        wait = self._circuit.retry_after(now)
        if isinstance(answer, Rejection) and wait is not None and wait <= _ROUNDED_BY:
            self._note_changes(self._index)
            now += wait
            answer = self._circuit.acquire(now)
        if self._policy.stranded_after is not None and not self._is_as_recorded:
            self._deadlines.append(now + self._policy.stranded_after)
        if isinstance(answer, Call):
            answer.since -= _HALF
        self._tickets[call] = answer
        self._note_changes(self._index)

    def _meet_rejected(self, index: int, now: float) -> None:
        """Let the circuit decide about a call that was rejected when it was recorded."""
        result = self._result
        likely = self._recorded.likely_kind_of(index)
        answer: Ticket | Rejection | None = None
        if self._is_as_recorded:
            self._circuit.count_stranded(now)
        else:
            answer = self._circuit.acquire(now)
        self._note_changes(self._index)
        if answer is None or isinstance(answer, Rejection):
            result.rejected += 1
            result.rejected_good += likely in ANSWERS
            return
        result.assumed += 1
        if result.assumed_from is None:
            result.assumed_from = now
        self._end(index, likely, answer, now)

    # In all states

    def _end(self, index: int, kind: int, ticket: Ticket | Rejection | None, now: float) -> None:
        result = self._result
        if isinstance(ticket, Rejection):
            result.rejected += kind != Kind.ATTEMPT
            result.rejected_good += kind in ANSWERS
            if kind == Kind.ATTEMPT:
                self._tickets[index] = ticket
            if result.rejects_recorded_from is None:
                result.rejects_recorded_from = self._recorded.began_at(index) / MICROSECOND
            return
        if index in self._recorded.counted:
            self._end_counted(index, ticket, now)
            return
        if kind == Kind.ATTEMPT and ticket is not None:
            self._tickets[index] = ticket
        result.made += 1
        result.failed += kind in FAILURES
        if ticket is not None and kind != _UNFINISHED:
            self._circuit.record(ticket, self._report(index, kind), now)
            self._note_changes(index + 1)

    def _end_counted(self, index: int, ticket: Ticket | None, now: float) -> None:
        """End a call whose failure was counted with its last attempt."""
        if isinstance(ticket, Call):
            ticket.is_counted = True
            self._circuit.record(ticket, self._report(index, Kind.FAILURE), now)
            self._note_changes(index + 1)

    def _report(self, index: int, kind: int) -> Report:
        report = _REPORTS[kind]
        delay = self._recorded.delays.get(index)
        if delay is not None and kind in FAILURES:
            report = (AttemptReport if kind == Kind.ATTEMPT else DelayingReport)(*report)
            report.retry_after = delay
        return report

    def _count_stranded(self, now: float) -> None:
        """Look at the calls that run, at the moments when their time was over."""
        while self._deadlines and self._deadlines[0] <= now:
            self._circuit.count_stranded(self._deadlines.popleft())
            self._note_changes(self._index)

    def _act(self, action: Action) -> None:
        """Do what was done when the calls were recorded, other than calls."""
        if action.policy is not None and self._is_as_recorded:
            self._policy = action.policy
        if action.start is not None:
            self._circuit = self._make_circuit(action.start)
        elif action.policy is not None:
            if self._is_as_recorded:
                self._circuit.configure(action.policy)
        elif action.forced_open is not None:
            self._circuit.force_open(action.forced_open, action.at)
        elif action.is_reset:
            self._circuit.reset(action.at)
        elif self._is_as_recorded:
            self._circuit.count_stranded(action.at)
        self._note_changes(self._index + 1)

    def _make_circuit(self, start: Start) -> Circuit:
        circuit = Circuit(self._policy, start.since, is_simulated=True)
        circuit.chance = self._chance
        if isinstance(circuit.state, Closed) and start.state == CircuitState.CLOSED:
            circuit.state.streak = start.streak
            circuit.state.last_activity = start.last_activity
        elif start.state == CircuitState.OPEN:
            circuit.state = Open(start.since, start.until, start.streak, start.reason)
        else:
            circuit.state = HalfOpen(start.since, start.streak, start.reason, start.since)
        return circuit

    def _note_changes(self, since: int) -> None:
        """Note what the last step changed.

        Args:
            since: Calls that began before the word of this index belong to an earlier state.
        """
        for event in self._circuit.events:
            if isinstance(event, Transition):
                self._result.transitions.append(
                    Transit(event.old, event.new, event.reason, event.at, event.rule, self._index)
                )
        self._circuit.events.clear()
        self._timed = self._circuit.times_calls()
        free = self._timed or self._circuit.admits_without_asking()
        if free is not self._free:
            self._free, self._since = free, since


def _call(closed: TrackedClosed, began: int) -> Call:
    return Call(closed, began / MICROSECOND - _HALF)


def _draws(chances: list[float]) -> Callable[[], float]:
    """Return a source of the numbers that were drawn, and then of others that never change."""
    recorded, others = iter(chances), random.Random(0)  # noqa: S311 - no secret

    def draw() -> float:
        chance = next(recorded, None)
        return others.random() if chance is None else chance

    return draw
