"""Encoding the properties of a copy so that they keep the values that they were delivered with.

pamqp, which encodes for aio-pika, narrows a double to a float, drops the milliseconds of a
timestamp, cuts long names of headers, and refuses text that is not UTF-8.
"""

import struct
import sys
from datetime import UTC, datetime

from aio_pika import Message
from pamqp import commands, common, encode

from resilience.integrations.rabbitmq.amqp import MessageError

#: The bytes of the frame with the properties that are not theirs.
CONTENT_HEADER_OVERHEAD = 20
# The most bytes that the properties other than the headers take: ten strings and some numbers.
_MOST_OTHER_PROPERTIES = 2600
# What is raised for a value that AMQP has no encoding for.
_ENCODING_ERRORS = (TypeError, ValueError, OverflowError, RecursionError, struct.error)
# pamqp takes a timestamp above this, in the year 2106, for one in milliseconds.
_MOST_SECONDS = 0xFFFFFFFF


class CopyProperties(commands.Basic.Properties):
    """The properties of a message, with an encoding that keeps their values."""

    def encode_property(self, name: str, value: common.FieldValue) -> bytes:
        """Return the encoded value of a property."""
        if name == "headers" and isinstance(value, dict):
            return encode_table(value)
        if name == "timestamp" and isinstance(value, datetime):
            return _encode_timestamp(value)
        return super().encode_property(name, value)


def encoded_copy(message: Message, room: int) -> CopyProperties:
    """Return a message's properties, with an encoding that keeps their values.

    Args:
        message: The message.
        room: The most bytes that they may take.

    Raises:
        MessageError: They cannot be encoded, or take too many bytes.
    """
    try:
        properties = message.properties
        names = commands.Basic.Properties.attributes()
        copied = CopyProperties(**{name: getattr(properties, name) for name in names})
        size = len(copied.marshal())
    except _ENCODING_ERRORS as error:
        kind = type(error).__name__
        raise MessageError(
            f"the message cannot be copied: its properties are not AMQP's ({kind})"
        ) from error
    if size > room:
        raise MessageError(
            f"the message cannot be copied: its properties take {size:,} bytes, and the broker "
            f"allows {room:,}"
        )
    return copied


def drop_headers(message: Message, room: int) -> list[str]:
    """Remove the headers that cannot be encoded, and the largest ones until the others have room.

    Args:
        message: The message, which is changed.
        room: The most bytes that the properties may take.

    Returns:
        The names of the removed headers.
    """
    sizes: dict[str, int] = {}
    for name, value in message.headers.items():
        try:
            sizes[name] = len(encode_table({name: value}))
        except _ENCODING_ERRORS:
            sizes[name] = sys.maxsize
    excess = _MOST_OTHER_PROPERTIES + sum(sizes.values()) - room
    dropped: list[str] = []
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True):
        if excess <= 0:
            break
        excess -= sizes[name]
        dropped.append(name)
        del message.headers[name]
    return dropped


def encode_table(table: common.FieldTable) -> bytes:
    """Return a table of headers as AMQP encodes it."""
    entries = bytearray()
    for name, value in table.items():
        entries += _encode_name(name) + _encode_value(value)
    return struct.pack(">I", len(entries)) + entries


def _encode_value(value: common.FieldValue) -> bytes:
    """Return one value with its type.

    There is one Python frame for each level of nesting, and pamqp uses two for decoding: a table
    that could be decoded can be encoded.
    """
    if isinstance(value, float):
        return b"d" + struct.pack(">d", value)
    if isinstance(value, bytes):  # A string that is not UTF-8 is delivered as bytes.
        return b"S" + struct.pack(">I", len(value)) + value
    if isinstance(value, datetime):
        return b"T" + _encode_timestamp(value)
    content = bytearray()
    if isinstance(value, dict):
        for name, member in value.items():
            content += _encode_name(name) + _encode_value(member)
        return b"F" + struct.pack(">I", len(content)) + content
    if isinstance(value, list):
        for member in value:
            content += _encode_value(member)
        return b"A" + struct.pack(">I", len(content)) + content
    return encode.encode_table_value(value)


def _encode_name(name: str) -> bytes:
    return encode.short_string(name)


def _encode_timestamp(value: datetime) -> bytes:
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    seconds = value.timestamp()
    in_milliseconds = value.microsecond != 0 or seconds > _MOST_SECONDS
    return struct.pack(">Q", round(seconds * 1000) if in_milliseconds else int(seconds))
