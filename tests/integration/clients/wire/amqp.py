"""AMQP 0-9-1 as RabbitMQ speaks it; the frames are made by pamqp."""

import socket

from pamqp import base, body, commands, frame, header

from tests.integration.clients.servers import Behaviour
from tests.integration.clients.wire.stream import cut_off, linger, read_exactly

_CAPABILITIES = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "publisher_confirms": True,
}
_ANSWERS = {
    commands.Connection.TuneOk: None,
    commands.Connection.Open: commands.Connection.OpenOk(),
    commands.Connection.Close: commands.Connection.CloseOk(),
    commands.Connection.CloseOk: None,
    commands.Channel.Open: commands.Channel.OpenOk(),
    commands.Channel.Close: commands.Channel.CloseOk(),
    commands.Channel.CloseOk: None,
    commands.Confirm.Select: commands.Confirm.SelectOk(),
    commands.Basic.Qos: commands.Basic.QosOk(),
    commands.Exchange.Declare: commands.Exchange.DeclareOk(),
    commands.Queue.Declare: commands.Queue.DeclareOk("provoked", 0, 0),
    commands.Queue.Bind: commands.Queue.BindOk(),
}


def closing_connection(code: int, text: str, *, at: type[base.Frame]) -> Behaviour:
    """Return a behaviour that answers a method by closing the connection.

    Args:
        code: The reply code.
        text: The reply text.
        at: The method.
    """
    return _answering(commands.Connection.Close(code, text, 0, 0), at=at, channel=0)


def closing_channel(code: int, text: str, *, at: type[base.Frame]) -> Behaviour:
    """Return a behaviour that answers a method by closing its channel."""
    return _answering(commands.Channel.Close(code, text, 0, 0), at=at)


def _answering(answer: base.Frame, *, at: type[base.Frame], channel: int | None = None) -> Behaviour:
    def serve(connection: socket.socket) -> None:
        _start(connection)
        while True:
            number, method = _read(connection)
            if isinstance(method, at):
                _send(connection, number if channel is None else channel, answer)
            else:
                _reply(connection, number, method)

    return serve


def returning(connection: socket.socket) -> None:
    """Return every message, for no queue takes it, and confirm it."""
    _start(connection)
    properties = None
    while True:
        number, method = _read(connection)
        if isinstance(method, header.ContentHeader):
            properties = method
        elif isinstance(method, body.ContentBody):
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
    _start(connection)
    number, method = _read(connection)
    while not isinstance(method, commands.Queue.Declare):
        _reply(connection, number, method)
        number, method = _read(connection)
    answer = frame.marshal(_ANSWERS[commands.Queue.Declare], number)
    cut_off(connection, answer[: len(answer) // 2])


def _start(connection: socket.socket) -> None:
    read_exactly(connection, len(b"AMQP\0\0\x09\x01"))
    properties = {"product": "RabbitMQ", "capabilities": _CAPABILITIES}
    _send(connection, 0, commands.Connection.Start(0, 9, properties, "PLAIN AMQPLAIN", "en_US"))


def _reply(connection: socket.socket, number: int, method: base.Frame) -> None:
    if isinstance(method, commands.Connection.StartOk):
        _send(connection, 0, commands.Connection.Tune(2047, 131072, 0))
    elif isinstance(method, body.ContentBody):
        _send(connection, number, commands.Basic.Ack(1))
    elif (answer := _ANSWERS.get(type(method))) is not None:  # a method without arguments is false
        _send(connection, number, answer)
    if isinstance(method, (commands.Connection.Close, commands.Connection.CloseOk)):
        linger(connection)
        raise EOFError("the connection is closed")


def _read(connection: socket.socket) -> tuple[int, base.Frame]:
    head = read_exactly(connection, 7)
    size = int.from_bytes(head[3:7], "big")
    _, number, method = frame.unmarshal(head + read_exactly(connection, size + 1))
    return number, method


def _send(connection: socket.socket, number: int, method: base.Frame) -> None:
    connection.sendall(frame.marshal(method, number))
