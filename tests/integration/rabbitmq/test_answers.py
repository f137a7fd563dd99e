"""The broker's replies, and what comes of the user's handler and on_error."""

import asyncio
from contextlib import suppress
from types import MappingProxyType, SimpleNamespace

import aio_pika
import pytest
from aio_pika.exceptions import ChannelInvalidStateError

from resilience import (
    CircuitBreakerOpenError,
    CircuitState,
    Outcome,
    TenantThrottledError,
    failures,
)
from resilience.integrations.rabbitmq import ConsumerError
from resilience.integrations.rabbitmq.amqp import broker_reply, return_to_queue, try_settle
from resilience.integrations.rabbitmq.consumer_warnings import ConsumerWarnings
from resilience.integrations.rabbitmq.disposition import Disposition, disposition_of, rejection_in
from resilience.integrations.rabbitmq.handler import MessageHandler
from resilience.integrations.rabbitmq.publisher import Publisher
from resilience.integrations.rabbitmq.topology import Topology
from resilience.integrations.rabbitmq.turns import Kind
from resilience.integrations.rabbitmq.unacked import Delivery, Unacked
from resilience.scope import WatchedOutcomes, watch_outcomes
from tests.support.rabbitmq_support import make_registry, refuse_errors


async def fail(error):
    raise error


class Delivered:
    """A message as far as it matters here."""

    processed = False
    headers = MappingProxyType({})
    channel = SimpleNamespace(is_closed=False)

    def __init__(self, settling=None):
        self.settling, self.nacks = settling, 0

    async def nack(self, *, requeue):
        self.nacks += 1
        if self.settling is not None:
            raise self.settling


# The broker


async def test_waiting_for_a_broker_that_does_not_reply_ends():
    never = asyncio.get_running_loop().create_future()
    with pytest.raises(TimeoutError, match=r"has not replied within 0\.01 s"):
        await broker_reply(never, timeout=0.01)
    assert never.cancelled()


@pytest.mark.parametrize("error", [Exception(), asyncio.CancelledError()])
async def test_errors_of_aio_pika_for_a_dead_channel_become_errors_of_the_channel(error):
    with pytest.raises(ChannelInvalidStateError):
        await broker_reply(fail(error))


async def test_every_other_error_is_raised_unchanged():
    with pytest.raises(LookupError):
        await broker_reply(fail(LookupError()))


async def test_a_cancellation_of_the_caller_is_raised_and_ends_the_request():
    never = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(broker_reply(never, timeout=None))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert never.cancelled()


async def test_try_settle_returns_whether_the_channel_was_there():
    assert await try_settle(asyncio.sleep(0))
    assert not await try_settle(fail(ChannelInvalidStateError()))


async def test_returning_messages_ends_when_the_broker_is_gone():
    messages = Delivered(), Delivered(ChannelInvalidStateError()), Delivered()
    await return_to_queue(messages)
    assert [message.nacks for message in messages] == [1, 1, 0]


async def test_a_channel_that_dies_during_a_check_is_an_error(bench, monkeypatch):
    async def lose(asked, timeout=None):
        result = await asked
        if hasattr(result, "message_count"):
            raise ChannelInvalidStateError
        return result

    queue = await bench.queue()
    monkeypatch.setattr("resilience.integrations.rabbitmq.declaring.broker_reply", lose)
    with pytest.raises(ConsumerError, match="cannot be checked"):
        await Topology(bench.connection, ConsumerWarnings(queue.name)).check_queue(queue.name)


async def test_a_message_without_an_id_can_be_published_too(bench):
    queue = await bench.queue()
    publisher = Publisher(bench.connection, ConsumerWarnings(queue.name))
    assert await publisher.publish(aio_pika.Message(b"anonymous"), queue.name)
    await publisher.close()
    assert [message.body for message in await bench.drain(queue)] == [b"anonymous"]


# The user's


def make_handler(handler, on_error):
    return MessageHandler(handler, on_error, None, ConsumerWarnings("queue"), 60.0)


async def test_a_handler_that_is_cancelled_with_its_task_is_cancelled():
    handler = make_handler(lambda _: asyncio.sleep(60), refuse_errors)
    task = asyncio.create_task(handler.attempt(make_registry().get("eu"), Delivered()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_on_error_that_is_cancelled_with_its_task_is_cancelled():
    handler = make_handler(refuse_errors, lambda *_: asyncio.sleep(60))
    task = asyncio.create_task(
        handler.handle_error("eu", Delivered(), ValueError(), from_wait_queue=False)
    )
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_message_that_is_settled_already_is_not_passed_to_on_error():
    message = Delivered()
    message.processed = True
    await make_handler(refuse_errors, refuse_errors).handle_error(
        "eu", message, ValueError(), from_wait_queue=False
    )


def chained(error, cause):
    error.__cause__ = cause
    return error


REJECTION = CircuitBreakerOpenError("eu", CircuitState.OPEN)


def decide(error, *, breaker=None, recorded=None):
    breaker = make_registry().get("eu") if breaker is None else breaker
    return disposition_of(breaker, error, WatchedOutcomes() if recorded is None else recorded)


@pytest.mark.parametrize(
    ("error", "disposition"),
    [
        (None, Disposition.ACK),
        (REJECTION, Disposition.REJECTED),
        (TenantThrottledError("eu", "acme", 7.0), Disposition.RETRY_LATER),
        (chained(RuntimeError(), REJECTION), Disposition.REJECTED),
        (ExceptionGroup("", [ValueError(), REJECTION]), Disposition.REJECTED),
        (ExceptionGroup("", [TimeoutError(), REJECTION]), Disposition.REGION_FAILED),
        (TimeoutError(), Disposition.REGION_FAILED),
        (asyncio.CancelledError(), Disposition.RETRY_LATER),
        (ValueError(), Disposition.ON_ERROR),
    ],
)
def test_the_disposition_depends_on_the_cause_of_an_error(error, disposition):
    assert decide(error) is disposition


@pytest.mark.parametrize(
    ("status", "disposition"),
    [
        (503, Disposition.REGION_FAILED),
        (429, Disposition.RETRY_LATER),
        (408, Disposition.RETRY_LATER),
        (404, Disposition.ON_ERROR),
    ],
)
@pytest.mark.parametrize("by", ["the breaker", "its classifier"])
def test_the_disposition_depends_on_the_status(http_error, status, disposition, by):
    error, registry = http_error(status), make_registry()
    with watch_outcomes() as outcomes:
        if by == "the breaker":
            with suppress(type(error)), registry.get("eu").acquire():
                raise error
            expected = Outcome.FAILURE if status == 503 else Outcome.ANSWERED
            assert outcomes.outcome_of(error) is expected
        assert decide(error, breaker=registry.get("eu"), recorded=outcomes) is disposition


def test_the_breakers_own_classifier_is_asked_where_nothing_was_recorded():
    registry = make_registry()
    registry.configure(classifier=failures(LookupError))
    assert decide(LookupError(), breaker=registry.get("eu")) is Disposition.REGION_FAILED


def recorded(*outcomes):
    watched = WatchedOutcomes()
    for error, outcome in outcomes:
        watched.record(error, outcome)
    return watched


MINE, OTHER = LookupError("mine"), ValueError("another")


@pytest.mark.parametrize(
    ("error", "disposition"),
    [
        (MINE, Disposition.REGION_FAILED),
        (chained(RuntimeError(), MINE), Disposition.REGION_FAILED),
        (ExceptionGroup("", [ValueError(), MINE]), Disposition.REGION_FAILED),
        (ExceptionGroup("", [ExceptionGroup("", [MINE])]), Disposition.REGION_FAILED),
        (OTHER, Disposition.ON_ERROR),
        # Nothing was recorded for the other member, and the classifier counts it.
        (ExceptionGroup("", [OTHER, TimeoutError()]), Disposition.REGION_FAILED),
    ],
)
def test_what_a_breaker_recorded_for_an_error_decides(error, disposition):
    outcomes = recorded((MINE, Outcome.FAILURE), (OTHER, Outcome.IGNORED))
    assert decide(error, recorded=outcomes) is disposition


@pytest.mark.parametrize("wrap", [lambda error: error, lambda error: ExceptionGroup("", [error])])
@pytest.mark.parametrize("outcome", [Outcome.ANSWERED, Outcome.IGNORED])
def test_what_a_breaker_did_not_count_is_no_failure_whatever_its_classifier_says(wrap, outcome):
    registry = make_registry()
    registry.configure(classifier=failures(LookupError))
    error = LookupError()
    outcomes = recorded((error, outcome))
    found = decide(wrap(error), breaker=registry.get("eu"), recorded=outcomes)
    assert found is Disposition.ON_ERROR


def test_errors_that_cause_each_other_hold_no_rejection():
    error = ValueError()
    error.__cause__ = error
    assert rejection_in(error) is None


# Unacked messages


def test_pauses_double_up_to_a_minute_and_a_longer_one_that_was_asked_for_is_kept():
    one = Delivery(Delivered(), 1, 0.0)
    pauses = []
    for _ in range(9):
        one.postpone(0.0)
        pauses.append(one.due)
    for pause, about in zip(pauses, (1, 2, 4, 8, 16, 32, 60, 60, 60), strict=True):
        assert 0.75 * about <= pause <= 1.25 * about
    one.postpone(0.0, at_least=200)
    assert 200 <= one.due <= 240


def test_messages_with_the_same_request_are_not_attempted_at_the_same_moment():
    messages = [Delivery(Delivered(), number, 0.0) for number in range(50)]
    for one in messages:
        one.postpone(0.0, at_least=100)
    due = [one.due for one in messages]
    # Fifty times are within half of that fifth once in 10^13 runs.
    assert max(due) - min(due) > 10


def test_the_recovery_of_a_region_ends_the_pauses_of_messages_that_wait_for_it():
    for_region, for_rate_limit = Delivery(Delivered(), 1, 0.0), Delivery(Delivered(), 2, 0.0)
    for_rate_limit.waits_for_region = False
    for one in (for_region, for_rate_limit):
        one.postpone(0.0, at_least=100)
        one.region_recovered(5.0)
    assert for_region.due == 5.0
    assert for_rate_limit.due >= 100


def test_unacked_messages_keep_the_order_in_which_they_were_delivered():
    unacked = Unacked()
    for number in (3, 1, 2):
        one = Delivery(Delivered(), number, 0.0)
        one.kind = Kind.FAILED if number == 1 else Kind.NEW
        unacked.add(one)
    assert [one.number for one in unacked] == [1, 2, 3]
    assert [one.number for one in unacked.new] == [2, 3]


async def test_copies_with_one_id_are_published_one_after_the_other(monkeypatch):
    publisher = Publisher(None, ConsumerWarnings("queue"))
    confirmed, running, most = asyncio.Event(), [], []

    async def publish(message, queue, *, cut_headers):
        running.append(message)
        most.append(len(running))
        await confirmed.wait()
        running.pop()
        return True

    monkeypatch.setattr(publisher, "_publish", publish)
    copies = [
        asyncio.create_task(publisher.publish(aio_pika.Message(b"", message_id="1"), "queue"))
        for _ in range(3)
    ]
    for _ in range(10):
        await asyncio.sleep(0)
    confirmed.set()
    assert await asyncio.gather(*copies) == [True] * 3
    assert most == [1, 1, 1]
