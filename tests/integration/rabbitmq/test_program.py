"""The complete worker of the docs, as its users run it: a process, a broker, a region, SIGTERM."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from uuid import uuid4

import aio_pika
import pytest

from resilience.testing import FakeGenesys
from tests.support.rabbitmq_support import WATCHDOG, until

PROGRAM = Path(__file__).parents[3] / "examples" / "programs" / "message_worker.py"
MESSAGE = (
    b'{"channel": {"from": {"id": "+353", "idType": "Phone"}, "time": "2026-01-01T12:00:00Z",'
    b' "messageId": "%d"}, "text": "hello %d"}'
)


class Program:
    """The running program, and what it has logged."""

    def __init__(self, process):
        self.process = process
        self.log = ""

    async def read(self):
        while line := await self.process.stdout.readline():
            self.log += line.decode()

    async def end(self):
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(WATCHDOG):
            return await self.process.wait()


@pytest.fixture
def region():
    return f"eu-test-{uuid4().hex[:8]}"


@pytest.fixture
async def genesys():
    async with FakeGenesys(require_token=False) as genesys:
        yield genesys


@pytest.fixture
async def program(broker, bench, region, genesys):
    bench.forget(f"outbound.{region}", f"outbound.{region}.dead")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        PROGRAM,
        env={
            **os.environ,
            "AMQP_URL": str(broker.url),
            "REGION": region,
            "API_URL": genesys.message_url(),
            "API_TOKEN": "secret-of-the-test",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    program = Program(process)
    reading = asyncio.create_task(program.read())
    try:
        await until(lambda: "worker reads queue" in program.log)
        yield program
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


async def publish(bench, queue, numbers):
    for number in numbers:
        await bench.channel.default_exchange.publish(
            aio_pika.Message(MESSAGE % (number, number)), queue
        )


async def test_it_delivers_and_ends_when_it_is_told_to(bench, program, region, genesys):
    await publish(bench, f"outbound.{region}", range(50))
    await until(lambda: len(genesys.messages) == 50)
    assert await program.end() == 0
    assert "worker has stopped" in program.log
    assert "secret-of-the-test" not in program.log
    assert await bench.drain(f"outbound.{region}") == []


async def test_calls_that_run_are_completed_when_it_is_told_to_end(bench, program, region, genesys):
    genesys.slow(0.5)
    await publish(bench, f"outbound.{region}", range(40))
    await until(lambda: genesys.requests >= 10)
    assert await program.end() == 0
    delivered = {message["text"] for message in genesys.messages}
    left = await bench.drain(f"outbound.{region}")
    assert len(delivered) == len(genesys.messages)
    assert len(delivered) + len(left) == 40


async def test_a_message_that_the_region_refuses_is_dead_lettered(bench, program, region):
    await bench.channel.default_exchange.publish(aio_pika.Message(b"{}"), f"outbound.{region}")

    async def is_dead_lettered():
        return (await bench.look(f"outbound.{region}.dead"))[0] == 1

    await until(is_dead_lettered)
    assert await program.end() == 0


async def test_it_gives_its_messages_back_while_the_region_is_down(bench, program, region, genesys):
    genesys.fail(503)
    await publish(bench, f"outbound.{region}", range(30))
    await until(lambda: "Circuit breaker OPEN" in program.log)
    assert await program.end() == 0
    assert len(await bench.drain(f"outbound.{region}")) == 30
    assert await bench.drain(f"outbound.{region}.dead") == []
