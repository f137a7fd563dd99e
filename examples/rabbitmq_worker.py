"""A message worker on RabbitMQ: two regions in one queue, one of them goes down and comes back.

The handler is the one that a worker has anyway: it calls the API of the message's region, through
the circuit of that region. `SharedConsumer` does the rest. While a region is down, its messages are
moved to a wait queue, where they do not hold up the others. When the region is back, they are
delivered. No message is lost, and none is redelivered in a loop.

The example needs RabbitMQ. If `AMQP_URL` is set, it uses the broker at that URL. Otherwise, if
RabbitMQ is installed (on Debian and Ubuntu: apt-get install rabbitmq-server), it starts a broker
of its own in a temporary folder. Without either, it only prints how to get one. The regions are
FakeGenesys servers on this machine.
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

FAILING, HEALTHY = "eu-west-1", "us-east-1"
MESSAGES = 50  # per region
PREFETCH = 10
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # in the Debian package

# The default is 60 s, which is too long for an example.
circuits = CircuitBreakerRegistry(BreakerPolicy(recovery_timeout=1.0))


# The worker


class Worker:
    """Calls the regions, and nothing else."""

    def __init__(self, session: aiohttp.ClientSession, regions: dict[str, FakeGenesys]) -> None:
        self._session = session
        self._regions = regions

    @region_breaker(region_from="region", registry=circuits)
    async def send(self, region: str, text: str) -> None:
        """Send a message; this is the protected call."""
        sender = {"id": "+353-1-555-0100", "idType": "Phone"}
        channel = {"from": sender, "time": "2026-11-25T12:00:00Z", "messageId": text}
        url = self._regions[region].message_url()
        async with self._session.post(url, json={"channel": channel, "text": text}) as response:
            await response.read()

    async def handle(self, message: AbstractIncomingMessage) -> None:
        """Handle one message; if this returns, the message is acknowledged."""
        await self.send(region_of(message), message.body.decode())


def region_of(message: AbstractIncomingMessage) -> str:
    """Return the region of a message."""
    return str(message.headers["region"])


@asynccontextmanager
async def work(worker: Worker, queue: AbstractQueue) -> AsyncIterator[None]:
    """Consume the queue until the block ends."""
    consumer = SharedConsumer(
        queue,
        worker.handle,
        region_of=region_of,
        regions=[FAILING, HEALTHY],
        on_error=DeadLetterTo("inbound.dead"),  # for what waiting does not cure: a 400, a bug
        wait_queue="inbound.wait.{region}",
        prefetch=PREFETCH,
        registry=circuits,
    )
    await consumer.declare()  # the wait queues, and nothing else
    async with consumer:
        yield


def open_session() -> aiohttp.ClientSession:
    """Open a session in which a region that hangs does not take the connections of the other."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, limit_per_host=PREFETCH),
        timeout=aiohttp.ClientTimeout(sock_connect=5, sock_read=10),
        raise_for_status=True,
    )


# The scenario


async def run(url: str) -> None:
    """Go through an outage, and check that no message is lost."""
    async with (
        FakeGenesys(require_token=False, latency=0.02) as failing,
        FakeGenesys(require_token=False, latency=0.02) as healthy,
        open_session() as session,
        await aio_pika.connect_robust(url) as connection,
    ):
        channel = await connection.channel()
        queue = await declare_queues(channel)
        await publish(channel)
        print(f"{2 * MESSAGES} messages in one queue, half of them for {FAILING}, which is down")
        failing.fail(503)
        async with work(Worker(session, {FAILING: failing, HEALTHY: healthy}), queue):
            await until(lambda: len(healthy.messages) == MESSAGES)
            await until(lambda: circuits.get(FAILING).snapshot().probes >= 2)
            print(f"\n{HEALTHY}: {len(healthy.messages)} of {MESSAGES} delivered without waiting")
            assert not failing.messages
            assert failing.requests < 10 + PREFETCH + 5, "few more than opened the circuit"
            print(f"{FAILING}: {failing.requests} requests failed, {MESSAGES} messages wait\n")

            failing.up()
            print(f"{FAILING} is back up; the worker has to find out")
            await until(lambda: len(failing.messages) >= MESSAGES)
            await until(lambda: circuits.get(FAILING).state is CircuitState.CLOSED)
        await count(channel, failing, healthy)


async def declare_queues(channel: AbstractChannel) -> AbstractQueue:
    """Declare the application's own queues: for the messages, and for dead letters."""
    await channel.declare_queue("inbound.dead", durable=True)
    arguments: dict[str, Any] = {
        "x-queue-type": "quorum",
        "x-delivery-limit": 20,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "inbound.dead",
    }
    return await channel.declare_queue("inbound", durable=True, arguments=arguments)


async def publish(channel: AbstractChannel) -> None:
    """Publish the messages, those for the region that is down first."""
    for region in (FAILING, HEALTHY):
        for number in range(MESSAGES):
            message = aio_pika.Message(
                f"{region} {number}".encode(),
                headers={"region": region},
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            )
            await channel.default_exchange.publish(message, "inbound")


async def count(channel: AbstractChannel, failing: FakeGenesys, healthy: FakeGenesys) -> None:
    """Count what happened to the messages, and delete the queues."""
    delivered = Counter(body["text"] for body in failing.messages + healthy.messages)
    left = 0
    for name in ("inbound", "inbound.dead", f"inbound.wait.{FAILING}", f"inbound.wait.{HEALTHY}"):
        queue = await channel.get_queue(name)
        while await queue.get(no_ack=True, fail=False):
            left += 1
        await queue.delete(if_unused=False, if_empty=False)
    twice = delivered.total() - len(delivered)
    print(f"\n{2 * MESSAGES} messages: {len(delivered)} delivered, {twice} twice, {left} left over")
    assert len(delivered) == delivered.total() == 2 * MESSAGES
    assert left == 0


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens elsewhere, for 60 s at most."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - other servers set no event
            await asyncio.sleep(0.05)


# A broker


@contextmanager
def broker() -> Iterator[str | None]:
    """Find or start a RabbitMQ, and yield its URL; None if there is none."""
    if (url := os.environ.get("AMQP_URL")) or not SERVER.exists():
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="rabbitmq-", ignore_cleanup_errors=True) as folder:
        amqp, distribution = free_port(), free_port()
        with subprocess.Popen(  # noqa: S603 - the script of the package
            [SERVER],
            env={**os.environ, **settings(Path(folder), amqp, distribution)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as server:
            try:
                wait_until_ready(amqp)
                yield f"amqp://guest:guest@127.0.0.1:{amqp}/"
            finally:
                server.kill()


def free_port() -> int:
    """Return a port that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def settings(folder: Path, amqp: int, distribution: int) -> dict[str, str]:
    """Return the settings of a server that uses only its folder and loopback, and no epmd."""
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
        "RUNNING_UNDER_SYSTEMD": "true",  # otherwise its script stays as the parent process
    }


def wait_until_ready(port: int) -> None:
    """Wait until a server accepts connections, which takes about five seconds."""
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
            asyncio.run(run(found))
        else:
            print("This example needs RabbitMQ, and there is none here. Install one with")
            print("apt-get install rabbitmq-server, or set AMQP_URL to the URL of a broker.")
