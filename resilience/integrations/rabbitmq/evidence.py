"""Evidence: whether a message fails because of itself, or because its region is down.

A failed attempt alone does not show which: during an outage, every message fails. It counts
against the message by one of four rules.

1.  The circuit was CLOSED from the beginning of the attempt on, and a call that began after the
    attempt went well before the circuit opened: the region was working. The failures of a message
    between two calls that went well count as one: the region may have been down for that time.
2.  The circuit opened, or was not CLOSED, before there was such a call. Since then, a call went
    well that began after the failure and after the last opening. Afterwards another attempt of the
    message began, and the server answered it with a failure: the region was working between two
    failures of the message. The first time, the message becomes suspect, if no other has become so
    by the same call: circuits ignore its failures from now on. Each further time, the earlier
    failure counts. Without this rule, where good messages are rare, a message that always fails
    would open the circuit, and then fail as a probe after each good one: the circuit would never
    close, and the message would have no end.
3.  As in rule 2, but the server did not answer. The region may have gone down again after the call
    that went well. This is therefore decided by the next call that goes well, if the region failed
    no others between the two calls: no message failed that had not failed before, none succeeded
    that had failed, and no call of other code failed. Then the message becomes suspect, or the
    failure counts, as in rule 2.
4.  An attempt has counted by rule 1, the server has given the message the same answer again, and no
    failure of another message, or of other code, is later than all calls that went well: then one
    attempt per recovery timeout counts. Without this rule, the last messages in a queue would have
    no end: no call can go well after theirs.

A server that does not answer, or answers something else than before, may be down: by rule 4, that
shows nothing. A region that is down may answer a call well now and then. Sooner or later it
answers a message well that is known to fail, or suspect: then no message is suspect any more, and
nothing counts but what rule 1 has counted until then.

A call went well if the region answered it with a success, or refused that one request (ANSWERED);
the success of a message that was known to fail, or suspect, shows nothing about other messages. A
message that was moved to a wait queue meanwhile takes what is not decided yet with it.
"""

from operator import attrgetter
from typing import NamedTuple
from uuid import uuid4
from weakref import WeakSet

from resilience.breaker import CircuitBreaker
from resilience.circuit_states import CircuitState
from resilience.integrations.rabbitmq.failure_record import FailureRecord


class Beginning(NamedTuple):
    """What was known when an attempt began.

    Args:
        position: Its position in the order of all events.
        is_probe: Whether it is a probe.
        success: The position of a call that has shown, since the last failure of the message, that
            the region was working; 0: none has.
    """

    position: int
    is_probe: bool
    success: int


class RegionEvidence:
    """Decides which failures of one region's messages count against them.

    Args:
        breaker: The region's breaker.
    """

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker
        self._id = uuid4().hex
        # Weak: where no call succeeds, such as under a rate limit, nothing else would end the
        # records of messages that have been moved or given back.
        self._pending: WeakSet[FailureRecord] = WeakSet()
        # Those of messages that are known to fail because of themselves.
        self._known: WeakSet[FailureRecord] = WeakSet()
        # Those that the next call which goes well decides by rule 3.
        self._unanswered: WeakSet[FailureRecord] = WeakSet()
        # Positions: of the last event, of the last opening of the circuit, of the latest beginning
        # of a call that went well, and of the latest such call that has made a message suspect.
        self._events = self._opened = self._succeeded = self._used = 0
        # The position of the last sign that the region fails others, too.
        self._doubted = 0
        # How many calls had gone well at the last opening.
        self._answers_at_opening = 0
        # How many failures the circuit had counted when looked at last, and how many calls had gone
        # well when their number was seen to have grown.
        self._failures = self._answers_at_failure = 0
        # How many it had counted when somebody looked for failures of other code.
        self._failures_looked_at = 0

    def next_event(self) -> int:
        """Return the position of an event in the order of all; a clock may stand still."""
        self._events += 1
        return self._events

    def begin(self, record: FailureRecord) -> Beginning:
        """Return what is known when an attempt begins: its failure may open the circuit.

        Args:
            record: The failed attempts of the message.
        """
        is_closed = self._is_closed()
        if record.is_undecided or not is_closed:
            self._look_at_other_code()
        is_probe = not is_closed and self._breaker.state is CircuitState.HALF_OPEN
        return Beginning(self.next_event(), is_probe, self._success_since(record))

    def _success_since(self, record: FailureRecord) -> int:
        """Return the position of a call by which the last failure of a message may count."""
        if not record.is_undecided or self._succeeded <= max(record.position, self._opened):
            return 0
        # The handler of a message may return without having called its region.
        is_proven = self._answers() > max(record.answers, self._answers_at_opening)
        return self._succeeded if is_proven else 0

    def record_failure(self, record: FailureRecord, beginning: Beginning, *, counts: bool) -> None:
        """Note that an attempt has failed.

        Args:
            record: The failed attempts of the message.
            beginning: What was known when the attempt began.
            counts: Whether it counts towards `max_attempts`: a rate limit does not.
        """
        now = self._breaker.now()
        if counts:
            self._note_failure_of_region(record, beginning, now)
        record.evidence, record.position = self._id, self.next_event()
        record.answers = self._answers()
        # As a probe, or before the last opening, the attempt began when the region may have been
        # down, whatever the state is now.
        began_closed = not beginning.is_probe and beginning.position > self._opened
        if not (began_closed and self._is_closed()):
            record.is_undecided |= counts
            return
        if beginning.position < record.confirmed:
            return  # It began before the call that has counted the one before: they count as one.
        record.suspend(now, counts=counts)
        self._pending.add(record)
        # Failures of messages that are known to fail are not among those that circuits count.
        if self._others_fail():
            for doubtful in self._pending:
                doubtful.drop_unconfirmed()
        elif counts and record.fails_as_before:
            record.count_unconfirmed(now, self._breaker.circuit.opening_lasts())

    def _note_failure_of_region(
        self, record: FailureRecord, beginning: Beginning, now: float
    ) -> None:
        """Decide what a failure shows together with a call that went well before the attempt."""
        # What the circuit has counted during the attempt may be the attempt's own failure.
        self._failures_looked_at = self._breaker.snapshot().failures
        if not record.has_failed:
            self.doubt_unanswered()
        if not beginning.success:
            return
        if record.answer is not None:
            record.is_undecided = False
            self._decide(record, beginning.success, now)
        elif beginning.success > self._doubted:
            self._unanswered.add(record)

    def _decide(self, record: FailureRecord, success: int, now: float) -> None:
        """Make a message suspect that fails while a call goes well, or count its failure."""
        if record.fails_by_itself:
            record.count_provisionally(now)
        elif success > self._used:
            self._used = success
            record.is_suspect = True
            self._known.add(record)

    def _others_fail(self) -> bool:
        """Whether a failure that the circuit has counted is later than all calls that went well.

        The circuit's streak alone does not show it: a call that is ANSWERED leaves it as it is.
        """
        circuit, answers = self._breaker.snapshot(), self._answers()
        if circuit.failures != self._failures:
            self._failures, self._answers_at_failure = circuit.failures, answers
        return circuit.streak > 0 and answers == self._answers_at_failure

    def _answers(self) -> int:
        """Return how many calls have gone well, those that no circuit counts included."""
        circuit, bypass = self._breaker.snapshot(), self._breaker.bypass
        uncounted = 0 if bypass is None else bypass.successes + bypass.answered
        return circuit.successes + circuit.answered + uncounted

    def _is_closed(self) -> bool:
        # `closed` costs next to nothing, and is None after a failure as well.
        return self._breaker.closed is not None or self._breaker.state is CircuitState.CLOSED

    def adopt(self, record: FailureRecord) -> None:
        """Go on with what was recorded here before a message was moved, or given back.

        Args:
            record: The failed attempts of the message.
        """
        if record.fails_by_itself:
            self._known.add(record)
        if record.evidence != self._id:
            return
        if record.was_undecided or record.position <= self._opened or not self._is_closed():
            record.is_undecided = True
        else:
            record.suspend(self._breaker.now(), counts=True)
            self._pending.add(record)
            self._confirm(self._succeeded)

    def record_success(self, began: int) -> bool:
        """Note that a call went well.

        Args:
            began: The position of its beginning in the order of events.

        Returns:
            Whether failures have been found to count against their messages.
        """
        self._succeeded = max(self._succeeded, began)
        is_confirmed = self._confirm(began)
        return self._decide_unanswered(began) or is_confirmed

    def doubt_known(self) -> None:
        """Note that a message has succeeded that was known to fail because of itself."""
        for record in self._known:
            record.doubt()

    def doubt_unanswered(self) -> None:
        """Note a sign that the region fails others, too: rule 3 begins again."""
        self._doubted = self.next_event()
        self._unanswered.clear()

    def _look_at_other_code(self) -> None:
        """Look whether the circuit has counted a failure since the last one of a message."""
        failures = self._breaker.snapshot().failures
        if failures > self._failures_looked_at:
            self._failures_looked_at = failures
            self.doubt_unanswered()

    def _confirm(self, began: int) -> bool:
        """Count the failures before a call that went well."""
        if not self._pending:
            return False
        if not self._is_closed():
            return False
        proven = self._before(began, self._pending)
        for record in proven:
            record.confirm()
            record.confirmed = began
            self._known.add(record)
        self._pending.difference_update(proven)
        self._unanswered.difference_update(proven)
        return bool(proven)

    def _decide_unanswered(self, began: int) -> bool:
        """Apply rule 3 to the failures before a call that went well."""
        if not self._unanswered:
            return False
        self._look_at_other_code()
        proven = self._before(began, self._unanswered)
        self._unanswered.difference_update(proven)
        for record in proven:
            self._decide(record, began, self._breaker.now())
        return bool(proven)

    def _before(self, began: int, records: WeakSet[FailureRecord]) -> list[FailureRecord]:
        """Return the records whose last failure is earlier than a call that went well.

        Args:
            began: The position of the call's beginning.
            records: The records to choose from.

        Returns:
            Those records, the earliest failure first.
        """
        answers = self._answers()
        # The handler of a message may return without having called its region.
        proven = [one for one in records if one.position < began and one.answers < answers]
        return sorted(proven, key=attrgetter("position"))

    def drop_pending(self) -> None:
        """Leave the failures undecided that are pending: the circuit has opened."""
        self._opened, self._answers_at_opening = self.next_event(), self._answers()
        for record in self._pending:
            record.drop_pending()
        self._pending.clear()
