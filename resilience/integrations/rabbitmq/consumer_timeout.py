"""The broker's `consumer_timeout`: a channel with a message unacked for longer is closed."""

from collections.abc import Mapping

from resilience import log
from resilience._text import one_line
from resilience.integrations.rabbitmq.amqp import ConsumerError

_DEFAULT = 1800.0  # seconds
_ARGUMENT = "x-consumer-timeout"  # milliseconds


def check_consumer_timeout(
    max_unacked: float, queue: str, arguments: Mapping[str, object] | None
) -> None:
    """Refuse a `max_unacked` that the queue does not allow, and warn of one above the default.

    AMQP does not show the `consumer_timeout` of a broker, nor that of a policy.

    Args:
        max_unacked: Seconds for which a message may be unacked.
        queue: The queue's name.
        arguments: What the queue was declared with; None if that is unknown.

    Raises:
        ConsumerError: The queue has a shorter timeout of its own.
    """
    own = (arguments or {}).get(_ARGUMENT)
    if isinstance(own, int):
        if max_unacked * 1000 >= own:
            raise ConsumerError(
                f"max_unacked of {max_unacked:g} s is not below the {_ARGUMENT} of queue "
                f"{queue!r}, {own / 1000:g} s"
            )
        return
    warn_of_consumer_timeout(max_unacked, f"consumer of queue {one_line(queue)}")


def warn_of_consumer_timeout(max_unacked: float, whose: str) -> None:
    """Warn of a `max_unacked` that is not below the default `consumer_timeout`.

    Args:
        max_unacked: Seconds for which a message may be unacked.
        whose: What it was given to, for the log.
    """
    if max_unacked >= _DEFAULT:
        log.log(
            "WARNING",
            "",
            f"{whose} has a max_unacked of {max_unacked:g} s: the broker closes the channel first, "
            f"after {_DEFAULT:g} s, unless its consumer_timeout was raised",
        )
