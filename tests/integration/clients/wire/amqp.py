"""AMQP 0-9-1 as RabbitMQ speaks it; the frames are made by pamqp."""

import socket
from functools import lru_cache

from tests.integration.clients.servers import Behaviour
from tests.integration.clients.wire.stream import cut_off, linger, read_exactly

# Names of methods, as pamqp has them.
LOGIN, OPEN, DECLARE = "Connection.StartOk", "Connection.Open", "Queue.Declare"

_CAPABILITIES = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "publisher_confirms": True,
}


@lru_cache(maxsize=1)
def _answers():
    """Return the answer to each method that has one."""
    from pamqp import commands

    return {
        "Connection.StartOk": commands.Connection.Tune(2047, 131072, 0),
        "Connection.Open": commands.Connection.OpenOk(),
        "Connection.Close": commands.Connection.CloseOk(),
        "Channel.Open": commands.Channel.OpenOk(),
        "Channel.Close": commands.Channel.CloseOk(),
        "Confirm.Select": commands.Confirm.SelectOk(),
        "Basic.Qos": commands.Basic.QosOk(),
        "Exchange.Declare": commands.Exchange.DeclareOk(),
        "Queue.Declare": commands.Queue.DeclareOk("provoked", 0, 0),
        "Queue.Bind": commands.Queue.BindOk(),
        "ContentBody": commands.Basic.Ack(1),
    }


def closing_connection(code: int, text: str, *, at: str) -> Behaviour:
    """Return a behaviour that answers a method by closing the connection.

    Args:
        code: The reply code.
        text: The reply text.
        at: The method.
    """

    def close(connection: socket.socket, number: int) -> None:
        from pamqp import commands

        _send(connection, 0, commands.Connection.Close(code, text, 0, 0))

    return _answering(close, at=at)


def closing_channel(code: int, text: str, *, at: str) -> Behaviour:
    """Return a behaviour that answers a method by closing its channel."""

    def close(connection: socket.socket, number: int) -> None:
        from pamqp import commands

        _send(connection, number, commands.Channel.Close(code, text, 0, 0))

    return _answering(close, at=at)


def _answering(close, *, at: str) -> Behaviour:
    def serve(connection: socket.socket) -> None:
        _start(connection)
        while True:
            number, method = _read(connection)
            if method.name == at:
                close(connection, number)
            else:
                _reply(connection, number, method)

    return serve


def returning(connection: socket.socket) -> None:
    """Return every message, for no queue takes it, and confirm it."""
    from pamqp import commands

    _start(connection)
    properties = None
    while True:
        number, method = _read(connection)
        if method.name == "ContentHeader":
            properties = method
        elif method.name == "ContentBody":
            returned = commands.Basic.Return(312, "NO_ROUTE", "", "provoked")
            for part in (returned, properties, method, commands.Basic.Ack(1)):
                _send(connection, number, part)
        else:
            _reply(connection, number, method)


def idle(connection: socket.socket) -> None:
    """Answer every method."""
    _start(connection)
    while True:
        _reply(connection, *_read(connection))


def cutting(connection: socket.socket) -> None:
    """Send half of the answer to a declaration, and reset the connection."""
    from pamqp import frame

    _start(connection)
    number, method = _read(connection)
    while method.name != DECLARE:
        _reply(connection, number, method)
        number, method = _read(connection)
    answer = frame.marshal(_answers()[DECLARE], number)
    cut_off(connection, answer[: len(answer) // 2])


def _start(connection: socket.socket) -> None:
    from pamqp import commands

    read_exactly(connection, len(b"AMQP\0\0\x09\x01"))
    properties = {"product": "RabbitMQ", "capabilities": _CAPABILITIES}
    _send(connection, 0, commands.Connection.Start(0, 9, properties, "PLAIN AMQPLAIN", "en_US"))


def _reply(connection: socket.socket, number: int, method) -> None:
    answer = _answers().get(method.name)
    if answer is not None:  # a method without arguments is false
        _send(connection, number, answer)
    if method.name in {"Connection.Close", "Connection.CloseOk"}:
        linger(connection)
        raise EOFError("the connection is closed")


def _read(connection: socket.socket):
    """Read a frame, and return its channel and what it holds."""
    from pamqp import frame

    head = read_exactly(connection, 7)
    size = int.from_bytes(head[3:7], "big")
    _, number, method = frame.unmarshal(head + read_exactly(connection, size + 1))
    return number, method


def _send(connection: socket.socket, number: int, method) -> None:
    from pamqp import frame

    connection.sendall(frame.marshal(method, number))
