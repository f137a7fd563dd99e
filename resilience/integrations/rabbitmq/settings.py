"""The numbers that a consumer is given: checked once, and handed to its workers together."""

import warnings
from dataclasses import dataclass
from typing import TypeVar

from resilience import _validate
from resilience.integrations.rabbitmq.subscription_settings import SubscriptionSettings

T = TypeVar("T")

_HELD_PER_PREFETCH, _LEAST_FAILED_HELD = 10, 100
_MAX_PREFETCH = 65_535  # in AMQP


@dataclass(frozen=True, slots=True)
class ConsumerSettings:
    """The settings that both kinds of consumers have.

    Args:
        prefetch: The most messages that are let in, and the most calls that run.
        max_failed_held: The most failed messages that are held before probes let in fewer new ones.
        max_unacked: Seconds after which an unacked message goes back to its queue.
        stop_timeout: Seconds that stopping may take in all.
        max_attempts: The failed attempts after which a message goes to `on_error`; None is no end.
        max_age: Seconds from the first failed attempt until a message goes to `on_error`; None is
            no end.
        subscription: How the queues are consumed.
    """

    prefetch: int
    max_failed_held: int
    max_unacked: float
    stop_timeout: float
    max_attempts: int | None
    max_age: float | None
    subscription: SubscriptionSettings


def checked_settings(
    *,
    prefetch: int,
    max_failed_held: int | None,
    max_unacked: float,
    stop_timeout: float,
    max_attempts: int | None,
    max_age: float | None,
    subscription: SubscriptionSettings,
) -> ConsumerSettings:
    """Return the settings, or raise if one of them is wrong."""
    _validate.check_count("prefetch", prefetch)
    if prefetch > _MAX_PREFETCH:
        raise ValueError(
            f"prefetch must be at most {_MAX_PREFETCH}, got {_validate.shown(prefetch)}"
        )
    if max_failed_held is None:
        max_failed_held = max(_HELD_PER_PREFETCH * prefetch, _LEAST_FAILED_HELD)
    _validate.check_count("max_failed_held", max_failed_held)
    _validate.check_seconds("max_unacked", max_unacked)
    _validate.check_seconds("stop_timeout", stop_timeout)
    if max_attempts is not None:
        _validate.check_count("max_attempts", max_attempts)
    if max_age is not None:
        _validate.check_seconds("max_age", max_age)
    return ConsumerSettings(
        prefetch, max_failed_held, max_unacked, stop_timeout, max_attempts, max_age, subscription
    )


def renamed(old_name: str, old: T | None, name: str, value: T, default: T) -> T:
    """Return the value of a parameter that has an old name as well.

    Call this from the public function itself: the warning then points to the caller's line.

    Args:
        old_name: The old name.
        old: What was given under the old name; None if nothing was.
        name: The name.
        value: What was given under the name.
        default: The parameter's default.
    """
    if old is None:
        return value
    if value != default:
        raise TypeError(f"{old_name} is the old name of {name}: give only {name}")
    warnings.warn(
        f"{old_name} is deprecated, use its new name {name}", DeprecationWarning, stacklevel=3
    )
    return old
