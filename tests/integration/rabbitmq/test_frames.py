"""Frames that pamqp cannot decode, without a broker."""

import asyncio
import struct

import aio_pika
import pytest
from pamqp import commands, frame

from resilience.integrations.rabbitmq.encoding import drop_headers, encoded_copy
from resilience.integrations.rabbitmq.frames import FrameStream
from resilience.integrations.rabbitmq.unreadable import UNREADABLE, readable_frame
from tests.support import rabbitmq_raw as raw


def method(encoded, channel=3):
    return frame._marshal(1, channel, encoded)


def content_header(encoded):
    return frame._marshal(2, 3, struct.pack(">HxxQ", 60, 7) + encoded)


def stream_of(data, on_blocked=None):
    source = asyncio.StreamReader()
    source.feed_data(data)
    source.feed_eof()
    return FrameStream(source, on_blocked or (lambda _: pytest.fail("it is not blocked")))


def test_a_frame_that_can_be_decoded_stays_as_it_is():
    acked = frame.marshal(commands.Basic.Ack(delivery_tag=7), 3)
    assert readable_frame(acked) is acked


def test_a_delivery_keeps_all_but_what_is_not_utf_8():
    deliver = commands.Basic.Deliver(
        consumer_tag="me", delivery_tag=7, redelivered=True, exchange="e", routing_key="RR"
    )
    data = frame.marshal(deliver, 3).replace(b"\x02RR", b"\x02\xfcR")
    _, channel, readable = frame.unmarshal(readable_frame(data))
    assert channel == 3
    assert (readable.consumer_tag, readable.delivery_tag) == ("me", 7)
    assert (readable.redelivered, readable.exchange) == (True, "e")
    assert readable.routing_key == r"\xfcR"


def test_a_name_stays_short_enough_with_what_is_shown_instead():
    name = b"\xfc" * 255
    data = method(struct.pack(">I", 0x003C003C) + b"\x01t" + bytes(9) + b"\x00\xff" + name)
    _, _, readable = frame.unmarshal(readable_frame(data))
    assert readable.routing_key == r"\xfc" * 63 + r"\xf"


def test_another_method_is_left_to_aiormq():
    data = method(struct.pack(">I", 0x003C0032) + b"\x00\x00\x01\xfc\x00\x00")
    assert readable_frame(data) == data


def test_what_can_be_read_of_the_properties_is_there():
    flags = struct.pack(">H", 0x8000 | raw.HEADERS | 0x1000 | raw.TIMESTAMP)
    table = raw.table(kept=b"b\x07", lost=raw.timestamp(2**63 - 1), Zürich=b"t\x01")
    encoded = flags + raw.short(b"text/plain") + table + b"\x02" + struct.pack(">Q", 2**63 - 1)
    _, _, readable = frame.unmarshal(readable_frame(content_header(encoded)))
    assert readable.body_size == 7
    properties = readable.properties
    assert (properties.content_type, properties.delivery_mode) == ("text/plain", 2)
    assert properties.timestamp is None
    assert properties.headers == {
        "kept": 7,
        "lost": None,
        r"Z\xfcrich": True,
        UNREADABLE: bytearray(encoded),
    }


@pytest.mark.parametrize("cut", [1, 3, 10])
def test_properties_that_are_cut_off_are_read_as_far_as_they_go(cut):
    encoded = raw.headers(kept=b"t\x01", lost=raw.text(b"\xfc"))[:-cut]
    _, _, readable = frame.unmarshal(readable_frame(content_header(encoded)))
    assert readable.properties.headers[UNREADABLE] == bytearray(encoded)


async def test_a_broker_that_asks_for_another_protocol_is_passed_on():
    stream = stream_of(b"AMQP\x00\x01\x00\x00")
    assert await stream.readexactly(1) == b"A"
    assert await stream.readexactly(6) == b"MQP\x00\x01\x00"


async def test_a_stream_ends_with_its_last_frame():
    acked = frame.marshal(commands.Basic.Ack(delivery_tag=7), 3)
    stream = stream_of(acked + acked[:-1])
    assert await stream.readexactly(1) + await stream.readexactly(len(acked) - 1) == acked
    assert not stream.at_eof()
    with pytest.raises(asyncio.IncompleteReadError):
        await stream.readexactly(1)
    assert stream.at_eof()


async def test_blocking_and_unblocking_are_noticed():
    blocked = frame.marshal(commands.Connection.Blocked(reason="low on memory"), 0)
    unblocked = frame.marshal(commands.Connection.Unblocked(), 0)
    seen = []
    stream = stream_of(blocked + unblocked, seen.append)
    for data in (blocked, unblocked):
        assert await stream.readexactly(len(data)) == data
    assert seen == ["low on memory", None]


def test_headers_are_dropped_only_as_far_as_needed():
    headers = {"large": "x" * 9000, "small": "y", "odd": object()}
    message = aio_pika.Message(b"", headers=headers)
    assert drop_headers(message, 4000) == ["odd", "large"]
    assert encoded_copy(message, 4000).headers == {"small": "y"}


def test_all_headers_are_dropped_if_there_is_no_room_for_any():
    message = aio_pika.Message(b"", headers={"one": "x", "two": "yy"})
    assert drop_headers(message, 0) == ["two", "one"]
    assert message.headers == {}
