"""What the others of a region get while one tenant is throttled, on RabbitMQ and the fake Genesys.

    make bench-tenants                into docs/how-to/tenants.md
    make bench-tenants ARGS=--quick   fewer messages, printed only

Tenant A is held to 5 requests a second beside 25 others. Measured is how long the messages of the
others take, with and without those of A between them.
"""

import asyncio
import multiprocessing
import multiprocessing.process
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median
from uuid import uuid4

import aio_pika
import aiohttp
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue, AbstractRobustConnection
from aiohttp import web
from loguru import logger

from benchmarks import report
from benchmarks.messages import open_broker
from resilience import CircuitBreakerRegistry, region_breaker
from resilience.integrations.rabbitmq import RegionConsumer, SharedConsumer
from resilience.integrations.rabbitmq.handler import Handler

COMMAND = "make bench-tenants"
PAGE = "docs/how-to/tenants.md"
REGION, THROTTLED, ALLOWED, OTHERS = "eu-west-1", "A", 5, 25
PREFETCH, TAKES = 10, 0.2
PROCESSES, LAYOUTS = (1, 4), ("region", "shared")
ROUNDS, OF_EACH, OF_A = 2, 40, 300
HEAD = ("layout", "processes", "without A", "with A", "throughput kept", "429s of A")


@dataclass(frozen=True, slots=True)
class Round:
    """What one round has measured.

    Args:
        per_second: Messages of the others that were done each second.
        refused: Requests of A that were answered 429.
    """

    per_second: float
    refused: int


class Api:
    """An API that takes a while, and holds one tenant to a number of requests a second."""

    def __init__(self) -> None:
        self.done: dict[str, int] = defaultdict(int)
        self.refused = 0
        self._second = self._count = 0
        self.others_are_done = asyncio.Event()
        #: How many requests of the others there will be.
        self.expected = 0

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request."""
        tenant = request.match_info["tenant"]
        await asyncio.sleep(TAKES)
        if tenant == THROTTLED and not self._allows():
            self.refused += 1
            return web.Response(status=429, headers={"Retry-After": "1"})
        self.done[tenant] += 1
        if sum(self.done.values()) - self.done[THROTTLED] >= self.expected:
            self.others_are_done.set()
        return web.Response()

    def _allows(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        return self._count <= ALLOWED


def tenant_of(message: AbstractIncomingMessage) -> str:
    """Return the tenant of a message."""
    return str(message.headers["tenant"])


async def consume(url: str, queue_name: str, layout: str, api: str, pipe: Connection) -> None:
    """Consume until the pipe says that it is over."""
    registry = CircuitBreakerRegistry()

    async with aiohttp.ClientSession() as session:

        @region_breaker(region_from="region", registry=registry)
        async def send(region: str, tenant: str) -> None:  # noqa: ARG001 - The decorator reads it.
            async with session.post(f"{api}/{tenant}") as response:
                response.raise_for_status()

        async def handle(message: AbstractIncomingMessage) -> None:
            await send(REGION, tenant_of(message))

        async with await aio_pika.connect_robust(url) as connection:
            channel = await connection.channel()
            queue = await channel.get_queue(queue_name)
            async with make_consumer(queue, handle, layout, registry):
                pipe.send("ready")
                await asyncio.to_thread(pipe.recv)


def make_consumer(
    queue: AbstractQueue, handle: Handler, layout: str, registry: CircuitBreakerRegistry
) -> RegionConsumer | SharedConsumer:
    """Make a consumer of a layout."""
    if layout == "region":
        return RegionConsumer(
            queue,
            handle,
            region=REGION,
            on_error=refuse,
            prefetch=PREFETCH,
            registry=registry,
            tenant_of=tenant_of,
        )
    return SharedConsumer(
        queue,
        handle,
        region_of=lambda _: REGION,
        regions=[REGION],
        on_error=refuse,
        wait_queue=f"{queue.name}.wait.{{region}}",
        prefetch=PREFETCH,
        registry=registry,
        tenant_of=tenant_of,
    )


async def refuse(message: AbstractIncomingMessage, error: Exception) -> None:
    """Be the `on_error` that no message comes to."""
    raise AssertionError(message.body) from error


def work(url: str, queue_name: str, layout: str, api: str, pipe: Connection) -> None:
    """Be a process of its own."""
    logger.remove()
    asyncio.run(consume(url, queue_name, layout, api, pipe))


async def fill(connection: AbstractRobustConnection, queue: AbstractQueue, of_a: int) -> None:
    """Publish the messages of all tenants, those of A evenly between the others'."""
    tenants: list[str] = []
    for number in range(OF_EACH):
        tenants += [THROTTLED] * (of_a * (number + 1) // OF_EACH - of_a * number // OF_EACH)
        tenants += [f"T{other}" for other in range(OTHERS)]
    async with connection.channel() as channel:
        messages = (aio_pika.Message(b"{}", headers={"tenant": tenant}) for tenant in tenants)
        exchange = channel.default_exchange
        await asyncio.gather(*(exchange.publish(one, queue.name) for one in messages))


async def play(
    connection: AbstractRobustConnection, url: str, layout: str, processes: int, of_a: int
) -> Round:
    """Fill a queue, and time the consumers until the last message of the others is done."""
    api = Api()
    api.expected = OTHERS * OF_EACH
    app = web.Application()
    app.router.add_post("/{tenant}", api.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with connection.channel() as channel:
        queue = await channel.declare_queue(f"bench.{uuid4().hex}", durable=True)
        wait_queue = f"{queue.name}.wait.{REGION}"
        arguments = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}
        await channel.declare_queue(wait_queue, durable=True, arguments=arguments)
        workers = start(processes, url, queue.name, layout, address)
        await asyncio.gather(*(asyncio.to_thread(pipe.recv) for _, pipe in workers))
        began = time.perf_counter()
        filling = asyncio.create_task(fill(connection, queue, of_a))
        await api.others_are_done.wait()
        took = time.perf_counter() - began
        await filling
        await stop(workers)
        for name in (queue.name, wait_queue):
            await channel.queue_delete(name)
    await runner.cleanup()
    return Round(api.expected / took, api.refused)


Workers = list[tuple[multiprocessing.process.BaseProcess, Connection]]


def start(processes: int, url: str, queue: str, layout: str, api: str) -> Workers:
    """Start the processes."""
    context = multiprocessing.get_context("spawn")
    workers: Workers = []
    for _ in range(processes):
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(url, queue, layout, api, theirs), daemon=True)
        process.start()
        workers.append((process, ours))
    return workers


async def stop(workers: Workers) -> None:
    """Have all processes end."""
    for _, pipe in workers:
        pipe.send("stop")
    for process, _ in workers:
        await asyncio.to_thread(process.join)


async def compare(url: str, rounds: int) -> str:
    """Return the table."""
    rows: list[tuple[str, ...]] = []
    async with await aio_pika.connect_robust(url) as connection:
        for layout in LAYOUTS:
            for processes in PROCESSES:
                without: list[Round] = []
                beside: list[Round] = []
                for _ in range(rounds):  # in turns: what disturbs one disturbs the other
                    without.append(await play(connection, url, layout, processes, 0))
                    beside.append(await play(connection, url, layout, processes, OF_A))
                rows.append(row(layout, processes, without, beside))
    return report.table(HEAD, rows)


def row(layout: str, processes: int, without: list[Round], beside: list[Round]) -> tuple[str, ...]:
    """Lay out one comparison, of the best rounds."""
    before = max(one.per_second for one in without)
    after = max(one.per_second for one in beside)
    return (
        f"{layout} queue",
        str(processes),
        f"{before:,.0f}",
        f"{after:,.0f}",
        f"{after / before:.1%}",
        f"{median(one.refused for one in beside):.0f}",
    )


def main() -> None:
    """Start a broker, or use that of `AMQP_URL`, and measure."""
    logger.remove()
    broker = open_broker()
    is_quick = "--quick" in sys.argv
    try:
        table = asyncio.run(compare(broker.url, 1 if is_quick else ROUNDS))
    finally:
        broker.close()
    if is_quick:
        print(table)
        return
    how = (
        f"Messages a second of the {OTHERS} others, with {OF_A} messages of A between their "
        f"{OTHERS * OF_EACH:,}; a prefetch of {PREFETCH}, {TAKES * 1000:.0f} ms for an answer, the "
        f"best of {ROUNDS} rounds. Measured"
    )
    report.write_section(PAGE, COMMAND, table, report.origin(COMMAND, "aio-pika", how=how))


if __name__ == "__main__":
    main()
