"""Clients of NATS, MQTT and STOMP."""

import contextlib
import json

from tests.integration.clients.client_setup import ClientSetup, Situation, timeout
from tests.integration.clients.servers import drop, hang, serving
from tests.integration.clients.wire import mqtt
from tests.integration.clients.wire import nats as wire
from tests.integration.clients.wire.stream import greet


async def _nats(host, port):
    client = await _connected(host, port)
    try:
        await client.request("provoked", b"x", timeout=timeout())
    finally:
        await client.close()


async def _connected(host, port):
    import nats

    return await nats.connect(
        f"nats://{host}:{port}",
        connect_timeout=timeout(),
        allow_reconnect=False,
        max_reconnect_attempts=1,
        reconnect_time_wait=0.01,
        error_cb=_keep_quiet,
    )


async def _keep_quiet(error):
    """Do not log what is raised anyway."""


async def _jetstream(host, port):
    client = await _connected(host, port)
    try:
        await client.jetstream(timeout=timeout()).publish("provoked", b"x")
    finally:
        await client.close()


async def _nats_closed(host, port):
    with serving(wire.silent) as server:
        client = await _connected(host, server.port)
        await client.close()
        await client.publish("provoked", b"x")


async def _nats_wrong_subject(host, port):
    with serving(wire.silent) as server:
        client = await _connected(host, server.port)
        try:
            await client.publish("", b"x")
        finally:
            await client.close()


async def _nats_too_large(host, port):
    with serving(wire.silent) as server:
        client = await _connected(host, server.port)
        try:
            await client.publish("provoked", bytes(2_000_000))
        finally:
            await client.close()


def _api_error(status, code):
    body = {"error": {"code": status, "err_code": code, "description": "for the sake of a test"}}
    return wire.replying("", json.dumps(body))


_NATS_BEHAVIOURS = {
    Situation.UNAVAILABLE: wire.refusing("maximum connections exceeded"),
    Situation.DROPPING: drop,
    Situation.HANGING: hang,
    Situation.CUTTING: wire.cutting,
}


async def _mqtt(host, port):
    import aiomqtt

    async with aiomqtt.Client(
        host, port, timeout=timeout(), protocol=aiomqtt.ProtocolVersion.V5
    ) as client:
        granted = await client.subscribe("provoked", qos=1)
        if granted[0].is_failure:
            raise aiomqtt.MqttCodeError(granted[0])


async def _mqtt_3(host, port):
    import aiomqtt

    async with aiomqtt.Client(
        host, port, timeout=timeout(), protocol=aiomqtt.ProtocolVersion.V311
    ) as client:
        await client.subscribe("provoked", qos=1)


async def _mqtt_wrong_topic(host, port):
    import aiomqtt

    with serving(mqtt.silent) as server:
        async with aiomqtt.Client(
            host, server.port, timeout=timeout(), protocol=aiomqtt.ProtocolVersion.V5
        ) as client:
            await client.publish("no/#/wildcards")


_MQTT_BEHAVIOURS = {
    Situation.UNAVAILABLE: mqtt.refusing(136),
    Situation.DROPPING: drop,
    Situation.HANGING: hang,
    Situation.CUTTING: mqtt.cutting,
}


def _stomp(host, port):
    import stomp

    connection = stomp.Connection([(host, port)], timeout=timeout(), reconnect_attempts_max=1)
    try:
        connection.connect("u", "p", wait=True)
    finally:
        with contextlib.suppress(Exception):
            connection.transport.stop()


SETUPS = (
    ClientSetup(
        name="nats-py",
        distributions=("nats-py",),
        call=_nats,
        behaviours=_NATS_BEHAVIOURS,
        outages={
            "a request that nobody answers": wire.silent,
            # The service that would answer is not running: NATS gives it the status 503.
            "no responders": wire.replying(" 503"),
        },
        refusals={
            "wrong password": wire.refusing("Authorization Violation"),
            "expired login": wire.refusing("User Authentication Expired"),
        },
        misuse={
            "closed client": _nats_closed,
            "no subject": _nats_wrong_subject,
            "a message too large": _nats_too_large,
        },
    ),
    ClientSetup(
        name="nats-py, JetStream",
        distributions=("nats-py",),
        call=_jetstream,
        behaviours=_NATS_BEHAVIOURS,
        outages={
            "503 insufficient resources": _api_error(503, 10023),
            "500 server error": _api_error(500, 10047),
            # No stream listens to the subject, or JetStream has lost its quorum: as above.
            "no responders": wire.replying(" 503"),
        },
        refusals={
            "404 no such stream": _api_error(404, 10059),
            "400 bad request": _api_error(400, 10003),
            "429 too many requests": _api_error(429, 10167),
        },
    ),
    ClientSetup(
        name="aiomqtt",
        distributions=("aiomqtt", "paho-mqtt"),
        call=_mqtt,
        behaviours=_MQTT_BEHAVIOURS,
        outages={
            "137 server busy": mqtt.refusing(137),
            "139 server shutting down": mqtt.disconnecting(139),
            "a subscription that hangs": mqtt.silent,
        },
        refusals={
            "134 wrong password": mqtt.refusing(134),
            "135 not authorized": mqtt.refusing(135),
            "133 wrong client identifier": mqtt.refusing(133),
            "138 banned": mqtt.refusing(138),
            # The like of a 429.
            "151 quota exceeded": mqtt.refusing(151),
            "159 connecting too often": mqtt.refusing(159),
            "135 not authorized to subscribe": mqtt.acknowledging(135),
        },
        misuse={
            "wrong topic": _mqtt_wrong_topic,
        },
    ),
    ClientSetup(
        name="aiomqtt, MQTT 3.1.1",
        distributions=("aiomqtt", "paho-mqtt"),
        call=_mqtt_3,
        behaviours=_MQTT_BEHAVIOURS | {Situation.UNAVAILABLE: mqtt.refusing(3, version=3)},
        left_out={Situation.CUTTING: "the same bytes as MQTT 5"},
        refusals={
            "4 wrong password": mqtt.refusing(4, version=3),
            "5 not authorized": mqtt.refusing(5, version=3),
        },
    ),
    ClientSetup(
        name="stomp.py",
        distributions=("stomp.py",),
        call=_stomp,
        behaviours={
            Situation.UNAVAILABLE: greet(b"ERROR\nmessage:server is shutting down\n\n\0"),
            Situation.DROPPING: drop,
            Situation.CUTTING: greet(b"CONNEC"),
        },
        # A client that was never connected raises the same error, and without a word.
        left_out={Situation.HANGING: "it waits for the answer to its login without a time-out"},
    ),
)
