"""Evidence: whether a message fails because of itself, or because its region is down.

A failed attempt alone does not show which: during an outage, every message fails. It counts
against the message

- if a call that began later went well before the circuit opened: the region was working; or
- if the message is known to fail because of itself, since an attempt has counted against it, and
  only such messages have failed since the last success: then one attempt per recovery timeout
  counts. Without this, the last messages in a queue would have no end: no call can go well after
  theirs.

A failure after which the circuit is not CLOSED, or opens, counts against the region alone.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from aio_pika.abc import AbstractIncomingMessage, HeadersType

from resilience.breaker import CircuitBreaker
from resilience.circuit import CircuitState
from resilience.classify import describe

#: The headers of a copy: how many attempts have failed, how many of those count against the
#: message, and when the first one failed.
ATTEMPTS = "x-resilience-attempts"
COUNTED_ATTEMPTS = "x-resilience-counted-attempts"
FIRST_FAILED_AT = "x-resilience-first-failed-at"
#: The further headers of a dead letter: the type and the HTTP status of the last error, and when
#: the message was given up.
ERROR = "x-resilience-error"
DEAD_LETTERED_AT = "x-resilience-dead-lettered-at"
# Quorum queues count how often a message was returned, or its consumer vanished.
_DELIVERY_COUNT = "x-delivery-count"


@dataclass(eq=False, slots=True)
class FailureRecord:
    """The failed attempts of one message."""

    #: All that are known, for whatever reason they failed.
    attempts: int = 0
    first_failed_at: datetime | None = None
    #: The last error, for `on_error`.
    error: Exception | None = None
    #: Those that count towards `max_attempts`.
    counted: int = 0
    #: Since when the message fails because of itself, in the breaker's time; None if it does not.
    since: float | None = None
    #: When that was seen last.
    last_counted_at: float = 0.0
    # Of the counted ones, those of which no call that began later went well until now.
    _unconfirmed: int = 0
    # What is to be decided: how many attempts, whether there is anything, and since when.
    _pending: int = 0
    _pending_since: float | None = None
    # The last failure's position in the order of events, and how many calls had gone well by then.
    position: int = 0
    answers: int = 0

    def note(self, error: Exception) -> None:
        """Note a failed attempt, of which nothing is known but its error."""
        self.attempts += 1
        self.error = error
        self.first_failed_at = self.first_failed_at or datetime.now(UTC)

    @property
    def fails_by_itself(self) -> bool:
        """Whether the message is known to fail while others succeed."""
        return self.counted > 0

    def is_spent(self, max_attempts: int | None, max_age: float | None) -> bool:
        """Whether the message has had all the attempts, or all the time, that it may have."""
        if max_attempts is not None and self.counted >= max_attempts:
            return True
        if max_age is None or self.since is None:
            return False
        return self.last_counted_at - self.since >= max_age

    def suspend(self, now: float, *, counts: bool) -> None:
        """Add a failure that may count against the message.

        Args:
            now: The breaker's time.
            counts: Whether it would count towards `max_attempts`.
        """
        self._pending += counts
        if self._pending_since is None:
            self._pending_since = now

    def count_unconfirmed(self, now: float, interval: float) -> None:
        """Count an attempt of a message that is known to fail, unless one was counted just now."""
        if now - self.last_counted_at >= interval:
            self.counted += 1
            self._unconfirmed += 1
            self.last_counted_at = now

    def confirm(self, now: float) -> None:
        """Count all failures that are pending: the region was working."""
        self.counted += self._pending - self._unconfirmed
        self.since = self._pending_since if self.since is None else self.since
        self.last_counted_at = now
        self._forget_pending()

    def drop_unconfirmed(self) -> None:
        """Count no failure that was not confirmed: other messages fail, too."""
        self.counted -= self._unconfirmed
        self._unconfirmed = 0

    def drop_pending(self) -> None:
        """Count none of the failures that are pending: the region is down."""
        self.drop_unconfirmed()
        self._forget_pending()

    def _forget_pending(self) -> None:
        self._pending = self._unconfirmed = 0
        self._pending_since = None

    # Copies

    def headers(self) -> HeadersType:
        """Return the headers that let the next consumer of a copy know what is known here."""
        if self.first_failed_at is None:
            return {}
        return {
            ATTEMPTS: self.attempts,
            COUNTED_ATTEMPTS: self.counted,
            FIRST_FAILED_AT: self.first_failed_at.isoformat(timespec="milliseconds"),
        }

    def dead_letter_headers(self, error: Exception) -> HeadersType:
        """Return the headers of a dead letter: why, when and how often it has failed.

        Args:
            error: Why it is one.
        """
        headers = self.headers()
        # If the message is published again, it has all its attempts before it.
        headers.pop(COUNTED_ATTEMPTS, None)
        headers[ERROR] = describe(error)
        headers[DEAD_LETTERED_AT] = datetime.now(UTC).isoformat(timespec="milliseconds")
        return headers


def record_of(message: AbstractIncomingMessage, now: float) -> FailureRecord:
    """Return what the headers of a message say about its failed attempts.

    Args:
        message: The message as it was delivered.
        now: The time of the breaker's clock.
    """
    headers = message.headers
    if FIRST_FAILED_AT not in headers:
        return FailureRecord()
    record = FailureRecord(
        attempts=_count(headers.get(ATTEMPTS)), counted=_count(headers.get(COUNTED_ATTEMPTS))
    )
    try:
        record.first_failed_at = datetime.fromisoformat(str(headers[FIRST_FAILED_AT]))
        age = (datetime.now(UTC) - record.first_failed_at).total_seconds()
    except (TypeError, ValueError):  # Somebody else has written it.
        return FailureRecord()
    if record.counted:
        # `max_age` is compared when a failure counts again, and not before.
        record.since = record.last_counted_at = now - max(0.0, age)
    return record


def was_delivered_before(message: AbstractIncomingMessage) -> bool:
    """Whether a message was delivered before, here or from the queue that it was moved from."""
    headers = message.headers
    if message.redelivered or FIRST_FAILED_AT in headers:
        return True
    return bool(headers.get(_DELIVERY_COUNT))


def _count(value: object) -> int:
    return max(0, value) if isinstance(value, int) else 0


class RegionEvidence:
    """Decides which failures of one region's messages count against them.

    Args:
        breaker: The region's breaker.
    """

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker
        self._pending: set[FailureRecord] = set()
        self._events = 0

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
        record.position = self.next_event()
        record.answers = circuit.successes + circuit.answered
        record.suspend(now, counts=counts)
        self._pending.add(record)
        # Failures of messages that are known to fail are not in the streak.
        if circuit.streak:
            for doubtful in self._pending:
                doubtful.drop_unconfirmed()
        elif counts and record.fails_by_itself:
            record.count_unconfirmed(now, self._breaker.policy.recovery_timeout)

    def record_success(self, began: int) -> bool:
        """Note that a call went well.

        Args:
            began: The position of its beginning in the order of events.

        Returns:
            Whether failures have been found to count against their messages.
        """
        if not self._pending:
            return False
        circuit = self._breaker.snapshot()
        if circuit.state is not CircuitState.CLOSED:
            return False
        answers = circuit.successes + circuit.answered
        # The handler of a message may return without having called its region.
        proven = [one for one in self._pending if one.position < began and one.answers < answers]
        for record in proven:
            record.confirm(self._breaker.now())
        self._pending.difference_update(proven)
        return bool(proven)

    def drop_pending(self) -> None:
        """Count no failure that is pending: the circuit has opened."""
        for record in self._pending:
            record.drop_pending()
        self._pending.clear()
