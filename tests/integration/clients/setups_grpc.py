"""gRPC. The server is a real one where it answers: it speaks HTTP/2 with the library h2.

Each call imports its client.
"""

from functools import partial

from tests.integration.clients.client_setup import ClientSetup, Situation, timeout
from tests.integration.clients.servers import hang, reset, serving

METHOD = "/region.Region/Call"


def _http2(answer):
    """Return a behaviour that speaks HTTP/2 and answers each request with a function.

    Args:
        answer: Gets the connection of h2 and the number of the stream; returns whether the
            connection goes on.
    """

    def serve(connection):
        import h2.config
        import h2.connection
        import h2.events
        import h2.exceptions

        http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        http.initiate_connection()
        connection.sendall(http.data_to_send())
        while data := connection.recv(65536):
            events = http.receive_data(data)
            requests = [event for event in events if isinstance(event, h2.events.StreamEnded)]
            try:
                goes_on = [answer(http, request.stream_id) for request in requests]
            except h2.exceptions.StreamClosedError:
                return  # the client has given the call up
            connection.sendall(http.data_to_send())
            if not all(goes_on):
                return

    return serve


HEAD = [(":status", "200"), ("content-type", "application/grpc+proto")]


def answer_grpc(code):
    """Return a behaviour that answers each call with this number of a gRPC status."""

    def answer(http, stream):
        status = [("grpc-status", str(code)), ("grpc-message", "no")]
        http.send_headers(stream, HEAD + status, end_stream=True)
        return True

    return _http2(answer)


def answer_http(status):
    """Return a behaviour of something before the server that knows nothing of gRPC."""

    def answer(http, stream):
        head = [(":status", str(status)), ("content-type", "text/html")]
        http.send_headers(stream, head, end_stream=True)
        return True

    return _http2(answer)


def _half_a_message(http, stream):
    """Announce a message of a hundred bytes and send ten."""
    http.send_headers(stream, HEAD)
    http.send_data(stream, b"\0\0\0\0\x64" + b"x" * 10)


def _cut(http, stream):
    _half_a_message(http, stream)
    return False


def _stall(http, stream):
    _half_a_message(http, stream)
    return True


# grpcio


OPTIONS = [("grpc.enable_retries", 0)]


def grpc_sync(host, port, method=METHOD, **options):
    import grpc

    with grpc.insecure_channel(f"{host}:{port}", options=OPTIONS) as channel:
        return channel.unary_unary(method, **options)(b"", timeout=timeout())


def grpc_stream(host, port):
    import grpc

    with grpc.insecure_channel(f"{host}:{port}", options=OPTIONS) as channel:
        return list(channel.unary_stream(METHOD)(b"", timeout=timeout()))


async def grpc_async(host, port, message=b""):
    import grpc.aio

    async with grpc.aio.insecure_channel(f"{host}:{port}", options=OPTIONS) as channel:
        return await channel.unary_unary(METHOD)(message, timeout=timeout())


def _no_serializer(message):
    raise TypeError(f"cannot serialize {type(message)}")


def grpc_closed(host, port):
    import grpc

    channel = grpc.insecure_channel(f"{host}:{port}")
    channel.close()
    channel.unary_unary(METHOD)(b"")


def grpc_cancelled(host, port):
    """Cancel a call that a server of its own never answers."""
    import grpc

    with serving(hang) as server, grpc.insecure_channel(f"{server.host}:{server.port}") as channel:
        call = channel.unary_unary(METHOD).future(b"")
        call.cancel()
        call.result()


async def grpc_async_closed(host, port):
    import grpc.aio

    channel = grpc.aio.insecure_channel(f"{host}:{port}")
    await channel.close()
    await channel.unary_unary(METHOD)(b"")


# google.api_core wraps grpcio


def google_grpc(host, port, **options):
    import grpc
    from google.api_core import grpc_helpers

    with grpc.insecure_channel(f"{host}:{port}", options=OPTIONS) as channel:
        call = grpc_helpers.wrap_errors(channel.unary_unary(METHOD, **options))
        return call(b"", timeout=timeout())


# grpclib


class BytesCodec:
    """Sends bytes as they are."""

    __content_subtype__ = "proto"

    def encode(self, message, message_type):
        if not isinstance(message, bytes):
            raise TypeError("expected bytes")
        return message

    def decode(self, data, message_type):
        return data


async def grpclib_call(host, port, message=b""):
    from grpclib.client import Channel, UnaryUnaryMethod

    async with Channel(host, port, codec=BytesCodec()) as channel:
        call = UnaryUnaryMethod(channel, METHOD, bytes, bytes)
        return await call(message, timeout=timeout())


OUTAGES = {
    "reset": reset,
    "UNKNOWN": answer_grpc(2),
    "DEADLINE_EXCEEDED": answer_grpc(4),
    "INTERNAL": answer_grpc(13),
    "DATA_LOSS": answer_grpc(15),
    "HTTP 503": answer_http(503),
}
REFUSALS = {
    "INVALID_ARGUMENT": answer_grpc(3),
    "NOT_FOUND": answer_grpc(5),
    "ALREADY_EXISTS": answer_grpc(6),
    "PERMISSION_DENIED": answer_grpc(7),
    "RESOURCE_EXHAUSTED": answer_grpc(8),
    "FAILED_PRECONDITION": answer_grpc(9),
    "OUT_OF_RANGE": answer_grpc(11),
    "UNAUTHENTICATED": answer_grpc(16),
}


def grpc_setup(name, distributions, call, **fields):
    return ClientSetup(
        name,
        distributions,
        call,
        behaviours={
            Situation.UNAVAILABLE: answer_grpc(14),
            Situation.CUTTING: _http2(_cut),
        },
        outages=OUTAGES | {"silence after half an answer": _http2(_stall)},
        refusals=REFUSALS,
        ignored={"CANCELLED": answer_grpc(1)},
        **fields,
    )


WRONG = {"request_serializer": _no_serializer}

SETUPS = [
    grpc_setup(
        "grpcio, sync",
        ("grpcio",),
        grpc_sync,
        misuse={
            "serializer that fails": partial(grpc_sync, **WRONG),
            "wrong argument": partial(grpc_sync, method=5),
            "closed channel": grpc_closed,
            "cancelled": grpc_cancelled,
        },
    ),
    grpc_setup("grpcio, streamed", ("grpcio",), grpc_stream),
    grpc_setup(
        "grpcio, async",
        ("grpcio",),
        grpc_async,
        misuse={
            "wrong argument": partial(grpc_async, message=object()),
            "closed channel": grpc_async_closed,
        },
    ),
    grpc_setup(
        "google-api-core, gRPC",
        ("google-api-core", "grpcio"),
        google_grpc,
        misuse={"serializer that fails": partial(google_grpc, **WRONG)},
    ),
    grpc_setup(
        "grpclib",
        ("grpclib",),
        grpclib_call,
        misuse={"wrong argument": partial(grpclib_call, message=object())},
    ),
]
