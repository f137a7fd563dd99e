"""The broker that other tests use: it keeps what it must, and leaves nothing behind."""

import asyncio
import os
import signal

import aio_pika
import pytest

KINDS = ("classic", "quorum")


async def publish(broker, count):
    connection = await aio_pika.connect(broker.url)
    async with connection:
        channel = await connection.channel()
        for kind in KINDS:
            await channel.declare_queue(kind, durable=True, arguments={"x-queue-type": kind})
            for number in range(count):
                body = str(number).encode()
                message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
                await channel.default_exchange.publish(message, kind)


async def test_a_killed_broker_keeps_its_messages_and_a_closed_one_leaves_nothing_behind(
    own_broker,
):
    await publish(own_broker, 3)
    own_broker.settle()
    own_broker.kill()
    assert not own_broker.running
    own_broker.start()
    connection = await aio_pika.connect(own_broker.url)
    async with connection, asyncio.timeout(60):
        channel = await connection.channel()
        for kind in KINDS:
            queue = await channel.get_queue(kind)
            async with queue.iterator() as messages:
                assert [(await anext(messages)).body for _ in range(3)] == [b"0", b"1", b"2"]
    server, epmd, folder = own_broker._server.pid, own_broker._epmd.pid, own_broker._folder
    own_broker.close()
    assert not folder.exists()
    for pid in (server, epmd):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
