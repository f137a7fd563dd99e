"""Outages, as a message worker lives through them: a real broker, regions on real HTTP.

Each scenario is played by a worker in a process of its own. It has queues, regions and a wire of
its own, so that several can be played at once. What is counted comes from the wire, the regions and
the kernel, never from the worker. Used by tests/integration/rabbitmq/test_promises.py and by
the soak.
"""

import asyncio
import contextlib
import multiprocessing
import os
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from statistics import median

import aio_pika

from resilience.testing import FakeGenesys
from tests.support import rabbitmq_worker
from tests.support.rabbitmq_wire import Wire

DEAD, HEALTHY = "eu-west-1", "us-east-1"  # the first is the one that goes down
RECOVERY = 1.0  # seconds, the recovery timeout of all circuits here
PROBES_TO_CLOSE = 3
ANSWERS_AFTER = 0.020  # seconds
LIMIT = 20  # x-delivery-limit
WATCHDOG = 90.0  # seconds, for what takes one or two

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_AT_ONCE = 100  # messages that are published without waiting for the broker


# A worker that is forked from a process with all its libraries starts in no time.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["aio_pika", "aiohttp", "resilience.integrations.rabbitmq"])

# What a scenario is made of


@dataclass(frozen=True, slots=True)
class Request:
    """What a region knew when a request arrived."""

    at: float
    name: str
    running: int  # requests at once, this one included
    succeeded: int  # requests that had been answered well before


class Region(FakeGenesys):
    """A Genesys region that remembers when each request came."""

    def __init__(self):
        super().__init__(require_token=False, latency=ANSWERS_AFTER)
        self.seen = []
        self.last_success = 0.0
        self._running = self.succeeded = 0

    def fail_always(self, name):
        """Answer 500 to one message, whatever becomes of the others."""
        path, _, _ = self.message_url(name).removeprefix(self.url).partition(f"/{name}/")
        self.fail(500, paths=f"{path}/{name}/")

    @property
    def delivered(self):
        """How often each message was accepted."""
        return Counter(body["channel"]["messageId"] for body in self.messages)

    async def _handle(self, request):
        self._running += 1
        name = request.path.split("/")[5]
        self.seen.append(Request(time.monotonic(), name, self._running, self.succeeded))
        try:
            response = await super()._handle(request)
        finally:
            self._running -= 1
        if response.status < 400:
            self.succeeded += 1
            self.last_success = time.monotonic()
        return response


class WorkerProcess:
    """A worker, seen from outside.

    Args:
        settings: What it is told.
    """

    def __init__(self, settings):
        self._pipe, its_end = _processes.Pipe()
        self._process = _processes.Process(target=rabbitmq_worker.run, args=(settings, its_end))
        self._process.start()
        its_end.close()
        #: What it has told: dicts of `at`, `what`, `region`.
        self.events = []
        self._open = True
        asyncio.get_running_loop().add_reader(self._pipe.fileno(), self._read)

    def _read(self):
        try:
            self.events.append(self._pipe.recv())
        except (EOFError, ConnectionResetError):
            self._open = False
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())

    async def saw(self, what, region=None, since=0.0):
        """Wait until it has told something, and give when that was."""

        def times():
            for event in self.events:
                if event["what"] == what and event["region"] == region and event["at"] >= since:
                    yield event["at"]

        await until(lambda: next(times(), None) or not self._process.is_alive())
        while self._open and self._pipe.poll():
            self._read()
        if (at := next(times(), None)) is None:
            raise AssertionError(f"the worker ended before {what}: {self.events[-1:]}")
        return at

    def count(self, what, since=0.0, before=float("inf")):
        return sum(1 for e in self.events if e["what"] == what and since <= e["at"] < before)

    async def go(self):
        """Let it consume."""
        self._pipe.send("go")
        await self.saw("started")

    async def stop(self):
        """Let it end in good order."""
        self._pipe.send("stop")
        await self.saw("stopped")
        await until(lambda: not self._process.is_alive())

    async def kill(self):
        """Kill it on the spot (SIGKILL)."""
        self._process.kill()
        await until(lambda: not self._process.is_alive())

    async def close(self):
        """End it, and leave nothing behind."""
        await self.kill()
        asyncio.get_running_loop().remove_reader(self._pipe.fileno())
        self._pipe.close()
        self._process.close()

    @property
    def cpu(self):
        """Seconds of a core that it has used."""
        text = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8")
        user, system = text.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / _TICKS_PER_SECOND


@dataclass
class Report:
    """What became of the messages of one scenario."""

    messages: int
    delivered: int
    duplicates: int  # delivered once more, or still in a queue though delivered
    dead_lettered: int
    left: int  # in the queues, when the worker had stopped
    lost: int
    most_deliveries: int  # of any message, over all queues
    deliveries: int
    requests: int
    extra: dict = field(default_factory=dict)

    def __getattr__(self, name):
        try:
            return self.__dict__["extra"][name]
        except KeyError:
            raise AttributeError(name) from None


class Play:
    """A broker's queues, two regions, a wire and workers, for one scenario.

    Args:
        url: The broker.
        layout: Of the workers: region, shared, literal or naive.
        kind: Of the queues: quorum or classic.
        limit: Their x-delivery-limit, where they are quorum queues; None leaves it to the broker.
    """

    def __init__(self, url, layout, kind="quorum", limit=LIMIT):
        self._url, self.layout, self.kind, self._limit = url, layout, kind, limit
        name = uuid.uuid4().hex[:8]
        self.queue, self.dead, self.wait_queue = (
            f"work.{name}", f"dead.{name}", f"wait.{{region}}.{name}"
        )  # fmt: skip
        self.wire = Wire(url)
        self.regions = {DEAD: Region(), HEALTHY: Region()}
        self.workers = []
        self.dead_letters = []
        self.names = {region: [] for region in self.regions}
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self):
        enter = self._stack.enter_async_context
        for region in self.regions.values():
            await enter(region)
        await enter(self.wire)
        self._stack.push_async_callback(self._close_workers)
        self._connection = await enter(
            await aio_pika.connect_robust(self._url, reconnect_interval=0.5)
        )
        self._channel = await self._connection.channel()
        self._stack.push_async_callback(self._delete_queues)
        for queue in self._queues():
            await self._channel.declare_queue(queue, durable=True, arguments=self._arguments(queue))
        dead = await self._channel.get_queue(self.dead)
        tag = await dead.consume(self._bury, no_ack=True)
        self._stack.push_async_callback(dead.cancel, tag)
        return self

    async def __aexit__(self, *exc_info):
        if (error := exc_info[1]) is not None:
            missing, told = sorted(self._undelivered()), [w.events[-3:] for w in self.workers]
            error.add_note(f"{len(missing)} not delivered: {missing[:5]}...; told: {told}")
        return await self._stack.__aexit__(*exc_info)

    def _queues(self):
        waits = [self.wait_queue.format(region=region) for region in self.regions]
        return [self.queue, self.dead, *(waits if self.layout == "shared" else [])]

    def _arguments(self, queue):
        arguments = {"x-queue-type": self.kind}
        if queue == self.queue:
            arguments |= {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": self.dead}
            if self.kind == "quorum" and self._limit is not None:
                arguments["x-delivery-limit"] = self._limit
        return arguments

    async def _bury(self, message):
        self.dead_letters.append(message.message_id)

    async def _close_workers(self):
        for worker in self.workers:
            await worker.close()

    async def _delete_queues(self):
        async with await aio_pika.connect(self._url) as connection:
            channel = await connection.channel()
            for queue in self._queues():
                await channel.queue_delete(queue)

    # What is done in it

    @property
    def region(self):
        """The one that goes down."""
        return self.regions[DEAD]

    async def publish(self, count, region=DEAD):
        """Put persistent messages into the queue."""
        names = [f"{region}-{len(self.names[region]) + n}" for n in range(count)]
        self.names[region] += names
        for at in range(0, count, _AT_ONCE):
            await asyncio.gather(*(self._put(name, region) for name in names[at : at + _AT_ONCE]))

    async def _put(self, name, region):
        persistent = aio_pika.DeliveryMode.PERSISTENT
        message = aio_pika.Message(
            b"hello", message_id=name, headers={"region": region}, delivery_mode=persistent
        )
        await self._channel.default_exchange.publish(message, self.queue)

    async def worker(self, prefetch, *, circuit="CLOSED", max_unacked=60.0):
        """Start a worker that is ready and waits to be told to go."""
        settings = {
            "url": self.wire.url,
            "layout": self.layout,
            "queue": self.queue,
            "dead": self.dead,
            "wait_queue": self.wait_queue,
            "region": DEAD,
            "regions": {name: region.message_url("{}") for name, region in self.regions.items()},
            "prefetch": prefetch,
            "recovery": RECOVERY,
            "open": [DEAD] if circuit == "OPEN" else [],
            "max_unacked": max_unacked,
        }
        worker = WorkerProcess(settings)
        self.workers.append(worker)
        await worker.saw("ready")
        return worker

    async def all_delivered(self, but=0):
        """Wait until every message was accepted by its region, except for this many."""
        await until(lambda: len(self._undelivered()) <= but)

    async def all_settled(self):
        """Wait until every message was accepted or dead-lettered."""
        await until(lambda: not self._unsettled())

    def _unsettled(self):
        return self._undelivered() - {*self.dead_letters}

    def _undelivered(self):
        delivered = chain(*(region.delivered for region in self.regions.values()))
        return {*chain(*self.names.values())} - {*delivered}

    async def report(self, worker, **extra):
        """Stop the worker that runs, and find out what has become of each message."""
        with contextlib.suppress(TimeoutError):  # then it is left, and counted below
            await until(self._is_acked, within=5)
        await worker.stop()
        queues = [queue for queue in self._queues() if queue != self.dead]
        left = [name for queue in queues async for name in self._drain(queue)]
        with contextlib.suppress(TimeoutError):  # then they are lost
            await until(lambda: self._unsettled() <= {*left}, within=5)
        delivered = sum((region.delivered for region in self.regions.values()), Counter())
        second_copies = [name for name in left if name in delivered]  # no test has to wait for them
        return Report(
            messages=sum(len(names) for names in self.names.values()),
            delivered=len(delivered),
            duplicates=delivered.total() - len(delivered) + len(second_copies),
            dead_lettered=len(self.dead_letters),
            left=len(left) - len(second_copies),
            lost=len(self._unsettled() - {*left}),
            most_deliveries=self.wire.most_deliveries(),
            deliveries=len(self.wire.deliveries),
            requests=sum(len(region.seen) for region in self.regions.values()),
            extra=extra,
        )

    def _is_acked(self):
        acked = {name for how, name in self.wire.settled if how == "ack"}
        return all(region.delivered.keys() <= acked for region in self.regions.values())

    async def _drain(self, name):
        queue = await self._channel.get_queue(name)
        while (message := await queue.get(fail=False, no_ack=True)) is not None:
            yield message.message_id


async def until(condition, within=WATCHDOG):
    """Wait for something that happens elsewhere."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - it happens in other processes
            await asyncio.sleep(0.01)


class Core:
    """How much of a core a worker takes, from now on."""

    def __init__(self, worker):
        self._worker, self._cpu, self._since = worker, worker.cpu, time.monotonic()

    @property
    def share(self):
        return (self._worker.cpu - self._cpu) / (time.monotonic() - self._since)


# The scenarios. An outage lasts `down` seconds in the soak, and until `probes` have failed in the
# tests, which therefore wait for what happens and not for time to pass.


async def outlast(worker, down, probes):
    """Let an outage last."""
    if probes is None:
        tripped = await worker.saw("OPEN", DEAD)
        await asyncio.sleep(down - (time.monotonic() - tripped))
    else:  # each failed probe opens the circuit again
        await until(lambda: worker.count("OPEN") > probes)


async def outage(
    url, *, layout="region", kind="quorum", prefetch=10, down=10.0, probes=None, count=500
):
    """One region is down from the start, and comes back."""
    async with Play(url, layout, kind) as play:
        region = play.region
        region.fail(503)
        await play.publish(count)
        worker = await play.worker(prefetch)
        await worker.go()
        tripped = await worker.saw("OPEN", DEAD)
        core = Core(worker)
        await outlast(worker, down, probes)
        share = core.share
        region.up()
        back = time.monotonic()
        closed = await worker.saw("CLOSED", DEAD, since=back)
        await play.all_delivered()
        return await play.report(
            worker,
            core=share,
            closed_after=closed - back,
            drained_after=region.last_success - back,
            probes=worker.count("HALF_OPEN", before=back),
            after_the_trip=sum(1 for one in region.seen if tripped <= one.at < back),
        )


async def poison(
    url,
    *,
    layout="region",
    kind="quorum",
    prefetch=10,
    down=4.0,
    probes=None,
    count=500,
    poisoned=1,
):
    """The message at the head of the queue is always answered 500, or several are."""
    async with Play(url, layout, kind) as play:
        region = play.region
        region.fail(503)
        await play.publish(count)
        worker = await play.worker(prefetch)
        await worker.go()
        await outlast(worker, down, probes)
        region.up()
        for name in play.names[DEAD][:poisoned]:
            region.fail_always(name)
        back = time.monotonic()
        closed = await worker.saw("CLOSED", DEAD, since=back)
        await play.all_delivered(but=poisoned)
        failed_before = worker.count("OPEN", since=back, before=closed)
        return await play.report(worker, closed_after=closed - back, failed_before=failed_before)


async def undisturbed(url, *, kind, prefetch, count=50):
    """How long the messages of the healthy region take when they are alone."""
    async with Play(url, "shared", kind) as play:
        await play.publish(count, HEALTHY)
        worker = await play.worker(prefetch)
        await worker.go()
        return await healthy_seconds(play)


async def shared(url, *, layout="shared", kind, prefetch, circuit, down=1.0, probes=None, count=50):
    """A dead region's messages stand in front of a healthy one's, in the same queue."""
    async with Play(url, layout, kind) as play:
        play.region.fail(503)
        await play.publish(count, DEAD)
        await play.publish(count, HEALTHY)
        worker = await play.worker(prefetch, circuit=circuit)
        await worker.go()
        seconds = await healthy_seconds(play)
        attempts = len(play.region.seen) - worker.count("HALF_OPEN")
        await outlast(worker, down, probes)
        play.region.up()
        await play.all_delivered()
        return await play.report(
            worker,
            seconds=seconds,
            attempts=attempts,
            acked_too_early=len(play.wire.acked_too_early),
            from_the_shared_queue=sum(one.queue == play.queue for one in play.wire.deliveries),
        )


async def healthy_seconds(play):
    """Wait for the healthy region's messages; give the time from the first delivery of all."""
    healthy = play.regions[HEALTHY]
    await until(lambda: healthy.succeeded == len(play.names[HEALTHY]))
    return healthy.last_success - play.wire.deliveries[0].at


async def fairness(url, *, kind, prefetch, circuit):
    """Play `undisturbed` and `shared` in turn, three times each.

    Returns:
        How many seconds the healthy messages take undisturbed, and how many behind the dead ones,
        both the median; and the reports.
    """
    alone, reports = [], []
    for _ in range(3):
        alone.append(await undisturbed(url, kind=kind, prefetch=prefetch))
        reports.append(await shared(url, kind=kind, prefetch=prefetch, circuit=circuit))
    return median(alone), median(report.seconds for report in reports), reports


async def waiting(url, *, kind="quorum", prefetch=10, count=2000, watch=10.0, probes=None):
    """Many messages wait for a region that stays down."""
    async with Play(url, "shared", kind) as play:
        play.region.fail(503)
        await play.publish(count)
        worker = await play.worker(prefetch)
        await worker.go()
        wait_queue = play.wait_queue.format(region=DEAD)
        await until(lambda: sum(play.wire.published.values()) >= count - prefetch - 10)
        await outlast(worker, 3, worker.count("OPEN") + 2)
        core, before = Core(worker), len(play.wire.deliveries)
        if probes is None:
            await asyncio.sleep(watch)
        else:
            await outlast(worker, watch, worker.count("OPEN") + probes)
        share, deliveries = core.share, len(play.wire.deliveries) - before
        play.region.up()
        await play.all_delivered()
        return await play.report(
            worker,
            core=share,
            deliveries_while_waiting=deliveries,
            deliveries_a_second=deliveries / watch,
            acked_too_early=len(play.wire.acked_too_early),
            moved=sum(n for (key, _), n in play.wire.published.items() if key == wait_queue),
        )


# The naive loop, for comparison


async def naive(url, *, kind="quorum", limit=LIMIT, prefetch=10, down=10.0, count=500):
    """The same outage as in `outage`; without `down` until a message is dead-lettered."""
    async with Play(url, "naive", kind, limit) as play:
        play.region.fail(503)
        await play.publish(count)
        worker = await play.worker(prefetch)
        await worker.go()
        tripped = await worker.saw("OPEN", DEAD)
        core = Core(worker)
        if down is None:
            await until(lambda: play.dead_letters)
        else:
            end = tripped + down
            await until(lambda: time.monotonic() > end or len(play.dead_letters) == count)
        share, deliveries = core.share, [one.at for one in play.wire.deliveries]
        busy = deliveries[-1] - deliveries[0]
        if down is not None:
            await asyncio.sleep(down - (time.monotonic() - tripped))
        play.region.up()
        await play.all_settled()
        return await play.report(
            worker, core=share, busy=busy, deliveries_a_second=len(deliveries) / busy
        )


async def naive_shared(url, *, kind="quorum", prefetch=10, down=10.0, count=50):
    """The same queue as in `shared`; `in_time` are the healthy ones delivered in the outage."""
    async with Play(url, "naive", kind) as play:
        play.region.fail(503)
        await play.publish(count, DEAD)
        await play.publish(count, HEALTHY)
        worker = await play.worker(prefetch, circuit="OPEN")
        await worker.go()
        await asyncio.sleep(down)
        in_time = len(play.regions[HEALTHY].delivered)
        play.region.up()
        await play.all_settled()
        return await play.report(worker, in_time=in_time)


# Kills


def _requests(play, _worker):
    return len(play.region.seen) >= 3


def _waiting(_play, worker):
    return worker.count("OPEN") >= 2


def _probing(_play, worker):
    return worker.count("HALF_OPEN") >= 1


def _moving(play, _worker):
    return sum(play.wire.published.values()) >= 30


def _growing(play, _worker):
    return play.region.succeeded >= 6


def _draining(play, _worker):
    return play.region.succeeded >= len(play.names[DEAD]) // 2


# In which moment a worker is killed, and whether its region is back by then.
MOMENTS = {
    "first requests": (_requests, False),
    "moving": (_moving, False),
    "waiting": (_waiting, False),
    "probing": (_probing, False),
    "growing": (_growing, True),
    "draining": (_draining, True),
}


async def killed(url, *, layout, moment, kind="quorum", prefetch=10, count=100):
    """The worker is killed once, and another takes its place."""
    reached, back = MOMENTS[moment]
    async with Play(url, layout, kind) as play:
        play.region.fail(503)
        await play.publish(count)
        if layout == "shared":
            await play.publish(20, HEALTHY)
        worker, heir = await play.worker(prefetch), await play.worker(prefetch)
        await worker.go()
        if back:
            await worker.saw("OPEN", DEAD)
            play.region.up()
        await until(lambda: reached(play, worker))
        await worker.kill()
        await heir.go()
        if not back:
            await heir.saw("OPEN", DEAD)
            play.region.up()
        await play.all_delivered()
        return await play.report(heir)


async def killed_again_and_again(url, *, layout="region", prefetch, kills=10, down=12.0, count=200):
    """In one outage the worker is killed ten times; without `down` as soon as it has opened."""
    async with Play(url, layout) as play:
        play.region.fail(503)
        await play.publish(count)
        starting = (play.worker(prefetch) for _ in range(kills + 1))
        *mortals, heir = await asyncio.gather(*starting)
        for worker in mortals:
            before = len(play.wire.deliveries)
            await worker.go()
            await _live(worker, down, kills)
            await until(lambda before=before: len(play.wire.deliveries) > before)
            await worker.kill()
        await heir.go()
        await _live(heir, down, kills)
        play.region.up()
        await play.all_delivered()
        return await play.report(heir)


async def _live(worker, down, kills):
    if down is None:
        await worker.saw("OPEN", DEAD)
    else:
        await asyncio.sleep(down / (kills + 1))


async def broker_killed(broker, *, layout, kind, killed, prefetch=10, count=200):
    """The broker dies in the outage, and comes back before the region does.

    Args:
        killed: An `asyncio.Barrier` at which all who share the broker meet whoever kills it: when
            they are ready for that, and when the broker is up again.
    """
    async with Play(broker.url, layout, kind) as play:
        play.region.fail(503)
        await play.publish(count)
        if layout == "shared":
            await play.publish(20, HEALTHY)
        worker = await play.worker(prefetch)
        await worker.go()
        await worker.saw("OPEN", DEAD)
        if layout == "shared":
            await until(lambda: sum(play.wire.published.values()) >= count // 2)
        await killed.wait()
        await killed.wait()
        play.region.up()
        await play.all_delivered()
        return await play.report(worker)


async def broker_killed_under(broker, cases):
    """Play several at once on a broker of their own; cases: keywords of `broker_killed`."""
    barrier = asyncio.Barrier(len(cases) + 1)

    async def kill():
        await barrier.wait()
        await asyncio.to_thread(broker.settle)
        await asyncio.to_thread(broker.kill)
        await asyncio.to_thread(broker.start)
        await barrier.wait()

    *reports, _ = await asyncio.gather(
        *(broker_killed(broker, killed=barrier, **case) for case in cases), kill()
    )
    return reports


# After the recovery


def step(successes, prefetch):
    """Return how many concurrent calls the slow start allows after some successes: 1, 2, 4, ..."""
    allowed = 1
    while allowed < prefetch and successes >= allowed:
        successes -= allowed
        allowed *= 2
    return min(allowed, prefetch)


async def growth(
    url, *, layout, kind="quorum", prefetch=50, down=4.0, probes=None, count=300, rate=50
):
    """The region comes back while messages keep arriving."""
    async with Play(url, layout, kind) as play:
        region = play.region
        region.fail(503)
        await play.publish(count)
        worker = await play.worker(prefetch)
        await worker.go()
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_keep_publishing(play, rate, enough))
            await outlast(worker, down, probes)
            region.up()
            back = time.monotonic()
            await until(lambda: region.succeeded >= count + rate)
            enough.set()
        await play.all_delivered()
        later = [one for one in region.seen if one.at >= back]
        earned = [step(max(0, one.succeeded - PROBES_TO_CLOSE), prefetch) for one in later]
        return await play.report(
            worker,
            too_many=sum(one.running > allowed for one, allowed in zip(later, earned, strict=True)),
            most_at_once=max(one.running for one in later),
            trips=worker.count("OPEN", since=back),
        )


async def _keep_publishing(play, rate, enough):
    while not enough.is_set():
        await play.publish(1)
        await asyncio.sleep(1 / rate)
