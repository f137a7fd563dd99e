"""Session: the stub broker's end of one connection."""

from collections.abc import Callable

from pamqp import commands, frame, header
from pamqp.common import FieldTable
from pamqp.frame import FrameTypes
from pamqp.heartbeat import Heartbeat

from resilience.testing.rabbitmq.channel import Channel
from resilience.testing.rabbitmq.pipe import Pipe
from resilience.testing.rabbitmq.queue import StubQueue
from resilience.testing.rabbitmq.vhost import Vhost

_FRAME_START = 7  # bytes: type, channel, size
_PROTOCOL_HEADER = 8  # bytes
_FRAME_MAX = 131_072
_CHANNEL_MAX = 2047
#: What the broker says about itself: what a RabbitMQ that consumers are tested with says.
SERVER_PROPERTIES: FieldTable = {
    "product": "RabbitMQ",
    "version": "4.0.5",
    "capabilities": {
        "basic.nack": True,
        "connection.blocked": True,
        "consumer_cancel_notify": True,
        "per_consumer_qos": True,
        "publisher_confirms": True,
    },
}


class Session:
    """One connection: its handshake, its channels, and whether the broker reads from it.

    Args:
        vhost: The queues.
        pipe: The way to the client.
        on_end: Called with the session when its connection has ended.
    """

    def __init__(self, vhost: Vhost, pipe: Pipe, on_end: Callable[["Session"], None]) -> None:
        self._vhost, self._pipe, self._on_end = vhost, pipe, on_end
        self._channels: dict[int, Channel] = {}
        self._received = b""
        self._greeted = False
        self._blocked = False

    # From the client

    def receive(self, data: bytes) -> None:
        """Take what the client has sent."""
        self._received += data
        if not self._blocked:
            self._read()

    def client_closed(self) -> None:
        """Note that the client has closed the connection."""
        self._end()

    def _read(self) -> None:
        """Handle what has been received, until the rest of a frame is missing."""
        while not self._blocked and (taken := self._next_frame()) is not None:
            channel, received = taken
            self._handle(channel, received)

    def _next_frame(self) -> tuple[int, FrameTypes] | None:
        start = self._received[:_FRAME_START]
        if len(start) < _FRAME_START:
            return None
        size = _FRAME_START + int.from_bytes(start[3:]) + 1 if self._greeted else _PROTOCOL_HEADER
        if len(self._received) < size:
            return None
        _, channel, received = frame.unmarshal(self._received[:size])
        if self._vhost.alarm is not None and isinstance(received, commands.Basic.Publish):
            # As RabbitMQ does: it reads no further from a connection that publishes.
            self._block(self._vhost.alarm)
            return None
        self._received = self._received[size:]
        return channel, received

    def _handle(self, number: int, received: FrameTypes) -> None:
        if number == 0:
            self._handle_connection(received)
        elif isinstance(received, commands.Channel.Close):
            self._close_channel(number)
            self._send(commands.Channel.CloseOk(), number)
        elif isinstance(received, commands.Channel.CloseOk):
            self._close_channel(number)
        else:
            if isinstance(received, commands.Channel.Open):
                self._channels[number] = Channel(self._vhost, lambda sent: self._send(sent, number))
            self._channels[number].handle(received)

    def _handle_connection(self, received: FrameTypes) -> None:
        match received:
            case header.ProtocolHeader():
                self._greeted = True
                self._send(commands.Connection.Start(server_properties=SERVER_PROPERTIES))
            case commands.Connection.StartOk():
                self._send(commands.Connection.Tune(_CHANNEL_MAX, _FRAME_MAX, 0))
            case commands.Connection.Open():
                self._send(commands.Connection.OpenOk())
            case Heartbeat():
                self._send(Heartbeat())
            case commands.Connection.Close():
                self._send(commands.Connection.CloseOk())
                self._end()
            case _:
                pass  # the answers of the client, and what it tells about itself

    # To the client

    def cut(self) -> None:
        """End the connection, as a broker that goes down does."""
        self._pipe.cut(ConnectionResetError("the stub broker has stopped"))
        self._end()

    def end_consumers(self) -> None:
        """Deliver nothing more; what is unacked stays so."""
        for channel in self._channels.values():
            channel.end_consumers()

    def unblock(self) -> None:
        """Read again from a connection that is blocked."""
        if self._blocked:
            self._blocked = False
            self._send(commands.Connection.Unblocked())
            self._read()

    def queue_gone(self, queue: StubQueue) -> None:
        """End the consumers of a queue that was deleted."""
        for channel in self._channels.values():
            channel.queue_gone(queue)

    def _block(self, reason: str) -> None:
        self._blocked = True
        self._send(commands.Connection.Blocked(reason=reason))

    def _send(self, sent: FrameTypes, number: int = 0) -> None:
        self._pipe.send(frame.marshal(sent, number))

    # The end

    def _close_channel(self, number: int) -> None:
        channel = self._channels.pop(number, None)
        if channel is not None:
            channel.release()

    def _end(self) -> None:
        for number in list(self._channels):
            self._close_channel(number)
        self._on_end(self)
