"""What can come of asking the broker, and of what the user gave to be done with a message."""

import asyncio
from types import SimpleNamespace

import aio_pika
import pytest
from aio_pika.exceptions import ChannelInvalidStateError
from resilience.integrations.rabbitmq.broker import answer, nack_all, settle
from resilience.integrations.rabbitmq.hand import Hand, InHand
from resilience.integrations.rabbitmq.inspection import Inspection
from resilience.integrations.rabbitmq.verdict import Verdict, judge, rejection_in
from resilience.integrations.rabbitmq.work import Work

from resilience import CircuitBreakerOpenError, CircuitState, failures
from resilience.integrations.rabbitmq import ConsumerError
from resilience.integrations.rabbitmq.publisher import Publisher
from tests.support.rabbitmq_support import make_registry, refuse_errors


async def fail(error):
    raise error


class Delivered:
    """A message as far as it matters here."""

    processed = False
    channel = SimpleNamespace(is_closed=False)

    def __init__(self, settling=None):
        self.settling, self.nacks = settling, 0

    async def nack(self, *, requeue):
        self.nacks += 1
        if self.settling is not None:
            raise self.settling


# The broker


async def test_a_broker_that_does_not_answer_is_not_waited_for_for_ever():
    never = asyncio.get_running_loop().create_future()
    with pytest.raises(TimeoutError, match=r"has not answered within 0\.01 s"):
        await answer(never, within=0.01)
    assert never.cancelled()


@pytest.mark.parametrize("error", [Exception(), asyncio.CancelledError()])
async def test_what_aio_pika_raises_when_a_channel_dies_is_an_error_of_the_channel(error):
    with pytest.raises(ChannelInvalidStateError):
        await answer(fail(error))


async def test_every_other_error_is_itself():
    with pytest.raises(LookupError):
        await answer(fail(LookupError()))


async def test_a_cancellation_of_our_own_is_one_and_ends_the_call():
    never = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(answer(never, within=None))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert never.cancelled()


async def test_settling_tells_whether_the_broker_knows():
    assert await settle(asyncio.sleep(0))
    assert not await settle(fail(ChannelInvalidStateError()))


async def test_returning_messages_ends_where_the_broker_is_gone():
    messages = Delivered(), Delivered(ChannelInvalidStateError()), Delivered()
    await nack_all(messages)
    assert [message.nacks for message in messages] == [1, 1, 0]


async def test_a_channel_that_dies_while_it_is_looked_at_is_an_error(bench, monkeypatch):
    async def lose(asked, within=None):
        result = await asked
        if hasattr(result, "message_count"):
            raise ChannelInvalidStateError
        return result

    queue = await bench.queue()
    monkeypatch.setattr("resilience.integrations.rabbitmq.inspection.answer", lose)
    with pytest.raises(ConsumerError, match="cannot be looked at"):
        await Inspection(bench.connection).check_queue(queue.name)


async def test_a_message_without_an_id_can_be_published_too(bench):
    queue = await bench.queue()
    publisher = Publisher(bench.connection)
    assert await publisher.publish(aio_pika.Message(b"anonymous"), queue.name)
    await publisher.close()
    assert [message.body for message in await bench.drain(queue)] == [b"anonymous"]


# The user's


async def test_a_handler_that_is_cancelled_with_its_task_is_cancelled():
    work = Work(lambda _: asyncio.sleep(60), refuse_errors, None)
    task = asyncio.create_task(work.attempt(make_registry().get("eu"), Delivered()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_on_error_that_is_cancelled_with_its_task_is_cancelled():
    work = Work(refuse_errors, lambda *_: asyncio.sleep(60), None)
    task = asyncio.create_task(work.give_up("eu", Delivered(), ValueError(), copy=False))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_message_that_is_settled_already_comes_to_nobody():
    message = Delivered()
    message.processed = True
    await Work(refuse_errors, refuse_errors, None).give_up("eu", message, ValueError(), copy=False)


def chained(error, cause):
    error.__cause__ = cause
    return error


REJECTION = CircuitBreakerOpenError("eu", CircuitState.OPEN)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (None, Verdict.DONE),
        (REJECTION, Verdict.REJECTED),
        (chained(RuntimeError(), REJECTION), Verdict.REJECTED),
        (ExceptionGroup("", [ValueError(), REJECTION]), Verdict.REJECTED),
        (ExceptionGroup("", [TimeoutError(), REJECTION]), Verdict.REGION),
        (TimeoutError(), Verdict.REGION),
        (asyncio.CancelledError(), Verdict.TENANT),
        (ValueError(), Verdict.USER),
    ],
)
def test_the_verdict_is_about_whose_matter_an_error_is(error, verdict):
    assert judge(make_registry().get("eu"), error) is verdict


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(503, Verdict.REGION), (429, Verdict.TENANT), (408, Verdict.TENANT), (404, Verdict.USER)],
)
def test_the_verdict_goes_by_the_status(http_error, status, verdict):
    assert judge(make_registry().get("eu"), http_error(status)) is verdict


def test_the_breakers_own_classifier_is_asked(http_error):
    registry = make_registry()

    registry.configure(classifier=failures(LookupError))
    assert judge(registry.get("eu"), LookupError()) is Verdict.REGION


def test_errors_in_a_circle_hold_no_rejection():
    error = ValueError()
    error.__cause__ = error
    assert rejection_in(error) is None


# The hand


def test_pauses_double_up_to_a_minute_and_a_longer_one_that_was_asked_for_is_kept():
    one = InHand(Delivered(), 1, 0.0)
    pauses = []
    for _ in range(9):
        one.pause(0.0)
        pauses.append(one.due)
    for pause, about in zip(pauses, (1, 2, 4, 8, 16, 32, 60, 60, 60), strict=True):
        assert 0.75 * about <= pause <= 1.25 * about
    one.pause(0.0, at_least=200)
    assert one.due == 200


def test_the_return_of_a_region_ends_the_pauses_of_those_who_wait_for_it():
    of_the_region, of_the_tenant = InHand(Delivered(), 1, 0.0), InHand(Delivered(), 2, 0.0)
    of_the_tenant.waits_for_region = False
    for one in (of_the_region, of_the_tenant):
        one.pause(0.0, at_least=100)
        one.region_is_back(5.0)
    assert (of_the_region.due, of_the_tenant.due) == (5.0, 100)


def test_messages_in_hand_keep_the_order_in_which_they_were_delivered():
    hand = Hand()
    for number in (3, 1, 2):
        one = InHand(Delivered(), number, 0.0)
        one.attempted = number == 1
        hand.take_in(one)
    assert [one.number for one in hand] == [1, 2, 3]
    assert [one.number for one in hand.fresh] == [2, 3]
