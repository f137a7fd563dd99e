"""Wire: stands between a worker and its broker and reads along what they say to each other.

Nothing on either side has to be trusted with counting itself, and a count survives both of them.
"""

import asyncio
import struct
import time
from collections import Counter, defaultdict
from dataclasses import dataclass

from pamqp import commands, frame, header
from yarl import URL

_START = struct.Struct(">BHI")  # type, channel, size
_METHOD, _HEADER = 1, 2
_GREETING = b"AMQP"
_BASIC = 60
_FROM_BROKER = {60, 80, 120}  # Deliver, Ack, Nack: the last two are confirms
_FROM_WORKER = {20, 40, 80, 90, 120}  # Consume, Publish, Ack, Reject, Nack


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message on its way to the worker."""

    at: float  # time.monotonic(), which all processes of a machine share
    queue: str
    name: str  # the message id


class Wire:
    """Forwards the connections of workers to a broker; `url` is what to give them.

    Args:
        url: Where the broker is.
    """

    def __init__(self, url):
        self._broker = URL(url)
        self._server = None
        self._open = set()
        self.deliveries = []
        #: What the workers did, as ("ack", message id) and so on.
        self.settled = Counter()
        #: What they published, as (routing key, message id).
        self.published = Counter()
        #: Messages that were acked while the broker had not yet confirmed their copy.
        self.acked_too_early = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = str(self._broker.with_host("127.0.0.1").with_port(port))
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def most_deliveries(self, names=None):
        """Say how often the message was delivered that was delivered most often."""
        counts = Counter(one.name for one in self.deliveries if names is None or one.name in names)
        return max(counts.values(), default=0)

    def count(self, how):
        """Say how many messages were settled in this way."""
        return sum(count for (what, _), count in self.settled.items() if what == how)

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._open.add(task)
        try:
            await self._forward(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # one side is gone, so will be the other; or the scenario is over
        finally:
            self._open.discard(task)
            writer.close()

    async def _forward(self, reader, writer):
        from_broker, to_broker = await asyncio.open_connection(
            self._broker.host, self._broker.port or 5672
        )
        talk = _Talk(self)
        pumps = [
            asyncio.create_task(_pump(reader, to_broker, _Frames(talk.worker_said, _FROM_WORKER))),
            asyncio.create_task(
                _pump(from_broker, writer, _Frames(talk.broker_said, _FROM_BROKER))
            ),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            ends = await asyncio.gather(*pumps, return_exceptions=True)
            to_broker.close()
        for error in ends:
            if isinstance(error, Exception) and not isinstance(error, OSError):
                raise error


async def _pump(reader, writer, frames):
    while data := await reader.read(1 << 16):
        frames.feed(data)
        writer.write(data)
        await writer.drain()


class _Frames:
    """Cuts a stream into frames, and passes on the few that say something."""

    def __init__(self, say, wanted):
        self._say, self._wanted = say, wanted
        self._rest = b""
        self._headers_of = set()  # channels whose next header belongs to a wanted method

    def feed(self, data):
        data, at = self._rest + data, 0
        if data.startswith(_GREETING):
            at = 8
        while at + _START.size <= len(data):
            kind, channel, size = _START.unpack_from(data, at)
            end = at + _START.size + size + 1
            if end > len(data):
                break
            if self._says_something(kind, channel, data, at + _START.size):
                _, _, said = frame.unmarshal(data[at:end])
                self._say(channel, said)
            at = end
        self._rest = data[at:]

    def _says_something(self, kind, channel, data, at):
        if kind == _HEADER and channel in self._headers_of:
            self._headers_of.discard(channel)
            return True
        if kind != _METHOD:
            return False
        family, method = struct.unpack_from(">HH", data, at)
        wanted = family == _BASIC and method in self._wanted
        if wanted and method in {40, 60}:
            self._headers_of.add(channel)
        return wanted


class _Talk:
    """One connection: which tag belongs to which message."""

    def __init__(self, wire):
        self._wire = wire
        self._queues = {}  # (channel, consumer tag) -> queue
        self._begun = {}  # (who, channel) -> the method whose header is to come
        self._unsettled = defaultdict(dict)  # channel -> delivery tag -> message id
        self._unconfirmed = defaultdict(dict)  # channel -> number of the publish -> message id
        self._publishes = Counter()  # channel -> how many there were

    def worker_said(self, channel, said):
        match said:
            case commands.Basic.Consume():
                self._queues[channel, said.consumer_tag] = said.queue
            case commands.Basic.Publish():
                self._begun["worker", channel] = said
            case header.ContentHeader():
                self._publish(channel, said.properties.message_id)
            case _:
                self._settle(channel, said)

    def broker_said(self, channel, said):
        if isinstance(said, commands.Basic.Deliver):
            self._begun["broker", channel] = said
            return
        if isinstance(said, commands.Basic.Ack | commands.Basic.Nack):
            _take(self._unconfirmed[channel], said)
            return
        deliver = self._begun.pop(("broker", channel))
        name = said.properties.message_id
        self._unsettled[channel][deliver.delivery_tag] = name
        queue = self._queues[channel, deliver.consumer_tag]
        self._wire.deliveries.append(Delivery(time.monotonic(), queue, name))

    def _publish(self, channel, name):
        publish = self._begun.pop(("worker", channel))
        if self._wire.settled["ack", name]:
            self._wire.acked_too_early.append(name)
        self._wire.published[publish.routing_key, name] += 1
        self._publishes[channel] += 1
        self._unconfirmed[channel][self._publishes[channel]] = name

    def _settle(self, channel, said):
        how = said.name.partition(".")[2].lower()
        for name in _take(self._unsettled[channel], said):
            self._wire.settled[how, name] += 1
            if how == "ack" and any(name in names.values() for names in self._unconfirmed.values()):
                self._wire.acked_too_early.append(name)


def _take(open_ones, said):
    """Take out what an ack, a nack or a reject is about."""
    tag, multiple = said.delivery_tag, getattr(said, "multiple", False)
    tags = [one for one in open_ones if one <= tag or not tag] if multiple else [tag]
    return [open_ones.pop(one) for one in tags]
