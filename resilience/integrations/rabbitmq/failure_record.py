"""FailureRecord: the failed attempts of a message, and the headers that copies carry them in."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from aio_pika.abc import AbstractIncomingMessage, HeadersType

from resilience.classify import describe, describe_as, examine

#: The headers of a copy: how many attempts have failed, how many of those count against the
#: message, and when the first one failed.
ATTEMPTS = "x-resilience-attempts"
COUNTED_ATTEMPTS = "x-resilience-counted-attempts"
FIRST_FAILED_AT = "x-resilience-first-failed-at"
#: The type and the HTTP status of the last error.
ERROR = "x-resilience-error"
#: The further header of a copy in a wait queue whose last failure may still count against it.
PENDING = "x-resilience-pending"
#: The further header of a dead letter: when the message was given up.
DEAD_LETTERED_AT = "x-resilience-dead-lettered-at"
# Quorum queues count how often a message was returned, or its consumer vanished.
_DELIVERY_COUNT = "x-delivery-count"
# The last word of `PENDING` where the failure does not count with the next call that goes well.
_UNDECIDED = "undecided"
# Somebody else may have written the numbers in headers. What is added to them has to fit, too.
_LARGEST_COUNT = 1_000_000_000


@dataclass(eq=False, slots=True, weakref_slot=True)
class FailureRecord:
    """The failed attempts of one message."""

    #: All that are known, for whatever reason they failed.
    attempts: int = 0
    first_failed_at: datetime | None = None
    #: The last error, for `on_error`.
    error: Exception | None = None
    #: Its type and its HTTP status.
    description: str | None = None
    #: What the server has answered to the last one; None if it has not.
    answer: str | None = None
    #: What it answered to this message while it answered others well.
    own_answer: str | None = None
    #: Those that count towards `max_attempts`.
    counted: int = 0
    #: Since when the message fails because of itself, in the breaker's time; None if it does not.
    since: float | None = None
    #: When that was seen last.
    last_counted_at: float = 0.0
    #: Whether it is taken to fail because of itself although no failure counts yet.
    is_suspect: bool = False
    # Of the counted ones, those that no success in a CLOSED circuit has confirmed.
    _provisional: int = 0
    # Of the counted ones, those of which no call that began later went well until now.
    _unconfirmed: int = 0
    # Whether an attempt counts with the next call that goes well, and when the last one failed.
    _counts_next: bool = False
    _failed_at: float = 0.0
    # The last failure's position in the order of events, and how many calls had gone well by then.
    position: int = 0
    answers: int = 0
    #: The position of the beginning of the call that has shown last that a failure counts.
    confirmed: int = 0
    #: Whether the circuit opened, or was not CLOSED, before it could be decided whether it counts.
    is_undecided: bool = False
    #: Whether that was so when the message was moved.
    was_undecided: bool = False
    # What has written the position down; empty if nothing has.
    evidence: str = ""

    def note(self, error: Exception) -> None:
        """Note a failed attempt, of which nothing is known but its error."""
        self.attempts += 1
        self.error, self.description = error, describe(error)
        self.answer = _answer_in(error)
        self.first_failed_at = self.first_failed_at or datetime.now(UTC)

    @property
    def fails_by_itself(self) -> bool:
        """Whether the message is known to fail while others succeed."""
        return self.is_suspect or self.counted > 0

    @property
    def has_failed(self) -> bool:
        """Whether an attempt is known that failed because of the message, or of its region."""
        return self.is_undecided or self._counts_next or self.fails_by_itself

    @property
    def fails_as_before(self) -> bool:
        """Whether the server's answer is the one that the message alone is known to get.

        A server that does not answer shows nothing about the message.
        """
        return self.fails_by_itself and self.answer is not None and self.answer == self.own_answer

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
        self._counts_next |= counts
        self._failed_at = now

    def count_unconfirmed(self, now: float, interval: float) -> None:
        """Count an attempt of a message that is known to fail, unless one was counted just now."""
        if now - self.last_counted_at >= interval:
            self.counted += 1
            self._unconfirmed += 1
            self.last_counted_at = now

    def confirm(self) -> None:
        """Count the failures that are pending, as one: the region works, but may have been down.

        An outage that is too short to open the circuit may be the reason of all of them.
        """
        self.counted += max(0, self._counts_next - self._unconfirmed)
        self.own_answer = self.answer
        self.since = self._failed_at if self.since is None else self.since
        self.last_counted_at = self._failed_at
        self.is_undecided, self._provisional = False, 0
        self._forget_pending()

    def count_provisionally(self, now: float) -> None:
        """Count an attempt, unless a message succeeds that was known to fail."""
        self.counted += 1
        self._provisional += 1
        self.since = now if self.since is None else self.since
        self.last_counted_at = now

    def doubt(self) -> None:
        """Count only what was confirmed: a message has succeeded that was known to fail."""
        self.drop_unconfirmed()
        self.counted -= self._provisional
        self._provisional = 0
        self.is_suspect = False
        if not self.counted:
            self.since = None

    def drop_unconfirmed(self) -> None:
        """Count no failure that was not confirmed: other messages fail, too."""
        self.counted -= self._unconfirmed
        self._unconfirmed = 0

    def drop_pending(self) -> None:
        """Count none of the failures that are pending: the region may be down."""
        self.drop_unconfirmed()
        self.is_undecided |= self._counts_next
        self._forget_pending()

    def _forget_pending(self) -> None:
        self._unconfirmed = 0
        self._counts_next = False

    # Copies

    def headers(self) -> HeadersType:
        """Return the headers that let the next consumer of a copy know what is known here."""
        if self.first_failed_at is None:
            return {}
        headers: HeadersType = {
            ATTEMPTS: self.attempts,
            COUNTED_ATTEMPTS: self.counted,
            FIRST_FAILED_AT: self.first_failed_at.isoformat(timespec="milliseconds"),
        }
        if self.description is not None:
            headers[ERROR] = self.description
        if self._counts_next or self.is_undecided:
            kind = "pending" if self._counts_next else _UNDECIDED
            headers[PENDING] = f"{self.evidence} {self.position} {self.answers} {kind}"
        return headers

    def dead_letter_headers(self, error: Exception) -> HeadersType:
        """Return the headers of a dead letter: why, when and how often it has failed.

        Args:
            error: Why it is one.
        """
        headers = self.headers()
        # If the message is published again, it has all its attempts before it.
        headers.pop(COUNTED_ATTEMPTS, None)
        headers.pop(PENDING, None)
        headers[ERROR] = describe(error)
        headers[DEAD_LETTERED_AT] = datetime.now(UTC).isoformat(timespec="milliseconds")
        return headers


def _answer_in(error: Exception) -> str | None:
    """Return the type and the status of an error if it is a server's answer."""
    _, root, status = examine(error)
    return None if status is None else describe_as(root, status)


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
        attempts=count_in(headers.get(ATTEMPTS)), counted=count_in(headers.get(COUNTED_ATTEMPTS))
    )
    try:
        record.first_failed_at = datetime.fromisoformat(str(headers[FIRST_FAILED_AT]))
        age = (datetime.now(UTC) - record.first_failed_at).total_seconds()
    except (TypeError, ValueError):  # Somebody else has written it.
        return FailureRecord()
    answer = headers.get(ERROR)
    record.answer = answer if isinstance(answer, str) else None
    if record.counted:
        # `max_age` is compared when a failure counts again, and not before.
        record.since = record.last_counted_at = now - max(0.0, age)
        record.own_answer = record.answer
    with suppress(ValueError):  # There is none, or somebody else has written it.
        evidence, position, answers, kind = str(headers.get(PENDING)).split()
        record.position, record.answers, record.evidence = int(position), int(answers), evidence
        record.was_undecided = kind == _UNDECIDED
    return record


def was_delivered_before(message: AbstractIncomingMessage) -> bool:
    """Whether a message was delivered before, here or from the queue that it was moved from."""
    headers = message.headers
    if message.redelivered or FIRST_FAILED_AT in headers:
        return True
    return bool(headers.get(_DELIVERY_COUNT))


def count_in(value: object) -> int:
    """Return the number in a header of a message; 0 if there is none."""
    return min(max(0, value), _LARGEST_COUNT) if isinstance(value, int) else 0
