"""Evidence: whether a message fails because of itself, or because its region is down.

A failed attempt alone does not show which: during an outage, every message fails. It counts
against the message by one of three rules.

1.  A call that began later went well before the circuit opened: the region was working.
2.  The circuit opened, or was not CLOSED, before there was such a call. Since then, a call went
    well that began after the failure and after the last opening. Afterwards another attempt of the
    message began, and the server answered it with a failure: the region was working between two
    failures of the message. The first time, the message becomes suspect, if no other has become so
    by the same call: circuits ignore its failures from now on. Each further time, the earlier
    failure counts. Without this rule, where good messages are rare, a message that always fails
    would open the circuit, and then fail as a probe after each good one: the circuit would never
    close, and the message would have no end.
3.  An attempt has counted by rule 1, the server has given the message the same answer again, and no
    failure of another message, or of other code, is later than all calls that went well: then one
    attempt per recovery timeout counts. Without this rule, the last messages in a queue would have
    no end: no call can go well after theirs.

A server that does not answer, or answers something else than before, may be down: by rules 2 and 3,
that shows nothing. A region that is down may answer a call well now and then. Sooner or later it
answers a message well that is known to fail, or suspect: then no message is suspect any more, and
nothing counts but what rule 1 has counted until then.

A call went well if the region answered it with a success, or refused that one request (ANSWERED);
the success of a message that was known to fail, or suspect, shows nothing about other messages. A
message that was moved to a wait queue meanwhile takes what is not decided yet with it.
"""

from uuid import uuid4
from weakref import WeakSet

from resilience.breaker import CircuitBreaker
from resilience.circuit_states import CircuitState
from resilience.integrations.rabbitmq.failure_record import FailureRecord


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
        # Positions: of the last event, of the last opening of the circuit, of the latest beginning
        # of a call that went well, and of the latest such call that rule 2 has used.
        self._events = self._opened = self._succeeded = self._used = 0
        # How many calls had gone well at the last opening.
        self._answers_at_opening = 0
        # How many failures the circuit had counted when looked at last, and how many calls had gone
        # well when their number was seen to have grown.
        self._failures = self._answers_at_failure = 0

    def next_event(self) -> int:
        """Return the position of an event in the order of all; a clock may stand still."""
        self._events += 1
        return self._events

    def success_since(self, record: FailureRecord) -> int:
        """Return the position of a call by which rule 2 may count a message's last failure.

        This is asked before the next attempt begins, whose failure may open the circuit.

        Args:
            record: The failed attempts of the message.

        Returns:
            The position of that call's beginning; 0 if no call counts it.
        """
        if not record.is_undecided or self._succeeded <= max(record.position, self._opened):
            return 0
        # The handler of a message may return without having called its region.
        is_proven = self._answers() > max(record.answers, self._answers_at_opening)
        return self._succeeded if is_proven else 0

    def record_failure(self, record: FailureRecord, *, counts: bool, success: int = 0) -> None:
        """Note that an attempt has failed.

        Args:
            record: The failed attempts of the message.
            counts: Whether it counts towards `max_attempts`: a rate limit does not.
            success: What `success_since` returned before the attempt.
        """
        now = self._breaker.now()
        if counts and success and record.answer is not None:
            self._decide(record, success, now)
        record.evidence, record.position = self._id, self.next_event()
        record.answers = self._answers()
        if self._breaker.state is not CircuitState.CLOSED:
            record.is_undecided |= counts
            return
        record.suspend(now, counts=counts)
        self._pending.add(record)
        # Failures of messages that are known to fail are not among those that circuits count.
        if self._others_fail():
            for doubtful in self._pending:
                doubtful.drop_unconfirmed()
        elif counts and record.fails_as_before:
            record.count_unconfirmed(now, self._breaker.circuit.opening_lasts())

    def _decide(self, record: FailureRecord, success: int, now: float) -> None:
        """Apply rule 2 to a message that has failed again after a call went well."""
        record.is_undecided = False
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

    def adopt(self, record: FailureRecord) -> None:
        """Go on with what was recorded here before a message was moved, or given back.

        Args:
            record: The failed attempts of the message.
        """
        if record.fails_by_itself:
            self._known.add(record)
        if record.evidence != self._id:
            return
        if record.position > self._opened and self._breaker.state is CircuitState.CLOSED:
            record.suspend(self._breaker.now(), counts=True)
            self._pending.add(record)
            self._confirm(self._succeeded)
        else:
            record.is_undecided = True

    def record_success(self, began: int) -> bool:
        """Note that a call went well.

        Args:
            began: The position of its beginning in the order of events.

        Returns:
            Whether failures have been found to count against their messages.
        """
        self._succeeded = max(self._succeeded, began)
        return self._confirm(began)

    def doubt_known(self) -> None:
        """Note that a message has succeeded that was known to fail because of itself."""
        for record in self._known:
            record.doubt()

    def _confirm(self, began: int) -> bool:
        """Count the failures before a call that went well."""
        if not self._pending:
            return False
        if self._breaker.state is not CircuitState.CLOSED:
            return False
        answers = self._answers()
        # The handler of a message may return without having called its region.
        proven = [one for one in self._pending if one.position < began and one.answers < answers]
        for record in proven:
            record.confirm(self._breaker.now())
            self._known.add(record)
        self._pending.difference_update(proven)
        return bool(proven)

    def drop_pending(self) -> None:
        """Leave the failures undecided that are pending: the circuit has opened."""
        self._opened, self._answers_at_opening = self.next_event(), self._answers()
        for record in self._pending:
            record.drop_pending()
        self._pending.clear()
