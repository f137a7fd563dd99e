"""Messages with properties as other client libraries send them, down to the last byte."""

import struct

from pamqp import commands

HEADERS, MESSAGE_ID, TIMESTAMP = 0x2000, 0x0080, 0x0040


class RawProperties(commands.Basic.Properties):
    """Properties that are encoded already."""

    def __init__(self, encoded):
        super().__init__()
        self._encoded = encoded

    def marshal(self):
        return self._encoded


def text(value):
    """Encode a string, which need not be UTF-8, as the value of a header."""
    return b"S" + struct.pack(">I", len(value)) + value


def table(**entries):
    """Encode a table; the names are Latin-1."""
    encoded = b"".join(short(name.encode("latin-1")) + value for name, value in entries.items())
    return struct.pack(">I", len(encoded)) + encoded


def nested(depth):
    """Encode the value of a header: a table in a table in a table, and so on."""
    value = b"t\x01"
    for _ in range(depth):
        value = b"F" + table(n=value)
    return value


def short(value):
    return bytes([len(value)]) + value


def headers(**entries):
    """Encode properties that have headers only."""
    return struct.pack(">H", HEADERS) + table(**entries)


def timestamp(number):
    return b"T" + struct.pack(">Q", number)


async def publish_raw(bench, queue, body, properties, *, exchange="", routing_key=None):
    """Publish a message with encoded properties."""
    channel = await bench.connection.channel()
    underlay = await channel.get_underlay_channel()
    await underlay.basic_publish(
        body,
        exchange=exchange,
        routing_key=str(queue) if routing_key is None else routing_key,
        properties=RawProperties(properties),
    )
    await channel.close()


class Latin1(str):
    """Text that is not UTF-8 on the wire."""

    __slots__ = ()

    def encode(self, *_):
        return super().encode("latin-1")
