"""The broker that other tests use: it keeps what it must, and leaves nothing behind."""

import asyncio
import os
import signal

import aio_pika
import pytest


async def publish(broker, queue, count, **arguments):
    connection = await aio_pika.connect(broker.url)
    async with connection:
        channel = await connection.channel()
        await channel.declare_queue(queue, durable=True, arguments=arguments)
        for number in range(count):
            body = str(number).encode()
            message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, queue)


@pytest.mark.parametrize("kind", ["classic", "quorum"])
async def test_a_killed_broker_still_has_its_messages_when_it_is_started_again(own_broker, kind):
    await publish(own_broker, "kept", 3, **{"x-queue-type": kind})
    own_broker.settle()
    own_broker.kill()
    assert not own_broker.running
    own_broker.start()
    connection = await aio_pika.connect(own_broker.url)
    async with connection:
        channel = await connection.channel()
        queue = await channel.get_queue("kept")
        async with asyncio.timeout(60), queue.iterator() as messages:
            assert [(await anext(messages)).body for _ in range(3)] == [b"0", b"1", b"2"]


async def test_a_closed_broker_leaves_neither_process_nor_folder_behind(own_broker):
    server, epmd, folder = own_broker._server.pid, own_broker._epmd.pid, own_broker._folder
    own_broker.close()
    assert not folder.exists()
    for pid in (server, epmd):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
