"""Evidence: whether a message fails because of itself, or because its region is down.

A failed attempt alone does not show which: during an outage, every message fails. It counts
against the message

- if a call that began later went well before the circuit opened: the region was working; or
- if the message is known to fail because of itself, since an attempt has counted against it, the
  server has given it the same answer again, and only such messages have failed since the last
  success: then one attempt per recovery timeout counts. Without this, the last messages in a queue
  would have no end: no call can go well after theirs. A server that does not answer, or answers
  something else than before, may be down.

A message that was moved to a wait queue meanwhile takes what is not decided yet with it.

A failure after which the circuit is not CLOSED, or opens, counts against the region alone.
"""

from uuid import uuid4
from weakref import WeakSet

from resilience.breaker import CircuitBreaker, CircuitSnapshot
from resilience.circuit import CircuitState
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
        # Positions: of the last event, of the last opening of the circuit, and of the latest
        # beginning of a call that went well.
        self._events = self._opened = self._succeeded = 0

    def next_event(self) -> int:
        """Return the position of an event in the order of all; a clock may stand still."""
        self._events += 1
        return self._events

    def record_failure(self, record: FailureRecord, *, counts: bool) -> None:
        """Note that an attempt has failed, and left the circuit CLOSED.

        Args:
            record: The failed attempts of the message.
            counts: Whether it counts towards `max_attempts`: a rate limit does not.
        """
        circuit, now = self._breaker.snapshot(), self._breaker.now()
        record.evidence, record.position = self._id, self.next_event()
        record.answers = self._count_answers(circuit)
        record.suspend(now, counts=counts)
        self._pending.add(record)
        # Failures of messages that are known to fail are not in the streak.
        if circuit.streak:
            for doubtful in self._pending:
                doubtful.drop_unconfirmed()
        elif counts and record.fails_as_before:
            record.count_unconfirmed(now, self._breaker.circuit.opening_lasts())

    def adopt(self, record: FailureRecord) -> None:
        """Go on with a copy's failure that was recorded here before the message was moved.

        Args:
            record: The failed attempts of the message.
        """
        if record.evidence == self._id and record.position > self._opened:
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
        return self._confirm(began)

    def _confirm(self, began: int) -> bool:
        """Count the failures before a call that went well."""
        if not self._pending:
            return False
        if self._breaker.state is not CircuitState.CLOSED:
            return False
        answers = self._count_answers(self._breaker.snapshot())
        # The handler of a message may return without having called its region.
        proven = [one for one in self._pending if one.position < began and one.answers < answers]
        for record in proven:
            record.confirm(self._breaker.now())
        self._pending.difference_update(proven)
        return bool(proven)

    def _count_answers(self, circuit: CircuitSnapshot) -> int:
        """Count the calls that the region has answered, those that no circuit counts included."""
        bypass = self._breaker.bypass
        uncounted = 0 if bypass is None else bypass.successes + bypass.answered
        return circuit.successes + circuit.answered + uncounted

    def drop_pending(self) -> None:
        """Count no failure that is pending: the circuit has opened."""
        self._opened = self.next_event()
        for record in self._pending:
            record.drop_pending()
        self._pending.clear()
