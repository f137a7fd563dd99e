"""How a queue is consumed: consumer tag, arguments, and how long the queue may be unavailable."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import TypeAlias, cast

from aio_pika.abc import FieldValue
from pamqp.encode import field_table

from resilience import _validate

# `FieldValue` would be more precise, but `typing.get_type_hints` cannot resolve it elsewhere.
ConsumeArguments: TypeAlias = Mapping[str, object]

_PRIORITY = "x-priority"
_MAX_TAG_LENGTH = 235  # bytes; AMQP has 255, and a number is added

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class SubscriptionSettings:
    """The settings of the subscriptions of a consumer.

    Args:
        unavailable_timeout: Seconds for which a queue may be unavailable; None is without end.
        consumer_tag: The start of the consumer tags; None leaves them to aio-pika.
        arguments: The arguments of `basic.consume`, the priority included.
    """

    unavailable_timeout: float | None
    consumer_tag: str | None
    arguments: ConsumeArguments

    def next_tag(self) -> str | None:
        """Return the tag of the next AMQP consumer, which no other one of this process has."""
        return None if self.consumer_tag is None else f"{self.consumer_tag}.{next(_numbers)}"


def checked_subscription_settings(
    *,
    unavailable_timeout: float | None,
    consumer_tag: str | None,
    priority: int | None,
    arguments: ConsumeArguments | None,
) -> SubscriptionSettings:
    """Return the settings, or raise if one of them is wrong."""
    if unavailable_timeout is not None:
        _validate.check_seconds("unavailable_timeout", unavailable_timeout)
    if consumer_tag is not None:
        consumer_tag = _validate.check_text("consumer_tag", consumer_tag)
        if len(consumer_tag.encode()) > _MAX_TAG_LENGTH:
            raise ValueError(f"consumer_tag must be at most {_MAX_TAG_LENGTH} bytes long")
    sent = _checked_arguments(arguments)
    if priority is not None:
        if _PRIORITY in sent:
            raise TypeError(f"priority is {_PRIORITY} in arguments: give only one of them")
        sent[_PRIORITY] = priority
    _check_priority("priority" if priority is not None else _PRIORITY, sent)
    return SubscriptionSettings(unavailable_timeout, consumer_tag, sent)


def _checked_arguments(arguments: ConsumeArguments | None) -> dict[str, object]:
    if arguments is None:
        return {}
    _validate.check_type("arguments", arguments, Mapping)
    for name in arguments:
        _validate.check_text("the name of an argument in arguments", name)
    sent = dict(arguments)
    try:
        field_table(cast("dict[str, FieldValue]", sent))
    except Exception as error:
        raise TypeError(
            f"arguments must hold what AMQP can encode: {type(error).__name__}"
        ) from error
    return sent


def _check_priority(name: str, arguments: ConsumeArguments) -> None:
    priority = arguments.get(_PRIORITY, 0)
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise TypeError(f"{name} must be an int, got a {type(priority).__name__}")
    if not -(2**63) <= priority < 2**63:
        raise ValueError(f"{name} must fit into 64 bits")
