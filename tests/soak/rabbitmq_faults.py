"""The faults that were found at the edges of the message workers, each provoked on a real broker.

    python -m tests.soak.rabbitmq_faults [--quick] [FAULT...]

plays them one after the other on a broker of its own, and prints a JSON object: for each fault,
what has been seen, and whether the promise was kept. The code that is tested is the `resilience`
that Python finds: the soak plays the same faults with the code as it was before they were mended.
Nothing here therefore uses what that code did not have, unless it says so.
"""

import argparse
import asyncio
import inspect
import json
import logging
import struct
import sys
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import aio_pika
import aiohttp
from loguru import logger
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from resilience import BreakerPolicy, CircuitBreakerRegistry, region_breaker
from resilience.integrations.rabbitmq import (
    DeadLetterTo,
    RegionConsumer,
    SharedConsumer,
    hold_when_open,
)
from tests.support import rabbitmq_broker
from tests.support import rabbitmq_raw as raw
from tests.support.chaos_proxy import ChaosProxy
from tests.support.rabbitmq_support import Region, bench_at, make_registry

EU, US = "eu-west-1", "us-east-1"
LIMIT = 20  # x-delivery-limit
WATCHDOG = 180.0  # seconds, for a consumer that should have ended long before
EVERYTHING = (".*", ".*", ".*")  # configure, write, read
NO_DEFAULT_EXCHANGE = (".*", r"^(?!amq\.default$).*", ".*")
NOTHING_TO_CONFIGURE = ("^$", ".*", ".*")


@dataclass(frozen=True)
class Seen:
    """What has been seen of a fault: in words, and whether it is as promised."""

    text: str
    kept: bool


class Site:
    """A broker of its own, with a user whose rights change, and the log of the package.

    Args:
        broker: The broker; it has the user `worker`.
        quick: Whether to take less time, where only the code before would show a difference.
    """

    def __init__(self, broker, *, quick=False):
        self._broker, self.quick = broker, quick
        # How much longer than in the soak is waited for what the code as it is does soon.
        self.patience = 4 if quick else 1
        self.url = broker.url
        self.workers_url = broker.url.replace("guest:guest", "worker:secret")
        self._records = []

    async def ctl(self, *arguments):
        return await asyncio.to_thread(self._broker.ctl, *arguments)

    async def allow(self, rights):
        await self.ctl("set_permissions", "worker", *rights)

    @asynccontextmanager
    async def alarm(self):
        """Set off a memory alarm, and end it."""
        await self.ctl("set_vm_memory_high_watermark", "0.00001")
        try:
            yield
        finally:
            await self.ctl("set_vm_memory_high_watermark", "0.6")

    @asynccontextmanager
    async def log(self):
        """Collect the warnings of the package."""
        lines = []
        sink = logger.add(lambda line: lines.append(line.record["message"]), level="WARNING")
        try:
            yield lines
        finally:
            logger.remove(sink)


# What the scenarios share


def share(bench, queue, handler, registry, *, on_error, regions=(EU,), region_of=None, **settings):
    bench.forget(*(f"{queue.name}.wait.{name}" for name in regions))
    return SharedConsumer(
        queue,
        handler,
        region_of=region_of or (lambda _: EU),
        regions=regions,
        wait_queue=f"{queue.name}.wait.{{region}}",
        on_error=on_error,
        registry=registry,
        **settings,
    )


class Errors:
    """An `on_error` that counts, and acknowledges."""

    def __init__(self):
        self.bodies = []

    async def __call__(self, message, _error):
        self.bodies.append(message.body)
        await message.ack()


async def within(seconds, condition):
    """Wait for a condition; return the seconds that it took, or None if it has not come true."""
    began = time.monotonic()
    while (now := time.monotonic()) <= began + seconds:
        fulfilled = condition()
        if asyncio.iscoroutine(fulfilled):
            fulfilled = await fulfilled
        if fulfilled:
            return now - began
        await asyncio.sleep(0.01)
    return None


async def ended_with(consumer, work, within=WATCHDOG):
    """Let a consumer run until some work is done; return the error that has ended it, or None."""
    try:
        async with asyncio.timeout(within), consumer:
            await work()
    except Exception as error:
        return error
    return None


def ending(error):
    """Describe how a worker has ended, if it has."""
    return "" if error is None else f"; ended by `{type(error).__name__}`"


async def ready(bench, queue):
    """Return how many messages are in a queue, or 0 if it is gone."""
    try:
        return (await bench.look(queue))[0]
    except aio_pika.exceptions.ChannelNotFoundEntity:
        return 0


def http_error(status, **headers):
    url = URL("https://api.mypurecloud.ie/api/v2")
    none = CIMultiDictProxy(CIMultiDict())
    request = aiohttp.RequestInfo(url, "POST", none, url)
    headers = CIMultiDictProxy(CIMultiDict(headers))
    return aiohttp.ClientResponseError(request, (), status=status, headers=headers)


def supported(consumer, **settings):
    """Return those settings that the consumer has in the code that is tested."""
    parameters = inspect.signature(consumer).parameters
    return {name: value for name, value in settings.items() if name in parameters}


# The faults


async def cannot_be_copied(site):
    headers = {
        "a string that is not UTF-8": raw.headers(name=raw.text(b"M\xfcller")),
        "a large double": raw.headers(value=b"d" + struct.pack(">d", 1e300)),
        "a message ID that is not UTF-8": struct.pack(">H", raw.MESSAGE_ID) + raw.short(b"\xfc"),
    }
    registry, errors = make_registry(), Errors()
    region = Region(registry)
    async with bench_at(site.url) as bench, bench_at(site.url) as mine:
        queue = await bench.queue()
        for name, encoded in headers.items():
            await raw.publish_raw(bench, queue, name.encode(), encoded)
        await bench.publish(queue, *range(20))
        region.breaker.force_open("down")
        read = await mine.channel.get_queue(queue.name)
        consumer = share(bench, read, region, registry, on_error=errors)
        await consumer.declare()

        async def work():
            await within(10 * site.patience, lambda: errors.bodies)

            async def are_moved():
                return await ready(bench, f"{queue.name}.wait.{EU}") >= 22

            await within(10 * site.patience, are_moved)
            region.breaker.reset()
            await within(10 * site.patience, lambda: len(set(region.done)) == 22)

        error = await ended_with(consumer, work)
    done = len(set(region.done))
    text = f"{done} of 22 delivered, {len(errors.bodies)} of 1 to `on_error`{ending(error)}"
    return Seen(text, kept=(done, len(errors.bodies), error) == (22, 1, None))


async def no_right_to_publish(site):
    registry, errors = make_registry(), Errors()
    region = Region(registry)
    async with bench_at(site.url) as bench, bench_at(site.workers_url) as mine, site.log() as log:
        queue = await bench.queue("quorum", x_delivery_limit=LIMIT)
        await bench.publish(queue, *range(60))
        region.breaker.force_open("down")
        await site.allow(EVERYTHING)
        read = await mine.channel.get_queue(queue.name)
        consumer = share(bench, read, region, registry, on_error=errors)
        await consumer.declare()
        await site.allow(NO_DEFAULT_EXCHANGE)
        error = await ended_with(consumer, lambda: asyncio.sleep(150))
        await site.allow(EVERYTHING)
        await asyncio.sleep(1)  # The figures of a quorum queue are as old as that.
        left = len(await bench.drain(queue)) + len(await bench.drain(f"{queue.name}.wait.{EU}"))
    lost, lines = 60 - left, sum("ACCESS_REFUSED" in line for line in log)
    if error is None:
        return Seen(f"{lost} of 60 lost in 150 s, {lines} lines say why", kept=False)
    reported = "ACCESS_REFUSED" in str(error)
    words = "with the server's text" if reported else "without the server's text"
    text = f"{lost} of 60 lost; `{type(error).__name__}` {words}"
    return Seen(text, kept=lost == 0 and reported)


async def held_failures(site):
    registry = make_registry(threshold=1, recovery=0.1)
    region = Region(registry)
    async with bench_at(site.url) as bench:
        dead = await bench.queue()
        queue = await bench.queue(
            "quorum",
            x_delivery_limit=LIMIT,
            x_dead_letter_exchange="",
            x_dead_letter_routing_key=dead.name,
        )
        await bench.publish(queue, *range(10))
        region.error = ConnectionError()
        await bench.channel.set_qos(prefetch_count=1)

        @hold_when_open(region_of=lambda _: EU, registry=registry)
        async def on_message(message):
            await region(message)

        tag = await queue.consume(on_message)
        await within(10 * site.patience, lambda: region.total > 2 * LIMIT)
        probes, region.error = region.total, None
        await within(15 * site.patience, lambda: len(region.done) == 10)
        await queue.cancel(tag)
        dead_lettered = len(await bench.drain(dead))
    done = len(region.done)
    text = (
        f"{done} of 10 delivered after an outage with {probes} failed calls, "
        f"{dead_lettered} dead-lettered, {10 - done - dead_lettered} unacked for ever"
    )
    return Seen(text, kept=(done, dead_lettered) == (10, 0))


async def memory_alarm(site):
    count = 330
    registry, may_go_on = make_registry(), asyncio.Event()
    regions = {name: Region(registry, name, takes=0.001) for name in (EU, US)}
    async with bench_at(site.url) as bench, bench_at(site.url) as mine:
        queue = await bench.queue()
        numbers = [number for number in range(count) for _ in regions]
        names = [*regions] * count
        publishing = (
            bench.publish(queue, number, headers={"region": name})
            for number, name in zip(numbers, names, strict=True)
        )
        await asyncio.gather(*publishing)

        def region_of(message):
            return message.headers["region"]

        async def handler(message):
            await may_go_on.wait()
            await regions[region_of(message)](message)

        read = await mine.channel.get_queue(queue.name)
        consumer = share(
            bench, read, handler, registry, on_error=Errors(), regions=tuple(regions),
            region_of=region_of, prefetch=10,
        )  # fmt: skip
        await consumer.declare()
        regions[EU].breaker.force_open("down")
        took = None

        async def work():
            nonlocal took
            async with site.alarm():
                may_go_on.set()
                took = await within(15 * site.patience, lambda: len(regions[US].done) == count)
                seen.append(len(regions[US].done))

        seen = []
        error = await ended_with(consumer, work)
    done = seen[0] if seen else 0
    text = f"{done} of {count} delivered in {took or 15:.1f} s{ending(error)}"
    return Seen(text, kept=(done, error) == (count, None))


async def queue_away(site):
    registry, away = make_registry(), 2.0 if site.quick else 15.0
    region, took = Region(registry), None
    async with bench_at(site.url) as bench, bench_at(site.url) as mine:
        queue = await bench.queue("quorum")
        read = await mine.channel.get_queue(queue.name)
        consumer = RegionConsumer(read, region, region=EU, on_error=Errors(), registry=registry)
        began = time.monotonic()

        async def work():
            nonlocal took
            await bench.publish(queue, "before")
            await within(10 * site.patience, lambda: region.done)
            await bench.channel.queue_delete(queue.name)
            await asyncio.sleep(away)
            await bench.queue("quorum", name=queue.name)
            await bench.publish(queue, *range(10))
            took = await within(40 * site.patience, lambda: len(region.done) == 11)

        error = await ended_with(consumer, work)
        lasted = time.monotonic() - began
    if error is not None:
        return Seen(
            f"ended after {lasted:.0f} s{ending(error).removeprefix('; ended')}", kept=False
        )
    done = len(region.done) - 1
    after = f" {took:.0f} s after the queue was back" if took is not None else ""
    return Seen(f"{done} of 10 delivered{after}", kept=took is not None)


async def queue_that_deletes_itself(site):
    found, refused, count = 0, 0, 100
    async with bench_at(site.url) as bench, bench_at(site.url) as mine:
        for how in ({"auto_delete": True}, {"arguments": {"x-expires": 1000}}):
            registry = make_registry(recovery=60)
            region = Region(registry)
            region.error = ConnectionError()
            # Only who declares such a queue consumes it: it would be gone already.
            queue = await mine.channel.declare_queue(bench.name(), **how)
            await bench.publish(queue, *range(count))
            consumer = RegionConsumer(
                queue, region, region=EU, on_error=Errors(), registry=registry
            )
            error = await ended_with(consumer, lambda: asyncio.sleep(4))
            refused += error is not None and not region.total
            with suppress(aio_pika.exceptions.AMQPError):
                found += await ready(bench, queue)
                await bench.channel.queue_delete(queue.name)
    text = f"{2 * count - found} of {2 * count} lost; {refused} of 2 queues refused at the start"
    return Seen(text, kept=(found, refused) == (2 * count, 2))


async def poison(site):
    recovery, patience = BreakerPolicy().recovery_timeout, 1
    if site.quick:
        recovery, patience = 0.5, 20
    registry = CircuitBreakerRegistry(BreakerPolicy(recovery_timeout=recovery))
    region, errors = Region(registry, takes=0.001), Errors()
    region.fails_for = {f"poison {number}": http_error(500) for number in range(15)}
    good = [str(number) for number in range(1985)]
    settings = supported(SharedConsumer, max_attempts=3)
    took = None
    async with bench_at(site.url) as bench:
        queue = await bench.queue("quorum", x_delivery_limit=LIMIT)
        await bench.publish(queue, *good[:36], *region.fails_for, *good[36:])
        consumer = share(bench, queue, region, registry, on_error=errors, **settings)
        await consumer.declare()

        async def work():
            nonlocal took
            enough = 3 * recovery * patience
            took = await within(enough, lambda: len(set(region.done)) == len(good))
            if settings:
                await within(6 * recovery * patience, lambda: len(errors.bodies) == 15)

        error = await ended_with(consumer, work, within=10 * recovery * patience + WATCHDOG)
    done, given_up = len(set(region.done)), len(set(errors.bodies))
    text = (
        f"{done:,} of {len(good):,} good ones delivered in {took or 3 * recovery:.0f} s, "
        f"{given_up} of 15 to `on_error`{ending(error)}"
    )
    return Seen(text, kept=(done, given_up, error) == (len(good), 15, None))


async def told_to_wait(site):
    registry = CircuitBreakerRegistry(BreakerPolicy())
    region = Region(registry, takes=0.001)
    waits = http_error(429, **{"Retry-After": "60"})
    region.fails_for = {f"waits {number}": waits for number in range(30)}
    took = None
    async with bench_at(site.url) as bench:
        queue = await bench.queue()
        await bench.publish(queue, *region.fails_for, *range(300))
        consumer = RegionConsumer(
            queue, region, region=EU, on_error=Errors(), registry=registry, prefetch=10
        )

        async def work():
            nonlocal took
            took = await within(30 * site.patience, lambda: len(region.done) == 300)

        error = await ended_with(consumer, work)
    text = f"{len(region.done)} of 300 delivered in {took or 30:.1f} s{ending(error)}"
    return Seen(text, kept=(len(region.done), error) == (300, None))


async def conditions(site):
    """Provoke six conditions that an operator should know of; count those that are logged once."""
    logged = 0
    for condition, word in CONDITIONS.items():
        registry = make_registry()
        region = Region(registry)
        async with bench_at(site.url) as bench, bench_at(site.url) as mine, site.log() as log:
            queue = await bench.queue()
            await bench.publish(queue, *range(20))
            read = await mine.channel.get_queue(queue.name)

            def lines(queue=queue, word=word, log=log):
                return [line for line in log if queue.name in line and word in line]

            async with condition(site, bench, mine, region) as (handler, settings):
                common = {"on_error": Errors(), "registry": registry}
                consumer = RegionConsumer(read, handler, region=EU, **{**common, **settings})
                await ended_with(consumer, lambda lines=lines: _twice(site, lines))
            logged += len(lines()) == 1
    total = len(CONDITIONS)
    return Seen(f"{logged} of {total} have one line in the log", kept=logged == total)


async def _twice(site, lines):
    """Wait for a line, and for another one, which should not come."""
    await within(12 * site.patience, lines)  # The connection is looked at every five seconds.
    await within(1, lambda: len(lines()) > 1)


@asynccontextmanager
async def _full_queue(_site, bench, _mine, region):
    dead = await bench.queue(x_max_length=1, x_overflow="reject-publish")
    region.error = ValueError("a bug")
    yield region, {"on_error": DeadLetterTo(dead.name)}


@asynccontextmanager
async def _long_call(_site, _bench, _mine, region):
    go_on = asyncio.Event()

    async def handler(message):
        with suppress(TimeoutError):
            await asyncio.wait_for(go_on.wait(), 10)
        await region(message)

    asyncio.get_running_loop().call_later(10, go_on.set)
    yield handler, {"max_unacked": 0.1, "stop_timeout": 1.0}
    go_on.set()


@asynccontextmanager
async def _closed_channel(_site, _bench, _mine, region):
    closed = []

    async def handler(message):
        if not closed:
            closed.append(message)
            await message.channel.basic_ack(delivery_tag=4711)  # which the broker does not know
        await region(message)

    yield handler, {}


@asynccontextmanager
async def _full_hand(_site, _bench, _mine, region):
    region.error = ConnectionError()
    yield region, {"max_failed_held": 2, "prefetch": 2}


@asynccontextmanager
async def _blocked_connection(site, bench, mine, region):
    results = await bench.queue()

    async def handler(message):
        await mine.publish(results, "result")
        await region(message)

    async with site.alarm():
        yield handler, {"stop_timeout": 1.0}


@asynccontextmanager
async def _settled_by_the_handler(_site, _bench, _mine, region):
    region.error = ConnectionError()

    async def handler(message):
        async with message.process():
            await region(message)

    yield handler, {}


# Each condition, and a word that a line about it has.
CONDITIONS = {
    _full_queue: "full",
    _long_call: "still running",
    _closed_channel: "unknown delivery tag",
    _full_hand: "max_failed_held",
    _blocked_connection: "blocked",
    _settled_by_the_handler: "settled",
}


async def stopping(site):
    """Stop a consumer that has a call running when the broker goes silent, or is in an alarm."""
    black_hole, alarm = await _stop_in_a_black_hole(site), await _stop_in_an_alarm(site)
    text = f"{black_hole:.1f} s in a black hole, {alarm:.1f} s in an alarm"
    return Seen(text, kept=max(black_hole, alarm) < 2 * site.patience)


STOP_TIMEOUT = 1.0  # seconds


async def _stop_in_a_black_hole(site):
    registry, running = make_registry(threshold=1, recovery=60), asyncio.Event()
    region = Region(registry)

    async def handler(message):
        running.set()
        await asyncio.sleep(0.2)
        await region(message)

    async with bench_at(site.url) as bench:
        queue = await bench.queue()
        await bench.publish(queue, *range(20))
        region.error = ConnectionError()
        proxy = ChaosProxy(URL(site.url).port)
        connection = await aio_pika.connect(str(URL(site.url).with_port(proxy.port)))
        read = await (await connection.channel()).get_queue(queue.name)
        consumer = RegionConsumer(
            read, handler, region=EU, on_error=Errors(), registry=registry,
            stop_timeout=STOP_TIMEOUT,
        )  # fmt: skip

        async def work():
            nonlocal began
            await running.wait()
            proxy.black_hole = True
            await asyncio.sleep(0.5)
            began = time.monotonic()

        began = 0.0
        await ended_with(consumer, work)
        took = time.monotonic() - began
        proxy.black_hole = False
        proxy.reset()
        await connection.close()
        proxy.close()
    return took


async def _stop_in_an_alarm(site):
    registry = make_registry(threshold=1, recovery=60)
    region = Region(registry)
    async with bench_at(site.url) as bench, bench_at(site.url) as mine:
        queue = await bench.queue()
        await bench.publish(queue, *range(20))
        read = await mine.channel.get_queue(queue.name)
        consumer = share(
            bench, read, region, registry, on_error=Errors(), stop_timeout=STOP_TIMEOUT
        )
        await consumer.declare()
        region.breaker.force_open("down")

        async def work():
            nonlocal began
            await asyncio.sleep(1)
            began = time.monotonic()

        began = 0.0
        async with site.alarm():
            await ended_with(consumer, work)
            return time.monotonic() - began


async def no_right_to_configure(site):
    registry = make_registry()
    region = Region(registry)
    async with bench_at(site.url) as bench, bench_at(site.workers_url) as mine, site.log() as log:
        queue = await bench.queue()
        await share(bench, queue, region, registry, on_error=Errors()).declare()
        await bench.publish(queue, *range(10))
        await site.allow(NOTHING_TO_CONFIGURE)
        read = await mine.channel.get_queue(queue.name)
        consumer = share(bench, read, region, registry, on_error=Errors())
        error = await ended_with(
            consumer, lambda: within(10 * site.patience, lambda: len(region.done) == 10)
        )
        await site.allow(EVERYTHING)
        warnings = sum("no right to configure" in line for line in log)
    text = f"{len(region.done)} of 10 delivered, {warnings} line in the log{_kind_of(error)}"
    return Seen(text, kept=(len(region.done), warnings, error) == (10, 1, None))


def _kind_of(error):
    return "" if error is None else f"; `{type(error).__name__}` at the start"


OTHER_REGISTRY = make_registry()


@region_breaker(region_from=lambda _: EU, registry=OTHER_REGISTRY)
async def call_elsewhere(_message):
    """Call the region through a circuit that the consumer does not follow."""


async def handle(_message):
    """Handle a message."""


async def handle_more(_message, _more):
    """Take more than a message."""


async def misuse(site):
    mistakes = {
        "a handler with two parameters": {"handler": handle_more},
        "an on_error with one": {"on_error": handle},
        "a max_unacked that the queue does not allow": {"max_unacked": 120.0},
        "another registry than the handler's": {"handler": call_elsewhere},
    }
    noticed = 0
    async with bench_at(site.url) as bench:
        queue = await bench.queue(x_consumer_timeout=60_000)
        for mistake in mistakes.values():
            settings = {"handler": handle, "on_error": Errors(), "max_unacked": 10.0, **mistake}
            async with site.log() as log:
                noticed += await _refused(queue, settings) or bool(log)
    text = f"{noticed} of {len(mistakes)} mistakes refused or logged at the start"
    return Seen(text, kept=noticed == len(mistakes))


async def _refused(queue, settings):
    handler = settings.pop("handler")
    try:
        consumer = RegionConsumer(queue, handler, region=EU, registry=make_registry(), **settings)
    except TypeError:
        return True
    return await ended_with(consumer, lambda: asyncio.sleep(0.2)) is not None


FAULTS = {
    "cannot be copied": cannot_be_copied,
    "no right to publish": no_right_to_publish,
    "held failures": held_failures,
    "memory alarm": memory_alarm,
    "queue away": queue_away,
    "queue that deletes itself": queue_that_deletes_itself,
    "poison": poison,
    "told to wait": told_to_wait,
    "conditions": conditions,
    "stopping": stopping,
    "no right to configure": no_right_to_configure,
    "misuse": misuse,
}


async def play(broker, names, *, quick):
    """Play some faults; return what was seen of each by its name."""
    site = Site(broker, quick=quick)
    await site.ctl("add_user", "worker", "secret")
    await site.allow(EVERYTHING)
    seen = {}
    for name in names:
        began = time.monotonic()
        seen[name] = await FAULTS[name](site)
        print(f"{name}: {seen[name]}, {time.monotonic() - began:.0f} s", file=sys.stderr)
    return seen


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("faults", nargs="*", choices=[[], *FAULTS])
    options = parser.parse_args()
    for name in ("aio_pika", "aiormq"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logger.remove()
    broker = rabbitmq_broker.started_broker()
    try:
        version = broker.ctl("version").strip()
        seen = asyncio.run(play(broker, options.faults or FAULTS, quick=options.quick))
    finally:
        broker.close()
    faults = {name: vars(one) for name, one in seen.items()}
    print(json.dumps({"version": version, "faults": faults}))


if __name__ == "__main__":
    main()
