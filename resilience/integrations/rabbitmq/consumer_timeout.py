"""The broker's `consumer_timeout`: a channel with a message unacked for longer is closed."""

from collections.abc import Callable, Mapping

from resilience.integrations.rabbitmq.amqp import ConsumerError

_DEFAULT = 1800.0  # seconds
_ARGUMENT = "x-consumer-timeout"  # milliseconds


def check_consumer_timeout(
    max_unacked: float,
    queue: str,
    arguments: Mapping[str, object] | None,
    warn: Callable[[str], object],
) -> None:
    """Refuse a `max_unacked` that the queue does not allow, and warn of one above the default.

    AMQP does not show the `consumer_timeout` of a broker, nor that of a policy.

    Args:
        max_unacked: Seconds for which a message may be unacked.
        queue: The queue's name.
        arguments: What the queue was declared with; None if that is unknown.
        warn: Logs what the consumer has.

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
    warn_of_consumer_timeout(max_unacked, warn)


def warn_of_consumer_timeout(max_unacked: float, warn: Callable[[str], object]) -> None:
    """Warn of a `max_unacked` that is not below the default `consumer_timeout`.

    Args:
        max_unacked: Seconds for which a message may be unacked.
        warn: Logs what the one that it was given to has.
    """
    if max_unacked >= _DEFAULT:
        warn(
            f"has a max_unacked of {max_unacked:g} s: the broker closes the channel first, "
            f"after {_DEFAULT:g} s, unless its consumer_timeout was raised"
        )
