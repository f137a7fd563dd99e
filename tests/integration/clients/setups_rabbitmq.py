"""Clients of RabbitMQ, and Celery."""

import asyncio
import contextlib

from tests.integration.clients.client_setup import ClientSetup, Situation, timeout
from tests.integration.clients.servers import drop, hang, serving
from tests.integration.clients.wire import amqp

_BEHAVIOURS = {
    Situation.UNAVAILABLE: amqp.closing_connection(
        320, "CONNECTION_FORCED - broker forced connection closure", at=amqp.DECLARE
    ),
    Situation.DROPPING: drop,
    Situation.HANGING: hang,
    Situation.CUTTING: amqp.cutting,
}

# AMQP's codes look like statuses of HTTP and are none: 320 says that the broker goes, and most of
# those from 501 to 540 that the client is at fault.
_OUTAGES = {
    "320 while connecting": amqp.closing_connection(320, "CONNECTION_FORCED", at=amqp.OPEN),
    "541 internal error": amqp.closing_connection(541, "INTERNAL_ERROR", at=amqp.DECLARE),
    "506 resource error": amqp.closing_channel(506, "RESOURCE_ERROR", at=amqp.DECLARE),
}

_REFUSALS = {
    "403 wrong password": amqp.closing_connection(
        403,
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN",
        at=amqp.LOGIN,
    ),
    "530 no such vhost": amqp.closing_connection(
        530, "NOT_ALLOWED - vhost provoked not found", at=amqp.OPEN
    ),
    "404 no such queue": amqp.closing_channel(404, "NOT_FOUND - no queue", at=amqp.DECLARE),
    "403 permission denied": amqp.closing_channel(403, "ACCESS_REFUSED", at=amqp.DECLARE),
    "405 locked": amqp.closing_channel(405, "RESOURCE_LOCKED", at=amqp.DECLARE),
    "406 other arguments": amqp.closing_channel(406, "PRECONDITION_FAILED", at=amqp.DECLARE),
    "503 wrong command": amqp.closing_connection(503, "COMMAND_INVALID", at=amqp.DECLARE),
}

# Where a broker refuses the vhost, aiormq raises the error of a reply that it did not expect, and
# the same one where the broker goes meanwhile: nothing in it tells the two apart. Many callers
# share a circuit, and a vhost that one of them has wrong must not open it.
_VHOST = "530 no such vhost"
_OF_AIORMQ = {
    "outages": {name: _OUTAGES[name] for name in _OUTAGES if name != "320 while connecting"},
    "ignored": {_VHOST: _REFUSALS[_VHOST]},
}
_REFUSALS_OF_AIORMQ = {name: _REFUSALS[name] for name in _REFUSALS if name != _VHOST}


def _pika_parameters(host, port):
    import pika

    return pika.ConnectionParameters(
        host,
        port,
        socket_timeout=timeout(),
        stack_timeout=timeout(),
        blocked_connection_timeout=timeout(),
        connection_attempts=1,
    )


def _pika(host, port):
    import pika

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
    import pika

    with serving(amqp.idle) as server:
        connection = pika.BlockingConnection(_pika_parameters(host, server.port))
        connection.close()
        connection.channel()


def _pika_closed_channel(host, port):
    import pika

    with serving(amqp.idle) as server:
        connection = pika.BlockingConnection(_pika_parameters(host, server.port))
        with contextlib.closing(connection):
            channel = connection.channel()
            channel.close()
            channel.queue_declare("provoked")


def _pika_wrong_argument(host, port):
    import pika

    pika.ConnectionParameters(host, port, heartbeat="often")


async def _aio_pika(host, port):
    import aio_pika

    connection = await aio_pika.connect(f"amqp://u:p@{host}:{port}/", timeout=timeout())
    async with connection:
        channel = await connection.channel(on_return_raises=True)
        await channel.declare_queue("provoked", passive=True, timeout=timeout())
        message = aio_pika.Message(b"x")
        await channel.default_exchange.publish(message, "provoked", timeout=timeout())


async def _aio_pika_closed(host, port):
    import aio_pika

    with serving(amqp.idle) as server:
        connection = await aio_pika.connect(f"amqp://u:p@{host}:{server.port}/")
        await connection.close()
        await connection.channel()


async def _aio_pika_closed_channel(host, port):
    import aio_pika

    with serving(amqp.idle) as server:
        async with await aio_pika.connect(f"amqp://u:p@{host}:{server.port}/") as connection:
            channel = await connection.channel()
            await channel.close()
            await channel.declare_queue("provoked")


async def _aiormq(host, port):
    # The library has no time-out of its own: its users do what stands here.
    import aiormq

    async with asyncio.timeout(timeout()):
        connection = await aiormq.connect(f"amqp://u:p@{host}:{port}/")
    async with connection:
        channel = await connection.channel()
        await channel.queue_declare("provoked", passive=True, timeout=timeout())


async def _aiormq_closed(host, port):
    import aiormq

    with serving(amqp.idle) as server:
        connection = await aiormq.connect(f"amqp://u:p@{host}:{server.port}/")
        await connection.close()
        await connection.channel()


def _kombu(host, port):
    import kombu

    with kombu.Connection(f"amqp://u:p@{host}:{port}/", connect_timeout=timeout()) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0)
        connection.channel().queue_declare("provoked", passive=True)


def _kombu_pool(host, port):
    import kombu

    with (
        serving(amqp.idle) as server,
        kombu.Connection(f"amqp://u:p@{host}:{server.port}/") as connection,
    ):
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
    import celery

    app = celery.Celery(broker=broker, set_as_current=False)
    app.conf.broker_connection_timeout = timeout()
    times = {"socket_timeout": timeout(), "socket_connect_timeout": timeout()}
    app.conf.broker_transport_options = times if broker.startswith("redis") else {}
    try:
        yield app
    finally:
        app.close()


def _celery_wrong_argument(host, port):
    with serving(amqp.idle) as server, _celery_app(f"amqp://u:p@{host}:{server.port}/") as app:
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
        **_OF_AIORMQ,
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
        **_OF_AIORMQ,
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
