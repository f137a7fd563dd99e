"""Websockets and server-sent events; each call imports its client."""

import base64
import hashlib
import struct
from functools import partial

from tests.integration.clients.client_setup import Situation, timeout
from tests.integration.clients.http_setup import http_setup
from tests.integration.clients.servers import answer, hang, read_request, reset

# What a websocket server does after the handshake


def upgraded(frames=b"", then=None):
    """Return a behaviour that accepts a websocket, sends these bytes and goes on with another."""

    def serve(connection):
        request = read_request(connection).decode()
        key = next(
            line.split(":", 1)[1].strip()
            for line in request.splitlines()
            if line.lower().startswith("sec-websocket-key:")
        )
        digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n" + frames
        )
        if then is not None:
            then(connection)

    return serve


def close_frame(code):
    """Return the frame with which a server closes a websocket."""
    return b"\x88\x02" + struct.pack("!H", code)


HALF_A_MESSAGE = b"\x81\x7e\x01\x00" + b"half"
AFTER_THE_HANDSHAKE = {
    "500": answer(500),
    "end without a close frame": upgraded(),
    "reset": upgraded(then=reset),
    "no message": upgraded(then=hang),
    "closed with 1011, an error of the server": upgraded(close_frame(1011)),
}


def websocket_setup(name, distributions, call, **fields):
    fields.setdefault("outages", AFTER_THE_HANDSHAKE)
    return http_setup(
        name,
        distributions,
        call,
        behaviours={Situation.CUTTING: upgraded(HALF_A_MESSAGE)},
        ignored={"407": answer(407)},
        **fields,
    )


# Clients of websockets


async def websockets_async(host, port, scheme="ws://"):
    import asyncio

    from websockets.asyncio.client import connect

    async with asyncio.timeout(timeout()):
        async with connect(f"{scheme}{host}:{port}/", close_timeout=timeout()) as socket:
            return await socket.recv()


async def websockets_closed(host, port):
    """Send after a close of the client's own."""
    import asyncio

    from websockets.asyncio.client import connect

    from tests.integration.clients.servers import serving

    with serving(upgraded(close_frame(1000))) as server:
        async with asyncio.timeout(10):
            async with connect(f"ws://{server.host}:{server.port}/") as socket:
                await socket.close()
                await socket.send("too late")


def websockets_sync(host, port, scheme="ws://"):
    from websockets.sync.client import connect

    url = f"{scheme}{host}:{port}/"
    with connect(url, open_timeout=timeout(), close_timeout=timeout()) as socket:
        return socket.recv(timeout=timeout())


def websocket_client(host, port, scheme="ws://"):
    import websocket

    socket = websocket.create_connection(f"{scheme}{host}:{port}/", timeout=timeout())
    try:
        return socket.recv_data()
    finally:
        socket.shutdown()


def websocket_client_closed(host, port):
    import websocket

    websocket.WebSocket().send("nobody is connected")


async def aiohttp_websocket(host, port, scheme="ws://"):
    import aiohttp

    limit = aiohttp.ClientTimeout(total=timeout())
    async with aiohttp.ClientSession(timeout=limit) as session:
        closing = aiohttp.ClientWSTimeout(ws_receive=timeout(), ws_close=timeout())
        async with session.ws_connect(f"{scheme}{host}:{port}/", timeout=closing) as socket:
            return await socket.receive_str()


async def httpx_websocket(host, port, scheme="http://"):
    import httpx
    from httpx_ws import aconnect_ws

    async with httpx.AsyncClient(timeout=timeout()) as client:
        url = f"{scheme}{host}:{port}/"
        async with aconnect_ws(url, client, keepalive_ping_interval_seconds=None) as socket:
            return await socket.receive_text(timeout=timeout())


# Server-sent events


async def httpx_events(host, port, scheme="http://"):
    import httpx
    from httpx_sse import aconnect_sse

    async with httpx.AsyncClient(timeout=timeout()) as client:
        async with aconnect_sse(client, "GET", f"{scheme}{host}:{port}/") as source:
            source.response.raise_for_status()
            return [event async for event in source.aiter_sse()]


def cut_events(connection):
    """Send one event and half of another in chunks, and no end."""
    read_request(connection)
    connection.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"e\r\ndata: first\n\n\n\r\n10\r\ndata: se"
    )


SETUPS = [
    websocket_setup(
        "websockets, async",
        ("websockets",),
        websockets_async,
        misuse={
            "bad scheme": partial(websockets_async, scheme="nonsense://"),
            "closed by the client": websockets_closed,
        },
    ),
    websocket_setup(
        "websockets, sync",
        ("websockets",),
        websockets_sync,
        misuse={"bad scheme": partial(websockets_sync, scheme="nonsense://")},
    ),
    websocket_setup(
        "websocket-client",
        ("websocket-client",),
        websocket_client,
        # It returns the close frame like a message.
        outages={
            name: behaviour
            for name, behaviour in AFTER_THE_HANDSHAKE.items()
            if "closed with" not in name
        },
        misuse={
            "bad scheme": partial(websocket_client, scheme="nonsense://"),
            "closed socket": websocket_client_closed,
        },
    ),
    websocket_setup(
        "aiohttp, websocket",
        ("aiohttp",),
        aiohttp_websocket,
        misuse={"bad scheme": partial(aiohttp_websocket, scheme="nonsense://")},
    ),
    websocket_setup(
        "httpx-ws",
        ("httpx-ws", "httpx"),
        httpx_websocket,
        misuse={"bad scheme": partial(httpx_websocket, scheme="nonsense://")},
    ),
    http_setup(
        "httpx-sse",
        ("httpx-sse", "httpx"),
        httpx_events,
        behaviours={Situation.CUTTING: cut_events},
        misuse={"bad scheme": partial(httpx_events, scheme="nonsense://")},
    ),
]
