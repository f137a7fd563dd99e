"""Channel: what the stub broker does with the requests that come over one channel."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pamqp import body, commands, header
from pamqp.base import Frame
from pamqp.frame import FrameTypes

from resilience.testing.rabbitmq.queue import Stored, StubQueue, priority_in
from resilience.testing.rabbitmq.vhost import (
    NOT_IMPLEMENTED,
    PRECONDITION_FAILED,
    ChannelError,
    Vhost,
)

_NO_ROUTE = 312
# Bytes of a body in one frame: RabbitMQ's frame_max, without the frame's own 8 bytes.
_FRAME_ROOM = 131_072 - 8


@dataclass(slots=True, eq=False)
class ChannelConsumer:
    """A consumer on a channel.

    Args:
        channel: The channel.
        tag: Its consumer tag.
        queue: The queue that it consumes.
        prefetch: The most messages that it has unacked; 0 is no limit.
        no_ack: Whether its messages need no ack.
        priority: The higher, the earlier it gets a message.
    """

    channel: "Channel"
    tag: str
    queue: StubQueue
    prefetch: int
    no_ack: bool
    priority: int
    unacked: set[int] = field(default_factory=set)

    @property
    def has_room(self) -> bool:
        """Whether its prefetch allows another message."""
        return not self.prefetch or len(self.unacked) < self.prefetch

    def deliver(self, message: Stored) -> None:
        """Send it a message."""
        self.channel.deliver(self, message)


@dataclass(frozen=True, slots=True)
class Unacked:
    """A message that was sent over a channel and is not settled yet."""

    queue: StubQueue
    message: Stored
    consumer: ChannelConsumer | None


class Channel:
    """An open channel.

    Args:
        vhost: The queues.
        send: Sends a frame over the channel.
    """

    def __init__(self, vhost: Vhost, send: Callable[[FrameTypes], None]) -> None:
        self._vhost, self._send = vhost, send
        self._prefetch = 0
        self._consumers: dict[str, ChannelConsumer] = {}
        self._unacked: dict[int, Unacked] = {}
        self._last_tag = 0
        self._last_consumer = 0
        self._confirms = False
        self._last_publish = 0
        # The message that is arriving: its method, then its header, then its body in pieces.
        self._publishing: commands.Basic.Publish | None = None
        self._properties = commands.Basic.Properties()
        self._missing = 0
        self._body = b""
        #: Whether the broker has closed the channel, and waits for the client to say so as well.
        self.is_closing = False
        self._handlers: dict[type, Callable[[Any], None]] = {
            commands.Channel.Open: self._open,
            commands.Confirm.Select: self._select_confirms,
            commands.Queue.Declare: self._declare,
            commands.Queue.Purge: self._purge,
            commands.Queue.Delete: self._delete,
            commands.Basic.Qos: self._set_prefetch,
            commands.Basic.Consume: self._consume,
            commands.Basic.Cancel: self._cancel,
            commands.Basic.Get: self._get,
            commands.Basic.Ack: self._ack,
            commands.Basic.Nack: self._nack,
            commands.Basic.Reject: self._reject,
            commands.Basic.Publish: self._start_publish,
            header.ContentHeader: self._take_header,
            body.ContentBody: self._take_body,
        }

    def handle(self, frame: FrameTypes) -> None:
        """Do what a frame asks for, or close the channel if it cannot be done."""
        if self.is_closing:
            return
        try:
            self._handle(frame)
        except ChannelError as error:
            self.is_closing = True
            self.release()
            class_id, method_id = (
                (frame.frame_id, frame.index & 0xFFFF) if isinstance(frame, Frame) else (0, 0)
            )
            self._send(commands.Channel.Close(error.code, error.text, class_id, method_id))

    def release(self) -> None:
        """End the consumers, and put what is unacked back into its queue."""
        self.end_consumers()
        self._requeue(list(self._unacked))

    def end_consumers(self) -> None:
        """Deliver nothing more; what is unacked stays so."""
        for consumer in self._consumers.values():
            consumer.queue.remove_consumer(consumer)
        self._consumers.clear()

    def queue_gone(self, queue: StubQueue) -> None:
        """End the consumers of a queue that was deleted, and tell the client."""
        for tag, consumer in list(self._consumers.items()):
            if consumer.queue is queue:
                del self._consumers[tag]
                self._send(commands.Basic.Cancel(consumer_tag=tag, nowait=True))
        lost = [tag for tag, held in self._unacked.items() if held.queue is queue]
        for delivery_tag in lost:
            self._take_unacked(delivery_tag)

    # Requests

    def _handle(self, frame: FrameTypes) -> None:
        handler = self._handlers.get(type(frame))
        if handler is None:
            text = f"NOT_IMPLEMENTED - the stub broker does not know {frame.name}"
            raise ChannelError(NOT_IMPLEMENTED, text)
        handler(frame)

    def _open(self, _: commands.Channel.Open) -> None:
        self._send(commands.Channel.OpenOk())

    def _select_confirms(self, _: commands.Confirm.Select) -> None:
        self._confirms = True
        self._send(commands.Confirm.SelectOk())

    # Queues

    def _declare(self, frame: commands.Queue.Declare) -> None:
        if frame.passive:
            queue = self._vhost.get(frame.queue)
        else:
            queue = self._vhost.declare(
                frame.queue,
                durable=frame.durable,
                exclusive=frame.exclusive,
                auto_delete=frame.auto_delete,
                arguments=frame.arguments,
            )
        self._send(
            commands.Queue.DeclareOk(
                queue=queue.name,
                message_count=len(queue.ready),
                consumer_count=len(queue.consumers),
            )
        )

    def _purge(self, frame: commands.Queue.Purge) -> None:
        purged = self._vhost.get(frame.queue).purge()
        self._send(commands.Queue.PurgeOk(message_count=purged))

    def _delete(self, frame: commands.Queue.Delete) -> None:
        deleted = self._vhost.delete(frame.queue)
        self._send(commands.Queue.DeleteOk(message_count=deleted))

    # Consumers

    def _set_prefetch(self, frame: commands.Basic.Qos) -> None:
        if frame.global_:
            text = "NOT_IMPLEMENTED - the stub broker knows only the prefetch of a consumer"
            raise ChannelError(NOT_IMPLEMENTED, text)
        self._prefetch = frame.prefetch_count
        self._send(commands.Basic.QosOk())

    def _consume(self, frame: commands.Basic.Consume) -> None:
        queue = self._vhost.get(frame.queue)
        self._last_consumer += 1
        tag = frame.consumer_tag or f"amq.ctag-{self._last_consumer}"
        consumer = self._consumers[tag] = ChannelConsumer(
            self, tag, queue, self._prefetch, frame.no_ack, priority_in(frame.arguments or {})
        )
        self._send(commands.Basic.ConsumeOk(consumer_tag=tag))
        queue.add_consumer(consumer)

    def _cancel(self, frame: commands.Basic.Cancel) -> None:
        consumer = self._consumers.pop(frame.consumer_tag or "", None)
        if consumer is not None:
            consumer.queue.remove_consumer(consumer)
        self._send(commands.Basic.CancelOk(consumer_tag=frame.consumer_tag))

    # Deliveries

    def deliver(self, consumer: ChannelConsumer, message: Stored) -> None:
        """Send a message to a consumer on the channel."""
        tag = self._hold(consumer.queue, message, consumer, no_ack=consumer.no_ack)
        method = commands.Basic.Deliver(
            consumer_tag=consumer.tag,
            delivery_tag=tag,
            redelivered=message.deliveries > 1,
            exchange=message.exchange,
            routing_key=message.routing_key,
        )
        self._send_message(method, consumer.queue.properties_of(message), message.body)

    def _get(self, frame: commands.Basic.Get) -> None:
        queue = self._vhost.get(frame.queue)
        if not queue.ready:
            self._send(commands.Basic.GetEmpty())
            return
        message = queue.take()
        method = commands.Basic.GetOk(
            delivery_tag=self._hold(queue, message, None, no_ack=frame.no_ack),
            redelivered=message.deliveries > 1,
            exchange=message.exchange,
            routing_key=message.routing_key,
            message_count=len(queue.ready),
        )
        self._send_message(method, queue.properties_of(message), message.body)

    def _hold(
        self, queue: StubQueue, message: Stored, consumer: ChannelConsumer | None, *, no_ack: bool
    ) -> int:
        """Return the delivery tag of a message, which is unacked from now on."""
        self._last_tag += 1
        if no_ack:
            queue.ack(message)
            return self._last_tag
        self._unacked[self._last_tag] = Unacked(queue, message, consumer)
        if consumer is not None:
            consumer.unacked.add(self._last_tag)
        return self._last_tag

    def _send_message(
        self, method: Frame, properties: commands.Basic.Properties, content: bytes
    ) -> None:
        self._send(method)
        self._send(header.ContentHeader(body_size=len(content), properties=properties))
        for start in range(0, len(content), _FRAME_ROOM):
            self._send(body.ContentBody(content[start : start + _FRAME_ROOM]))

    # Settling

    def _ack(self, frame: commands.Basic.Ack) -> None:
        for tag in self._tags(frame.delivery_tag, multiple=frame.multiple):
            held = self._take_unacked(tag)
            held.queue.ack(held.message)
            held.queue.deliver()

    def _nack(self, frame: commands.Basic.Nack) -> None:
        tags = self._tags(frame.delivery_tag, multiple=frame.multiple)
        if frame.requeue:
            self._requeue(tags)
        else:
            self._drop(tags)

    def _reject(self, frame: commands.Basic.Reject) -> None:
        tags = self._tags(frame.delivery_tag, multiple=False)
        if frame.requeue:
            self._requeue(tags)
        else:
            self._drop(tags)

    def _tags(self, tag: int | None, *, multiple: bool) -> list[int]:
        """Return the delivery tags that a request means."""
        if multiple:
            return [held for held in self._unacked if not tag or held <= tag]
        if tag is None or tag not in self._unacked:
            text = f"PRECONDITION_FAILED - unknown delivery tag {tag}"
            raise ChannelError(PRECONDITION_FAILED, text)
        return [tag]

    def _take_unacked(self, tag: int) -> Unacked:
        held = self._unacked.pop(tag)
        if held.consumer is not None:
            held.consumer.unacked.discard(tag)
        return held

    def _requeue(self, tags: list[int]) -> None:
        returned = [self._take_unacked(tag) for tag in tags]
        for held in returned:
            held.queue.requeue(held.message)
        for queue in {held.queue for held in returned}:
            queue.deliver()

    def _drop(self, tags: list[int]) -> None:
        for tag in tags:
            held = self._take_unacked(tag)
            held.queue.reject(held.message)
            held.queue.deliver()

    # Publishing

    def _start_publish(self, frame: commands.Basic.Publish) -> None:
        self._publishing = frame

    def _take_header(self, frame: header.ContentHeader) -> None:
        self._properties = frame.properties
        self._missing, self._body = frame.body_size, b""
        self._finish_publish()

    def _take_body(self, frame: body.ContentBody) -> None:
        self._body += frame.value
        self._missing -= len(frame.value)
        self._finish_publish()

    def _finish_publish(self) -> None:
        """Publish the message, unless a part of it is still missing."""
        method = self._publishing
        if self._missing or method is None:
            return
        self._publishing = None
        key = method.routing_key or ""
        routed = self._vhost.publish(method.exchange, key, self._properties, self._body)
        if not routed and method.mandatory:
            returned = commands.Basic.Return(_NO_ROUTE, "NO_ROUTE", method.exchange, key)
            self._send_message(returned, self._properties, self._body)
        if self._confirms:
            self._last_publish += 1
            self._send(commands.Basic.Ack(delivery_tag=self._last_publish))
