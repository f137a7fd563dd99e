"""RegionConsumer against a real RabbitMQ: what becomes of each message, and when."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from resilience import CircuitBreakerOpenError, CircuitState
from resilience.integrations.rabbitmq import ConsumerError, DeadLetterTo, RegionConsumer
from tests.support.rabbitmq_support import (
    KINDS,
    WATCHDOG,
    Region,
    make_registry,
    numbers,
    refuse_errors,
    settle_down,
    until,
)


@pytest.fixture
def registry():
    return make_registry()


@pytest.fixture
def region(registry):
    return Region(registry)


def consume(queue, handler, registry, on_error=refuse_errors, **settings):
    region = settings.pop("region", "eu-west-1")
    return RegionConsumer(
        queue, handler, region=region, on_error=on_error, registry=registry, **settings
    )


# When all goes well


@pytest.mark.parametrize("kind", KINDS)
async def test_a_message_is_acked_when_the_handler_returns(bench, registry, region, kind):
    queue = await bench.queue(kind)
    await bench.publish(queue, *range(20))
    async with consume(queue, region, registry, prefetch=1):
        await until(lambda: len(region.done) == 20)
    assert region.done == numbers(20)
    assert await bench.drain(queue) == []


async def test_no_more_calls_run_than_prefetch_says(bench, registry, region):
    queue = await bench.queue()
    await bench.publish(queue, *range(40))
    region.takes = 0.01
    async with consume(queue, region, registry, prefetch=4):
        await until(lambda: len(region.done) == 40)
    assert region.most == 4


# When the circuit opens


@pytest.mark.parametrize("kind", KINDS)
async def test_an_open_circuit_ends_the_consumer_and_returns_new_messages(bench, kind):
    registry = make_registry(threshold=2, recovery=60)
    region = Region(registry)
    # A quorum queue without a limit would put what is returned at its end.
    queue = await bench.queue(kind, **({"x_delivery_limit": 20} if kind == "quorum" else {}))
    await bench.publish(queue, *range(6))
    region.error = ConnectionError()
    async with consume(queue, region, registry, prefetch=2):
        await until(lambda: region.breaker.state is CircuitState.OPEN)

        async def is_quiet():
            # One that was let in may stay, for the next probe. A quorum queue may still count a
            # consumer that has ended while some of its messages are unacked.
            ready, consumers = await bench.look(queue)
            return ready in {3, 4} and (consumers == 0 or kind == "quorum")

        await until(is_quiet)
        # Failed messages are held.
        assert sorted(region.calls) == ["0", "1"]
    assert [m.body for m in await bench.drain(queue)] == [b"%d" % n for n in range(6)]


async def test_messages_that_wait_for_a_slot_go_back_when_the_circuit_opens_but_for_the_next_probe(
    bench,
):
    registry = make_registry(recovery=60)
    region = Region(registry)
    busy, queue = await bench.queue(), await bench.queue()
    go_on = asyncio.Event()

    async def hang(body):
        await Region.call(region, body)
        await go_on.wait()

    region.protected = region.breaker(hang)
    await bench.publish(busy, *range(4))
    async with consume(busy, region, registry, prefetch=4):
        await until(lambda: region.total == 4)
        await bench.publish(queue, *range(10, 14))
        async with consume(queue, region, registry, prefetch=4) as waiting:
            [worker] = waiting._workers
            await until(lambda: len(worker._messages.unacked.new) == 4)
            region.breaker.force_open("now")

            async def are_back():
                return await bench.look(queue) == (3, 0)

            await until(are_back)
            assert [one.message.body for one in worker._messages.unacked] == [b"10"]
        go_on.set()
    assert [message.body for message in await bench.drain(queue)] == [b"10", b"11", b"12", b"13"]


async def test_a_probe_takes_a_new_message_before_a_failed_one(bench, monkeypatch):
    monkeypatch.setattr("resilience.integrations.rabbitmq.next_message.GRACE_PERIOD", WATCHDOG)
    registry = make_registry(threshold=2, recovery=0.1)
    region = Region(registry)
    queue = await bench.queue()
    await bench.publish(queue, *range(40))
    region.error = ConnectionError()
    async with consume(queue, region, registry, prefetch=1):
        await until(lambda: region.total >= 5)
    assert len(set(region.order[:5])) == 5


async def test_failed_messages_are_due_when_the_region_has_recovered(bench, registry, region):
    queue = await bench.queue()
    await bench.publish(queue, "failed")
    region.error = ConnectionError()
    async with consume(queue, region, registry) as consumer:
        [worker] = consumer._workers
        await until(lambda: worker._messages.unacked.failed)
        worker._messages.unacked.failed[0].due = worker.now() + 1000
        region.error = None
        region.breaker.force_open("for a moment")
        await until(lambda: worker._subscription.prefetch == 0)
        region.breaker.reset()
        await until(lambda: region.done == ["failed"])


@pytest.mark.parametrize("kind", KINDS)
async def test_a_poison_message_does_not_keep_the_circuit_from_closing(
    bench, registry, region, kind
):
    queue = await bench.queue(kind)
    await bench.publish(queue, *range(10))
    region.error = ConnectionError()
    region.fails_for["0"] = ConnectionError()
    async with consume(queue, region, registry, prefetch=1):
        await until(lambda: region.total >= 5)
        region.error = None
        await until(lambda: len(region.done) == 9)
    assert [message.body for message in await bench.drain(queue)] == [b"0"]


async def test_a_failed_message_is_attempted_again_without_a_delivery_if_no_new_one_comes(
    bench, registry, region
):
    queue = await bench.queue("quorum")
    deliveries = []

    async def handler(message):
        deliveries.append(message.headers.get("x-delivery-count", 0))
        await region(message)

    await bench.publish(queue, "only")
    region.error = ConnectionError()
    registry.get("eu-west-1").force_open("so that it opens with a single message")
    async with consume(queue, handler, registry):
        registry.reset()
        await until(lambda: region.total >= 1)
        region.breaker.force_open("again")
        region.error = None
        region.breaker.reset()
        await until(lambda: region.done == ["only"])
    assert set(deliveries) == {0}


async def test_an_outage_costs_a_failed_message_no_delivery(bench, registry, region):
    queue = await bench.queue("quorum")
    returned = set()

    async def handler(message):
        returned.add(message.headers.get("x-delivery-count", 0))
        await region(message)

    await bench.publish(queue, *range(3))
    region.error = ConnectionError()
    async with consume(queue, handler, registry, prefetch=3):
        await until(lambda: region.breaker.snapshot().probes >= 4)
        region.error = None
        await until(lambda: len(region.done) == 3)
    assert returned == {0}


async def test_only_every_second_probe_lets_in_a_new_message_when_enough_failed_ones_are_held(
    bench, registry, region
):
    queue = await bench.queue()
    await bench.publish(queue, *range(20))
    region.error = ConnectionError()
    async with consume(queue, region, registry, prefetch=1, max_failed_held=2):
        await until(lambda: region.breaker.snapshot().probes >= 6)
        probes = region.breaker.snapshot().probes
        assert len(set(region.calls)) <= 3 + (probes + 1) // 2
        region.error = None
        await until(lambda: len(region.done) == 20)


async def test_there_are_never_more_probes_than_the_policy_says(bench):
    registry = make_registry(half_open_probes=2, successes=4)
    region = Region(registry, takes=0.05)
    queue = await bench.queue()
    await bench.publish(queue, *range(20))
    region.breaker.force_open("at the start")
    async with consume(queue, region, registry, prefetch=10):
        region.breaker.reset()
        region.error = ConnectionError()
        await until(lambda: region.breaker.state is not CircuitState.CLOSED)
        await until(lambda: region.running == 0)
        region.error, region.most = None, 0
        await until(lambda: region.breaker.state is CircuitState.CLOSED)
        assert region.most == 2
        await until(lambda: len(region.done) == 20)


async def test_a_probe_that_hangs_gives_its_place_to_the_next_message(bench):
    registry = make_registry(probe_timeout=0.2)
    region = Region(registry)
    queue = await bench.queue()
    await bench.publish(queue, *range(8))
    hang = asyncio.Event()

    async def handler(message):
        await region.protected(message.body.decode())

    async def hanging(body):
        if region.breaker.state is CircuitState.HALF_OPEN and not hang.is_set():
            hang.set()
            await asyncio.sleep(60)
        return await Region.call(region, body)

    region.protected = region.breaker(hanging)
    region.error = ConnectionError()
    async with consume(queue, handler, registry, prefetch=3, stop_timeout=0.1):
        await until(hang.is_set)
        region.error = None
        await until(lambda: len(region.done) == 7)


# After it has closed


async def test_the_calls_grow_in_steps_over_all_queues_of_the_region(bench, registry):
    region = Region(registry, takes=0.02)
    one, other = await bench.queue(), await bench.queue()
    await bench.publish(one, *range(30))
    await bench.publish(other, *range(100, 130))
    steps = []

    async def handler(message):
        await region(message)
        steps.append(region.most)

    region.breaker.force_open("at the start")
    async with (
        consume(one, handler, registry, prefetch=8),
        consume(other, handler, registry, prefetch=8),
    ):
        region.breaker.reset()
        await until(lambda: len(region.done) == 60)
    # One success earns the second call, two more the fourth, four more the eighth.
    assert steps[0] == 1
    assert max(steps[:3]) <= 2
    assert max(steps[:7]) <= 4
    assert region.most == 8


async def test_each_opening_is_followed_by_a_slow_start(bench, registry):
    region = Region(registry, takes=0.01)
    queue = await bench.queue()
    await bench.publish(queue, *range(30))
    async with consume(queue, region, registry, prefetch=8):
        await until(lambda: len(region.done) == 30)
        region.breaker.force_open("for a moment")
        region.breaker.reset()
        await asyncio.sleep(0)
        region.most = 0
        await bench.publish(queue, *range(100, 103))
        await until(lambda: len(region.done) == 33)
    assert region.most <= 2


# What happens to a message


async def test_a_failure_below_the_threshold_is_tried_again_without_a_delivery(
    bench, registry, region
):
    queue = await bench.queue()
    redelivered = []

    async def handler(message):
        redelivered.append(message.redelivered)
        await region(message)

    await bench.publish(queue, "once", "more")
    region.fails_for["once"] = TimeoutError()
    async with consume(queue, handler, registry):
        await until(lambda: region.done == ["more"])
        region.fails_for.clear()
        await until(lambda: region.done == ["more", "once"])
    assert redelivered == [False] * 3


async def test_with_a_prefetch_of_one_a_failed_message_does_not_stop_the_others(
    bench, registry, region
):
    queue = await bench.queue()
    await bench.publish(queue, *range(5))
    region.fails_for["0"] = TimeoutError()
    async with consume(queue, region, registry, prefetch=1):
        await until(lambda: len(region.done) == 4)
        region.fails_for.clear()
        await until(lambda: len(region.done) == 5)


async def test_a_rate_limit_is_waited_for_and_is_not_a_failure(bench, registry, region, http_error):
    queue = await bench.queue()
    await bench.publish(queue, "limited", "other")
    limited = http_error(429)
    limited.headers = {"Retry-After": "2"}
    region.fails_for["limited"] = limited
    times = []

    async def handler(message):
        try:
            await region(message)
        finally:
            if message.body == b"limited":
                times.append(asyncio.get_running_loop().time())

    async with consume(queue, handler, registry):
        await until(lambda: times)
        region.fails_for.clear()
        await until(lambda: sorted(region.done) == ["limited", "other"])
    assert times[1] - times[0] >= 2
    assert region.breaker.snapshot().failures == 0


@pytest.mark.parametrize("status", [404, 429])
async def test_a_region_that_is_back_but_refuses_every_message_closes_its_circuit(
    bench, http_error, status
):
    registry = make_registry(threshold=1, successes=3)
    region = Region(registry)
    region.error = TimeoutError()
    queue, refused = await bench.queue(), []
    await bench.publish(queue, *range(6))

    async def on_error(message, error):
        refused.append(message.body.decode())
        await message.ack()

    async with consume(queue, region, registry, on_error, prefetch=6):
        await until(lambda: region.breaker.snapshot().trips == 1)
        region.error = http_error(status)
        await until(lambda: region.breaker.state is CircuitState.CLOSED)
        region.error = None
        await until(lambda: len(refused) + len(region.done) == 6)
    snapshot = region.breaker.snapshot()
    assert (snapshot.ignored, snapshot.trips) == (0, 1)
    assert snapshot.answered >= 3
    assert sorted(refused + region.done) == numbers(6)
    assert bool(refused) == (status == 404)


async def test_any_other_error_goes_to_on_error_once(bench, registry, region, http_error):
    queue = await bench.queue()
    await bench.publish(queue, "bad", "good")
    region.fails_for["bad"] = http_error(400)
    seen = []

    async def on_error(message, error):
        seen.append((message.body, error.status))
        await message.reject(requeue=False)

    async with consume(queue, region, registry, on_error):
        await until(lambda: seen and region.done)
    assert seen == [(b"bad", 400)]
    assert await bench.drain(queue) == []


@pytest.mark.parametrize("how", ["raises", "forgets"])
async def test_a_message_that_on_error_does_not_settle_stays_unacked_and_is_logged(
    bench, registry, region, log, how
):
    queue = await bench.queue()
    await bench.publish(queue, "bad")
    region.fails_for["bad"] = ValueError("a secret")

    async def on_error(message, error):
        if how == "raises":
            raise RuntimeError("another secret")

    async with consume(queue, region, registry, on_error):
        await until(lambda: any("on_error" in record["message"] for record in log))
        assert await bench.look(queue) == (0, 1)
    assert [message.body for message in await bench.drain(queue)] == [b"bad"]
    text = "".join(record["message"] for record in log)
    assert "secret" not in text
    assert ("RuntimeError" in text) is (how == "raises")


async def test_messages_that_wait_in_on_error_hold_up_no_others(
    bench, registry, region, monkeypatch, log
):
    """A dead letter that was sent just before an alarm of the broker waits for the alarm's end."""
    monkeypatch.setattr("resilience.integrations.rabbitmq.unacked._LONG_ON_ERROR", 0.05)
    queue, may_end = await bench.queue(), asyncio.Event()
    region.fails_for = dict.fromkeys(numbers(7), ValueError("a bug"))
    settled = []

    async def on_error(message, error):
        await may_end.wait()
        settled.append(message.body.decode())
        await message.ack()

    await bench.publish(queue, *range(5), *range(100, 105))
    async with consume(queue, region, registry, on_error, prefetch=2, max_failed_held=6):
        await until(lambda: len(region.done) == 5)
        assert log == []
        await bench.publish(queue, 5, 6, *range(105, 200))
        await until(lambda: [record for record in log if "max_failed_held" in record["message"]])
        assert settled == []
        may_end.set()
        await until(lambda: len(region.done) == 100)
    assert sorted(settled) == numbers(7)
    assert await bench.drain(queue) == []


async def test_a_cancellation_that_on_error_raises_loses_nothing(bench, registry, region):
    queue = await bench.queue()
    await bench.publish(queue, "bad")
    region.fails_for["bad"] = ValueError()

    async def on_error(message, error):
        region.fails_for.clear()
        raise asyncio.CancelledError

    async with consume(queue, region, registry, on_error):
        await until(lambda: region.done == ["bad"])


async def test_dead_letters_go_to_the_queue_that_is_named(bench, registry, region, http_error):
    queue, dead = await bench.queue(), await bench.queue()
    await bench.publish(queue, "bad", headers={"tenant": "7"}, message_id="42")
    region.fails_for["bad"] = http_error(404)
    async with consume(queue, region, registry, DeadLetterTo(dead.name)):
        await until(lambda: region.total == 1)
    [message] = await bench.drain(dead)
    assert (message.body, message.message_id) == (b"bad", "42")
    headers = dict(message.headers)
    failed_at = datetime.fromisoformat(headers.pop("x-resilience-first-failed-at"))
    given_up_at = datetime.fromisoformat(headers.pop("x-resilience-dead-lettered-at"))
    assert headers == {
        "tenant": "7",
        "x-original-exchange": "",
        "x-original-routing-key": queue.name,
        "x-resilience-attempts": 1,
        "x-resilience-error": "ClientResponseError 404",
    }
    assert timedelta() <= given_up_at - failed_at
    assert timedelta() <= datetime.now(UTC) - given_up_at < timedelta(minutes=1)
    assert await bench.drain(queue) == []


async def test_a_queue_for_dead_letters_that_vanishes_ends_the_consumer_and_loses_nothing(
    bench, registry, region, http_error
):
    queue = await bench.queue()
    dead = await bench.queue()
    region.fails_for["bad"] = http_error(404)
    with pytest.raises(ConsumerError, match=f"there is no queue '{dead.name}'"):
        async with consume(queue, region, registry, DeadLetterTo(dead.name)):
            await bench.channel.queue_delete(dead.name)
            await bench.publish(queue, "bad")
            await asyncio.sleep(60)
    assert [message.body for message in await bench.drain(queue)] == [b"bad"]


@pytest.mark.parametrize("how", ["ack", "reject", "nack"])
async def test_a_message_that_the_handler_settles_is_left_alone(bench, registry, how):
    dead = await bench.queue()
    queue = await bench.queue(x_dead_letter_exchange="", x_dead_letter_routing_key=dead.name)
    await bench.publish(queue, "mine")
    seen = []

    async def handler(message):
        await getattr(message, how)(**({} if how == "ack" else {"requeue": False}))
        seen.append(message.body)
        if how == "nack":
            raise ConnectionError

    async with consume(queue, handler, registry):
        await until(lambda: seen)
    assert len(await bench.drain(dead)) == (how != "ack")
    assert await bench.drain(queue) == []


async def test_a_cancellation_that_the_handler_raises_loses_nothing(bench, registry, region):
    queue = await bench.queue()
    await bench.publish(queue, "odd")
    tries = []

    async def handler(message):
        tries.append(message.body)
        if len(tries) == 1:
            raise asyncio.CancelledError
        await region(message)

    async with consume(queue, handler, registry):
        await until(lambda: region.done == ["odd"])


async def test_a_rejection_by_another_circuit_is_waited_for_without_spinning(bench, registry):
    queue = await bench.queue()
    await bench.publish(queue, "token first")
    tries = []

    async def handler(message):
        tries.append(asyncio.get_running_loop().time())
        if len(tries) == 1:
            raise CircuitBreakerOpenError("login", CircuitState.OPEN, "down", 0.5)

    async with consume(queue, handler, registry):
        await until(lambda: len(tries) == 2)
    assert tries[1] - tries[0] > 0.4


async def test_a_message_that_was_rejected_without_an_attempt_stays_a_new_one(
    bench, registry, region
):
    queue = await bench.queue("quorum")
    tries = []

    async def handler(message):
        tries.append(message.headers.get("x-delivery-count", 0))
        if len(tries) == 1:
            region.breaker.force_open("just now")
        await region(message)

    await bench.publish(queue, "late")
    async with consume(queue, handler, registry) as consumer:
        await until(lambda: tries and len(consumer._workers[0]._messages.unacked.new) == 1)
        region.breaker.reset()
        await until(lambda: region.done == ["late"])
    assert tries == [0, 0]


async def test_a_retry_that_ends_when_the_circuit_opens_was_an_attempt(bench, registry, region):
    queue = await bench.queue()
    tries = []

    async def handler(message):
        tries.append(message.body)
        if len(tries) == 1:
            region.breaker.force_open("just now")
            rejection = CircuitBreakerOpenError("eu-west-1", CircuitState.OPEN)
            raise rejection from ConnectionError()
        await region(message)

    await bench.publish(queue, "once")
    async with consume(queue, handler, registry) as consumer:
        await until(lambda: len(consumer._workers[0]._messages.unacked.failed) == 1)
        region.breaker.reset()
        await until(lambda: region.done == ["once"])


async def test_calls_that_wait_for_a_slot_do_not_start_when_it_stops(bench, registry, region):
    one, other = await bench.queue(), await bench.queue()
    go_on = asyncio.Event()

    async def hang(body):
        await Region.call(region, body)
        await go_on.wait()

    region.protected = region.breaker(hang)
    async with consume(one, region, registry, prefetch=1):
        await bench.publish(one, "busy")
        await until(lambda: region.total == 1)
        async with consume(other, region, registry, prefetch=1) as waiting:
            await bench.publish(other, "waits")
            await until(lambda: waiting._workers[0]._waiting)
        go_on.set()
    assert region.total == 1
    assert [message.body for message in await bench.drain(other)] == [b"waits"]


async def test_a_rejection_inside_a_group_is_a_rejection(bench, registry, region):
    queue = await bench.queue()
    await bench.publish(queue, *range(5))
    region.error = ConnectionError()

    async def handler(message):
        async with asyncio.TaskGroup() as group:
            group.create_task(region(message))

    async with consume(queue, handler, registry, prefetch=5):
        await until(lambda: region.breaker.snapshot().trips == 1)
        region.error = None
        await until(lambda: len(region.done) == 5)


# How long a message stays unacked


async def test_a_message_goes_back_after_max_unacked(bench):
    registry = make_registry(threshold=1, recovery=60)
    region = Region(registry)
    queue = await bench.queue()
    await bench.publish(queue, "held")
    region.error = ConnectionError()
    async with consume(queue, region, registry, max_unacked=0.3):
        await until(lambda: region.breaker.state is CircuitState.OPEN)

        async def is_back():
            return await bench.look(queue) == (1, 0)

        await until(is_back)
    [message] = await bench.drain(queue)
    assert message.redelivered


# How it stops


@pytest.mark.parametrize("kind", KINDS)
async def test_stopping_lets_running_calls_end_and_returns_the_rest_in_order(bench, registry, kind):
    region = Region(registry, takes=0.3)
    queue = await bench.queue(kind, **({"x_delivery_limit": 20} if kind == "quorum" else {}))
    await bench.publish(queue, *range(6))
    region.fails_for = {"0": ConnectionError(), "1": ConnectionError()}
    async with consume(queue, region, registry, prefetch=4):
        await until(lambda: region.total >= 4)
    assert set(region.done) >= {"2", "3"}
    left = [message.body.decode() for message in await bench.drain(queue)]
    assert left == sorted(set(numbers(6)) - set(region.done))


async def test_a_call_that_does_not_end_in_time_is_cancelled_and_its_message_returned(
    bench, registry
):
    queue = await bench.queue()
    await bench.publish(queue, "slow")
    started, ends = asyncio.Event(), []

    async def handler(message):
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("cancelled")

    async with consume(queue, handler, registry, stop_timeout=0.1):
        await started.wait()
    assert ends == ["cancelled"]
    assert len(await bench.drain(queue)) == 1


async def test_a_cancellation_while_it_stops_ends_the_wait_for_running_calls(bench, registry):
    queue = await bench.queue()
    await bench.publish(queue, "slow")
    started, stopping = asyncio.Event(), asyncio.Event()

    async def handler(message):
        started.set()
        await asyncio.sleep(60)

    async def work():
        async with consume(queue, handler, registry, stop_timeout=60):
            await started.wait()
            stopping.set()

    worker = asyncio.create_task(work())
    await stopping.wait()
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker
    assert len(await bench.drain(queue)) == 1


async def test_an_error_in_the_block_comes_out_as_it_is(bench, registry, region):
    queue = await bench.queue()
    with pytest.raises(LookupError):
        async with consume(queue, region, registry):
            raise LookupError


async def test_cancelling_the_block_stops_the_consumer(bench, registry, region):
    queue = await bench.queue()
    started = asyncio.Event()

    async def work():
        async with consume(queue, region, registry):
            started.set()
            await asyncio.sleep(60)

    worker = asyncio.create_task(work())
    await started.wait()
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker
    assert await bench.look(queue) == (0, 0)


async def test_it_does_not_spin_while_it_waits(bench, region, monkeypatch):
    """Not even where the broker was gone just when the circuit opened."""
    registry = make_registry(threshold=1, recovery=60)
    region = Region(registry)
    queue = await bench.queue()
    await bench.publish(queue, *range(3))
    region.error = ConnectionError()
    async with consume(queue, region, registry, prefetch=2) as consumer:
        await until(lambda: region.breaker.state is CircuitState.OPEN)
        [worker] = consumer._workers
        await until(lambda: worker._subscription.prefetch == 0 and not worker.running)
        worker._subscription._unavailability.retry_at = worker.now()
        worker.wake()
        rounds = []
        monkeypatch.setattr(worker, "_note_recovery", lambda: rounds.append(1))
        await settle_down()
    assert len(rounds) <= 5


async def test_a_rejection_next_to_a_probe_of_other_code_does_not_make_it_spin(bench):
    registry = make_registry(threshold=1, recovery=0.05)
    region = Region(registry)
    queue = await bench.queue()
    await bench.publish(queue, "one")
    tries = []

    async def handler(message):
        """As if another process held the probe's place, which cannot be seen from here."""
        tries.append(asyncio.get_running_loop().time())
        raise CircuitBreakerOpenError(region.region, CircuitState.HALF_OPEN, "down", 0.2)

    region.breaker.acquire().fail()
    async with consume(queue, handler, registry):
        await until(lambda: len(tries) >= 2)
    assert tries[1] - tries[0] >= 0.2


async def test_nothing_is_left_running(bench, registry, region):
    queue = await bench.queue()
    await bench.publish(queue, *range(3))
    before = asyncio.all_tasks()
    async with consume(queue, region, registry):
        await until(lambda: len(region.done) == 3)
    await until(lambda: asyncio.all_tasks() == before)


# What it leaves alone


async def test_the_users_channel_and_consumers_stay_as_they_are(bench, registry, region):
    queue, mine = await bench.queue(), await bench.queue()
    got = []
    channel = await bench.connection.channel()
    await channel.set_qos(7)
    own = await channel.get_queue(mine.name)

    async def on_message(message):
        got.append(message.body)
        await message.ack()

    await own.consume(on_message)
    region.error = ConnectionError()
    await bench.publish(queue, *range(5))
    async with consume(await channel.get_queue(queue.name), region, registry):
        await until(lambda: region.breaker.state is CircuitState.OPEN)
        await bench.publish(mine, "still read")
        await until(lambda: got)
        assert await bench.look(mine) == (0, 1)
        assert channel._prefetch_count == 7
    await channel.close()


async def test_a_broker_that_lacks_something_is_an_error(bench, registry, region, monkeypatch):
    needed = ("basic.nack", "time.travel")
    monkeypatch.setattr("resilience.integrations.rabbitmq.topology._NEEDED_CAPABILITIES", needed)
    with pytest.raises(ConsumerError, match=r"the broker does not support time\.travel"):
        async with consume(await bench.queue(), region, registry):
            pass


@pytest.mark.parametrize(
    ("version", "warns"),
    [("3.9.29", True), ("3.10.8", False), ("4.3.0", False), ("2.0", True), ("new", True)],
)
async def test_an_untested_version_of_the_broker_is_logged(
    bench, registry, region, log, *, version, warns
):
    queue = await bench.queue()
    properties = bench.connection.transport.connection.server_properties
    properties["version"] = version
    async with consume(queue, region, registry):
        pass
    assert any(f"this broker has version {version}" in record["message"] for record in log) is warns


async def test_a_cancellation_just_when_it_cannot_continue_is_raised(
    bench, registry, region, http_error, monkeypatch
):
    queue, dead = await bench.queue(), await bench.queue()
    region.fails_for["bad"] = http_error(404)
    started = asyncio.Event()
    on_end = RegionConsumer._on_worker_end

    def end_and_cancel(consumer, run):
        on_end(consumer, run)
        worker.cancel()

    async def work():
        async with consume(queue, region, registry, DeadLetterTo(dead.name)):
            started.set()
            await asyncio.sleep(60)

    monkeypatch.setattr(RegionConsumer, "_on_worker_end", end_and_cancel)
    worker = asyncio.create_task(work())
    await started.wait()
    await bench.channel.queue_delete(dead.name)
    await bench.publish(queue, "bad")
    with pytest.raises(asyncio.CancelledError):
        await worker


async def test_a_queue_that_does_not_exist_is_an_error_when_it_starts(bench, registry, region):
    queue = await bench.channel.get_queue("nowhere", ensure=False)
    with pytest.raises(ConsumerError, match="there is no queue 'nowhere': create it first"):
        async with consume(queue, region, registry):
            pass
    channel = await bench.connection.channel()
    with pytest.raises(Exception, match="NOT_FOUND"):
        await channel.get_queue("nowhere")


async def test_a_queue_of_another_connection_is_an_error(bench, registry, region):
    name = bench.name()
    await bench.channel.declare_queue(name, exclusive=True)
    from aio_pika import connect  # noqa: PLC0415 - another connection than the bench's

    other = await connect(str(bench.connection.url))
    async with other:
        channel = await other.channel()
        queue = await channel.get_queue(name, ensure=False)
        with pytest.raises(ConsumerError, match="RESOURCE_LOCKED"):
            async with consume(queue, region, registry):
                pass


async def test_it_can_be_started_once(bench, registry, region):
    queue = await bench.queue()
    consumer = consume(queue, region, registry)
    async with consumer:
        pass
    with pytest.raises(RuntimeError, match="make a new one"):
        async with consumer:
            pass
