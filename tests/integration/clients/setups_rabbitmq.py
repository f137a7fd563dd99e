"""Clients of RabbitMQ, and Celery."""

import asyncio
import contextlib

import aio_pika
import aiormq
import celery
import kombu
import pika
from pamqp import commands

from tests.integration.clients.client_setup import TIMEOUT, ClientSetup, Situation
from tests.integration.clients.servers import drop, hang, serving
from tests.integration.clients.wire import amqp

_AT_LOGIN, _AT_OPEN = commands.Connection.StartOk, commands.Connection.Open
_AT_DECLARE = commands.Queue.Declare

_BEHAVIOURS = {
    Situation.UNAVAILABLE: amqp.closing_connection(
        320, "CONNECTION_FORCED - broker forced connection closure", at=_AT_DECLARE
    ),
    Situation.DROPPING: drop,
    Situation.HANGING: hang,
    Situation.CUTTING: amqp.cutting,
}

# AMQP's codes look like statuses of HTTP and are none: 320 says that the broker goes, and most of
# those from 501 to 540 that the client is at fault.
_OUTAGES = {
    "320 while connecting": amqp.closing_connection(320, "CONNECTION_FORCED", at=_AT_OPEN),
    "541 internal error": amqp.closing_connection(541, "INTERNAL_ERROR", at=_AT_DECLARE),
    "506 resource error": amqp.closing_channel(506, "RESOURCE_ERROR", at=_AT_DECLARE),
}

_REFUSALS = {
    "403 wrong password": amqp.closing_connection(
        403, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN", at=_AT_LOGIN
    ),
    "530 no such vhost": amqp.closing_connection(
        530, "NOT_ALLOWED - vhost provoked not found", at=_AT_OPEN
    ),
    "404 no such queue": amqp.closing_channel(404, "NOT_FOUND - no queue", at=_AT_DECLARE),
    "403 permission denied": amqp.closing_channel(403, "ACCESS_REFUSED", at=_AT_DECLARE),
    "405 locked": amqp.closing_channel(405, "RESOURCE_LOCKED", at=_AT_DECLARE),
    "406 other arguments": amqp.closing_channel(406, "PRECONDITION_FAILED", at=_AT_DECLARE),
    "503 wrong command": amqp.closing_connection(503, "COMMAND_INVALID", at=_AT_DECLARE),
}

# Where a broker refuses the vhost, aiormq raises the error of a reply that it cannot read, and the
# same one where the broker goes: nothing in it tells the two apart. Such a reply is an outage.
_REFUSALS_OF_AIORMQ = {
    name: behaviour for name, behaviour in _REFUSALS.items() if name != "530 no such vhost"
}


def _pika_parameters(host, port):
    return pika.ConnectionParameters(
        host,
        port,
        socket_timeout=TIMEOUT,
        stack_timeout=TIMEOUT,
        blocked_connection_timeout=TIMEOUT,
        connection_attempts=1,
    )


def _pika(host, port):
    connection = pika.BlockingConnection(_pika_parameters(host, port))
    try:
        channel = connection.channel()
        channel.queue_declare("provoked", passive=True)
        channel.confirm_delivery()
        channel.basic_publish("", "provoked", b"x", mandatory=True)
    finally:
        if connection.is_open:
            connection.close()


def _pika_closed(host, port):
    with serving(amqp.idle) as server:
        connection = pika.BlockingConnection(_pika_parameters(host, server.port))
        connection.close()
        connection.channel()


def _pika_closed_channel(host, port):
    with serving(amqp.idle) as server:
        connection = pika.BlockingConnection(_pika_parameters(host, server.port))
        with contextlib.closing(connection):
            channel = connection.channel()
            channel.close()
            channel.queue_declare("provoked")


def _pika_wrong_argument(host, port):
    pika.ConnectionParameters(host, port, heartbeat="often")


async def _aio_pika(host, port):
    connection = await aio_pika.connect(f"amqp://u:p@{host}:{port}/", timeout=TIMEOUT)
    async with connection:
        channel = await connection.channel(on_return_raises=True)
        await channel.declare_queue("provoked", passive=True, timeout=TIMEOUT)
        message = aio_pika.Message(b"x")
        await channel.default_exchange.publish(message, "provoked", timeout=TIMEOUT)


async def _aio_pika_closed(host, port):
    with serving(amqp.idle) as server:
        connection = await aio_pika.connect(f"amqp://u:p@{host}:{server.port}/")
        await connection.close()
        await connection.channel()


async def _aio_pika_closed_channel(host, port):
    with serving(amqp.idle) as server:
        async with await aio_pika.connect(f"amqp://u:p@{host}:{server.port}/") as connection:
            channel = await connection.channel()
            await channel.close()
            await channel.declare_queue("provoked")


async def _aiormq(host, port):
    # The library has no time-out of its own: its users do what stands here.
    async with asyncio.timeout(TIMEOUT):
        connection = await aiormq.connect(f"amqp://u:p@{host}:{port}/")
    async with connection:
        channel = await connection.channel()
        await channel.queue_declare("provoked", passive=True, timeout=TIMEOUT)


async def _aiormq_closed(host, port):
    with serving(amqp.idle) as server:
        connection = await aiormq.connect(f"amqp://u:p@{host}:{server.port}/")
        await connection.close()
        await connection.channel()


def _kombu(host, port):
    with kombu.Connection(f"amqp://u:p@{host}:{port}/", connect_timeout=TIMEOUT) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0)
        connection.channel().queue_declare("provoked", passive=True)


def _kombu_pool(host, port):
    with serving(amqp.idle) as server:
        with kombu.Connection(f"amqp://u:p@{host}:{server.port}/") as connection:
            pool = connection.Pool(1)
            with pool.acquire():
                pool.acquire()


def _celery(host, port):
    with _celery_app(f"amqp://u:p@{host}:{port}/") as app:
        app.send_task("task", retry=False)


def _celery_redis(host, port):
    with _celery_app(f"redis://{host}:{port}/") as app:
        app.send_task("task", retry=False)


@contextlib.contextmanager
def _celery_app(broker):
    app = celery.Celery(broker=broker, set_as_current=False)
    app.conf.broker_connection_timeout = TIMEOUT
    times = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT}
    app.conf.broker_transport_options = times if broker.startswith("redis") else {}
    try:
        yield app
    finally:
        app.close()


def _celery_wrong_argument(host, port):
    with serving(amqp.idle) as server:
        with _celery_app(f"amqp://u:p@{host}:{server.port}/") as app:
            app.send_task("task", args=(object(),), retry=False)


SETUPS = (
    ClientSetup(
        name="pika",
        distributions=("pika",),
        call=_pika,
        behaviours=_BEHAVIOURS,
        outages=_OUTAGES,
        refusals=_REFUSALS | {"312 no route": amqp.returning},
        misuse={
            "closed connection": _pika_closed,
            "closed channel": _pika_closed_channel,
            "wrong argument": _pika_wrong_argument,
        },
    ),
    ClientSetup(
        name="aio-pika",
        distributions=("aio-pika",),
        call=_aio_pika,
        behaviours=_BEHAVIOURS,
        outages=_OUTAGES,
        refusals=_REFUSALS_OF_AIORMQ | {"312 no route": amqp.returning},
        misuse={
            "closed connection": _aio_pika_closed,
            "closed channel": _aio_pika_closed_channel,
        },
    ),
    ClientSetup(
        name="aiormq",
        distributions=("aiormq",),
        call=_aiormq,
        behaviours=_BEHAVIOURS,
        outages=_OUTAGES,
        refusals=_REFUSALS_OF_AIORMQ,
        misuse={"closed connection": _aiormq_closed},
    ),
    ClientSetup(
        name="kombu",
        distributions=("kombu", "amqp"),
        call=_kombu,
        behaviours=_BEHAVIOURS,
        outages=_OUTAGES,
        refusals=_REFUSALS,
        misuse={"exhausted pool": _kombu_pool},
    ),
    ClientSetup(
        name="Celery with RabbitMQ",
        distributions=("celery", "kombu"),
        call=_celery,
        behaviours=_BEHAVIOURS,
        outages=_OUTAGES,
        refusals=_REFUSALS,
        misuse={"an argument that cannot be encoded": _celery_wrong_argument},
    ),
)
