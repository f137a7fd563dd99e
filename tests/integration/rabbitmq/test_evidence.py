"""Which failures count against a message, and what its headers say. Needs no broker."""

import asyncio
import weakref
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from aio_pika.exceptions import ChannelInvalidStateError

from resilience import BreakerPolicy, CircuitBreaker, CircuitState
from resilience.integrations.rabbitmq.amqp import acknowledge
from resilience.integrations.rabbitmq.evidence import RegionEvidence
from resilience.integrations.rabbitmq.failure_record import FailureRecord, record_of
from resilience.integrations.rabbitmq.returned_failures import ReturnedFailures
from resilience.integrations.rabbitmq.unacked import Delivery
from resilience.testing import FakeClock

COUNTED = "x-resilience-counted-attempts"
FIRST_FAILED_AT = "x-resilience-first-failed-at"
ATTEMPTS = "x-resilience-attempts"
PENDING = "x-resilience-pending"


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def breaker(clock):
    return CircuitBreaker("eu", BreakerPolicy(failure_threshold=3), clock=clock)


@pytest.fixture
def evidence(breaker):
    return RegionEvidence(breaker)


class AnsweredError(Exception):
    """A server's answer."""

    def __init__(self, status):
        super().__init__()
        self.status = status


def fail(breaker, evidence, record, error=None, *, counts=True):
    """Let a call with a message fail."""
    beginning, is_known = evidence.begin(record), record.fails_by_itself
    record.note(error or AnsweredError(500))
    if not is_known:
        breaker.acquire().fail()
    evidence.record_failure(record, beginning, counts=counts)


def succeed(breaker, evidence):
    """Let a call with another message succeed."""
    began = evidence.begin(FailureRecord()).position
    breaker.acquire().succeed()
    return evidence.record_success(began)


def test_a_failure_counts_when_a_later_call_succeeds(breaker, evidence):
    record = FailureRecord()
    fail(breaker, evidence, record)
    assert record.counted == 0
    assert succeed(breaker, evidence)
    assert record.counted == 1
    assert not succeed(breaker, evidence)


@pytest.mark.parametrize("counts", [True, False])
def test_failures_without_a_success_between_them_count_as_one(breaker, evidence, clock, counts):
    """The region may have been down for as long, and the circuit may not have opened for that."""
    record = FailureRecord()
    for _ in range(2):
        fail(breaker, evidence, record, counts=counts)
        clock.advance(100)
    assert succeed(breaker, evidence)
    assert record.counted == counts
    assert not record.is_spent(None, 1)
    fail(breaker, evidence, record, counts=counts)
    clock.advance(100)
    assert succeed(breaker, evidence)
    assert record.counted == 2 * counts
    assert record.is_spent(None, 100)
    assert not record.is_spent(None, 101)


def test_two_attempts_that_began_before_the_same_success_count_as_one(breaker, evidence):
    """The region may have been down when both began, and the second one has timed out."""
    record = FailureRecord()
    fail(breaker, evidence, record)
    beginning = evidence.begin(record)
    succeed(breaker, evidence)
    record.note(TimeoutError())
    evidence.record_failure(record, beginning, counts=True)
    succeed(breaker, evidence)
    assert record.counted == 1
    fail(breaker, evidence, record)
    succeed(breaker, evidence)
    assert record.counted == 2


@pytest.mark.parametrize("began", ["as a probe", "before the last opening"])
def test_a_failure_counts_only_if_the_circuit_was_closed_all_the_time(
    breaker, evidence, clock, began
):
    """The region may have been down when the attempt began."""
    record, other = FailureRecord(), FailureRecord()
    if began == "before the last opening":
        beginning = evidence.begin(record)
    fail_to_open(breaker, evidence, other, clock)
    if began == "as a probe":
        beginning = evidence.begin(record)
    for _ in range(3):
        succeed(breaker, evidence)
    assert breaker.state is CircuitState.CLOSED
    record.note(TimeoutError())
    evidence.record_failure(record, beginning, counts=True)
    assert not succeed(breaker, evidence)
    assert record.counted == 0


def test_a_failure_keeps_nothing_of_a_message_that_is_gone(breaker, evidence):
    """A region that rate-limits everything for hours has no success, and opens no circuit."""
    records = [FailureRecord() for _ in range(3)]
    for record in records:
        record.note(AnsweredError(429))
        evidence.record_failure(record, evidence.begin(record), counts=False)
    kept, gone = weakref.ref(records[0]), weakref.ref(records[-1])
    del records[1:], record
    assert kept() is records[0]
    assert gone() is None
    assert succeed(breaker, evidence)


def test_a_success_of_an_earlier_call_proves_nothing(breaker, evidence):
    record = FailureRecord()
    began = evidence.next_event()
    fail(breaker, evidence, record)
    breaker.acquire().succeed()
    assert not evidence.record_success(began)


def test_a_handler_that_has_not_called_the_region_proves_nothing(breaker, evidence):
    record = FailureRecord()
    fail(breaker, evidence, record)
    assert not evidence.record_success(evidence.next_event())


def test_a_success_while_the_circuit_is_open_proves_nothing(breaker, evidence):
    record = FailureRecord()
    fail(breaker, evidence, record)
    breaker.acquire().answered()
    breaker.force_open("just now")
    assert not evidence.record_success(evidence.next_event())


def test_an_opening_ends_what_is_pending(breaker, evidence):
    record = FailureRecord()
    fail(breaker, evidence, record)
    evidence.drop_pending()
    assert not succeed(breaker, evidence)
    assert record.counted == 0


def test_known_poison_alone_is_counted_once_per_recovery_timeout(breaker, evidence, clock):
    record = FailureRecord()
    fail(breaker, evidence, record)
    succeed(breaker, evidence)
    for seconds, counted in ((0, 1), (30, 1), (30, 2), (59, 2), (1, 3)):
        clock.advance(seconds)
        fail(breaker, evidence, record)
        assert record.counted == counted
    # Nothing that was counted without a success is counted again by one.
    assert succeed(breaker, evidence)
    assert record.counted == 3


@pytest.mark.parametrize("error", [AnsweredError(503), TimeoutError(), ConnectionError()])
def test_known_poison_alone_is_not_counted_unless_the_server_answers_as_before(
    breaker, evidence, clock, error
):
    """What else it fails with may be an outage."""
    record = FailureRecord()
    fail(breaker, evidence, record)
    succeed(breaker, evidence)
    for _ in range(3):
        clock.advance(60)
        fail(breaker, evidence, record, error)
        assert record.counted == 1


def test_a_message_that_timed_out_is_not_counted_when_alone(breaker, evidence, clock):
    record = FailureRecord()
    fail(breaker, evidence, record, TimeoutError())
    succeed(breaker, evidence)
    clock.advance(60)
    fail(breaker, evidence, record, TimeoutError())
    assert record.counted == 1


def test_known_poison_alone_counts_for_nothing_when_others_fail_too(breaker, evidence, clock):
    record = FailureRecord()
    fail(breaker, evidence, record)
    succeed(breaker, evidence)
    clock.advance(60)
    fail(breaker, evidence, record)
    assert record.counted == 2
    fail(breaker, evidence, FailureRecord())
    assert record.counted == 1
    clock.advance(60)
    fail(breaker, evidence, record)
    assert record.counted == 1


# A circuit that opens


def fail_to_open(breaker, evidence, record, clock):
    """Let a message open the circuit, and let the next probe be due."""
    while breaker.state is CircuitState.CLOSED:
        fail(breaker, evidence, record)
    evidence.drop_pending()
    clock.advance(60)


def test_a_message_that_fails_before_and_after_a_success_is_suspect(breaker, evidence, clock):
    record = FailureRecord()
    fail_to_open(breaker, evidence, record, clock)
    succeed(breaker, evidence)
    fail(breaker, evidence, record)
    assert record.fails_by_itself
    assert record.counted == 0
    evidence.drop_pending()
    clock.advance(60)
    fail(breaker, evidence, record)  # Nothing went well since.
    assert record.counted == 0
    for counted in (1, 2):
        succeed(breaker, evidence)
        fail(breaker, evidence, record)
        assert record.counted == counted
    assert record.is_spent(2, None)


def fail_as_probe(breaker, evidence, record, clock, error=None):
    """Let a probe with a message fail, which opens the circuit unless the message is suspect."""
    fail(breaker, evidence, record, error)
    if breaker.state is CircuitState.OPEN:
        evidence.drop_pending()
        clock.advance(60)


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionError()])
def test_a_message_that_is_not_answered_between_two_successes_is_suspect(
    breaker, evidence, clock, error
):
    record = FailureRecord()
    fail_to_open(breaker, evidence, record, clock)
    assert not succeed(breaker, evidence)
    for _ in range(3):  # Only the first one is later than the first success.
        fail_as_probe(breaker, evidence, record, clock, error)
        assert not record.fails_by_itself
    assert succeed(breaker, evidence)
    assert record.fails_by_itself
    assert record.counted == 0
    for counted in (0, 1):
        fail(breaker, evidence, record, error)
        assert record.counted == counted
        assert succeed(breaker, evidence)
        assert record.counted == counted + 1
    assert record.is_spent(2, None)
    assert breaker.state is CircuitState.CLOSED
    evidence.doubt_known()
    assert not record.fails_by_itself


def test_a_message_that_is_not_answered_is_counted_once_in_a_closed_circuit(
    breaker, evidence, clock
):
    record = FailureRecord()
    fail_to_open(breaker, evidence, record, clock)
    for _ in range(3):
        succeed(breaker, evidence)
    assert breaker.state is CircuitState.CLOSED
    fail(breaker, evidence, record, TimeoutError())
    assert succeed(breaker, evidence)
    assert record.counted == 1
    assert not succeed(breaker, evidence)


@pytest.mark.parametrize("when", ["before the attempt", "after the attempt"])
@pytest.mark.parametrize("what", ["another message", "other code", "a late success", "recovery"])
def test_what_is_not_answered_while_the_region_fails_others_shows_nothing(
    breaker, evidence, clock, what, when
):
    record, other = FailureRecord(), FailureRecord()
    fail_to_open(breaker, evidence, record, clock)
    if what == "recovery":
        fail_as_probe(breaker, evidence, other, clock, TimeoutError())

    def show_that_the_region_fails_others():
        if what == "another message":
            fail_as_probe(breaker, evidence, FailureRecord(), clock, TimeoutError())
        elif what == "other code":
            breaker.acquire().fail()
            evidence.drop_pending()
            clock.advance(60)
        elif what == "recovery":
            assert other.has_failed
            evidence.doubt_unanswered()

    late = evidence.begin(FailureRecord()).position
    succeed(breaker, evidence)
    if when == "before the attempt":
        show_that_the_region_fails_others()
    fail_as_probe(breaker, evidence, record, clock, TimeoutError())
    if when == "after the attempt":
        show_that_the_region_fails_others()
    if what == "a late success":  # of a call that began before the failure
        assert not evidence.record_success(late)
    else:
        assert not succeed(breaker, evidence)
    assert not record.fails_by_itself


def test_a_success_makes_one_message_suspect_of_those_that_are_not_answered(
    breaker, evidence, clock
):
    records = [FailureRecord() for _ in range(2)]
    fail(breaker, evidence, records[1])
    fail_to_open(breaker, evidence, records[0], clock)
    succeed(breaker, evidence)
    for suspects in ([True, False], [True, True]):
        beginnings = [evidence.begin(record) for record in records]
        for record, beginning in zip(records, beginnings, strict=True):
            record.note(TimeoutError())
            evidence.record_failure(record, beginning, counts=True)
        assert succeed(breaker, evidence)
        assert [record.fails_by_itself for record in records] == suspects
    assert [record.counted for record in records] == [1, 0]


def test_a_success_makes_one_message_suspect(breaker, evidence, clock):
    records = [FailureRecord() for _ in range(2)]
    fail(breaker, evidence, records[1])
    fail_to_open(breaker, evidence, records[0], clock)
    succeed(breaker, evidence)
    beginnings = [evidence.begin(record) for record in records]
    assert all(beginning.success for beginning in beginnings)
    for record, beginning in zip(records, beginnings, strict=True):
        record.note(AnsweredError(500))
        evidence.record_failure(record, beginning, counts=True)
    assert [record.fails_by_itself for record in records] == [True, False]


@pytest.mark.parametrize("what", ["another opening", "no call of the region", "before the failure"])
def test_a_message_does_not_become_suspect_without_a_success(breaker, evidence, clock, what):
    record = FailureRecord()
    began = evidence.next_event()
    fail_to_open(breaker, evidence, record, clock)
    if what == "no call of the region":
        evidence.record_success(evidence.next_event())
    elif what == "before the failure":
        breaker.acquire().succeed()
        evidence.record_success(began)
    else:
        succeed(breaker, evidence)
        breaker.acquire().fail()
        evidence.drop_pending()
        clock.advance(60)
    assert evidence.begin(record).success == 0


def test_no_message_is_suspect_when_one_has_succeeded_that_was(breaker, evidence, clock):
    suspect, known = FailureRecord(), FailureRecord()
    fail(breaker, evidence, known)
    succeed(breaker, evidence)
    fail_to_open(breaker, evidence, suspect, clock)
    succeed(breaker, evidence)
    fail(breaker, evidence, suspect)
    evidence.drop_pending()
    clock.advance(60)
    succeed(breaker, evidence)
    fail(breaker, evidence, suspect)
    assert (suspect.counted, known.counted) == (1, 1)
    evidence.doubt_known()
    assert not suspect.fails_by_itself
    assert known.counted == 1


def returned_delivery(number, failures):
    message = SimpleNamespace(message_id=None, body=b"%d" % number)
    return Delivery(message, number, 0.0, failures=failures)


def test_the_messages_that_went_back_last_are_remembered():
    returned = ReturnedFailures()
    deliveries = [
        returned_delivery(number, FailureRecord(is_suspect=number % 2 == 0))
        for number in range(2010)
    ]
    returned.keep(deliveries)
    assert returned.take(deliveries[-1].message) is None  # It has not failed.
    assert returned.take(deliveries[0].message) is None  # It is too long ago.
    assert returned.take(deliveries[-2].message) is deliveries[-2].failures
    assert returned.take(deliveries[-2].message) is None


def test_those_that_failed_in_an_outage_do_not_replace_those_that_fail_because_of_themselves():
    returned = ReturnedFailures()
    suspect = returned_delivery(0, FailureRecord(is_suspect=True))
    returned.keep([suspect])
    outage = [
        returned_delivery(number, FailureRecord(is_undecided=True)) for number in range(1, 1010)
    ]
    for _ in range(2):
        returned.keep(outage)
    assert returned.take(suspect.message) is suspect.failures
    assert returned.take(outage[0].message) is None  # It is too long ago.
    assert returned.take(outage[-1].message) is outage[-1].failures
    assert returned.take(outage[-1].message) is None


def test_a_message_that_went_back_is_not_kept_in_memory_by_what_it_failed_with():
    records = FailureRecord(is_undecided=True), FailureRecord(is_suspect=True)
    for number, record in enumerate(records):
        record.note(AnsweredError(503))
        ReturnedFailures().keep([returned_delivery(number, record)])
        assert record.headers()["x-resilience-error"] == "AnsweredError 503"
    undecided, suspect = records
    assert undecided.error is None
    assert suspect.error is not None  # `on_error` may need it before the next attempt.


def test_what_an_opening_leaves_undecided_is_moved_with_the_message(breaker, evidence, clock):
    record = FailureRecord()
    fail_to_open(breaker, evidence, record, clock)
    copy = move(record, breaker)
    evidence.adopt(copy)
    succeed(breaker, evidence)
    fail(breaker, evidence, copy)
    assert copy.fails_by_itself


@pytest.mark.parametrize("began", ["as a probe", "before the last opening"])
def test_a_message_that_failed_in_an_outage_is_moved_and_does_not_count(
    breaker, evidence, clock, began
):
    """It ended after the circuit had opened, and is delivered again when it is CLOSED."""
    record, other = FailureRecord(), FailureRecord()
    if began == "before the last opening":
        beginning = evidence.begin(record)
    fail_to_open(breaker, evidence, other, clock)
    if began == "as a probe":
        beginning = evidence.begin(record)
    record.note(TimeoutError())
    evidence.record_failure(record, beginning, counts=True)
    for _ in range(3):
        succeed(breaker, evidence)
    assert breaker.state is CircuitState.CLOSED
    copy = move(record, breaker)
    evidence.adopt(copy)
    succeed(breaker, evidence)
    assert copy.has_failed
    assert (copy.counted, copy.fails_by_itself) == (0, False)


def test_what_another_process_has_left_undecided_is_not_known(breaker, evidence, clock):
    record = FailureRecord()
    fail_to_open(breaker, evidence, record, clock)
    copy = move(record, breaker)
    RegionEvidence(breaker).adopt(copy)
    assert not copy.has_failed


def test_refusals_of_other_requests_show_that_the_region_works(breaker, evidence, clock):
    """They leave the streak as it is."""
    record = FailureRecord()
    fail(breaker, evidence, record)
    began = evidence.next_event()
    breaker.acquire().answered()
    assert evidence.record_success(began)
    assert breaker.snapshot().streak == 1
    for counted in (2, 3):
        clock.advance(60)
        fail(breaker, evidence, record)
        assert record.counted == counted
    breaker.acquire().fail()  # by other code
    clock.advance(60)
    fail(breaker, evidence, record)
    assert record.counted == 1


def test_a_rate_limit_costs_age_and_no_attempts(breaker, evidence, clock):
    record = FailureRecord()
    for _ in range(3):
        clock.advance(20)
        fail(breaker, evidence, record, counts=False)
        succeed(breaker, evidence)
    assert record.counted == 0
    assert record.is_spent(None, 40)
    assert not record.is_spent(1, 41)
    assert not record.is_spent(None, None)


# Headers


def delivered(**headers):
    return SimpleNamespace(headers=headers)


def test_a_copy_continues_where_the_message_was(breaker, clock):
    first = datetime.now(UTC) - timedelta(seconds=100)
    headers = {ATTEMPTS: 7, COUNTED: 3, FIRST_FAILED_AT: first.isoformat()}
    record = record_of(delivered(**headers), breaker.now())
    assert (record.attempts, record.counted, record.first_failed_at) == (7, 3, first)
    assert not record.is_spent(None, 50)  # Not before it fails again, and that counts.
    assert "x-resilience-error" not in record.headers()  # It is among those that are copied anyway.
    evidence = RegionEvidence(breaker)
    fail(breaker, evidence, record)
    succeed(breaker, evidence)
    assert record.is_spent(None, 50)
    assert record.headers()[COUNTED] == 4


def move(record, breaker):
    """Give the record of the copy in the wait queue."""
    return record_of(delivered(**record.headers()), breaker.now())


@pytest.mark.parametrize("order", ["moved, then the success", "the success, then moved", "between"])
def test_a_failure_counts_when_a_later_call_succeeds_also_if_the_message_is_moved(
    breaker, evidence, clock, order
):
    record = FailureRecord()
    fail(breaker, evidence, record)
    if order == "the success, then moved":
        succeed(breaker, evidence)
    copy = move(record, breaker)
    if order == "between":
        succeed(breaker, evidence)
    evidence.adopt(copy)
    if order == "moved, then the success":
        assert copy.counted == 0
        succeed(breaker, evidence)
    assert copy.counted == 1
    clock.advance(60)
    fail(breaker, evidence, copy)  # with the same answer as before it was moved
    assert copy.counted == 2


@pytest.mark.parametrize("what", ["opening", "another process", "no success"])
def test_a_moved_message_is_not_counted_after(breaker, evidence, what):
    record = FailureRecord()
    fail(breaker, evidence, record)
    copy = move(record, breaker)
    if what == "opening":
        evidence.drop_pending()
    if what != "no success":
        succeed(breaker, evidence)
    adopts = RegionEvidence(breaker) if what == "another process" else evidence
    adopts.adopt(copy)
    assert copy.counted == 0
    assert succeed(breaker, adopts) is (what == "no success")


@pytest.mark.parametrize("pending", ["", "a b", "a b c", "a b c d", "1 2 3 4", 7, None])
def test_a_pending_failure_that_somebody_else_has_written_is_ignored(breaker, evidence, pending):
    headers = {ATTEMPTS: 1, FIRST_FAILED_AT: datetime.now(UTC).isoformat(), PENDING: pending}
    copy = record_of(delivered(**headers), breaker.now())
    evidence.adopt(copy)
    assert not succeed(breaker, evidence)


def test_a_dead_letter_says_why_and_has_all_its_attempts_before_it(breaker, evidence):
    record = FailureRecord()
    fail(breaker, evidence, record)
    assert PENDING in record.headers()
    headers = record.dead_letter_headers(TimeoutError("a secret"))
    assert headers["x-resilience-error"] == "TimeoutError"
    assert not {COUNTED, PENDING} & headers.keys()


@pytest.mark.parametrize("value", ["yesterday", 7, None, "2026-11-28T12:00:00"])
def test_headers_that_somebody_else_has_written_are_ignored(value):
    headers = {ATTEMPTS: "many", COUNTED: -1, FIRST_FAILED_AT: value}
    record = record_of(delivered(**headers), 0.0)
    assert (record.attempts, record.counted, record.headers()) == (0, 0, {})


# Acks


class Message:
    """A message whose ack fails."""

    processed = False
    channel = SimpleNamespace(is_closed=False)

    def __init__(self, error=None):
        self.error = error

    async def ack(self):
        if self.error is not None:
            raise self.error
        await asyncio.sleep(60)


@pytest.mark.parametrize(
    "error", [ChannelInvalidStateError(), Exception(), asyncio.CancelledError()]
)
async def test_an_ack_on_a_channel_that_is_gone_is_not_an_error(error):
    await acknowledge(Message(error))


async def test_every_other_error_of_an_ack_is_raised():
    with pytest.raises(LookupError):
        await acknowledge(Message(LookupError()))


async def test_an_ack_can_be_cancelled():
    task = asyncio.create_task(acknowledge(Message()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
