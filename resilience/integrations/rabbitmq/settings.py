"""The numbers that a consumer is given: checked once, and handed to its workers together."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from aio_pika.abc import AbstractIncomingMessage

from resilience import _validate
from resilience.integrations.rabbitmq.subscription_settings import SubscriptionSettings
from resilience.limits import RateLimit

T = TypeVar("T")
TenantOf: TypeAlias = Callable[[AbstractIncomingMessage], str | None]

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
        tenant_of: Returns the tenant of a message; None: there are no tenants.
        max_unacked_per_tenant: The most messages of a throttled tenant that are held.
        rate_limit: What the region allows each tenant; None: it is learned.
    """

    prefetch: int
    max_failed_held: int
    max_unacked: float
    stop_timeout: float
    max_attempts: int | None
    max_age: float | None
    subscription: SubscriptionSettings
    tenant_of: TenantOf | None = None
    max_unacked_per_tenant: int = 2000
    rate_limit: RateLimit | None = None


def checked_settings(
    *,
    prefetch: int,
    max_failed_held: int | None,
    max_unacked: float,
    stop_timeout: float,
    max_attempts: int | None,
    max_age: float | None,
    subscription: SubscriptionSettings,
    tenant_of: TenantOf | None,
    max_unacked_per_tenant: int,
    rate_limit: RateLimit | None,
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
    _validate.check_callable(
        "tenant_of", tenant_of, "a message and returns its tenant", optional=True
    )
    _validate.check_count("max_unacked_per_tenant", max_unacked_per_tenant)
    if rate_limit is not None:
        _validate.check_type("rate_limit", rate_limit, RateLimit)
    return ConsumerSettings(
        prefetch=prefetch,
        max_failed_held=max_failed_held,
        max_unacked=max_unacked,
        stop_timeout=stop_timeout,
        max_attempts=max_attempts,
        max_age=max_age,
        subscription=subscription,
        tenant_of=tenant_of,
        max_unacked_per_tenant=max_unacked_per_tenant,
        rate_limit=rate_limit,
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
