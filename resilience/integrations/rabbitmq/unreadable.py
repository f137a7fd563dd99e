"""Making frames readable that pamqp cannot decode, and that would end the connection for everybody.

RabbitMQ accepts more than pamqp can decode: text that is not UTF-8 in a property, in the name of a
header or in a routing key; a timestamp after the year 9999; a table that is nested too deeply.
"""

import struct
from contextlib import suppress

from aio_pika.abc import AbstractIncomingMessage
from pamqp import commands, common, constants, decode, frame

from resilience.integrations.rabbitmq.amqp import MessageError
from resilience.integrations.rabbitmq.encoding import CopyProperties

#: The header that holds the properties of an unreadable message as they were delivered.
UNREADABLE = "x-unreadable"

_FRAME = struct.Struct(">BHI")  # type, channel, size
_CONTENT_HEADER_SIZE = 12
_LONGEST_NAME = 255  # bytes, in AMQP
# The bytes that a value takes after its type. The others begin with their size.
_TYPES_OF_SIZE = {0: b"V", 1: b"tbB", 2: b"su", 4: b"Iif", 5: b"D", 8: b"lLdT"}
_SIZES = {kind: size for size, kinds in _TYPES_OF_SIZE.items() for kind in kinds}


def check_readable(message: AbstractIncomingMessage) -> None:
    """Reject a message whose properties could not be read.

    Raises:
        MessageError: They could not.
    """
    if UNREADABLE in message.headers:
        raise MessageError(
            "the properties of the message cannot be read; "
            f"its header {UNREADABLE!r} holds them as they were delivered"
        )


def readable_frame(data: bytes) -> bytes:
    """Return a frame that pamqp can decode, with as much of its content as possible.

    Args:
        data: A whole frame, as it came from the broker.
    """
    kind, channel, _ = _FRAME.unpack_from(data)
    if kind not in {constants.FRAME_METHOD, constants.FRAME_HEADER}:
        return data
    try:
        frame.unmarshal(data)
    except Exception:  # noqa: BLE001 - Whatever it is, it would end the connection.
        payload = data[_FRAME.size : -1]
        readable = _readable_method if kind == constants.FRAME_METHOD else _readable_header
        payload = readable(payload)
        return _FRAME.pack(kind, channel, len(payload)) + payload + constants.FRAME_END_CHAR
    return data


# Methods


def _readable_method(payload: bytes) -> bytes:
    """Return a Basic.Deliver with readable names; no other method has text of a stranger."""
    if struct.unpack_from(">I", payload)[0] != commands.Basic.Deliver.index:
        return payload
    _, after_tag = _short_string(payload, 4)
    at = after_tag + 9  # the delivery tag, and whether it is redelivered
    readable = payload[:at]
    for _ in ("exchange", "routing key"):
        text, at = _short_string(payload, at)
        readable += _encode_text(text)
    return readable


# Properties


def _readable_header(payload: bytes) -> bytes:
    """Return a content header whose properties are readable, and hold the unreadable ones, too."""
    encoded = payload[_CONTENT_HEADER_SIZE:]
    properties = CopyProperties()
    with suppress(IndexError, struct.error):
        _read_properties(properties, encoded)
    properties.headers = {**(properties.headers or {}), UNREADABLE: bytearray(encoded)}
    return payload[:_CONTENT_HEADER_SIZE] + properties.marshal()


def _read_properties(properties: CopyProperties, encoded: bytes) -> None:
    """Read the properties one by one, and leave out what cannot be read."""
    (flags,) = struct.unpack_from(">H", encoded)
    at = 2
    for name in commands.Basic.Properties.attributes():
        if not flags & properties.flags[name]:
            continue
        kind = properties.amqp_type(name)
        if kind == "shortstr":
            text, at = _short_string(encoded, at)
            setattr(properties, name, _as_text(text))
        elif kind == "table":
            end = at + 4 + _long(encoded, at)
            properties.headers = _read_table(encoded[at + 4 : end])
            at = end
        else:
            end = at + (1 if kind == "octet" else 8)
            with suppress(ValueError, OverflowError):
                setattr(properties, name, decode.by_type(encoded[at:end], kind)[1])
            at = end


def _read_table(encoded: bytes) -> common.FieldTable:
    table: common.FieldTable = {}
    at = 0
    while at < len(encoded):
        name, at = _short_string(encoded, at)
        end = at + 1 + _size_of_value(encoded, at)
        table[_as_text(name)] = _read_value(encoded[at:end])
        at = end
    return table


def _read_value(encoded: bytes) -> common.FieldValue:
    """Return the value of a header, or None if it cannot be read."""
    try:
        return decode.embedded_value(encoded)[1]
    except (ValueError, OverflowError, RecursionError):
        return None


def _size_of_value(encoded: bytes, at: int) -> int:
    size = _SIZES.get(encoded[at])
    return 4 + _long(encoded, at + 1) if size is None else size


# Text


def _short_string(encoded: bytes, at: int) -> tuple[bytes, int]:
    """Return a string that begins with its length, and where it ends."""
    end = at + 1 + encoded[at]
    return encoded[at + 1 : end], end


def _long(encoded: bytes, at: int) -> int:
    (number,) = struct.unpack_from(">I", encoded, at)
    return int(number)


def _as_text(text: bytes) -> str:
    r"""Return text that may not be UTF-8, with what is not as \xfc, at most as long as a name."""
    shown = text.decode(errors="backslashreplace").encode()[:_LONGEST_NAME]
    return shown.decode(errors="ignore")


def _encode_text(text: bytes) -> bytes:
    encoded = _as_text(text).encode()
    return bytes([len(encoded)]) + encoded
