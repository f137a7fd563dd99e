"""A message worker on RabbitMQ: two regions in one queue, one of them goes down and comes back.

The handler is what a worker has anyway: it calls the API of the message's region, through the
region's circuit. `SharedConsumer` does the rest. While a region is down its messages wait in a
queue of their own, where they stand in nobody's way, and when it is back they are delivered; no
message is lost, and none goes round in circles.

It needs a RabbitMQ: one that is installed (on Debian and Ubuntu: apt-get install rabbitmq-server),
of which it starts one of its own in a temporary folder, or one at `AMQP_URL`. Where there is
neither it says so. The regions are FakeGenesys servers on this machine.
"""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import aio_pika
import aiohttp
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from loguru import logger

from resilience import BreakerPolicy, CircuitBreakerRegistry, CircuitState, region_breaker
from resilience.integrations.rabbitmq import DeadLetterTo, SharedConsumer
from resilience.testing import FakeGenesys

DEAD, HEALTHY = "eu-west-1", "us-east-1"
MESSAGES = 50  # for each region
PREFETCH = 10
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # where Debian's package has it

# T10 waits for 60 s; nobody wants to wait for an example so long.
circuits = CircuitBreakerRegistry(BreakerPolicy(recovery_timeout=1.0))


# The worker


class Worker:
    """Calls the regions; that is all it has to do."""

    def __init__(self, session: aiohttp.ClientSession, regions: dict[str, FakeGenesys]) -> None:
        self._session = session
        self._regions = regions

    @region_breaker(region_from="region", registry=circuits)
    async def send(self, region: str, text: str) -> None:
        """Make the call that the circuit guards."""
        sender = {"id": "+353-1-555-0100", "idType": "Phone"}
        channel = {"from": sender, "time": "2026-11-25T12:00:00Z", "messageId": text}
        url = self._regions[region].message_url()
        async with self._session.post(url, json={"channel": channel, "text": text}) as response:
            await response.read()

    async def handle(self, message: AbstractIncomingMessage) -> None:
        """Handle one message: to return is to ack it."""
        await self.send(region_of(message), message.body.decode())


def region_of(message: AbstractIncomingMessage) -> str:
    """Find whose message it is."""
    return str(message.headers["region"])


@asynccontextmanager
async def work(worker: Worker, queue: AbstractQueue) -> AsyncIterator[None]:
    """Consume the queue as long as the block lasts."""
    consumer = SharedConsumer(
        queue,
        worker.handle,
        region_of=region_of,
        regions=[DEAD, HEALTHY],
        on_error=DeadLetterTo("inbound.dead"),  # what waiting cannot cure: a 400, a bug
        wait_queue="inbound.wait.{region}",
        prefetch=PREFETCH,
        registry=circuits,
    )
    await consumer.declare()  # the wait queues; nothing is declared that is not asked for
    async with consumer:
        yield


# The story


async def tell(url: str) -> None:
    """Live through an outage, and check that nothing is lost."""
    async with (
        FakeGenesys(require_token=False, latency=0.02) as dead,
        FakeGenesys(require_token=False, latency=0.02) as healthy,
        aiohttp.ClientSession(raise_for_status=True) as session,
        await aio_pika.connect_robust(url) as connection,
    ):
        channel = await connection.channel()
        queue = await declare_queues(channel)
        await publish(channel)
        print(f"{2 * MESSAGES} messages in one queue, half of them for {DEAD}, which is down")
        dead.fail(503)
        async with work(Worker(session, {DEAD: dead, HEALTHY: healthy}), queue):
            await until(lambda: len(healthy.messages) == MESSAGES)
            await until(lambda: circuits.get(DEAD).snapshot().probes >= 2)
            print(f"\n{HEALTHY}: {len(healthy.messages)} of {MESSAGES} delivered, none had to wait")
            assert not dead.messages
            assert dead.requests < 10 + PREFETCH + 5, "a few opened the circuit, then its probes"
            print(f"{DEAD}: {dead.requests} requests failed, {MESSAGES} messages wait\n")

            dead.up()
            print(f"{DEAD} is back, and nobody tells the worker")
            await until(lambda: len(dead.messages) >= MESSAGES)
            await until(lambda: circuits.get(DEAD).state is CircuitState.CLOSED)
        await count(channel, dead, healthy)


async def declare_queues(channel: AbstractChannel) -> AbstractQueue:
    """Declare what is the user's own: the queue, and another for what cannot be delivered."""
    await channel.declare_queue("inbound.dead", durable=True)
    arguments: dict[str, Any] = {
        "x-queue-type": "quorum",
        "x-delivery-limit": 20,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "inbound.dead",
    }
    return await channel.declare_queue("inbound", durable=True, arguments=arguments)


async def publish(channel: AbstractChannel) -> None:
    """Put the messages into the queue, those for the region that is down first."""
    for region in (DEAD, HEALTHY):
        for number in range(MESSAGES):
            message = aio_pika.Message(
                f"{region} {number}".encode(),
                headers={"region": region},
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            )
            await channel.default_exchange.publish(message, "inbound")


async def count(channel: AbstractChannel, dead: FakeGenesys, healthy: FakeGenesys) -> None:
    """Count what has become of the messages, and leave no queue behind."""
    delivered = Counter(body["text"] for body in dead.messages + healthy.messages)
    left = 0
    for name in ("inbound", "inbound.dead", f"inbound.wait.{DEAD}", f"inbound.wait.{HEALTHY}"):
        queue = await channel.get_queue(name)
        while await queue.get(no_ack=True, fail=False):
            left += 1
        await queue.delete(if_unused=False, if_empty=False)
    twice = delivered.total() - len(delivered)
    print(f"\n{2 * MESSAGES} messages: {len(delivered)} delivered, {twice} twice, {left} left over")
    assert len(delivered) == delivered.total() == 2 * MESSAGES
    assert left == 0


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something has happened elsewhere, but not for ever."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - it happens on other machines, so to speak
            await asyncio.sleep(0.05)


# A broker


@contextmanager
def broker() -> Iterator[str | None]:
    """Find a RabbitMQ, or start one, and give its URL; None where there is none."""
    if (url := os.environ.get("AMQP_URL")) or not SERVER.exists():
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="rabbitmq-", ignore_cleanup_errors=True) as folder:
        amqp, distribution = free_port(), free_port()
        with subprocess.Popen(  # noqa: S603 - the package's own script
            [SERVER],
            env={**os.environ, **settings(Path(folder), amqp, distribution)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as server:
            try:
                wait_until_it_greets(amqp)
                yield f"amqp://guest:guest@127.0.0.1:{amqp}/"
            finally:
                server.kill()


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def settings(folder: Path, amqp: int, distribution: int) -> dict[str, str]:
    """Make a server that keeps to its folder and to loopback, and needs no epmd."""
    return {
        "HOME": str(folder),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        "RABBITMQ_CONFIG_FILE": str(folder / "none"),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "none"),
        "RABBITMQ_LOG_BASE": str(folder),
        "RABBITMQ_MNESIA_BASE": str(folder),
        "RABBITMQ_NODENAME": f"example{amqp}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(amqp),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-start_epmd false -erl_epmd_port {distribution}"
        " -kernel inet_dist_use_interface {127,0,0,1}",
        "RUNNING_UNDER_SYSTEMD": "true",  # or its script stays between us and the server
    }


def wait_until_it_greets(port: int) -> None:
    """Wait for a server that has just been started; it takes about five seconds."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(b"AMQP\x00\x00\x09\x01")
            if client.recv(1):
                return
        time.sleep(0.1)
    raise TimeoutError("RabbitMQ is not up after 60 s")


if __name__ == "__main__":
    logger.remove()
    logger.add(sys.stdout, format="    {level:7}  {message}")
    with broker() as found:
        if found:
            asyncio.run(tell(found))
        else:
            print("There is no RabbitMQ here, so there is nothing to see. Get one with")
            print("apt-get install rabbitmq-server, or name one in AMQP_URL.")
